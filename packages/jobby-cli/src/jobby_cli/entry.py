"""Owns the first and the last moments of `jobby`.

Until somebody can catch it, ctrl-c ends the process. Python's own handler raises wherever the
program happens to be. Amid the imports that is a traceback, or, in a callback of the import
system, nothing at all.

When all is said, the process ends at once, without Python's tidying up. gRPC's threads may run
into that, which has made of a ctrl-c's 130 a SIGABRT, or a process that stood still.
"""

import os
import signal
import sys


def main() -> None:
    """Runs one command, and ends the process with its exit code; it does not return."""
    try:
        exit_code = _run()
    except SystemExit as end:  # by a signal
        exit_code = int(end.code or 0)
    from contextlib import suppress

    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None: it was closed from the start
            with suppress(OSError):  # who wrote there has said so
                stream.flush()
    os._exit(exit_code)


def _run() -> int:
    # Not if it is ignored, as in what a shell starts in the background.
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from jobby_cli.failures import EX_INTERRUPTED
    from jobby_cli.main import main as run

    try:
        if heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return run()
    except KeyboardInterrupt:  # before the command could catch it
        return EX_INTERRUPTED
