"""Language: a code or nothing; measured on real short posts where the data are at hand."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.language import Language, detect
from operators.records import PostBatch

DATA = Path(os.environ.get("AFFECT_DATA", "/nonexistent")) / "text"
SETS = {
    "emoevent/en": ("en", 0.97),
    "xed/en": ("en", 0.88),
    "emoevent/es": ("es", 0.95),
    "banemo": ("bn", 0.99),
    "smp2020_ewect/usual": ("zh", 0.97),
    "sentipers": ("fa", 0.93),
    "xed/fi": ("fi", 0.86),
}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The bridge is closed and we are stuck on the other side", "en"),
        ("$TSLA to the moon, just buy the dip", "en"),
        ("No tenemos agua ni comida desde ayer, por favor ayuda", "es"),
        ("Wir haben seit gestern keinen Strom und kein Wasser", "de"),
        ("今天的股票市场让我很害怕", "zh"),
        ("今日はとても寒いですね", "ja"),
        ("오늘 시장이 무섭다", "ko"),
        ("আমরা পানি চাই", "bn"),
        ("RT @user: https://t.co/abc Мы застряли на крыше и ждём спасателей уже второй день", "ru"),
        ("", ""),
        ("12345 !!!", ""),
        ("$AAPL $TSLA", ""),
        ("😀😀😀", ""),
        ("lol", ""),
        ("https://t.co/abcdefgh @someone", ""),
    ],
)
def test_texts(text: str, code: str) -> None:
    assert detect(text) == code


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
def test_any_text_passes(text: str) -> None:
    assert len(detect(text)) in (0, 2)
    assert detect(text) == detect(text)


def test_given_codes_stay_und_too() -> None:
    n = 4
    no = np.zeros(n, np.bool_)
    english = "we have no water and the power is out"
    batch = PostBatch(
        partition=0,
        offsets=np.arange(n, dtype=np.int64),
        ids=list("abcd"),
        texts=[english, english, english, "42"],
        times_ms=np.zeros(n, np.int64),
        authors=np.zeros(n, np.uint64),
        langs=["", "fr", "und", ""],
        tickers=[None] * n,
        places=[None] * n,
        events=[None] * n,
        reposts=no,
        near=no,
    )
    assert Language().run(batch).langs == ["en", "fr", "und", ""]


@pytest.mark.data
@pytest.mark.parametrize(("name", "code", "floor"), [(k, *v) for k, v in SETS.items()])
def test_accuracy_on_short_posts(name: str, code: str, floor: float) -> None:
    with gzip.open(DATA / name / "test_public.jsonl.gz", "rt", encoding="utf-8") as lines:
        found = [detect(json.loads(line)["text"]) for line, _ in zip(lines, range(400), strict=False)]
    told = [f for f in found if f]
    assert found.count(code) / len(found) >= floor
    assert told.count(code) / len(told) >= 0.95
