"""Makes `python -m jobby_cli` the same as `jobby`."""

import sys

from jobby_cli.main import main

sys.exit(main())
