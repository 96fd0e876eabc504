"""Errors of the operator floor.

AffectError (engines.errors)
  OperatorError
    Rejected          a message the gate or the decoder refuses; carries a machine-readable `reason`
    SchemaUnknown     a schema id or subject the registry does not know
    ConfigInvalid     a window, threshold or head that cannot work; refused before the first record
    PolicyRefused     the law or a licence forbids this deployment; refused before anything starts, exit 78
"""

from __future__ import annotations

from engines.errors import AffectError


class OperatorError(AffectError):
    """Something about records or the maths on them."""


class Rejected(OperatorError):
    """A message that will never decode. `reason` is a short fixed word for counters, the text says the detail.

    The only error a decoder lets out, whatever the bytes: the caller dead-letters the message and goes on.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class SchemaUnknown(OperatorError):
    """No schema under that id or subject; the message lists what the registry holds."""


class ConfigInvalid(OperatorError):
    """A setting that cannot work, found before the first record."""

    exit_code = 2


class PolicyRefused(OperatorError):
    """This deployment may not run as it is declared. There is no flag against it; the message says what would do."""

    exit_code = 78
