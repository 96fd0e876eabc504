#!/usr/bin/env python3
"""Apache Kafka on this machine, for tests and for trying: one or three KRaft brokers on loopback.

    python deploy/kafka/broker.py [--brokers 1|3] [--port P] [--sasl] [--dir D]

Needs Java 17 (or newer) and Maven; the jars come through `pom.xml` beside this file and are kept under
~/.cache/affectstream. Prints the address once it serves, stops on Ctrl-C. Not for production: restart settings are
those of tests (a broker killed with -9 serves again after some 4 s). Standard library only.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

VERSION = "4.4.0"
POM = Path(__file__).parent / "pom.xml"
HEAP = "-Xmx512m"
USERS = {"admin": "admin-pw", "affect": "affect-pw"}
"""SCRAM users of a `--sasl` broker: `admin` may do everything, `affect` what access lists say (nothing at first)."""


class BrokerError(Exception):
    """No broker can be had; the message says what is missing."""


def missing() -> list[str]:
    """The programs that are not there."""
    return [program for program in ("java", "mvn") if shutil.which(program) is None]


def jars() -> str:
    """Class path of Apache Kafka; fetched through Maven the first time (some 43 MB)."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "affectstream" / f"kafka-{VERSION}"
    if not folder.is_dir():
        if shutil.which("mvn") is None:
            raise BrokerError("no mvn (Maven) on the path; on Debian: apt-get install maven")
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside its final place, then renamed: an interrupted download never passes for a whole one.
        scratch = Path(tempfile.mkdtemp(prefix="kafka-", dir=folder.parent))
        command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={scratch}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            shutil.rmtree(scratch, ignore_errors=True)
            raise BrokerError(f"Maven could not fetch Apache Kafka: {(done.stdout + done.stderr)[-2000:]}")
        with contextlib.suppress(OSError):  # somebody else was faster
            scratch.rename(folder)
        shutil.rmtree(scratch, ignore_errors=True)
    return f"{folder}/*"


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


class Node:
    """One broker process. Its port and folder stay the same over restarts."""

    def __init__(self, number: int, folder: Path, port: int, properties: str) -> None:
        self.number = number
        self.folder = folder
        self.port = port
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "server.properties"
        self.config.write_text(properties)
        self.process: subprocess.Popen[bytes] | None = None

    def format(self, cluster: str, *options: str) -> None:
        command = ["java", HEAP, "-cp", jars(), "kafka.tools.StorageTool", "format"]
        command += ["-t", cluster, "-c", str(self.config), *options]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise BrokerError(f"formatting {self.folder} failed: {done.stderr[-2000:]}")

    def start(self) -> None:
        with (self.folder / "broker.log").open("ab") as log:
            options = [HEAP, "-XX:+UseG1GC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
            command = ["java", *options, "-cp", jars(), "kafka.Kafka", str(self.config)]
            # A group of its own: Ctrl-C at the terminal goes to us, and we stop it in order.
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def wait(self, seconds: float) -> None:
        """Until the port answers."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                raise BrokerError(f"broker {self.number} ended: {self.tail()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.5):
                return
            time.sleep(0.05)
        raise BrokerError(f"broker {self.number} does not listen on {self.port} after {seconds:.0f} s: {self.tail()}")

    def tail(self) -> str:
        return (self.folder / "broker.log").read_text(errors="replace")[-2000:]

    def signal(self, number: int) -> None:
        """SIGKILL, SIGSTOP, SIGCONT, SIGTERM."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def suspend(self) -> None:
        """SIGSTOP, and wait until every thread has stopped (Linux). `signal(SIGCONT)` lets it go on."""
        assert self.process is not None
        self.signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.process.pid}/task")
        while any(stat.read_text().rpartition(")")[2].split()[0] != "T" for stat in tasks.glob("*/stat")):
            time.sleep(0.01)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def stop(self) -> None:
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if self.process is not None:
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


class Cluster:
    """One or three brokers in `folder`, which is made, and removed by `close` if it was a temporary one.

    Attributes:
        bootstrap: "host:port[,host:port]".
        cafile: certificate to trust, with `sasl` only.
    """

    def __init__(self, brokers: int = 1, port: int = 0, sasl: bool = False, folder: Path | None = None) -> None:
        if brokers not in (1, 3):
            raise BrokerError(f"brokers: expected 1 or 3, got {brokers}")
        if absent := missing():
            raise BrokerError(
                f"not on the path: {', '.join(absent)}; on Debian: apt-get install openjdk-17-jre-headless maven"
            )
        self._temporary = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="affect-kafka-")) if folder is None else folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sasl = sasl
        self.cafile = self.folder / "tls" / "ca.pem"
        if sasl and not self.cafile.exists():
            certificates(self.folder / "tls")
        ports = self._ports(2 * brokers)
        controllers, listeners = ports[:brokers], ports[brokers:]
        if port:
            listeners = [port + k for k in range(brokers)]
        self.bootstrap = ",".join(f"127.0.0.1:{p}" for p in listeners)
        ids = [_base64_id() for _ in range(brokers)]
        voters = ",".join(f"{k + 1}@127.0.0.1:{controllers[k]}:{ids[k]}" for k in range(brokers))
        self.nodes = [
            Node(k + 1, self.folder / f"broker{k + 1}", listeners[k], self._properties(k, controllers, listeners))
            for k in range(brokers)
        ]
        fresh = [node for node in self.nodes if not (node.folder / "data").exists()]
        cluster = _base64_id()
        options = ["--standalone"] if brokers == 1 else ["--initial-controllers", voters]
        if sasl:
            for user, password in USERS.items():
                options += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
        for node in fresh:
            node.format(cluster, *options)

    def _ports(self, count: int) -> list[int]:
        """The same again where the folder was used before: the voters are written down in its data."""
        kept = self.folder / "ports"
        if not kept.exists():
            kept.write_text(" ".join(map(str, free_ports(count))))
        ports = [int(port) for port in kept.read_text().split()]
        if len(ports) != count:
            raise BrokerError(f"{self.folder} holds {len(ports) // 2} broker(s), not {count // 2}; use another --dir")
        return ports

    def start(self, seconds: float = 60.0) -> Cluster:
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.wait(seconds)
        return self

    def close(self) -> None:
        for node in self.nodes:
            node.signal(signal.SIGCONT)
            node.signal(signal.SIGTERM)
        for node in self.nodes:
            node.stop()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _properties(self, k: int, controllers: Sequence[int], listeners: Sequence[int]) -> str:
        copies = len(controllers)
        name = "SASL_SSL" if self.sasl else "PLAINTEXT"
        lines = [
            "process.roles=broker,controller",
            f"node.id={k + 1}",
            f"log.dirs={self.folder / f'broker{k + 1}' / 'data'}",
            f"listeners={name}://127.0.0.1:{listeners[k]},CONTROLLER://127.0.0.1:{controllers[k]}",
            f"advertised.listeners={name}://127.0.0.1:{listeners[k]}",
            f"listener.security.protocol.map={name}:{name},CONTROLLER:PLAINTEXT",
            f"inter.broker.listener.name={name}",
            "controller.listener.names=CONTROLLER",
            "controller.quorum.bootstrap.servers=" + ",".join(f"127.0.0.1:{p}" for p in controllers),
            # What makes it serve again soon after kill -9.
            f"broker.session.timeout.ms={1000 if copies == 1 else 3000}",
            f"broker.heartbeat.interval.ms={200 if copies == 1 else 500}",
            "auto.create.topics.enable=false",
            "group.initial.rebalance.delay.ms=0",
            "group.min.session.timeout.ms=1000",
            "offsets.topic.num.partitions=4",
            "transaction.state.log.num.partitions=4",
            "log.retention.check.interval.ms=2000",
            "log.cleaner.dedupe.buffer.size=16777216",
            "num.network.threads=2",
            "num.io.threads=4",
        ]
        inner = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
        lines += [f"{topic}.replication.factor={copies}" for topic in inner]
        lines += [f"{topic}.min.isr={2 if copies == 3 else 1}" for topic in inner[1:]]
        if copies == 3:
            lines += ["default.replication.factor=3", "min.insync.replicas=2", "replica.lag.time.max.ms=5000"]
            lines += ["controller.quorum.election.timeout.ms=500", "controller.quorum.fetch.timeout.ms=1000"]
        if self.sasl:
            module = "org.apache.kafka.common.security.scram.ScramLoginModule"
            lines += [
                "sasl.enabled.mechanisms=SCRAM-SHA-512",
                "sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512",
                f"listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={module} required "
                f'username="admin" password="{USERS["admin"]}";',
                "ssl.keystore.type=PEM",
                f"ssl.keystore.location={self.folder}/tls/broker.pem",
                "ssl.truststore.type=PEM",
                f"ssl.truststore.location={self.folder}/tls/ca.pem",
                "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users=User:admin;User:ANONYMOUS",
            ]
        return "\n".join(lines) + "\n"


def certificates(folder: Path) -> None:
    """A fresh authority and a certificate for 127.0.0.1 signed by it, with openssl."""
    if shutil.which("openssl") is None:
        raise BrokerError("no openssl on the path; on Debian: apt-get install openssl")
    folder.mkdir(parents=True, exist_ok=True)
    usage = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n"
    (folder / "broker.ext").write_text(usage)
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    ca = ["-addext", "keyUsage=critical,keyCertSign", "-subj", "/CN=affect test authority", "-days", "30"]
    for command in (
        ["req", "-x509", *ec, *ca, "-keyout", "ca.key", "-out", "ca.pem"],
        ["req", "-new", *ec, "-subj", "/CN=broker", "-keyout", "broker.key", "-out", "broker.csr"],
        ["x509", "-req", "-in", "broker.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30",
         "-extfile", "broker.ext", "-out", "broker.crt"],
        ["pkcs8", "-topk8", "-nocrypt", "-in", "broker.key", "-out", "broker.p8"],
    ):  # fmt: skip
        done = subprocess.run(["openssl", *command], cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise BrokerError(f"openssl {command[0]} failed: {done.stderr[-1000:]}")
    (folder / "broker.pem").write_text((folder / "broker.p8").read_text() + (folder / "broker.crt").read_text())


def _base64_id() -> str:
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):  # would be read as an option
            return text


def main() -> int:
    parser = argparse.ArgumentParser(description="Apache Kafka on loopback, for tests and for trying.")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    parser.add_argument("--port", type=int, default=9092, help="of the first broker (default: 9092)")
    parser.add_argument("--sasl", action="store_true", help="SASL_SSL with SCRAM-SHA-512 and access lists")
    parser.add_argument("--dir", type=Path, default=None, help="keep the data here (default: temporary)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        cluster = Cluster(args.brokers, args.port, args.sasl, args.dir)
    except BrokerError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        cluster.start()
        print(f"kafka://{cluster.bootstrap}", flush=True)
        if args.sasl:
            print(f"  ?security=SASL_SSL&mechanism=SCRAM-SHA-512&cafile={cluster.cafile}   users: {', '.join(USERS)}")
        print("Ctrl-C stops it", flush=True)
        while all(node.process is not None and node.process.poll() is None for node in cluster.nodes):
            time.sleep(0.5)
        print("a broker ended", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    except BrokerError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second Ctrl-C would leave a broker behind
        cluster.close()


if __name__ == "__main__":
    sys.exit(main())
