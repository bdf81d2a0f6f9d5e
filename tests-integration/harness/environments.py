"""Owns the clean environments: what a user of each distribution gets, and no more."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.cache import ROOT, finished, key
from harness.wheels import NAMES, Wheels, build

# What is installed into each environment, as a user would name it.
REQUESTED = {
    "library": "jobby-core",
    "server": "jobby-server",
    "client": "jobby-cli",
    "certs": "jobby-cli[certs]",
}


@dataclass(frozen=True)
class Environment:
    """One virtual environment."""

    path: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.bin("python")

    def bin(self, name: str) -> Path:
        """A command that it has installed.

        Raises:
            FileNotFoundError: it has no such command.
        """
        command = self.path / "bin" / name
        if not command.exists():
            raise FileNotFoundError(f"{command}: no such command in this environment")
        return command

    def distributions(self) -> dict[str, str]:
        """Name and version of everything installed in it."""
        return {entry["name"]: entry["version"] for entry in json.loads(self._uv_list())}

    def _uv_list(self) -> str:
        listing = subprocess.run(
            ["uv", "pip", "list", "--format", "json", "--python", self.python],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return listing.stdout


@dataclass(frozen=True)
class Installed:
    """The wheels, and the environments that each hold one of them and what it needs."""

    wheels: Wheels
    library: Environment
    server: Environment
    client: Environment
    certs: Environment


def run_uv(*arguments: str | Path, cwd: Path) -> None:
    """Run uv.

    Raises:
        RuntimeError: it failed; the message is its output.
    """
    done = subprocess.run(
        ["uv", *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,  # reported below, with what it said
    )
    if done.returncode != 0:
        raise RuntimeError(f"uv {' '.join(map(str, arguments))} failed:\n{done.stdout}")


def install(folder: Path, wheels: Wheels, *options: str, cwd: Path) -> None:
    """Make one environment for each of REQUESTED below `folder`.

    A requirement on one of our own distributions is met by its wheel and by
    nothing else, and only where it is declared: the constraints name the
    wheels, but install none.
    """
    folder.mkdir()
    constraints = folder / "own-wheels.txt"
    own = [f"{name} @ {wheels.wheel(name).as_uri()}\n" for name in NAMES]
    constraints.write_text("".join(own))
    for name, requested in REQUESTED.items():
        distribution, bracket, extras = requested.partition("[")
        wheel = wheels.wheel(distribution).as_uri()
        environment = folder / name
        run_uv("venv", "--quiet", "--python", sys.executable, environment, cwd=cwd)
        python = environment / "bin" / "python"
        requirement = f"{distribution}{bracket}{extras} @ {wheel}"
        run_uv(
            *("pip", "install", "--quiet", *options),
            *("--python", python, "--constraint", constraints, requirement),
            cwd=cwd,
        )


def make(folder: Path) -> None:
    """Build our distributions, and install them with the newest and the oldest dependencies."""
    wheels = build(folder / "dist")
    # In the checkout, where uv finds the versions of uv.toml.
    install(folder / "newest", wheels, cwd=ROOT)
    # Elsewhere, where it does not. Only wheels: the oldest version of a dependency's
    # dependency may be a source archive that no longer builds, and that says nothing
    # about our bounds.
    with tempfile.TemporaryDirectory(prefix="jobby-lowest-") as elsewhere:
        options = ("--resolution", "lowest", "--only-binary", ":all:")
        install(folder / "lowest", wheels, *options, cwd=Path(elsewhere))


def opened(folder: Path, wheels: Wheels) -> Installed:
    """The environments that `install` made."""
    return Installed(wheels=wheels, **{name: Environment(folder / name) for name in REQUESTED})


@contextmanager
def environments() -> Iterator[tuple[Installed, Installed]]:
    """Today's wheels in clean environments: with the versions of uv.toml, and the oldest."""
    with finished(key(), make) as folder:
        wheels = Wheels(folder / "dist")
        yield opened(folder / "newest", wheels), opened(folder / "lowest", wheels)
