"""A syntax error is one line: file, line, what is wrong, and the source line."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

from autolab.verifiers.syntax import MOST_BYTES, error_line, is_newer, syntax_error


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("x = 1\ndef f(x) pass\n", "models/net.py:2: "),
        ("def f():\nreturn 1\n", "models/net.py:2: expected an indented block"),
        ("x = 1\nreturn x\n", "models/net.py:2: 'return' outside function: \"return x\""),
        ("if x:\n\ty = 1\n        z = 1\n", "models/net.py:3: inconsistent use of tabs"),
        ("x = (1,\n", "models/net.py:1: '(' was never closed: \"x = (1,\""),
        ('x = "half\n', "models/net.py:1: unterminated string literal"),
        ("x = 1\ny = '\0'\n", "models/net.py:2: a NUL character"),
        ("\x1b[2J = 1\n", "models/net.py:1: invalid non-printable character"),
        ("(" * 5_000, "models/net.py:1: too many nested parentheses"),
    ],
)
def test_what_does_not_compile_is_one_line_that_quotes_it(source: str, line: str) -> None:
    message = syntax_error("models/net.py", source.encode())
    assert message.startswith(line)
    assert message.isprintable() and len(message) < 400


@pytest.mark.parametrize(
    "source",
    [
        b"x = 1\n",
        b"",
        b"# -*- coding: latin-1 -*-\nx = '\xe9'\n",
        b"x = '\\d'\n",  # a warning, in any Python that trials run with
        b"raise SystemExit('compiled, and not run')\n",
        b"-" * 100_000 + b"1",  # how deep this may nest depends on the stack
        b"(" * (MOST_BYTES + 1),
    ],
)
def test_what_compiles_or_cannot_be_judged_here_passes_and_nothing_is_run(source: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert syntax_error("models/net.py", source) == ""


def test_the_line_is_that_of_the_source_and_not_of_a_file_of_its_name_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.py").write_text("SECRET = 1\n")
    monkeypatch.chdir(tmp_path)
    assert syntax_error("net.py", b"return 1\n") == "net.py:1: 'return' outside function: \"return 1\""


def test_only_python_is_read() -> None:
    assert syntax_error("notes.txt", b"no Python") == ""


def test_an_encoding_that_does_not_fit_is_said() -> None:
    assert syntax_error("a.py", b"x = '\xff'\n").startswith("a.py:1: ")


def test_a_newer_python_may_know_more() -> None:
    major, minor, *_ = sys.version_info
    assert not is_newer(f"{major}.{minor}.0") and not is_newer("3.9.18") and not is_newer("2.7.18")
    assert is_newer(f"{major}.{minor + 1}.0") and is_newer("not known")


def test_a_long_line_is_cut() -> None:
    assert len(error_line("a.py", 1, "m" * 10_000, "x" * 1_000_000)) < 400
