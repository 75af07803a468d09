"""The digits lab by hand: its three programs, its evaluator, its data."""

from __future__ import annotations

import hashlib
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
from picture_kit import CODE, Done, Trials, copy, needs_torch, one_line, run, score, settings

from autolab.cli import init
from autolab.lab.schemas.experiment import Summary

SPLITS = {"train": 602, "eval": 599, "holdout": 596}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the lab as `init` composes them."""
    folder = tmp_path_factory.mktemp("digits") / "lab"
    init.compose("digits", folder)
    return folder


@pytest.fixture(scope="module")
def trials(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Trials:
    return Trials(lab, tmp_path_factory.mktemp("trials"))


@pytest.fixture(scope="module")
def trained(trials: Trials) -> Path:
    """A trial at seed 11, trained."""
    return trials.train(11, "first", epochs=8)


# The three commands.


@pytest.mark.process
@needs_torch
def test_train_predict_and_eval_give_a_score_that_beats_guessing(trials: Trials, trained: Path) -> None:
    result = trials.result(trained)
    assert set(result) == {"val_loss", "accuracy", "f1"}
    assert result["val_loss"] < 0.5 * math.log(10)
    assert result["accuracy"] > 0.8
    metrics = json.loads((trained / "metrics.json").read_text())
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["parameters"] == 64 * 128 + 128 + 128 * 10 + 10
    history = [json.loads(line) for line in (trained / "history.jsonl").read_text().splitlines()]
    assert [set(point) for point in history] == [{"step", "epoch", "train_loss", "train_accuracy", "seconds"}] * 8
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert 0.1 < history[0]["train_accuracy"] < history[-1]["train_accuracy"] <= 1


@pytest.mark.process
@needs_torch
def test_a_seed_gives_the_same_bytes_twice_and_another_seed_others(trials: Trials, trained: Path) -> None:
    again, other = trials.train(11, "again", epochs=8), trials.train(12, "other", epochs=8)
    for file in ("model/weights.npz", "model/model.json", "metrics.json"):
        assert (again / file).read_bytes() == (trained / file).read_bytes(), file
    assert (other / "model/weights.npz").read_bytes() != (trained / "model/weights.npz").read_bytes()


@pytest.mark.process
@needs_torch
def test_order_and_noise_of_a_step_do_not_depend_on_what_was_drawn_before(trials: Trials) -> None:
    program = """
import hashlib, pathlib, sys, torch
from data import Streams, load
digits = load(pathlib.Path(sys.argv[1]))
def seen(seed, draws):
    streams = Streams(seed)
    streams.begin_initialisation(); torch.rand(draws)
    steps = []
    for batch in (b for _ in range(2) for b in streams.batches(digits, 64)):
        noise = torch.rand(3).tolist() + torch.rand(3, generator=streams.noise).tolist()
        steps.append((noise, batch.labels.tolist()))
        torch.rand(draws), torch.rand(draws, generator=streams.noise)  # as dropout and augmentation do
    assert steps[0][0] != steps[1][0] and steps[0][1] != steps[len(steps) // 2][1]
    return hash(str(steps))
assert seen(1, 10) == seen(1, 10_000), "the streams are not apart"
assert seen(1, 10) != seen(2, 10), "the seed does nothing"
"""
    command = [sys.executable, "-B", "-c", program, str(trials.data)]
    done = subprocess.run(command, cwd=trials.code, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.process
@needs_torch
def test_train_refuses_an_unknown_setting_in_one_line(trials: Trials, tmp_path: Path) -> None:
    config = settings(tmp_path, learning_rate=0.1)
    done = run("train.py", trials.code, trial_dir=tmp_path, seed=0, config=config, data=trials.data)
    assert "setting 'learning_rate' is unknown; known are model, width, epochs" in one_line(done)
    assert not (tmp_path / "model").exists()


REFUSED = {
    "setting 'epochs': '3' is not of type int": {"epochs": "3"},
    "setting 'lr': nan is not of type float": {"lr": math.nan},
    "batch_size: 0 is not above 0": {"batch_size": 0},
    "width: -1 is below 0": {"width": -1},
    "model: 'resnet' has no file in models/; there are mlp": {"model": "resnet"},
    "model: '_build' has no file in models/; there are mlp": {"model": "_build"},
    "width: the model mlp takes none; leave it 0": {"width": 32},
    "subset: 902 pictures are asked for": {"subset": 902},
}


@pytest.mark.process
@needs_torch
def test_train_says_which_setting_cannot_be(trials: Trials, tmp_path: Path) -> None:
    """All in one process, since each would import torch."""
    program = """
import json, sys, train
for given in json.loads(sys.argv.pop()):
    with open("settings.json", "w") as file:
        json.dump(given, file)
    try:
        train.main()
    except SystemExit as ended:
        print(ended.code)
"""
    command = [sys.executable, "-B", "-c", program, json.dumps(list(REFUSED.values()))]
    given = {"TRIAL_DIR": ".", "SEED": "0", "CONFIG": "settings.json", "DATA": str(trials.data)}
    env = {**os.environ, "PYTHONPATH": str(trials.code)} | {f"AUTOLAB_{name}": value for name, value in given.items()}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert [line.startswith(f"train.py: {text}") for line, text in zip(said, REFUSED, strict=True)] == [True] * len(
        said
    )
    assert not (tmp_path / "model").exists()


@pytest.mark.process
@needs_torch
def test_train_names_the_variable_that_is_missing(trials: Trials, tmp_path: Path) -> None:
    assert "AUTOLAB_DATA is not set" in one_line(run("train.py", trials.code, trial_dir=tmp_path, seed=0))


@pytest.mark.process
@needs_torch
def test_dry_run_needs_no_data_and_leaves_nothing(trials: Trials, tmp_path: Path) -> None:
    done = run("train.py", trials.code, "--dry-run", trial_dir=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
@needs_torch
def test_summary_says_parameters_and_shapes(trials: Trials, tmp_path: Path) -> None:
    done = run("train.py", trials.code, "--summary", trial_dir=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = Summary.load(tmp_path / "summary.json")
    assert (summary.input_shape, summary.output_shape) == ((1, 8, 8), (10,))
    assert summary.parameters == 64 * 128 + 128 + 128 * 10 + 10
    assert [layer["type"] for layer in summary.layers] == ["Rearrange", "Linear", "ReLU", "Dropout", "Linear"]
    assert [layer["shape"] for layer in summary.layers] == [[64], [128], [128], [128], [10]]


NARROW = """
from einops import rearrange
from torch import nn

class Model(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    def forward(self, images):
        return self.layers(rearrange(images, "b c h w -> b (c h w)"))
"""


@pytest.mark.process
@needs_torch
def test_a_model_is_added_by_a_file_and_may_take_a_width(lab: Path, tmp_path: Path) -> None:
    code = copy(lab, tmp_path / "code", *CODE)
    (code / "models" / "narrow.py").write_text(NARROW)
    default = code / "models" / "__init__.py"
    default.write_text(default.read_text().replace('DEFAULT = "mlp"', 'DEFAULT = "narrow"'))
    config = settings(tmp_path, width=6, epochs=1, subset=100)
    done = run("train.py", code, trial_dir=tmp_path, seed=0, config=config, data=lab / "data" / "train")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "model" / "model.json").read_text()) == {"name": "narrow", "width": 6}
    assert json.loads((tmp_path / "metrics.json").read_text())["parameters"] == 64 * 6 + 6 + 60 + 10
    assert json.loads((tmp_path / "history.jsonl").read_text())["step"] == 2
    predicted = run(
        "predict.py",
        code,
        trial_dir=tmp_path,
        model=tmp_path / "model",
        inputs=lab / "data" / "eval" / "inputs.npy",
    )
    assert predicted.returncode == 0, predicted.stderr
    assert np.load(tmp_path / "predictions.npy").shape == (599, 10)


@pytest.mark.process
@needs_torch
def test_predict_unpickles_nothing(trials: Trials, trained: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    shutil.copy(trained / "model" / "model.json", model)
    with zipfile.ZipFile(model / "weights.npz", "w") as archive, archive.open("layers.1.weight.npy", "w") as member:
        np.lib.format.write_array(member, np.array([{"code": 1}], dtype=object), allow_pickle=True)
    done = trials.predict(model, trials.lab / "data" / "eval" / "inputs.npy", tmp_path)
    assert "pickle" in one_line(done)


# The evaluator.


@pytest.fixture
def answers(lab: Path, tmp_path: Path) -> Callable[..., Done]:
    """Scores three rows whose labels are 0, 1, 1, after a change that a test makes."""

    def make(
        change: Callable[[np.ndarray], object] = lambda p: p, labels: object = (0, 1, 1), pickled: bool = False
    ) -> Done:
        good = np.log(np.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0.5, 0.25, 0.25]], dtype=np.float32))
        np.save(tmp_path / "p.npy", np.asarray(change(good)), allow_pickle=pickled)
        np.save(tmp_path / "l.npy", np.asarray(labels))
        return score(lab, tmp_path / "p.npy", tmp_path / "l.npy", tmp_path / "score.json")

    return make


@pytest.mark.process
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


@pytest.mark.process
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


@pytest.mark.process
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


@pytest.mark.process
def test_eval_never_unpickles(answers: Callable[..., Done], tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    said = one_line(answers(lambda _: np.array([Bomb()], dtype=object), pickled=True))
    assert "not a readable .npy file" in said
    assert not (tmp_path / "ran").exists()


@pytest.mark.process
def test_eval_names_a_file_that_is_missing(lab: Path, tmp_path: Path) -> None:
    done = score(lab, tmp_path / "none.npy", lab / "data" / "eval" / "labels.npy", tmp_path / "score.json")
    assert "none.npy" in one_line(done)


# The data.


def test_splits_are_whole_disjoint_and_stratified(lab: Path) -> None:
    pictures: list[bytes] = []
    for name, rows in SPLITS.items():
        inputs = np.load(lab / "data" / name / "inputs.npy", allow_pickle=False)
        labels = np.load(lab / "data" / name / "labels.npy", allow_pickle=False)
        assert inputs.shape == (rows, 8, 8) and inputs.dtype == np.uint8 and inputs.max() == 16
        assert labels.shape == (rows,)
        counts = np.bincount(labels, minlength=10)
        assert counts.max() - counts.min() <= 6
        pictures += [picture.tobytes() for picture in inputs]
    assert len(pictures) == len(set(pictures)) == 1797


def test_data_files_are_the_ones_that_were_made(lab: Path) -> None:
    """A changed split is another protocol: nothing measured before could be compared with it."""
    digest = hashlib.sha256()
    for name in SPLITS:
        for part in ("inputs.npy", "labels.npy"):
            digest.update((lab / "data" / name / part).read_bytes())
    assert digest.hexdigest() == "3542ee44ebd13ad7cc4bf5157c8565a90c2086400ef4d8014dc57c1597af3268"
