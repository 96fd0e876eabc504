"""Why a message became a dead letter: the fixed words of `Rejected.reason` and of deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "too_large": "more bytes than the gate admits",
        "empty": "no bytes at all (or a tombstone)",
        "bad_magic": "neither Confluent-framed Avro (byte 0) nor a JSON object ({)",
        "unknown_schema": "the registry holds no schema under the id in the frame",
        "incompatible_schema": "the writer's schema is known but cannot be read as the record wanted here",
        "too_deep": "JSON nested deeper than the gate admits",
        "bad_varint": "Avro number longer than its type allows",
        "bad_length": "Avro string, bytes or block with a negative length",
        "bad_block_count": "Avro array or map block that claims more items than the bytes left can hold",
        "bad_index": "Avro union branch or enum symbol that does not exist",
        "bad_value": "Avro boolean that is neither 0 nor 1",
        "truncated": "the message ends before its schema does",
        "trailing_bytes": "bytes left over after the record",
        "bad_utf8": "text that is not UTF-8",
        "bad_json": "not JSON by RFC 8259 (NaN, Infinity, raw control characters, lone surrogates included)",
        "missing_field": "a required field is absent",
        "wrong_type": "a field holds another type, or a number out of its range",
        "not_finite": "NaN or an infinity where a number is wanted",
        "bad_shape": "byte columns whose lengths or rows do not fit together",
        "bad_cells": "pane cells whose bytes do not make a block",
        "bad_id": "`id` empty",
        "empty_text": "`text` empty or only white space",
        "too_long": "a short field (id, author, place, event, ticker) over its cap",
        "bad_timestamp": "`created_at` unreadable, before 1970 or after 9999, or absent with no arrival time either",
        "not_a_picture": "a frame that is no whole PNG or JPEG, by its header or its decoder",
        "too_small": "a frame with fewer pixels a side than can hold a face",
        "bad_frame": "a record of a frames topic whose parts do not fit its body, its topic or this run",
        "not_a_sound": "a sound that is no WAV or FLAC of finite samples within the bounds",
        "future_timestamp": "`created_at` further after the arrival time than allowed",
        "undecodable": "the decoder refused what the gate let pass; a bug worth a report, the stream goes on",
        "webhook_refused": "the alert was delivered to a webhook that does not want it; `detail` has its answer",
        "webhook_stale": "the alert could not be delivered for so long that it helps nobody any more",
    }
)
