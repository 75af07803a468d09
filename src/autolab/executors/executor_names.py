"""The executors by name, or `package.module:Class` for one of the user's own."""

from __future__ import annotations

import importlib

from autolab.errors import ExecutorError
from autolab.executors.base import Executor
from autolab.executors.local import LocalExecutor

EXECUTORS: dict[str, type[Executor]] = {"local": LocalExecutor}

_METHODS = ("submit", "find", "poll", "fetch", "cancel", "discard")


def load_executor(name: str) -> type[Executor]:
    """The executor called `name`, or the class at `package.module:Class`. ExecutorError, listing the known names."""
    if name in EXECUTORS:
        return EXECUTORS[name]
    choices = f"known are {', '.join(EXECUTORS)}, or package.module:Class"
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ExecutorError(f"executor {name!r} is not known; {choices}")
    try:
        executor = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a user's module may fail in any way: the user wants the line, not our traceback
        raise ExecutorError(
            f"executor {name!r} could not be loaded ({type(error).__name__}: {error}); {choices}"
        ) from error
    # Checked here, so that a class that lacks a method fails before anything is submitted.
    missing = [part for part in ("name", "location", *_METHODS) if not hasattr(executor, part)]
    if not isinstance(executor, type) or missing:
        raise ExecutorError(f"executor {name!r} is not an executor class: it lacks {', '.join(missing) or 'a class'}")
    return executor
