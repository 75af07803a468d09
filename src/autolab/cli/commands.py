"""The table of commands, and how their options are parsed."""

from __future__ import annotations

import contextlib
import functools
import io
import re
from collections.abc import Callable
from typing import Any

import tyro
from tyro.conf import DisallowNone

from autolab.cli.agent_server import mcp
from autolab.cli.comparisons import compare
from autolab.cli.inspect import doctor, publish, registry, verify
from autolab.cli.make_labs import demo, fetch, init
from autolab.cli.measure import calibrate, evaluate, replay, reproduce
from autolab.cli.proposing import propose
from autolab.cli.run_loops import loop, review, run, stop
from autolab.errors import ExitCode, UsageError


def call(name: str, options: list[str]) -> int:
    """Parse the options of the command `name`, then run it. UsageError: they do not fit."""
    function = _FUNCTIONS[name]

    # tyro prints its own errors as boxes, which are caught here; what the command itself prints must not be.
    @functools.wraps(function)
    def bind(*arguments: Any, **keywords: Any) -> Callable[[], int]:
        return functools.partial(function, *arguments, **keywords)

    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            command = tyro.cli(bind, prog=f"autolab {name}", args=options, config=(DisallowNone,))
    except SystemExit as end:
        if not end.code:  # --help
            return ExitCode.DONE
        raise UsageError(f"{name}: {_sentence(printed.getvalue())}; see `autolab {name} --help`") from None
    return command()


def _sentence(box: str) -> str:
    """The message in a box that tyro drew, as one line: without frame, title, help texts and the pointer to them."""
    rows = " ".join(row.strip("│ ") for row in box.splitlines() if row.startswith("│"))
    parts = [" ".join(part.split()) for part in re.split("─{3,}", rows or box)]
    message = "; ".join(part for part in parts if not part.startswith(("For full helptext", "Argument helptext")))
    # tyro offers the default of an option with choices as one of them.
    return re.sub("'None', |, 'None'", "", message)


_FUNCTIONS: dict[str, Callable[..., int]] = {
    "init": init,
    "demo": demo,
    "fetch": fetch,
    "run": run,
    "loop": loop,
    "calibrate": calibrate,
    "eval": evaluate,
    "compare": compare,
    "propose": propose,
    "mcp": mcp,
    "verify": verify,
    "review": review,
    "stop": stop,
    "reproduce": reproduce,
    "replay": replay,
    "registry": registry,
    "publish": publish,
    "doctor": doctor,
}
