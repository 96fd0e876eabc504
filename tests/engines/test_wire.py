"""The wire of the engine server: whole messages come through unchanged, and nothing else comes through at all."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.base import Recipe
from engines.stub import stub_spec
from engines.wire import (
    KINDS,
    MAGIC,
    MAX_ASK_HEADER,
    MAX_TENSORS,
    REFUSALS,
    VERSION,
    Answer,
    Ask,
    BadMessage,
    Beat,
    Garbage,
    Hello,
    Ready,
    Refusal,
    Tensor,
    WrongVersion,
    described,
    pack,
    read_answer,
    read_ask,
)

OURS = (Garbage, WrongVersion, BadMessage)
arrays = st.builds(
    lambda kind, shape, byte: np.full(shape, byte, np.uint8).view(np.uint8).astype(np.dtype(kind)),
    st.sampled_from(KINDS),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    st.integers(0, 255),
)


def ask_of(tensors: dict[str, np.ndarray], **more: object) -> Ask:
    words: dict[str, object] = {
        "number": 1,
        "rows": 1,
        "features": "f",
        "tensors": described(tensors),
        "deadline_ms": 9,
    }
    return msgspec.convert({**words, "type": "ask", **more}, Ask)


def raw(message: object, *frames: bytes) -> list[bytes]:
    return [MAGIC + bytes((VERSION,)) + msgspec.msgpack.encode(message), *frames]


@given(st.dictionaries(st.text("abc", min_size=1, max_size=5), arrays, max_size=4))
def test_a_request_comes_through(tensors: dict[str, np.ndarray]) -> None:
    ask = ask_of(tensors, model="a@b", attempt=3)
    message, found = read_ask(pack(ask, list(tensors.values())))
    assert message == ask
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert found[name].tobytes() == tensor.tobytes()


@pytest.mark.parametrize(
    "message",
    [
        Ready(stub_spec(), "f", 4, 500, Recipe("pieces", max_tokens=3, vocabulary=("a", "[UNK]"))),
        Beat(3),
        Refusal(7, "QueueFull", "later"),
    ],
    ids=lambda m: type(m).__name__,
)
def test_what_a_server_says_comes_through(message: Ready | Beat | Refusal) -> None:
    assert read_answer(pack(message)) == (message, {})
    assert read_ask(pack(Hello())) == (Hello(), {})


def test_answers_keep_every_bit_of_their_logits() -> None:
    logits = {"a": np.array([[np.nan, -0.0], [1e-308, np.inf]]), "b": np.zeros((2, 0))}
    answer = Answer(5, "m@v", 0.25, described(logits))
    message, found = read_answer(pack(answer, list(logits.values())))
    assert message == answer
    assert {task: values.tobytes() for task, values in found.items()} == {t: v.tobytes() for t, v in logits.items()}


ONE = np.zeros((1, 2), np.float32)
BAD = {
    "huge shape": (Tensor("x", "<f4", (2**31, 2**31)), ONE),
    "shape that overflows": (Tensor("x", "<f8", (2**26, 2**26, 2**26, 2**26)), ONE),
    "negative": (Tensor("x", "<f4", (-1, -2)), ONE),
    "too many dimensions": (Tensor("x", "<f4", (1,) * 5 + (2,)), ONE),
    "one byte short": (Tensor("x", "<f8", (1, 2)), ONE),
    "objects": (Tensor("x", "|O8", (1,)), ONE),
    "text": (Tensor("x", "<U2", (1,)), ONE),
    "no name": (Tensor("", "<f4", (1, 2)), ONE),
    "long name": (Tensor("x" * 65, "<f4", (1, 2)), ONE),
}


@pytest.mark.parametrize(("head", "tensor"), BAD.values(), ids=BAD)
def test_tensors_that_do_not_fit_their_frame_are_refused_by_name(head: Tensor, tensor: np.ndarray) -> None:
    ask = Ask(77, 1, "f", (head,), 9)
    with pytest.raises(BadMessage) as refused:
        read_ask(raw(ask, tensor.tobytes()))
    assert refused.value.asked == 77
    with pytest.raises(BadMessage):
        read_answer(raw(Answer(1, "m", 0.0, (head,)), tensor.tobytes()))


@pytest.mark.parametrize(
    "words",
    [{"number": 0}, {"number": -5}, {"rows": -1}, {"rows": 2**40}, {"deadline_ms": 0}, {"deadline_ms": 2**50}],
    ids=str,
)
def test_numbers_out_of_bounds_are_refused(words: dict[str, int]) -> None:
    with pytest.raises(BadMessage):
        read_ask(pack(ask_of({}, **words)))


def test_too_much_of_anything_is_refused() -> None:
    head = Tensor("x", "|u1", (0,))
    many = tuple(Tensor(f"x{k}", "|u1", (0,)) for k in range(MAX_TENSORS + 1))
    for frames in (
        raw(Ask(1, 1, "f", (head, head), 9), b"", b""),  # a name twice
        raw(Ask(1, 1, "f", (head,), 9)),  # a frame missing
        raw(Ask(1, 1, "f", (head,), 9), b"", b""),  # one too many
        raw(Ask(1, 1, "f", many, 9), *[b""] * len(many)),
        raw(Ask(1, 1, "f" * MAX_ASK_HEADER, (), 9)),
    ):
        with pytest.raises(BadMessage):
            read_ask(frames)


def test_another_version_and_other_programs_are_told_apart() -> None:
    frames = pack(Hello())
    with pytest.raises(WrongVersion, match="version 9"):
        read_ask([MAGIC + b"\x09" + bytes(frames[0])[4:]])
    for bad in ([], [b""], [b"aff"], [b"GET / HTTP/1.1\r\n\r\n"], [bytes(frames[0]), b"more"], raw(Beat()), raw(7)):
        with pytest.raises(Garbage):
            read_ask(bad)
    with pytest.raises(Garbage):
        read_answer(frames)  # a client's word is no answer


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=60), max_size=4), st.booleans(), st.data())
def test_no_bytes_do_anything_but_be_refused(frames: list[bytes], dressed: bool, data: st.DataObject) -> None:
    """Noise, noise with our magic in front, and our own messages with some bytes changed."""
    if dressed:
        good = b"".join(bytes(f) for f in pack(ask_of({"x": ONE}), [ONE])[:1])
        at = data.draw(st.integers(0, len(good) - 1))
        frames = [good[:at] + data.draw(st.binary(min_size=1, max_size=4)) + good[at + 1 :], *frames]
    for read in (read_ask, read_answer):
        try:
            message, found = read(frames)
        except OURS:
            continue
        assert sum(t.nbytes for t in found.values()) == sum(map(len, frames[1:]))
        assert isinstance(message, Hello | Ask | Ready | Beat | Answer | Refusal)


def test_every_error_that_travels_says_whether_asking_again_may_help() -> None:
    assert {name for name, again in REFUSALS.items() if not again} == {"ShapeMismatch", "WrongVersion", "BadMessage"}
