"""The trials' interpreter: the one that the user would start, with its reason, or a refusal with the line to give."""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path

import pytest
from adoption_kit import TRAIN, adopted, commit, refused, repository
from lab_kit import LabKit

from autolab.lab.schemas.config import Config

pytestmark = pytest.mark.process
NAME = f"python{sys.version_info[0]}.{sys.version_info[1]}"
# What an environment of whoever runs the tests would say.
PLAIN = {"VIRTUAL_ENV": "", "CONDA_PREFIX": "", "CONDA_DEFAULT_ENV": "", "CONDA_EXE": "", "MAMBA_ROOT_PREFIX": ""}


@pytest.fixture
def kit(tmp_path: Path) -> LabKit:
    made = repository(tmp_path / "mine", {"train.py": TRAIN, ".gitignore": ".venv\nvenv\nenv\n"})
    made.env.update(PLAIN, HOME=str(tmp_path / "home"))
    return made


def environment(folder: Path) -> Path:
    """A folder with a Python, as virtual environments have it."""
    (folder / "bin").mkdir(parents=True)
    for name in ("python", "python3", NAME):
        (folder / "bin" / name).symlink_to(sys.executable)
    return folder


def chosen(kit: LabKit, command: str = "", **env: str) -> tuple[str | None, str, str]:
    """The interpreter and the command of the configuration, and the printed line."""
    said = adopted(kit, *(("--train-command", command) if command else ()), **env)
    config = Config.load(kit.root / Config.FILE)
    (line,) = [line.strip() for line in said.splitlines() if line.startswith("  python ")]
    return config.python, config.train.command, line


def test_the_activated_environment_comes_first_and_the_others_are_named(kit: LabKit, tmp_path: Path) -> None:
    active = environment(tmp_path / "active")
    for name in (".venv", "venv", "env"):
        environment(kit.root / name)
    python, command, line = chosen(kit, VIRTUAL_ENV=str(active))
    assert (python, command) == (f"{active}/bin/python", "{python} train.py")
    assert "(the activated environment; not .venv/bin/python, venv/bin/python, env/bin/python, which --python" in line


def test_the_environment_that_runs_autolab_does_not_count_as_activated(kit: LabKit) -> None:
    environment(kit.root / "env")
    python, _, line = chosen(kit, VIRTUAL_ENV=sys.prefix, CONDA_PREFIX=sys.prefix, CONDA_DEFAULT_ENV="mine")
    assert python == "env/bin/python" and line.endswith("(the repository's own)")


@pytest.mark.parametrize(("name", "first"), [("ml", True), ("base", False)])
def test_condas_base_comes_last_because_it_is_always_activated(
    kit: LabKit, tmp_path: Path, name: str, first: bool
) -> None:
    conda = environment(tmp_path / "conda")
    environment(kit.root / ".venv")
    python, _, line = chosen(kit, CONDA_PREFIX=str(conda), CONDA_DEFAULT_ENV=name)
    assert python == (f"{conda}/bin/python" if first else ".venv/bin/python") and "; not " in line


def test_without_an_environment_it_is_the_one_that_runs_autolab(kit: LabKit) -> None:
    commit(kit, {"uv.lock": ""})
    python, _, line = chosen(kit)
    assert python is None and "the one that runs Autolab" in line and "run `uv sync` first" in line


def test_a_conda_environment_is_found_by_its_name(kit: LabKit, tmp_path: Path) -> None:
    refusal = refused(kit, "--train-command", "conda run -n ml python train.py --fast")
    assert "--python /path/to/envs/ml/bin/python --train-command 'python train.py --fast'" in refusal
    ml = environment(tmp_path / "conda" / "envs" / "ml")
    command = "conda run --no-capture-output -n ml python train.py --fast"
    python, command, _ = chosen(kit, command, CONDA_EXE=str(tmp_path / "conda" / "bin" / "conda"))
    assert (python, command) == (f"{ml}/bin/python", "{python} train.py --fast")


def test_a_conda_environment_is_found_in_condas_own_list(kit: LabKit, tmp_path: Path) -> None:
    ml = environment(tmp_path / "elsewhere" / "ml")
    (tmp_path / "home" / ".conda").mkdir(parents=True)
    (tmp_path / "home" / ".conda" / "environments.txt").write_text(f"/nowhere/ml\n{ml}\n")
    assert chosen(kit, "mamba run -n ml python train.py")[0] == f"{ml}/bin/python"


def test_poetrys_environment_is_found_in_its_folder(kit: LabKit, tmp_path: Path) -> None:
    commit(kit, {"pyproject.toml": '[tool.poetry]\nname = "My Slope"\n'})
    command = "poetry run python train.py"
    assert '--python "$(poetry env info --executable)"' in refused(kit, "--train-command", command)
    digest = hashlib.sha256(str(kit.root.resolve()).encode()).digest()
    key = base64.urlsafe_b64encode(digest).decode()[:8]
    folder = environment(tmp_path / "home" / ".cache" / "pypoetry" / "virtualenvs" / f"my_slope-{key}-py3.11")
    python, line = chosen(kit, command, XDG_CACHE_HOME="")[::2]
    assert python == f"{folder}/bin/python" and "poetry's environment of this repository" in line


@pytest.mark.parametrize("command", ["uv run python train.py", "uv run --no-sync train.py", "uv run -m train"])
def test_uv_run_means_the_projects_environment(kit: LabKit, command: str) -> None:
    refusal = refused(kit, "--train-command", command)
    assert "uv run: its environment, .venv, is not there; run `uv sync`" in refusal
    environment(kit.root / ".venv")
    python, line, _ = chosen(kit, command)
    assert python == ".venv/bin/python" and line in ("{python} train.py", "{python} -m train")


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("uv run --extra gpu train.py", "uv run: --extra: give the command alone"),
        ("pixi run python train.py", "--python /path/to/environment/bin/python --train-command 'python train.py'"),
        ("conda run python train.py", "no -n NAME says which environment"),
        ("python3.99 train.py", "python3.99: no environment here has it and PATH has none; name one: --python"),
        ("/nowhere/bin/python train.py", "/nowhere/bin/python: no such program"),
        (".venv/bin/python train.py", ".venv/bin/python: no such program"),
    ],
)
def test_what_is_not_understood_is_refused_with_the_line_that_helps(kit: LabKit, command: str, line: str) -> None:
    assert line in refused(kit, "--train-command", command)


def test_a_python_by_version_or_by_path_is_the_trials(kit: LabKit, tmp_path: Path) -> None:
    environment(kit.root / "venv")
    elsewhere = environment(tmp_path / "elsewhere")
    python, command, _ = chosen(kit, f"{NAME} train.py")
    assert (python, command) == (f"venv/bin/{NAME}", "{python} train.py")
    other = repository(tmp_path / "other" / "mine", {"train.py": TRAIN})
    python, command, line = chosen(other, f"{elsewhere}/bin/python3 train.py")
    assert (python, command) == (f"{elsewhere}/bin/python3", "{python} train.py") and "the command names it" in line


def test_a_given_python_needs_no_environment_of_the_wrapper(kit: LabKit) -> None:
    said = adopted(kit, "--python", sys.executable, "--train-command", "pixi run python train.py")
    assert f"{sys.executable}  (given)" in said
    assert Config.load(kit.root / Config.FILE).train.command == "{python} train.py"


def test_variables_before_the_program_do_not_hide_its_interpreter(kit: LabKit) -> None:
    environment(kit.root / ".venv")
    python, command, _ = chosen(kit, "PYTHONPATH=. A=1 python train.py")
    assert (python, command) == (".venv/bin/python", "env PYTHONPATH=. A=1 {python} train.py")


def test_a_command_of_variables_alone_is_refused(kit: LabKit) -> None:
    line = "--train-command: env A=1: no program is named; such as 'python train.py'"
    assert line in refused(kit, "--train-command", "env A=1")
