"""A model behind a chat endpoint: what it says is taken as it says it or not at all, and the key goes nowhere else."""

from __future__ import annotations

import asyncio
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import numpy as np
import pytest
from chat_server import Body, ChatServer, Trick, answer, completion, fails, says, send
from hypothesis import given
from hypothesis import strategies as st

from engines.base import TensorBatch, TextModel
from engines.endpoint import featurize
from engines.endpoint_cache import AnswerCache
from engines.endpoint_prompt import Answer, read
from engines.errors import ManifestInvalid, ShapeMismatch
from operators.records import SignalRow
from stream.cli import main
from stream.config import Config, EngineConfig
from stream.connect import open_log
from stream.errors import UsageError
from stream.replaying import replay, replay_config
from tests.engines.endpoints import CANARY, FREE, MARKET, Time

pytestmark = pytest.mark.usefixtures("no_key_in_any_log")


def edited(change: object) -> Trick:
    """The good answer, changed by `change(posts)`."""

    def content(body: Body) -> str:
        good = answer(body)
        change(good["posts"])  # type: ignore[operator]
        return json.dumps(good)

    return says(content)


def test_posts_go_in_batches_and_stated_confidence_is_the_probability(server: ChatServer) -> None:
    engine = Time().engine(server, msgspec.structs.replace(FREE, batch=3))
    texts = ["oil down", "gold up", "odd \ud800", "gold up", "x"]
    raw = engine.infer(featurize(texts))
    assert [len(json.loads(body["messages"][1]["content"])) for _, body in server.asked] == [3, 1]
    assert not raw.abstained
    assert raw.logits["bullbear3"].tolist() == [[k, 0.125, 0.75 + 0.125 - k] for k in (0.125, 0.75, 0.125, 0.75, 0.125)]
    assert raw.logits["emtract7"].sum(axis=1) == pytest.approx(np.ones(5))
    whole = engine.answers(["oil down"])[0]
    assert isinstance(whole, Answer)
    assert (whole.cause, whole.intensity, whole.stance) == ("oil ", 0.5, "none")
    assert (engine.requests, engine.tokens, len(server.asked)) == (2, 200, 2)
    headers, body = server.asked[0]
    assert headers["authorization"] == f"Bearer {CANARY}"
    assert body["model"] == "toy"
    assert CANARY not in json.dumps(body) + repr(engine) + repr(vars(engine)["_client"].headers)
    with pytest.raises(ShapeMismatch, match="texts"):
        engine.infer(TensorBatch(2, {}))
    engine.close()
    engine.close()


def doubled(posts: list[Body]) -> None:
    posts.append(posts[0])


def without_task(posts: list[Body]) -> None:
    del posts[0]["emotion"]["bullbear3"]


def other_label(posts: list[Body]) -> None:
    posts[0]["emotion"]["bullbear3"][0]["label"] = "sideways"


def two_labels(posts: list[Body]) -> None:
    posts[0]["emotion"]["bullbear3"].append({"label": "bullish", "confidence": 0.9})


def unlikely(posts: list[Body]) -> None:
    posts[0]["emotion"]["bullbear3"][0]["confidence"] = 0.2


def too_sure(posts: list[Body]) -> None:
    posts[0]["emotion"]["bullbear3"][0]["confidence"] = 1.5


def chatty(posts: list[Body]) -> None:
    posts[0]["note"] = "as a language model"


def gone(posts: list[Body]) -> None:
    del posts[0]


ODD = [doubled, without_task, other_label, two_labels, unlikely, too_sure, chatty, gone]


@pytest.mark.parametrize("change", ODD, ids=lambda f: f.__name__)
def test_a_post_off_the_schema_gets_no_score_and_its_neighbour_keeps_its_own(
    server: ChatServer, change: object
) -> None:
    server.always = edited(change)
    engine = Time().engine(server)
    raw = engine.infer(featurize(["one", "two up"]))
    assert dict(raw.abstained) == {0: "off_schema"}
    assert raw.logits["bullbear3"][1].tolist() == [0.75, 0.125, 0.125]
    assert engine.abstained == {"off_schema": 1}
    server.always = None
    assert not engine.infer(featurize(["one"])).abstained  # it was not remembered
    engine.close()


@pytest.mark.parametrize(
    ("trick", "why"),
    [
        (says("I think they are angry."), "off_schema"),
        (says('{"posts": ' + "[" * 100_000), "off_schema"),
        (says('{"posts":' * 5_000 + "1" + "}" * 5_000), "off_schema"),
        (says("{}", finish_reason="length"), "off_schema"),
        (says("", message={"role": "assistant", "content": None, "refusal": "no"}), "refused"),
        (says("{}", finish_reason="content_filter"), "refused"),
    ],
)
def test_an_unreadable_or_refused_answer_is_asked_for_post_by_post(server: ChatServer, trick: Trick, why: str) -> None:
    engine = Time().engine(server)
    server.tricks = [trick, trick]
    raw = engine.infer(featurize(["bad", "good up"]))
    assert dict(raw.abstained) == {0: why}
    assert raw.logits["bullbear3"][1].tolist() == [0.75, 0.125, 0.125]
    server.tricks = [fails(400, {"error": CANARY})]  # a post it does not take, once it has answered others
    assert dict(engine.infer(featurize(["too odd"])).abstained) == {0: "refused"}
    engine.close()


def test_a_bad_post_right_after_the_start_does_not_end_the_run(server: ChatServer) -> None:
    def picky(h: BaseHTTPRequestHandler, body: Body) -> bool:
        return "bad" in body["messages"][1]["content"] and send(h, 400, {})

    server.always = picky
    engine = Time().engine(server)
    assert dict(engine.infer(featurize(["bad", "good"])).abstained) == {0: "refused"}
    assert len(server.asked) == 4  # both, whether it takes anything, one, the other
    engine.close()


def test_words_that_are_not_in_the_post_are_no_cause(server: ChatServer) -> None:
    def made_up(posts: list[Body]) -> None:
        posts[0]["cause"] = "the Fed"

    server.always = edited(made_up)
    engine = Time().engine(server)
    found = engine.answers(["a b", "c d"])
    assert [one.cause for one in found if isinstance(one, Answer)] == ["", "c d"]
    engine.close()


NESTED = st.recursive(
    st.none() | st.integers() | st.text(), lambda x: st.dictionaries(st.sampled_from(("posts", "post")), st.lists(x))
)


@given(st.text() | NESTED.map(json.dumps))
def test_no_content_whatever_makes_a_score_or_an_error(content: str) -> None:
    assert not any(read(content, MARKET, ["a", "b"]) or [])


def test_the_cache_is_bounded_keyed_by_prompt_and_model_and_keeps_no_text(server: ChatServer, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    options = msgspec.structs.replace(FREE, cache=str(path))
    first = Time().engine(server, options)
    want = first.infer(featurize(["secret words", "gold up"])).logits["emtract7"].tolist()
    first.close()
    assert b"secr" not in path.read_bytes()
    with path.open("ab") as file:
        file.write(b'{"key": "torn')
    server.always = fails(500)
    again = Time().engine(server, options)
    assert again.infer(featurize(["gold up", "secret words"])).logits["emtract7"].tolist() == want[::-1]
    again.close()
    server.always = None
    asked = len(server.asked)
    for other in ({"prompt": "positive"}, {"model": "other"}):
        engine = Time().engine(server, msgspec.structs.replace(options, **other))
        assert engine.spec.version != again.spec.version
        engine.infer(featurize(["gold up"]))
        engine.close()
    assert len(server.asked) == asked + 2
    small = AnswerCache(tmp_path / "small", most=3)
    for k in range(9):
        small.put(str(k), Answer(0, {}, 0.5, "", "none"))
    assert [small.get(str(k)) is not None for k in range(9)] == [False] * 6 + [True] * 3
    assert len((tmp_path / "small").read_bytes().splitlines()) == 3
    with pytest.raises(ManifestInvalid, match="cache"):
        AnswerCache(tmp_path)


def rows(file: Path, config: Config) -> list[bytes]:
    async def run() -> list[bytes]:
        log = open_log("memory://")
        found, _ = await replay(log, config, file)
        await log.close()
        return list(found.lines())

    return asyncio.run(run())


def test_a_stream_counts_abstained_posts_says_so_and_replays_to_the_same_bytes(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "posts.jsonl"
    post = {"author": "", "tickers": ["AAA"], "created_at": 1_709_562_600_000}
    given = [
        {**post, "id": str(k), "author": f"a{k}", "text": f"{'up' if k % 3 else 'odd'} {k} words"} for k in range(60)
    ]
    file.write_text("".join(json.dumps(one) + "\n" for one in given), "utf-8")
    config = msgspec.structs.replace(
        replay_config("market", windows=["1m"]),
        engine=EngineConfig(name="endpoint", address=server.address),
        endpoint=msgspec.structs.replace(FREE, cache=str(tmp_path / "cache"), key_env="TOY_KEY"),
    ).check()
    with pytest.raises(UsageError, match="TOY_KEY"):
        rows(file, config)
    monkeypatch.setenv("TOY_KEY", CANARY)

    def some(posts: list[Body]) -> None:
        """Every third post is answered with nonsense."""
        asked = json.loads(server.asked[-1][1]["messages"][1]["content"])
        for one, said in zip(asked, posts, strict=True):
            if "odd" in one["text"]:
                said["stance"] = "sideways"

    server.always = edited(some)
    live = rows(file, config)
    row = next(
        one for one in (msgspec.json.decode(line, type=SignalRow) for line in live)
        if (one.signal, one.entity) == ("market.bullishness", "ticker:AAA")
    )  # fmt: skip
    assert row.n == 60
    assert row.sampled == pytest.approx(2 / 3)
    assert "33% of the posts are not in the value: abstained" in row.reasons[0]
    assert row.value == pytest.approx((0.75 - 0.125) / (0.75 + 0.125))
    assert CANARY not in b"".join(live).decode()
    assert rows(file, config) == live
    asked = len(server.asked)
    server.always = None  # now it would answer all of them: what is known is not asked again
    assert rows(file, config) != live
    assert len(server.asked) - asked == 3


def test_prompts_are_compared_on_the_same_rows_with_intervals(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOY_KEY", CANARY)
    data = tmp_path / "rows.jsonl"
    given = [{"text": f"up {k}" if k % 2 else f"so {k}", "emotion": "happy" if k % 4 else "anger"} for k in range(120)]
    data.write_text("".join(json.dumps(row) + "\n" for row in given), "utf-8")

    def worse(h: BaseHTTPRequestHandler, body: Body) -> bool:
        """With the negative prompt every post is fearful."""
        good = answer(body)
        if "wrong" in body["messages"][0]["content"]:
            for one in good["posts"]:
                one["emotion"]["emtract7"][0]["label"] = "fear"
        return send(h, 200, completion(json.dumps(good)))

    server.always = worse
    words = [
        "research",
        "prompts",
        "--data",
        str(data),
        "--task",
        "emtract7",
        "--address",
        server.address,
        "--model",
        "toy",
    ]
    words += ["--key-env", "TOY_KEY", "--rows", "100", "--per-minute", "100000", "--batch", "20"]
    assert main([*words, "--json"]) == 0
    out = capsys.readouterr()
    plain, positive, negative = (json.loads(line) for line in out.out.splitlines())
    assert (plain["rows"], plain["abstained"], plain["delta"]) == (100, 0, None)
    assert plain["measured"]["lo"] < plain["measured"]["value"] < plain["measured"]["hi"]
    assert (positive["delta"], positive["lo"], positive["hi"]) == (0.0, 0.0, 0.0)
    assert negative["hi"] < 0
    assert negative["lo"] <= negative["delta"] <= negative["hi"]
    assert main([*words, "--variant", "plain", "--variant", "positive", "--requests", "2"]) == 0
    text = capsys.readouterr().out
    assert "60 of them abstained (counted as wrong)" in text
    assert "no difference shown" in text
    assert CANARY not in text + out.out + out.err
    monkeypatch.setenv("TOY_KEY", CANARY + "\x7f")
    assert main(words) == 1
    assert "printable" in capsys.readouterr().err


def test_more_rows_than_a_batch_keep_their_abstentions(server: ChatServer) -> None:
    server.always = edited(gone)
    engine = Time().engine(server, msgspec.structs.replace(FREE, batch=64))
    texts = [f"t{k}" for k in range(300)]
    assert sorted(TextModel(featurize, engine).logits(texts).abstained) == [0, 64, 128, 192, 256]
    engine.close()
