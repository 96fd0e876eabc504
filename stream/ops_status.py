"""How the engine is doing, domain by domain and together: what `/api/status`, `/readyz` and Prometheus say."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class OpsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine is doing, at a commit.

    Attributes:
        rate_per_s: records consumed per second, recent.
        consumed: records read; must equal applied + duplicate + late + rejected + in_flight.
        lag: records appended but not yet read, all partitions.
        watermark_ms: event time is complete up to here; None before the first record.
        watermark_delay_s: how far the watermark is behind the clock; None where there is none.
        rows: signal rows written.
        partitions: partitions owned.
        engine, model, engine_reason: what scores, and why not a better one.
        domain: `market`, `crisis` or `social`; "" = several, see `domains`.
        min_n: effective sample below which a row's value is null. sampled: share of the posts that is scored now.
        ready: False while state is restored, the log is away, or a model loads; `problem` then says what to do.
        domains: where one process runs several domains, how each of them is doing; else empty.
    """

    rate_per_s: float = 0.0
    consumed: int = 0
    applied: int = 0
    duplicate: int = 0
    late: int = 0
    rejected: int = 0
    in_flight: int = 0
    lag: int = 0
    watermark_ms: int | None = None
    watermark_delay_s: float | None = None
    rows: int = 0
    partitions: int = 0
    engine: str = ""
    model: str = ""
    engine_reason: str = ""
    domain: str = ""
    uptime_s: float = 0.0
    min_n: int = 20
    sampled: float = 1.0
    ready: bool = False
    problem: str | None = "starting: nothing was read yet"
    domains: tuple[OpsStatus, ...] = ()

    @property
    def accounted(self) -> int:
        """Records whose fate is known or in the works."""
        return self.applied + self.duplicate + self.late + self.rejected + self.in_flight

    @property
    def conserved(self) -> bool:
        """Nothing was lost silently: every record read is accounted for, in every domain."""
        return self.consumed == self.accounted and all(part.conserved for part in self.domains)


COUNTED = ("consumed", "applied", "duplicate", "late", "rejected", "in_flight", "lag", "rows", "partitions")


def together(parts: Sequence[OpsStatus]) -> OpsStatus:
    """The status of a process that runs `parts`, one or more: counts add up, the worst watermark, ready when all are.

    >>> both = together([OpsStatus(domain="crisis", consumed=2, applied=2), OpsStatus(domain="social", consumed=1)])
    >>> both.consumed, both.conserved, len(both.domains)
    (3, False, 2)
    """
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    marks = [part.watermark_ms for part in parts if part.watermark_ms is not None]
    delays = [part.watermark_delay_s for part in parts if part.watermark_delay_s is not None]
    problems = [f"{part.domain}: {part.problem}" for part in parts if part.problem is not None]
    return OpsStatus(
        **{name: sum(getattr(part, name) for part in parts) for name in COUNTED},
        rate_per_s=sum(part.rate_per_s for part in parts),
        watermark_ms=min(marks, default=None),
        watermark_delay_s=max(delays, default=None),
        engine=first.engine,
        model=first.model,
        engine_reason=first.engine_reason,
        uptime_s=max(part.uptime_s for part in parts),
        min_n=max(part.min_n for part in parts),
        sampled=min(part.sampled for part in parts),
        ready=all(part.ready for part in parts),
        problem=problems[0] if problems else None,
        domains=tuple(parts),
    )


def status_json(status: OpsStatus) -> bytes:
    """The status as JSON, with the conservation sum worked out, for every domain too."""
    return msgspec.json.encode(_told(status))


def _told(status: OpsStatus) -> dict[str, object]:
    told = _summed(status)
    told["domains"] = [_summed(part) for part in status.domains]
    return told


def _summed(status: OpsStatus) -> dict[str, object]:
    told: dict[str, object] = msgspec.structs.asdict(status)
    del told["domains"]
    return told | {"accounted": status.accounted, "conserved": status.conserved}
