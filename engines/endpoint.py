"""The engine `endpoint`: a model behind an OpenAI-compatible chat endpoint. The door of `httpx`.

The key goes into one header of requests to one host, and nowhere else: redirects are not followed, what the other side
says is never quoted, proxies and `.netrc` of the environment are not looked at.
"""

from __future__ import annotations

import hashlib
import logging
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec
import numpy as np

from engines.base import EngineSpec, HeadSpec, ScoreBatch, TensorBatch
from engines.endpoint_cache import AnswerCache
from engines.endpoint_prompt import Abstained, Answer, EndpointOptions, digest, probabilities, read, request
from engines.errors import EndpointRefused, EngineAway, ManifestInvalid, MissingExtra, ShapeMismatch
from engines.tasks import TaskSpec

TRIES: Final = 5
LONGEST_WAIT_S: Final = 60.0
"""An endpoint that wants more than this is away; whoever asks again before its time is over is told so unsent."""
MAX_BODY: Final = 1 << 20
ANSWER_TOKENS: Final = 200
"""Tokens of an answer at most, for each post and task."""
BYTES_PER_TOKEN: Final = 4
"""A guess, for requests whose answer does not say what they took."""
PROBE: Final = "Good morning."
LOG = logging.getLogger("affect.endpoint")


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    total_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0


class _Envelope(msgspec.Struct):
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]
    usage: _Usage | None = None


class _Failed(Exception):
    """A try that may go better the next time; `after_s`: what the endpoint asks to wait. `free`: not worked on."""

    def __init__(self, why: str, after_s: float | None = None, free: bool = False) -> None:
        super().__init__(why)
        self.after_s = after_s
        self.free = free


def featurize(texts: Sequence[str]) -> TensorBatch:
    """`texts`: objects [rows], the texts as they are."""
    made = np.empty(len(texts), np.object_)
    made[:] = texts
    return TensorBatch(len(texts), {"texts": made})


class EndpointEngine:
    """Implements `Engine`. Unlike the others its scores are not exact: a model elsewhere may answer otherwise the next
    time. An answer once given is remembered, by text, prompt and model.

    What passes by itself (time-outs, 429, 5xx, no connection, a body that is no completion) is tried `TRIES` times with
    jittered back-off, then `EngineAway`. A row without a usable answer is in `ScoreBatch.abstained`.

    Args:
        address: `https://HOST[/path]`, where `/v1/chat/completions` is; `http` with a key on this machine alone.
        tasks: what is asked. key: secret, "" = none. deadline_s: longest wait for one answer.
        wait: sleeps so many seconds, True = give up; clock: seconds; luck: in [0, 1). For tests.

    Raises:
        ManifestInvalid: address, model, key or a task cannot be used. MissingExtra: httpx is not installed.
    """

    def __init__(
        self,
        address: str,
        options: EndpointOptions,
        tasks: Sequence[TaskSpec],
        key: str = "",
        deadline_s: float = 30.0,
        wait: Callable[[float], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
        luck: Callable[[], float] = random.random,
    ) -> None:
        try:
            import httpx
        except ImportError as error:
            raise MissingExtra(
                "engine 'endpoint' needs httpx; install it with `pip install 'affectstream[endpoint]'`"
            ) from error
        _check(address, options, tasks, key)
        self._httpx = httpx
        self._host = urlsplit(address).hostname or ""
        self._url = address.rstrip("/").removesuffix("/v1") + "/v1/chat/completions"
        self._options, self._tasks, self._deadline_s = options, tuple(tasks), deadline_s
        self._closing = threading.Event()
        self._wait = self._closing.wait if wait is None else wait
        self._clock, self._luck = clock, luck
        self._asked = digest(options.model, tasks, options.prompt)
        self._cache = AnswerCache(Path(options.cache) if options.cache else None)
        for name in ("httpx", "httpcore"):  # they log addresses and headers of answers, where a key may be echoed
            logging.getLogger(name).setLevel(logging.WARNING)
        headers = {"content-type": "application/json", "accept": "application/json", "accept-encoding": "identity"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        self._client = httpx.Client(headers=headers, timeout=deadline_s, follow_redirects=False, trust_env=False)
        self._next_s = self._not_before_s = -np.inf
        self._answered = False
        self.requests = self.tokens = 0
        self.abstained: Counter[Abstained] = Counter()
        heads = tuple(HeadSpec(t.task, t.kind, t.labels, probability=True) for t in tasks)
        self.spec = EngineSpec(f"endpoint:{options.model}", self._asked[:8], "endpoint", heads, 256)

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        """Probabilities as stated by the model, not calibrated. Waits, so not in an event loop.

        Raises:
            ShapeMismatch: `texts` is missing or not [rows]. EngineAway: see the class.
            EndpointRefused: wrong key, model or address, or a redirect.
        """
        start = time.perf_counter()
        texts = batch.tensors.get("texts")
        if texts is None or texts.shape != (batch.rows,):
            raise ShapeMismatch(f"engine 'endpoint': expected 'texts' [{batch.rows}], got {sorted(batch.tensors)}")
        answers = self.answers([str(text) for text in texts])
        scores = {head.task: np.zeros((batch.rows, len(head.labels))) for head in self.spec.heads}
        abstained: dict[int, str] = {}
        for k, answer in enumerate(answers):
            if isinstance(answer, str):
                abstained[k] = answer
                continue
            for head in self.spec.heads:
                scores[head.task][k] = probabilities(head, answer)
        return ScoreBatch(scores, time.perf_counter() - start, abstained)

    def answers(self, texts: Sequence[str]) -> list[Answer | Abstained]:
        """The whole answer to each text (emotion, intensity, cause, stance), or why there is none. Raises as `infer`.

        What was answered before an error is remembered, and not asked again.
        """
        found: dict[str, Answer | Abstained] = {}
        missing = []
        for text in dict.fromkeys(texts):
            known = self._cache.get(self._key(text))
            if known is None:
                missing.append(text)
            else:
                found[text] = known
        step = self._options.batch
        for at in range(0, len(missing), step):
            part = missing[at : at + step]
            for text, answer in zip(part, self._ask(part), strict=True):
                found[text] = answer
                if isinstance(answer, str):
                    if not self.abstained[answer]:
                        LOG.warning("endpoint %s: a post has no score: %s (counted from here)", self._host, answer)
                    self.abstained[answer] += 1
        return [found[text] for text in texts]

    def close(self) -> None:
        """Close the connections; a wait between tries ends. Idempotent."""
        self._closing.set()
        self._client.close()

    def _key(self, text: str) -> str:
        return hashlib.sha256(self._asked.encode() + text.encode("utf-8", "surrogatepass")).hexdigest()

    def _ask(self, texts: list[str]) -> list[Answer | Abstained]:
        """One request; where its answer is of no use as a whole, one for each post: a bad one silences no other."""
        content, why = self._complete(texts)
        answers = None if why else read(content, self._tasks, texts)
        if answers is None:
            if len(texts) > 1 and why != "budget":
                return [self._ask([text])[0] for text in texts]
            return [why or "off_schema"] * len(texts)
        for text, answer in zip(texts, answers, strict=True):
            if answer is not None:
                self._cache.put(self._key(text), answer)
        return ["off_schema" if answer is None else answer for answer in answers]

    def _complete(self, texts: list[str]) -> tuple[str, Abstained | None]:
        """(content of the answer, None), or ("", why there is none)."""
        most = ANSWER_TOKENS * len(texts) * len(self._tasks)
        body = request(self._options.model, self._tasks, self._options.prompt, texts, most)
        why = ""
        for k in range(TRIES):
            budget, guess = self._options, len(body) // BYTES_PER_TOKEN
            if (budget.requests and self.requests >= budget.requests) or (
                budget.tokens and self.tokens + guess + most > budget.tokens
            ):
                return "", "budget"
            self._pace()
            self.requests += 1
            try:
                envelope = self._post(body)
            except _Failed as failed:
                if failed.free:  # an outage must not eat the budget, or posts would lose their scores to it
                    self.requests -= 1
                else:
                    self.tokens += guess
                why = str(failed)
                pause = self._luck() * min(20.0, 0.5 * 2**k)
                self._not_before_s = self._clock() + (failed.after_s or 0.0) + pause
                continue
            if envelope is None:
                self.tokens += guess
                if not self._answered:  # these posts, or whatever we ask? A restart must not end at one bad post
                    if texts == [PROBE]:
                        raise self._refused("a refusal of whatever is asked")
                    self._complete([PROBE])
                return "", "refused"
            self._answered = True
            choice = envelope.choices[0]
            said = choice.message.content or ""
            used = envelope.usage.total_tokens if envelope.usage else 0
            self.tokens += used or guess + len(said) // BYTES_PER_TOKEN
            if choice.message.refusal or choice.finish_reason == "content_filter":
                return "", "refused"
            return said, None
        raise EngineAway(f"endpoint {self._host}: {why}, {TRIES} times; tried again later")

    def _pace(self) -> None:
        """Wait until the rate, the back-off and the endpoint allow a request."""
        now = self._clock()
        due = max(self._next_s, self._not_before_s)
        if due - now > LONGEST_WAIT_S:
            raise EngineAway(f"endpoint {self._host}: asks to be left alone for {due - now:.0f} s more")
        if self._closing.is_set() or (due > now and self._wait(due - now)):
            raise EngineAway(f"endpoint {self._host}: closed; load it again")
        self._next_s = max(self._clock(), due) + 60.0 / self._options.per_minute

    def _post(self, body: bytes) -> _Envelope | None:
        """One try. None: the endpoint does not take this content."""
        started = self._clock()
        try:
            with self._client.stream("POST", self._url, content=body) as response:
                status, headers = response.status_code, response.headers
                if status == 429 or status == 408 or status >= 500:
                    raise _Failed(f"status {status}", _retry_after(headers.get("retry-after", "")), free=True)
                if status in (400, 413, 422):
                    return None
                if status != 200:
                    what = "a redirect, which is not followed" if 300 <= status < 400 else f"status {status}"
                    raise self._refused(what)
                if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                    raise _Failed("an answer that is not application/json")
                if headers.get("content-encoding", "identity") != "identity":
                    raise _Failed("an answer that is packed, though none was asked for")
                raw = b""
                for chunk in response.iter_raw():
                    raw += chunk
                    if len(raw) > MAX_BODY:
                        raise _Failed(f"an answer of more than {MAX_BODY} bytes")
                    if self._clock() - started > self._deadline_s:
                        raise _Failed(f"no whole answer within {self._deadline_s:g} s")
        except (self._httpx.HTTPError, self._httpx.InvalidURL, self._httpx.StreamError) as error:
            free = isinstance(error, self._httpx.ConnectError | self._httpx.ConnectTimeout)
            # The error's own words may quote the request.
            raise _Failed(f"no answer ({type(error).__name__})", free=free) from None
        try:
            return msgspec.json.decode(raw, type=_Envelope)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            raise _Failed("an answer that is no chat completion") from None

    def _refused(self, what: str) -> EndpointRefused:
        return EndpointRefused(
            f"endpoint {self._host}: expected an answer, got {what}; check engine.address, endpoint.model and the key"
            " in the variable that endpoint.key_env names"
        )


def _retry_after(value: str) -> float | None:
    """Seconds, from a whole number or a date (RFC 9110, 10.2.3); None where it says neither."""
    value = value.strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    try:
        when = parsedate_to_datetime(value)
        return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _check(address: str, options: EndpointOptions, tasks: Sequence[TaskSpec], key: str) -> None:
    """Refuse what cannot work or would give the key away; no message quotes the address or the key."""
    try:
        url = urlsplit(address)
        ok = url.scheme in ("http", "https") and url.hostname and (url.port or 1) > 0
    except ValueError:
        ok = False
    if not ok or url.query or url.fragment or "@" in url.netloc:
        raise ManifestInvalid(
            "engine.address: expected https://HOST[:PORT][/path] without user, query or fragment; got something else"
        )
    if key and url.scheme == "http" and url.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise ManifestInvalid("engine.address: expected https, for a key would go unprotected to another machine")
    if not re.fullmatch(r"[\x21-\x7e]*", key):
        raise ManifestInvalid("endpoint.key_env: the key expected printable ASCII without spaces, got something else")
    if not re.fullmatch(r"[\w./:-]{1,100}", options.model, re.ASCII):
        raise ManifestInvalid(f"endpoint.model: expected 1 to 100 letters, digits or ._/:-, got {options.model!r}")
    if not tasks or any(task.kind == "regression" for task in tasks):
        raise ManifestInvalid(f"engine 'endpoint': expected tasks with labels, got {[task.task for task in tasks]}")
