"""The digits lab by hand: its three commands, its evaluator, its data, and the answers of its demonstration."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autolab import prompts
from autolab.records.base import parse_yaml
from autolab.records.experiment import Summary
from autolab.records.lab import Config, Stage, VerifierPolicy
from autolab.records.replies import OUTPUTS, ImplementationOutput

LAB = Path(__file__).resolve().parent.parent / "src" / "autolab" / "templates" / "digits"
CODE = ("train.py", "predict.py", "data.py", "optimiser.py", "models")
SPLITS = {"train": 901, "eval": 598, "holdout": 298}

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
Done = subprocess.CompletedProcess[str]


def run(script: str, lab: Path, *flags: str, **variables: object) -> Done:
    """One command of the lab, with the AUTOLAB_* variables given and no others."""
    given = {f"AUTOLAB_{name.upper()}": str(value) for name, value in variables.items()}
    command = [sys.executable, "-B", script, *flags]
    return subprocess.run(command, cwd=lab, env={**os.environ, **given}, capture_output=True, text=True, timeout=120)


def score(predictions: Path, labels: Path, out: Path) -> Done:
    """The frozen evaluator, as the engine runs it: isolated, with an empty environment."""
    command = [sys.executable, "-I", "-B", str(LAB / "eval.py"), "--predictions", str(predictions)]
    command += ["--labels", str(labels), "--out", str(out)]
    return subprocess.run(command, cwd=out.parent, env={}, capture_output=True, text=True, timeout=60)


def one_line(done: Done) -> str:
    """The message of a command that refused: exit code 1 and exactly one line."""
    assert done.returncode == 1, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def copy(folder: Path, *names: str) -> Path:
    """Some files and folders of the lab, alone in `folder`."""
    folder.mkdir()
    for name in names:
        source = LAB / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def settings(folder: Path, **values: object) -> Path:
    path = folder / "settings.json"
    path.write_text(json.dumps(values))
    return path


class Trials:
    """Trains at a seed, once each; the code lies apart from all data, the training data apart from the rest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.code = copy(folder / "code", *CODE)
        self.data = folder / "train"
        shutil.copytree(LAB / "data" / "train", self.data)

    def train(self, seed: int, name: str) -> Path:
        trial = self.folder / name
        trial.mkdir()
        config = settings(trial, epochs=8, width=32)
        done = run("train.py", self.code, trial_dir=trial, seed=seed, config=config, data=self.data)
        assert done.returncode == 0, done.stderr
        return trial

    def predict(self, model: Path, inputs: Path, trial: Path) -> Done:
        return run("predict.py", self.code, model=model, inputs=inputs, trial_dir=trial)


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    return Trials(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def trained(trials: Trials) -> Path:
    """A trial at seed 11 with its predictions for the evaluation inputs, made where no label can be read."""
    trial = trials.train(11, "first")
    inputs = trials.folder / "inputs.npy"
    shutil.copy(LAB / "data" / "eval" / "inputs.npy", inputs)
    done = trials.predict(trial / "model", inputs, trial)
    assert done.returncode == 0, done.stderr
    return trial


# The three commands.


@needs_torch
def test_train_predict_and_eval_give_a_score_that_beats_guessing(trained: Path) -> None:
    done = score(trained / "predictions.npy", LAB / "data" / "eval" / "labels.npy", trained / "score.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((trained / "score.json").read_text())
    assert set(result) == {"val_loss", "accuracy", "f1"}
    assert result["val_loss"] < 0.5 * math.log(10)
    assert result["accuracy"] > 0.8
    metrics = json.loads((trained / "metrics.json").read_text())
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["parameters"] == 64 * 32 + 32 + 32 * 10 + 10
    history = [json.loads(line) for line in (trained / "history.jsonl").read_text().splitlines()]
    assert [set(point) for point in history] == [{"step", "epoch", "train_loss", "seconds"}] * 8
    assert history[-1]["train_loss"] < history[0]["train_loss"]


@needs_torch
def test_a_seed_gives_the_same_bytes_twice_and_another_seed_others(trials: Trials, trained: Path) -> None:
    again, other = trials.train(11, "again"), trials.train(12, "other")
    for file in ("model/weights.npz", "model/model.json", "metrics.json"):
        assert (again / file).read_bytes() == (trained / file).read_bytes(), file
    assert (other / "model/weights.npz").read_bytes() != (trained / "model/weights.npz").read_bytes()


@needs_torch
def test_data_order_and_noise_do_not_depend_on_how_much_initialisation_draws(trials: Trials) -> None:
    program = """
import hashlib, pathlib, sys, torch
from data import Streams, load
digits = load(pathlib.Path(sys.argv[1]))
def seen(seed, draws):
    streams = Streams(seed)
    streams.begin_initialisation(); torch.rand(draws)
    streams.begin_training()
    noise = (torch.rand(3).tolist(), torch.rand(3, generator=streams.noise).tolist())
    order = [tuple(b.labels.tolist()) for _ in range(2) for b in streams.batches(digits, 64)]
    return hash((str(noise), str(order)))
assert seen(1, 10) == seen(1, 10_000), "the streams are not apart"
assert seen(1, 10) != seen(2, 10), "the seed does nothing"
"""
    command = [sys.executable, "-B", "-c", program, str(trials.data)]
    done = subprocess.run(command, cwd=trials.code, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@needs_torch
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"learning_rate": 0.1}, "setting 'learning_rate' is unknown; known are model, width"),
        ({"epochs": "3"}, "setting 'epochs': '3' is not of type int"),
        ({"model": "resnet"}, "model: 'resnet' is unknown; known are mlp"),
    ],
)
def test_train_refuses_a_wrong_setting_in_one_line(
    trials: Trials, tmp_path: Path, given: dict[str, object], said: str
) -> None:
    config = settings(tmp_path, **given)
    done = run("train.py", trials.code, trial_dir=tmp_path, seed=0, config=config, data=trials.data)
    assert said in one_line(done)
    assert not (tmp_path / "model").exists()


@needs_torch
def test_train_names_the_variable_that_is_missing(trials: Trials, tmp_path: Path) -> None:
    assert "AUTOLAB_DATA is not set" in one_line(run("train.py", trials.code, trial_dir=tmp_path, seed=0))


@needs_torch
def test_dry_run_needs_no_data_and_leaves_nothing(trials: Trials, tmp_path: Path) -> None:
    done = run("train.py", trials.code, "--dry-run", trial_dir=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@needs_torch
def test_summary_says_parameters_and_shapes(trials: Trials, tmp_path: Path) -> None:
    done = run("train.py", trials.code, "--summary", trial_dir=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = Summary.load(tmp_path / "summary.json")
    assert (summary.input_shape, summary.output_shape) == ((8, 8), (10,))
    assert summary.parameters == 64 * 128 + 128 + 128 * 10 + 10
    assert [layer["name"] for layer in summary.layers] == ["hidden", "dropout", "head"]
    assert summary.layers[0]["shape"] == [128]


@needs_torch
def test_predict_unpickles_nothing(trials: Trials, trained: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    shutil.copy(trained / "model" / "model.json", model)
    with zipfile.ZipFile(model / "weights.npz", "w") as archive, archive.open("hidden.weight.npy", "w") as member:
        np.lib.format.write_array(member, np.array([{"code": 1}], dtype=object), allow_pickle=True)
    done = trials.predict(model, LAB / "data" / "eval" / "inputs.npy", tmp_path)
    assert "pickle" in one_line(done)


# The evaluator.


@pytest.fixture
def answers(tmp_path: Path) -> Callable[..., Done]:
    """Scores three rows whose labels are 0, 1, 1, after a change that a test makes."""

    def make(
        change: Callable[[np.ndarray], object] = lambda p: p, labels: object = (0, 1, 1), pickled: bool = False
    ) -> Done:
        good = np.log(np.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0.5, 0.25, 0.25]], dtype=np.float32))
        np.save(tmp_path / "p.npy", np.asarray(change(good)), allow_pickle=pickled)
        np.save(tmp_path / "l.npy", np.asarray(labels))
        return score(tmp_path / "p.npy", tmp_path / "l.npy", tmp_path / "score.json")

    return make


def test_eval_agrees_with_a_calculation_by_hand(answers: Callable[..., Done], tmp_path: Path) -> None:
    assert answers().returncode == 0
    result = json.loads((tmp_path / "score.json").read_text())
    assert result["val_loss"] == pytest.approx(-(math.log(0.5) + math.log(0.75) + math.log(0.25)) / 3, rel=1e-6)
    assert result["accuracy"] == pytest.approx(2 / 3)
    # Answers 0, 1, 0: each class has F1 2/3; the third occurs nowhere and does not count.
    assert result["f1"] == pytest.approx(2 / 3)


def _with_nan(p: np.ndarray) -> np.ndarray:
    p[1, 2] = np.nan
    return p


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p[:2], "2 rows for 3 labels"),
        (lambda p: p[0], "float32 [n, classes], these are float32 [3]"),
        (lambda p: p.astype(np.float64), "these are float64 [3, 3]"),
        (_with_nan, "row 1 holds a number that is not finite"),
        (lambda p: p - np.float32(np.inf), "row 0 holds a number that is not finite"),
        (lambda p: p + np.float32(0.01), "row 0 is not normalised"),
        (
            lambda p: p[:, :2] - np.logaddexp(p[:, :1], p[:, 1:2]) + np.array([[0], [0], [-1]], dtype=np.float32),
            "row 2 is not norm",
        ),
    ],
)
def test_eval_refuses_what_are_not_predictions(
    answers: Callable[..., Done], tmp_path: Path, change: Callable[[np.ndarray], object], said: str
) -> None:
    assert said in one_line(answers(change))
    assert not (tmp_path / "score.json").exists()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ((0, 1, 3), "labels 0..3, but 3 classes"),
        ((0, -1, 1), "labels -1..1, but 3 classes"),
        ((0.0, 1.0, 1.0), "labels are integers"),
    ],
)
def test_eval_refuses_labels_that_do_not_fit(answers: Callable[..., Done], labels: object, said: str) -> None:
    assert said in one_line(answers(labels=labels))


def test_eval_never_unpickles(answers: Callable[..., Done], tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    said = one_line(answers(lambda _: np.array([Bomb()], dtype=object), pickled=True))
    assert "not a readable .npy file" in said
    assert not (tmp_path / "ran").exists()


def test_eval_names_a_file_that_is_missing(tmp_path: Path) -> None:
    done = score(tmp_path / "none.npy", LAB / "data" / "eval" / "labels.npy", tmp_path / "score.json")
    assert "none.npy" in one_line(done)


# The data.


def test_splits_are_whole_disjoint_and_stratified() -> None:
    pictures: list[bytes] = []
    for name, rows in SPLITS.items():
        inputs = np.load(LAB / "data" / name / "inputs.npy", allow_pickle=False)
        labels = np.load(LAB / "data" / name / "labels.npy", allow_pickle=False)
        assert inputs.shape == (rows, 8, 8) and inputs.dtype == np.uint8 and inputs.max() == 16
        assert labels.shape == (rows,)
        counts = np.bincount(labels, minlength=10)
        assert counts.max() - counts.min() <= 6
        pictures += [picture.tobytes() for picture in inputs]
    assert len(pictures) == len(set(pictures)) == 1797


def test_data_files_are_the_ones_that_were_made() -> None:
    """A changed split is another epoch: nothing measured before could be compared with it."""
    digest = hashlib.sha256()
    for name in SPLITS:
        for part in ("inputs.npy", "labels.npy"):
            digest.update((LAB / "data" / name / part).read_bytes())
    assert digest.hexdigest() == "addc25bd4aff22578078fabf4375bda74138314c7ddc24c9079bb0ddc60c40e3"


# The lab's own documents and the answers of the demonstration.


def test_configuration_policy_and_prompts_are_valid() -> None:
    config = Config.load(LAB / Config.FILE)
    assert config.metric.primary == "val_loss" and config.test.rule == "fixed"
    policy = VerifierPolicy.load(LAB / VerifierPolicy.FILE)
    assert policy.require_dry_run and policy.summary_command
    assert prompts.check(LAB / ".autolab" / "prompts") == []


def test_every_starting_document_ends_with_a_newline_and_holds_no_trace_of_this_repository() -> None:
    texts = [p for p in LAB.rglob("*") if p.is_file() and p.suffix not in (".npy", ".pyc") and p.name != ".gitkeep"]
    assert len(texts) > 25
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert text.endswith("\n"), path
        assert str(LAB.parents[3]) not in text, path


Answers = list[dict[str, list[dict[str, object]]]]


def script() -> Answers:
    value, _ = parse_yaml((LAB / ".autolab" / "demo.yaml").read_text(encoding="utf-8"), "demo.yaml")
    assert isinstance(value, dict)
    iterations: Answers = value["iterations"]  # type: ignore[assignment]
    return iterations


def apply(lab: Path, iteration: int, ask: int) -> None:
    """Change the code as an implementation answer says: each search text must stand there exactly once."""
    output = script()[iteration - 1]["implementation"][ask - 1]["output"]
    answer = ImplementationOutput.from_value(output, "demo.yaml")
    for file in answer.files:
        (lab / file.path).write_text(file.content)
    for edit in answer.edits:
        text = (lab / edit.path).read_text()
        assert text.count(edit.search) == 1, (edit.path, edit.search)
        (lab / edit.path).write_text(text.replace(edit.search, edit.replace))


def overrides(iteration: int) -> dict[str, object]:
    design = script()[iteration - 1]["design"][0]["output"]
    values: dict[str, object] = design["variants"][0]["config_overrides"]  # type: ignore[index]
    return values


def test_every_answer_of_the_demonstration_fits_its_stage() -> None:
    stages = [stage for stage in OUTPUTS if stage is not Stage.IMPLEMENTATION]
    for number, iteration in enumerate(script(), start=1):
        for stage in (*stages, Stage.IMPLEMENTATION):
            for answer in iteration[stage.value]:
                OUTPUTS[stage].from_value(answer["output"], f"demo.yaml: iteration {number}, {stage.value}")


@needs_torch
@pytest.mark.parametrize("base", ["baseline", "small_cnn"])
def test_candidates_of_the_demonstration_train_on_either_base(base: str, tmp_path: Path) -> None:
    """Iterations 2 and 3 apply whether or not the first candidate was taken over."""
    lab = copy(tmp_path / "lab", *CODE)
    if base == "small_cnn":
        apply(lab, 1, 1)
    apply(lab, 2, 1)
    apply(lab, 3, 1)
    apply(lab, 3, 2)
    trial = tmp_path / "trial"
    trial.mkdir()
    config = settings(trial, epochs=3, **overrides(2), **overrides(3))
    done = run("train.py", lab, trial_dir=trial, seed=0, config=config, data=LAB / "data" / "train")
    assert done.returncode == 0, done.stderr
    name = json.loads((trial / "model" / "model.json").read_text())["name"]
    assert name == ("mlp" if base == "baseline" else "small_cnn")


@needs_torch
def test_the_broken_candidate_passes_the_dry_run_and_fails_in_the_training(tmp_path: Path) -> None:
    lab = copy(tmp_path / "lab", *CODE)
    apply(lab, 3, 1)
    config = settings(tmp_path, epochs=1, **overrides(3))
    dry = run("train.py", lab, "--dry-run", trial_dir=tmp_path, config=config)
    assert dry.returncode == 0, dry.stderr
    done = run("train.py", lab, trial_dir=tmp_path, seed=0, config=config, data=LAB / "data" / "train")
    assert done.returncode == 1
    assert "IndexError" in done.stderr
