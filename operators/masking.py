"""Takes the person out of a text before a human sees it: handles, links, mail addresses and phone numbers."""

from __future__ import annotations

import re

_LINK = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_MAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_HANDLE = re.compile(r"(?<![\w@])@\w{1,64}")
_PHONE = re.compile(r"(?<![\w$.,])\+?\d[\d\s().-]{6,18}\d(?!\w)")
_SPACE = re.compile(r"\s+")


def mask(text: str, limit: int = 280) -> str:
    """`text` with links -> `http`, mail -> `<mail>`, handles -> `@user`, phone-like numbers -> `<phone>`, on one line.

    At most `limit` characters; a cut is shown by an ellipsis. Names written in running text are not recognised.
    """
    text = _LINK.sub("http", text[: 4 * limit])
    text = _MAIL.sub("<mail>", text)
    text = _HANDLE.sub("@user", text)
    text = _PHONE.sub(_phone, text)
    text = _SPACE.sub(" ", text).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _phone(found: re.Match[str]) -> str:
    digits = sum(c.isdigit() for c in found[0])
    return "<phone>" if digits >= 8 else found[0]
