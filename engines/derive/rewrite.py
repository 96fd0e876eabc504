"""An ONNX graph taken apart to be put together anew: nodes, constants, and what feeds what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from engines.errors import ManifestInvalid

Array = NDArray[np.generic]
MAX_NODES: Final = 100_000


@dataclass(slots=True)
class Rewrite:
    """The parts of one graph. A rule replaces nodes in `nodes`; `write` drops what nothing uses any more.

    `constants`: initializers by name. `makers`: node that makes a tensor. Names of new tensors are derived from old
    ones, so the same file in gives the same bytes out.
    """

    model: onnx.ModelProto
    nodes: list[onnx.NodeProto]
    constants: dict[str, Array]
    made: list[onnx.NodeProto] = field(default_factory=list)

    @classmethod
    def read(cls, packed: bytes) -> Rewrite:
        """Take a file apart.

        Raises:
            ManifestInvalid: no ONNX file, operators that are not standard ones, or weights outside the file.
        """
        try:
            model = onnx.load_from_string(packed)
        except Exception as error:  # protobuf raises its own kinds
            raise ManifestInvalid(f"no ONNX file: {error}; restore it, or train and export anew") from error
        graph = model.graph
        foreign = sorted({n.domain for n in graph.node if n.domain not in ("", "ai.onnx")})
        outside = [t.name for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
        if foreign or outside or not 0 < len(graph.node) <= MAX_NODES:
            raise ManifestInvalid(
                f"expected 1 to {MAX_NODES} standard operators and all weights inside the file; got {len(graph.node)},"
                f" domains {foreign}, weights outside {outside[:3]}"
            )
        return cls(model, list(graph.node), {t.name: numpy_helper.to_array(t) for t in graph.initializer})

    @property
    def makers(self) -> dict[str, onnx.NodeProto]:
        return {out: node for node in self.nodes for out in node.output}

    def op(
        self, kind: str, inputs: Sequence[str], out: str, more: Sequence[str] = (), **attributes: int | float
    ) -> str:
        """Append one node to `made`; the name of its first output."""
        self.made.append(helper.make_node(kind, list(inputs), [out, *more], f"{out}_node", **attributes))  # type: ignore[arg-type]
        return out

    def constant(self, name: str, value: Array) -> str:
        self.constants[name] = np.ascontiguousarray(value)
        return name

    def write(self, facts: Mapping[str, str], outputs: Sequence[str] = ()) -> bytes:
        """The file: live nodes and constants alone, checked by ONNX, metadata kept and `facts` added.

        `outputs`: further float32 tensors to give out (to calibrate).
        """
        keep = {o.name for o in self.model.graph.output} | set(outputs)
        live: list[onnx.NodeProto] = []
        for node in reversed(self.nodes):
            if keep & set(node.output):
                live.append(node)
                keep.update(node.input)
        live.reverse()
        ports = list(self.model.graph.output)
        ports += [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
        tensors = [numpy_helper.from_array(value, name) for name, value in self.constants.items() if name in keep]
        graph = helper.make_graph(live, self.model.graph.name, list(self.model.graph.input), ports, tensors)
        model = helper.make_model(graph, opset_imports=list(self.model.opset_import), producer_name="affectstream")
        model.ir_version = self.model.ir_version
        metadata = {p.key: p.value for p in self.model.metadata_props}
        helper.set_model_props(model, {**metadata, **facts})
        if not outputs:  # the checker wants the shapes of what is given out, and those are not known here
            onnx.checker.check_model(model, full_check=True)
        packed: bytes = model.SerializeToString(deterministic=True)
        return packed


@dataclass(frozen=True, slots=True)
class Linear:
    """One product with a constant matrix. `x`, `out`: names of what goes in and comes out; weight is [in, out].

    `head`: its result is what the graph gives out (plus a bias). `contracting`: fewer columns come out than go in, as
    in the second half of a feed-forward layer.
    """

    node: onnx.NodeProto
    x: str
    weight: str
    out: str
    head: bool
    contracting: bool


def linears(graph: Rewrite) -> list[Linear]:
    """Every `MatMul` with a constant float matrix, in order."""
    outputs = {o.name for o in graph.model.graph.output}
    last = {name for node in graph.nodes if outputs & set(node.output) for name in (*node.input, *node.output)}
    found = []
    for node in graph.nodes:
        if node.op_type != "MatMul" or node.input[1] not in graph.constants:
            continue
        weight = graph.constants[node.input[1]]
        if weight.ndim == 2 and weight.dtype == np.float32:
            out = node.output[0]
            narrow = weight.shape[0] > weight.shape[1]
            found.append(Linear(node, node.input[0], node.input[1], out, out in last, narrow))
    return found
