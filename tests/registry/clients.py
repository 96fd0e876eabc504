"""A client of a registry that waits no longer than a test should."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from operators.registry import BUILT_IN, FileRegistry
from stream.registry_client import RegistryClient
from stream.registry_http import RegistryHttp

POST = (BUILT_IN / "post.avsc").read_text()
POSTS = "affect.posts.social.v1-value"


@contextmanager
def client_of(
    url: str, cache: Path | None = None, now: Callable[[], float] = time.monotonic
) -> Iterator[RegistryClient]:
    remote = RegistryHttp(url, timeout_s=1.0, deadline_s=1.5)
    try:
        yield RegistryClient(remote, FileRegistry(), cache, now=now)
    finally:
        remote.close()
