"""From the `[registry]` settings to a registry: where client, cache and local stand-in meet."""

from __future__ import annotations

from pathlib import Path

from engines.errors import MissingExtra
from operators.registry import FileRegistry
from operators.window import parse_span
from stream.config import RegistryConfig
from stream.registry_client import RegistryClient


def open_registry(config: RegistryConfig) -> RegistryClient:
    """The registry at `config.url`; who we are comes from the environment. Not asked anything yet.

    Raises:
        MissingExtra: the client library is not installed.
        UsageError: the address, the credentials or the cache file cannot work.
    """
    try:
        from stream.registry_http import RegistryAccess, RegistryHttp
    except ImportError as missing:
        raise MissingExtra(
            f"registry.url is set, but {missing.name} is not installed: pip install 'affectstream[registry]'"
        ) from None
    timeout_s = parse_span(config.timeout) / 1000
    remote = RegistryHttp(config.url, RegistryAccess.from_env(), config.ca, timeout_s, 2 * timeout_s)
    return RegistryClient(remote, FileRegistry(), Path(config.cache) if config.cache else None)
