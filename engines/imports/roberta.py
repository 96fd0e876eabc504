"""RobertaForSequenceClassification (Liu et al. 2019), told in BERT's words: one token type, no pooler of the body's but
a layer with tanh in the classifier, and positions that begin behind the number of the padding piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from engines.errors import ImportRefused
from engines.imports.given import F32, ROBERTA_SKIPS, Config

_WORDS: Final = {"classifier.dense.": "pooler.dense.", "classifier.out_proj.": "classifier."}
"""Their names -> BERT's, behind `roberta.`."""


def tensors_of(_: Config, tensors: Mapping[str, F32]) -> dict[str, F32]:
    """The tensors under BERT's names, with a second token type that is never asked.

    Raises:
        ImportRefused: more than one token type, or no positions.
    """
    found = {}
    for name, value in tensors.items():
        if name.startswith("roberta.pooler."):  # older files keep one that their classifier never asks
            continue
        name = name.removeprefix("roberta.")
        for theirs, berts in _WORDS.items():
            name = berts + name.removeprefix(theirs) if name.startswith(theirs) else name
        found[name] = value
    types, positions = (f"embeddings.{name}_embeddings.weight" for name in ("token_type", "position"))
    if any(name not in found or found[name].ndim != 2 for name in (types, positions)) or len(found[types]) != 1:
        raise ImportRefused(f"model.safetensors: expected {positions}, and {types} of one row, as RoBERTa has them")
    found[types] = np.concatenate([found[types], np.zeros_like(found[types])])
    found[positions] = found[positions][ROBERTA_SKIPS:]
    return found
