"""The table of commands, and how their options are parsed."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import re
from collections.abc import Callable
from typing import Any

import tyro
from tyro.conf import DisallowNone

from autolab.errors import ExitCode, UsageError


def call(name: str, options: list[str]) -> int:
    """Parse the options of the command `name`, then run it. UsageError: they do not fit."""
    function = function_of(name)

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


def function_of(name: str) -> Callable[..., int]:
    """The function of a command. Its module is imported now: a short command must not wait for those of the others."""
    module, _, function = _FUNCTIONS[name].partition(":")
    found: Callable[..., int] = getattr(importlib.import_module(f"autolab.cli.{module}"), function)
    return found


def _sentence(box: str) -> str:
    """The message in a box that tyro drew, as one line: without frame, title, help texts and the pointer to them."""
    rows = " ".join(row.strip("│ ") for row in box.splitlines() if row.startswith("│"))
    parts = [" ".join(part.split()) for part in re.split("─{3,}", rows or box)]
    message = "; ".join(part for part in parts if not part.startswith(("For full helptext", "Argument helptext")))
    # tyro offers the default of an option with choices as one of them.
    return re.sub("'None', |, 'None'", "", message)


_FUNCTIONS: dict[str, str] = {
    "init": "make_labs:init",
    "demo": "make_labs:demo",
    "fetch": "make_labs:fetch",
    "run": "run_loops:run",
    "loop": "run_loops:loop",
    "calibrate": "measure:calibrate",
    "eval": "measure:evaluate",
    "compare": "comparisons:compare",
    "propose": "proposing:propose",
    "prompt": "prompting:prompt",
    "mcp": "agent_server:mcp",
    "verify": "inspect:verify",
    "review": "run_loops:review",
    "stop": "run_loops:stop",
    "reproduce": "measure:reproduce",
    "replay": "measure:replay",
    "registry": "inspect:registry",
    "publish": "inspect:publish",
    "doctor": "inspect:doctor",
}
"""By command: the module of this package, and the function in it."""
