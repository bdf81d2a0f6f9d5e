"""What the server's tests share: certificates, a server in this process, and clients of it."""

import asyncio
import ipaddress
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from jobby_core import Job, RecordError
from jobby_proto.v1 import jobby_pb2 as pb
from jobby_server.address import Address
from jobby_server.certificates import Material
from jobby_server.limits import Keep, Limits
from jobby_server.server import JobbyServer
from jobby_server.state_dir import StateDir

DEADLINE_SECONDS = 60.0
"""How long a test waits for what has to happen: a busy machine's worst, and then some."""

T = TypeVar("T")
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
FOREVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def run(test: Coroutine[Any, Any, T]) -> T:
    """Runs an asynchronous test to its end, or fails it at the deadline."""
    return asyncio.run(asyncio.wait_for(test, DEADLINE_SECONDS))


async def until(condition: Callable[[], object]) -> None:
    """Waits until something outside this loop's reach is so; `run` has the deadline."""
    while not condition():  # noqa: ASYNC110 - what it waits for sets no event of this loop
        await asyncio.sleep(0.005)


def parent_of(pid: int) -> int:
    """Returns a process's parent (proc_pid_stat(5))."""
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent doesn't."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def common_name(text: str) -> x509.Name:
    """Returns the subject CN=text."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def key_pem(key: Key) -> bytes:
    """Returns a private key as PEM, without a password."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True)
class Leaf:
    """A certificate and its key."""

    cert_pem: bytes
    key_pem: bytes


@dataclass(frozen=True)
class Authority:
    """A CA made for a test."""

    cert: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self.cert.public_bytes(Encoding.PEM)

    @classmethod
    def create(
        cls,
        name: str,
        *,
        key: Key | None = None,
        issuer: "Authority | None" = None,
        pathlen: int | None = None,
        not_before: datetime | None = None,
        not_after: datetime = FOREVER,
    ) -> Self:
        """Makes a root, or an intermediate of `issuer`."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        signer = key if issuer is None else issuer.key
        builder = (
            _builder(common_name(name), key, signer, not_before=not_before, not_after=not_after)
            .issuer_name(common_name(name) if issuer is None else issuer.cert.subject)
            .add_extension(x509.BasicConstraints(ca=True, path_length=pathlen), critical=True)
            .add_extension(_usage(ca=True), critical=True)
        )
        return cls(builder.sign(signer, _hash(signer)), key)

    def issue(
        self,
        subject: str | x509.Name,
        *,
        purposes: Sequence[x509.ObjectIdentifier] = (CLIENT,),
        usage: x509.KeyUsage | None = None,
        bare: bool = False,
        is_ca: bool = False,
        names: bool = True,
        key: Key | None = None,
        not_before: datetime | None = None,
        not_after: datetime = FOREVER,
    ) -> Leaf:
        """Signs a certificate.

        Args:
            subject: a common name, or a whole name.
            purposes: its extended key usages.
            usage: its key usage; None is what TLS needs.
            bare: no usage of either kind.
            is_ca: whether it says that it is a CA's.
            names: whether a server's has alternative names: localhost and its addresses.
            key: its key; None makes a P-256 one.
            not_before: from when; None is an hour ago.
            not_after: until when.
        """
        name = common_name(subject) if isinstance(subject, str) else subject
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(name, key, self.key, not_before=not_before, not_after=not_after)
            .issuer_name(self.cert.subject)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if not bare:
            builder = builder.add_extension(usage or _usage(ca=is_ca), critical=True)
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=True)
        if SERVER in purposes and names:
            local = [
                x509.DNSName("localhost"),
                x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                x509.IPAddress(ipaddress.ip_address("::1")),
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(local), critical=False)
        cert = builder.sign(self.key, _hash(self.key))
        return Leaf(cert.public_bytes(Encoding.PEM), key_pem(key))

    def material(self, *bundle: "Authority", server: Leaf | None = None) -> Material:
        """Returns what a server loads that trusts this CA and those of `bundle`."""
        leaf = server or self.issue("localhost", purposes=[SERVER])
        pem = b"".join(authority.pem for authority in (self, *bundle))
        return Material(pem, leaf.cert_pem, leaf.key_pem)


def _builder(
    name: x509.Name,
    key: Key,
    issuer: Key,
    *,
    not_before: datetime | None = None,
    not_after: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(not_after)
        # RFC 5280, 4.2.1.1 and 4.2.1.2; Python's ssl asks for them from 3.13 on.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False
        )
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _hash(key: Key) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


class Fifo:
    """Where a job waits until the test lets it go on: `read x < {fifo}` in a shell."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._path = path
        # Open for both, so that neither side blocks on opening it (fifo(7)).
        self._fd = os.open(path, os.O_RDWR)

    def __str__(self) -> str:
        return str(self._path)

    def release(self) -> None:
        """Lets one reader go on."""
        os.write(self._fd, b"go\n")

    def close(self) -> None:
        """Closes it."""
        os.close(self._fd)


class Client:
    """The contract's four calls over one channel, under either of its names."""

    channel: Any  # the tests call methods on it that no contract has

    def __init__(self, channel: grpc.aio.Channel, service: str) -> None:
        def unary(name: str, request: Any, response: Any) -> Any:
            return channel.unary_unary(
                f"/{service}/{name}", request.SerializeToString, response.FromString
            )

        self.channel = channel
        self.start = unary("StartJob", pb.StartJobRequest, pb.StartJobResponse)
        self.stop = unary("StopJob", pb.StopJobRequest, pb.StopJobResponse)
        self.status = unary("GetStatus", pb.GetStatusRequest, pb.GetStatusResponse)
        self.output: Any = channel.unary_stream(
            f"/{service}/GetJobOutput",
            pb.GetJobOutputRequest.SerializeToString,
            pb.GetJobOutputResponse.FromString,
        )

    async def run_job(self, *command: str) -> bytes:
        """Starts a job; returns its id."""
        request = pb.StartJobRequest(command=command[0], args=command[1:])
        response: pb.StartJobResponse = await self.start(request)
        return response.job_id

    def follow(
        self,
        job_id: bytes,
        output: pb.OutputType.ValueType = pb.OUTPUT_TYPE_STDOUT,
        **fields: Any,
    ) -> Any:
        """Opens a stream of a job's output; `fields` are the request's other ones."""
        return self.output(pb.GetJobOutputRequest(job_id=job_id, type=output, **fields))

    async def read(
        self, job_id: bytes, output: pb.OutputType.ValueType = pb.OUTPUT_TYPE_STDOUT
    ) -> bytes:
        """Reads an output to its end."""
        return b"".join([message.data async for message in self.follow(job_id, output)])

    async def wait(self, job_id: bytes) -> pb.GetStatusResponse:
        """Waits for a job's end, as any client can: its output ends with it."""
        await self.read(job_id)
        response: pb.GetStatusResponse = await self.status(pb.GetStatusRequest(job_id=job_id))
        return response


def health(channel: Any) -> Any:
    """Returns the standard health service's calls."""
    return health_pb2_grpc.HealthStub(channel)


def reflection(channel: Any) -> Any:
    """Returns the standard reflection service's call."""
    return reflection_pb2_grpc.ServerReflectionStub(channel)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    """Returns the status that a call, or a stream read to its end, fails with."""
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError("the call was not refused")


@contextmanager
def busy_threads() -> Iterator[Callable[[], None]]:
    """Occupies the loop's only worker thread; yields what lets the next in the queue have it."""
    release = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    busy = loop.run_in_executor(None, release.wait)
    try:
        yield release.set
    finally:
        release.set()
        busy.cancel()


@dataclass(frozen=True)
class Running:
    """A server in this process."""

    server: JobbyServer
    spool: StateDir
    ca: Authority
    address: Address

    @asynccontextmanager
    async def client(
        self,
        leaf: Leaf | str,
        service: str = "jobby.v1.Jobby",
        options: Sequence[tuple[str, Any]] = (),
    ) -> AsyncIterator[Client]:
        """Connects as whom `leaf` names; a string stands for a new certificate of the CA."""
        if isinstance(leaf, str):
            leaf = self.ca.issue(leaf)
        credentials = grpc.ssl_channel_credentials(self.ca.pem, leaf.key_pem, leaf.cert_pem)
        # Each client a connection of its own, as clients in processes of their own have.
        own = [("grpc.use_local_subchannel_pool", 1), *options]
        async with grpc.aio.secure_channel(str(self.address), credentials, own) as channel:
            yield Client(channel, service)


@asynccontextmanager
async def serving(
    ca: Authority,
    *,
    limits: Limits | None = None,
    material: Material | None = None,
    state_dir: Path | None = None,
    keep: Keep | None = None,
    stop_jobs: bool = False,
) -> AsyncIterator[Running]:
    """Runs a server on a free port of loopback; drains it at the end.

    Unless other limits are given, it keeps no job for readers whose stream broke.
    """
    with tempfile.TemporaryDirectory() as parent:
        if state_dir is None:
            spool = StateDir.temporary(Path(parent))
        else:
            spool = StateDir.named(state_dir)
        material = material or ca.material()
        limits = limits or Limits(resume_seconds=0)
        server = JobbyServer(material, spool, limits, keep=keep, stop_jobs=stop_jobs)
        address = await server.start(Address("127.0.0.1", 0))
        try:
            yield Running(server, spool, ca, address)
        finally:
            hurry = asyncio.Event()
            hurry.set()
            assert await server.drain(hurry)
            spool.close()


@contextmanager
def state_folder(path: Path) -> Iterator[Path]:
    """A folder for a durable state; the jobs that run in it at the end are killed."""
    try:
        yield path
    finally:
        for folder in path.glob("jobs/*"):
            with suppress(RecordError):
                Job.attach(folder).stop()


@dataclass(frozen=True)
class Files:
    """The files a server loads, in a folder that it is started in."""

    folder: Path
    ca: Authority

    @classmethod
    def create(cls, folder: Path, ca: Authority) -> Self:
        """Writes them under the names that the server looks for."""
        folder.mkdir()
        leaf = ca.issue("localhost", purposes=[SERVER])
        (folder / "ca.crt").write_bytes(ca.pem)
        (folder / "server.cert").write_bytes(leaf.cert_pem)
        (folder / "server.key").write_bytes(leaf.key_pem)
        (folder / "server.key").chmod(0o600)
        return cls(folder, ca)


@dataclass(frozen=True)
class Process:
    """A server in a process of its own."""

    popen: "subprocess.Popen[str]"
    log: list[str]
    address: str

    def end(self, *signals: int) -> tuple[int, str]:
        """Sends the signals; returns the exit code and all that was logged."""
        for number in signals:
            self.popen.send_signal(number)
        assert self.popen.stderr is not None
        rest = self.popen.stderr.read()  # not communicate: some of it may be buffered already
        return self.popen.wait(DEADLINE_SECONDS), "".join(self.log) + rest


def server_command(*arguments: str) -> list[str]:
    """Returns the command line of a server."""
    return [sys.executable, "-m", "jobby_server", *arguments]


def server_environment(**variables: str) -> dict[str, str]:
    """Returns an environment for a server that knows nothing of this process's own settings."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("JOBBY_", "GRPC_"))}
    return inherited | variables


@contextmanager
def started(
    files: Files, *arguments: str, wrapper: Sequence[str] = (), **variables: str
) -> Iterator[Process]:
    """Runs a server as an operator does; yields once it listens. The test ends it.

    Args:
        files: its working directory.
        arguments: its command line.
        wrapper: a command in front of its own.
        variables: what to add to its environment.
    """
    with subprocess.Popen(
        [*wrapper, *server_command(*arguments)],
        cwd=files.folder,
        env=server_environment(**variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as popen:
        try:
            assert popen.stderr is not None
            log: list[str] = []
            for line in popen.stderr:
                log.append(line)
                if "listening on " in line:
                    break
            else:
                raise AssertionError("the server ended: " + "".join(log))
            yield Process(popen, log, log[-1].rpartition("listening on ")[2].strip())
        finally:
            popen.kill()


def failing(
    files: Files, *arguments: str, wrapper: Sequence[str] = (), **variables: str
) -> tuple[int, str]:
    """Runs a server that is not to start; returns its exit code and what it said."""
    done = subprocess.run(
        [*wrapper, *server_command(*arguments)],
        cwd=files.folder,
        env=server_environment(**variables),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,  # failing is what it is to do
    )
    return done.returncode, done.stdout + done.stderr
