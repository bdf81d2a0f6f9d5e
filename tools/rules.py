"""Owns the rules of this repository that no ready tool checks.

Each function returns its complaints, one line each; none means that all is well.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# An exception from a check, with nothing behind it that says why.
UNEXPLAINED = re.compile(r"#\s*(type: ignore|noqa|pyright: ignore)(\[[^]]*\]|: [A-Z0-9, ]+)?\s*$")


def members() -> list[Path]:
    """The folders of our distributions."""
    return sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))


def python_files() -> Iterator[Path]:
    """Every Python file that is written by hand."""
    for folder in ("packages", "tests-integration", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "_pb2" not in path.name:
                yield path


def licences() -> list[str]:
    """Each package carries the LICENSE itself: a link would be missing from its sdist."""
    original = (ROOT / "LICENSE").read_bytes()
    return [
        f"{package.name}/LICENSE differs from LICENSE; copy it"
        for package in members()
        if not (package / "LICENSE").is_file()
        or (package / "LICENSE").is_symlink()
        or (package / "LICENSE").read_bytes() != original
    ]


def exceptions() -> list[str]:
    """Whoever silences a checker says why, on the same line."""
    return [
        f"{path.relative_to(ROOT)}:{number}: no reason given: {line.strip()}"
        for path in python_files()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if UNEXPLAINED.search(line)
    ]


def requirements() -> Iterator[Requirement]:
    """Everything that packages/*/pyproject.toml and hatch.toml ask for."""
    for package in members():
        project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
        extras = project.get("optional-dependencies", {}).values()
        for needs in (project.get("dependencies", []), *extras):
            yield from map(Requirement, needs)
    for environment in tomllib.loads((ROOT / "hatch.toml").read_text())["envs"].values():
        yield from map(Requirement, environment.get("dependencies", []))


def constraints() -> list[str]:
    """uv.toml knows a version for everything that is asked for, and one that fits."""
    pins: dict[str, list[Requirement]] = {}
    for text in tomllib.loads((ROOT / "uv.toml").read_text())["constraint-dependencies"]:
        pin = Requirement(text)
        pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    own = {package.name for package in members()}
    complaints = []
    for need in requirements():
        name = canonicalize_name(need.name)
        if name in own:
            continue
        versions = [pin.specifier for pin in pins.get(name, [])]
        chosen = [next(iter(each)).version for each in versions]
        if not any(need.specifier.contains(version, prereleases=True) for version in chosen):
            complaints.append(
                f"uv.toml has no version for {need}; run `./tools/hatch run lock:versions`"
            )
    return complaints
