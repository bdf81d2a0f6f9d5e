"""Promises of the library's own page: its programs run as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

import jobby_core

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_its_programs_run(tmp_path: Path) -> None:
    """Copied one after the other into one folder, each does what it shows."""
    programs = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    outputs = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            cwd=tmp_path,
            capture_output=True,
            check=True,
        ).stdout
        for program in programs
    ]
    assert outputs[0].count(b"\n") == 3
    assert b"State.COMPLETED" in outputs[0]
    assert outputs[1:] == [b"b'hello\\n'\n"]


def test_it_names_every_error() -> None:
    """Who handles errors finds each of them there, but for the one that is a defect of ours."""
    errors = {name for name in jobby_core.__all__ if name.endswith("Error")}
    assert errors - {"IllegalMoveError"} == set(re.findall(r"\w+Error\b", README)) - {
        "TimeoutError"
    }
