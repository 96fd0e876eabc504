"""What Prometheus scrapes of a worker: a door to `prometheus_client`, on a registry of its own.

Names are `affect_<thing>_<unit>`, labels come from short fixed lists. What the status holds is exported straight from
the newest `OpsStatus`, so one scrape never shows half a commit and the conservation sum holds on it.

    affect_records_in_total                    counter    records read, of the whole topic; absent before the first
    affect_records_total{outcome}              counter    applied, duplicate, late, rejected; the same
    affect_in_flight_records                   gauge      read, fate not yet committed
    affect_in_flight_bytes                     gauge      read, not yet folded; bounded by run.in_flight_mib
    affect_partitions_paused                   gauge      waiting for room below that bound
    affect_consumer_lag_records                gauge      appended, not yet read
    affect_watermark_delay_seconds             gauge      absent before the first record
    affect_signal_rows_total                   counter    rows written
    affect_partitions_owned                    gauge
    affect_ready                               gauge      1 = /readyz says 200
    affect_uptime_seconds                      gauge
    affect_engine_info{engine,model,domain,reason}        always 1
    affect_commit_seconds                      histogram  one commit unit
    affect_inference_seconds                   histogram  one model batch
    affect_inference_rows_total                counter    texts scored
    affect_fast_posts_total                    counter    posts a cascade answered without its better model
    affect_abstained_texts_total{reason}       counter    texts the engine gave no score: off_schema, refused, budget
    affect_dead_letters_total{reason}          counter
    affect_feed_readers                        gauge      pages and feeds connected
    affect_feed_dropped_total{reason}          counter    readers cut off: queue_full, stalled
    process_*                                             memory, CPU, open files
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from engines.endpoint_prompt import Abstained
from stream.ops_status import OpsStatus, together

COMMIT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
INFERENCE_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
MAX_REASONS = 32
"""Distinct dead-letter reasons before the rest is counted as `other`: a bad producer must not make labels."""


class _StatusCollector(Collector):
    """The newest `OpsStatus` as metrics, read once per scrape."""

    def __init__(self) -> None:
        self.statuses: dict[str, OpsStatus] = {}

    def collect(self) -> Iterator[Metric]:
        parts = list(self.statuses.values()) or [OpsStatus()]
        s = together(parts)
        # They count the topic, not the process. A new process tells 0 until it has asked the log: told on, that would
        # be a counter that fell to 0 and then rose by all there ever was, and rate() would take it for a flood.
        known = s.consumed > 0
        records = CounterMetricFamily("affect_records_in", "Records read.", labels=[])
        outcomes = CounterMetricFamily("affect_records", "Records by what became of them.", labels=["outcome"])
        if known:
            records.add_metric([], s.consumed)
            for outcome in ("applied", "duplicate", "late", "rejected"):
                outcomes.add_metric([outcome], getattr(s, outcome))
        yield records
        yield outcomes
        yield CounterMetricFamily("affect_signal_rows", "Signal rows written.", value=s.rows)
        yield GaugeMetricFamily("affect_in_flight_records", "Records read, fate not yet committed.", value=s.in_flight)
        yield GaugeMetricFamily("affect_consumer_lag_records", "Records appended, not yet read.", value=s.lag)
        if s.watermark_delay_s is not None:
            yield GaugeMetricFamily(
                "affect_watermark_delay_seconds", "Watermark behind the clock.", value=s.watermark_delay_s
            )
        yield GaugeMetricFamily("affect_partitions_owned", "Partitions this process owns.", value=s.partitions)
        yield GaugeMetricFamily("affect_ready", "1 when /readyz answers 200.", value=float(s.ready))
        yield GaugeMetricFamily("affect_uptime_seconds", "Seconds since the engine started.", value=s.uptime_s)
        info = GaugeMetricFamily(
            "affect_engine_info", "What scores, and why.", labels=["engine", "model", "domain", "reason"]
        )
        for part in parts:
            info.add_metric([part.engine, part.model, part.domain, part.engine_reason], 1.0)
        yield info


class Metrics:
    """The runner's counters and timers; `exposition` is what `/metrics` answers.

    >>> metrics = Metrics(process=False)
    >>> metrics.status(OpsStatus(consumed=3, applied=2, late=1))
    >>> b'affect_records_total{outcome="late"} 1.0' in metrics.exposition()
    True
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, process: bool = True) -> None:
        self._registry = CollectorRegistry()
        self._status = _StatusCollector()
        self._registry.register(self._status)
        if process:
            ProcessCollector(registry=self._registry)
        self._commits = Histogram(
            "affect_commit_seconds", "One commit unit.", buckets=COMMIT_BUCKETS, registry=self._registry
        )
        self._inference = Histogram(
            "affect_inference_seconds", "One model batch.", buckets=INFERENCE_BUCKETS, registry=self._registry
        )
        self._scored = Counter("affect_inference_rows", "Texts scored.", registry=self._registry)
        self._fast = Counter("affect_fast_posts", "Posts a cascade answered fast.", registry=self._registry)
        self._abstained = Counter(
            "affect_abstained_texts", "Texts the engine gave no score.", ["reason"], registry=self._registry
        )
        for why in get_args(Abstained):  # from 0 on, or the first would be no rise to rate()
            self._abstained.labels(why)
        self._dead = Counter("affect_dead_letters", "Unusable messages.", ["reason"], registry=self._registry)
        self._held = Gauge("affect_in_flight_bytes", "Bytes read, not yet folded.", registry=self._registry)
        self._paused = Gauge("affect_partitions_paused", "Partitions waiting for room.", registry=self._registry)
        self._readers = Gauge("affect_feed_readers", "Pages and feeds connected.", registry=self._registry)
        self._dropped = Counter("affect_feed_dropped", "Readers cut off.", ["reason"], registry=self._registry)
        for reason in ("queue_full", "stalled"):
            self._dropped.labels(reason)
        self._reasons: set[str] = set()
        self._rooms: dict[str, tuple[int, int]] = {}
        self._fast_so_far: dict[str, int] = {}
        self._abstained_so_far: dict[tuple[str, str], int] = {}

    def status(self, status: OpsStatus) -> None:
        """Export `status` from the next scrape on. Call at every commit. Of several domains the sums are exported."""
        self._status.statuses[status.domain] = status

    def commit(self, seconds: float) -> None:
        """One commit unit took `seconds`."""
        self._commits.observe(seconds)

    def inference(self, seconds: float, rows: int) -> None:
        """One model batch of `rows` texts took `seconds` in the backend."""
        self._inference.observe(seconds)
        self._scored.inc(rows)

    def dead_letter(self, reason: str, count: int = 1) -> None:
        """`count` messages went to the dead-letter topic for `reason` (the fixed word of `Rejected.reason`)."""
        if reason not in self._reasons:
            if len(self._reasons) >= MAX_REASONS:
                reason = "other"
            self._reasons.add(reason)
        self._dead.labels(reason).inc(count)

    def fast(self, posts: int, domain: str = "") -> None:
        """A cascade has answered so many posts of `domain` without its better model since the run began."""
        self._fast.inc(posts - self._fast_so_far.get(domain, 0))
        self._fast_so_far[domain] = posts

    def abstained(self, texts: Mapping[str, int], domain: str = "") -> None:
        """The engine has given no score, by reason, to so many texts of `domain` since the run began."""
        for reason, count in texts.items():
            self._abstained.labels(reason).inc(count - self._abstained_so_far.get((domain, reason), 0))
            self._abstained_so_far[domain, reason] = count

    def in_flight(self, held: int, paused: int, domain: str = "") -> None:
        """The run of `domain` holds `held` bytes read and not yet folded; `paused` of its partitions wait for room."""
        self._rooms[domain] = (held, paused)
        self._held.set(sum(bytes_held for bytes_held, _ in self._rooms.values()))
        self._paused.set(sum(waiting for _, waiting in self._rooms.values()))

    def readers(self, count: int) -> None:
        """`count` pages and feeds are connected now."""
        self._readers.set(count)

    def dropped(self, reason: str) -> None:
        """A reader was cut off: its queue was full (`queue_full`), or it took nothing for too long (`stalled`)."""
        self._dropped.labels(reason).inc()

    def exposition(self) -> bytes:
        """Everything in Prometheus text format, UTF-8."""
        return generate_latest(self._registry)
