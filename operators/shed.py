"""Load shedding: under overload a random part of the posts is scored, and stands for the others.

Every post is still decoded, counted, linked and looked at for copies: n, authors and copies stay exact. Those chosen,
with a known chance, weigh its inverse, so means stay unbiased (Horvitz and Thompson 1952, in Hajek's ratio form) and
n_eff, and with it the interval, tells the truth about how few were read.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from operators.base import Emit
from operators.errors import ConfigInvalid
from operators.fingerprint import hash64, pack
from operators.records import MICRO, PostBatch

SALT = 7
STEP = 0.7
"""By so much the share falls at each look while the backlog is too long, and rises again once it is short."""


class Shed:
    """Operator that chooses which posts are scored. Stands before the scoring one; one object for all partitions.

    Args:
        above: posts waiting beyond which it sheds; below a half of that it takes more again.
        floor: least share, in (0, 1].

    Raises:
        ConfigInvalid: settings out of range.
    """

    def __init__(self, above: int, floor: float = 0.02) -> None:
        if above < 1 or not 0 < floor <= 1:
            raise ConfigInvalid(f"shedding: expected above >= 1 and 0 < floor <= 1, got {above} and {floor}")
        self._above = above
        self._floor = floor
        self.share = 1.0
        self.shed = 0

    def observe(self, waiting: int) -> float:
        """Take in how many posts wait; the share from now on. Call about once a second."""
        if waiting > self._above:
            self.share = max(self._floor, self.share * STEP)
        elif waiting < self._above // 2:
            self.share = min(1.0, self.share / STEP)
        return self.share

    async def process(self, batch: PostBatch) -> Emit:
        """Fill `PostBatch.inverse`; never drops a post. The choice hangs on the id and the share alone."""
        if self.share >= 1.0 or len(batch) == 0:
            return Emit(batch)
        share = self.share
        chosen = hash64(pack(batch.ids), SALT) < np.uint64(int(share * 2.0**64))
        inverse = np.where(chosen, np.int64(round(MICRO / share)), np.int64(0))
        self.shed += int((~chosen).sum())
        return Emit(replace(batch, inverse=inverse))
