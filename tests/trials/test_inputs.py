"""The job that a trial is: what it gets, where it runs, and what of a fetched attempt is kept."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autolab.cli import init
from autolab.errors import LabError, RecordError
from autolab.executors.base import Job, fill
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import Config
from autolab.stats.plan import PlannedArm
from autolab.trials import inputs, lookahead
from autolab.trials.job import Attempt, TrialCommands, tidy, trial_job
from autolab.trials.lab_inputs import inputs_of

pytestmark = pytest.mark.process

TINY = Path(__file__).parents[1] / "labs" / "tiny"
BASELINE = PlannedArm("baseline", "baseline", "base", {})


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return init.make_lab(tmp_path_factory.mktemp("lab") / "lab", str(TINY), 1)


def attempt(*, holdout: bool = False) -> Attempt:
    return Attempt("lab.i1.run.b-s0.a1", "b-s0", 1, BASELINE, 7, holdout)


def job(lab: Lab, command: str, **train: Any) -> tuple[inputs.TrialInputs, Job]:
    """The first attempt of a trial whose training runs `command`."""
    told = {"metric": {"primary": "a", "direction": "minimize", "success_delta": 1}, "data": "data/train"}
    config = Config.from_value(told | {"train": {"command": command, **train}}, Config.FILE)
    head = lab.git.head() or ""
    setup = inputs_of(lab, config, head, head)
    return setup, trial_job(setup, TrialCommands.of(command, config), attempt())


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
    exported = (setup.code["base"].folder / "train.py").read_bytes()
    done = train(made, tmp_path / "a1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "a1" / "copy"), "data/train/points.json"]
    assert names(tmp_path / "a1") == ["train", "train/out", "train/out/m.txt"]
    assert (setup.code["base"].folder / "train.py").read_bytes() == exported


def test_a_metrics_file_of_the_commit_is_not_taken_for_a_result(lab: Lab, tmp_path: Path) -> None:
    _, made = job(lab, "test ! -e README.md", in_copy=True, metrics="README.md")
    assert train(made, tmp_path / "a1").returncode == 0
    assert names(tmp_path / "a1") == ["train"]


def test_a_model_that_is_saved_in_the_copy_is_moved_to_where_predictions_look(lab: Lab, tmp_path: Path) -> None:
    """A file or a folder, under its last name. A training that leaves none has failed, whatever is committed."""
    saves = "sh -c 'mkdir -p out && echo new > out/net.pt && rm -f README.md'"
    for number, (command, model, kept) in enumerate(
        [
            (saves, "out/net.pt", ["train", "train/model", "train/model/net.pt"]),
            (saves, "out", ["train", "train/model", "train/model/out", "train/model/out/net.pt"]),
            ("true", "README.md", ["train"]),
        ]
    ):
        folder = tmp_path / f"a{number}"
        done = train(predicting_job(lab, command, model), folder)
        assert names(folder) == kept
        assert (done.returncode, "predict.model: the training left no README.md" in done.stderr) == (
            (0, False) if kept[1:] else (1, True)
        )


def predicting_job(lab: Lab, command: str, model: str) -> Job:
    """The first attempt of a trial whose training saves `model` in its copy of the code."""
    value = {"metric": {"primary": "a", "direction": "minimize", "success_delta": 1}}
    value |= {"train": {"command": command, "in_copy": True}, "evaluate": {"eval": "data/eval"}}
    config = Config.from_value(value | {"predict": {"command": "true", "model": model}}, Config.FILE)
    head = lab.git.head() or ""
    return trial_job(inputs_of(lab, config, head, head), TrialCommands.of(command, config), attempt())


def test_in_a_copy_too_the_programs_own_status_and_last_words_count(lab: Lab, tmp_path: Path) -> None:
    _, made = job(lab, "sh -c 'echo no such luck >&2; exit 7'", in_copy=True)
    done = train(made, tmp_path / "a1")
    assert (done.returncode, done.stderr) == (7, "no such luck\n")
    assert names(tmp_path / "a1") == ["train"]


def test_the_seed_is_written_to_the_copy_alone(lab: Lab, tmp_path: Path) -> None:
    constants = ["train.py: width > {seed}", "eval.py: no_such({seed}"]
    setup, made = job(lab, "cat train.py", in_copy=True, seed_constants=constants[:1])
    code = setup.code["base"].folder / "train.py"
    text = code.read_text()
    assert text.count("width > 100:") == 1
    done = train(made, tmp_path / "a1")
    assert (done.returncode, done.stdout) == (0, text.replace("width > 100:", "width > 7:")), done.stderr
    assert code.read_text() == text
    _, made = job(lab, "cat train.py", in_copy=True, seed_constants=constants)
    done = train(made, tmp_path / "a2")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "eval.py: no line reads `no_such({seed}` with an integer for {seed}, so the trial's seed has no place there"
        " (train.seed_constants in .autolab/config.yaml): put the line back\n"
    )


def test_the_folder_that_seeds_libraries_comes_first_and_is_for_the_training_alone(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mine")
    _, made = job(lab, "true", seed_libraries=True, env=["PYTHONPATH"])
    (step,) = made.steps
    paths = step.env["PYTHONPATH"].split(":")
    assert (paths[0], paths[-1]) == ("{seeding}", "/mine") and "{seeding}" in step.box.reads
    assert [path.name for path in made.inputs["seeding"].glob("*custom*.py")] == ["sitecustomize.py"]
    config, head = lab.config(), lab.git.head() or ""
    config = config.model_copy(update={"train": config.train.model_copy(update={"seed_libraries": True})})
    train_step, predict_step = trial_job(
        inputs_of(lab, config, head, head), TrialCommands.of("true", config), attempt()
    ).steps
    assert "{seeding}" in train_step.env["PYTHONPATH"]
    assert "{seeding}" not in predict_step.env.get("PYTHONPATH", "") and "{seeding}" not in predict_step.box.reads


def test_without_a_copy_the_program_itself_is_the_step(lab: Lab) -> None:
    setup, made = job(lab, "{python} train.py --seed={seed}")
    assert made.steps[0].argv == (setup.interpreter.path, "train.py", "--seed=7")
    assert made.steps[0].env["HOME"] == "{scratch}"


def test_named_variables_of_the_user_are_passed_on(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
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
        ({"metrics": "../out.json"}, "metrics: '../out.json' is neither stdout, stderr nor a path"),
        ({"metrics": "/tmp/out.json"}, "neither stdout, stderr nor a path"),
        ({"metrics": ""}, "neither stdout, stderr nor a path"),
        ({"env": ["AUTOLAB_SEED"]}, "env: 'AUTOLAB_SEED' is not the name of a variable that can be passed on"),
        ({"env": ["A=B"]}, "env: 'A=B' is not the name"),
    ],
)
def test_what_a_configuration_may_not_ask_of_a_training(lab: Lab, train_keys: dict[str, Any], said: str) -> None:
    with pytest.raises(RecordError, match=said):
        job(lab, "true", **train_keys)


def test_a_fetched_attempt_is_tidied_once_and_again(lab: Lab, tmp_path: Path) -> None:
    _, made = job(lab, "true")
    np.save(tmp_path / "inputs.npy", np.arange(12, dtype=np.uint8).reshape(3, 4))
    altered = lookahead.alter(tmp_path / "inputs.npy", b"s", tmp_path / "exports")
    folder = tmp_path / "a1"
    for path in ("copy/deep/file", "predict_1/inputs.npy", "predict_2/inputs.npy", "altered/planted"):
        (folder / path).parent.mkdir(parents=True)
        (folder / path).touch()
    for step, source in altered.order(made.key).items():
        (folder / step / source).touch()
    for _ in range(2):
        tidy(altered, made.key, folder)
        assert names(folder) == ["altered", "altered/altered", "predict", "predict/inputs"]


# The holdout, and exports of another place


@pytest.fixture(scope="module")
def with_holdout(lab: Lab) -> tuple[inputs.TrialInputs, Config]:
    shutil.copytree(lab.root / "data" / "eval", lab.root / "data" / "holdout")
    config = lab.config()
    assert config.evaluate is not None
    evaluate = config.evaluate.model_copy(update={"holdout": "data/holdout"})
    config = config.model_copy(update={"evaluate": evaluate})
    head = lab.git.head() or ""
    return inputs_of(lab, config, head, head), config


def test_only_when_asked_a_trial_predicts_for_the_holdout_and_never_sees_its_labels(
    lab: Lab, with_holdout: tuple[inputs.TrialInputs, Config]
) -> None:
    setup, config = with_holdout
    assert setup.evaluation is not None and setup.evaluation.holdout is not None
    holdout = setup.evaluation.holdout
    plain, asked = (
        trial_job(setup, TrialCommands.of("true", config), attempt(holdout=asked)) for asked in (False, True)
    )
    assert [step.name for step in plain.steps] == ["train", "predict"] and "holdout" not in plain.inputs
    assert [step.name for step in asked.steps] == ["train", "predict", "holdout"]
    assert asked.steps[:2] == plain.steps, "training and prediction are as in a search"
    train, predict, held = asked.steps
    assert asked.inputs["holdout"] == holdout.inputs and holdout.labels not in asked.inputs.values()
    assert held.argv == predict.argv and held.env["AUTOLAB_INPUTS"] == "{holdout}"
    assert held.env["AUTOLAB_MODEL"] == predict.env["AUTOLAB_MODEL"] == "{folder}/train/model"
    assert held.box.writes == ("{folder}/holdout",) and held.time_limit_s == predict.time_limit_s
    assert "{holdout}" in held.box.reads and "{holdout}" not in (*train.box.reads, *predict.box.reads)


def test_a_lab_without_a_holdout_has_nothing_to_predict_for_it(lab: Lab) -> None:
    config, head = lab.config(), lab.git.head() or ""
    setup = inputs_of(lab, config, head, head)
    assert setup.evaluation is not None and setup.evaluation.holdout is None
    made = trial_job(setup, TrialCommands.of("true", config), attempt(holdout=True))
    assert [step.name for step in made.steps] == ["train", "predict"]


def test_the_code_export_holds_no_holdout(with_holdout: tuple[inputs.TrialInputs, Config]) -> None:
    setup, config = with_holdout
    assert "data/holdout" in inputs.hidden_from_trials(config)
    assert setup.data_sha256.keys() == {"train", "eval", "holdout"}
    assert not (setup.code["base"].folder / "data").exists()


def test_exports_of_another_place_are_made_anew_there_and_tell_the_same(lab: Lab, tmp_path: Path) -> None:
    config, head = lab.config(), lab.git.head() or ""
    usual, other = inputs_of(lab, config, head, head), inputs_of(lab, config, head, head, tmp_path / "place")
    assert (other.protocol, other.data_sha256) == (usual.protocol, usual.data_sha256)
    assert [one.tree for one in other.code.values()] == [one.tree for one in usual.code.values()]
    assert other.evaluator_sha256 == usual.evaluator_sha256
    assert other.evaluation is not None
    split, script = other.evaluation.split, other.evaluation.evaluator.script
    places = [
        *(one.folder for one in other.code.values()),
        other.data,
        split.inputs,
        split.labels,
        script,
        other.configs,
    ]
    assert all(path is not None and path.is_relative_to(tmp_path / "place") for path in places)
    assert other.seals.broken() == ""


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"success_delta": 0.5}, True),
        ({"report": []}, True),
        ({"primary": "accuracy"}, False),
        ({"direction": "maximize"}, False),
    ],
)
def test_a_protocol_is_one_metric_in_one_direction(lab: Lab, change: dict[str, Any], same: bool) -> None:
    config, head = lab.config(), lab.git.head() or ""
    other = config.model_copy(update={"metric": config.metric.model_copy(update=change)})
    assert (inputs_of(lab, other, head, head).protocol == inputs_of(lab, config, head, head).protocol) is same
