"""Owns the building of our distributions, as for a release: sdist first, wheel from it."""

import subprocess
import sys
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

from harness.cache import PACKAGES, ROOT

NAMES = ("jobby-core", "jobby-proto", "jobby-server", "jobby-cli")


@dataclass(frozen=True)
class Wheels:
    """A folder with one sdist and one wheel of each of our distributions."""

    folder: Path

    def wheel(self, name: str) -> Path:
        """The wheel of one distribution."""
        (path,) = self.folder.glob(f"{name.replace('-', '_')}-*.whl")
        return path

    def sdist(self, name: str) -> Path:
        """The source archive of one distribution."""
        (path,) = self.folder.glob(f"{name.replace('-', '_')}-*.tar.gz")
        return path

    def metadata(self, name: str) -> Message:
        """The core metadata in a distribution's wheel."""
        with ZipFile(self.wheel(name)) as archive:
            (entry,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
            return Parser().parsestr(archive.read(entry).decode())


def build(out: Path) -> Wheels:
    """Build all four into `out`, side by side.

    Raises:
        RuntimeError: a build failed; the message is its output.
    """
    builds = {
        name: subprocess.Popen(
            [
                *("uv", "build", "--python", sys.executable),
                *("--out-dir", str(out), str(PACKAGES / name)),
            ],
            cwd=ROOT,  # where uv finds the constraints on build tools
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in NAMES
    }
    outputs = {name: process.communicate()[0] for name, process in builds.items()}
    for name, process in builds.items():
        if process.returncode != 0:
            raise RuntimeError(f"cannot build {name}:\n{outputs[name]}")
    return Wheels(out)
