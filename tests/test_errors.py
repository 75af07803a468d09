"""The tree of exceptions is the one that its docstring draws, and a message is one line."""

from __future__ import annotations

import inspect
import re

import pytest

from autolab import errors
from autolab.errors import AutolabError, BudgetSpent, ExecutorError, ExitCode, Paused, UsageError


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn = re.findall(r"^ +(├── |└── )?(\w+) +exit (\d)", errors.__doc__ or "", re.M)
    classes = [AutolabError, *AutolabError.__subclasses__()]
    in_module = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__}
    assert in_module == {*classes, ExitCode}
    assert {(kind.__name__, kind.__base__.__name__ if kind.__base__ else "", kind.exit_code) for kind in classes} == {
        (name, "AutolabError" if branch else "Exception", int(code)) for branch, name, code in drawn
    }
    assert [name for branch, name, _ in drawn if not branch] == ["AutolabError"]
    assert [branch for branch, _, _ in drawn][-1] == "└── "


@pytest.mark.parametrize("kind", [*AutolabError.__subclasses__(), AutolabError])
def test_a_message_is_one_line(kind: type[AutolabError]) -> None:
    assert str(kind("two\n  lines\tand a \r\n half\n")) == "two lines and a half"


def test_only_usage_exits_with_2_and_only_what_the_engine_takes_up_with_0_or_4() -> None:
    others = {kind: kind.exit_code for kind in AutolabError.__subclasses__() if kind.exit_code != 1}
    assert others == {UsageError: 2, BudgetSpent: 4, Paused: 0}


def test_an_executors_error_is_final_unless_it_says_otherwise() -> None:
    assert not ExecutorError("x").transient
    assert ExecutorError("x", transient=True).transient
