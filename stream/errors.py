"""Errors of the stream floor.

AffectError (engines.errors)
  StreamError
    UsageError        wrong command line or config; one line, exit 2
    LogError
      LogUnavailable  broker down, file locked, disk full; retriable, /readyz says 503 meanwhile
      LogCorrupt      a page or batch that cannot be read back; not retriable
      Fenced          another owner holds the partition now; drop it, never retry
      UnknownTopic    no such topic or partition
"""

from __future__ import annotations

from engines.errors import AffectError


class StreamError(AffectError):
    """Something about bytes, offsets, processes or people."""


class UsageError(StreamError):
    """Wrong use: the message is one clear line."""

    exit_code = 2


class LogError(StreamError):
    """Something about a log."""


class LogUnavailable(LogError):
    """The log cannot be read or written now (broker down, file locked, disk full). Nothing was half-written."""

    retriable = True


class LogCorrupt(LogError):
    """What was stored cannot be read back; the message names the file and what to do."""


class Fenced(LogError):
    """A newer generation owns this partition. Drop the partition and its state; never retry the commit."""


class UnknownTopic(LogError):
    """No such topic or partition; the message lists what there is."""

    exit_code = 2
