"""Disks that are full, frozen or damaged cost what is said, and nothing else."""

from faults.conftest import Inject


def test_a_full_disk(inject: Inject) -> None:
    """64 KiB for all jobs: the one that fills it is DISK_FULL, though its shell says 0; a start is
    refused in words; who runs beside it ends as it should; with room again all is as before."""
    inject("disk-full")


def test_a_read_only_state_folder(inject: Inject) -> None:
    """The server does not start, and says in one line which folder, and why."""
    inject("disk-read-only")


def test_a_damaged_database(inject: Inject) -> None:
    """Garbage, cut or gone: it is moved aside, and every job is known from its folder, with its
    output and its exit code, those that run too."""
    inject("database-damaged")


def test_a_damaged_outcome(inject: Inject) -> None:
    """A job whose outcome is damaged or gone is LOST, with all of its output and no exit code."""
    inject("outcome-damaged")
