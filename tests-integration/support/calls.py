"""Owns clients that are generated from a contract's text, as a stranger would make them."""

import importlib
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc

from harness.cache import ROOT
from support.certificates import Credentials
from support.waiting import DEADLINE_SECONDS

TESTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Contract:
    """A text, and the Python that protoc makes of it.

    Attributes:
        service: the service's full name, as it stands in a method's path.
        messages: the module of its messages.
        stubs: the module of its stub.
    """

    service: str
    messages: ModuleType
    stubs: ModuleType

    # Any: what is generated while the tests run has no types that mypy could know.
    def __getattr__(self, name: str) -> Any:
        return getattr(self.messages, name)


def generate(folder: Path, proto: Path, *, root: Path, service: str) -> Contract:
    """Generate the code for `proto`, a file below `root`, into `folder`, and import it."""
    name = proto.relative_to(root)
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-I{root}"),
            *(f"--python_out={folder}", f"--grpc_python_out={folder}", str(name)),
        ],
        check=True,
    )
    module = ".".join(name.with_suffix("").parts)
    sys.path.insert(0, str(folder))
    try:
        return Contract(
            service=service,
            messages=importlib.import_module(f"{module}_pb2"),
            stubs=importlib.import_module(f"{module}_pb2_grpc"),
        )
    finally:
        sys.path.remove(str(folder))


def generate_all(folder: Path) -> dict[str, Contract]:
    """Both texts there are: the RFD's and the published one."""
    published = ROOT / "proto"
    return {
        "rfd": generate(folder, TESTS / "rfd.proto", root=TESTS, service="Jobby"),
        "v1": generate(
            folder,
            published / "jobby" / "v1" / "jobby.proto",
            root=published,
            service="jobby.v1.Jobby",
        ),
    }


def channel(
    address: str,
    ca: bytes,
    identity: Credentials | None,
    options: Sequence[tuple[str, Any]] = (),
) -> grpc.Channel:
    """Open a channel over TLS, with or without a client certificate, and no other setting."""
    credentials = grpc.ssl_channel_credentials(
        root_certificates=ca,
        private_key=None if identity is None else identity.key,
        certificate_chain=None if identity is None else identity.cert,
    )
    # A pool of its own: otherwise channels of the same settings share one connection.
    return grpc.secure_channel(
        address, credentials, [("grpc.use_local_subchannel_pool", 1), *options]
    )


class Client:
    """Somebody who talks to a server through generated code.

    Attributes:
        contract: the code.
        stub: the generated stub, for what has no method here.
        channel: what it talks over.
    """

    def __init__(self, contract: Contract, over: grpc.Channel) -> None:
        self.contract = contract
        self.channel = over
        self.stub: Any = contract.stubs.JobbyStub(over)

    def start(self, command: str, *arguments: str) -> bytes:
        """Start a job; returns its id."""
        request = self.contract.StartJobRequest(command=command, args=arguments)
        answer = self.stub.StartJob(request, timeout=DEADLINE_SECONDS)
        return bytes(answer.job_id)

    def stop(self, job_id: bytes) -> None:
        """Stop a job."""
        self.stub.StopJob(self.contract.StopJobRequest(job_id=job_id), timeout=DEADLINE_SECONDS)

    def status(self, job_id: bytes) -> tuple[str, int | None]:
        """A job's status by its name in the contract, and the exit code if there is one."""
        answer = self.stub.GetStatus(
            self.contract.GetStatusRequest(job_id=job_id), timeout=DEADLINE_SECONDS
        )
        name = self.contract.Status.Name(answer.current_status)
        return name, answer.exit_code if answer.HasField("exit_code") else None

    def output(self, job_id: bytes, stream: str = "STDOUT") -> Any:
        """An output's call under way: an iterator of messages."""
        kind = self.contract.OutputType.Value(f"OUTPUT_TYPE_{stream}")
        request = self.contract.GetJobOutputRequest(job_id=job_id, type=kind)
        # A stream ends at the deadline with an error: a test that hangs says so.
        return self.stub.GetJobOutput(request, timeout=2 * DEADLINE_SECONDS)

    def read(self, job_id: bytes, stream: str = "STDOUT") -> bytes:
        """All of an output, once it is complete."""
        return joined(self.output(job_id, stream))

    def ended(self, job_id: bytes) -> tuple[str, int | None]:
        """The status of a job, once it has ended."""
        for _ in self.output(job_id):
            pass
        return self.status(job_id)


Connect = Callable[[str], Client]
"""Connects somebody to the server at an address."""


@contextmanager
def client(
    contract: Contract,
    address: str,
    identity: Credentials,
    options: Sequence[tuple[str, Any]] = (),
) -> Iterator[Client]:
    """A client over a connection of its own."""
    with channel(address, identity.ca, identity, options) as over:
        yield Client(contract, over)


@dataclass(frozen=True)
class Failure:
    """All that a client can see of a call that failed."""

    code: grpc.StatusCode
    text: str
    initial_metadata: tuple[Any, ...]
    trailing_metadata: tuple[Any, ...]


def failure(call: Callable[..., object], *arguments: object) -> Failure:
    """How `call(*arguments)` fails; for a stream, the call is `list`.

    Raises:
        AssertionError: it succeeds.
    """
    try:
        result = call(*arguments)
    except grpc.RpcError as error:
        # Any: what gRPC raises is a call too, which its types do not say.
        ended: Any = error
        initial, trailing = ended.initial_metadata() or (), ended.trailing_metadata() or ()
        return Failure(ended.code(), ended.details(), tuple(initial), tuple(trailing))
    raise AssertionError(f"the call has succeeded: {result!r}")


def raw(over: grpc.Channel, path: str, request: bytes) -> bytes:
    """Make a call of bytes: no generated code stands between the test and the wire."""
    # Any: without serializers, which the types do not foresee, bytes go through as they are.
    make: Any = over.unary_unary
    return bytes(make(path)(request, timeout=DEADLINE_SECONDS))


def joined(messages: Any) -> bytes:
    """All bytes of a stream, to its end."""
    return b"".join(message.data for message in messages)


def digest(messages: Any) -> str:
    """SHA-256 of a whole output."""
    found = sha256()
    for message in messages:
        found.update(message.data)
    return found.hexdigest()


def as_text(job_id: bytes) -> str:
    """An id as it is written."""
    return str(uuid.UUID(bytes=job_id))
