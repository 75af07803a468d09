"""The job that a trial is: what it gets, where it runs, and what of a fetched attempt is kept."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autolab import init, rig, suffix
from autolab.errors import LabError, RecordError
from autolab.executors.base import Job, fill
from autolab.experiment import PlannedArm
from autolab.lab import Lab
from autolab.records.experiment import Design
from autolab.records.lab import Config

TINY = Path(__file__).parent / "labs" / "tiny"
BASELINE = PlannedArm("baseline", "baseline", "base", {})


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return init.init(tmp_path_factory.mktemp("lab") / "lab", str(TINY), 1)


def job(lab: Lab, command: str, **train: Any) -> tuple[rig.Rig, Job]:
    """The first attempt of a trial whose training runs `command`."""
    told = {"metric": {"primary": "a", "direction": "minimize", "success_delta": 1}, "data": "data/train"}
    config = Config.from_value(told | {"train": {"command": command, **train}}, Config.FILE)
    head = lab.git.head() or ""
    setup = rig.set_up(lab, config, head, head)
    design = Design.from_value(
        {
            "id": "e1",
            "iteration_id": "i1",
            "hypothesis_id": "h1",
            "entrypoint": {"command": command},
            "reproducibility": {"seeds": [0, 1]},
            "metrics": {"primary": "a", "success_delta": 1},
        },
        Design.FILE,
    )
    return setup, rig.job(setup, design, config, "lab.i1.run.b-s0.a1", "b-s0", 1, BASELINE, 7)


def train(job: Job, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the training step as an executor does, in `folder`."""
    (folder / "train").mkdir(parents=True)
    places = {"folder": str(folder)} | {name: str(path) for name, path in job.inputs.items()}
    step = fill(job.steps[0], places)
    return subprocess.run(step.argv, cwd=step.cwd, env=dict(step.env), capture_output=True, text=True, check=False)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_copy_is_written_to_and_thrown_away_and_the_metrics_file_is_kept(lab: Lab, tmp_path: Path) -> None:
    command = "sh -c 'echo changed >> train.py && mkdir out && echo \"a: 1\" > out/m.txt && pwd && ls -d data/train/*'"
    setup, made = job(lab, command, in_copy=True, metrics="out/m.txt")
    exported = (setup.code["base"] / "train.py").read_bytes()
    done = train(made, tmp_path / "a1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "a1" / "copy"), "data/train/points.json"]
    assert names(tmp_path / "a1") == ["train", "train/out", "train/out/m.txt"]
    assert (setup.code["base"] / "train.py").read_bytes() == exported


def test_a_metrics_file_of_the_commit_is_not_taken_for_a_result(lab: Lab, tmp_path: Path) -> None:
    _, made = job(lab, "test ! -e README.md", in_copy=True, metrics="README.md")
    assert train(made, tmp_path / "a1").returncode == 0
    assert names(tmp_path / "a1") == ["train"]


def test_in_a_copy_too_the_programs_own_status_and_last_words_count(lab: Lab, tmp_path: Path) -> None:
    _, made = job(lab, "sh -c 'echo no such luck >&2; exit 7'", in_copy=True)
    done = train(made, tmp_path / "a1")
    assert (done.returncode, done.stderr) == (7, "no such luck\n")
    assert names(tmp_path / "a1") == ["train"]


def test_without_a_copy_the_program_itself_is_the_step(lab: Lab) -> None:
    setup, made = job(lab, "{python} train.py --fast")
    assert made.steps[0].argv == (setup.python, "train.py", "--fast")
    assert made.steps[0].env["HOME"] == "{scratch}"


def test_named_variables_of_the_person_are_passed_on(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SECRET", "sesame")
    _, made = job(lab, "true", env=["HOME"])
    env = made.steps[0].env
    assert env["HOME"] == "/home/me" and "SECRET" not in env and env["AUTOLAB_SEED"] == "7"
    monkeypatch.delenv("HOME")
    with pytest.raises(LabError, match=r"train.env: HOME is not set here; set it, or take it off the list"):
        job(lab, "true", env=["HOME"])


@pytest.mark.parametrize(
    ("train_keys", "said"),
    [
        ({"metrics": "../out.json"}, "metrics: '../out.json' is neither stdout nor a path"),
        ({"metrics": "/tmp/out.json"}, "neither stdout nor a path"),
        ({"metrics": ""}, "neither stdout nor a path"),
        ({"env": ["AUTOLAB_SEED"]}, "env: 'AUTOLAB_SEED' is not the name of a variable that can be passed on"),
        ({"env": ["A=B"]}, "env: 'A=B' is not the name"),
    ],
)
def test_what_a_configuration_may_not_ask_of_a_training(lab: Lab, train_keys: dict[str, Any], said: str) -> None:
    with pytest.raises(RecordError, match=said):
        job(lab, "true", **train_keys)


def test_a_fetched_attempt_is_tidied_once_and_again(lab: Lab, tmp_path: Path) -> None:
    setup, made = job(lab, "true")
    np.save(tmp_path / "inputs.npy", np.arange(12, dtype=np.uint8).reshape(3, 4))
    setup = replace(setup, altered=suffix.alter(tmp_path / "inputs.npy", b"s", tmp_path / "exports"))
    assert setup.altered
    attempt = tmp_path / "a1"
    for path in ("copy/deep/file", "predict_1/inputs.npy", "predict_2/inputs.npy", "altered/planted"):
        (attempt / path).parent.mkdir(parents=True)
        (attempt / path).touch()
    for step, source in setup.altered.order(made.key).items():
        (attempt / step / source).touch()
    for _ in range(2):
        rig.tidy(setup, made.key, attempt)
        assert names(attempt) == ["altered", "altered/altered", "predict", "predict/inputs"]
