"""What Prometheus scrapes of an engine server: its newest status as metrics, on a port of its own.

affect_server_info{model,backend,shadow}             always 1
affect_server_requests_total{outcome}      counter   answered, or the name of the refusal (`engines.wire.REFUSALS`)
affect_server_rows_total                   counter   texts scored for clients
affect_server_batches_total                counter   runs of the model
affect_server_swaps_total                  counter   models taken in place of another
affect_server_messages_total{kind}         counter   garbage (not of the protocol), dropped (a client took none)
affect_server_doors_total{outcome}         counter   connections: accepted, strangers, turned_away
affect_server_clients                      gauge
affect_server_connections                  gauge
affect_server_accepting                    gauge     1 = new connections are let in
affect_server_waiting_requests             gauge
affect_server_running_requests             gauge
affect_server_uptime_seconds               gauge
affect_server_shadow_rows_total{task}      counter   compared with the shadow model
affect_server_shadow_other_total{task}     counter   of them, decided otherwise
process_*                                            memory, CPU, open files
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engines.orders import Status
from engines.wire import REFUSALS
from stream.errors import UsageError


class StatusCollector(Collector):
    """The newest `Status`, read once per scrape."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        s = self._status()
        info = GaugeMetricFamily("affect_server_info", "What scores.", labels=["model", "backend", "shadow"])
        info.add_metric([s.model, s.backend, s.shadow_model], 1.0)
        yield info
        # From 0 on, or the first of a kind would be no rise to rate().
        asked = {"answered": "answered", **{f"refused_{name}": name for name in REFUSALS}}
        yield _counter("affect_server_requests", "Requests by what became of them.", "outcome", s, asked)
        kinds = {name: name for name in ("garbage", "dropped")}
        yield _counter("affect_server_messages", "Messages that were of no use.", "kind", s, kinds)
        doors = {name: name for name in ("accepted", "strangers", "turned_away")}
        yield _counter("affect_server_doors", "Connections by what became of them.", "outcome", s, doors)
        for name, told in (
            ("rows", "Texts scored."),
            ("batches", "Runs of the model."),
            ("swaps", "Models swapped in."),
        ):
            yield CounterMetricFamily(f"affect_server_{name}", told, value=s.counts.get(name, 0))
        for name, told, value in (
            ("clients", "Clients served.", s.clients),
            ("connections", "Connections open.", s.connections),
            ("accepting", "1 while new connections are let in.", float(s.accepting)),
            ("waiting_requests", "Requests that wait.", s.waiting),
            ("running_requests", "Requests being scored.", s.running),
            ("uptime_seconds", "Seconds since the server started.", s.uptime_s),
        ):
            yield GaugeMetricFamily(f"affect_server_{name}", told, value=value)
        rows = CounterMetricFamily("affect_server_shadow_rows", "Rows the shadow scored too.", labels=["task"])
        other = CounterMetricFamily("affect_server_shadow_other", "Of them, decided otherwise.", labels=["task"])
        for task, found in s.shadow.items():
            rows.add_metric([task], found.rows)
            other.add_metric([task], found.labels)
        yield rows
        yield other


def _counter(name: str, told: str, label: str, status: Status, names: dict[str, str]) -> CounterMetricFamily:
    found = CounterMetricFamily(name, told, labels=[label])
    for key, word in names.items():
        found.add_metric([word], status.counts.get(key, 0))
    return found


class EngineMetrics:
    """`/metrics` of an engine server at `address` (HOST:PORT; port 0 takes a free one), until `close`.

    Args:
        status: the server's newest status; called from another thread, once a scrape.

    Raises:
        UsageError: the address is none, or is taken.
    """

    def __init__(self, address: str, status: Callable[[], Status]) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65_535:
            raise UsageError(f"--metrics {address!r}: expected HOST:PORT, such as 127.0.0.1:8652")
        registry = CollectorRegistry()
        registry.register(StatusCollector(status))
        ProcessCollector(registry=registry)
        self._server: WSGIServer
        self._thread: threading.Thread
        try:
            self._server, self._thread = start_http_server(int(port), host.strip("[]"), registry)
        except OSError as error:
            raise UsageError(f"--metrics {address}: {error.strerror or error}; give another port") from error
        self.url = f"http://{host}:{self._server.server_port}/metrics"

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
