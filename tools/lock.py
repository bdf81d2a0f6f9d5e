"""Owns the versions that work on this repository uses: uv.toml and tools/hatch.lock.

    ./tools/hatch run lock:versions    resolves everything anew and writes both

uv.toml binds hatch's environments, the build environments and the environments
of the integration tests, because uv reads it in every folder of the checkout.
What our users may install stands in each package's own pyproject.toml.
"""

import subprocess
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = "3.11"
HATCH = "hatch==1.18.2"
# Hatchling asks for it when it makes an editable install.
EDITABLES = "editables~=0.3"


def load(path: Path) -> dict[str, Any]:
    """A TOML file."""
    with path.open("rb") as file:
        return tomllib.load(file)


def resolve(requirements: Iterable[str], *options: str) -> list[str]:
    """The newest versions that satisfy all `requirements`, on every Python we support."""
    # From elsewhere: the constraints of yesterday must not decide about today.
    with tempfile.TemporaryDirectory(prefix="jobby-lock-") as elsewhere:
        compiled = subprocess.run(
            [
                *("uv", "pip", "compile", "--quiet", "--universal"),
                *("--python-version", OLDEST_PYTHON, "--no-header", "--no-annotate"),
                *("--no-emit-index-url", "--no-emit-find-links"),
                *options,
                "-",
            ],
            input="\n".join(requirements),
            cwd=elsewhere,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return compiled.stdout.splitlines()


def main() -> None:
    """Write uv.toml and tools/hatch.lock."""
    members = [load(path) for path in sorted(ROOT.glob("packages/*/pyproject.toml"))]
    own = {member["project"]["name"] for member in members}
    build = {
        EDITABLES,
        *(need for member in members for need in member["build-system"]["requires"]),
    }
    run: set[str] = set()
    for member in members:
        run.update(member["project"].get("dependencies", ()))
        for extra in member["project"].get("optional-dependencies", {}).values():
            run.update(extra)
    for environment in load(ROOT / "hatch.toml")["envs"].values():
        run.update(environment.get("dependencies", ()))
    run = {need for need in run if not need.startswith(tuple(own))}

    lines = [
        "# Made by `./tools/hatch run lock:versions`: what was tested together. Not edited by hand."
    ]
    for key, needs in (("constraint-dependencies", run), ("build-constraint-dependencies", build)):
        pins = "".join(f'  "{pin}",\n' for pin in resolve(sorted(needs)))
        lines.append(f"{key} = [\n{pins}]")
    (ROOT / "uv.toml").write_text("\n\n".join(lines) + "\n")

    hashes = "\n".join(resolve([HATCH], "--generate-hashes"))
    header = "# hatch and all that it needs, by hash. Made by `./tools/hatch run lock:versions`.\n"
    (ROOT / "tools" / "hatch.lock").write_text(header + hashes + "\n")


if __name__ == "__main__":
    main()
