"""The list of planted bugs fits the sources and the tests, and a bug that no test catches is said to be missed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

SOURCE = "def fits(size, cap):\n    return size <= cap\n\n\ndef empty(size):\n    return size == 0\n"
TESTS = """
from autolab.caps import empty, fits

def test_a_size_above_the_cap_does_not_fit():
    assert not fits(4, 3)

def test_a_size_of_nothing_is_empty():
    assert empty(0)
"""
CAUGHT = {
    "name": "cap",
    "guard": "A size above the cap does not fit.",
    "file": "caps.py",
    "old": "size <= cap",
    "new": "size <= cap + 1",
    "tests": ["tests/test_caps.py::test_a_size_above_the_cap_does_not_fit"],
}
UNCAUGHT = {
    "name": "empty",
    "guard": "A size of one is not empty.",
    "file": "caps.py",
    "old": "size == 0",
    "new": "size <= 1",
    "tests": ["tests/test_caps.py::test_a_size_of_nothing_is_empty"],
}


@pytest.fixture(scope="module")
def plant_bugs(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("plant_bugs", repository / "scripts" / "plant_bugs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["plant_bugs"] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path, repository: Path) -> Tree:
    """A repository of one module, with the script and a list of these bugs."""

    def make(*bugs: dict[str, Any], tests: str = TESTS) -> Path:
        files = {
            "src/autolab/__init__.py": "",
            "src/autolab/caps.py": SOURCE,
            "tests/test_caps.py": tests,
            "tests/planted/bugs.yaml": yaml.safe_dump(list(bugs)),
            "scripts/plant_bugs.py": (repository / "scripts" / "plant_bugs.py").read_text(encoding="utf-8"),
            "pyproject.toml": "[tool.pytest.ini_options]\n",
        }
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content, encoding="utf-8")
        return tmp_path

    return make


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "scripts" / "plant_bugs.py"), "--jobs", "1", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_bug_of_the_list_can_be_planted_and_its_tests_are_there(plant_bugs: ModuleType, repository: Path) -> None:
    bugs = plant_bugs.load(repository / plant_bugs.LIST)
    assert len(bugs) >= 30
    assert plant_bugs.problems(bugs, repository) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"file": "gone.py"}, "cap: file: there is no src/autolab/gone.py"),
        ({"old": "size > cap"}, "cap: old: found 0 times in src/autolab/caps.py, not once"),
        ({"old": "return size"}, "cap: old: found 2 times in src/autolab/caps.py, not once"),
        ({"new": "size <= cap"}, "cap: new: is the same as old"),
        ({"new": "size <="}, "cap: new: src/autolab/caps.py with it is not Python: invalid syntax"),
        ({"tests": ()}, "cap: tests: 0 are listed; list one to three"),
        ({"tests": ("tests/gone.py::test_it",)}, "cap: tests: there is no tests/gone.py"),
        ({"tests": ("tests/test_caps.py::test_a_size",)}, "cap: tests: tests/test_caps.py has no test_a_size"),
    ],
)
def test_an_entry_that_no_longer_fits_is_named(
    plant_bugs: ModuleType, tree: Tree, change: dict[str, Any], problem: str
) -> None:
    root = tree(CAUGHT)
    (bug,) = plant_bugs.load(root / plant_bugs.LIST)
    assert plant_bugs.problems([bug], root) == []
    (found,) = plant_bugs.problems([replace(bug, **change)], root)
    assert found.startswith(problem)


def test_two_bugs_of_one_name_are_named(plant_bugs: ModuleType, tree: Tree) -> None:
    root = tree(CAUGHT, CAUGHT)
    assert plant_bugs.problems(plant_bugs.load(root / plant_bugs.LIST), root) == ["cap: the name is there twice"]


def test_an_entry_with_other_keys_is_refused(plant_bugs: ModuleType, tree: Tree) -> None:
    root = tree({name: value for name, value in CAUGHT.items() if name != "guard"})
    with pytest.raises(SystemExit, match="entry 1: must have the keys file, guard, name, new, old, tests"):
        plant_bugs.load(root / plant_bugs.LIST)


@pytest.mark.process
def test_check_runs_no_test(tree: Tree) -> None:
    root = tree(CAUGHT, UNCAUGHT)
    ended = run(root, "--check")
    assert (ended.returncode, ended.stdout) == (0, "2 bugs can be planted\n")
    (root / "src" / "autolab" / "caps.py").write_text("")
    ended = run(root, "--check")
    assert ended.returncode == 1
    assert ended.stderr.count("old: found 0 times in src/autolab/caps.py, not once") == 2


@pytest.mark.process
def test_a_bug_that_no_test_catches_is_missed(tree: Tree) -> None:
    root = tree(CAUGHT, UNCAUGHT)
    ended = run(root)
    assert ended.returncode == 1, ended.stderr
    said = ended.stdout.splitlines()
    assert said[0].startswith("passed  without a bug: 2 tests")
    assert said[1].startswith("bites   cap ") and said[2].startswith("MISSED  empty ")
    assert said[3] == "        does not fail: tests/test_caps.py::test_a_size_of_nothing_is_empty"
    assert said[4] == "1 of 2 bugs bite"
    assert (root / "src" / "autolab" / "caps.py").read_text() == SOURCE


@pytest.mark.process
def test_bugs_that_are_all_caught_end_with_0(tree: Tree) -> None:
    ended = run(tree(CAUGHT, UNCAUGHT), "--only", "cap")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 of 1 bugs bite" in ended.stdout


@pytest.mark.process
@pytest.mark.parametrize("instead", ["raise ValueError", "import pytest; pytest.skip('not here')"])
def test_a_listed_test_that_fails_or_is_skipped_without_a_bug_proves_nothing(tree: Tree, instead: str) -> None:
    ended = run(tree(CAUGHT, tests=TESTS.replace("assert not fits(4, 3)", instead)))
    assert ended.returncode == 1
    assert f"does not pass: {CAUGHT['tests'][0]}" in ended.stdout
