"""Settings: a TOML file, environment overrides, and what each one means. Unknown keys are errors."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from engines.choice import BETTER, LIVE
from engines.endpoint_prompt import EndpointOptions
from operators.classroom import FLOOR, SEATS, SHORTEST_MS
from operators.clock import Lateness
from operators.errors import ConfigInvalid
from operators.window import DEFAULT_WINDOWS, WindowSpec, parse_span
from stream.capture_config import CaptureConfig
from stream.errors import UsageError

DOMAINS = ("market", "crisis", "social", "classroom")
INPUT_TOPICS = {
    "market": "affect.posts.finance.v1",
    "crisis": "affect.posts.crisis.v1",
    "social": "affect.posts.social.v1",
    "classroom": "affect.participation.v1",
}


ROOM = re.compile(r"[A-Za-z0-9_-]{1,32}")
"""Name of a room."""


class LogConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """url: `memory://`, `sqlite:///PATH` or `kafka://HOST:PORT`. retention: how long outputs are kept."""

    url: str = "sqlite:///affect.db"
    retention: str = "7d"


class InputConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """topic: "" = the domain's own. partitions: made when the topic is missing. group: consumer group prefix.

    sectors: the sectors of a post's tickers are entities too (market). communities: so is the `source` of a post
    (social).
    """

    topic: str = ""
    partitions: int = 1
    group: str = "affect"
    sectors: bool = False
    communities: bool = False


class EngineConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """name: `hashed` (keeps up with a stream on one core), `auto` (every head from the model that is best at it; a
    hundred times slower), a model of `affect models list` (or NAME:PRECISION), `cascade` (`hashed` where it is sure,
    else `text-affect`), `remote` (what the engine server at `address` has), `endpoint` (a model behind the chat
    endpoint at `address`, see `EndpointOptions`), or `stub` (crc32 of the text: the stream alone is measured).

    cascade_above: posts waiting beyond which `text-affect` gives way to the cascade, until they are half of that (live
    runs; 0 = never). threads: posts that an encoder (`text-affect`) works on at the same time, 0 = one a core; changes
    no digit. address: of the engine server or endpoint. keys: folder of the keys a server asks for, "" = none.
    deadline: longest wait for an answer (of a server, while it shows signs of life).
    """

    name: str = LIVE
    cascade_above: int = 0
    threads: int = 1
    address: str = ""
    keys: str = ""
    deadline: str = "30s"


class WindowConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """sizes: `size` or `size/hop`. pane: length of a pane. minimum: below this effective sample a value is null."""

    sizes: tuple[str, ...] = DEFAULT_WINDOWS
    pane: str = "10s"
    minimum: float = 20.0


class TimeConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """disorder: the watermark trails the newest post by this. lateness: panes stay open to late posts this long.

    idle: a partition with nothing to read this long no longer holds the others back. future: a stamp further ahead of
    its arrival than this is rejected. dedupe: an id seen again within this is a duplicate.
    """

    disorder: str = "30s"
    lateness: str = "10m"
    idle: str = "30s"
    future: str = "60s"
    dedupe: str = "24h"


class RunConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """batch_size: posts per step. commit_interval: most time between commits. near_duplicates: look for edited copies.

    language: detect the language of posts that do not say; without it they count as English. in_flight_mib: posts read
    and not yet folded, in MiB, at most; partitions pause beyond. shed_above: posts waiting beyond which a random part
    is scored and stands for the others (live runs; 0 = never: everything is scored, however late). languages: only
    posts in a language the heads were `trained` on are in the values (and those too short to tell), or `all`.
    """

    workers: int = 1
    batch_size: int = 1000
    commit_interval: str = "1s"
    near_duplicates: bool = True
    language: bool = True
    in_flight_mib: int = 64
    shed_above: int = 0
    languages: Literal["all", "trained"] = "trained"


class PrivacyConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """author_key: secret of the author hash; set it in production (AFFECT_PRIVACY__AUTHOR_KEY)."""

    author_key: str = "affectstream-unset"


class WebConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """enabled: serve the live page. host, port: where; loopback unless told.

    token_env: name of the environment variable that holds the access token; "" = none is asked for. without_token: a
    network may read without one. allowed_hosts: further names of this machine. max_readers: event streams and
    WebSockets at once. postgres_env: name of the environment variable with the connection string of the tables that
    `affect sink postgres` fills: as-of answers come from there; "" = from the signal topic.
    """

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = 8642
    token_env: str = ""
    without_token: bool = False
    allowed_hosts: tuple[str, ...] = ()
    max_readers: int = 256
    postgres_env: str = ""


class RegistryConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """url: Confluent-compatible schema registry, "" = the schemas that ship with the package.

    cache: file that keeps what it said, so that a restart does without it; "" = none. ca: file of authorities, "" = the
    usual ones. timeout: longest wait for one read. Who we are comes from AFFECT_REGISTRY_USER and _PASSWORD, or _TOKEN.
    """

    url: str = ""
    cache: str = "affect-registry.json"
    ca: str = ""
    timeout: str = "2s"


class AlertsConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """rules: TOML file of `[[rule]]` tables (see deploy/config/alerts.toml), `shipped` = that one; "" = no alerts.

    webhook: address every alert is posted to, "" = none; signed with AFFECT_WEBHOOK_SECRET. page: address of the live
    page, for links in what is posted. posts: so many posts behind an alert, their ids and masked texts, go with what is
    posted; 0 = none leave this machine.
    """

    rules: str = ""
    webhook: str = ""
    page: str = ""
    posts: int = 0


class ClassroomConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """rooms: names of the rooms, each with a student and a teacher page. seats: consenting seats below which nothing
    is told, at least 5.
    """

    rooms: tuple[str, ...] = ("1",)
    seats: int = SEATS


class PolicyConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the deployment declares to the policy gate (`operators/policy.py`): all of it or nothing.

    jurisdiction: EU or a country code. setting, modalities, purpose, unit: see `affect policy check`; nothing given =
    what the domain is where it reads texts. controller, document: for the medical and safety exemption alone.
    research: this is research, so weights licensed for that alone may be loaded. audit: file of the audit log, "" =
    none (refused where faces or voices are looked at).
    """

    jurisdiction: str = "EU"
    setting: str = ""
    modalities: tuple[str, ...] = ()
    purpose: str = ""
    unit: str = ""
    controller: str = ""
    document: str = ""
    research: bool = False
    audit: str = ""


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Everything a run needs. domain: market, crisis, social or classroom."""

    domain: str = "market"
    log: LogConfig = LogConfig()
    input: InputConfig = InputConfig()
    engine: EngineConfig = EngineConfig()
    endpoint: EndpointOptions = EndpointOptions()
    windows: WindowConfig = WindowConfig()
    time: TimeConfig = TimeConfig()
    run: RunConfig = RunConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    web: WebConfig = WebConfig()
    alerts: AlertsConfig = AlertsConfig()
    registry: RegistryConfig = RegistryConfig()
    policy: PolicyConfig = PolicyConfig()
    classroom: ClassroomConfig = ClassroomConfig()
    capture: CaptureConfig = CaptureConfig()

    @property
    def topic(self) -> str:
        """The input topic."""
        return self.input.topic or INPUT_TOPICS[self.domain]

    @property
    def lateness(self) -> Lateness:
        return Lateness(
            disorder_ms=parse_span(self.time.disorder) if self.time.disorder != "0s" else 0,
            allowed_ms=parse_span(self.time.lateness) if self.time.lateness != "0s" else 0,
            pane_ms=parse_span(self.windows.pane),
        )

    @property
    def window_specs(self) -> tuple[WindowSpec, ...]:
        return tuple(WindowSpec.parse(text, parse_span(self.windows.pane)) for text in self.windows.sizes)

    def check(self) -> Config:
        """Refuse what cannot work, before the first record.

        Raises:
            UsageError, ConfigInvalid: one line that names the setting, what was expected and what was given.
        """
        if self.domain not in DOMAINS:
            raise UsageError(f"domain: expected one of {', '.join(DOMAINS)}, got {self.domain!r}")
        for name, value in (
            ("input.partitions", self.input.partitions),
            ("run.workers", self.run.workers),
            ("run.batch_size", self.run.batch_size),
            ("run.in_flight_mib", self.run.in_flight_mib),
            ("web.max_readers", self.web.max_readers),
        ):
            if not 1 <= value <= 1_000_000:
                raise UsageError(f"{name}: expected a whole number from 1 to 1000000, got {value}")
        if not 0 <= self.engine.threads <= 256:
            raise UsageError(f"engine.threads: expected a whole number from 0 to 256, got {self.engine.threads}")
        if self.engine.cascade_above < 0 or (self.engine.cascade_above and self.engine.name != BETTER):
            raise UsageError(
                f"engine.cascade_above: expected 0, or a number of posts with engine.name {BETTER!r}, got"
                f" {self.engine.cascade_above} with {self.engine.name!r}"
            )
        if self.engine.name == "remote" and not self.engine.address:
            raise UsageError("engine.address: expected that of an engine server, for engine.name is 'remote'; got none")
        if self.engine.name == "endpoint" and not (self.engine.address and self.endpoint.model):
            raise UsageError("engine.address, endpoint.model: expected both, for engine.name is 'endpoint'")
        if not 0 <= self.alerts.posts <= 50:
            raise UsageError(f"alerts.posts: expected a whole number from 0 to 50, got {self.alerts.posts}")
        if not self.windows.sizes:
            raise UsageError("windows.sizes: expected at least one window such as '5m/1m', got none")
        if not self.windows.minimum >= 1:  # NaN is refused too
            raise UsageError(f"windows.minimum: expected at least 1 post, got {self.windows.minimum}")
        if not 0 <= self.web.port <= 65535:
            raise UsageError(f"web.port: expected 0 (any free one) to 65535, got {self.web.port}")
        for name, asked, domain in (
            ("input.sectors", self.input.sectors, "market"),
            ("input.communities", self.input.communities, "social"),
        ):
            if asked and self.domain != domain:
                raise UsageError(f"{name}: expected domain {domain!r}, got {self.domain!r}; take it out")
        self._check_spans()
        self.capture.check(self.domain == "classroom" and self.web.enabled)
        if self.domain == "classroom":
            self._check_classroom()
        _ = self.lateness, self.window_specs, self.topic
        return self

    def _check_classroom(self) -> None:
        """What protects the seats of a room cannot be set away."""
        room = self.classroom
        if not FLOOR <= room.seats <= 200:
            raise UsageError(f"classroom.seats: expected {FLOOR} to 200, got {room.seats}: fewer seats would show one")
        if not 1 <= len(room.rooms) <= 64 or len(set(room.rooms)) != len(room.rooms):
            raise UsageError(f"classroom.rooms: expected 1 to 64 different names, got {list(room.rooms)}")
        for name in room.rooms:
            if not ROOM.fullmatch(name):
                raise UsageError(f"classroom.rooms: expected up to 32 letters, digits, - or _, got {name!r}")
        sizes = self.window_specs
        if len(sizes) != 1 or sizes[0].size_ms < SHORTEST_MS or sizes[0].hop_ms != sizes[0].size_ms:
            raise UsageError(
                f"windows.sizes: expected one window of 1m or longer without a hop, such as ['1m'], got "
                f"{list(self.windows.sizes)}: windows that overlap can be subtracted from each other"
            )
        if self.run.shed_above:
            raise UsageError(f"run.shed_above: expected 0 in a classroom, got {self.run.shed_above}")

    def _check_spans(self) -> None:
        may_be_none = {"time.disorder": self.time.disorder, "time.lateness": self.time.lateness}
        spans = {
            "log.retention": self.log.retention,
            "windows.pane": self.windows.pane,
            "time.idle": self.time.idle,
            "time.future": self.time.future,
            "time.dedupe": self.time.dedupe,
            "run.commit_interval": self.run.commit_interval,
            "registry.timeout": self.registry.timeout,
            "capture.retention": self.capture.retention,
            "engine.deadline": self.engine.deadline,
            **{name: span for name, span in may_be_none.items() if span != "0s"},
        }
        for name, span in spans.items():
            try:
                parse_span(span)
            except ConfigInvalid as error:
                raise UsageError(f"{name}: {error}") from error


def load_config(path: str | None, env: Mapping[str, str] | None = None) -> Config:
    """Read a TOML file (None = defaults), apply `AFFECT_SECTION__KEY` overrides, check everything.

    Raises:
        UsageError: file missing, not TOML, unknown key or wrong type; the message names file and key.
    """
    tree: dict[str, object] = {}
    if path is not None:
        try:
            tree = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"config {path}: cannot be read: {error.strerror or error}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"config {path}: not valid TOML: {error}") from error
    overrides = _override(tree, os.environ if env is None else env)
    where = path or "defaults"
    if overrides:
        where += f" with {', '.join(overrides)}"
    try:
        return msgspec.convert(tree, Config, strict=False).check()
    except msgspec.ValidationError as error:
        raise UsageError(f"config {where}: {error}; see deploy/config for commented examples") from error


_LISTS = (("windows", "sizes"), ("web", "allowed_hosts"), ("policy", "modalities"), ("classroom", "rooms"))


def _override(tree: dict[str, object], env: Mapping[str, str]) -> list[str]:
    """Put what the environment says into `tree`. Returns the names of the variables that said something."""
    found = []
    for name, value in env.items():
        if not name.startswith("AFFECT_") or name in ("AFFECT_DATA", "AFFECT_KAFKA"):
            continue
        section, _, key = name[len("AFFECT_") :].lower().partition("__")
        if not key:
            if section == "domain":
                tree["domain"] = value
                found.append(name)
            continue
        part = tree.setdefault(section, {})
        if not isinstance(part, dict):
            raise UsageError(f"{name}: {section!r} is no section of the config")
        part[key] = value.split(",") if (section, key) in _LISTS else value
        found.append(name)
    return found


def secret(name: str, setting: str, env: Mapping[str, str] | None = None) -> str | None:
    """The environment variable `name` that `setting` points to; None where `name` is "".

    Raises:
        UsageError: there is none of that name, or it is empty; or the secret itself was given for a name.
    """
    if not name:
        return None
    if not name.isidentifier():
        raise UsageError(f"{setting}: expected the name of an environment variable, got something else (a secret?)")
    value = (os.environ if env is None else env).get(name, "").strip()
    if not value:
        raise UsageError(f"{setting}: the environment variable {name} is not set, or empty")
    return value
