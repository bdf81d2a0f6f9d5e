"""However many jobs there are, each is recorded, and the server is afterwards what it was."""

from faults.conftest import Inject


def test_a_crowd_of_short_jobs(inject: Inject) -> None:
    """Fifty at a time, of 300 in all: every output and exit code, no orphan, and descriptors,
    threads and memory are back where they were."""
    inject("crowd")
