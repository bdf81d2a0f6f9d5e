"""What the tests of the command line share: certificates, a server, a relay, the real command."""

import ipaddress
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from jobby_client import Credentials
from jobby_proto.v1 import jobby_pb2 as pb
from jobby_proto.v1 import jobby_pb2_grpc

DEADLINE_SECONDS = 60.0
"""How long a test waits for what has to happen: a busy machine's worst, and then some."""
TELL = (
    "-c",
    (
        "import atexit, sys\n"
        "heavy = ('grpc', 'google', 'cryptography', 'jobby_proto')\n"
        "atexit.register(lambda: sys.stderr.write(repr([m for m in heavy if m in sys.modules])))\n"
        "from jobby_cli.main import main\n"
        "sys.exit(main())"
    ),
)
"""Runs the command, and afterwards tells on stderr which heavy packages were loaded."""

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH


def wait_until(condition: Callable[[], object]) -> None:
    """Waits for what nothing announces, up to the deadline."""
    end = time.monotonic() + DEADLINE_SECONDS
    turn = threading.Event()
    while not condition():
        assert time.monotonic() < end, "it has not happened by the deadline"
        turn.wait(0.005)


def pem_of(key: Key) -> bytes:
    """A private key as its file holds it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True)
class Leaf:
    """A certificate and its key, PEM."""

    cert: bytes
    key: bytes


class Authority:
    """A CA of the test's own, and leaves that are right or wrong in one chosen way."""

    def __init__(self, *, not_after: datetime | None = None) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
        now = datetime.now(UTC)
        certificate = (
            self._builder(self._name, self._key, now - timedelta(days=9), not_after)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(Encoding.PEM)

    def _builder(
        self, subject: x509.Name, key: Key, start: datetime, end: datetime | None
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end or datetime.now(UTC) + timedelta(days=9))
        )

    def leaf(
        self,
        name: str = "alice",
        *,
        purpose: x509.ObjectIdentifier = CLIENT,
        key: Key | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        hosts: Iterable[str] = (),
    ) -> Leaf:
        """A certificate for CN=`name`."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        start = start or datetime.now(UTC) - timedelta(days=8)
        builder = self._builder(subject, key, start, end).add_extension(
            x509.ExtendedKeyUsage([purpose]), critical=True
        )
        names = [
            x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
            for host in hosts
        ]
        if names:
            alternative = x509.SubjectAlternativeName(names)
            builder = builder.add_extension(alternative, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Leaf(certificate.public_bytes(Encoding.PEM), pem_of(key))

    def server(self) -> Leaf:
        """A right certificate for a server on this machine."""
        return self.leaf("server", purpose=SERVER, hosts=["localhost", "127.0.0.1"])

    def credentials(self, leaf: Leaf | None = None) -> Credentials:
        """What a client of a server with this CA holds."""
        leaf = leaf or self.leaf()
        return Credentials(self.pem, leaf.cert, leaf.key)


def write_files(folder: Path, ca: bytes, leaf: Leaf) -> None:
    """Writes a client's files under the names it looks for by itself."""
    (folder / "ca.cert").write_bytes(ca)
    (folder / "client.cert").write_bytes(leaf.cert)
    (folder / "client.key").touch(mode=0o600)
    (folder / "client.key").write_bytes(leaf.key)


class Servicer(jobby_pb2_grpc.JobbyServicer):
    """Answers as a test tells it to; by default each job has run and printed `hello`.

    Attributes:
        starts: the requests to start that came.
        stops: the ids that were to be stopped.
        outputs: the requests for output that came.
        on_start, on_stop, on_status, on_output: what a test puts in the place of the default;
            output is all of it, from its first byte, or else the very messages to send.
        ended: set when a stream is over, however it came to that.
    """

    def __init__(self) -> None:
        self.starts: list[pb.StartJobRequest] = []
        self.stops: list[uuid.UUID] = []
        self.outputs: list[pb.GetJobOutputRequest] = []
        self.ended = threading.Event()
        self.on_start: Callable[[Any, Any], pb.StartJobResponse] = lambda request, context: (
            pb.StartJobResponse(job_id=uuid.uuid4().bytes)
        )
        self.on_stop: Callable[[Any, Any], pb.StopJobResponse] = lambda request, context: (
            pb.StopJobResponse()
        )
        self.on_status: Callable[[Any, Any], pb.GetStatusResponse] = lambda request, context: (
            pb.GetStatusResponse(current_status=pb.STATUS_COMPLETE, exit_code=0)
        )
        self.on_output: Callable[[Any, Any], Iterable[bytes | pb.GetJobOutputResponse]] = (
            lambda request, context: [b"hello\n"]
        )

    def StartJob(self, request: pb.StartJobRequest, context: Any) -> pb.StartJobResponse:
        """Notes the request, and answers."""
        self.starts.append(request)
        return self.on_start(request, context)

    def StopJob(self, request: pb.StopJobRequest, context: Any) -> pb.StopJobResponse:
        """Notes the id, and answers."""
        self.stops.append(uuid.UUID(bytes=request.job_id))
        return self.on_stop(request, context)

    def GetStatus(self, request: pb.GetStatusRequest, context: Any) -> pb.GetStatusResponse:
        """Answers."""
        return self.on_status(request, context)

    def GetJobOutput(
        self, request: pb.GetJobOutputRequest, context: Any
    ) -> Iterator[pb.GetJobOutputResponse]:
        """Streams what `on_output` gives, from the wanted byte on, and the end."""
        context.add_callback(self.ended.set)
        self.outputs.append(request)
        chunks = self.on_output(request, context)
        context.send_initial_metadata((("jobby-offset", str(request.offset)),))
        position, digest, whole = 0, sha256(), True
        for chunk in chunks:
            if not isinstance(chunk, bytes):
                whole = False
                yield chunk
                continue
            digest.update(chunk)
            skipped = min(len(chunk), max(0, request.offset - position))
            offset = position + skipped
            position += len(chunk)
            if skipped < len(chunk) or not chunk:
                yield pb.GetJobOutputResponse(data=chunk[skipped:], offset=offset)
        if whole:
            yield end_of(position, sha256=digest.digest())


def end_of(total_bytes: int, **fields: Any) -> pb.GetJobOutputResponse:
    """The message that ends a stream of a job that has completed."""
    end = pb.OutputEnd(
        total_bytes=total_bytes,
        status=pb.STATUS_COMPLETE,
        exit_code=0,
        reason=pb.END_REASON_EXITED,
        **fields,
    )
    return pb.GetJobOutputResponse(offset=total_bytes, end=end)


def refuse(code: grpc.StatusCode, text: str) -> Callable[[Any, Any], Any]:
    """What to put in place of a default so that the call ends with a status."""

    def answer(request: object, context: grpc.ServicerContext) -> None:
        context.abort(code, text)

    return answer


@dataclass
class Peer:
    """A real gRPC server over TLS that runs nothing.

    Attributes:
        port: where it listens.
        servicer: what it answers.
    """

    port: int
    servicer: Servicer
    server: grpc.Server

    @property
    def address(self) -> str:
        """Where to connect to."""
        return f"localhost:{self.port}"


@contextmanager
def serving(
    ca: Authority,
    leaf: Leaf | None = None,
    *,
    client_ca: bytes | None = None,
    port: int = 0,
    handler: grpc.GenericRpcHandler | None = None,
) -> Iterator[Peer]:
    """Runs a server in this process; `handler` answers in the place of the servicer."""
    leaf = leaf or ca.server()
    servicer = Servicer()
    with ThreadPoolExecutor(16) as pool:
        options = [
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 1000),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
        server = grpc.server(pool, options=options)
        if handler is None:
            jobby_pb2_grpc.add_JobbyServicer_to_server(servicer, server)
        else:
            server.add_generic_rpc_handlers([handler])
        credentials = grpc.ssl_server_credentials(
            [(leaf.key, leaf.cert)], client_ca or ca.pem, require_client_auth=True
        )
        port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
        server.start()
        try:
            yield Peer(port, servicer, server)
        finally:
            server.stop(None).wait(DEADLINE_SECONDS)


class Relay:
    """Passes bytes between a client and a server, until it is told otherwise."""

    def __init__(self, port: int) -> None:
        self._target = port  # set by any thread, before the cut that makes it count
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._wake_read, self._wake_write = os.pipe()
        self._command = b""
        self._done = threading.Event()
        self._clients: set[socket.socket] = set()  # the thread's own
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where to connect to."""
        return f"localhost:{self.port}"

    def cut(self) -> None:
        """Resets every connection, as the end of the other machine's process does."""
        self._tell(b"c")

    def lead_to(self, port: int) -> None:
        """Passes connections that are made from now on to another server."""
        self._target = port

    def half_close(self) -> None:
        """Says on every connection's client side that nothing more will come from the server."""
        self._tell(b"h")

    def freeze(self) -> None:
        """Passes on nothing more, without closing anything: the cable is out."""
        self._tell(b"f")

    def close(self) -> None:
        """Ends it."""
        self._tell(b"q")
        self._thread.join(DEADLINE_SECONDS)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _tell(self, command: bytes) -> None:
        self._done.clear()
        os.write(self._wake_write, command)
        assert self._done.wait(DEADLINE_SECONDS)

    def _run(self) -> None:
        pairs: dict[socket.socket, socket.socket] = {}
        frozen = False
        while True:
            watched: list[Any] = [self._wake_read]
            watched += [] if frozen else [self._listener, *pairs]
            for ready in select.select(watched, [], [])[0]:
                if ready is self._listener:
                    here = self._listener.accept()[0]
                    there = socket.create_connection(("127.0.0.1", self._target))
                    pairs |= {here: there, there: here}
                    self._clients.add(here)
                elif ready == self._wake_read:
                    command = os.read(self._wake_read, 1)
                    frozen = command == b"f"
                    if command == b"h":
                        for client in self._clients & pairs.keys():
                            client.shutdown(socket.SHUT_WR)
                    if command in b"cq":
                        for each in pairs:
                            # Close with a reset (socket(7), SO_LINGER).
                            each.setsockopt(
                                socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
                            )
                            each.close()
                        pairs.clear()
                    if command == b"q":
                        self._listener.close()
                        self._done.set()
                        return
                    self._done.set()
                elif ready in pairs:
                    self._pass_on(ready, pairs)

    def _pass_on(self, ready: socket.socket, pairs: dict[socket.socket, socket.socket]) -> None:
        other = pairs[ready]
        try:
            data = ready.recv(1 << 16)
            other.sendall(data)
        except OSError:
            data = b""
        if not data:
            for each in (ready, other):
                del pairs[each]
                each.close()


class Gathered:
    """What was read from a descriptor so far; another thread adds to it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._changed = threading.Condition()
        self._data = bytearray()  # guarded by _changed
        self._ended = False  # guarded by _changed
        self._thread = threading.Thread(target=self._gather, daemon=True)
        self._thread.start()

    def _gather(self) -> None:
        # EIO is how a pseudoterminal says that its other side is closed (pty(7)).
        with suppress(OSError):
            while chunk := os.read(self._fd, 1 << 18):
                with self._changed:
                    self._data += chunk
                    self._changed.notify_all()
        os.close(self._fd)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def until(self, pattern: bytes) -> re.Match[bytes]:
        """Waits until the output matches."""
        end = time.monotonic() + DEADLINE_SECONDS
        with self._changed:
            while not (match := re.search(pattern, bytes(self._data))):
                assert not self._ended, f"no {pattern!r} in {bytes(self._data)!r}"
                assert self._changed.wait(end - time.monotonic()), (
                    f"no {pattern!r} yet in {bytes(self._data)!r}"
                )
            return match

    def all(self) -> bytes:
        """Waits for the end of the output; returns all of it."""
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive(), "the output has not ended"
        return bytes(self._data)


@dataclass
class Done:
    """How a command ended, and what it wrote."""

    code: int
    out: bytes
    err: str


class Running:
    """A command under way; killed at the end of its `with`, if it still runs."""

    def __init__(self, process: "subprocess.Popen[bytes]", out: int | None, err: int) -> None:
        self.process = process
        self.err = Gathered(err)
        self.out = None if out is None else Gathered(out)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def end(self) -> Done:
        """Waits for its end."""
        code = self.process.wait(DEADLINE_SECONDS)
        return Done(code, self.out.all() if self.out else b"", self.err.all().decode())

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_SECONDS)
        if self.process.stdin:
            self.process.stdin.close()


@dataclass
class Cli:
    """The real command, with a home and a working directory of its own.

    Attributes:
        folder: where it is run.
        home: its HOME.
        env: variables it gets besides.
    """

    folder: Path
    home: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def recent(self) -> Path:
        """Where it remembers jobs."""
        return self.home / "state" / "jobby" / "recent.json"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """All of its environment."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "COLUMNS": "100",
            "LC_ALL": "C.UTF-8",
            **self.env,
            **(extra or {}),
        }

    def spawn(
        self,
        *arguments: str | bytes,
        env: Mapping[str, str] | None = None,
        stdout: int | None = None,
        python: Iterable[str] = ("-m", "jobby_cli"),
    ) -> Running:
        """Starts the command; with a descriptor as `stdout`, its output goes there."""
        read, write = os.pipe() if stdout is None else (None, stdout)
        err_read, err_write = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, *python, *arguments],
                cwd=self.folder,
                env=self.environment(env),
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=err_write,
            )
        finally:
            os.close(err_write)
            if stdout is None:
                os.close(write)
        return Running(process, read, err_read)

    def __call__(self, *arguments: str | bytes, **options: Any) -> Done:
        """Runs the command to its end."""
        with self.spawn(*arguments, **options) as running:
            return running.end()

    @contextmanager
    def on_terminal(self, *arguments: str) -> Iterator[tuple[Running, int]]:
        """Runs the command in the foreground of a terminal of its own.

        Yields it and the terminal's other side: what is written there is typed.
        """
        master, slave = os.openpty()
        err_read, err_write = os.pipe()
        process = subprocess.Popen(
            # The terminal is made the controlling one by what then becomes the command.
            [
                sys.executable,
                "-c",
                (
                    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
                    "os.execv(sys.executable, [sys.executable, '-m', 'jobby_cli', *sys.argv[1:]])"
                ),
                *arguments,
            ],
            cwd=self.folder,
            env=self.environment(),
            stdin=slave,
            stdout=slave,
            stderr=err_write,
            start_new_session=True,
        )
        os.close(slave)
        os.close(err_write)
        keyboard = os.dup(master)
        try:
            with Running(process, master, err_read) as running:
                yield running, keyboard
        finally:
            os.close(keyboard)
