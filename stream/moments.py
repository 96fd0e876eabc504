"""Moments as people and programs write them."""

from __future__ import annotations

from operators.arrivals import epoch_ms
from operators.errors import Rejected


def moment(text: str) -> int:
    """Epoch milliseconds of `text`: digits as they are, or ISO 8601 (naive = UTC).

    Raises:
        ValueError: neither, or not from 1970 to 9999; the text says what was expected.

    >>> moment("1709562600000") == moment("2024-03-04T14:30") == moment("2024-03-04T15:30+01:00")
    True
    """
    given = text.strip().replace(" ", "+", 1) if "T" in text else text.strip()  # a query string turns + into a space
    try:
        return epoch_ms(int(given) if given.isascii() and given.isdigit() else given)
    except (Rejected, OverflowError):
        wanted = "epoch milliseconds or ISO 8601 such as 2024-03-04T14:05 (UTC)"
        raise ValueError(f"expected {wanted}, got {text[:40]!r}") from None
