"""Intervals at 95 %: every published value says how sure it is.

Sources: Wilson 1927 for shares; the normal interval over the sample variance for means. `n_eff` stands for n
(Kish 1965), so one author's thousand posts do not make a value look sure. Never narrower than what one more post of
the opposite kind would do to the value.
"""

from __future__ import annotations

import numpy as np

from operators.records import F64

Z95 = 1.959963984540054
DRAWN = 2.0
"""Posts by which a sample variance is drawn to that of a coin."""


def wilson(share: F64, n_eff: F64) -> tuple[F64, F64]:
    """Wilson score interval of a share in [0, 1] with sample size `n_eff` > 0; both float64 [k]."""
    n = np.maximum(n_eff, 1e-9)
    z2 = Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * np.sqrt(np.maximum(share * (1 - share) / n + z2 / (4 * n * n), 0.0)) / (1 + z2 / n)
    return np.minimum(np.clip(centre - half, 0.0, 1.0), share), np.maximum(np.clip(centre + half, 0.0, 1.0), share)


def share(mean: F64, mean_square: F64, n_eff: F64) -> tuple[F64, F64]:
    """Interval of the mean of probabilities in [0, 1], from their mean and mean square.

    Wilson's form with the sample size at which a coin would spread as these probabilities do: `n_eff` times
    p(1 - p) / variance. Hard 0/1 scores give Wilson's own interval; soft ones, which spread less, a narrower one. The
    sample variance (n - 1 below the line) is drawn to the coin's by two posts: a small window in which a rare emotion
    happens not to be looks surer than it is. The interval is Student's rather than the normal one, its quantile to
    first order in 1/n.
    """
    n = np.maximum(n_eff, 1.0 + 1e-9)
    coin = np.maximum(mean * (1 - mean), 0.0)
    spread = np.clip((mean_square - mean * mean) * n / (n - 1), 0.0, coin)
    variance = (spread * n + DRAWN * coin) / (n + DRAWN)
    student = (1 + (Z95 * Z95 + 1) / (4 * n)) ** 2
    return wilson(mean, n_eff / student * np.where(variance > 0, coin / np.where(variance > 0, variance, 1.0), 1.0))


def mean(value: F64, mean_square: F64, n_eff: F64, low: float, high: float) -> tuple[F64, F64]:
    """Interval of a mean of values in [low, high], from its mean and mean square.

    One pseudo-post at each end of the range is added to the variance (Agresti and Coull 1998, in spirit), so a window
    of equal posts does not claim certainty.
    """
    n = np.maximum(n_eff, 1e-9)
    spread = np.maximum(mean_square - value * value, 0.0)
    ends = ((high - value) ** 2 + (low - value) ** 2) / 2
    variance = (spread * n + 2 * ends) / (n + 2)
    half = Z95 * np.sqrt(variance / (n + 2))
    return np.clip(value - half, low, high), np.clip(value + half, low, high)


def count(n: F64) -> tuple[F64, F64, F64]:
    """ln(1 + n) of a (weighted) number of posts, with the Poisson interval of n: value, lo, hi."""
    half = Z95 * np.sqrt(n)
    return np.log1p(n), np.log1p(np.maximum(n - half, 0.0)), np.log1p(n + half)
