"""Owns the first moments of `jobby`: until somebody can catch it, ctrl-c ends the process.

Python's own handler raises wherever the program happens to be. Amid the imports
that is a traceback, or, in a callback of the import system, nothing at all.
"""

import signal


def main() -> int:
    """Runs one command; returns the exit code."""
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
