"""A real PostgreSQL of our own: a fresh cluster in a temporary folder, on a free loopback port, stopped at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from operators.records import SignalRow
from tests.ports import free_port

PASSWORD = "canary-pg-17"
COLUMNS = list(SignalRow.__struct_fields__)


def server_binaries() -> Path | None:
    """The newest folder that holds `initdb` and `postgres`."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name), reverse=True)
    path = shutil.which("initdb")
    candidates = [*found, *([Path(path).resolve().parent] if path else [])]
    return next((p for p in candidates if (p / "initdb").exists() and (p / "postgres").exists()), None)


class Cluster:
    """PostgreSQL in a folder. As root it runs as user `postgres`, which it insists on.

    `start`, `kill` (SIGKILL to every process of it), `stop`; the data stays until `remove`.
    """

    def __init__(self, binaries: Path) -> None:
        self._bin = binaries
        self._user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="affect-pg-"))
        self.port = free_port()
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if self._user is not None:
            for path in (self.folder, secret):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        self._life: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", "data", "-U", "affect", "--pwfile", "password", "-A", "scram-sha-256", "-N",
                  "-E", "UTF8", "--locale=C")  # fmt: skip

    def dsn(self, password: str = PASSWORD, database: str = "postgres") -> str:
        return f"postgresql://affect:{password}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def _words(self, program: str, *words: str) -> dict[str, object]:
        identity = {} if self._user is None else {
            "user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []
        }  # fmt: skip
        return {"args": [str(self._bin / program), *words], "cwd": self.folder, **identity}

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(**self._words(program, *words), capture_output=True, text=True, timeout=60)  # type: ignore[call-overload]
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr}")

    def start(self) -> None:
        """Start and wait until it answers."""
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._life = subprocess.Popen(  # type: ignore[call-overload]
                **self._words(
                    "postgres", "-D", "data", "-p", str(self.port), "-c", "listen_addresses=127.0.0.1",
                    "-c", f"unix_socket_directories={self.folder}", "-c", "shared_buffers=32MB",
                    "-c", "max_connections=20",
                ),
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + 30
        while subprocess.run(
            [self._bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
        ).returncode:
            if time.monotonic() > until or self._life.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9, every process of it. The head is frozen first, so that it starts no other meanwhile."""
        assert self._life is not None
        head = self._life.pid
        os.kill(head, signal.SIGSTOP)
        hands = [int(pid) for pid in Path(f"/proc/{head}/task/{head}/children").read_text().split()]
        for pid in (head, *hands):
            os.kill(pid, signal.SIGKILL)
        self._life.wait()
        until = time.monotonic() + 30
        while any(Path(f"/proc/{pid}").exists() for pid in hands) and time.monotonic() < until:
            time.sleep(0.01)

    def stop(self) -> None:
        """A fast, clean stop."""
        if self._life is not None and self._life.poll() is None:
            self._life.send_signal(signal.SIGINT)
            self._life.wait(30)

    def remove(self) -> None:
        """Kill it and delete everything: nothing of it is kept."""
        if self._life is not None and self._life.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def held(dsn: str, table: str = "signals") -> list[SignalRow]:
    """What a table holds, as the rows it was given; nothing where it is not made yet."""
    with psycopg.connect(dsn) as connection:
        if "(" not in table and connection.execute("SELECT to_regclass(%s)", (table,)).fetchone() == (None,):
            return []
        found = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM {table}").fetchall()
    rows = [dict(zip(COLUMNS, values, strict=True)) for values in found]
    return [SignalRow(**{**r, "reasons": tuple(r["reasons"])}) for r in rows]
