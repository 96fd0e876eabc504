"""How many operations the matrix products of an ONNX file take for one row of a given length."""

from __future__ import annotations

from math import prod

from engines.errors import ManifestInvalid, MissingExtra

_PRODUCTS = ("MatMul", "MatMulInteger", "Gemm")


class Operations:
    """Counts 2 x rows x depth x columns of every product of an encoder's graph (inputs `ids` and `mask`).

    Raises:
        MissingExtra: the package onnx is not installed.
        ManifestInvalid: the bytes are no graph of that kind.
    """

    def __init__(self, model: bytes) -> None:
        try:
            import onnx
        except ImportError as error:
            raise MissingExtra(
                "counting a model's operations needs the package onnx; pip install 'affectstream[import]'"
            ) from error
        self._onnx = onnx
        try:
            self._graph = onnx.load_from_string(model)
        except Exception as error:  # protobuf raises its own kinds
            raise ManifestInvalid(f"no ONNX file: {error}; restore the model") from error
        if {"ids", "mask"} - {i.name for i in self._graph.graph.input}:
            raise ManifestInvalid("the graph has no inputs `ids` and `mask`; it is no encoder of ours")

    def __call__(self, tokens: int) -> float:
        """Operations of one row of `tokens` tokens: 2 or more (its ends)."""
        graph = self._onnx.ModelProto()
        graph.CopyFrom(self._graph)
        for port in graph.graph.input:
            for dim, size in zip(port.type.tensor_type.shape.dim, (1, tokens), strict=True):
                dim.dim_value = size
        known = self._onnx.shape_inference.infer_shapes(graph, data_prop=True).graph
        shapes = {t.name: tuple(t.dims) for t in known.initializer}
        for value in (*known.value_info, *known.input, *known.output):
            shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        total = 0.0
        for node in known.node:
            if node.op_type in _PRODUCTS:
                out, left = shapes.get(node.output[0], ()), shapes.get(node.input[0], ())
                if not out or not left or not all(out):
                    raise ManifestInvalid(f"the shape of {node.name} cannot be inferred; count nothing for this file")
                total += 2.0 * prod(out) * left[-1]
        return total
