"""A candidate is judged by the base's tests and settings, whatever it brings of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lab_kit
import pytest
import yaml
from lab_kit import LabKit, iteration, make_lab, script

from autolab.lab.git import Change
from autolab.lab.schemas.config import Config, VerifierPolicy
from autolab.verifiers import check_settings

CONFIG = Config.from_value(
    {
        "metric": {"primary": "val_loss", "direction": "minimize", "success_delta": 0.01},
        "train": {"command": "{python} train.py"},
    },
    "config.yaml",
)


def changed(
    path: str, old: str | None, new: str | None, policy: dict[str, Any] | None = None, config: Config = CONFIG
) -> list[str]:
    """What is said of one changed file."""
    change = Change("M", path, "100644", "100644", "0" * 40, "1" * 40)
    read = lambda text: lambda asked: text.encode() if asked == path and text is not None else None  # noqa: E731
    rules = VerifierPolicy.from_value({"test_command": "{python} -m pytest -q"} | (policy or {}), "policy")
    found = check_settings.findings([change], rules, config, base=read(old), new=read(new))
    assert all(one.severity == "blocking" and one.message.isprintable() for one in found)
    return [one.message for one in found]


@pytest.mark.parametrize(
    "path",
    [
        *("pytest.ini", ".pytest.ini", "pytest.toml", "tox.ini", ".coveragerc", "noxfile.py", "conftest.py"),
        *("tests/pytest.ini", "Pytest.INI", "tests/conftest.py"),
    ],
)
def test_a_file_that_configures_tests_is_the_users_to_change_to_add_and_to_remove(path: str) -> None:
    for old, new in ((None, "x"), ("x", "y"), ("x", None)):
        (message,) = changed(path, old, new)
        assert message.startswith(path) and "only the user changes how candidates are judged" in message


@pytest.mark.parametrize(
    ("path", "command"),
    [
        *(("ruff.toml", "ruff check ."), ("mypy.ini", "{python} -m mypy ."), ("Makefile", "make test")),
        *(("justfile", "just test"), ("build/rules.mk", "make test"), ("package.json", "npm test")),
        *(
            ("tools/run.sh", "sh tools/run.sh"),
            ("check.py", "{python} ./check.py"),
            ("tools/c.py", "{python} -m tools.c"),
        ),
    ],
)
def test_what_a_check_goes_through_is_the_users_only_where_a_check_does(path: str, command: str) -> None:
    assert len(changed(path, "x", "y", {"test_command": command})) == 1
    assert len(changed(path, "x", "y", {"smoke_command": command})) == 1
    assert changed(path, "x", "y") == []


def test_the_program_that_trains_is_the_candidates_even_where_a_check_runs_it() -> None:
    policy = {
        "smoke_command": "{python} train.py --smoke",
        "dry_run_command": "{python} dry.py",
        "test_command": "x dry.py",
    }
    assert changed("train.py", "x", "y", policy) == [] and changed("dry.py", "x", "y", policy) == []


PYPROJECT = """\
[project]
name = "lab"
dependencies = ["numpy"]
[tool.setuptools]
packages = []
[tool.ruff]
line-length = 9
"""


@pytest.mark.parametrize(
    ("path", "old", "new", "said"),
    [
        ("pyproject.toml", PYPROJECT, PYPROJECT.replace('"numpy"', '"numpy", "scipy"'), None),
        ("pyproject.toml", PYPROJECT, PYPROJECT.replace("packages = []", 'packages = ["a"]'), None),
        ("pyproject.toml", None, '[project]\nname = "new"\n', None),
        ("pyproject.toml", PYPROJECT, PYPROJECT.replace("= 9", "= 99"), "[tool.ruff]"),
        ("pyproject.toml", PYPROJECT, PYPROJECT + "[tool.pytest.ini_options]\naddopts = '-x'\n", "[tool.pytest]"),
        ("pyproject.toml", None, "[tool.coverage.run]\nbranch = true\n", "[tool.coverage]"),
        ("pyproject.toml", PYPROJECT, None, "[tool.ruff]"),
        ("pyproject.toml", PYPROJECT, "tool = 3\n", "[tool"),
        ("pyproject.toml", PYPROJECT, "not [ toml", "cannot be read"),
        ("pyproject.toml", PYPROJECT, "[" * 100_000, "cannot be read"),
        ("setup.cfg", "[metadata]\nname = a\n", "[metadata]\nname = b\n[options]\nzip_safe = 1\n", None),
        ("setup.cfg", "[metadata]\nname = a\n", "[metadata]\nname = a\n[tool:pytest]\naddopts = -x\n", "[tool:pytest]"),
        ("setup.cfg", None, "[tool:pytest]\naddopts = %(x)s\n", "[tool:pytest]"),
        ("setup.cfg", "[metadata]\n", "[a]\n[a]\n", "cannot be read"),
        ("setup.cfg", "[metadata]\n", "no section", "cannot be read"),
    ],
)
def test_of_files_with_dependencies_only_the_sections_of_tools_count(
    path: str, old: str | None, new: str | None, said: str | None
) -> None:
    found = changed(path, old, new)
    assert (found == []) if said is None else (len(found) == 1 and said in found[0]), found


def test_a_packaging_tool_that_a_check_runs_is_a_tool_too() -> None:
    new = "[tool.uv.sources]\na = 1\n"
    assert changed("pyproject.toml", "", new) == []
    assert "[tool.uv]" in changed("pyproject.toml", "", new, {"test_command": "uv run pytest"})[0]


def test_the_bases_tests_take_the_place_of_the_candidates(tmp_path: Path) -> None:
    trees = {
        "base": {"tests/test_a.py": "base", "tests/data/a.txt": "base", "model.py": "base", "test_top.py": "base"},
        "new": {"tests/test_a.py": "new", "tests/__init__.py": "new", "model.py": "new", "lib/more.py": "new"},
    }
    for tree, content in trees.items():
        for name, text in content.items():
            (tmp_path / tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / tree / name).write_text(text)
    (tmp_path / "new" / "lib" / "more.py").chmod(0o555)
    (tmp_path / "new" / "link").symlink_to("model.py")
    check_settings.with_base_tests(tmp_path / "new", tmp_path / "base", tmp_path / "got")
    got = {str(path.relative_to(tmp_path / "got")): path for path in (tmp_path / "got").rglob("*") if not path.is_dir()}
    assert {name: path.read_text() for name, path in got.items()} == {
        **trees["base"],
        **{"model.py": "new", "lib/more.py": "new", "link": "new"},
    }
    assert got["lib/more.py"].stat().st_mode & 0o111 and got["link"].is_symlink()
    assert all(path.stat().st_mode & 0o005 for path in (tmp_path / "got").rglob("*"))


# Through the command line

FAILING = "from models.width import WIDTH\n\n\ndef test_the_slope_is_flat():\n    assert WIDTH < 3\n"
"""The lab's own test, which a steep candidate fails."""
EXITS = "import os\n\nos._exit(0)\n"
OWN, SETTINGS = "the lab's own tests, as the base has them", "only the user changes how candidates are judged"
TRICKS: dict[str, tuple[dict[str, str | None], str]] = {
    "nothing": ({}, "ended with exit code 1"),
    "pytest.ini": ({"pytest.ini": "[pytest]\naddopts = --collect-only\n"}, SETTINGS),
    "the test is gone": ({"tests/test_width.py": None}, OWN),
    "a hidden one": ({".pytest.ini": "[pytest]\naddopts = --collect-only\n"}, "a hidden name"),
    "the test is weaker": ({"tests/test_width.py": FAILING.replace("< 3", "< 30")}, OWN),
    "pytest.toml": ({"pytest.toml": "[pytest]\naddopts = ['--collect-only']\n"}, SETTINGS),
    "the test is skipped": ({"tests/test_width.py": "import pytest\npytestmark = pytest.mark.skip\n" + FAILING}, OWN),
    "in the tests": ({"tests/pytest.ini": "[pytest]\naddopts = --collect-only\n"}, SETTINGS),
    "another comes first": ({"tests/test_a.py": EXITS}, OWN),
    "tox.ini": ({"tox.ini": "[pytest]\naddopts = --collect-only\n"}, SETTINGS),
    "their package ends": ({"tests/__init__.py": EXITS}, OWN),
    "setup.cfg": ({"setup.cfg": "[tool:pytest]\naddopts = --collect-only\n"}, SETTINGS),
    "they are elsewhere": ({"tests/test_width.py": None, "test/test_ok.py": "def test_ok():\n    pass\n"}, OWN),
    "pyproject.toml": ({"pyproject.toml": "[tool.pytest.ini_options]\naddopts = '--collect-only'\n"}, SETTINGS),
    "conftest.py": ({"conftest.py": "collect_ignore_glob = ['*']\n"}, "programs run it by themselves"),
    "of the tests": ({"tests/conftest.py": EXITS}, "programs run it by themselves"),
    "sitecustomize.py": ({"sitecustomize.py": EXITS}, "Python runs it by itself"),
    "a plugin": ({"x.egg-info/entry_points.txt": "[pytest11]\nx = x\n"}, "Python runs it by itself"),
    "pytest itself": ({"pytest.py": EXITS}, "in place of pytest of an installed package"),
    "its inside": ({"_pytest/__init__.py": EXITS}, "in place of _pytest of an installed package"),
    "coverage": ({".coveragerc": "[run]\n"}, "a hidden name"),
    "noxfile.py": ({"noxfile.py": "x = 1\n"}, SETTINGS),
}
"""By its name, what a trick brings (None: takes away) and what is said of it."""

HONEST: dict[str, str | None] = {
    "models/width.py": "WIDTH = 2.0\n",
    "tests/test_more.py": "def test_more():\n    pass\n",
    "pyproject.toml": '[project]\nname = "lab"\nversion = "1"\n',
}
"""A candidate that passes the lab's test, with a test and dependencies of its own."""


def answer(files: dict[str, str | None]) -> dict[str, Any]:
    """A steep candidate with these files (None: removed), and without what the other tricks brought."""
    brought = {path for others, _ in TRICKS.values() for path in others} - {"tests/test_width.py"}
    wanted = dict.fromkeys(brought) | {"models/width.py": "WIDTH = 4.0\n", "tests/test_width.py": FAILING} | files
    written = [{"path": path, "content": text} for path, text in wanted.items() if text is not None]
    return {"output": {"plan": "p", "files": written, "delete": [path for path in wanted if wanted[path] is None]}}


def lab_with_a_failing_test(folder: Path, answers: list[dict[str, Any]]) -> LabKit:
    template = folder / "tiny"
    shutil.copytree(lab_kit.TINY, template)
    (template / "tests").mkdir()
    (template / "tests" / "test_width.py").write_text(FAILING)
    path = template / ".autolab" / "verifier_policy.yaml"
    policy = yaml.safe_load(path.read_text()) | {"test_command": "{python} -m pytest -q -p no:cacheprovider"}
    path.write_text(yaml.safe_dump(policy))
    attempts = {"stage": len(answers), "same_error": 100, "same_idea": 100, "rethink": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab_kit, "TINY", template)
        return make_lab(folder, script(iteration(implementation=answers)), config={"attempts": attempts})


@pytest.mark.process
def test_a_failing_test_stays_a_failing_test_whatever_the_candidate_brings(tmp_path: Path) -> None:
    """One iteration in which the researcher tries every trick; the last answer is an honest one, and is measured."""
    answers = [*(answer(files) for files, _ in TRICKS.values()), answer(HONEST)]
    kit = lab_with_a_failing_test(tmp_path, answers)
    done = kit.autolab("loop", "--max-iterations", "1", timeout=600)
    assert done.code == 0, done.err
    states = [line["data"]["state"] for line in kit.events("transition")]
    refused = [state["reason"] for state in states if state["stage"] == "implementation" and state["stage_attempt"] > 1]
    wrong = {
        trick: reason
        for (trick, (_, said)), reason in zip(TRICKS.items(), refused, strict=True)
        if said not in reason or "passed" in reason
    }
    assert wrong == {}
    passed = [line["data"]["commit"] for line in kit.events("checked") if line["data"]["checks"].get("tests") == "pass"]
    assert len(passed) == 1 and "WIDTH = 2" in kit.git("show", f"{passed[0]}:models/width.py")
    assert [line["data"]["commit"] for line in kit.events("reviewed")] == passed
