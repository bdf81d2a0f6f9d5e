"""Whatever a job does, its output is what it wrote, its end is its own, and nothing of it stays."""

from faults.conftest import Inject


def test_unruly_processes(inject: Inject) -> None:
    """Jobs that fork, leave the session, fork twice, clear their environment or ignore SIGTERM
    leave no process behind when they end or are stopped."""
    inject("unruly-processes")


def test_unruly_output(inject: Inject) -> None:
    """Jobs that close or reopen their output, die in a line, exit at once or write 64 MiB have
    each byte and their exit code; one that truncates its output costs its followers no silence."""
    inject("unruly-output")
