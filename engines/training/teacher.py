"""What a trained encoder says of many texts: the soft labels of a smaller model (Hinton et al. 2015)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from engines.training.data import held_texts, normalise, read_rows
from engines.training.encoder import Encoder
from engines.wordpieces import WordPieces

F32 = NDArray[np.float32]
UNLABELLED = tuple(
    f"tweeteval/{name}"
    for name in (
        "emoji",
        "hate",
        "irony",
        "offensive",
        "stance_abortion",
        "stance_atheism",
        "stance_climate",
        "stance_feminist",
        "stance_hillary",
    )
)
"""Sets whose training texts are read without their labels: tweets, by a README "released without any restrictions"."""
_BATCH = 64
_PART = 8192


def outputs(encoder: Encoder, pieces: WordPieces, texts: Sequence[str], device: str, half: bool) -> F32:
    """Outputs of all heads, float32 [texts, outputs]; `half`: products in bfloat16."""
    batch = pieces.featurize(texts)
    ids, offsets = batch.tensors["ids"].astype(np.int64), batch.tensors["offsets"].astype(np.int64)
    lengths = np.diff(offsets)
    order = np.argsort(lengths, kind="stable")
    parts = []
    with torch.no_grad(), torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
        for at in range(0, len(order), _BATCH):
            rows = order[at : at + _BATCH]
            places = np.arange(int(lengths[rows].max()))
            there = places < lengths[rows][:, None]
            padded = np.where(there, ids[np.where(there, offsets[rows][:, None] + places, 0)], 0)
            mask = torch.from_numpy(there.astype(np.float32)).to(device)
            parts.append(encoder(torch.from_numpy(padded).to(device), mask).float().cpu().numpy())
    whole = np.empty((len(order), parts[0].shape[1]), np.float32)
    whole[order] = np.concatenate(parts)
    return whole


def told(encoder: Encoder, pieces: WordPieces, texts: Sequence[str], half: bool, work: Path) -> F32:
    """`outputs` of many texts, with progress; what is in `work` from an interrupted run is not asked again.

    A part is kept under the digest of its texts, so `work` belongs to one teacher.
    """
    work.mkdir(parents=True, exist_ok=True)
    found = []
    with tqdm(total=len(texts), unit="text", desc="asking the teacher", mininterval=5.0) as bar:
        for at in range(0, len(texts), _PART):
            some = texts[at : at + _PART]
            path = work / f"{hashlib.sha256(chr(0).join(some).encode('utf-8', 'surrogatepass')).hexdigest()[:16]}.npy"
            if not path.exists():
                fresh = path.with_suffix(".new.npy")
                np.save(fresh, outputs(encoder, pieces, some, "cpu", half))
                fresh.replace(path)
            found.append(np.load(path))
            bar.update(len(some))
    return np.concatenate(found)


def unlabelled(root: Path) -> tuple[list[str], int]:
    """(texts of `UNLABELLED`, each once; how many were left out: the text is a dev or test text of some set)."""
    held = held_texts(root)
    texts, dropped, seen = [], 0, {""}
    for name in UNLABELLED:
        for row in read_rows(root / name / "train.jsonl.gz"):
            text = str(row["text"])
            plain = normalise(text)
            if plain in held:
                dropped += 1
            elif plain not in seen:
                seen.add(plain)
                texts.append(text)
    return texts, dropped
