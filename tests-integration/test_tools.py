"""The repository's own tools do what CONTRIBUTING.md says of them."""

import os
import re
import signal
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pip_to_uv
import pytest
import rules
import run_tests

from harness.cache import ROOT


def test_pips_sources_become_uvs() -> None:
    """Who has told only pip where packages come from needs to tell nobody else."""
    assert pip_to_uv.translate(
        {
            "index-url": "https://mirror.example/simple",
            "extra-index-url": "https://a.example/simple\nhttps://b.example/simple",
            "find-links": "/one/folder\n/another",
            "cert": "/etc/ca.pem",
            "timeout": "60",
        }
    ) == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "https://a.example/simple https://b.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/one/folder,/another",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "UV_HTTP_TIMEOUT": "60",
    }


def test_nothing_is_translated_from_nothing() -> None:
    """Without any pip configuration, uv keeps its defaults."""
    assert pip_to_uv.translate({}) == {}


@pytest.mark.parametrize("variable", pip_to_uv.UV_SOURCES)
def test_uvs_own_variables_win(variable: str, tmp_path: Path) -> None:
    """What the user has told uv is left alone."""
    untouched = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path)}
    assert pip_to_uv.uv_is_configured(untouched | {variable: "x"})
    assert not pip_to_uv.uv_is_configured(untouched)


def test_uvs_own_file_wins(tmp_path: Path) -> None:
    """A personal uv.toml counts as having told uv."""
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv" / "uv.toml").touch()
    assert pip_to_uv.uv_is_configured({"XDG_CONFIG_HOME": str(tmp_path)})


def test_a_path_picks_its_suite() -> None:
    """`test packages/jobby-core` runs no integration test, and `test -x` runs both suites."""
    unit, integration = run_tests.SUITES
    assert run_tests.split(["-x", "packages/jobby-core"]) == {unit: ["-x", "packages/jobby-core"]}
    test_id = "tests-integration/test_tools.py::test_a_path_picks_its_suite"
    assert run_tests.split([test_id]) == {integration: [test_id]}
    assert run_tests.split(["-x"]) == {
        unit: ["-x", "packages"],
        integration: ["-x", "tests-integration"],
    }


@pytest.mark.parametrize(("variables", "code"), [({}, 0), ({"JOBBY_NO_SKIPS": "1"}, 1)])
def test_a_skip_can_be_a_failure(
    variables: dict[str, str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all can be tested, a test that was left out fails the run."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(
        "import pytest\n\ndef test_one(): pass\n\n@pytest.mark.skip\ndef test_two(): pass\n"
    )
    suite = run_tests.Suite("own", "tests", (sys.executable,))
    # The repository's own suites would run this test, too.
    monkeypatch.setattr(run_tests, "SUITES", (suite,))
    monkeypatch.setattr(run_tests, "ROOT", tmp_path)
    monkeypatch.delenv("JOBBY_NO_SKIPS", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    previous = signal.getsignal(signal.SIGINT)
    try:
        assert run_tests.main([]) == code
    finally:
        signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize(
    ("line", "explained"),
    [
        ("x = y  # type: ignore[attr-defined]", False),
        ("x = y  # noqa" + ": SLF001", False),
        ("x = y  # noqa" + ": SLF001  # the library has no public way", True),
        ("x = y  # type: ignore[attr-defined]  # the stubs lack it", True),
        ("x = y  # plain words", True),
    ],
)
def test_exceptions_need_a_reason(line: str, explained: bool) -> None:
    """A silenced checker without a reason is found; one with a reason is let be."""
    assert bool(rules.UNEXPLAINED.search(line)) is not explained


@pytest.mark.parametrize("environment", ["default", "checks"])
def test_what_python_leaves_among_the_packages_is_none(environment: str) -> None:
    """Tests write packages/__pycache__; hatch refuses all its commands if that is a member."""
    settings = tomllib.loads((ROOT / "hatch.toml").read_text())
    members = settings["envs"][environment]["workspace"]["members"]
    found = {path.name for pattern in members for path in ROOT.glob(pattern)}
    assert found == {path.name for path in rules.members()}
    assert not any(fnmatch("packages/__pycache__", pattern) for pattern in members)


def test_hatch_says_which_python_it_needs(tmp_path: Path) -> None:
    """A Python that cannot do it is refused in words, before anything is made."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    done = subprocess.run(
        [ROOT / "tools" / "hatch", "--version"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(broken)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"PYTHON={broken} does not run" in done.stderr
    assert done.stdout == ""


# What it shows besides README.md's lines, in its order; what the two clients print comes between.
TYPED = [
    r"\$ jobby certs init --client alice",
    r"\$ jobby-server --listen 127\.0\.0\.1:0 --state-dir state &",
    r".* INFO listening on 127\.0\.0\.1:\d+",
    r"\$ jobby start -- sh -c .*",
    r"Job Started! Id: [0-9a-f-]{36}",
    r"\$ jobby output [0-9a-f-]{36} & +# first client",
    r"\$ jobby output [0-9a-f-]{36} & +# second client",
    r"\$ jobby status [0-9a-f-]{36}",
    r"Status: RUNNING",
    r"\$ jobby --cert mallory\.cert --key mallory\.key stop [0-9a-f-]{36}",
    r"jobby: cannot stop the job on 127\.0\.0\.1:\d+: no such job; .*",
    r"closed by the server",
    r"\$ jobby --cert elsewhere/client\.cert --key elsewhere/client\.key status [0-9a-f-]{36}",
    r"\$ kill -9 %1",
    r"\$ jobby-server --listen 127\.0\.0\.1:\d+ --state-dir state &",
    r"\$ jobby status [0-9a-f-]{36}",
    r"Status: RUNNING",
    r"Status: COMPLETED, ExitCode: 0",
    r"\$ jobby stop [0-9a-f-]{36}",
    r"Status: STOPPED",
    r"That was all of it\. .*",
]
STEPS = [*(f"step {n} of 7" for n in range(1, 7)), "step 7 of 7: go"]


def test_the_demo_goes_as_the_readme_shows(tmp_path: Path) -> None:
    """`./tools/hatch run demo`, as documented: it ends well, shows what it promises, and leaves
    neither a file nor a process."""
    outer = {name: value for name, value in os.environ.items() if name != "HATCH_ENV_ACTIVE"}
    scratch, log = tmp_path / "scratch", tmp_path / "log"
    scratch.mkdir()
    # Its output goes to a file, which whoever outlives it still holds open.
    with log.open("wb") as file:
        done = subprocess.run(
            [ROOT / "tools" / "hatch", "run", "demo"],
            cwd=ROOT,
            env=outer | {"TMPDIR": str(scratch)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    shown = log.read_text()
    assert done.returncode == 0, shown
    lines = [line.strip() for line in shown.splitlines()]
    rest = iter(lines)
    for pattern in TYPED:
        assert any(re.fullmatch(pattern, line) for line in rest), (pattern, shown)
    for client in ("first client", "second client"):
        printed = [line.partition("| ")[2] for line in lines if line.startswith(f"{client} ")]
        assert printed == STEPS
    for part in readme_shows():
        rest = iter(lines)
        for pattern in part:
            assert any(re.fullmatch(pattern, line) for line in rest), (pattern, shown)
    assert list(scratch.iterdir()) == []
    assert processes_in(tmp_path) == []


def readme_shows() -> list[list[str]]:
    """Patterns of README.md's lines of the demo: what is typed and answered, and each client's."""
    _, _, block = (ROOT / "README.md").read_text().partition("Some of it:\n\n```\n")
    lines = [line.strip() for line in block.partition("```")[0].splitlines()]
    clients = [
        [line for line in lines if line.startswith((f"{name} client ", "jobby: connection lost"))]
        for name in ("first", "second")
    ]
    typed = [line for line in lines if line not in [*clients[0], *clients[1]]]
    assert min(len(part) for part in (typed, *clients)) > 2
    return [[as_pattern(line) for line in part] for part in (typed, *clients)]


def as_pattern(line: str) -> str:
    """Matches a shown line whatever the job's id, the port, the time and the place of a cut are."""
    pattern = re.sub(r"\d+(\\ bytes)", r"\\d+\1", re.escape(line).replace("…", ".*"))
    pattern = re.sub(r"[0-9a-f]{8}(\\-[0-9a-f]{4}){3}\\-[0-9a-f]{12}", "[0-9a-f-]{36}", pattern)
    pattern = re.sub(r"127\\\.0\\\.0\\\.1:[1-9]\d*", r"127\.0\.0\.1:\\d+", pattern)
    return re.sub(r"^(INFO|jobby:)", r".*\1", pattern).replace(r"\ \ ", r"\ +")


def processes_in(folder: Path) -> list[str]:
    """The processes that work in a folder, or hold a file of it open, deleted or not."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [process / "cwd", *(process / "fd").iterdir()]
            if any(os.readlink(link).startswith(str(folder)) for link in links):
                found.append((process / "cmdline").read_text())
        except OSError:  # gone meanwhile, or another user's
            continue
    return found
