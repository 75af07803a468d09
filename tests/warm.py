"""The command line without its start-up: a process that has imported all of it and forks for each command.

    python tests/warm.py      one JSON request a line: {cwd, words, env, out, plain}; one exit status a line

A crash sweep runs a thousand commands, whose imports alone would take minutes. What runs in the fork is
`autolab.cli.command_line.main` with the words of a real command, in its own process, with nothing shared but imported
code. With `plain` false, figures are empty files: nobody looks at them, and to draw them takes half the time.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self


class Warm:
    """Starts the process; each call of `run` is one command, killed commands have a negative status."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, cwd: Path, *words: str, out: Path, plain: bool = False, **env: str) -> int:
        request = {"cwd": str(cwd), "words": words, "env": env, "out": str(out), "plain": plain}
        assert self._server.stdin and self._server.stdout
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate()


def _serve() -> None:
    import scipy.stats  # noqa: F401

    pass

    while line := sys.stdin.readline():
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(request)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(request: dict[str, Any]) -> None:
    from autolab.cli import command_line
    from autolab.lab import crash_points
    from autolab.reports import figures

    code = 70
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(request["cwd"])
        os.environ.update(request["env"])
        importlib.reload(crash_points)
        if not request["plain"]:
            figures.draw = _empty_figures
            figures.progress = _no_progress
        code = command_line.main(request["words"])
        sys.stdout.flush()
    finally:
        os._exit(code)


def _empty_figures(_: object, folder: Path) -> tuple[str, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    made = [folder / f"{name}.{ending}" for name in ("comparison", "loss", "acc") for ending in ("png", "pdf")]
    for path in made:
        path.touch()
    return tuple(path.name for path in made)


def _no_progress(_: object, metric: str, direction: str, stem: Path) -> tuple[Path, Path]:
    made = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.pdf")
    for path in made:
        path.touch()
    return made


if __name__ == "__main__":
    _serve()
