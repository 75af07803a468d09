"""What the repository says about itself is true: decisions, changelog, README, generated pages, package contents."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

CACHES = {"__pycache__", ".ruff_cache", ".mypy_cache", ".pytest_cache", ".hypothesis"}


def files_of(folder: Path) -> list[Path]:
    """Every file below `folder` that a user or a script of ours put there."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and CACHES.isdisjoint(path.parts)]


def load_script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generator(repository: Path) -> ModuleType:
    return load_script(repository / "scripts" / "generate_docs.py")


def test_every_decision_is_in_the_index_and_every_link_leads_to_one(repository: Path) -> None:
    folder = repository / "docs" / "decisions"
    linked = re.findall(r"\]\(([^)]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert linked == sorted(path.name for path in folder.glob("*.md") if path.name != "README.md")


def test_decisions_are_numbered_without_gap_and_say_when_to_decide_again(repository: Path) -> None:
    pages = sorted((repository / "docs" / "decisions").glob("0*.md"))
    assert [page.name[:4] for page in pages] == [f"{number:04d}" for number in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {page.name[:4]} "), page.name
        assert "gain when" in text, page.name


def test_every_dependency_has_its_reason(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    page = (repository / "docs" / "decisions" / "0001-dependencies.md").read_text(encoding="utf-8")
    assert [name for name in names if f"`{re.split('[<>=]', name)[0]}`" not in page] == []


def test_the_pinned_stack_is_one_that_the_package_accepts(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = re.findall(r"^([a-z]+)==(\S+)$", (repository / "requirements-pip.txt").read_text(encoding="utf-8"), re.M)
    assert pinned[0] == ("torch", "2.13.0"), "torch goes first, so that nothing pulls another"
    assert "torch==2.13.0" in project["optional-dependencies"]["torch"]
    wanted = {re.split("[<>=]", name)[0] for name in project["optional-dependencies"]["torch"]}
    assert wanted <= {name for name, _ in pinned}


def test_changelog_begins_with_unreleased(repository: Path) -> None:
    headings = re.findall(r"^## (.+)$", (repository / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert headings[0] == "Unreleased"
    for heading in headings[1:]:
        assert re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d{2}-\d{2}\)", heading), heading


def test_the_tree_names_every_source_file_and_a_file_without_a_docstring_is_refused(
    generator: ModuleType, repository: Path, tmp_path: Path
) -> None:
    package = repository / "src" / "autolab"
    tree = generator.tree(package)
    names = [path.name for path in package.rglob("*.py") if "templates" not in path.parts and path.name[:2] != "__"]
    assert sorted(re.findall(r"(?m)^ *(\w+\.py) ", tree)) == sorted(names)
    assert tree in (repository / "docs" / "architecture.md").read_text(encoding="utf-8")
    (tmp_path / "bare.py").write_text("x = 1\n")
    with pytest.raises(SystemExit, match="no docstring"):
        generator.first_sentence(tmp_path / "bare.py")


QUESTION = re.compile(r"(?m)^\| ([a-z][^|]+) \| `([^`]+)` \| `([^`]+)` \|$")


def test_where_would_you_change_is_answered_by_one_file_that_holds_the_name(repository: Path) -> None:
    page = (repository / "docs" / "architecture.md").read_text(encoding="utf-8")
    questions = QUESTION.findall(page.partition("## Where would you change")[2].partition("\n## ")[0])
    assert len(questions) == 29
    lost = []
    for question, file, name in questions:
        path = repository / "src" / "autolab" / file
        if not (path.is_file() and name in path.read_text(encoding="utf-8")):
            lost.append(f"{question}: {name} is not in {file}")
    assert lost == []


def test_the_readme_is_short(repository: Path) -> None:
    assert len((repository / "README.md").read_text(encoding="utf-8").split()) < 1200


def test_every_link_of_the_pages_leads_somewhere(repository: Path) -> None:
    pages = [*repository.glob("*.md"), *(repository / "docs").rglob("*.md")]
    broken = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert len(pages) > 20
    assert broken == []


def test_readme_and_ci_name_only_make_targets_that_exist(repository: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(encoding="utf-8"), re.M))
    for name in ("README.md", "CONTRIBUTING.md", ".ci/run"):
        path = repository / name
        if path.exists():
            used = set(re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(encoding="utf-8"), re.M))
            assert used <= targets, name


@pytest.mark.process
def test_ci_started_by_root_fails_where_no_plain_user_can_be_made(repository: Path, tmp_path: Path) -> None:
    """Fakes of the system's programs, so that nothing is made on this machine."""
    if not (repository / ".ci").exists():
        pytest.skip("not a git checkout")
    programs = {"id": '[ "$*" = -u ] && echo 0', "useradd": "exit 1", "make": "exit 9", "bwrap": "exit 9"}
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    ended = subprocess.run([repository / ".ci" / "run"], env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "ci: useradd cannot make the user autolab-ci: start .ci/run as a plain user\n"


@pytest.mark.process
def test_generated_pages_are_current(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "scripts/generate_docs.py", "--check"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


class _Model:
    FILE: ClassVar[str] = "a.json"

    def __init__(self, name: str, schema: dict[str, Any]) -> None:
        self.__name__ = name
        self.schema = schema

    def model_json_schema(self, by_alias: bool) -> dict[str, Any]:
        assert by_alias
        return dict(self.schema)


def test_files_page_shows_fields_limits_and_parts(generator: ModuleType) -> None:
    part = {
        "description": "One arm.",
        "properties": {"name": {"type": "string", "pattern": "^a|b$"}},
        "required": ["name"],
    }
    schema = {
        "description": "A document.",
        "properties": {
            "arms": {"type": "array", "items": {"$ref": "#/$defs/Arm"}},
            "alpha": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}], "default": None},
            "mode": {"enum": ["x", "y"], "default": "x"},
        },
        "required": ["arms"],
        "$defs": {"Arm": part},
    }
    page = generator.files_page({"a": _Model("Doc", schema)})
    assert "## Doc\n\n`a.json` · schema `a`\n\nA document." in page
    assert "| `arms` | list of [Arm](#arm) | **required** |" in page
    assert "| `alpha` | number > 0, or null | `null` |" in page
    assert '| `mode` | `x` \\| `y` | `"x"` |' in page
    assert "### Arm\n\nOne arm." in page
    assert "| `name` | string matching `^a\\|b$` | **required** |" in page


def test_files_page_refuses_two_parts_of_one_name(generator: ModuleType) -> None:
    models = {name: _Model(name, {"$defs": {"Arm": {"description": name}}}) for name in ("a", "b")}
    with pytest.raises(SystemExit, match="two different models are called Arm"):
        generator.files_page(models)


def test_cli_page_has_a_section_for_every_command(generator: ModuleType) -> None:
    page = generator.cli_page(["init", "status"], lambda call: f"usage: {' '.join(call)}")
    assert re.findall("^## (.+)$", page, re.M) == ["`autolab`", "`autolab init`", "`autolab status`"]
    assert "```text\nusage: status\n```" in page


@pytest.mark.process
def test_git_ignores_no_file_of_a_template(repository: Path) -> None:
    if not (repository / ".git").exists():
        pytest.skip("not a git checkout")
    templates = repository / "src" / "autolab" / "templates"
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"],
        cwd=repository,
        input="\n".join(map(str, files_of(templates))),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("", 1)


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built distribution."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    subprocess.run([*command, str(repository)], check=True, capture_output=True, text=True)
    (built,) = folder.glob("autolab-*.whl")
    return built


@pytest.mark.process
@pytest.mark.slow
def test_the_wheel_holds_every_template_file_and_the_types_marker(repository: Path, wheel: Path) -> None:
    source = repository / "src"
    wanted = {path.relative_to(source).as_posix() for path in files_of(source / "autolab")}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("autolab/")}
    assert names == wanted
    assert "autolab/py.typed" in names


PROGRAM_AND_JOB = """
import json, sys
from pathlib import Path
from autolab.executors.base import Job, Step
from autolab.executors.local import LocalExecutor
from autolab.sandbox import execute

work = Path(sys.argv[1])
ended = execute.run(["/bin/echo", "checked"], Path("/"), {}, work / "logs" / "echo.log", 30)
executor = LocalExecutor(work / "run", {})
(ref,) = executor.submit([Job("k.t.a1", "t", 1, (Step("train", ("/bin/echo", "trained"), "/", {}, 30.0, 9999),), {})])
while not (status := executor.poll([ref], 30)["k.t.a1"]).over:
    pass
print(json.dumps([execute.__file__, ended.tail, status.exit.outcome]))
"""


@pytest.mark.process
@pytest.mark.slow
def test_the_installed_package_starts_runner_and_supervisor_by_their_paths(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM_AND_JOB, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == [str(installed / "autolab" / "sandbox" / "execute.py"), "checked", "completed"]
