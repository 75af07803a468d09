"""The variables that a command sets for its program do not put aside what a trial needs there."""

from __future__ import annotations

import pytest

from autolab.sandbox.environment import with_python_path


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        (["env", "PYTHONPATH=src", "python"], ["env", "PYTHONPATH=/seeding:src", "python"]),
        (
            ["sh", "-c", "script", "env", "A=1", "env", "B=2", "PYTHONPATH=.", "python"],
            ["sh", "-c", "script", "env", "A=1", "env", "B=2", "PYTHONPATH=/seeding:.", "python"],
        ),
        # An argument of the program is its own affair.
        (["env", "python", "train.py", "PYTHONPATH=src"], ["env", "python", "train.py", "PYTHONPATH=src"]),
        (["python", "PYTHONPATH=src"], ["python", "PYTHONPATH=src"]),
    ],
)
def test_a_path_of_imports_in_a_command_adds_to_that_of_the_environment(words: list[str], joined: list[str]) -> None:
    assert with_python_path(words, "/seeding") == joined
    assert with_python_path(words, "") == words
