"""The gate before every call: nobody passes unknown, and no error text leaks."""

import asyncio
import logging
import re
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from server_authority import Authority, Leaf
from server_client import Client, health, reflection, refused
from server_running import serving
from server_waiting import run

from jobby_core import OutputError
from jobby_proto.v1 import jobby_pb2 as pb
from jobby_server import jobs_table, tls, wire
from jobby_server.identity import Authorities, Owner
from jobby_server.interceptor import Gate, caller
from jobby_server.lifetime import Lifetimes
from jobby_server.refusal import RefusedError

CODE = grpc.StatusCode
ID = b"x" * 16


def every_method(channel: Any) -> dict[str, Callable[[], Any]]:
    """Returns a call of every method there is, of the contract, health and reflection."""
    calls: dict[str, Callable[[], Any]] = {}
    for service in wire.SERVICE_NAMES:
        client = Client(channel, service)
        calls |= {
            f"{service} start": partial(client.start, pb.StartJobRequest(command="true")),
            f"{service} stop": partial(client.stop, pb.StopJobRequest(job_id=ID)),
            f"{service} status": partial(client.status, pb.GetStatusRequest(job_id=ID)),
            f"{service} output": partial(client.follow, ID),
        }
    request = health_pb2.HealthCheckRequest()
    # Without a message: one that is sent after the call was refused is grpc.aio's own INTERNAL.
    return calls | {
        "health check": lambda: health(channel).Check(request),
        "health watch": lambda: health(channel).Watch(request),
        "reflection": lambda: reflection(channel).ServerReflectionInfo(),
        "an unknown method": lambda: channel.unary_unary("/jobby.v1.Jobby/Nope")(b""),
        "an unknown service": channel.stream_stream("/no.Such/Thing"),
    }


def let_in_by_tls(ca: Authority, kind: str) -> Leaf:
    """Returns a certificate that gRPC takes and Jobby must not."""
    match kind:
        case "an empty subject":
            return ca.issue(x509.Name([]))
        case "no usages":
            return ca.issue("alice", bare=True)
        case "RSA with 1024 bits":
            return ca.issue("alice", key=rsa.generate_private_key(65537, 1024))
        case "NUL in the name":
            subject = x509.NameAttribute(NameOID.COMMON_NAME, "alice\0evil", _validate=False)
            return ca.issue(x509.Name([subject]))
        case "a CA's that may sign more than certificates":  # TLS looks at its key usage alone
            usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
            return ca.issue("alice", is_ca=True, usage=usage)
        case _:
            between = Authority.create("Between", issuer=ca)
            leaf = between.issue("alice")
            return Leaf(leaf.cert_pem + between.pem, leaf.key_pem)


@pytest.mark.parametrize(
    "kind",
    [
        "an empty subject",
        "no usages",
        "RSA with 1024 bits",
        "NUL in the name",
        "a CA's that may sign more than certificates",
        "through an intermediate",
    ],
)
def test_whom_the_certificate_does_not_name_gets_nothing_at_all(kind: str) -> None:
    """On every method, known or not: UNAUTHENTICATED with the reason, and nothing is done."""

    async def scenario() -> None:
        ca = Authority.create("Jobby test CA", pathlen=0)  # gRPC doesn't mind the intermediate
        async with serving(ca) as running, running.client(let_in_by_tls(ca, kind)) as client:
            for method, call in every_method(client.channel).items():
                code, text = await refused(call())
                assert code is CODE.UNAUTHENTICATED, (method, code, text)
                assert "client certificate" in text
            assert len(running.server.store) == 0

    run(scenario())


def test_a_certificate_that_expires_is_refused_on_its_open_connection(ca: Authority) -> None:
    """A connection outlives the certificate in gRPC; here every call looks at the dates.

    A stream that is open when the certificate expires ends then, with the
    reason, and not with the status of a complete output.
    """

    async def scenario() -> None:
        # The job needs no time of the certificate's: it is of another one, of the same name.
        async with serving(ca) as running, running.client("alice") as lasting:
            job = await lasting.run_job("sleep", "1000")
            for seconds in (2, 8, 32):  # a busy machine may take longer to open two streams
                expiry = datetime.now(UTC) + timedelta(seconds=seconds)
                async with running.client(ca.issue("alice", not_after=expiry)) as alice:
                    if streams := await opened(alice, job, expiry):
                        await ends_with_its_certificate(alice, streams)
                        break
            else:
                raise AssertionError("this machine is too slow for a certificate that expires")
            assert len(running.server.lifetimes) == 0

    run(scenario())


async def opened(alice: Client, job: bytes, expiry: datetime) -> tuple[Any, Any] | None:
    """Opens a stream of each kind; returns None if the certificate expired meanwhile."""
    output = alice.follow(job)
    watch = aiter(health(alice.channel).Watch(health_pb2.HealthCheckRequest()))
    try:
        await anext(watch)
        open_in_time = "jobby-offset" in dict(await output.initial_metadata() or ())
    except grpc.aio.AioRpcError:
        open_in_time = False
    if not open_in_time and datetime.now(UTC) < expiry.replace(microsecond=0):
        raise AssertionError(f"the streams were refused before {expiry}")
    return (output, watch) if open_in_time else None


async def ends_with_its_certificate(alice: Client, streams: tuple[Any, Any]) -> None:
    """Checks that open streams end when the certificate expires, and that no call begins then."""
    for code, text in await asyncio.gather(*map(refused, streams)):
        assert code is CODE.UNAUTHENTICATED
        assert "the client certificate expired at" in text
    for method, call in every_method(alice.channel).items():
        code, text = await refused(call())
        assert code is CODE.UNAUTHENTICATED, method
        assert "expired" in text


def test_unknown_methods_are_told_so_to_those_who_may_call(ca: Authority) -> None:
    """Whatever the cardinality of the attempt, the answer is UNIMPLEMENTED."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            for method in ("/jobby.v1.Jobby/Nope", "/no.Such/Thing", "/"):
                for call in (
                    alice.channel.unary_unary(method)(b""),
                    alice.channel.unary_stream(method)(b""),
                    alice.channel.stream_stream(method)(),
                ):
                    assert (await refused(call))[0] is CODE.UNIMPLEMENTED

    run(scenario())


@pytest.mark.parametrize("method", ["StartJob", "StopJob", "GetStatus", "GetJobOutput"])
def test_a_request_that_cannot_be_parsed_is_refused(ca: Authority, method: str) -> None:
    """Junk, and text that is not UTF-8, is the client's mistake and not the server's defect."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            raw = alice.channel.unary_stream(f"/jobby.v1.Jobby/{method}")
            for junk in (b"\xff\xff\xff", b"\x0a\x7f"):
                code, text = await refused(raw(junk))
                assert code is CODE.INVALID_ARGUMENT
                assert "request" in text

    run(scenario())


def test_an_unexpected_exception_is_masked_and_logged(
    ca: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets an incident's id, the log has the same id with the whole story."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            shutil.rmtree(running.spool.path)  # somebody tidied up under the server
            code, text = await refused(alice.start(pb.StartJobRequest(command="true")))
            assert code is CODE.INTERNAL
            assert str(running.spool.path) not in text
            incident = re.search(r"incident ([0-9a-f]{12})", text)
            assert incident is not None
            (logged,) = [r for r in caplog.records if incident[1] in r.getMessage()]
            assert logged.levelno == logging.ERROR
            assert logged.exc_info is not None
            assert isinstance(logged.exc_info[1], FileNotFoundError)

    run(scenario())


class Servicer:
    """A service with a method of every cardinality, each failing as it is told."""

    def fail(self, request: bytes) -> bytes:
        """Does what a request asks for."""
        match request:
            case b"refuse":
                raise RefusedError(CODE.FAILED_PRECONDITION, "no")
            case b"core":
                raise OutputError("open /secret", "broken", "mend it")
            case b"timeout":
                raise TimeoutError("secret")
            case b"bug":
                raise ValueError("secret")
            case _:
                return caller().owner.name.encode() + b"/" + request

    async def unary_unary(self, request: bytes, context: object) -> bytes:
        """One to one."""
        del context
        return self.fail(request)

    async def unary_stream(self, request: bytes, context: object) -> AsyncIterator[bytes]:
        """One to many, as a generator."""
        del context
        yield self.fail(request)

    async def stream_unary(self, requests: AsyncIterator[bytes], context: object) -> bytes:
        """Many to one."""
        del context
        return b" ".join([self.fail(request) async for request in requests])

    async def stream_stream(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """Many to many, writing to the context."""
        async for request in requests:
            await context.write(self.fail(request))

    def handlers(self) -> dict[str, Any]:
        """Returns the handlers; they parse by cutting off the first byte."""
        kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
        return {
            kind: getattr(grpc, f"{kind}_rpc_method_handler")(getattr(self, kind), cut)
            for kind in kinds
        }


def cut(raw: bytes) -> bytes:
    """Parses a request."""
    if raw[:1] != b"=":
        raise ValueError("secret")
    return raw[1:]


async def answer(channel: grpc.aio.Channel, kind: str, request: bytes) -> bytes:
    """Makes a call of one cardinality and returns all of its answer."""
    call: Any = getattr(channel, kind)(f"/test.Test/{kind}")
    sent = call(iter([request]) if kind.startswith("stream") else request)
    if kind.endswith("stream"):
        return b"".join([message async for message in sent])
    found: bytes = await sent
    return found


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
def test_every_cardinality_is_wrapped(ca: Authority, kind: str) -> None:
    """Identity, parsing, refusals and masking are the same for all four kinds of methods."""
    wanted = {
        b"=refuse": (CODE.FAILED_PRECONDITION, "no"),
        b"=core": (CODE.INTERNAL, "incident"),
        b"=timeout": (CODE.INTERNAL, "incident"),
        b"=bug": (CODE.INTERNAL, "incident"),
        b"unparsable": (CODE.INVALID_ARGUMENT, "request"),
    }

    async def scenario() -> None:
        server = grpc.aio.server(interceptors=[Gate(Authorities(ca.pem), Lifetimes())])
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("test.Test", Servicer().handlers())]
        )
        port = server.add_secure_port("127.0.0.1:0", tls.credentials(ca.material()))
        await server.start()
        leaf = ca.issue("alice")
        credentials = grpc.ssl_channel_credentials(ca.pem, leaf.key_pem, leaf.cert_pem)
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
            assert await answer(channel, kind, b"=hi") == b"CN=alice/hi"
            for request, (code, words) in wanted.items():
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await answer(channel, kind, request)
                assert caught.value.code() is code
                assert words in (caught.value.details() or "")
                assert "secret" not in (caught.value.details() or "")
        await server.stop(None)

    run(scenario())


def test_outside_of_a_call_there_is_no_caller() -> None:
    """A servicer that were reached around the gate would fail, not serve nobody's request."""
    with pytest.raises(LookupError):
        caller()


def test_a_client_without_tls_is_nobody(ca: Authority) -> None:
    """Should the server ever listen without TLS, the gate still lets nobody pass."""

    async def scenario() -> None:
        server = grpc.aio.server(interceptors=[Gate(Authorities(ca.pem), Lifetimes())])
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("test.Test", Servicer().handlers())]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            untyped: Any = channel
            code, text = await refused(untyped.unary_unary("/test.Test/unary_unary")(b"=hi"))
        assert code is CODE.UNAUTHENTICATED
        assert "TLS 1.3 only" in text
        await server.stop(None)

    run(scenario())


def test_health_and_reflection_answer_over_the_same_tls(ca: Authority) -> None:
    """Load balancers and tools such as grpcurl find both names and the whole contract."""

    async def scenario() -> None:
        async with serving(ca) as running, running.client("alice") as alice:
            for name in ("", *wire.SERVICE_NAMES):
                found = await health(alice.channel).Check(
                    health_pb2.HealthCheckRequest(service=name)
                )
                assert found.status == health_pb2.HealthCheckResponse.SERVING
            unknown = health(alice.channel).Check(health_pb2.HealthCheckRequest(service="nope"))
            assert (await refused(unknown))[0] is CODE.NOT_FOUND

            info = reflection(alice.channel).ServerReflectionInfo
            asked = [
                reflection_pb2.ServerReflectionRequest(list_services=""),
                reflection_pb2.ServerReflectionRequest(file_containing_symbol="jobby.v1.Jobby"),
            ]
            listed, described = [a async for a in info(iter(asked))]
            names = {service.name for service in listed.list_services_response.service}
            assert names >= {"jobby.v1.Jobby", "grpc.health.v1.Health"}
            files = described.file_descriptor_response.file_descriptor_proto
            assert pb.DESCRIPTOR.serialized_pb in files

    run(scenario())


def test_the_owner_is_what_the_certificate_says(ca: Authority) -> None:
    """What is kept has the whole name and the groups of the certificate that started the job."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "ops"),
            x509.NameAttribute(NameOID.COMMON_NAME, "alice"),
        ]
    )

    async def scenario() -> None:
        async with serving(ca) as running, running.client(ca.issue(subject)) as alice:
            await alice.run_job("true")
            ((job_id, record),) = running.server.store
            assert record.owner == Owner(
                "CN=alice,OU=ops,O=Example", Authorities(ca.pem)._cas[0][1]
            )
            row = await running.server._journal.read(jobs_table.find, job_id, record.owner)
            assert row is not None
            assert row.groups == {"Example", "ops"}

    run(scenario())
