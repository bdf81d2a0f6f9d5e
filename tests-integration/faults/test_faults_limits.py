"""Whoever meets a limit is told which, and nobody else meets it."""

from faults.conftest import Inject


def test_no_descriptor_is_left(inject: Inject) -> None:
    """EMFILE is named in the answer; streams and jobs go on; a server that cannot watch over its
    jobs does not start, and says why; with descriptors again nothing is missing."""
    inject("descriptors-used-up")


def test_no_inotify_is_left(inject: Inject) -> None:
    """Without inotify instances or watches a follower is told which limit; jobs go on; with the
    limit raised it reads all."""
    inject("inotify-used-up")
