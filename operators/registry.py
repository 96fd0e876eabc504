"""The local schema registry: built-in schemas pinned by a committed index, and a directory of the user's beside them.

Both directories look alike: `index.json` (schema id -> file and sha256 of its normal form; subject -> versions -> id)
and the `.avsc` files it names. The remote registry comes later behind the same three methods.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from operators.admission import parse_schema
from operators.errors import ConfigInvalid, SchemaUnknown
from operators.evolution import unreadable
from operators.schema import Schema, fingerprint_of, normal_form

BUILT_IN: Final = Path(__file__).parent / "schemas"
FIRST_USER_ID: Final = 1000
"""Ids below belong to releases of this project."""


class _Entry(msgspec.Struct, frozen=True):
    file: str
    sha256: str


class _Version(msgspec.Struct, frozen=True):
    version: int
    id: int


class _Index(msgspec.Struct):
    schemas: dict[int, _Entry] = {}
    subjects: dict[str, list[_Version]] = {}


class FileRegistry:
    """Schemas from files; an id or subject not known is looked for in the user's directory again before it is refused.

    Args:
        directory: the user's schemas; made on the first `register`. None = the built-in ones only.

    Raises:
        ConfigInvalid: an index or schema on disk is damaged, not admitted, or does not match its fingerprint.

    Example:
        >>> FileRegistry().latest("affect.signals.v1-value").type.name
        'affect.Signal'
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._schemas: dict[int, Schema] = {}
        self._ids: dict[str, int] = {}
        self._subjects: dict[str, list[int]] = {}
        self._pinned: dict[str, int] = {}
        self._seen: tuple[int, int, int] | None = None
        self._load(BUILT_IN, _read_index(BUILT_IN))
        self._pinned = {subject: ids[-1] for subject, ids in self._subjects.items()}
        self._refresh()

    def by_id(self, schema_id: int) -> Schema:
        """The schema under an id; a dictionary look-up once it is known.

        Raises:
            SchemaUnknown: no such id, or the directory that may hold it cannot be read.
        """
        found = self._schemas.get(schema_id)
        if found is None:
            self._refresh_or_unknown()
            found = self._schemas.get(schema_id)
        if found is None:
            raise SchemaUnknown(
                f"schema id: expected one of {sorted(self._schemas)[:20]}, got {schema_id}; register it"
            )
        return found

    def latest(self, subject: str) -> Schema:
        """The newest version of a subject.

        Raises:
            SchemaUnknown: no such subject.
        """
        if subject not in self._subjects:
            self._refresh_or_unknown()
        if subject not in self._subjects:
            raise SchemaUnknown(f"subject: expected one of {sorted(self._subjects)}, got {subject!r}")
        return self._schemas[self._subjects[subject][-1]]

    def versions(self, subject: str) -> list[int]:
        """Schema ids of a subject, oldest first; empty for an unknown one."""
        return list(self._subjects.get(subject, []))

    def register(self, subject: str, schema: str) -> int:
        """Add a version to a subject; the same schema again gives the same id.

        A new version must read what every version before it wrote (backward, transitive), and what it writes must be
        readable by the built-in version of the subject, if there is one.

        Args:
            subject: `<topic>-value`.
            schema: Avro schema, JSON text.

        Raises:
            ConfigInvalid: not admitted, incompatible, no directory to keep it in, or another process is registering.
        """
        admitted = parse_schema(schema)
        text = normal_form(admitted)
        fingerprint = fingerprint_of(text)
        self._refresh()
        known = self._ids.get(fingerprint)
        if known is not None and known in self._subjects.get(subject, ()):
            return known
        candidate = Schema(-1, admitted, text, fingerprint)
        self._check(subject, candidate)
        return self._keep(subject, candidate)

    def _check(self, subject: str, candidate: Schema) -> None:
        for schema_id in self._subjects.get(subject, ()):
            why = unreadable(candidate.type, self._schemas[schema_id].type)
            if why is not None:
                raise ConfigInvalid(
                    f"subject {subject!r}: the new schema cannot read data of schema {schema_id}: {why}"
                )
        pinned = self._pinned.get(subject)
        why = None if pinned is None else unreadable(self._schemas[pinned].type, candidate.type)
        if why is not None:
            raise ConfigInvalid(f"subject {subject!r}: this engine (schema {pinned}) cannot read the new schema: {why}")

    def _keep(self, subject: str, candidate: Schema) -> int:
        directory = self._directory
        if directory is None:
            raise ConfigInvalid(
                f"subject {subject!r}: a new schema needs a directory to be kept in; open FileRegistry(directory=...)"
            )
        directory.mkdir(parents=True, exist_ok=True)
        lock = directory / "index.lock"
        try:
            lock.touch(exist_ok=False)
        except FileExistsError:
            raise ConfigInvalid(f"another process is registering; if none is, delete {lock}") from None
        try:
            self._refresh()
            self._check(subject, candidate)
            index = _read_index(directory) if (directory / "index.json").exists() else _Index()
            schema_id = self._ids.get(candidate.fingerprint, max([FIRST_USER_ID - 1, *self._schemas]) + 1)
            if schema_id not in self._schemas:
                name = f"{schema_id}.avsc"
                _replace(directory / name, candidate.text.encode())
                index.schemas[schema_id] = _Entry(name, candidate.fingerprint)
            if schema_id not in self._subjects.get(subject, ()):
                version = len(self._subjects.get(subject, ())) + 1
                index.subjects.setdefault(subject, []).append(_Version(version, schema_id))
            _replace(directory / "index.json", msgspec.json.format(msgspec.json.encode(index), indent=1))
            self._refresh()
        finally:
            lock.unlink()
        return schema_id

    def _refresh_or_unknown(self) -> None:
        try:
            self._refresh()
        except (ConfigInvalid, OSError) as problem:
            raise SchemaUnknown(f"schema directory {self._directory} cannot be read: {problem}") from None

    def _refresh(self) -> None:
        """Read the user's index again if it changed on disk."""
        if self._directory is None:
            return
        try:
            found = os.stat(self._directory / "index.json")
        except FileNotFoundError:
            return
        mark = (found.st_mtime_ns, found.st_size, found.st_ino)
        if mark != self._seen:
            self._load(self._directory, _read_index(self._directory))
            self._seen = mark

    def _load(self, directory: Path, index: _Index) -> None:
        fresh = {i: _read_schema(directory, i, e) for i, e in index.schemas.items() if i not in self._schemas}
        for schema_id, entry in index.schemas.items():
            held = self._schemas.get(schema_id)
            if held is not None and held.fingerprint != entry.sha256:
                raise ConfigInvalid(f"{directory}: id {schema_id} already means another schema; ids never change")
        for versions in index.subjects.values():
            lost = [v.id for v in versions if v.id not in self._schemas and v.id not in fresh]
            if lost:
                raise ConfigInvalid(f"{directory / 'index.json'}: subjects name ids without a schema: {lost}")
        self._schemas.update(fresh)
        for schema_id, schema in fresh.items():
            self._ids.setdefault(schema.fingerprint, schema_id)
        for subject, versions in index.subjects.items():
            held_ids = self._subjects.setdefault(subject, [])
            held_ids.extend(v.id for v in sorted(versions, key=lambda v: v.version) if v.id not in held_ids)


def _read_index(directory: Path) -> _Index:
    path = directory / "index.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Index, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise ConfigInvalid(f"{path}: expected a schema index, got one that does not parse: {problem}") from None


def _read_schema(directory: Path, schema_id: int, entry: _Entry) -> Schema:
    path = directory / Path(entry.file).name
    try:
        admitted = parse_schema(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, ConfigInvalid) as problem:
        raise ConfigInvalid(f"{path} (schema id {schema_id}): {problem}") from None
    text = normal_form(admitted)
    if fingerprint_of(text) != entry.sha256:
        raise ConfigInvalid(
            f"{path}: expected fingerprint {entry.sha256}, got {fingerprint_of(text)}; "
            "a schema never changes under its id, register a new version"
        )
    return Schema(schema_id, admitted, text, entry.sha256)


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_suffix(path.suffix + ".part")
    partial.write_bytes(content)
    os.replace(partial, path)
