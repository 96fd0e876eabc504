"""Errors of the lowest floor, and the root of the whole tree.

    AffectError                    retriable, exit_code, hint
      EngineError
        UnknownModel               no model of that name in the zoo
        ManifestInvalid            manifest missing, malformed or not matching its file (sha256)
        ImportRefused              a model given by the user is unsupported, damaged or hostile
        ShapeMismatch              a tensor does not fit the engine's spec
        PrecisionRefused           a derived file that the gate refused, or never saw
        BackendRefused             a backend cannot run the model on this machine
        EngineLost                 the backend is gone; retriable after a new load
          EngineAway               an engine server does not answer; retriable as it is
        EndpointRefused            a chat endpoint takes no request of ours: key, model or address
        ResearchOnly               the weights may be used for research alone, and the caller does not say that it is
        MissingExtra               an optional dependency is not installed; names the extra
      operators.errors.OperatorError ...
      stream.errors.StreamError ...

A message says what, expected, got, where, and what to do.
"""

from __future__ import annotations


class AffectError(Exception):
    """Root of every error this project raises on purpose.

    `retriable` says whether the same call may succeed later; `exit_code` is what a command exits with.
    """

    retriable: bool = False
    exit_code: int = 1


class EngineError(AffectError):
    """Something about a model or the backend that runs it."""


class UnknownModel(EngineError):
    """No such model, head or task; the message lists what there is."""

    exit_code = 2


class ManifestInvalid(EngineError):
    """A manifest is missing, malformed, or its file does not match the recorded sha256."""


class ImportRefused(EngineError):
    """Files given to `affect models import` that cannot or must not be taken in; the message says what would do."""


class PrecisionRefused(EngineError):
    """A precision file that moved scores or signals too far, or that was never measured."""


class ShapeMismatch(EngineError):
    """A tensor does not fit `EngineSpec`. Never retriable: the caller is wrong."""


class BackendRefused(EngineError):
    """A backend cannot run a model on this machine, or failed its trial; the message says what is lacking."""

    exit_code = 2


class EngineLost(EngineError):
    """The backend died or stopped answering. Retriable after a new load."""

    retriable = True


class EngineAway(EngineLost):
    """An engine server cannot be reached, is hung, or answers nothing that can be used. The same call may be made again
    at any time: it connects anew by itself, and scores are the same whoever asks twice."""


class EndpointRefused(EngineError):
    """A chat endpoint that takes no request as it is asked: wrong key, model or address. No retry cures it."""

    exit_code = 2


class ResearchOnly(EngineError):
    """Weights trained on data licensed for research; the message names the licences and the setting that lets them in.

    78 is EX_CONFIG, as for every deployment that may not run as it is declared."""

    exit_code = 78


class MissingExtra(EngineError):
    """An optional dependency is needed; the message gives the pip command."""

    exit_code = 2
