"""Opens an ONNX file, on the CPU unless told otherwise. A door of `onnxruntime`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineLost, ManifestInvalid, MissingExtra

CPU: Final = "CPUExecutionProvider"


class Port(Protocol):
    """A named input or output."""

    name: str
    type: str
    shape: Sequence[object]


class Facts(Protocol):
    """What a file says about itself."""

    custom_metadata_map: Mapping[str, str]


class Session(Protocol):
    """What is used of `onnxruntime.InferenceSession`, which has no types of its own."""

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[np.generic]]) -> list[NDArray[np.floating]]: ...

    def get_inputs(self) -> list[Port]: ...

    def get_outputs(self) -> list[Port]: ...

    def get_modelmeta(self) -> Facts: ...

    def get_providers(self) -> list[str]: ...


def open_session(
    name: str, model: bytes, threads: int, extra: str, provider: str = CPU, settings: Mapping[str, str] | None = None
) -> Session:
    """A session that does not spin between runs. `name` and `extra` are for the message, `settings` the provider's.

    Raises:
        MissingExtra: onnxruntime is not installed.
        ManifestInvalid: not a model that onnxruntime can load.
        EngineLost: the provider did not start; onnxruntime would go on on the CPU without a word.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingExtra(
            f"model {name!r} needs onnxruntime; install it with `pip install 'affectstream[{extra}]'`"
        ) from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session: Session = ort.InferenceSession(model, options, providers=[(provider, dict(settings or {}))])
    except Exception as error:  # onnxruntime raises its own kinds, which share no parent
        raise ManifestInvalid(f"model {name!r}: onnxruntime {ort.__version__} cannot load it: {error}") from error
    if session.get_providers()[:1] != [provider]:
        raise EngineLost(f"onnxruntime {ort.__version__} did not start {provider}: its libraries or the driver lack")
    return session
