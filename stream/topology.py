"""Builds what a run is made of, from its settings: operators, stages and topics. Everything before the first record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engines.artefacts import Manifest, names, read_manifest
from engines.base import EngineSpec, TextModel
from engines.cascade import Cascade
from engines.choice import CASCADE, resolve
from engines.load import REMOTE, load_cascade, load_endpoint, load_remote, load_text_model
from operators import crisis, market, social
from operators.arrivals import Arrival
from operators.base import Operator
from operators.classroom import SEATS, SHORTEST_MS, classroom
from operators.classroom import TASK as CHAT
from operators.codec import Codec
from operators.domain import Domain
from operators.entities import Linker
from operators.gate import Gate
from operators.language import Language
from operators.ontology import ONTOLOGY_VERSION
from operators.policy import biometric
from operators.readable import NOTE, Readable, common
from operators.registry import FileRegistry
from operators.relief import Relief
from operators.rollup import shipped_sectors
from operators.schema import SchemaRegistry
from operators.shed import Shed
from operators.text import Score
from operators.window import parse_span
from stream.base import TopicSpec
from stream.config import Config, RegistryConfig, secret
from stream.permits import declaration, license_weights, permit
from stream.scoring import Observer, Parts
from stream.topics import engine_topics
from stream.windowing import WindowParts

STUB = "stub"
ABSENT = (
    "{share:.0%} of the posts are not in the value: abstained, the endpoint gave no usable score (or shed, or in"
    " languages left out)"
)


HEADS = {
    "market": market.TASKS,
    "crisis": crisis.TASKS,
    "social": social.TASKS,
    "classroom": (CHAT,),
}
"""What each domain asks of an engine."""


def build_domain(
    name: str, spec: EngineSpec, seats: int = SEATS, window_ms: int = SHORTEST_MS, watched: bool = False
) -> Domain:
    """The domain `name` bound to the heads of an engine. `seats`, `window_ms`, `watched`: see `classroom`.

    Raises:
        ConfigInvalid: the engine lacks a head it needs.
    """
    if name == "classroom":
        return classroom(spec, seats, window_ms, watched)
    return {"market": market.market, "crisis": crisis.crisis, "social": social.social}[name](spec)


def build_codec(registry: RegistryConfig | None = None) -> Codec:
    """A codec on the schemas that ship with the package, or on the registry whose url is given.

    Raises:
        MissingExtra, UsageError, ConfigInvalid: the registry cannot be used, or refuses one of our schemas.
    """
    schemas: SchemaRegistry = FileRegistry()
    if registry is not None and registry.url:
        # Half a second of imports that nobody without a registry should wait for.
        from stream.registry_open import open_registry

        schemas = open_registry(registry)
    return Codec(schemas, Gate(schemas))


def weights_of(config: Config, replay: bool = False) -> list[Manifest]:
    """The manifests of the text models the settings name; none where there are no weights, or not here.

    Raises:
        UnknownModel, ManifestInvalid: no such model.
    """
    name = CASCADE if config.engine.cascade_above and not replay else config.engine.name
    if name in (STUB, "remote", "endpoint") or name.startswith(REMOTE):
        return []
    return [read_manifest(folder) for folder in resolve(name, _asked(config, replay)).models]


def _asked(config: Config, replay: bool) -> tuple[str, ...]:
    """The heads asked for. A live model may be shared with a topology of another domain: it answers all. A cascade is
    not shared: which posts it passes on hangs on the heads asked."""
    return HEADS[config.domain] if replay or config.engine.name == "endpoint" or cascades(config) else ()


def cascades(config: Config) -> bool:
    """True where the model is a cascade, if it is turned on or not."""
    return config.engine.name == CASCADE or config.engine.cascade_above > 0


def load_engine(config: Config, tasks: tuple[str, ...] = (), replay: bool = False) -> TextModel:
    """The model that the settings name, for these heads (empty: all).

    Raises:
        UnknownModel, ManifestInvalid, MissingExtra: it cannot be loaded. EngineAway: its server does not answer (yet).
        UsageError: the key of an endpoint is not in the environment.
    """
    engine = config.engine
    if engine.name == "endpoint":
        key = secret(config.endpoint.key_env, "endpoint.key_env") or ""
        return load_endpoint(engine.address, config.endpoint, tasks, key, parse_span(engine.deadline) / 1000)
    if engine.name == "remote":
        keys = Path(engine.keys) if engine.keys else None
        return load_remote(engine.address, keys, parse_span(engine.deadline) / 1000)
    if engine.cascade_above and not replay:
        return load_cascade(threads=engine.threads, tasks=tasks, on=False)[0]
    return load_text_model(engine.name, threads=engine.threads, tasks=tasks)


def _licensed(config: Config, given: TextModel | None, replay: bool) -> TextModel:
    """The model given, else that of the settings, if its licence allows what they declare (a served one's if it is
    known here)."""
    for manifest in weights_of(config, replay):
        license_weights(manifest, config)
    model = load_engine(config, _asked(config, replay), replay) if given is None else given
    served = {name.partition(":")[0] for name in model.spec.name.split("+")} if model.elsewhere else set[str]()
    for name in sorted(served & set(names())):
        license_weights(read_manifest(name), config)
    return model


def _reading(config: Config, domain: Domain, model: TextModel) -> Readable:
    """What leaves out, or only counts, posts in languages that not all heads of the domain were trained on."""
    known = common(head.languages for head in model.spec.heads if head.task in domain.tasks)
    return Readable(known, config.run.languages == "trained")


def _chain(config: Config, shed: Shed | None, reading: Readable, score: Score | None) -> tuple[Operator, ...]:
    """The operators behind dedupe. `score`: None in a room: what seats do is no language, their chat has its scores."""
    sectors = shipped_sectors() if config.input.sectors else None
    language = [Language()] if config.run.language and score is not None else []
    link = Linker(config.domain, sectors, config.input.communities)
    return (*language, link, *([shed] if shed else []), *((reading, score) if score else ()))


@dataclass(frozen=True, slots=True)
class Topology:
    """A run, built. `score`: the operator that calls the model, for its timings. `shed`: what chooses posts
    under overload; None = every post is scored. `reading`: counts posts in languages no head was trained on.
    `relief`: turns a cascade on under overload; None = it stays as it is."""

    config: Config
    model: TextModel
    score: Score
    shed: Shed | None
    reading: Readable
    parts: Parts
    windows: WindowParts
    topics: list[TopicSpec]
    relief: Relief | None = None


def build(
    config: Config,
    partitions: int,
    observe: Callable[[EngineSpec], Observer] | None = None,
    replay: bool = False,
    beside: Topology | None = None,
    model: TextModel | None = None,
) -> Topology:
    """Build the topology of `config` for an input topic of `partitions`.

    `observe`: given the engine's spec, makes what sees every scored batch (the page's list of posts).
    `beside`: a topology of the same process whose model is shared; None = that of the settings is loaded.
    `model`: scored with instead of that of the settings; None = those decide.
    `replay`: the input is a file of the past: ids are remembered for as long as it lasts, not for `time.dedupe`.

    Raises:
        UnknownModel, ManifestInvalid, ConfigInvalid: what was asked for cannot run. EngineAway: not yet.
        PolicyRefused: the law or a licence forbids what the settings declare.
    """
    permit(config)
    if beside is not None and config.domain != beside.config.domain and cascades(config):
        beside = None
    model = _licensed(config, model if beside is None else beside.model, replay)
    watched = biometric(declaration(config).modalities)
    window_ms = config.window_specs[0].size_ms
    domain = build_domain(config.domain, model.spec, config.classroom.seats, window_ms, watched)
    stub = model.spec.name == STUB
    # Chat of a room is not remembered, not even in memory.
    kept = 0 if stub or domain.seats is not None else 20_000
    score = Score(model, domain.tasks, kept, None if beside is None else beside.score)
    read, reading = domain.seats is None, _reading(config, domain, model)
    shed = Shed(config.run.shed_above) if config.run.shed_above and not replay else None
    turned = model.engine if isinstance(model.engine, Cascade) and config.engine.cascade_above and not replay else None
    relief = Relief(config.engine.cascade_above, turned.turn) if turned and beside is None else None
    codec = build_codec(config.registry)
    lane = f"{config.input.group}:{config.domain}:{config.topic}"
    parts = Parts(
        topic=config.topic,
        partitions=partitions,
        group=f"{config.input.group}-{config.domain}-score",
        lane=lane,
        domain=domain,
        codec=codec,
        arrival=Arrival(config.privacy.author_key.encode(), parse_span(config.time.future)),
        lateness=config.lateness,
        chain=_chain(config, shed, reading, score if read else None),
        dedupe_ms=10**13 if replay else parse_span(config.time.dedupe),
        near_duplicates=config.run.near_duplicates and read,
        observe=None if observe is None or not read else observe(model.spec),
    )
    windows = _windows(config, domain, model, lane)
    topics = engine_topics(config.topic, partitions, parse_span(config.log.retention))
    return Topology(config, model, score, shed, reading, parts, windows, topics, relief)


def _unread(config: Config) -> str:
    """Why posts may be missing from a value, for the rows where some are."""
    if config.engine.name == "endpoint":
        return ABSENT
    return NOTE if config.run.languages == "trained" else ""


def _windows(config: Config, domain: Domain, model: TextModel, lane: str) -> WindowParts:
    return WindowParts(
        group=f"{config.input.group}-{config.domain}-window",
        domain=domain,
        codec=build_codec(config.registry),  # the windows have a thread of their own
        lateness=config.lateness,
        windows=config.window_specs,
        minimum=config.windows.minimum if domain.seats is None else 0.0,  # the veil has its own rule
        model=model.spec.model_id,
        ontology=ONTOLOGY_VERSION,
        lane=lane,
        unread=_unread(config),
    )
