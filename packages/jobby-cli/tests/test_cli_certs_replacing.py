"""`jobby certs` writes all of its files or none, and replaces all of them or none."""

import stat

import pytest
from cli_command import Cli
from cli_files import MADE, contents


def test_nothing_that_exists_is_overwritten(bare: Cli) -> None:
    """An existing file stops all of it before anything is written, and is named."""
    (bare.folder / "client.key").write_text("precious")
    (bare.folder / "ca.crt").symlink_to("nowhere")
    done = bare("certs", "init")
    assert done.code == 78
    assert "ca.crt and client.key" in done.err
    assert "--force" in done.err
    assert {path.name for path in bare.folder.iterdir()} == {"client.key", "ca.crt"}
    assert (bare.folder / "client.key").read_text() == "precious"
    bare("certs", "init", "made")
    before = contents(bare.folder / "made")
    assert bare("certs", "client", "client", "--dir", "made").code == 78
    assert contents(bare.folder / "made") == before


def test_force_replaces_everything(bare: Cli) -> None:
    """--force makes all of it anew, keys closed to others even where they were open."""
    assert bare("certs", "init").code == 0
    (bare.folder / "client.key").chmod(0o644)
    before = contents(bare.folder)
    assert bare("certs", "init", "--force").code == 0
    after = contents(bare.folder)
    assert set(after) == MADE
    assert all(before[name] != after[name] for name in MADE)
    assert stat.S_IMODE((bare.folder / "client.key").stat().st_mode) == 0o600


# Runs the command; as the server's new certificate goes to its place, `$MEANWHILE` happens.
EXCHANGING = (
    "-c",
    (
        "import os, signal, sys\n"
        "def meanwhile(event, args):\n"
        "    if event == 'os.rename' and str(args[1]).endswith('server.cert'):\n"
        "        exec(os.environ.pop('MEANWHILE', ''))\n"
        "sys.addaudithook(meanwhile)\n"
        "from jobby_cli.main import main\n"
        "sys.exit(main())\n"
    ),
)


@pytest.mark.parametrize(
    ("meanwhile", "code", "said"),
    [
        ("os.unlink(args[0])", 74, "No such file"),
        ("raise KeyboardInterrupt", 130, "interrupted"),
        ("raise SystemExit(143)", 143, ""),
    ],
)
def test_a_replacement_that_fails_midway_costs_nothing(
    bare: Cli, meanwhile: str, code: int, said: str
) -> None:
    """--force, and a later file cannot go to its place: all the old ones are there again."""
    assert bare("certs", "init").code == 0
    before = contents(bare.folder)
    done = bare("certs", "init", "--force", python=EXCHANGING, env={"MEANWHILE": meanwhile})
    assert done.code == code
    assert said in done.err
    assert contents(bare.folder) == before


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_does_not_cut_a_replacement(bare: Cli, number: str, code: int) -> None:
    """A signal while files are being replaced is heard when all of them are new."""
    assert bare("certs", "init").code == 0
    before = contents(bare.folder)
    kill = f"os.kill(os.getpid(), signal.{number})"
    done = bare("certs", "init", "--force", python=EXCHANGING, env={"MEANWHILE": kill})
    assert done.code == code
    after = contents(bare.folder)
    assert set(after) == MADE
    assert all(before[name] != after[name] for name in MADE)


def test_an_old_file_that_cannot_return_is_named(bare: Cli) -> None:
    """Somebody puts a folder into a file's place: the old file is kept, and where is said."""
    assert bare("certs", "init").code == 0
    before = contents(bare.folder)
    env = {"MEANWHILE": "os.mkdir(args[1])"}
    done = bare("certs", "init", "--force", python=EXCHANGING, env=env)
    assert done.code == 74
    (bare.folder / "server.cert").rmdir()
    after = contents(bare.folder)
    (aside,) = after.keys() - MADE
    assert aside in done.err
    assert after.pop(aside) == before.pop("server.cert")
    assert after == before


def test_an_old_file_that_cannot_go_is_named(bare: Cli) -> None:
    """All is new, but an old file is still there: that it is has to be known, and where."""
    assert bare("certs", "init").code == 0
    before = contents(bare.folder)
    swap = "import glob; (old,) = glob.glob('ca.key.*.old'); os.remove(old); os.mkdir(old)"
    done = bare("certs", "init", "--force", python=EXCHANGING, env={"MEANWHILE": swap})
    assert done.code == 74
    (old,) = bare.folder.glob("*.old")
    assert f"remove {old.name}" in done.err
    old.rmdir()
    after = contents(bare.folder)
    assert set(after) == MADE
    assert all(before[name] != after[name] for name in MADE)


@pytest.mark.parametrize("force", [False, True])
def test_a_full_disk_leaves_everything_as_it_was(bare: Cli, force: bool) -> None:
    """All or nothing: when a later file cannot be written, the earlier ones go, too."""
    if force:
        assert bare("certs", "init").code == 0
    before = contents(bare.folder)
    limited = (
        "-c",
        # No file may get longer: the certificates and keys fit, but not the server's with its
        # longer list of names, which comes after the CA's.
        (
            "import resource, signal, sys\n"
            "from jobby_cli import certificates, main\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "sys.exit(main.main())\n"
        ),
    )
    hosts = [word for n in range(9) for word in ("--host", f"{'h' * 60}{n}")]
    done = bare("certs", "init", *(["--force"] if force else []), *hosts, python=limited)
    assert done.code == 74
    assert "nothing was left there" in done.err
    assert contents(bare.folder) == before


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_leaves_nothing_behind(bare: Cli, number: str, code: int) -> None:
    """A signal between two files: those that were written go again, also if it comes twice."""
    program = (
        "import os, signal, sys\n"
        "def stop(event, args):\n"
        "    file = str(args[0]) if args else ''\n"
        "    made = event == 'open' and file.endswith('server.key') and args[2] & os.O_CREAT\n"
        "    if made or (event == 'os.remove' and file.endswith('ca.key')):\n"
        f"        os.kill(os.getpid(), signal.{number})\n"
        "sys.addaudithook(stop)\n"
        "from jobby_cli.main import main\n"
        "sys.exit(main())\n"
    )
    done = bare("certs", "init", python=("-c", program))
    assert (done.code, done.err) == (code, "")
    assert contents(bare.folder) == {}
