"""DistilBertForSequenceClassification (Sanh et al. 2019), told in BERT's words: half the blocks, no token types, and a
layer with ReLU, not tanh, between the first token and the classifier.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import numpy as np

from engines.imports.given import F32, Config

_WORDS: Final = (
    (r"^distilbert\.", ""),
    (r"^transformer\.layer\.", "encoder.layer."),
    (r"\.attention\.q_lin\.", ".attention.self.query."),
    (r"\.attention\.k_lin\.", ".attention.self.key."),
    (r"\.attention\.v_lin\.", ".attention.self.value."),
    (r"\.attention\.out_lin\.", ".attention.output.dense."),
    (r"\.sa_layer_norm\.", ".attention.output.LayerNorm."),
    (r"\.ffn\.lin1\.", ".intermediate.dense."),
    (r"\.ffn\.lin2\.", ".output.dense."),
    (r"\.output_layer_norm\.", ".output.LayerNorm."),
    (r"^pre_classifier\.", "pooler.dense."),
)
"""Their names -> BERT's."""


def tensors_of(config: Config, tensors: Mapping[str, F32]) -> dict[str, F32]:
    """The tensors under BERT's names, with token types that add nothing."""
    found = {}
    for name, value in tensors.items():
        for theirs, berts in _WORDS:
            name = re.sub(theirs, berts, name)
        found[name] = value
    return found | {"embeddings.token_type_embeddings.weight": np.zeros((2, config.hidden_size), np.float32)}
