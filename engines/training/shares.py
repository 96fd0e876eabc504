"""What a training of `text-affect` sees, how often, and at which rate."""

from __future__ import annotations

from typing import Final

from engines.training.fine_tune import Plan

SHARE: Final = {
    "goemotions28": 0.22,
    "sentiment3": 0.12,
    "emtract7": 0.11,
    "bullbear3": 0.15,
    "disaster_message": 0.10,
    "crisis_info6": 0.05,
    "tweeteval_emotion4": 0.08,
    "vad": 0.14,
    "empathy_distress": 0.03,
}
"""Part of the mixture by task: the large sets are capped, the small ones seen more often than their size asks."""
SCALE: Final = {"goemotions28": 0.7, "disaster_message": 0.3, "empathy_distress": 0.5}
"""Weight of a row's loss where it is not 1: sums over many labels would drown the others."""


def plan(seed: int, samples: int, minutes: float) -> Plan:
    """One run from the released sentence encoder; `minutes` where they are not 0, else `samples`."""
    return Plan(
        seed=seed,
        samples=0 if minutes else samples,
        minutes=minutes,
        rate=7e-5,
        head_rate=1e-3,
        warm_up=0.04,
        average=0.995,
        checks=4,
    )
