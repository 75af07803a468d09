"""Commands on a terminal of their own: keys are pressed, and the screen is read as a user sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import Self

from lab_kit import LabKit


def rendered(said: str) -> list[str]:
    """What a terminal without end shows of text, of carriage returns, and of the movements that the picture makes."""
    rows, y, x = [""], 0, 0
    for found in re.finditer(r"\x1b\[([0-9;?]*)([a-zA-Z])|(\r)|(\n)|([^\x1b\r\n]+)", said):
        number, what, back, down, text = found.groups()
        if what == "A":
            y = max(0, y - int(number or 1))
        elif what == "K":
            assert number == "2"
            rows[y] = ""
        elif what == "J":
            rows[y:] = [rows[y][:x]]
        elif back:
            x = 0
        elif down:
            y += 1
            rows += [""] * (y + 1 - len(rows))
        elif text:
            rows[y] = rows[y][:x].ljust(x) + text + rows[y][x + len(text) :]
            x += len(text)
        else:
            assert what in ("m", "h", "l"), found[0]
    return rows


class Terminal:
    """A terminal of its own, and in it a command (or what the test draws itself)."""

    def __init__(self, columns: int = 100, rows: int = 30) -> None:
        self.master, self.slave = pty.openpty()
        self.said = b""
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self.slave)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def start(self, kit: LabKit, *words: str, **env: str) -> Self:
        """`autolab <words>` in the foreground of this terminal, as a shell would start it."""
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        become = (
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
        )
        autolab = [sys.executable, "-m", "autolab", *words]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", become, *autolab],
            cwd=kit.root,
            env={**kept, **kit.env, "TERM": "xterm-256color", **env},
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
        )
        return self

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def until(self, pattern: str, limit_s: float = 60) -> str:
        """What it says up to the first match of `pattern`, which is taken away."""
        deadline = time.monotonic() + limit_s
        while not (found := re.search(pattern.encode(), self.said)):
            assert time.monotonic() < deadline, f"no {pattern!r} on {self.screen()}"
            self._read(0.2)
        until, self.said = self.said[: found.end()], self.said[found.end() :]
        return until.decode()

    def when(self, shown: Callable[[list[str]], bool], limit_s: float = 60) -> list[str]:
        """The screen as soon as it is so. Nothing is taken away."""
        deadline = time.monotonic() + limit_s
        while not shown(self.screen() or [""]):
            assert time.monotonic() < deadline, f"never so: {self.screen()}"
            self._read(0.2)
        return self.screen()

    def ended(self, limit_s: float = 300) -> int:
        """The exit status; `said` is all that was not taken."""
        deadline = time.monotonic() + limit_s
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end: {self.screen()}"
            self._read(0.1)
        self.drain()
        return self.process.returncode

    def drain(self) -> None:
        while self._read(0.0):
            pass

    def screen(self) -> list[str]:
        """The rows that are left of what was said and not taken, on a terminal without end; blank ones left out."""
        return [row.rstrip() for row in rendered(self.said.decode()) if row.strip()]

    def as_found(self) -> bool:
        """Echo as before, and the cursor to be seen; `said` must reach back to where it was hidden last."""
        shown, hidden = self.said.rfind(b"\x1b[?25h"), self.said.rfind(b"\x1b[?25l")
        return shown > hidden and termios.tcgetattr(self.slave) == self.before

    def _read(self, limit_s: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], limit_s)
        if ready:
            self.said += os.read(self.master, 65536)
        return bool(ready)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        process = getattr(self, "process", None)
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        os.close(self.master)
        os.close(self.slave)
