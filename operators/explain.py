"""Why a value is what it is: how much each post moved it, and what the change since the window before is made of.

A window is described by four things: its volume (the weight of its posts), its mix (the share of each group of posts),
its levels (what the posts of each group say on average, and all that is no sum over posts: concentration, copies), and
its past (what is usual, for signals that compare with it). `decompose` changes them one by one from those of the window
before to those of this one, in every order, and takes the average of what each step did: the Shapley value (Shorrocks
2013). Its parts add up to the change by construction, whatever the formula of the signal. For a plain mean they are
Kitagawa's (1955): level = sum of mean share x change of group mean, mix = sum of change of share x mean group mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import factorial
from typing import cast

import numpy as np

from operators.domain import Derived, Domain, Norms, Sums
from operators.records import F64, I64, MICRO

PARTS = ("level", "mix", "volume", "past")


@dataclass(frozen=True, slots=True)
class Groups:
    """A window whose posts are parted in g groups; row k belongs to one entity.

    Attributes:
        sums: totals over all groups, as the windows have them.
        weight: float64 [k, g], weight of the posts of each group, millionths; 0 = the group has none.
        columns: float64 [k, g, c], weighted sums in `Domain.columns` order.
        usual: what is usual for the entities; None = the signals that need it are left out.
    """

    sums: Sums
    weight: F64
    columns: F64
    usual: Norms | None = None


def values(domain: Domain, sums: Sums, usual: Norms | None = None) -> Derived:
    """The signals of `domain`, and behind them those that need the past where it is given."""
    derived = domain.derive(sums)
    if usual is None or domain.history is None:
        return derived
    return derived.beside(domain.history.compare(sums, derived, usual))


def decompose(domain: Domain, before: Groups, now: Groups) -> tuple[F64, F64]:
    """The change of every signal from one window to the next, and its parts.

    A group that only one of the windows has is taken to say in the other what it says here, so that coming and going is
    a change of mix. Where a formula has no value half-way (nothing of what a ratio is about is left), half of the
    change is taken to have happened.

    Args:
        before, now: windows of the same k entities, in the same g groups.

    Returns:
        change: float64 [k, signals], NaN where a window has no value.
        parts: float64 [k, signals, 4], in `PARTS` order; their sum is `change`.
    """
    ends = (before, now)
    first, last = (values(domain, end.sums, end.usual).value for end in ends)
    change = last - first
    half = (first + last) / 2
    shares, means = _shares(before, now), _means(before, now)
    found: dict[tuple[int, ...], F64] = {}
    for state in product((0, 1), repeat=len(PARTS)):
        level, mix, volume, past = state
        sums = _between(ends[volume].sums, ends[level].sums, shares[mix], means[level])
        value = values(domain, sums, ends[past].usual).value
        found[state] = np.where(np.isfinite(value), value, half)
    parts = np.stack([_shapley(found, k) for k in range(len(PARTS))], axis=-1)
    # Totals are rounded to millionths of a post when the loud are hushed: what that leaves goes to the level.
    parts[:, :, 0] += change - parts.sum(axis=-1)
    parts[~np.isfinite(change)] = np.nan
    return change, parts


def _shapley(found: dict[tuple[int, ...], F64], k: int) -> F64:
    """What changing part `k` did, averaged over all orders of changing the parts."""
    size = len(PARTS)
    out = np.zeros_like(found[(0,) * size])
    for state in found:
        if state[k] == 0:
            after = (*state[:k], 1, *state[k + 1 :])
            done = sum(state)
            orders = factorial(done) * factorial(size - done - 1) / factorial(size)
            with np.errstate(invalid="ignore"):
                out += orders * (found[after] - found[state])
    return out


def _shares(before: Groups, now: Groups) -> tuple[F64, F64]:
    """Share of each group in both windows, float64 [k, g]."""
    one, two = (np.maximum(w.weight.sum(axis=1, keepdims=True), 1e-300) for w in (before, now))
    return before.weight / one, now.weight / two


def _means(before: Groups, now: Groups) -> tuple[F64, F64]:
    """Mean of each group in both windows, float64 [k, g, c]; of one that is missing, that of the other window."""
    there = [w.weight[:, :, None] > 0 for w in (before, now)]
    one, two = (
        np.where(t, w.columns / np.where(t, w.weight[:, :, None], 1.0), 0.0)
        for t, w in zip(there, (before, now), strict=True)
    )
    return np.where(there[0], one, two), np.where(there[1], two, one)


def _between(volume: Sums, level: Sums, shares: F64, means: F64) -> Sums:
    """Totals of a window that never was: the weight of one, the shares of one, the means of one."""
    mean = np.einsum("kg,kgc->kc", shares, means)
    columns = cast(I64, mean * volume.weight[:, None])  # not rounded: a mean has no part of volume at all
    return Sums(volume.n, volume.n_eff, volume.weight, columns, volume.whole, level.hhi, level.copies)


def influence(domain: Domain, sums: Sums, weight: F64, channels: I64, usual: Norms | None = None) -> F64:
    """How much every post of a window moved each signal: the value with its share of the totals less that without.

    Args:
        domain: gives the values. sums: totals of the window, of one entity.
        weight: float64 [n], what each post weighs in them, millionths. channels: int64 [n, columns], what it says.
        usual: of the entity; see `values`.

    Returns:
        float64 [n, signals]; 0 where leaving the post out leaves nothing to compare with.
    """
    n = len(channels)
    value = values(domain, sums, usual).value
    spread = None if usual is None else Norms(usual.mean.repeat(n, axis=0), usual.sd.repeat(n, axis=0))
    taken = np.rint(channels * (weight / MICRO)[:, None]).astype(np.int64)
    without = Sums(
        np.maximum(sums.n.repeat(n) - 1, 1),
        np.maximum(sums.n_eff.repeat(n) - weight / MICRO, 1e-9),
        np.maximum(sums.weight[0] - np.rint(weight).astype(np.int64), 0),
        np.maximum(sums.columns - taken, np.minimum(sums.columns, 0)) if n else taken,
        sums.whole.repeat(n),
        sums.hhi.repeat(n),
        sums.copies.repeat(n),
    )
    moved = value - values(domain, without, spread).value
    found: F64 = np.where((without.weight > 0)[:, None] & np.isfinite(moved), moved, 0.0)
    return found
