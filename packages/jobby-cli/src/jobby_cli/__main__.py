"""Makes `python -m jobby_cli` the same as `jobby`."""

from jobby_cli.entry import main

main()
