"""Which posts are in a language that the heads were trained on; the others can be left out of the values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np

from operators.base import Emit
from operators.records import MICRO, PostBatch

NOTE = "{share:.0%} of the posts are not in the value: in languages no head was trained on (or shed)"


def common(heads: Iterable[Collection[str]]) -> frozenset[str]:
    """The languages that all heads were trained on; a head that names none reads any, and so do such heads alone."""
    told = [frozenset(languages) for languages in heads if languages]
    return frozenset.intersection(*told) if told else frozenset()


def readable(lang: str, trained: Collection[str]) -> bool:
    """True for a trained language and for none: what is too short or unsure to tell counts as English, and so does
    `und`, by which whoever gave the post left its language open.

    A given code is trusted; `pt-BR` is Portuguese. `trained` empty: every language is read.
    """
    return lang in ("", "und") or not trained or lang.replace("_", "-").split("-")[0].lower() in trained


class Readable:
    """Counts posts in languages no head was trained on and, where asked, leaves them out of the values.

    They stay in n, authors and copies; only their scores weigh nothing (`PostBatch.inverse` 0, as for posts shed under
    overload), so `sampled` is the share that was read and a window without any other post has null values. Stands
    behind `Language` and `Shed`, before `Score`.

    Args:
        trained: ISO 639-1 codes. leave_out: False = only count.
    """

    def __init__(self, trained: Collection[str], leave_out: bool) -> None:
        self._trained = frozenset(trained)
        self._leave_out = leave_out
        self.posts = 0
        self.foreign: Counter[str] = Counter()

    async def process(self, batch: PostBatch) -> Emit:
        """Drops no post."""
        keep = np.array([readable(lang, self._trained) for lang in batch.langs], np.bool_)
        self.posts += len(batch)
        if keep.all():
            return Emit(batch)
        self.foreign.update(batch.langs[k] for k in np.flatnonzero(~keep).tolist())
        if not self._leave_out:
            return Emit(batch)
        inverse = batch.inverse if len(batch.inverse) else np.full(len(batch), MICRO, np.int64)
        return Emit(replace(batch, inverse=np.where(keep, inverse, np.int64(0))))

    def said(self) -> str:
        """The share in one line, the most frequent languages first; "" where there is none."""
        count = sum(self.foreign.values())
        if not count:
            return ""
        often = ", ".join(f"{lang} {n}" for lang, n in self.foreign.most_common(4))
        what = "left out of the values" if self._leave_out else "scored all the same (--languages all)"
        return f"{count} of {self.posts} posts are in languages no head was trained on ({often}): {what}"
