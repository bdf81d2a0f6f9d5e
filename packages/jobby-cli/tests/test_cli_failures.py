import signal
import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cli_authority import SERVER, Authority, Leaf
from cli_command import Cli
from cli_files import write_files
from cli_peer import Peer, refuse, serving
from cli_waiting import DEADLINE_SECONDS
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from jobby_cli.failures import exit_code_of
from jobby_cli.printable import printable
from jobby_client import Client, errors
from jobby_client._probe import Verdict, probe
from jobby_client.address import Address
from jobby_proto.v1 import jobby_pb2 as pb

JOB = str(uuid.uuid4())
NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 64),
        (grpc.StatusCode.FAILED_PRECONDITION, 65),
        (grpc.StatusCode.NOT_FOUND, 66),
        (grpc.StatusCode.UNAVAILABLE, 69),
        (grpc.StatusCode.INTERNAL, 70),
        (grpc.StatusCode.UNIMPLEMENTED, 70),
        (grpc.StatusCode.UNKNOWN, 70),
        (grpc.StatusCode.DATA_LOSS, 74),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 75),
        (grpc.StatusCode.UNAUTHENTICATED, 77),
        (grpc.StatusCode.PERMISSION_DENIED, 77),
    ],
)
@pytest.mark.parametrize("verb", [["start", "x"], ["status", JOB], ["stop", JOB], ["output", JOB]])
def test_each_status_has_its_exit_code(
    jobby: Cli, peer: Peer, code: grpc.StatusCode, exit_code: int, verb: list[str]
) -> None:
    """What the server answers decides the exit code, and its words are on stderr, on one line."""
    answer = refuse(code, "these are the server's words")
    peer.servicer.on_start = peer.servicer.on_stop = answer
    peer.servicer.on_status = peer.servicer.on_output = answer
    done = jobby(*verb)
    assert (done.code, done.out) == (exit_code, b"")
    assert "these are the server's words" in done.err
    assert done.err.count("\n") == 1


def test_every_error_of_the_client_has_an_exit_code() -> None:
    """No typed error is left without an exit code."""
    kinds = errors.JobbyClientError.__subclasses__()
    for kind in kinds:
        kinds += kind.__subclasses__()
        assert exit_code_of(kind.__new__(kind)) in {64, 65, 66, 69, 70, 74, 75, 77, 78}
    assert len(kinds) >= 12


def test_a_stream_that_fails_later_says_how_far_it_came(jobby: Cli, peer: Peer) -> None:
    """An error after some output: what came is written, and the error names the amount."""

    def output(request: object, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"x" * 500
        context.abort(grpc.StatusCode.DATA_LOSS, "the file was truncated")

    peer.servicer.on_output = output
    done = jobby("output", JOB)
    assert (done.code, done.out) == (74, b"x" * 500)
    assert "the file was truncated (after 500 bytes)" in done.err


def test_a_server_that_shuts_down_breaks_the_stream(jobby: Cli, peer: Peer) -> None:
    """The server's farewell isn't the output's end: 69."""

    def output(request: object, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"x"
        context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down; come back")

    peer.servicer.on_output = output
    done = jobby("output", "--reconnect", "0", JOB)
    assert (done.code, done.out) == (69, b"x")
    assert "the server is shutting down" in done.err


def test_no_server(jobby: Cli) -> None:
    """Nobody listens: 69, and where it was sought."""
    with socket.socket() as holder:  # nobody is given its port meanwhile
        holder.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        for verb in (["start", "x"], ["status", JOB], ["stop", JOB], ["output", JOB]):
            done = jobby("--server", address, *verb)
            assert done.code == 69
            assert f"no server answers at {address} (Connection refused)" in done.err


def test_no_such_host(jobby: Cli) -> None:
    """A name that doesn't resolve: 69, and the name."""
    done = jobby("--server", "no-such-host.invalid:1", "status", JOB)
    assert done.code == 69
    assert "no-such-host.invalid" in done.err


@pytest.mark.parametrize("host", ["no..name", ".example", f"{'x' * 64}.example"])
def test_a_host_that_is_no_name(jobby: Cli, ca: Authority, host: str) -> None:
    """What cannot be a host's name isn't there either: 69, the name, and an error of ours."""
    for verb in (["start", "x"], ["status", JOB], ["output", JOB]):
        done = jobby("--server", f"{host}:1", *verb)
        assert done.code == 69
        assert f"there is no machine called {host}" in done.err
    with Client(f"{host}:1", ca.credentials()) as client:
        with pytest.raises(errors.UnavailableError):
            client.status(JOB)


def test_a_host_called_like_a_scheme_is_a_host(jobby: Cli) -> None:
    """gRPC by itself would take `unix:1` for a socket in the working directory."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(jobby.folder / "1"))
        listener.listen()
        listener.setblocking(False)
        done = jobby("--server", "unix:1", "status", JOB)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert done.code == 69


@contextmanager
def listening(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """Something that isn't ours; gives its address. Answers as often as gRPC and we try."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with suppress(OSError):
                while True:
                    with listener.accept()[0] as connection:
                        answer(connection)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # ends the wait for the next one
            thread.join()


def test_something_else_listens(jobby: Cli) -> None:
    """What isn't a TLS server is told as such: 69."""

    def answer(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with listening(answer) as address:
        done = jobby("--server", address, "status", JOB)
    assert done.code == 69
    assert f"what listens at {address} doesn't speak TLS" in done.err


@pytest.mark.parametrize("read", [1 << 16, 1])  # what is left unread makes the end a reset
def test_who_closes_at_once_may_be_asked_again(jobby: Cli, read: int) -> None:
    """A server that is starting, ending or full takes the connection and lets it go: 69."""
    with listening(lambda connection: connection.recv(read)) as address:
        done = jobby("--server", address, "status", JOB)
    assert done.code == 69
    assert f"{address} closes the connection at once; it may be starting" in done.err


@pytest.mark.parametrize(("breaks", "verdict"), [(2, Verdict.HEALTHY), (3, Verdict.REFUSED)])
def test_a_bad_network_is_no_refusal(
    ca: Authority, tmp_path: Path, breaks: int, verdict: Verdict
) -> None:
    """It may cut a connection just after the handshake, but hardly each time."""
    leaf = ca.server()
    (tmp_path / "server.pem").write_bytes(leaf.cert + leaf.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    context.set_alpn_protocols(["h2"])
    made: list[ssl.SSLSocket] = []

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            made.append(tls)
            if len(made) > breaks:
                tls.sendall(b"\0")
                tls.recv(1)

    with listening(answer) as address:
        assert probe(Address.parse(address), ca.credentials()).verdict is verdict
    assert len(made) == 3


def test_a_server_of_tls_1_2_is_told(jobby: Cli, ca: Authority, tmp_path: Path) -> None:
    """Less than TLS 1.3 is never spoken: 69, and why."""
    leaf = ca.server()
    (tmp_path / "server.pem").write_bytes(leaf.cert + leaf.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tmp_path / "server.pem")
    answers = []

    def answer(connection: socket.socket) -> None:
        try:
            context.wrap_socket(connection, server_side=True)
        except ssl.SSLError as error:
            answers.append(error.reason)

    with listening(answer) as address:
        done = jobby("--server", address, "status", JOB)
    assert len(answers) >= 2, "gRPC itself refused TLS 1.2 too"
    assert done.code == 69
    assert "TLS 1.3" in done.err


def test_a_certificate_of_another_ca_is_refused_in_words(bare: Cli, ca: Authority) -> None:
    """The server just closes the connection; the command finds out why: 77."""
    other = Authority()
    write_files(bare.folder, ca.pem, other.leaf())
    with serving(ca) as peer:
        for verb in (["start", "x"], ["status", JOB], ["stop", JOB], ["output", JOB]):
            done = bare("--server", peer.address, *verb)
            assert done.code == 77
            assert "doesn't accept client.cert" in done.err
            assert "not signed by the CA in ca.cert" in done.err
            assert done.err.count("\n") == 1, "gRPC's own log stays out of it"
        assert not peer.servicer.starts


def test_two_cas_are_fine_if_the_server_trusts_the_clients(bare: Cli, ca: Authority) -> None:
    """That another CA signed the client than the server is no mistake by itself."""
    other = Authority()
    write_files(bare.folder, ca.pem, other.leaf())
    with serving(ca, client_ca=other.pem) as peer:
        assert bare("--server", peer.address, "status", JOB).code == 0


def test_a_server_of_another_ca_is_not_trusted(bare: Cli, ca: Authority) -> None:
    """A server that our CA didn't sign gets nothing: 77, and which file was looked into."""
    write_files(bare.folder, ca.pem, ca.leaf())
    with serving(Authority(), client_ca=ca.pem) as peer:
        done = bare("--server", peer.address, "start", "x")
        assert done.code == 77
        assert "not signed by a CA in ca.cert" in done.err
        assert done.err.count("\n") == 1, "gRPC's own log stays out of it"
        assert not peer.servicer.starts


def test_a_server_with_another_name_is_not_trusted(bare: Cli, ca: Authority) -> None:
    """The server's certificate has to be for the name it is called by: 77."""
    write_files(bare.folder, ca.pem, ca.leaf())
    with serving(ca, ca.leaf(purpose=SERVER, hosts=["elsewhere.example"])) as peer:
        done = bare("--server", peer.address, "start", "x")
    assert done.code == 77
    assert "not valid for 'localhost'" in done.err


@pytest.mark.parametrize(
    ("leaf", "said"),
    [
        (lambda ca: ca.leaf(end=NOW - timedelta(days=1)), "it expired at"),
        (lambda ca: ca.leaf(start=NOW + timedelta(days=1)), "is not valid before"),
        (lambda ca: ca.leaf(purpose=SERVER), "not for clients"),
        (lambda ca: Leaf(ca.leaf().cert, ca.leaf().key), "is not the key of"),
        (lambda ca: Leaf(b"", ca.leaf().key), "it is empty"),
        (lambda ca: Leaf(b"what?", ca.leaf().key), "no readable certificate"),
        (lambda ca: Leaf(ca.leaf().cert, b"what?"), "no private key"),
    ],
)
def test_bad_files_of_ones_own_are_told_before_any_call(
    jobby: Cli, peer: Peer, ca: Authority, leaf: object, said: str
) -> None:
    """What no server could accept is 78, whatever the verb, and the server hears nothing of it."""
    assert callable(leaf)
    write_files(jobby.folder, ca.pem, leaf(ca))
    done = jobby("start", "x")
    assert (done.code, done.out) == (78, b"")
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not peer.servicer.starts


@pytest.mark.parametrize("name", ["ca.cert", "client.cert", "client.key"])
def test_a_missing_file_is_named_with_the_way_out(jobby: Cli, name: str) -> None:
    """The default files: which is missing, and which option names another."""
    (jobby.folder / name).unlink()
    done = jobby("start", "x")
    assert done.code == 78
    assert name in done.err
    assert "no such file" in done.err
    assert "jobby certs init" in done.err
    role = {"ca.cert": "--ca", "client.cert": "--cert", "client.key": "--key"}[name]
    assert role in done.err


def test_a_key_that_others_may_read_is_refused(jobby: Cli) -> None:
    """A private key open to others is no secret: 78, and how to mend it."""
    (jobby.folder / "client.key").chmod(0o644)
    done = jobby("start", "x")
    assert done.code == 78
    assert "chmod 600" in done.err


@pytest.mark.parametrize("label", ["ENCRYPTED PRIVATE KEY", "PRIVATE KEY"])
def test_no_password_is_asked_for(jobby: Cli, ca: Authority, label: str) -> None:
    """On a terminal, OpenSSL would ask for the password of a key and wait; from 3.6 on also for
    one whose label doesn't say that it has one."""
    leaf = ca.leaf()
    locked = load_pem_private_key(leaf.key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
    )
    key = locked.replace(b"ENCRYPTED PRIVATE KEY", label.encode())
    write_files(jobby.folder, ca.pem, Leaf(leaf.cert, key))
    with jobby.on_terminal("start", "x") as (running, _):
        done = running.end()
    assert (done.code, done.out) == (78, b"")


def test_what_the_server_says_cannot_steer_the_terminal(jobby: Cli, peer: Peer) -> None:
    """Escape sequences and line breaks in an error arrive as text."""
    evil = "\x1b[31mred\x1b]0;title\x07\r\njobby: forged \u202eline"
    peer.servicer.on_start = refuse(grpc.StatusCode.INVALID_ARGUMENT, evil)
    done = jobby("start", "x")
    assert done.code == 64
    assert done.err.endswith("\n")
    assert done.err[:-1].isprintable()
    assert "\\x1b[31mred" in done.err


@given(st.text())
def test_printable_leaves_nothing_that_could_steer(text: str) -> None:
    """Whatever comes in, what goes out is printable, on one line, and can be encoded."""
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()  # nothing that cannot be written
    if text.isprintable():
        assert shown == text


def state(number: int) -> Callable[[object, object], pb.GetStatusResponse]:
    """Answers with a state by its number, whatever that is."""
    return lambda request, context: pb.GetStatusResponse.FromString(bytes([8, number]))  # field 1


def test_an_answer_outside_of_the_contract_is_told(jobby: Cli, peer: Peer) -> None:
    """No id, or a state nobody knows: 70, not a traceback and not a guess."""
    peer.servicer.on_start = lambda request, context: pb.StartJobResponse(job_id=b"short")
    done = jobby("start", "x")
    assert (done.code, done.out) == (70, b"")
    for number in (0, 77):
        peer.servicer.on_status = state(number)
        done = jobby("status", JOB)
        assert (done.code, done.out) == (70, b"")
        assert "unknown state" in done.err


def test_a_defect_is_a_sentence_too(jobby: Cli) -> None:
    """Even what nobody foresaw ends without a traceback: 70; JOBBY_DEBUG shows it."""
    broken = ("-c", "import sys; import jobby_cli.main as m; m.Session = None; sys.exit(m.main())")
    done = jobby("status", python=broken)
    assert done.code == 70
    assert done.err.startswith("jobby: defect in jobby: TypeError")
    assert done.err.count("\n") == 1
    assert "Traceback" in jobby("status", python=broken, env={"JOBBY_DEBUG": "1"}).err


def test_say_survives_a_closed_stderr(jobby: Cli) -> None:
    """With nobody to tell, the exit code still tells."""
    done = jobby(
        "stop",
        python=(
            "-c",
            (
                "import os, sys; os.close(2);"
                "os.execv(sys.executable, [sys.executable, '-m', 'jobby_cli', *sys.argv[1:]])"
            ),
        ),
    )
    assert (done.code, done.out) == (64, b"")


def test_a_missing_verb_is_told_by_the_exit_code_alone_if_need_be(jobby: Cli) -> None:
    """Where the help for it cannot be written, the exit code still tells."""
    full = (
        "import os, sys; os.dup2(os.open('/dev/full', os.O_WRONLY), 2);"
        "os.execv(sys.executable, [sys.executable, '-m', 'jobby_cli', *sys.argv[1:]])"
    )
    for words in ([], ["certs"]):
        assert jobby(*words, python=("-c", full)).code == 64


def held_start(peer: Peer) -> tuple[threading.Event, threading.Event]:
    """Has the peer answer no start before the second event; the first tells that one was asked."""
    asked, go = threading.Event(), threading.Event()

    def start(request: object, context: grpc.ServicerContext) -> pb.StartJobResponse:
        asked.set()
        go.wait(DEADLINE_SECONDS)
        return pb.StartJobResponse(job_id=uuid.uuid4().bytes)

    peer.servicer.on_start = start
    return asked, go


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_in_a_start_says_what_is_not_known(
    jobby: Cli, peer: Peer, number: signal.Signals, code: int
) -> None:
    """A start that a signal ends may have started the job: that is said, with its id."""
    asked, go = held_start(peer)
    with jobby.spawn("start", "x", "--request-id", "mine") as running:
        assert asked.wait(DEADLINE_SECONDS)
        running.send(number)
        done = running.end()
    go.set()
    assert (done.code, done.out) == (code, b"")
    assert "may have been started; with --request-id mine the same" in done.err


def test_a_signal_that_was_ignored_stays_ignored(jobby: Cli, peer: Peer) -> None:
    """What a parent has a signal ignored for, as nohup has SIGHUP, is not ended by it."""
    asked, go = held_start(peer)
    ignoring = (
        "import os, signal, sys\n"
        "for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'jobby_cli', *sys.argv[1:]])"
    )
    with jobby.spawn("start", "x", python=("-c", ignoring)) as running:
        assert asked.wait(DEADLINE_SECONDS)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            running.send(number)
        go.set()
        done = running.end()
    assert (done.code, done.err) == (0, "")
