"""Exit codes of the commands that drive the loop."""

from __future__ import annotations

from autolab.loop.engine import End

EXIT_CODES = {End.DONE: 0, End.PAUSED: 0, End.USER: 3, End.BUDGET: 4}
