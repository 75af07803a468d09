"""Templates are layers of files, and a lab whose data must be made first is made all the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from lab_kit import TINY

from autolab.cli import init
from autolab.errors import LabError
from autolab.lab import create
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import Config, VerifierPolicy
from autolab.researchers import prompts
from autolab.trials.lab_inputs import inputs_of

CACHES = ("__pycache__", ".ruff_cache")


def texts(folder: Path) -> list[Path]:
    binary = (".npy", ".pyc", ".png")
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in binary]
    return [path for path in found if path.name != ".gitkeep" and not set(CACHES) & set(path.parts)]


def autolab(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "autolab", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("name", init.LAYERS)
def test_an_offered_template_is_a_whole_lab(name: str, tmp_path: Path, repository: Path) -> None:
    init.compose(name, tmp_path)
    config = Config.load(tmp_path / Config.FILE, Config.FILE)
    VerifierPolicy.load(tmp_path / VerifierPolicy.FILE, VerifierPolicy.FILE)
    assert prompts.check(tmp_path / ".autolab" / "prompts") == []
    assert len(list((tmp_path / ".autolab" / "prompts").iterdir())) == 8
    for path in texts(tmp_path):
        text = path.read_text(encoding="utf-8")
        assert text.endswith("\n"), path
        assert str(repository) not in text, path
    owned = {*config.files.frozen, *config.files.human, *config.files.global_, *config.docs.paper_targets}
    if config.evaluate is None:
        owned.discard("eval.py")  # the default names it for labs that have one
    assert [path for path in owned if not (tmp_path / path).is_file()] == []


@pytest.mark.parametrize("name", init.LAYERS)
def test_what_the_layers_share_lies_once(name: str) -> None:
    """A file that a layer replaces says something else there; an equal one would be a copy to keep in step."""
    seen: dict[Path, bytes] = {}
    for layer in init.LAYERS[name]:
        for path in texts(create.TEMPLATES / layer):
            place, content = path.relative_to(create.TEMPLATES / layer), path.read_bytes()
            assert seen.get(place) != content, f"{layer}/{place} is the same as in a layer below"
            seen[place] = content


def test_the_picture_labs_have_one_training_and_one_evaluator(tmp_path: Path) -> None:
    for name in ("digits", "cifar10"):
        init.compose(name, tmp_path / name)
    for file in ("train.py", "predict.py", "data.py", "device.py", "eval.py", "optimiser.py", "models/_build.py"):
        assert (tmp_path / "digits" / file).read_bytes() == (tmp_path / "cifar10" / file).read_bytes()


def test_a_later_layer_replaces_a_file_of_an_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for layer, files in {"base": {"a": "old", "b": "kept"}, "own": {"a": "new", "c/d": "added"}}.items():
        for name, text in files.items():
            path = tmp_path / layer / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    (tmp_path / "own" / "__pycache__").mkdir()
    monkeypatch.setattr(init, "TEMPLATES", tmp_path)
    monkeypatch.setattr(init, "LAYERS", {"own": ("base", "own")})
    init.compose("own", tmp_path / "lab")
    lab = {str(path.relative_to(tmp_path / "lab")): path for path in (tmp_path / "lab").rglob("*") if path.is_file()}
    assert {name: path.read_text() for name, path in lab.items()} == {"a": "new", "b": "kept", "c/d": "added"}


def own_template(folder: Path, prepare: str) -> Path:
    """The tiny lab with data that git does not hold and a program that makes it."""
    init.compose(str(TINY), folder)
    config = Config.load(folder / Config.FILE, Config.FILE)
    assert config.data is not None
    for path in (folder / config.data).iterdir():
        path.unlink()
    (folder / config.data).rmdir()
    (folder / ".gitignore").write_text(f"/{config.data}/\n")
    (folder / "prepare.py").write_text(prepare)
    return folder


MAKES = """
import pathlib, sys
print("one of two")
print("a warning", file=sys.stderr)
pathlib.Path("data/train").mkdir(parents=True)
pathlib.Path("data/train/inputs.npy").write_text("made")
"""


@pytest.mark.process
def test_init_runs_the_programs_of_a_template_of_ones_own_and_copies_no_layer(tmp_path: Path) -> None:
    template = own_template(tmp_path / "mine", MAKES)
    done = autolab(tmp_path, "init", "lab", "--template", "./mine")
    assert (done.returncode, done.stderr) == (0, "a warning\n")
    assert done.stdout.splitlines()[:2] == [f"making the lab's data: {tmp_path}/lab/prepare.py", "one of two"]
    assert (tmp_path / "lab" / "data" / "train" / "inputs.npy").read_text() == "made"
    assert not (tmp_path / "lab" / "justfile").exists()
    assert not (template / "data" / "train").exists()


@pytest.mark.process
@pytest.mark.parametrize(
    ("prepare", "why", "shown"),
    [
        ("import sys; sys.exit('prepare.py: no flour')", "prepare.py: no flour", []),
        ("raise SystemExit(3)", "prepare.py ended with exit code 3", []),
        ("1 / 0", "ZeroDivisionError: division by zero", ["Traceback (most recent call last):"]),
    ],
)
def test_a_lab_without_its_data_is_made_and_says_how_to_go_on(
    tmp_path: Path, prepare: str, why: str, shown: list[str]
) -> None:
    own_template(tmp_path / "mine", prepare)
    done = autolab(tmp_path, "init", "lab", "--template", "./mine", "--seed", "1")
    *before, last = done.stderr.splitlines()
    lab = tmp_path / "lab"
    way = "`python prepare.py` in the lab goes on"
    assert done.returncode == 1 and before[:1] == shown
    assert last == f"autolab: {lab}: the lab is made, its data is not: {why}; {way}"
    again = autolab(tmp_path, "init", "lab", "--template", "./mine")
    assert again.returncode == 1 and "is a lab already" in again.stderr
    status = autolab(lab, "status", "--json")
    assert status.returncode == 0 and json.loads(status.stdout)


@pytest.mark.process
def test_a_lab_in_a_lab_is_refused(tmp_path: Path) -> None:
    template = own_template(tmp_path / "mine", "pass")
    init.make_lab(tmp_path / "lab", str(template), 1)
    with pytest.raises(LabError, match=r"/lab/models/inner: lies in the lab at .*/lab; a lab in a lab would share"):
        init.make_lab(tmp_path / "lab" / "models" / "inner", str(template), 2)
    assert not (tmp_path / "lab" / "models" / "inner").exists()


@pytest.mark.process
def test_a_launch_without_data_names_the_program_that_makes_it(tmp_path: Path) -> None:
    own_template(tmp_path / "mine", "raise SystemExit('prepare.py: no flour')")
    with pytest.raises(LabError, match="no flour"):
        init.make_lab(tmp_path / "lab", f"{tmp_path}/mine", 1)
    lab = Lab.find(tmp_path / "lab")
    head = lab.git.head()
    assert head is not None
    with pytest.raises(LabError, match=r"data/train: no such file or folder, .*; run `python prepare.py` in the lab"):
        inputs_of(lab, lab.config(), head, head)
