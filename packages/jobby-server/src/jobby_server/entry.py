"""Owns the first moments of `jobby-server`: until somebody can catch it, ctrl-c ends the process.

Python's own handler would raise amid the imports, with a traceback.
"""

import signal


def main() -> int:
    """Runs the server; returns the exit code."""
    # Not if it is ignored, as in what a shell starts in the background.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from jobby_server.main import main as run

    return run()
