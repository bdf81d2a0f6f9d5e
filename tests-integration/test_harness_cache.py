"""Builds are made once, kept while they are used, and cleared away after."""

import os
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.cache import KEPT, finished


def folders(cache: Path) -> set[str]:
    """The builds that are there."""
    return {path.name for path in cache.iterdir() if path.is_dir()}


def age(cache: Path, names: list[str]) -> None:
    """Give each folder its own time: two made in a row may share one."""
    for seconds, name in enumerate(names):
        if (cache / name).exists():
            os.utime(cache / name, (seconds, seconds))


def test_runs_at_the_same_time_make_a_build_once(tmp_path: Path) -> None:
    """Of several runs that want the same build, one makes it, and all get it whole."""
    made: list[Path] = []
    found: list[str] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("whole")

    def want() -> None:
        with finished("key", make, tmp_path) as folder:
            found.append((folder / "file").read_text())

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert found == ["whole"] * 8


def test_a_build_that_failed_is_made_anew(tmp_path: Path) -> None:
    """What a failed build left behind is never taken for a build."""

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"), finished("key", fail, tmp_path):
        pass
    with finished("key", lambda folder: (folder / "whole").touch(), tmp_path) as folder:
        assert {path.name for path in folder.iterdir()} == {"whole", "complete"}


def test_the_last_three_builds_stay(tmp_path: Path) -> None:
    """Old builds do not fill the disk."""
    names = [f"key{number}" for number in range(KEPT + 2)]
    for name in names:
        age(tmp_path, names)
        with finished(name, lambda folder: None, tmp_path):
            pass
    assert folders(tmp_path) == set(names[-KEPT:])


def test_a_build_in_use_stays(tmp_path: Path) -> None:
    """Another run's build does not vanish under its tests."""
    names = [f"key{number}" for number in range(KEPT + 2)]
    with ExitStack() as stack:
        stack.enter_context(finished(names[0], lambda folder: None, tmp_path))
        for name in names[1:]:
            age(tmp_path, names)
            with finished(name, lambda folder: None, tmp_path):
                pass
        assert names[0] in folders(tmp_path)
        assert names[1] not in folders(tmp_path)
