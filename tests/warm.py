"""The command line without its start-up: a process that has imported all of it and forks for each command.

    python tests/warm.py      one JSON request a line; the command's pid and its exit status, a line each

The suite runs some thousand commands, and half of what a command costs is imports. What runs in the fork is
the command line's `main` with the words of a real command, in a process of its own, with nothing shared but
imported code. Three things differ from
`python -m autolab`: nothing is fsynced, because no test looks at the disk after a power cut; figures are empty files
unless asked for; an environment that the interpreter reads as it starts (`FIXED`) cannot be another than at the start
of the server, which `run` refuses: such a test starts a process.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel

FIXED = ("PYTHON", "LC_", "LANG", "MPL", "OMP_", "OPENBLAS_", "LD_", "TZ")
ADOPTED = ("autolab", "matplotlib", "numpy", "scipy", "pydantic", "pydantic_ai", "openai", "anthropic", "httpx")
"""Packages whose modules the server imports, too, once a command has."""


class Warm:
    """Starts the process; each call of `run` is one command, killed commands have a negative status."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._fixed: dict[str, str] = {}
        self.free = threading.Lock()
        """Held by whoever runs a command, where a test runs several at once: it takes one at a time."""
        self._read = b""

    def fits(self, env: dict[str, str]) -> bool:
        """Whether the server's interpreter would have started the same in `env`; the first one to ask says how."""
        return self._server is None or fixed(env) == self._fixed

    def run(
        self,
        cwd: Path,
        *words: str,
        out: Path,
        err: Path | None = None,
        env: dict[str, str] | None = None,
        figures: bool = False,
        timeout: float | None = None,
    ) -> int:
        """One command with its output in `out` and `err` (None: in `out`); its exit status.

        Raises subprocess.TimeoutExpired after `timeout` seconds; the command is dead then.
        """
        env = dict(os.environ) if env is None else env
        if self._server is None:
            self._fixed = fixed(env)
            command = [sys.executable, __file__]
            self._server = subprocess.Popen(command, stdin=-1, stdout=-1, env=env, cwd="/")
        assert self.fits(env), "another interpreter than the server's"
        umask = os.umask(0o77)
        os.umask(umask)
        request = {"cwd": str(cwd), "words": words, "env": env, "out": str(out), "err": str(err or out)}
        assert self._server.stdin is not None
        line = json.dumps(request | {"figures": figures, "umask": umask}) + "\n"
        self._server.stdin.write(line.encode())
        self._server.stdin.flush()
        pid = int(self._line(None))
        try:
            return int(self._line(timeout))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            self._line(None)
            raise subprocess.TimeoutExpired(["autolab", *words], timeout or 0) from None

    def _line(self, timeout: float | None) -> bytes:
        assert self._server is not None and self._server.stdout is not None
        stream, deadline = self._server.stdout.fileno(), time.monotonic() + (timeout or 0)
        while b"\n" not in self._read:
            left = None if timeout is None else max(0.0, deadline - time.monotonic())
            if not select.select([stream], [], [], left)[0]:
                raise TimeoutError
            more = os.read(stream, 4096)
            assert more, "the warm process died"
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line

    def close(self) -> None:
        if self._server is not None:
            assert self._server.stdin is not None and self._server.stdout is not None
            self._server.stdin.close()
            try:
                self._server.wait(10)
            except subprocess.TimeoutExpired:  # a process that a test left holds the other end
                self._server.kill()
                self._server.wait()
            self._server.stdout.close()
            self._server = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


SHARED = Warm()
"""One a test process; it starts with the first command."""
atexit.register(SHARED.close)


def fixed(env: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(FIXED)}


def _serve() -> None:
    import scipy.stats  # noqa: F401

    from autolab.cli import commands
    from autolab.reports import figures  # noqa: F401

    for name in commands._FUNCTIONS:
        commands.function_of(name)

    for model in _below(BaseModel):
        model.model_rebuild(raise_errors=False)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.freeze()
    with tempfile.TemporaryFile() as told:
        while line := sys.stdin.buffer.readline():
            request = json.loads(line)
            told.truncate(0)
            pid = os.fork()
            if pid == 0:
                _become(request, told.fileno())
            print(pid, flush=True)
            _, status = os.waitpid(pid, 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            told.seek(0)
            for name in told.read().decode().split():
                importlib.import_module(name)


def _below(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in kind.__subclasses__():
        yield model
        yield from _below(model)


def _become(request: dict[str, Any], tells: int) -> None:
    code, known = 70, set(sys.modules)
    try:
        try:
            code = _command(request)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            code = 1
            sys.excepthook(*sys.exc_info())
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        names = (name for name in list(sys.modules) if name not in known and name.partition(".")[0] in ADOPTED)
        os.pwrite(tells, "\n".join(names).encode(), 0)
    finally:
        os._exit(code)


def _command(request: dict[str, Any]) -> int:
    from autolab.cli import command_line
    from autolab.lab import crash_points
    from autolab.reports import figures, progress_figure

    signal.signal(signal.SIGINT, signal.default_int_handler)
    atexit._clear()
    out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    err = out if request["err"] == request["out"] else os.open(request["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in ((nothing, 0), (out, 1), (err, 2)):
        os.dup2(descriptor, number)
    for descriptor in {nothing, out, err}:
        os.close(descriptor)
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[0] = request["cwd"]
    sys.argv = ["autolab", *request["words"]]
    os.fsync = os.fstat  # type: ignore[assignment]
    importlib.reload(crash_points)
    if not request["figures"]:
        figures.draw = _empty_figures  # type: ignore[assignment]
        progress_figure.draw = _no_progress  # type: ignore[assignment]
    return command_line.main(request["words"])


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
