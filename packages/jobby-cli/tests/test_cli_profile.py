import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from cli_authority import Authority
from cli_command import Cli
from cli_files import write_files
from cli_peer import Peer

from jobby_cli.failures import CommandError
from jobby_cli.profile import load

NOTHING: dict[str, str | None] = {"server": None, "ca": None, "cert": None, "key": None}
JOB = str(uuid.uuid4())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config file that names everything."""
    path = tmp_path / "jobby" / "config.toml"
    path.parent.mkdir()
    path.write_text('server = "file:1"\nca = "c/ca"\ncert = "/abs/cert"\nkey = "key"\n')
    return path


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, config: Path
) -> None:
    """Flag, environment, config file, default: in this order, each setting by itself."""
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    found = load(NOTHING, None, environment)
    assert str(found.address) == "file:1"
    assert found.files["ca"].value == str(config.parent / "c/ca"), "relative to the file"
    assert found.files["cert"].value == "/abs/cert"
    environment |= {"JOBBY_SERVER": "environment:2", "JOBBY_CERT": "env-cert"}
    found = load(NOTHING, None, environment)
    assert (str(found.address), found.files["cert"].value) == ("environment:2", "env-cert")
    assert found.files["key"].value == str(config.parent / "key")
    found = load(NOTHING | {"server": "flag:3", "key": "flag-key"}, None, environment)
    assert (str(found.address), found.files["key"].value) == ("flag:3", "flag-key")
    assert found.files["cert"].value == "env-cert"


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    """JOBBY_SERVER= is the same as no JOBBY_SERVER."""
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "JOBBY_SERVER": "", "JOBBY_CONFIG": ""}
    assert str(load(NOTHING, None, environment).address) == "localhost:50051"


def test_the_config_file_is_named_by_flag_or_environment(tmp_path: Path, config: Path) -> None:
    """--config wins over JOBBY_CONFIG, and that over the default place."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(f'server = "{name}:1"')
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "JOBBY_CONFIG": str(tmp_path / "one")}
    assert str(load(NOTHING, None, environment).address) == "one:1"
    assert str(load(NOTHING, str(tmp_path / "two"), environment).address) == "two:1"


@pytest.mark.parametrize("option", ["--server", "--ca", "--cert", "--key", "--config"])
def test_an_empty_value_is_no_value_left_out(jobby: Cli, peer: Peer, option: str) -> None:
    """A variable in a script that happens to be empty is told, and not passed over."""
    done = jobby(option, "", "start", "x")
    assert done.code == (64 if option == "--server" else 78)
    assert option in done.err
    assert not peer.servicer.starts


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('sever = "x:1"', "no setting 'sever'"),
        ("server = 1", "server has to be a string"),
        ("server = ", "not TOML"),
        (f"server = {'[' * 10_000}", "not TOML"),
        ('server = "x"', "HOST:PORT"),
    ],
)
def test_a_wrong_config_file_is_told(tmp_path: Path, content: str, said: str) -> None:
    """A mistake in the file isn't passed over: 78, the file and what is wrong with it."""
    path = tmp_path / "c.toml"
    path.write_text(content)
    with pytest.raises(CommandError, match=said) as caught:
        load(NOTHING, str(path), {})
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 78


def test_a_config_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """As some editors write it; a server takes it, too."""
    path = tmp_path / "c.toml"
    path.write_text('server = "file:1"', encoding="utf-8-sig")
    assert str(load(NOTHING, str(path), {}).address) == "file:1"


def test_a_config_file_that_was_named_has_to_be_there(tmp_path: Path) -> None:
    """A missing default file is fine, a missing named one is not; the error says who named it."""
    missing = str(tmp_path / "none.toml")
    with pytest.raises(CommandError, match="named by --config"):
        load(NOTHING, missing, {})
    with pytest.raises(CommandError, match="named by JOBBY_CONFIG"):
        load(NOTHING, None, {"JOBBY_CONFIG": missing})
    assert load(NOTHING, None, {"XDG_CONFIG_HOME": str(tmp_path)}).address.port == 50051


def test_a_home_that_is_none_hinders_nothing(bare: Cli, tmp_path: Path) -> None:
    """HOME is a file: a config file that nobody named counts as absent, a named one doesn't."""
    for home in ("/dev/null", str(tmp_path / "none")):
        assert load(NOTHING, None, {"XDG_CONFIG_HOME": home}).address.port == 50051
        env = {"HOME": home, "XDG_CONFIG_HOME": ""}
        assert "CA certificates ca.cert" in bare("status", JOB, env=env).err
    for named in ("/dev/null/c.toml", str(tmp_path / "none")):
        with pytest.raises(CommandError, match="named by JOBBY_CONFIG") as caught:
            load(NOTHING, None, {"JOBBY_CONFIG": named})
        assert caught.value.exit_code == 78


def test_a_home_that_may_not_be_entered_hinders_nothing(tmp_path: Path) -> None:
    """Another user's HOME, as after `sudo -u`: no file there was meant, unless it was named."""
    closed = tmp_path / "closed"
    (closed / "jobby").mkdir(parents=True)
    config = closed / "jobby" / "config.toml"
    config.write_text('server = "file:1"')
    closed.chmod(0)
    program = (
        "import os, sys\n"
        "from jobby_cli import profile\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"
        "nothing = dict.fromkeys(profile.SETTINGS)\n"
        "try: print(profile.load(nothing, sys.argv[2] or None, {'XDG_CONFIG_HOME': sys.argv[1]})"
        ".address)\n"
        "except profile.CommandError as error: print(error)\n"
    )
    said = []
    for named in ("", str(config)):
        command = [sys.executable, "-c", program, str(closed), named]
        said.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    closed.chmod(0o700)
    assert said[0] == "localhost:50051\n"
    assert "named by --config" in said[1]
    assert "Permission denied" in said[1]


def test_a_config_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """One that is there was meant: in the default place, too, it is not passed over."""
    (tmp_path / "jobby" / "config.toml").mkdir(parents=True)
    with pytest.raises(CommandError, match="Is a directory"):
        load(NOTHING, None, {"XDG_CONFIG_HOME": str(tmp_path)})


def test_an_error_names_where_a_value_came_from(jobby: Cli, tmp_path: Path) -> None:
    """Flag, variable or config file: whoever named what cannot be used is in the error."""
    config = jobby.home / "config/jobby/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('cert = "nothing.cert"\n')
    done = jobby("status", JOB)
    assert done.code == 78
    assert f"cert in {config}" in done.err
    done = jobby("status", JOB, env={"JOBBY_CERT": "nothing"})
    assert (done.code, "JOBBY_CERT" in done.err) == (78, True)
    done = jobby("--cert", "nothing", "status", JOB)
    assert (done.code, "--cert" in done.err) == (78, True)
    done = jobby("status", JOB, env={"JOBBY_SERVER": "nothing"})
    assert (done.code, "JOBBY_SERVER" in done.err) == (78, True)
    done = jobby("--server", "nothing", "status", JOB)
    assert (done.code, "--server" in done.err) == (64, True)


def test_the_ca_is_found_by_both_names(jobby: Cli) -> None:
    """ca.cert is the client's name for it; ca.crt is taken where there is none."""
    os.rename(jobby.folder / "ca.cert", jobby.folder / "ca.crt")
    assert jobby("status", JOB).code == 0
    (jobby.folder / "ca.cert").write_text("not this one")
    assert jobby("status", JOB).code == 78


def test_the_files_are_found_from_elsewhere(jobby: Cli, peer: Peer, tmp_path: Path) -> None:
    """A config file makes the command work from any folder."""
    config = jobby.home / "config/jobby/config.toml"
    config.parent.mkdir(parents=True)
    files = "".join(
        f'{role} = "{jobby.folder / name}"\n'
        for role, name in (("ca", "ca.cert"), ("cert", "client.cert"), ("key", "client.key"))
    )
    config.write_text(f'server = "{peer.address}"\n{files}')
    elsewhere = Cli(tmp_path, jobby.home)
    assert elsewhere("status", JOB).out == b"Status: COMPLETED, ExitCode: 0\n"


def test_proxies_for_the_web_are_not_for_us(jobby: Cli) -> None:
    """A proxy in the environment is left alone: it knows nothing of a server here."""
    proxy = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), "http://127.0.0.1:1")
    assert jobby("status", JOB, env=proxy).code == 0


def test_a_key_may_come_from_a_pipe(jobby: Cli, ca: Authority) -> None:
    """`--key <(…)`: what can be read only once is read only once, and has no mode to judge."""
    leaf = ca.leaf()
    write_files(jobby.folder, ca.pem, leaf)
    key = jobby.folder / "client.key"
    key.unlink()
    os.mkfifo(key, 0o644)
    with jobby.spawn("status", JOB) as running:
        key.write_bytes(leaf.key)
        assert running.end().code == 0
