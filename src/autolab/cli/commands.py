"""The table of commands, and how their words are parsed."""

from __future__ import annotations

import contextlib
import functools
import io
import re
from collections.abc import Callable
from typing import Any

import tyro

from autolab.cli.inspect import doctor, publish, registry, verify
from autolab.cli.make_labs import demo, init
from autolab.cli.measure import calibrate, replay, reproduce
from autolab.cli.run_loops import loop, review, run, stop
from autolab.errors import UsageError


def call(name: str, words: list[str]) -> int:
    """Parse `words` for the command `name`, then run it; UsageError where they do not fit."""
    function = _FUNCTIONS[name]

    @functools.wraps(function)
    def bind(*given: Any, **named: Any) -> Callable[[], int]:
        return functools.partial(function, *given, **named)

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            bound = tyro.cli(bind, prog=f"autolab {name}", args=words)
    except SystemExit as ended:
        if not ended.code:  # --help
            return 0
        raise UsageError(f"{name}: {_sentence(said.getvalue())}; see `autolab {name} --help`") from None
    return bound()


def _sentence(box: str) -> str:
    """What tyro draws as a box, as one line: without frame, title, help texts and the pointer to them."""
    rows = " ".join(row.strip("│ ") for row in box.splitlines() if row.startswith("│"))
    parts = [" ".join(part.split()) for part in re.split("─{3,}", rows or box)]
    return "; ".join(part for part in parts if not part.startswith(("For full helptext", "Argument helptext")))


_FUNCTIONS: dict[str, Callable[..., int]] = {
    "init": init,
    "demo": demo,
    "run": run,
    "loop": loop,
    "calibrate": calibrate,
    "verify": verify,
    "review": review,
    "stop": stop,
    "reproduce": reproduce,
    "replay": replay,
    "registry": registry,
    "publish": publish,
    "doctor": doctor,
}
