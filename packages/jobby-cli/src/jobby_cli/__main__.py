"""Makes `python -m jobby_cli` the same as `jobby`."""

import sys

from jobby_cli.entry import main

sys.exit(main())
