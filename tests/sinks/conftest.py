"""One PostgreSQL for the folder; a database of its own for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count

import psycopg
import pytest
from postgres_cluster import Cluster, server_binaries

NUMBERS = count()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running server. Skips without one; in CI that is a failure."""
    binaries = server_binaries()
    if binaries is None:
        why = "no PostgreSQL server here: apt-get install -y postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    made = Cluster(binaries)
    try:
        made.start()
        yield made
    finally:
        made.remove()


@pytest.fixture
def dsn(cluster: Cluster) -> str:
    """Connection string of a fresh database."""
    name = f"t{next(NUMBERS)}"
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return cluster.dsn(database=name)
