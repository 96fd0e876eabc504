"""The policy gate: may a deployment that says this about itself run at all? Code, not a notice; there is no way round.

The law as read here (not legal advice): Regulation (EU) 2024/1689 (AI Act), Article 5(1)(f), prohibits inferring
emotions of natural persons in workplaces and education institutions, except for medical or safety reasons. Emotion
recognition means from biometric data (Article 3(39)): faces and voices, not texts, poll answers or buttons. Consent,
aggregation and k-anonymity do not lift a prohibition. What the engine's face and voice models infer is emotion, so
there is no setting that says they infer something else.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec

SETTINGS: Final = ("market", "public-crisis", "education", "workplace", "research", "other")
MODALITIES: Final = ("text", "participation", "face", "voice")
"""`participation`: what people press, answer or raise; reaction times included. It is no biometric data."""
PURPOSES: Final = (
    "market-analysis", "crisis-response", "opinion", "teaching", "research", "medical", "safety", "other",
)  # fmt: skip
UNITS: Final = ("stream", "group")
"""What values speak of. A person is not among them, and never will be."""

BIOMETRIC: Final = frozenset({"face", "voice"})
PROTECTED: Final = frozenset({"education", "workplace"})
EXEMPT: Final = frozenset({"medical", "safety"})
ARTICLE: Final = "AI Act Article 5(1)(f)"

LONGEST_NAME: Final = 200
"""Of a controller and of a document id."""

_EEA: Final = frozenset(
    """
    EU AT BE BG HR CY CZ DK EE FI FR DE GR HU IE IT LV LT LU MT NL PL PT RO SK SI ES SE IS LI NO
    """.split()
)
"""The Union, its members, and the three states of the European Economic Area, which take its product law over."""

COUNTRIES: Final = frozenset(
    """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA
    CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA
    GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP
    KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS
    MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS
    RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW
    TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
    """.split()
)
"""ISO 3166-1 alpha-2: a misspelt jurisdiction is no jurisdiction."""


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """What a deployment says about itself. An empty field is a missing one.

    Attributes:
        jurisdiction: `EU` or an ISO 3166-1 code; members of the EU and the EEA count as EU.
        setting, modalities, purpose, unit: out of `SETTINGS`, `MODALITIES`, `PURPOSES`, `UNITS`.
        controller, document: who answers for it (Article 4(7) GDPR) and the id of the paper that says why; only needed,
            and only of use, for the medical and safety exemption.
        kept: frames are written to a log before they are scored (`capture.mode = "topics"`).
    """

    jurisdiction: str = "EU"
    setting: str = ""
    modalities: tuple[str, ...] = ()
    purpose: str = ""
    unit: str = ""
    controller: str = ""
    document: str = ""
    kept: bool = False


Outcome = Literal["allowed", "exempt", "prohibited", "incomplete"]


class Verdict(NamedTuple):
    """`outcome`: allowed; exempt (allowed by the medical or safety exemption, to be logged); prohibited; incomplete.

    `message`: one line that names what was expected and, where it is prohibited, the article. `duties`: what the
    deployer has to do all the same.
    """

    outcome: Outcome
    message: str
    duties: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        return self.outcome in ("allowed", "exempt")


def in_the_eu(jurisdiction: str) -> bool:
    """Whether the AI Act is the law there."""
    return jurisdiction in _EEA


def biometric(modalities: tuple[str, ...]) -> bool:
    """Whether faces or voices are looked at."""
    return not BIOMETRIC.isdisjoint(modalities)


def decide(said: Declaration) -> Verdict:
    """The decision on a declaration; a function of it alone."""
    wrong = _wrong(said)
    if wrong:
        return Verdict("incomplete", f"[policy] {wrong}; a deployment that does not say what it is does not start")
    eu, sees = in_the_eu(said.jurisdiction), biometric(said.modalities)
    duties = _duties(eu, said.kept) if sees else ()
    if said.kept and not sees:
        why = 'capture.mode: "topics" keeps pictures and sound; declare face or voice, or take capture.mode out'
        return Verdict("incomplete", f"[policy] modalities: {why}")
    if said.kept and said.setting in PROTECTED and not (eu and said.purpose not in EXEMPT):
        return Verdict(
            "prohibited",
            f"frames are never kept in {said.setting}, whatever the jurisdiction and the purpose (a rule of this "
            'engine, docs/policy.md); set capture.mode to "private": they are scored where they arrive and thrown away',
        )
    if not (eu and sees and said.setting in PROTECTED):
        return Verdict("allowed", f"{said.setting} in {said.jurisdiction}, {_list(said.modalities)}", duties)
    if said.purpose in EXEMPT and said.controller and said.document:
        why = f"exempt from {ARTICLE} for {said.purpose} reasons, document {said.document}, answers: {said.controller}"
        return Verdict("exempt", why, duties)
    seen = _list(tuple(m for m in said.modalities if m in BIOMETRIC))
    more = _lacking(said) if said.purpose in EXEMPT else ""
    return Verdict(
        "prohibited",
        f"{ARTICLE} prohibits inferring emotions from {seen} in {said.setting} in {said.jurisdiction}; consent does "
        f"not lift it{more}. Take {seen} out of [policy] modalities (polls, buttons and chat need no camera), or, for "
        "medical or safety reasons alone, say so in purpose and name controller and document",
    )


def _wrong(said: Declaration) -> str:
    """What is missing or not known, "" where nothing is."""
    known = in_the_eu(said.jurisdiction) or said.jurisdiction in COUNTRIES
    if not known:
        return f"jurisdiction: expected EU or a two-letter country code such as US, got {said.jurisdiction!r}"
    if said.unit == "person":
        return "unit: expected stream or group, got 'person': nothing here speaks of a person"
    for name, value, choices in (
        ("setting", said.setting, SETTINGS),
        ("purpose", said.purpose, PURPOSES),
        ("unit", said.unit, UNITS),
    ):
        if value not in choices:
            return f"{name}: expected one of {', '.join(choices)}, got {value!r}"
    for name, value in (("controller", said.controller), ("document", said.document)):
        if len(value) > LONGEST_NAME or not value.isprintable():
            return f"{name}: expected at most {LONGEST_NAME} printable characters, got {len(value)}"
    if not said.modalities or not set(said.modalities) <= set(MODALITIES):
        return f"modalities: expected some of {', '.join(MODALITIES)}, got {list(said.modalities)}"
    return ""


def _lacking(said: Declaration) -> str:
    absent = [name for name, value in (("controller", said.controller), ("document", said.document)) if not value]
    return f" (purpose {said.purpose}: {' and '.join(absent)} not named)"


def _duties(eu: bool, kept: bool) -> tuple[str, ...]:
    keeps = " that frames are kept in a log, and for how long," if kept else ""
    duties = (f"tell everyone who is seen or heard,{keeps} before they are, and let them leave at any time",)
    if not eu:
        return duties
    return (
        f"{duties[0]} (AI Act Article 50(3))",
        "high-risk system from 2 December 2027 (AI Act Annex III 1(c)); data protection impact assessment (GDPR 35)",
    )


def _list(words: tuple[str, ...]) -> str:
    return " and ".join(words)
