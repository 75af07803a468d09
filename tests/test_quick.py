"""A test that starts a process without its mark fails in every run, and the message says what to add."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import contextlib, os, subprocess, threading
import pytest

def test_starts_none():
    pass

@pytest.mark.process
def test_marked():
    subprocess.run(["true"], check=True)

def test_runs_a_program():
    subprocess.run(["true"], check=True)

def test_keeps_the_refusal_to_itself():
    with contextlib.suppress(BaseException):
        os.system("true")

def test_forks_in_a_thread():
    def fork():
        with contextlib.suppress(BaseException):
            os.fork()
    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()

@pytest.fixture(scope="module")
def made():
    subprocess.run(["true"], check=True)

def test_asks_for_what_a_program_made(made):
    pass

def test_starts_none_either():
    pass
"""
REFUSED = {
    "FAILED test_it.py::test_runs_a_program",
    "ERROR test_it.py::test_keeps_the_refusal_to_itself",
    "ERROR test_it.py::test_forks_in_a_thread",
    "ERROR test_it.py::test_asks_for_what_a_program_made",
}


@pytest.mark.process
@pytest.mark.parametrize(("words", "refused"), [(["-m", "not process"], REFUSED), ([], REFUSED)])
def test_an_unmarked_test_that_starts_a_process_fails_with_a_line_that_says_what_to_add(
    repository: Path, tmp_path: Path, words: list[str], refused: set[str]
) -> None:
    shutil.copy(repository / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS.replace("os.fork()", "os._exit(0) if os.fork() == 0 else os.wait()"))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  process\n  nightly\n  crash_real\n")
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider", *words]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = [line for line in ended.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    assert {line.split(" - ")[0] for line in said} >= refused, ended.stdout
    assert {line.split("::")[1].split(" ")[0] for line in said} == {line.split("::")[1] for line in refused}
    assert ended.returncode == (1 if refused else 0), ended.stdout
    told = [
        line for line in ended.stdout.splitlines() if "starts a process (" in line and "pytest.mark.process" in line
    ]
    assert len(told) >= len(refused)
