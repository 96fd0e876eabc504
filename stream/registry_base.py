"""The words of the schema registry: what a remote one is asked, and the error of one that cannot be used now."""

from __future__ import annotations

from typing import Protocol

from stream.errors import StreamError


class RegistryUnavailable(StreamError):
    """The registry cannot be reached, or what it answered is no answer of a schema registry. May work later."""

    retriable = True


class RemoteRegistry(Protocol):
    """The four questions a registry elsewhere is asked. None = it says there is no such thing.

    Each call ends within a bounded time with a bounded answer, whatever the other side does.

    Raises:
        RegistryUnavailable: no usable answer.
        UsageError: it refuses who we are.
    """

    @property
    def address(self) -> str:
        """Where it is, without secrets: for log lines, and for telling one registry's ids from another's."""
        ...

    def schema(self, schema_id: int) -> str | None:
        """The Avro schema under an id, as JSON text not yet admitted. Raises SchemaUnknown if it is not Avro."""
        ...

    def find(self, subject: str, schema: str) -> int | None:
        """The id of exactly this schema under a subject."""
        ...

    def register(self, subject: str, schema: str) -> int:
        """Add a version to a subject. Raises ConfigInvalid if the registry finds it incompatible."""
        ...

    def latest(self, subject: str) -> tuple[int, str] | None:
        """Id and text of the newest version of a subject."""
        ...
