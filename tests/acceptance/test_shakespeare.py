"""The shakespeare lab on a tiny text of the same characters: its data, its three commands, its evaluator."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lab_kit import LabKit

from autolab.lab import create
from autolab.lab.schemas.config import Config, VerifierPolicy
from autolab.lab.schemas.experiment import Summary
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.researchers import prompts
from autolab.trials.evaluator import Problem
from autolab.trials.lookahead import alter, compare

LAB = create.TEMPLATES / "shakespeare"
WORDS = "the king shall be no more than a man, and men do fear him as they fear the night; so speak, good sir!\n"
TEXT = "".join(WORDS.split()[i * i % 23] + ("\n" if i % 11 == 0 else " ") for i in range(5_000))
CHARACTERS = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LENGTH = 64

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
Done = subprocess.CompletedProcess[str]


def variables(folder: Path, text: str | bytes = TEXT) -> dict[str, str]:
    """AUTOLAB_DATASETS with a text of our own, and the checksum that allows it."""
    data = text.encode() if isinstance(text, str) else text
    folder.mkdir(exist_ok=True)
    (folder / "tinyshakespeare.txt").write_bytes(data)
    return {"AUTOLAB_DATASETS": str(folder), "AUTOLAB_SHAKESPEARE_SHA256": hashlib.sha256(data).hexdigest()}


def python(*words: str, cwd: Path, **more: str) -> Done:
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **more}
    return subprocess.run([sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def one_line(done: Done) -> str:
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lab as `init` makes it, with the data of the tiny text."""
    folder = tmp_path_factory.mktemp("shakespeare")
    kit = LabKit(folder, folder / "count.txt", variables(folder / "sets"))
    made = kit.autolab("init", "lab", "--template", "shakespeare", "--seed", "1")
    assert made.code == 0, made.err
    assert "data/eval: " in made.out
    kit.root = folder / "lab"
    assert kit.git("status", "--porcelain") == "", "the data are not for git"
    verified = kit.autolab("verify")
    assert (verified.code, verified.out) == (0, "all is well\n")
    return kit.root


# the data


def split(lab: Path, name: str) -> tuple[str, list[str], list[str]]:
    """A split's rows as text: all inputs joined, inputs and labels."""
    inputs, labels = (np.load(lab / "data" / name / f"{part}.npy") for part in ("inputs", "labels"))
    assert inputs.dtype == labels.dtype == np.uint8 and inputs.shape == labels.shape
    rows = [["".join(CHARACTERS[token] for token in row) for row in part] for part in (inputs, labels)]
    return "".join(rows[0]), *rows


@pytest.mark.process
def test_the_text_is_split_by_position(lab: Path) -> None:
    train, inputs, labels = split(lab, "train")
    ends = len(TEXT) * 8 // 10, len(TEXT) * 9 // 10
    assert TEXT[: ends[0]].startswith(train) and ends[0] - len(train) <= LENGTH
    assert all(a[1:] == b[:-1] for a, b in zip(inputs, labels, strict=True))
    for name, first, last in (("eval", ends[0], ends[1]), ("holdout", ends[1], len(TEXT))):
        _, inputs, labels = split(lab, name)
        place = first
        for row, (before, after) in enumerate(zip(inputs, labels, strict=True)):
            found = TEXT.find(before + after[-1], place, last)
            assert found >= place, f"{name} row {row} is not where it should be, or touches the one before"
            assert before[1:] == after[:-1]
            place = found + LENGTH + 2
        assert len(inputs) == min(250, (last - first) // (LENGTH + 2))


def test_the_characters_are_those_of_the_real_text() -> None:
    source = (LAB / "settings.py").read_text()
    assert f"CHARACTERS = {json.dumps(CHARACTERS)}" in source
    assert len(CHARACTERS) == len(set(CHARACTERS)) == 65 and sorted(CHARACTERS) == list(CHARACTERS)


@pytest.mark.process
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT.replace("king", "k\u00efng").encode(), "which settings.CHARACTERS does not have"),
        (TEXT[:500], "500 characters are too few"),
        ("", "0 characters are too few"),
    ],
)
def test_a_text_that_will_not_do_is_one_line_and_the_data_stay(
    lab: Path, tmp_path: Path, text: str | bytes, said: str
) -> None:
    before = (lab / "data" / "eval" / "inputs.npy").read_bytes()
    assert said in one_line(python("prepare.py", cwd=lab, **variables(tmp_path / "sets", text)))
    assert (lab / "data" / "eval" / "inputs.npy").read_bytes() == before
    assert sorted(path.name for path in (lab / "data").iterdir()) == [".gitignore", "README.md", *sorted(SPLITS)]


SPLITS = ("eval", "holdout", "train")


@pytest.mark.process
def test_another_text_than_the_real_one_has_to_be_allowed(lab: Path, tmp_path: Path) -> None:
    told = variables(tmp_path / "sets")
    del told["AUTOLAB_SHAKESPEARE_SHA256"]
    message = one_line(python("prepare.py", cwd=lab, **told))
    assert "instead of 86c4e6aa9db7" in message and "AUTOLAB_SHAKESPEARE_SHA256" in message
    message = one_line(python("prepare.py", cwd=lab, AUTOLAB_DATASETS=str(tmp_path)))
    assert "holds no tinyshakespeare.txt" in message


@pytest.mark.process
def test_without_its_data_the_lab_is_made_all_the_same(tmp_path: Path) -> None:
    kit = LabKit(tmp_path, tmp_path / "count.txt", {"AUTOLAB_DATASETS": str(tmp_path / "none")})
    made = kit.autolab("init", "lab", "--template", "shakespeare")
    assert made.code == 1 and "python prepare.py" in made.err
    assert (tmp_path / "lab" / ".git" / "autolab" / "head").exists()


# the commands

FEW = {"seen": 16_000, "width": 24, "batch_size": 8}


def train(lab: Path, folder: Path, seed: int, **settings: object) -> Path:
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(FEW | settings))
    done = python("train.py", cwd=lab, **environment(lab, folder, seed))
    assert done.returncode == 0, done.stderr
    return folder


def environment(lab: Path, folder: Path, seed: int = 0) -> dict[str, str]:
    data, settings = lab / "data" / "train", folder / "settings.json"
    given = {"DATA": data, "TRIAL_DIR": folder, "SEED": seed} | ({"CONFIG": settings} if settings.exists() else {})
    return {f"AUTOLAB_{name}": str(value) for name, value in given.items()}


def score(predictions: Path, labels: Path, out: Path) -> Done:
    words = ["--predictions", str(predictions), "--labels", str(labels), "--out", str(out)]
    return subprocess.run(
        [sys.executable, "-I", "-B", str(LAB / "eval.py"), *words],
        cwd=out.parent,
        env={},
        capture_output=True,
        text=True,
    )


@pytest.mark.process
@needs_torch
def test_train_predict_and_eval_give_bits_a_character_that_beat_counting(lab: Path, tmp_path: Path) -> None:
    trial = train(lab, tmp_path / "a", 11)
    inputs, model = lab / "data" / "eval" / "inputs.npy", trial / "model"
    told = {"AUTOLAB_MODEL": str(model), "AUTOLAB_INPUTS": str(inputs), "AUTOLAB_TRIAL_DIR": str(trial)}
    assert python("predict.py", cwd=lab, **told).returncode == 0
    values = np.load(trial / "predictions.npy")
    assert values.dtype == np.float32 and values.shape == (*np.load(inputs).shape, 65)
    done = score(trial / "predictions.npy", lab / "data" / "eval" / "labels.npy", trial / "score.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((trial / "score.json").read_text())
    counts = np.bincount(np.load(lab / "data" / "eval" / "labels.npy").ravel())
    shares = counts[counts > 0] / counts.sum()
    assert 0 < result["val_bpb"] < -(shares * np.log2(shares)).sum() and 0.3 < result["accuracy"] <= 1
    history = [json.loads(line) for line in (trial / "history.jsonl").read_text().splitlines()]
    assert [set(point) for point in history] == [{"step", "epoch", "train_loss", "seconds"}] * len(history)
    assert history[-1]["step"] == math.ceil(16_000 / (8 * LENGTH)) and len(history) >= 20
    assert history[-1]["train_loss"] < history[0]["train_loss"]

    again, other = train(lab, tmp_path / "b", 11), train(lab, tmp_path / "c", 12)
    for file in ("model/weights.npz", "metrics.json"):
        assert (again / file).read_bytes() == (trial / file).read_bytes(), file
    assert (other / "model/weights.npz").read_bytes() != (trial / "model/weights.npz").read_bytes()


AHEAD = """
from torch import nn
from settings import CHARACTERS
class Model(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embedding = nn.Embedding(len(CHARACTERS), width)
        self.memory = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, len(CHARACTERS))
    def forward(self, tokens):
        return self.head(self.memory(self.embedding(tokens))[0])
"""
BOTH = """
import sys
import numpy as np, torch
from models import build
from predict import predict
torch.manual_seed(0)
for name in ("gru", "ahead"):
    model = build(name, 12).eval()
    for inputs in ("true", "altered"):
        np.save(f"{sys.argv[1]}/{name}-{inputs}.npy", predict(model, np.load(f"{sys.argv[1]}/{inputs}.npy")))
"""


@pytest.mark.process
@needs_torch
def test_the_labs_model_passes_the_altered_suffix_check_and_one_that_reads_backwards_does_not(
    lab: Path, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    shutil.copytree(lab, code, ignore=shutil.ignore_patterns(".git", "data"))
    (code / "models" / "ahead.py").write_text(AHEAD)
    shutil.copy(lab / "data" / "eval" / "inputs.npy", tmp_path / "true.npy")
    altered = alter(tmp_path / "true.npy", b"secret", tmp_path / "exports")
    shutil.copy(altered.inputs, tmp_path / "altered.npy")
    done = python("-c", BOTH, str(tmp_path), cwd=code)
    assert done.returncode == 0, done.stderr
    assert compare(tmp_path / "gru-true.npy", tmp_path / "gru-altered.npy", altered.cuts) is None
    found = compare(tmp_path / "ahead-true.npy", tmp_path / "ahead-altered.npy", altered.cuts)
    assert isinstance(found, Problem) and found.outcome is TrialOutcome.TAMPERED


STREAMS = """
import pathlib, sys, torch
from data import Streams, load
from itertools import islice
text = load(pathlib.Path(sys.argv[1]))
def seen(seed, draws):
    streams = Streams(seed)
    streams.begin_initialisation(); torch.rand(draws)
    steps = []
    for batch in islice(streams.batches(text, 50), 20):
        steps.append((torch.rand(3).tolist(), batch.inputs.tolist()))
        torch.rand(draws)  # as dropout does
    assert steps[0] != steps[1]
    return str(steps)
assert seen(1, 10) == seen(1, 10_000), "the streams are not apart"
assert seen(1, 10) != seen(2, 10), "the seed does nothing"
"""


@pytest.mark.process
@needs_torch
def test_order_and_noise_of_a_step_do_not_depend_on_what_was_drawn_before(lab: Path) -> None:
    done = python("-c", STREAMS, str(lab / "data" / "train"), cwd=lab)
    assert done.returncode == 0, done.stderr


@pytest.mark.process
@needs_torch
def test_summary_says_parameters_and_shapes(lab: Path, tmp_path: Path) -> None:
    done = python("train.py", "--summary", cwd=lab, **environment(lab, tmp_path))
    assert done.returncode == 0, done.stderr
    summary = Summary.load(tmp_path / "summary.json")
    assert (summary.input_shape, summary.output_shape) == ((64,), (64, 65))
    assert summary.parameters == sum(layer["parameters"] for layer in summary.layers)  # type: ignore[misc]


@pytest.mark.process
@needs_torch
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"learning_rate": 0.1}, "setting 'learning_rate' is unknown; known are model, width"),
        ({"model": "lstm"}, "model: 'lstm' has no file in models/; there are gru"),
    ],
)
def test_train_refuses_a_wrong_setting_in_one_line(
    lab: Path, tmp_path: Path, given: dict[str, object], said: str
) -> None:
    (tmp_path / "settings.json").write_text(json.dumps(given))
    assert said in one_line(python("train.py", cwd=lab, **environment(lab, tmp_path)))
    assert not (tmp_path / "model").exists()


# the evaluator

GOOD = np.log(np.array([[[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]], [[0.125, 0.75, 0.125], [0.5, 0.25, 0.25]]]))
LABELS = np.array([[0, 1], [1, 2]])


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., Done]:
    def make(predictions: object = GOOD, labels: object = LABELS, kind: type = np.float32) -> Done:
        np.save(tmp_path / "p.npy", np.asarray(predictions).astype(kind))
        np.save(tmp_path / "l.npy", np.asarray(labels))
        return score(tmp_path / "p.npy", tmp_path / "l.npy", tmp_path / "score.json")

    return make


@pytest.mark.process
def test_eval_agrees_with_a_calculation_by_hand(judged: Callable[..., Done], tmp_path: Path) -> None:
    assert judged().returncode == 0
    result = json.loads((tmp_path / "score.json").read_text())
    assert result["val_bpb"] == pytest.approx((1 + 1 - math.log2(0.75) + 2) / 4, rel=1e-6)
    assert result["accuracy"] == 0.75


@pytest.mark.process
@pytest.mark.parametrize(
    ("predictions", "labels", "kind", "said"),
    [
        (GOOD, LABELS, np.float64, "these are float64 [2, 2, 3]"),
        (GOOD[0], LABELS, np.float32, "float32 [n, t, characters], these are float32 [2, 3]"),
        (GOOD[:, :1], LABELS, np.float32, "positions [2, 1] for labels [2, 2]"),
        (GOOD + 0.01, LABELS, np.float32, "row 0, position 0 is not normalised"),
        (np.where(GOOD < -2, np.nan, GOOD), LABELS, np.float32, "row 1, position 0 holds a number that is not finite"),
        (GOOD, LABELS + 1, np.float32, "labels 1..3, but 3 characters"),
        (GOOD, LABELS[0], np.float32, "labels are integers [n, t]"),
        (GOOD, LABELS + 0.5, np.float32, "labels are integers [n, t]"),
    ],
)
def test_eval_refuses_what_is_not_exactly_right(
    judged: Callable[..., Done], tmp_path: Path, predictions: object, labels: object, kind: type, said: str
) -> None:
    assert said in one_line(judged(predictions, labels, kind))
    assert not (tmp_path / "score.json").exists()


# the documents


@pytest.mark.process
def test_configuration_policy_and_prompts_are_valid(lab: Path) -> None:
    config = Config.load(lab / Config.FILE)
    assert config.metric.primary == "val_bpb" and config.evaluate and config.evaluate.altered_suffix
    assert VerifierPolicy.load(lab / VerifierPolicy.FILE).summary_command
    assert prompts.check(lab / ".autolab" / "prompts") == []
    for path in config.files.frozen:
        assert (lab / path).is_file()
    for path in LAB.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            assert path.read_text(encoding="utf-8").endswith("\n"), path
