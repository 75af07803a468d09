"""`python -m autolab` is the same as `autolab`."""

import sys

from autolab.cli import main

sys.exit(main())
