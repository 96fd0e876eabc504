"""What Prometheus reads, parsed back with the library's own parser."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from stream.feed import OpsStatus
from stream.metrics import MAX_REASONS, Metrics

STATUS = OpsStatus(
    consumed=100, applied=80, duplicate=7, late=5, rejected=3, in_flight=5, lag=12, watermark_ms=1, rows=44,
    watermark_delay_s=2.5, partitions=3, engine="hashed", model="bag@1", engine_reason='no "GPU"', domain="market",
    uptime_s=9.0, ready=True, problem=None,
)  # fmt: skip


def scraped(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def test_the_status_is_exported_whole_and_its_sum_holds() -> None:
    metrics = Metrics()
    metrics.status(STATUS)
    found = scraped(metrics)
    outcomes = {dict(labels)["outcome"]: v for (name, labels), v in found.items() if name == "affect_records_total"}
    assert outcomes == {"applied": 80, "duplicate": 7, "late": 5, "rejected": 3}
    total = found[("affect_records_in_total", ())]
    assert total == sum(outcomes.values()) + found[("affect_in_flight_records", ())] == 100
    assert found[("affect_consumer_lag_records", ())] == 12
    assert found[("affect_watermark_delay_seconds", ())] == 2.5
    assert found[("affect_signal_rows_total", ())] == 44
    assert found[("affect_ready", ())] == 1
    labels = (("domain", "market"), ("engine", "hashed"), ("model", "bag@1"), ("reason", 'no "GPU"'))
    assert found[("affect_engine_info", labels)] == 1


def test_no_watermark_is_absent_not_zero() -> None:
    assert ("affect_watermark_delay_seconds", ()) not in scraped(Metrics())


def test_a_process_that_has_not_asked_the_log_yet_tells_no_counts_of_the_topic() -> None:
    """A 0 that jumps to all there ever was would be a flood to rate()."""
    metrics = Metrics()
    metrics.status(OpsStatus(domain="market"))
    assert not [name for name, _ in scraped(metrics) if name.startswith("affect_records")]
    metrics.status(STATUS)
    assert scraped(metrics)[("affect_records_in_total", ())] == 100


def test_timers_count_and_add_up() -> None:
    metrics = Metrics(process=False)
    metrics.commit(0.004)
    metrics.commit(0.2)
    metrics.inference(0.05, 64)
    found = scraped(metrics)
    assert found[("affect_commit_seconds_count", ())] == 2
    assert abs(found[("affect_commit_seconds_sum", ())] - 0.204) < 1e-12
    assert found[("affect_commit_seconds_bucket", (("le", "0.005"),))] == 1
    assert found[("affect_inference_rows_total", ())] == 64


def test_abstained_texts_are_told_from_0_on_and_add_up_over_domains() -> None:
    metrics = Metrics(process=False)
    name = "affect_abstained_texts_total"
    first = {labels: v for (found, labels), v in scraped(metrics).items() if found == name}
    assert first == {(("reason", why),): 0 for why in ("off_schema", "refused", "budget")}
    metrics.abstained({"budget": 3}, "market")
    metrics.abstained({"budget": 5, "refused": 1}, "market")
    metrics.abstained({"budget": 2}, "social")
    found = scraped(metrics)
    assert found[(name, (("reason", "budget"),))] == 7
    assert found[(name, (("reason", "refused"),))] == 1


def test_dead_letter_reasons_cannot_grow_without_end() -> None:
    metrics = Metrics(process=False)
    for k in range(MAX_REASONS + 50):
        metrics.dead_letter(f"reason-{k}")
    metrics.dead_letter("reason-0", 4)
    counts = {labels: v for (name, labels), v in scraped(metrics).items() if name == "affect_dead_letters_total"}
    assert len(counts) == MAX_REASONS + 1
    assert sum(counts.values()) == MAX_REASONS + 54
    assert counts[(("reason", "other"),)] == 50
    assert counts[(("reason", "reason-0"),)] == 5


def test_two_metrics_do_not_share_a_registry() -> None:
    one, two = Metrics(process=False), Metrics(process=False)
    one.dead_letter("size")
    assert b"size" in one.exposition()
    assert b"size" not in two.exposition()
