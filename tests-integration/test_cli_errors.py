"""Whatever is wrong, `jobby` says it in one line with the way out, and by its exit code."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.environments import Installed
from support.certificates import SERVER, Authority, Credentials, common_name, from_now
from support.program import Program
from support.server import Server
from support.user import Done, User
from support.waiting import eventually

USAGE, UNAVAILABLE, REFUSED, CONFIG = 64, 69, 77, 78
JOB = "d19af777-cfa4-40a3-b835-244365b5a697"
FILES = ("ca.cert", "client.cert", "client.key")
VERBS = (["start", "touch", "made"], ["stop", JOB], ["status", JOB], ["output", JOB])


def check(done: Done, code: int, *said: str) -> None:
    """One line on stderr that says what it has to, nothing on stdout, and the exit code."""
    assert done.code == code, done
    assert done.stdout == b""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("jobby: ")
    for part in said:
        assert part in done.stderr


@pytest.fixture(autouse=True)
def nothing_started(server: Server, alice: User) -> Iterator[None]:
    """None of the refused starts has started anything."""
    yield
    assert not (server.folder / "made").exists()
    # What was meant to start may need a moment to end.
    eventually(lambda: not server.jobs(), what="a server without jobs")


@pytest.fixture(scope="module", autouse=True)
def silent(
    installed: Installed, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Program]]:
    """Each verb at a server that says nothing; begun first, for it takes long to give up."""
    folder, command = tmp_path_factory.mktemp("silent"), installed.client.bin("jobby")
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        user = User(command, folder, authority.client("alice"), address)
        yield [stack.enter_context(user.begin(*words)) for words in VERBS]


@pytest.mark.parametrize("words", VERBS, ids=lambda words: words[0])
def test_no_server(alice: User, words: list[str]) -> None:
    """Where nobody listens, the address is named; on every verb."""
    with socket.socket() as holder:
        # Bound and not listening: nobody else can take it, and it refuses connections.
        holder.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        check(alice.jobby("--server", address, *words), UNAVAILABLE, address)


def test_something_else_answers(alice: User) -> None:
    """What answers there and is no Jobby server is told from no server."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        program = alice.begin("--server", address, "status", JOB)
        with program:
            while program.running():
                other.settimeout(1)
                try:
                    connection, _ = other.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            said = program.stderr.all().decode()
            check(Done(program.wait(), program.stdout.all(), said), UNAVAILABLE, address)


def test_the_default_server(alice: User) -> None:
    """Without any setting it goes to localhost:50051, and says so."""
    done = alice.jobby("status", JOB, env={"JOBBY_SERVER": ""})
    assert done.code in (UNAVAILABLE, REFUSED)
    assert "localhost:50051" in done.stderr


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(alice: User, name: str) -> None:
    """The file is named, and how to make one."""
    (alice.folder / name).unlink()
    check(alice.jobby(*VERBS[0]), CONFIG, f"{name}: there is no such file", "jobby certs init")


@pytest.mark.parametrize(
    ("name", "content"),
    [*((name, b"nonsense\n") for name in FILES), ("ca.cert", b""), ("client.key", b"\xff\x00")],
)
def test_an_unusable_file(alice: User, name: str, content: bytes) -> None:
    """A file that is empty or no PEM is named."""
    (alice.folder / name).write_bytes(content)
    check(alice.jobby(*VERBS[0]), CONFIG, name)


def test_a_folder_in_place_of_a_file(alice: User) -> None:
    """A folder by a file's name is named."""
    (alice.folder / "client.key").unlink()
    (alice.folder / "client.key").mkdir()
    check(alice.jobby(*VERBS[0]), CONFIG, "client.key")


def test_a_key_of_another_certificate(alice: User, authority: Authority) -> None:
    """Both files are named when they don't belong together."""
    (alice.folder / "client.key").write_bytes(authority.client("alice").key)
    check(alice.jobby(*VERBS[0]), CONFIG, "client.key", "client.cert")


def test_a_key_that_others_may_read(alice: User) -> None:
    """A private key that isn't private is refused, with the way out."""
    (alice.folder / "client.key").chmod(0o644)
    check(alice.jobby(*VERBS[0]), CONFIG, "chmod 600")


OWN_FAULTS: dict[str, tuple[Callable[[Authority], Credentials], str]] = {
    "expired": (
        lambda ca: ca.leaf(common_name("alice"), not_after=from_now(seconds=-2)),
        "expired",
    ),
    "not yet valid": (
        lambda ca: ca.leaf(common_name("alice"), not_before=from_now(hours=1)),
        "not valid before",
    ),
    "for servers": (lambda ca: ca.leaf(common_name("alice"), purposes=[SERVER]), "clientAuth"),
}


@pytest.mark.parametrize("fault", OWN_FAULTS)
@pytest.mark.parametrize("words", VERBS, ids=lambda words: words[0])
def test_a_certificate_that_no_server_would_take(
    alice: User, authority: Authority, fault: str, words: list[str]
) -> None:
    """It looks at its own certificate first, and says what the server won't; on every verb."""
    make, said = OWN_FAULTS[fault]
    make(authority).for_client(alice.folder)
    check(alice.jobby(*words), CONFIG, "client.cert", said)


@pytest.mark.parametrize("words", VERBS, ids=lambda words: words[0])
def test_a_certificate_of_another_ca(alice: User, words: list[str]) -> None:
    """A certificate that this server doesn't take is said to be refused; on every verb."""
    theirs = Authority("Test CA").client("alice")
    (alice.folder / "client.cert").write_bytes(theirs.cert)
    (alice.folder / "client.key").write_bytes(theirs.key)
    check(alice.jobby(*words), REFUSED, "client.cert", "CA")


@pytest.mark.parametrize("words", VERBS, ids=lambda words: words[0])
def test_a_server_of_another_ca(alice: User, words: list[str]) -> None:
    """A server that ca.cert doesn't vouch for is not talked to, and said so; on every verb."""
    (alice.folder / "ca.cert").write_bytes(Authority("Test CA").pem)
    check(alice.jobby(*words), REFUSED, "ca.cert")


@pytest.mark.parametrize("words", VERBS, ids=lambda words: words[0])
def test_a_certificate_that_names_nobody(
    alice: User, authority: Authority, words: list[str]
) -> None:
    """What the server says of a name it cannot take arrives; on every verb."""
    two = authority.leaf([*common_name("alice"), *common_name("bob")])
    two.for_client(alice.folder)
    check(alice.jobby(*words), REFUSED, "exactly one common name")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["strat"],
        ["--sever", "x", "status"],
        ["status", JOB, "more"],
        ["status", "--type", "stdout", JOB],
        ["stop", "not-an-id"],
        ["output", "--type"],
        ["status", "d19af777-cfa4-40a3-b835-244365b5a697-11"],
    ],
)
def test_wrong_usage(alice: User, words: list[str]) -> None:
    """What makes no sense is a usage error, and says what."""
    done = alice.jobby(*words)
    assert (done.code, done.stdout) == (USAGE, b"")
    assert done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("address", ["nowhere", "localhost:", ":50051", "localhost:99999", "a b:1"])
def test_an_unusable_address(alice: User, address: str) -> None:
    """An address that is none is a usage error that names the option."""
    check(alice.jobby("--server", address, "status", JOB), USAGE, "--server")


def test_an_unusable_address_in_a_variable(alice: User) -> None:
    """In a variable it is bad configuration, and the variable is named."""
    done = alice.jobby("status", JOB, env={"JOBBY_SERVER": "nowhere"})
    check(done, CONFIG, "JOBBY_SERVER")


@pytest.mark.parametrize("content", ["server = 5", "sever = 'x'", "server = "])
def test_an_unusable_config_file(alice: User, content: str) -> None:
    """A mistake in the config file is told with the file's name."""
    (alice.folder / "jobby.toml").write_text(content)
    check(alice.jobby("--config", "jobby.toml", "status", JOB), CONFIG, "jobby.toml")


def test_hostile_text_steers_no_terminal(alice: User, tmp_path: Path) -> None:
    """A command's name in an error is shown without its control characters."""
    done = alice.jobby("start", "--", f"{tmp_path}/\x1b[2J\n\u202eevil")
    assert done.code == 65
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.rstrip("\n").isprintable()


def test_no_home(installed: Installed, alice: User) -> None:
    """Without a home to remember jobs in, a start succeeds and says that it won't be remembered."""
    done = alice.jobby("start", "true", env={"HOME": "/proc/nowhere", "XDG_STATE_HOME": ""})
    assert done.code == 0
    assert done.stdout.startswith(b"Job Started! Id: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_server_that_says_nothing(silent: list[Program]) -> None:
    """Who accepts connections and never answers holds no command for ever; on every verb."""
    for program in silent:
        assert program.wait() == UNAVAILABLE
        said = program.stderr.all().decode()
        check(Done(program.wait(), program.stdout.all(), said), UNAVAILABLE, "127.0.0.1:")
