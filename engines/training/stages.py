"""The two stages of `text-affect`: what each sees, how often, and at which rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engines.training.fine_tune import Plan


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage.

    Attributes:
        name: its folder below `--work`.
        share: part of the mixture by task; the large sets are capped, the small ones seen more often than their size
            asks.
        scale: weight of a row's loss where it is not 1: sums over many labels would drown the others.
        rate, head_rate, warm_up, frozen, average, checks: as in `Plan`.
    """

    name: str
    share: Mapping[str, float]
    scale: Mapping[str, float]
    rate: float
    head_rate: float
    warm_up: float
    frozen: int
    average: float
    checks: int = 0

    def plan(self, seed: int, samples: int, minutes: float) -> Plan:
        """The stage as a plan; `samples` wins over `minutes`."""
        return Plan(
            seed=seed,
            samples=samples,
            minutes=0.0 if samples else minutes,
            rate=self.rate,
            head_rate=self.head_rate,
            warm_up=self.warm_up,
            frozen=self.frozen,
            average=self.average,
            checks=self.checks,
        )


FIRST = Stage(
    "first",
    share={
        "goemotions28": 0.22,
        "sentiment3": 0.12,
        "emtract7": 0.11,
        "bullbear3": 0.15,
        "disaster_message": 0.10,
        "crisis_info6": 0.05,
        "tweeteval_emotion4": 0.08,
        "vad": 0.14,
        "empathy_distress": 0.03,
    },
    scale={"goemotions28": 0.7, "disaster_message": 0.3, "empathy_distress": 0.5},
    rate=7e-5,
    head_rate=1e-3,
    warm_up=0.04,
    frozen=0,
    average=0.995,
    checks=4,
)
"""From the released sentence encoder: mostly the large sets."""

SECOND = Stage(
    "second",
    share={
        "goemotions28": 0.12,
        "sentiment3": 0.10,
        "emtract7": 0.13,
        "bullbear3": 0.18,
        "disaster_message": 0.16,
        "crisis_info6": 0.05,
        "tweeteval_emotion4": 0.08,
        "vad": 0.15,
        "empathy_distress": 0.03,
    },
    scale={"goemotions28": 0.7, "disaster_message": 0.3},
    rate=4e-5,
    head_rate=5e-4,
    warm_up=0.05,
    frozen=3,
    average=0.995,
    checks=4,
)
"""From the file that stage 1 leaves: the small sets it hardly saw, the large ones only so that they are not lost.

Tables and the two lowest blocks stay: a third more samples a second, and what is common to all tasks is there already.
"""
