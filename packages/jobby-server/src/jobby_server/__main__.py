"""Runs the server as `python -m jobby_server`."""

import sys

from jobby_server.entry import main

if __name__ == "__main__":
    sys.exit(main())
