"""`python -m autolab` is the same as `autolab`."""

import sys

from autolab.cli.command_line import main

sys.exit(main())
