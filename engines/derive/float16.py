"""A typed float16 graph of a float32 one: TensorRT 11 has no switch for half precision, the graph itself says it.

Normalisation, softmax, sums and quotients stay float32 between explicit casts: squares and long sums lose too much in
11 bits. Inputs and outputs keep their types. A CPU without half arithmetic emulates it: the file is for a GPU, and is
scored on a CPU to be judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto

from engines.derive.rewrite import Rewrite
from engines.errors import ManifestInvalid

KEPT: Final = ("LayerNormalization", "Softmax", "ReduceSum", "ReduceMean", "Div")
"""Operators that compute in float32."""
LARGEST: Final = 65504.0


def float16(packed: bytes, facts: Mapping[str, str]) -> bytes:
    """The typed graph.

    Raises:
        ManifestInvalid: no float32 graph of standard operators, or a weight too large for float16.
    """
    graph = Rewrite.read(packed)
    whole = sorted({n.op_type for n in graph.nodes} & {"MatMulInteger", "DynamicQuantizeLinear", "QuantizeLinear"})
    if whole:
        raise ManifestInvalid(f"expected a float32 graph, got one with {whole}; derive fp32 first")
    _Typed(graph).rewrite()
    return graph.write(facts)


@dataclass(slots=True)
class _Typed:
    """`half` and `full`: name of each float tensor in float16 and in float32, as far as there is one."""

    graph: Rewrite
    half: dict[str, str] = field(default_factory=dict)
    full: dict[str, str] = field(default_factory=dict)

    def rewrite(self) -> None:
        graph = self.graph
        floats = {name for name, value in graph.constants.items() if value.dtype == np.float32}
        floats |= {i.name for i in graph.model.graph.input if i.type.tensor_type.elem_type == TensorProto.FLOAT}
        self.full.update({name: name for name in floats})
        outputs = {o.name for o in graph.model.graph.output}
        for node in graph.nodes:
            kept = node.op_type in KEPT
            new = onnx.NodeProto()
            new.CopyFrom(node)
            floating = [k for k, name in enumerate(node.input) if name in self.half or name in self.full]
            for k in floating:
                new.input[k] = self.in_full(node.input[k]) if kept else self.in_half(node.input[k])
            graph.made.append(new)
            if node.op_type == "Cast" and _target(node) == TensorProto.FLOAT:
                del new.attribute[:]
                new.attribute.append(onnx.helper.make_attribute("to", int(TensorProto.FLOAT16)))
            elif not floating or node.op_type in ("Shape", "Cast"):
                continue
            for k, name in enumerate(node.output):
                if name in outputs:
                    new.output[k] = f"{name}.half"
                    graph.op("Cast", [new.output[k]], name, to=int(TensorProto.FLOAT))
                else:
                    (self.full if kept else self.half)[name] = name
        graph.nodes = graph.made

    def in_half(self, name: str) -> str:
        """The tensor in float16; a constant is cut once, anything else gets a cast."""
        if name not in self.half:
            value = self.graph.constants.get(name)
            if value is None:
                self.half[name] = self.graph.op("Cast", [name], f"{name}.half", to=int(TensorProto.FLOAT16))
            else:
                if np.abs(value.astype(np.float64)).max(initial=0.0) > LARGEST:
                    raise ManifestInvalid(f"weight {name!r} reaches beyond {LARGEST:.0f}: float16 cannot hold it")
                self.half[name] = self.graph.constant(f"{name}.half", value.astype(np.float16))
        return self.half[name]

    def in_full(self, name: str) -> str:
        if name not in self.full:
            self.full[name] = self.graph.op("Cast", [name], f"{name}.full", to=int(TensorProto.FLOAT))
        return self.full[name]


def _target(node: onnx.NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "to"), 0)
