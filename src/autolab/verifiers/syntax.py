"""Whether a Python file can be compiled, as one line with file, line and the source line; nothing of it is run.

The interpreter of the trials need not be ours. What ours compiles may fail in an older one, which the checks then show.
What ours refuses, an older one refuses too; a newer one may take it, and is asked: `ASK_PYTHON` runs there, and prints
the same line.
"""

from __future__ import annotations

import sys
import warnings

from autolab.text import decode, one_line

MOST_BYTES = 1_000_000
"""Larger files are left to the checks: to compile one takes seconds and hundreds of megabytes."""
_QUOTED = 120
"""Characters of a source line that a message quotes."""

ASK_PYTHON = """
import sys
name = sys.argv[1]
with open(name, "rb") as file:
    source = file.read()
try:
    compile(source, name, "exec", dont_inherit=True)
except SyntaxError as error:
    print(f'{error.lineno}: {error.msg}: "{(error.text or "").strip()}"')
    sys.exit(1)
except (ValueError, RecursionError, MemoryError):
    pass
"""


def syntax_error(path: str, source: bytes) -> str:
    """`models/net.py:14: invalid syntax: "def f(x:"`; empty if it compiles, or is no Python file."""
    if not path.endswith(".py") or len(source) > MOST_BYTES:
        return ""
    null = source.find(b"\0")
    if null >= 0:
        number = source.count(b"\n", 0, null) + 1
        return f"{path}:{number}: a NUL character, which Python does not read"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Not by its own name: for some errors Python reads the line from a file of that name, here.
            compile(source, "<candidate>", "exec", dont_inherit=True)
    except SyntaxError as error:
        number = error.lineno or 1
        return error_line(path, number, error.msg, _line(source, number))
    # How deep an expression may nest depends on the stack that it is compiled on, and ours is not that of the trials.
    except (ValueError, RecursionError, MemoryError):
        return ""
    return ""


def error_line(path: str, number: int, message: str, source_line: str) -> str:
    return f'{path}:{number}: {one_line(message, 200)}: "{one_line(source_line, _QUOTED)}"'


def is_newer(version: str) -> bool:
    """Whether a Python of this version (`3.13.1`) may have syntax that ours does not know."""
    numbers = version.split(".")[:2]
    if not all(number.isdecimal() for number in numbers):
        return True
    return [int(number) for number in numbers] > list(sys.version_info[:2])


def _line(source: bytes, number: int) -> str:
    lines = source.split(b"\n")
    return decode(lines[number - 1]) if 1 <= number <= len(lines) else ""
