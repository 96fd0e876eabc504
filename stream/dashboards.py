"""The dashboards: operations and engine server (Prometheus), and signals (the tables of `affect sink postgres`).

Every process tells how far the whole topic is (`affect_records_*`, lag, watermark): over workers those are taken as the
largest, never added. Rows, commits, inference, dead letters and readers are each process's own, and add up.
"""

from __future__ import annotations

from stream.panels import Dashboard, Json, Panel, Promql, Sql, Variable

MINE = 'domain=~"$domain"'
RATE = "[$__rate_interval]"


def _quantiles(metric: str) -> tuple[Promql, ...]:
    """Median and 99th percentile of a histogram."""
    return tuple(
        Promql(f"histogram_quantile({q}, sum by (domain, le) (rate({metric}_bucket{{{MINE}}}{RATE})))",
               f"{{{{domain}}}} p{round(q * 100)}")
        for q in (0.5, 0.99)
    )  # fmt: skip


def _state() -> tuple[Panel, ...]:
    """The first line: six numbers that say whether all is well."""
    low: tuple[tuple[float | None, str], ...] = ((None, "red"), (1, "green"))
    zero: tuple[tuple[float | None, str], ...] = ((None, "green"), (1, "red"))
    return (
        Panel("Workers ready", "Processes whose /readyz says 200. 0: no signals are made.",
              (Promql(f"sum by (domain) (affect_ready{{{MINE}}})", "{{domain}}"),), "stat", width=4, height=4,
              steps=low),
        Panel("Posts in", "Posts appended to the input topic, a second.",
              (Promql(f"affect:records_in:rate5m{{{MINE}}}", "{{domain}}"),), "stat", "reqps", 4, 4),
        Panel("Lag", "Records appended and not yet read.", (Promql(f"affect:lag:records{{{MINE}}}", "{{domain}}"),),
              "stat", width=4, height=4, steps=((None, "green"), (1000, "orange"), (100_000, "red"))),
        Panel("Watermark delay", "How far event time is behind the clock; grows while nothing is posted.",
              (Promql(f"affect:watermark_delay:seconds{{{MINE}}}", "{{domain}}"),), "stat", "s", 4, 4,
              steps=((None, "green"), (300, "orange"), (3600, "red"))),
        Panel("Unaccounted for", "Records read less what became of them. Anything but 0 is a bug.",
              (Promql(f"affect:conservation:difference{{{MINE}}}", "{{domain}}"),), "stat", width=4, height=4,
              steps=zero),
        Panel("Unusable", "Share of the posts that was dead-lettered, last 5 minutes.",
              (Promql(f"affect:unusable:share5m{{{MINE}}}", "{{domain}}"),), "stat", "percentunit", 4, 4,
              steps=((None, "green"), (0.01, "red"))),
    )  # fmt: skip


def _flow() -> tuple[Panel, ...]:
    """Posts: how many, how far, and what became of them."""
    return (
        Panel("What becomes of posts", "Applied, duplicate, late, rejected, a second.",
              (Promql(f"max by (domain, outcome) (rate(affect_records_total{{{MINE}}}{RATE}))",
                      "{{domain}} {{outcome}}"),), unit="reqps"),
        Panel("Lag and in flight", "Appended and not yet read; read, fate not yet committed.",
              (Promql(f"affect:lag:records{{{MINE}}}", "{{domain}} lag"),
               Promql(f"max by (domain) (affect_in_flight_records{{{MINE}}})", "{{domain}} in flight"))),
        Panel("Watermark delay", "Behind the clock. A slope of one second a second: nothing is posted, or it stands.",
              (Promql(f"affect:watermark_delay:seconds{{{MINE}}}", "{{domain}}"),), unit="s"),
        Panel("Conservation", "in = applied + duplicate + late + rejected + in flight: one line hides the other.",
              (Promql(f"max by (domain) (affect_records_in_total{{{MINE}}})", "{{domain}} in"),
               Promql(f"max by (domain) (sum without (outcome) (affect_records_total{{{MINE}}})"
                      f" + affect_in_flight_records{{{MINE}}})", "{{domain}} accounted for"))),
        Panel("Dead letters by reason", "Unusable messages a second; `affect letters` shows them.",
              (Promql(f"sum by (reason) (rate(affect_dead_letters_total{{{MINE}}}{RATE}))", "{{reason}}"),),
              unit="reqps"),
        Panel("Signal rows", "Rows written a second.",
              (Promql(f"sum by (domain) (rate(affect_signal_rows_total{{{MINE}}}{RATE}))", "{{domain}}"),),
              unit="reqps"),
    )  # fmt: skip


def _work() -> tuple[Panel, ...]:
    """The machine: model, commits, memory, readers, sinks."""
    per = "{{instance}}"
    return (
        Panel("Model: seconds a batch", "Time in the engine, median and 99th percentile.",
              _quantiles("affect_inference_seconds"), unit="s"),
        Panel("Model: texts a second",
              "Texts scored, known copies are not; fast: posts a cascade answered without it; no score: abstained.",
              (Promql(f"sum by (domain) (rate(affect_inference_rows_total{{{MINE}}}{RATE}))", "{{domain}}"),
               Promql(f"sum by (domain) (rate(affect_fast_posts_total{{{MINE}}}{RATE}))", "{{domain}}, fast"),
               Promql(f"sum by (reason) (rate(affect_abstained_texts_total{{{MINE}}}{RATE}))", "no score: {{reason}}")),
              unit="reqps"),
        Panel("Seconds a commit", "Time in the log, median and 99th percentile.",
              _quantiles("affect_commit_seconds"), unit="s"),
        Panel("Partitions", "Owned by each worker, and waiting for room below run.in_flight_mib.",
              (Promql(f"affect_partitions_owned{{{MINE}}}", f"{per} owned"),
               Promql(f"affect_partitions_paused{{{MINE}}}", f"{per} paused"))),
        Panel("Bytes in flight", "Read, not yet folded.", (Promql(f"affect_in_flight_bytes{{{MINE}}}", per),),
              unit="bytes"),
        Panel("Memory", "Resident.", (Promql(f"process_resident_memory_bytes{{{MINE}}}", per),), unit="bytes"),
        Panel("CPU", "Cores in use.", (Promql(f"rate(process_cpu_seconds_total{{{MINE}}}{RATE})", per),)),
        Panel("Sinks: readers of the feed", "Pages and feeds connected, and those cut off because they took nothing.",
              (Promql(f"sum by (domain) (affect_feed_readers{{{MINE}}})", "{{domain}} connected"),
               Promql(f"sum by (reason) (increase(affect_feed_dropped_total{{{MINE}}}{RATE}))", "cut: {{reason}}"))),
        Panel("Sinks: age of the newest row in PostgreSQL", "Grows where the sink, the engine or the posts stand.",
              (Sql("SELECT EXTRACT(EPOCH FROM now()) - max(recorded_ms) / 1000.0 AS age FROM signals"),), "stat", "s",
              steps=((None, "green"), (300, "orange"), (3600, "red"))),
        Panel("Engine", "What scores, and why nothing better.", (Promql(f"affect_engine_info{{{MINE}}}"),), "table",
              width=16, height=6),
        Panel("Up for", "Since the process started.", (Promql(f"affect_uptime_seconds{{{MINE}}}", per),), "stat", "s",
              height=6),
    )  # fmt: skip


def operations() -> Dashboard:
    """Is the engine well?"""
    return Dashboard(
        "operations",
        "affectstream: operations",
        "Rate, lag, watermark, conservation, dead letters, model, commits, sinks. Alerts: deploy/README.md.",
        (*_state(), *_flow(), *_work()),
        (Variable("domain", "Domain", Promql("label_values(affect_ready, domain)"), every=True),),
    )


HERE = 'instance=~"$server"'


def engine_server() -> Dashboard:
    """Does the engine server keep up?"""
    per = "{{instance}}"

    def rate(name: str) -> str:
        return f"rate(affect_server_{name}_total{{{HERE}}}{RATE})"

    return Dashboard(
        "engine-server",
        "affectstream: engine server",
        "What `affect engine serve --metrics` tells. Refused requests are asked again: posts wait, none is lost.",
        (
            Panel("Requests", "Answered a second, last 5 minutes.",
                  (Promql(f"affect:server_requests:rate5m{{{HERE}}}", per),), "stat", "reqps", 6, 4),
            Panel("Refused", "Share of the requests, last 5 minutes. Above 5 %: AffectServerRefuses.",
                  (Promql(f"affect:server_refused:share5m{{{HERE}}}", per),), "stat", "percentunit", 6, 4,
                  steps=((None, "green"), (0.01, "orange"), (0.05, "red"))),
            Panel("Lets in", "1: new connections are let in. 0: the house is full, new workers wait.",
                  (Promql(f"affect_server_accepting{{{HERE}}}", per),), "stat", width=6, height=4,
                  steps=((None, "red"), (1, "green"))),
            Panel("Up for", "Since the process started.", (Promql(f"affect_server_uptime_seconds{{{HERE}}}", per),),
                  "stat", "s", 6, 4),
            Panel("What becomes of requests", "Answered, or the name of the refusal, a second.",
                  (Promql(f"sum by (outcome) ({rate('requests')})", "{{outcome}}"),), unit="reqps"),
            Panel("Texts a second", "Texts scored for clients.", (Promql(rate("rows"), per),), unit="reqps"),
            Panel("Texts a run of the model", "More at a time is cheaper a text; 1 client alone fills no batch.",
                  (Promql(f"{rate('rows')} / {rate('batches')}", per),)),
            Panel("Waiting and running", "Requests in the queue, and in the model.",
                  (Promql(f"affect_server_waiting_requests{{{HERE}}}", f"{per} waiting"),
                   Promql(f"affect_server_running_requests{{{HERE}}}", f"{per} running"))),
            Panel("Clients and connections", "A connection that never says a word of the protocol is no client.",
                  (Promql(f"affect_server_clients{{{HERE}}}", f"{per} clients"),
                   Promql(f"affect_server_connections{{{HERE}}}", f"{per} connections"))),
            Panel("Strangers and noise", "Turned away at the door, without a known key; messages of no use.",
                  (Promql(f"sum by (outcome) ({rate('doors')})", "{{outcome}}"),
                   Promql(f"sum by (kind) ({rate('messages')})", "{{kind}}")), unit="reqps"),
            Panel("Memory", "Resident.", (Promql(f"process_resident_memory_bytes{{{HERE}}}", per),), unit="bytes"),
            Panel("CPU", "Cores in use.", (Promql(f"rate(process_cpu_seconds_total{{{HERE}}}{RATE})", per),)),
            Panel("Shadow: decided otherwise", "Share of the texts on which the model in the shadow decides otherwise.",
                  (Promql(f"sum by (task) ({rate('shadow_other')}) / sum by (task) ({rate('shadow_rows')})",
                          "{{task}}"),), unit="percentunit"),
            Panel("Model", "What scores, and what is beside it in the shadow.",
                  (Promql(f"affect_server_info{{{HERE}}}"),), "table", width=16, height=6),
            Panel("Models taken over", "Swaps since the start.", (Promql(f"affect_server_swaps_total{{{HERE}}}", per),),
                  "stat", height=6),
        ),
        (Variable("server", "Server", Promql("label_values(affect_server_accepting, instance)"), every=True),),
    )  # fmt: skip


CHOSEN = "domain = ${domain:sqlstring} AND entity = ${entity:sqlstring} AND window_end - window_start = $window"
IN_TIME = "$__timeFilter(time)"


def _line(column: str) -> Sql:
    """A column of the chosen signal over time, provisional rows too: they are the newest there is."""
    return Sql(
        f'SELECT time, {column} AS "{column}" FROM signal_points'
        f" WHERE {CHOSEN} AND signal = ${{signal:sqlstring}} AND {IN_TIME} ORDER BY time"
    )


def signals() -> Dashboard:
    """What do people feel?"""
    band: Json = {
        "matcher": {"id": "byName", "options": "hi"},
        "properties": [{"id": "custom.fillBelowTo", "value": "lo"}, {"id": "custom.lineWidth", "value": 0}],
    }
    return Dashboard(
        "signals",
        "affectstream: signals",
        "Signals with 95 % intervals, from the tables of `affect sink postgres`. A gap is an unknown value, never 0.",
        (
            Panel("$signal of $entity", "Value and 95 % interval.", tuple(_line(c) for c in ("value", "lo", "hi")),
                  width=24, height=9, overrides=(band,)),
            Panel("All signals of $entity", "Every signal of the window size; counts are on the next panel.",
                  (Sql("SELECT time, signal AS metric, value FROM signal_points"
                       f" WHERE {CHOSEN} AND signal NOT LIKE '%.buzz%' AND {IN_TIME} ORDER BY time"),), width=16,
                  height=9),
            Panel("Posts behind it", "Posts, and the effective sample: one author is one voice.",
                  (_line("n"), _line("n_eff"), _line("authors")), height=9),
            Panel("Entities by posts", "Newest windows of the chosen size and signal.",
                  (Sql("SELECT DISTINCT ON (entity) entity, time, value, lo, hi, n, status, reasons FROM signal_points"
                       " WHERE domain = ${domain:sqlstring} AND window_end - window_start = $window"
                       f" AND signal = ${{signal:sqlstring}} AND {IN_TIME} ORDER BY entity, time DESC LIMIT 200"),),
                  "table", width=16, height=9),
            Panel("Unknown values", "Share of the rows without a value: too few voices.",
                  (Sql("SELECT time, avg((value IS NULL)::int) AS unknown FROM signal_points"
                       " WHERE domain = ${domain:sqlstring} AND window_end - window_start = $window"
                       f" AND {IN_TIME} GROUP BY time ORDER BY time"),), unit="percentunit", height=9),
            Panel("Windows revised by late posts", "Rows of the chosen size with a revision above 0.",
                  (Sql("SELECT time, count(*) FILTER (WHERE revision > 0) AS revised FROM signal_points"
                       " WHERE domain = ${domain:sqlstring} AND window_end - window_start = $window"
                       f" AND {IN_TIME} GROUP BY time ORDER BY time"),), width=12),
            Panel("Weight taken from loud authors, share scored", "capped and sampled of the chosen signal.",
                  (_line("capped"), _line("sampled")), unit="percentunit", width=12),
        ),
        (
            Variable("domain", "Domain", Sql("SELECT DISTINCT domain FROM signals ORDER BY 1")),
            Variable("entity", "Entity", Sql("SELECT entity FROM signals WHERE domain = ${domain:sqlstring}"
                                             " GROUP BY entity ORDER BY max(n) DESC, entity LIMIT 500")),
            Variable("signal", "Signal", Sql("SELECT DISTINCT signal FROM signals WHERE domain = ${domain:sqlstring}"
                                             " ORDER BY 1")),
            Variable("window", "Window (ms)", Sql("SELECT DISTINCT window_end - window_start FROM signals ORDER BY 1")),
        ),
        since="now-24h",
    )  # fmt: skip


def all_dashboards() -> tuple[Dashboard, ...]:
    return operations(), engine_server(), signals()
