"""Numbers that a training says of itself are read strictly, from a file or from what it printed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.trials import metrics
from autolab.trials.evaluator import METRICS_KEYS, Problem
from autolab.trials.metrics import read

SUMMARY = """\
step 00012 (1.2%) | loss: 5.1
Vocab size: 8,192
Model config: {'depth': 8}
---
val_bpb:          0.997900
training_seconds: 300.1
peak_vram_mb:     45060.2
num_steps:        953
note: not a number
diverged: nan
"""


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    for name in ("logs", "train"):
        (tmp_path / name).mkdir()
    return tmp_path


def printed(attempt: Path, text: str | bytes, *required: str) -> dict[str, float] | Problem:
    (attempt / "logs" / "train.out").write_bytes(text.encode() if isinstance(text, str) else text)
    return read(attempt, "stdout", required)


def told(found: object) -> str:
    assert isinstance(found, Problem)
    assert found.outcome is TrialOutcome.INVALID_ARTIFACT
    assert "\n" not in found.message
    return found.message


def test_of_what_was_printed_the_lines_of_name_and_number_count(attempt: Path) -> None:
    assert printed(attempt, SUMMARY, "val_bpb") == {
        "val_bpb": 0.9979,
        "training_seconds": 300.1,
        "peak_vram_mb": 45060.2,
        "num_steps": 953.0,
    }


def test_the_last_line_of_a_name_counts(attempt: Path) -> None:
    assert printed(attempt, "loss: 3\nloss: 2\nother: 1\nloss: 1e-2\n", "loss") == {"other": 1.0, "loss": 0.01}
    assert "line 2: loss: 'n/a'" in told(printed(attempt, "loss: 3\nloss: n/a\n", "loss"))


def test_a_line_written_over_says_what_a_terminal_would_show(attempt: Path) -> None:
    assert printed(attempt, "loss: 3\rloss: 2\rloss: 1\r\nval: 4\r\n", "loss") == {"loss": 1.0, "val": 4.0}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("val_bpb: 0,9979", "line 2: val_bpb: 0,9979 has a comma; write 0.9979 with a point"),
        ("val_bpb: nan", "line 2: val_bpb: nan is not a finite number; a training without a result has to end with"),
        ("val_bpb: -inf", "-inf is not a finite number"),
        ("val_bpb: 1e999", "1e999 is not a finite number"),
        ("val_bpb: 0.99 bits", "'0.99 bits' is not a number; write the number alone, such as 0.9979"),
        ("val_bpb: 0x1f", "is not a number"),
        ("val_bpb: 1_000", "is not a number"),
        ("val_bpb: \u0663.1", "is not a number"),
        ("the val_bpb 0.99 came of it", "val_bpb is not in it; it has to be, in the form a line `val_bpb: 0.9979`"),
        ("Val_bpb: 0.99", "val_bpb is not in it"),
    ],
)
def test_a_number_that_decides_must_be_one(attempt: Path, line: str, said: str) -> None:
    message = told(printed(attempt, f"steps: 3\n{line}\n", "val_bpb"))
    assert message.startswith("logs/train.out: ") and said in message


def test_each_name_that_is_reported_is_required(attempt: Path) -> None:
    assert "logs/train.out: accuracy is not in it" in told(printed(attempt, "loss: 1\n", "loss", "accuracy"))


def test_numbers_that_are_not_asked_for_may_be_anything(attempt: Path) -> None:
    assert printed(attempt, "loss: 1\nother: 0,5\nworse: nan\nbad: x\n", "loss") == {"loss": 1.0}


def test_of_very_many_names_the_required_and_the_newest_are_kept(attempt: Path) -> None:
    lines = [f"n{number}: {number}" for number in range(3 * METRICS_KEYS)]
    found = printed(attempt, "\n".join(["loss: 1", *lines]), "loss")
    assert isinstance(found, dict)
    assert found["loss"] == 1.0 and f"n{3 * METRICS_KEYS - 1}" in found and "n0" not in found
    assert len(found) == METRICS_KEYS + 1


def test_a_text_file_and_a_json_file_lie_in_the_trial_folder(attempt: Path) -> None:
    (attempt / "train" / "out").mkdir()
    (attempt / "train" / "out" / "log.txt").write_text("loss: 0.5\n")
    (attempt / "train" / "out" / "m.json").write_text('{"loss": 0.25, "steps": 3}')
    assert read(attempt, "out/log.txt", ["loss"]) == {"loss": 0.5}
    assert read(attempt, "out/m.json", ["loss"]) == {"loss": 0.25, "steps": 3.0}
    assert told(read(attempt, "out/m.json", ["val"])).endswith(
        'val is not in it; it has to be, in the form {"val": 0.9979}'
    )


@pytest.mark.parametrize("source", ["metrics.json", "sub/numbers.txt"])
def test_a_file_that_is_not_there_names_the_way_out(attempt: Path, source: str) -> None:
    message = told(read(attempt, source, ["loss"]))
    assert message.startswith(f"{source}: not found; ") and "train.metrics" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"loss": 0,9979}', "metrics.json: line 1 column 12: not JSON"),
        ('{"loss": 1, "loss": 2}', "loss: key given twice"),
        ('{"loss": "0.5"}', "loss: must be a number"),
        ('{"loss": NaN}', "NaN"),
    ],
)
def test_json_is_as_strict(attempt: Path, text: str, said: str) -> None:
    (attempt / "train" / "metrics.json").write_text(text)
    assert said in told(read(attempt, "metrics.json", ["loss"]))


def test_only_a_regular_file_of_a_sane_size_is_read(attempt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(attempt / "train" / "pipe")
    assert told(read(attempt, "pipe", ["loss"])) == "pipe: not a regular file"
    monkeypatch.setattr(metrics, "TEXT_BYTES", 5)
    assert "6 bytes, more than the 5 allowed" in told(printed(attempt, "loss:1", "loss"))


@given(st.binary(max_size=200))
def test_arbitrary_output_never_raises(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "logs").mkdir(exist_ok=True)
    found = printed(folder, b"loss: " + content, "loss")
    assert isinstance(found, dict | Problem)


def test_what_was_meant_as_a_number_and_is_none_is_said_and_the_rest_is_the_programs_own_affair(attempt: Path) -> None:
    printed(attempt, "loss: 1\nbleu: 0,5\nperplexity: inf\nEpoch: 1/10\nLoading: data\nnote: not a number\n")
    said = metrics.malformed(attempt, "stdout")
    assert said == (
        "logs/train.out: line 2: bleu: 0,5 has a comma; write 0.5 with a point (and nothing between thousands); "
        "line 3: perplexity: inf is not a finite number; a training without a result has to end with a status above 0"
    )
    printed(attempt, "loss: 1\nEpoch: 1/10\n")
    assert metrics.malformed(attempt, "stdout") == ""


def test_the_note_is_bounded_and_counts_names_that_are_not_kept(attempt: Path) -> None:
    printed(attempt, "".join(f"{'n' * 90}{number}: nan\n" for number in range(METRICS_KEYS + 50)))
    said = metrics.malformed(attempt, "stdout")
    assert f"{METRICS_KEYS - metrics.NOTED} more like these; {METRICS_KEYS + 50} names, of which the last" in said
    assert len(said) < 800 and "\n" not in said


def test_a_json_file_and_a_missing_one_have_no_note(attempt: Path) -> None:
    assert metrics.malformed(attempt, "metrics.json") == metrics.malformed(attempt, "stdout") == ""
