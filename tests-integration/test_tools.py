"""The repository's own tools do what CONTRIBUTING.md says of them."""

import subprocess
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
