"""Schemas of a registry elsewhere, cached: known ones go on when it is down, unknown ones are asked for once.

What it hands out was admitted by `operators.admission`, wherever it came from. The local file registry stands in for
ids and subjects the remote one does not have.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from operators.admission import parse_schema
from operators.errors import ConfigInvalid, SchemaUnknown
from operators.registry import FileRegistry
from operators.schema import Schema, fingerprint_of, normal_form
from stream.errors import UsageError
from stream.registry_base import RegistryUnavailable, RemoteRegistry

T = TypeVar("T")
log_ = logging.getLogger("affect.registry")

MAX_REFUSED: Final = 10_000
"""Unknown ids remembered; a stream of made-up ids fills no memory."""

PAUSE_S: Final = (1.0, 30.0)
"""A registry that is down is asked again after this long, doubling up to the second."""


class _Kept(msgspec.Struct):
    """The cache file: what the registry at `url` said."""

    url: str
    schemas: dict[int, str] = {}
    subjects: dict[str, dict[str, int]] = {}


class RegistryClient:
    """A `SchemaRegistry` over a remote one. One per thread, like the codec that uses it.

    Look-ups block their caller, so they are paced: at most `budget_s` seconds at once and `share` of the time after
    that. Past it, an unknown id is refused unasked.

    Args:
        remote: the registry elsewhere.
        local: stands in for what it does not have, and for our own schemas when it is down and was never seen.
        cache: file that keeps what was fetched, so that a restart needs no registry; None = memory only.
        unknown_s: an id the registry does not know, or a schema not admitted, is not asked for again this long.
        budget_s, share: how much time look-ups may take.
        now: seconds, monotonic.

    Raises:
        UsageError: the cache file is damaged.

    Example:
        client = RegistryClient(RegistryHttp("http://127.0.0.1:8081"), FileRegistry(), Path("schemas.json"))
        client.by_id(client.register("affect.signals.v1-value", text))
    """

    def __init__(
        self,
        remote: RemoteRegistry,
        local: FileRegistry,
        cache: Path | None = None,
        unknown_s: float = 30.0,
        budget_s: float = 5.0,
        share: float = 0.2,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._remote, self._local, self._cache = remote, local, cache
        self._unknown_s, self._budget_s, self._share, self._now = unknown_s, budget_s, share, now
        self._known: dict[int, Schema] = {}
        self._confirmed: dict[tuple[str, str], int] = {}
        self._lent: set[int] = set()
        self._refused: dict[int, tuple[float, str]] = {}
        self._credit_s, self._credit_at = budget_s, now()
        self._problem: str | None = None
        self._pause_s, self._ask_at = PAUSE_S[0], 0.0
        self._cache_failed = False
        self._kept = _Kept(remote.address)
        self._load()

    @property
    def problem(self) -> str | None:
        """Why the registry cannot be used now; None = all is well."""
        return self._problem

    def by_id(self, schema_id: int) -> Schema:
        """The schema under an id; a dictionary look-up once it is known.

        Raises:
            SchemaUnknown: the registry has no such id, could not be asked, or its schema is not admitted.
        """
        found = self._known.get(schema_id)
        if found is None:
            found = self._look_up(schema_id)
        return found

    def latest(self, subject: str) -> Schema:
        """The newest version of a subject; the newest one known when the registry is down.

        Raises:
            SchemaUnknown: no such subject, or its schema is not admitted.
        """
        try:
            found = self._ask(lambda: self._remote.latest(subject))
        except (RegistryUnavailable, UsageError):
            versions = self._kept.subjects.get(subject)
            return self._known[max(versions.values())] if versions else self._local.latest(subject)
        if found is None:
            return self._local.latest(subject)
        schema = self._admit(*found)
        self._keep(schema, subject)
        return schema

    def register(self, subject: str, schema: str) -> int:
        """The id of a schema under a subject.

        The registry's; when it is down the one it gave before (cache), else that of the local registry.

        Raises:
            ConfigInvalid: not admitted, incompatible, or no id can be had that is sure to mean this schema.
            UsageError: the registry refuses who we are.
        """
        text = normal_form(parse_schema(schema))
        fingerprint = fingerprint_of(text)
        confirmed = self._confirmed.get((subject, fingerprint))
        if confirmed is not None:
            return confirmed
        try:
            schema_id = self._ask(lambda: self._find_or_register(subject, text))
        except RegistryUnavailable as problem:
            kept = self._kept.subjects.get(subject, {}).get(fingerprint)
            return self._lend(subject, schema, fingerprint, problem) if kept is None else kept
        known = self._known.get(schema_id)
        if known is not None and known.fingerprint != fingerprint:
            raise ConfigInvalid(
                f"schema registry {self._remote.address}: says id {schema_id} of {subject!r}, which means another "
                "schema here; if the registry was emptied, delete the cache file and start again"
            )
        self._keep(Schema(schema_id, parse_schema(text), text, fingerprint), subject)
        self._confirmed[subject, fingerprint] = schema_id
        return schema_id

    def _find_or_register(self, subject: str, text: str) -> int:
        # Asked for first: an account that may only read is enough where the schemas are there already.
        found = self._remote.find(subject, text)
        return self._remote.register(subject, text) if found is None else found

    def _lend(self, subject: str, schema: str, fingerprint: str, problem: RegistryUnavailable) -> int:
        """The local id, while the remote one cannot be had. Checked against the registry once it answers."""
        schema_id = self._local.register(subject, schema)
        known = self._known.get(schema_id)
        if known is not None and known.fingerprint != fingerprint:
            raise ConfigInvalid(
                f"{subject!r}: local id {schema_id} means another schema in the registry, which cannot be asked for "
                f"its own ({problem}); start again when it answers"
            )
        self._known[schema_id] = self._local.by_id(schema_id)
        self._lent.add(schema_id)
        return schema_id

    def _look_up(self, schema_id: int) -> Schema:
        until, why = self._refused.get(schema_id, (0.0, ""))
        if self._now() < until:
            raise SchemaUnknown(why)
        try:
            text = self._ask(lambda: self._remote.schema(schema_id))
            schema = self._local.by_id(schema_id) if text is None else self._admit(schema_id, text)
        except (RegistryUnavailable, UsageError) as problem:
            # No stand-in here: an id must not mean one thing while the registry is down and another afterwards.
            raise SchemaUnknown(f"schema id {schema_id} is not known and cannot be asked for: {problem}") from None
        except SchemaUnknown as problem:
            if len(self._refused) >= MAX_REFUSED:
                del self._refused[next(iter(self._refused))]
            self._refused[schema_id] = (self._now() + self._unknown_s, str(problem))
            raise
        if text is None:
            self._known[schema_id] = schema
        else:
            self._keep(schema)
        return schema

    def _admit(self, schema_id: int, text: str) -> Schema:
        try:
            admitted = parse_schema(text)
        except ConfigInvalid as problem:
            raise SchemaUnknown(f"schema id {schema_id} of the registry is not admitted: {problem}") from None
        plain = normal_form(admitted)
        fresh = Schema(schema_id, admitted, plain, fingerprint_of(plain))
        known = self._known.get(schema_id)
        if known is not None and known.fingerprint != fresh.fingerprint:
            raise SchemaUnknown(f"schema id {schema_id}: the registry changed what it means; ids never change")
        return fresh

    def _ask(self, question: Callable[[], T]) -> T:
        """Ask the registry, unless it is known to be down or look-ups have used up their time."""
        started = self._now()
        self._credit_s = min(self._budget_s, self._credit_s + (started - self._credit_at) * self._share)
        self._credit_at = started
        if self._problem is not None and started < self._ask_at:
            raise RegistryUnavailable(self._problem)
        if self._credit_s <= 0:
            raise RegistryUnavailable("too many look-ups of unknown schemas; they are paced")
        try:
            answer = question()
        except (RegistryUnavailable, UsageError) as problem:
            self._down(str(problem))
            raise
        finally:
            self._credit_s -= self._now() - started
        self._up()
        return answer

    def _down(self, why: str) -> None:
        if self._problem is None:
            log_.warning("%s; known schemas go on, unknown ones are refused", why)
        self._problem = why
        self._ask_at = self._now() + self._pause_s
        self._pause_s = min(PAUSE_S[1], 2 * self._pause_s)

    def _up(self) -> None:
        if self._problem is None:
            return
        log_.warning("schema registry %s: works again", self._remote.address)
        self._problem, self._pause_s = None, PAUSE_S[0]
        for schema_id in sorted(self._lent):
            with contextlib.suppress(RegistryUnavailable, UsageError):
                self._check_lent(schema_id)
                self._lent.discard(schema_id)

    def _check_lent(self, schema_id: int) -> None:
        try:
            text = self._remote.schema(schema_id)
            if text is not None:
                self._admit(schema_id, text)
        except SchemaUnknown:
            log_.error(
                "schema id %d was used for one of our own schemas while the registry was down, but means another there;"
                " messages written since the start carry a wrong id: restart now",
                schema_id,
            )

    def _keep(self, schema: Schema, subject: str | None = None) -> None:
        """Remember what the registry said, in memory and in the cache file."""
        self._known[schema.id] = schema
        versions = self._kept.subjects.setdefault(subject, {}) if subject is not None else {}
        if schema.id in self._kept.schemas and (subject is None or schema.fingerprint in versions):
            return
        self._kept.schemas[schema.id] = schema.text
        versions[schema.fingerprint] = schema.id
        self._save()

    def _save(self) -> None:
        if self._cache is None:
            return
        part = self._cache.with_name(f"{self._cache.name}.{os.getpid()}.part")
        try:
            part.write_bytes(msgspec.json.format(msgspec.json.encode(self._kept), indent=1))
            part.replace(self._cache)
        except OSError as problem:
            if not self._cache_failed:
                log_.warning("schema cache %s cannot be written: %s; a restart will need the registry", part, problem)
            self._cache_failed = True

    def _load(self) -> None:
        if self._cache is None or not self._cache.exists():
            return
        try:
            kept = msgspec.json.decode(self._cache.read_bytes(), type=_Kept, strict=False)
            if kept.url != self._remote.address:
                return
            known = {i: self._admit(i, text) for i, text in kept.schemas.items()}
            lost = [i for ids in kept.subjects.values() for i in ids.values() if i not in known]
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, SchemaUnknown) as problem:
            raise UsageError(f"schema cache {self._cache}: {problem}; delete it to fetch the schemas again") from None
        if lost:
            raise UsageError(f"schema cache {self._cache}: ids without a schema {lost[:5]}; delete it")
        self._known, self._kept = known, kept
