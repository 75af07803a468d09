"""Reports which files a Python program wants and which hosts; runs in the program's own interpreter.

A copy of this file, called sitecustomize.py, lies first on its PYTHONPATH. Standard library only, for any Python from
3.8 on. A line of JSON an event, each value once, in the file that AUTOLAB_PROBE names: ["open", PATH], ["write", PATH],
["look", PATH] for what it asks for and does not find, ["host", NAME], or ["git", ""] if it starts git. It must never
change what the program does, so that every error of its own is swallowed.
"""

import functools
import json
import os
import sys
from collections.abc import Callable
from typing import Any


def _starts_git(command: "str | bytes | list[str]") -> bool:
    words = [command] if isinstance(command, (str, bytes)) else list(command)
    first = os.fsdecode(words[0]).split()[0]
    # `/bin/sh -c "git …"` has the line as its last word.
    return os.path.basename(first) == "git" or os.fsdecode(words[-1]).startswith("git ")


def _watch(report: str) -> None:
    descriptor = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    seen: set[tuple[str, str]] = set()
    ignored = tuple(
        os.path.realpath(path) + os.sep
        for path in {sys.prefix, sys.base_prefix, sys.exec_prefix, "/proc", "/sys", "/dev", "/usr", "/lib", "/etc"}
    )

    def note(event: str, value: str) -> None:
        if (event, value) in seen or len(seen) > 20_000:
            return
        seen.add((event, value))
        os.write(descriptor, json.dumps([event, value]).encode() + b"\n")

    def hook(event: str, arguments: "tuple[object, ...]") -> None:
        try:
            if event == "open" and isinstance(arguments[0], (str, bytes)):
                path = os.path.abspath(os.fsdecode(arguments[0]))
                flags = arguments[2] if len(arguments) > 2 and isinstance(arguments[2], int) else 0
                if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR) and not path.startswith(ignored):
                    note("write", path)
                # What it makes is no data that it needs.
                if flags & os.O_CREAT:
                    return
                if not path.startswith(ignored) and not path.endswith((".py", ".pyc")):
                    note("open", path)
            elif event == "os.mkdir" and isinstance(arguments[0], (str, bytes)):
                path = os.path.abspath(os.fsdecode(arguments[0]))
                # `makedirs` also asks for folders that are there.
                if not path.startswith(ignored) and not os.path.isdir(path):
                    note("write", path)
            elif event == "socket.getaddrinfo" and isinstance(arguments[0], (str, bytes)):
                note("host", os.fsdecode(arguments[0]))
            elif event in ("subprocess.Popen", "os.posix_spawn", "os.system"):
                command: Any = arguments[0] if event == "os.system" else arguments[1]
                if _starts_git(command):
                    note("git", "")
        except Exception:
            pass

    def asking(question: "Callable[[Any], bool]") -> "Callable[[Any], bool]":
        @functools.wraps(question)
        def ask(path: Any) -> bool:
            answer = question(path)
            try:
                if not answer:
                    place = os.path.abspath(os.fsdecode(path))
                    if not place.startswith(ignored) and not place.endswith((".py", ".pyc")):
                        note("look", place)
            except Exception:
                pass
            return answer

        return ask

    sys.addaudithook(hook)
    # No audit event tells of these questions.
    for name in ("exists", "isfile", "isdir"):
        setattr(os.path, name, asking(getattr(os.path, name)))


def _run_the_next() -> None:
    """Another sitecustomize, which this one hides: the one that sends imports to the export, or the user's own."""
    here = os.path.dirname(os.path.abspath(__file__))
    for folder in sys.path:
        path = os.path.join(folder, "sitecustomize.py")
        if os.path.abspath(folder) != here and os.path.isfile(path):
            with open(path, "rb") as file:
                code = compile(file.read(), path, "exec")
            exec(code, {"__name__": "sitecustomize", "__file__": path})
            return


try:
    if os.environ.get("AUTOLAB_PROBE"):
        _watch(os.environ["AUTOLAB_PROBE"])
except Exception:
    pass
_run_the_next()
