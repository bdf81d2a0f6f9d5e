"""Where output lies: private, one folder a job, and gone when it should be."""

import os
import stat
import tempfile
import uuid
from pathlib import Path

import pytest

from jobby_server.errors import ConfigError
from jobby_server.spool import Spool


def mode(path: Path) -> int:
    """Returns a path's permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_are_private_whatever_the_umask(tmp_path: Path) -> None:
    """Nobody else may look into the server's folder or a job's (0700)."""
    before = os.umask(0)
    try:
        spool = Spool.create(tmp_path)
        folder = spool.make_folder(uuid.uuid4())
    finally:
        os.umask(before)
    assert mode(spool.path) == mode(folder) == 0o700
    assert folder.parent == spool.path


def test_two_servers_share_a_place_without_sharing_a_folder(tmp_path: Path) -> None:
    """Each start makes a folder of its own."""
    assert Spool.create(tmp_path).path != Spool.create(tmp_path).path


def test_in_the_temporary_folder_output_goes_with_the_server() -> None:
    """Nobody named a place, so nobody will look for it there."""
    spool = Spool.create(None)
    assert spool.path.parent == Path(tempfile.gettempdir())
    (spool.make_folder(uuid.uuid4()) / "stdout").write_text("x")
    spool.close()
    assert not spool.path.exists()


def test_in_a_named_place_output_stays(tmp_path: Path) -> None:
    """Whoever names a place wants the files there; only an empty folder is tidied away."""
    used, unused = Spool.create(tmp_path), Spool.create(tmp_path)
    job_id = uuid.uuid4()
    (used.make_folder(job_id) / "stdout").write_text("x")
    used.close()
    unused.close()
    assert (used.path / str(job_id) / "stdout").read_text() == "x"
    assert not unused.path.exists()


def test_a_job_folder_is_never_an_existing_one(tmp_path: Path) -> None:
    """A link in its place is not followed: making the folder fails."""
    spool, job_id = Spool.create(tmp_path), uuid.uuid4()
    (spool.path / str(job_id)).symlink_to(tmp_path)
    with pytest.raises(FileExistsError):
        spool.make_folder(job_id)


def test_discarding_removes_a_job_and_nothing_else(tmp_path: Path) -> None:
    """A failed start leaves no folder; its neighbours stay."""
    spool, gone, stays = Spool.create(tmp_path), uuid.uuid4(), uuid.uuid4()
    (spool.make_folder(gone) / "stdout").touch()
    spool.make_folder(stays)
    spool.discard(gone)
    spool.discard(gone)  # again is no error
    assert [path.name for path in spool.path.iterdir()] == [str(stays)]


@pytest.mark.parametrize("kind", ["missing", "a file", "writable by all", "writable by the group"])
def test_a_place_that_is_not_safe_is_refused(tmp_path: Path, kind: str) -> None:
    """Where others could replace the private folder, it would not be private."""
    place = tmp_path / "place"
    match kind:
        case "a file":
            place.touch()
        case "writable by all":
            place.mkdir()
            place.chmod(0o777)
        case "writable by the group":
            place.mkdir()
            place.chmod(0o770)
    with pytest.raises(ConfigError, match=r"cannot keep output in .*--output-dir"):
        Spool.create(place)


def test_a_sticky_place_is_safe(tmp_path: Path) -> None:
    """As /tmp is: others may add to it, but not rename what is there (unlink(2))."""
    tmp_path.chmod(0o1777)
    Spool.create(tmp_path)
