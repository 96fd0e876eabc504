"""What comes out of an encoder's file is what went in: exactly from float32, within half a step from int8."""

from __future__ import annotations

import numpy as np
import pytest

from engines.encoder_weights import encoder_weights
from engines.errors import ManifestInvalid
from tests.engines import tiny


@pytest.mark.parametrize("int8", [False, True])
def test_the_weights_come_back(int8: bool) -> None:
    found, want = encoder_weights(tiny.packed(int8)), tiny.weights()
    assert (found.blocks, found.heads, found.pieces) == (tiny.LAYERS, tiny.ATTENTION, len(tiny.VOCABULARY))
    assert (found.outputs, found.epsilon) == (tiny.OUTPUTS, pytest.approx(tiny.EPSILON))
    assert found.arrays.keys() == want.keys()
    for k in range(tiny.LAYERS):  # the graph has 1 / sqrt(depth) in its queries
        for name in (f"blocks.{k}.qkv.weight", f"blocks.{k}.qkv.bias"):
            want[name] = want[name].copy()
            want[name][: tiny.WIDTH] *= tiny.DEEP**-0.5
    for name, array in want.items():
        products = name.split(".")[-2] in ("qkv", "out", "up", "down") and name.endswith("weight")
        step = np.abs(array).max(-1, keepdims=True) / (64 if products else 127)
        exact = not int8 or not (products or name == "pieces.weight")
        assert (np.abs(found.arrays[name] - array) <= (1e-7 if exact else step / 2 + 1e-6)).all(), name


def test_a_file_that_is_no_encoder_of_ours_is_refused() -> None:
    with pytest.raises(ManifestInvalid, match="no encoder of ours"):
        encoder_weights(b"nothing")
