"""What programs print is read by the names they print; what deceives is refused; nothing takes for ever."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolab.errors import RecordError
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.pattern import refuse_pattern
from autolab.stats import target
from autolab.trials import line_forms, metrics
from autolab.trials.evaluator import Problem
from autolab.trials.job import TrialCommands
from autolab.trials.metrics import Primary
from autolab.trials.readings import LINE_BYTES, NAMES, Reading, complaints, proposals, read_lines, readings, series

BAR = "100%|██████████| 938/938 [00:12<00:00, 75.02it/s, loss=0.31]"

LINES: list[tuple[str, dict[str, float]]] = [
    # one pair
    ("val_bpb:          0.997900", {"val_bpb": 0.9979}),
    ("val_loss=0.31", {"val_loss": 0.31}),
    ("best_val_loss = 1.5e-3", {"best_val_loss": 0.0015}),
    ("final loss:0.5", {"final loss": 0.5}),
    ("val loss 4.517294", {"val loss": 4.517294}),
    ("Validation loss after training: -0.25", {"Validation loss after training": -0.25}),
    ("F1 score: 0.81.", {"F1 score": 0.81}),
    ("accuracy (top1): 0.9", {"accuracy (top1)": 0.9}),
    ("mse(test): .5", {"mse(test)": 0.5}),
    ('  "val_loss": 0.31,', {"val_loss": 0.31}),
    ("val loss = 0.5 ± 0.1", {"val loss": 0.5}),
    ("train_loss: 0.5 (best)", {"train_loss": 0.5}),
    ("test_acc: tensor(0.75, device='cuda:0')", {"test_acc": 0.75}),
    # several pairs, counters and labels
    ("loss: 0.31 acc: 0.9", {"loss": 0.31, "acc": 0.9}),
    ("epoch=3 val_loss=0.31", {"epoch": 3, "val_loss": 0.31}),
    ("epoch:1,loss:0.3,acc:0.5", {"epoch": 1, "loss": 0.3, "acc": 0.5}),
    ("step 250: train loss 1.9, val loss 2.0", {"step": 250, "train loss": 1.9, "val loss": 2.0}),
    ("iter 10: loss 3.1, time 20ms, mfu -100.00%", {"iter": 10, "loss": 3.1, "mfu": -100}),
    ("Epoch 3 | val_loss: 0.31 | acc 0.9", {"Epoch": 3, "val_loss": 0.31, "acc": 0.9}),
    ("Epoch [3/10], Step [100/600], Loss: 0.2531", {"Loss": 0.2531}),
    ("Epoch: 5, Val. Loss: 0.4 - Val. Acc: 88%", {"Epoch": 5, "Val. Loss": 0.4, "Val. Acc": 88}),
    ("Val loss: 0.31 at epoch 3", {"Val loss": 0.31, "at epoch": 3}),
    ("Loss: 0.000938 after 170 batches", {"Loss": 0.000938}),
    (
        "Test set: Average loss: 0.0312, Accuracy: 9800/10000 (98%)",
        {"Average loss": 0.0312, "Accuracy": 98},
    ),
    ("Accuracy: 9800/10000", {"Accuracy": 0.98}),
    (
        "Accuracy of the network on the 10000 test images: 54 %",
        {"Accuracy of the network on the 10000 test images": 54},
    ),
    (
        "| epoch   1 |   200/ 2983 batches | lr 20.00 | ms/batch 15.5 | loss  7.63 | ppl  2061.4",
        {"epoch": 1, "lr": 20, "ms/batch": 15.5, "loss": 7.63, "ppl": 2061.4},
    ),
    (
        "| end of epoch   1 | time: 12.34s | valid loss  5.31 | valid ppl   202.10",
        {"end of epoch": 1, "valid loss": 5.31, "valid ppl": 202.1},
    ),
    (
        "step    1/100 | loss 4.5 (+nanz)| norm 1.2 (+nanz)| lr 3.00e-04 | 100.00 ms",
        {"step": 0.01, "loss": 4.5, "norm": 1.2, "lr": 3e-4},
    ),
    ("step:1750/1750 val_loss:3.2782 train_time:212345ms", {"step": 1, "val_loss": 3.2782}),
    ("[0]\ttrain-rmse:0.5\teval-rmse:0.4", {"train-rmse": 0.5, "eval-rmse": 0.4}),
    ("[10]\ttraining's l2: 0.3\tvalid_1's l2: 0.2", {"training's l2": 0.3, "valid_1's l2": 0.2}),
    (
        "Epoch: [0][10/100]\tTime 0.1 (0.2)\tLoss 6.9 (6.95)\tAcc@1 0.3 ( 0.2)",
        {"Time": 0.1, "Loss": 6.9, "Acc@1": 0.3},
    ),
    (" * Acc@1 75.332 Acc@5 92.1", {"Acc@1": 75.332, "Acc@5": 92.1}),
    ("| val loss | 0.31 |", {"val loss": 0.31}),
    ("│         test_acc          │    0.977100     │", {"test_acc": 0.9771}),
    # JSON and Python's dicts
    ('{"eval": {"loss": 0.3, "acc": [0.5, 0.6]}, "done": true}', {"eval.loss": 0.3, "eval.acc": 0.6}),
    ("{'loss': 0.31, 'learning_rate': 5e-05, 'epoch': 1.0}", {"loss": 0.31, "learning_rate": 5e-5, "epoch": 1}),
    ("{'eval_loss': '0.25', 'eval_f1': np.float64(0.5)}", {"eval_loss": 0.25, "eval_f1": 0.5}),
    # logs
    ("2024-01-01 10:00:00,123 INFO root: val_loss=0.3", {"val_loss": 0.3}),
    ("[2024-01-01 10:00:00,123][train][INFO] - val_loss: 0.3", {"val_loss": 0.3}),
    ("01/31/2024 10:00:00 - INFO - __main__ -   eval_loss = 0.31", {"eval_loss": 0.31}),
    ("[INFO] val_loss: 0.3", {"val_loss": 0.3}),
    ("INFO:root:val_loss: 0.3", {"val_loss": 0.3}),
    ("I0131 10:00:00.123456 123 train.py:7] val loss 0.3", {"val loss": 0.3}),
    ("\x1b[32mval_loss\x1b[0m: \x1b[1m0.25\x1b[0m", {"val_loss": 0.25}),
    # bars
    (f"\r{BAR[:30]}\r{BAR}", {}),
    (f"Epoch 1: {BAR}", {"Epoch": 1}),
    (f"{BAR}\rval_loss: 0.3", {"val_loss": 0.3}),
    ("938/938 ━━━━━━━━━━━━ 2s 2ms/step - loss: 0.3 - val_loss: 0.2", {"loss": 0.3, "val_loss": 0.2}),
    ("938/938 [==============================] - 2s 2ms/step - loss: 0.3", {"loss": 0.3}),
    ("120it [00:03, 40.0it/s, loss=0.2]", {}),
    # numbers with commas
    ("perplexity: 1,512.25", {"perplexity": 1512.25}),
    ("params: 1,234,567", {"params": 1234567}),
    ("perplexity: 1,512", {}),
    ("bleu 98,5", {}),
    ("Accuracy: 1,234/10,000 (12%)", {"Accuracy": 12}),
    ("score: 1,234/10,000", {}),
    ("val loss: \u22120.3", {"val loss": -0.3}),
    # numbers that are wrapped, or have a name with numbers in it
    ("mAP@0.5 = 0.41", {"mAP@0.5": 0.41}),
    ("mAP@0.5:0.95 = 0.31", {"mAP@0.5:0.95": 0.31}),
    ("val_loss: [0.31]", {"val_loss": 0.31}),
    ("val_loss: (0.31,)", {"val_loss": 0.31}),
    ("val_loss: [0.31, 0.30]", {}),
    ("val_loss: array(0.31, dtype=float32)", {"val_loss": 0.31}),
    ("val_loss 0.31 (best 0.30)", {"val_loss": 0.31, "best": 0.3}),
    ("loss 0.31 | ppl 4.2", {"loss": 0.31, "ppl": 4.2}),
    ("test final score: 2/500 = 0.40% correct", {"test final score": 0.4}),
    ("[val] loss: 0.31", {"val loss": 0.31}),
    ("Validation: loss=0.31, acc=91.2%", {"Validation loss": 0.31, "Validation acc": 91.2}),
    ("AP @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.385", {}),
    # what is no number of a name
    ("Loaded 60000 images from 3 files", {}),
    ("Epoch 3: val_loss improved from 0.51 to 0.42, saving model to x.h5", {}),
    ("val_bpb: 0.99 bits", {}),
    ("loss: 0.3 0.4", {}),
    ("loss nan, acc inf", {}),
    ("Vocab size: 8,192", {}),
    ("time: 00:12:05", {}),
    ("https://example.org/a?b", {}),
    ("3 4 5", {}),
]


@pytest.mark.parametrize(("line", "numbers"), LINES, ids=[line[:40] for line, _ in LINES])
def test_a_line_gives_its_names_and_numbers(line: str, numbers: dict[str, float]) -> None:
    found = list(readings(f"starting\n{line}\n".encode()))
    assert {reading.name: reading.number for reading in found if reading.number is not None} == numbers
    assert {reading.line for reading in found} <= {2}


def test_tables_and_documents_by_the_ending_of_their_file() -> None:
    lightning = b"epoch,step,train_loss,val_loss\n0,9,0.5,\n0,9,,0.4\nepoch,step,train_loss,val_loss\n1,19,,0.3\n"
    assert [(one.line, one.number) for one in readings(lightning, "m.csv") if one.name == "val_loss"] == [
        (3, 0.4),
        (5, 0.3),
    ]
    semicolons = b'epoch;"val loss"\r\n1;0,5\r\n'
    assert [one.text for one in readings(semicolons, "m.csv") if one.name == "val loss"] == ["0,5"]
    assert [one.number for one in readings(b"a\tb\n1\t2\n", "m.tsv")] == [1, 2]
    assert [one.number for one in readings(b"loss: 1\n\nloss: 2\n", "m.csv")] == [1, 2], "no table at all"
    lines = b'{"step": 1, "val": {"loss": 0.5}}\nnot json\n{"val": {"loss": 0.4}}\n'
    assert [one.number for one in readings(lines, "m.jsonl") if one.name == "val.loss"] == [0.5, 0.4]
    history = b'{"val_loss": [0.5, 0.4], "model": "cnn", "ok": true, "none": null, "x": NaN}'
    found = [(one.name, one.number) for one in readings(history, "out.json")]
    assert found == [("val_loss", 0.5), ("val_loss", 0.4), ("model", None), ("x", None)]
    assert list(readings(b"{", "out.json")) == []


@pytest.mark.parametrize(
    ("text", "decimals"),
    [
        ("0.0312", 4),
        ("98%", 0),
        ("98.25%", 2),
        ("3.00e-04", 6),
        ("9800/10000", 4),
        ("9/10 (90.0%)", 1),
        ("1,512.25", 2),
        ("7", 0),
    ],
)
def test_decimals_are_those_that_were_printed(text: str, decimals: int) -> None:
    assert Reading("n", text, 1).decimals == decimals


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("98,5", "98,5 has a comma; write 98.5 with a point"),
        ("1,512", "1,512 has a comma; write 1.512 or 1512, whichever is meant"),
        ("inf", "inf is not a finite number"),
        ("20ms", "'20ms' is not a number; write the number alone, such as 0.9979, or say where it stands"),
    ],
)
def test_a_malformed_number_comes_with_an_advice(text: str, said: str) -> None:
    reading = Reading("n", text, 1)
    assert reading.number is None and said in reading.complaint
    assert reading.not_finite == (text == "inf")


# series and proposals

NANOGPT = "number of parameters: 10.65M\n" + "".join(
    f"step {250 * n}: train loss {2 - n / 10:.4f}, val loss {2.1 - n / 20:.4f}\niter {250 * n}: loss 1.{n}, time 20ms\n"
    for n in range(5)
)


def test_a_series_has_its_first_and_last_number() -> None:
    rows = {row.name: row for row in series(readings(NANOGPT.encode()))}
    assert list(rows) == ["step", "train loss", "val loss", "iter", "loss"]
    val = rows["val loss"]
    assert (val.count, val.first, val.last, val.decimals, val.ends) == (5, 2.1, 1.9, 4, True)
    early = series(readings(b"a: 1\n" + b"b: 2\n" * 200))
    assert [(row.name, row.ends) for row in early] == [("a", False), ("b", True)]
    assert math.isnan(series(readings(b"a: 1\na: nan\n"))[0].last)


def test_lines_of_a_name_alone_count_before_other_forms_of_it() -> None:
    (row,) = [row for row in series(readings(b"loss: 3\nepoch 1 | loss 2\n")) if row.name == "loss"]
    assert (row.count, row.last) == (1, 3.0)
    (row,) = [row for row in series(readings(b"loss: see below\nepoch 1 | loss 2\n")) if row.name == "loss"]
    assert row.last == 2.0


KERAS = """\
Epoch 1/2
10/10 [==============================] - 1s 3ms/step - loss: 0.4 - accuracy: 0.8 - val_accuracy: 0.87 - val_loss: 0.35
Epoch 2/2
10/10 ━━━━━━━━━━━━━━━━━━━━ 0s 3ms/step - loss: 0.2 - accuracy: 0.9 - val_accuracy: 0.88 - val_loss: 0.31
"""
MNIST = """\
Train Epoch: 1 [0/60000 (0%)]\tLoss: 2.3
Train Epoch: 1 [59520/60000 (99%)]\tLoss: 0.012

Test set: Average loss: 0.0312, Accuracy: 9800/10000 (98%)
"""
TRANSFER_LEARNING = """\
Epoch 0/24
----------
train Loss: 0.5 Acc: 0.7
val Loss: 0.2 Acc: 0.94
Training complete in 1m 2s
Best val Acc: 0.943137
"""
FASTAI = """\
epoch     train_loss  valid_loss  accuracy  time
0         0.512345    0.312345    0.912345  00:12
1         0.412345    0.302345    0.922345  00:12
"""
WANDB = """\
wandb: Run history:
wandb:   val/loss █▅▃▁
wandb: Run summary:
wandb:      epoch 3
wandb: train/loss 0.2
wandb:   val/loss 0.31
wandb: Synced 5 W&B file(s), 0 media file(s) and 0 artifact file(s)
"""
LIGHTNING = """\
Epoch 2: 100%|██████████| 10/10 [00:01<00:00,  9.1it/s, v_num=3, train_loss=0.5]
┃        Test metric        ┃       DataLoader 0        ┃
│         test_acc          │           0.93            │
"""
HF = """\
{'loss': 0.7, 'grad_norm': 1.2, 'learning_rate': 2e-05, 'epoch': 0.5}
{'eval_loss': 0.31, 'eval_accuracy': 0.91, 'eval_runtime': 1.2, 'eval_samples_per_second': 812.4, 'epoch': 1.0}
{'train_runtime': 12.3, 'train_samples_per_second': 24.1, 'train_loss': 0.5, 'epoch': 1.0}
"""
COCO = " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.385\n"


@pytest.mark.parametrize(
    ("printed", "best"),
    [
        (NANOGPT, ["val loss"]),
        ("Epoch 1, train_loss: 0.5, lr: 0.1, time: 3\n", ["train_loss"]),
        ("test_acc: 0.9\nval_acc: 0.8\nloss: 1\n", ["val_acc", "test_acc", "loss"]),
        ("device: cuda:0\npid: 33\nseed: 7\nnum_params: 300\ntokens/s: 5.5\nseconds: 3\nid=4\n", []),
        ("epoch_loss: 0.5\nsharpness: 3\n", ["epoch_loss", "sharpness"]),
        (f"{BAR}\nlearning_rate: 0.1\nval_time: 3\nmax_memory: 2\n", []),
        (KERAS, ["val_accuracy", "val_loss"]),
        (MNIST, ["Average loss", "Accuracy"]),
        (TRANSFER_LEARNING, ["val Loss", "Best val Acc"]),
        (f"Train: loss=0.2, acc=99%\nValidation: loss=0.3, acc=91%\n{BAR}\n", ["Validation loss", "Validation acc"]),
        ("train final score: 96/9500 = 1.01% correct\ntest final score: 2/500 = 0.40% correct\n", ["test final score"]),
        ("[10]\ttraining's auc: 0.99\tvalid_1's auc: 0.91\n", ["valid_1's auc"]),
        ("[10]\ttrain-rmse:0.2\tvalidation-rmse:0.31\n", ["validation-rmse"]),
        (FASTAI, ["valid_loss", "accuracy"]),
        (WANDB, ["val/loss"]),
        (LIGHTNING, ["test_acc"]),
        (HF, ["eval_loss", "eval_accuracy"]),
        ("  n_head: 2\n  embd_pdrop: 0.1\n" + "step 1 loss 2.0\n" * 20, ["loss"]),
        (COCO, []),
    ],
)
def test_what_could_decide_is_proposed_best_first(printed: str, best: list[str]) -> None:
    assert [row.name for row in proposals(series(readings(printed.encode())))] == best


# hostile output


@pytest.mark.parametrize(
    "piece",
    [
        "a ",
        "1 ",
        "(",
        "[",
        "% |",
        "1%|",
        "a:",
        "= ",
        " - ",
        "1/ ",
        "\x1b[",
        "\x1b]",
        "'",
        "tensor(",
        "{",
        '{"a":',
        "█",
        "INFO ",
    ],
)
def test_a_long_line_costs_no_more_than_its_length(piece: str) -> None:
    def seconds(characters: int) -> float:
        text = f"loss: {piece * (characters // len(piece))}x\n".encode()
        started = time.process_time()
        for _ in range(5):
            list(readings(text))
        return time.process_time() - started

    # A time that grows with the square would be 64 times as long; lines beyond the limit are not read at all.
    assert seconds(32_000) < 40 * (seconds(4_000) + 0.002)


def test_of_a_long_line_the_beginning_is_read_and_of_a_huge_one_nothing() -> None:
    line = "val loss 1," + " x" * line_forms.CHARACTERS + ", acc 2\n"
    assert [reading.name for reading in readings(line.encode())] == ["val loss"]
    huge = b"loss: 1" + b" " * LINE_BYTES + b"\nloss: 2\n"
    assert [(reading.line, reading.number) for reading in readings(huge)] == [(2, 2.0)]


def test_what_is_kept_of_thousands_of_names_is_bounded() -> None:
    content = b"".join(b"n%d=%d\n" % (number, number) for number in range(3 * NAMES))
    rows = series(readings(b"val_loss=0\n" + content + b"val_loss=1\n"))
    assert len(rows) == NAMES and rows[-1].name == "val_loss"
    assert len(list(line_forms.pairs("a=1 " * 900))) == line_forms.PAIRS
    deep = b'{"a":' * 30_000 + b"1" + b"}" * 30_000
    assert list(readings(deep, "x.json")) == []
    assert len(list(readings(b"[" + b"1," * 200_000 + b"1]", "x.json"))) == 0, "a list has no name"


@given(st.binary(max_size=300), st.sampled_from(["stdout", "a.csv", "a.json", "a.jsonl"]))
def test_arbitrary_bytes_never_raise(content: bytes, source: str) -> None:
    rows = series(readings(content, source))
    assert all(row.count and row.name for row in rows)
    list(readings(b"loss: " + content, source))


# the metric that decides


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    for name in ("logs", "train"):
        (tmp_path / name).mkdir()
    return tmp_path


def read(attempt: Path, content: str, name: str, source: str = "stdout", **primary: str) -> object:
    path, _ = metrics.place(attempt, source)
    path.write_text(content)
    return metrics.read(attempt, source, [name], None, Primary(name, **primary))  # type: ignore[arg-type]


def test_a_printed_name_decides_and_of_other_names_the_old_form_alone_is_recorded(attempt: Path) -> None:
    assert read(attempt, NANOGPT + "steps: 3\nEpoch: 1/10\n", "val loss") == {"steps": 3.0, "val loss": 1.9}
    assert read(attempt, "loss: 3\nepoch 1 | loss 2\n", "loss") == {"loss": 3.0}
    found = read(attempt, "val loss 2\nval loss: 3 4\n", "val loss")
    assert isinstance(found, Problem) and "line 2: val loss: '3 4' is not a number" in found.message


OLD = re.compile(r"\s*([A-Za-z_][^\s:]{0,99})\s*:\s*(\S.*?)\s*")
NAMES_AND_NUMBERS = ["loss", "acc", ": ", ":", "=", " ", "0.3", "1e-3", "98%", "1,512.25", "n/a", "epoch 1 | ", ", "]
PIECES = st.sampled_from(
    [*NAMES_AND_NUMBERS, "(best)", "\r", "\n", "\n", "INFO ", "[INFO] ", "{", "}", "'", '"', "\x1b[3m", "\x85", "nan"]
)


@given(st.lists(PIECES, max_size=30))
def test_what_was_read_before_there_were_other_forms_is_read_the_same(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "logs").mkdir(exist_ok=True)
    text = "".join(pieces)
    (folder / "logs" / "train.out").write_bytes(text.encode())
    old = {}
    for line in text.split("\n"):
        match = OLD.fullmatch(line.rstrip("\r").rpartition("\r")[2])
        if match:
            old.pop(match[1], None)
            old[match[1]] = match[2]
    plain = {name: float(value) for name, value in old.items() if re.fullmatch(r"[\d.]+(e-3)?", value)}
    for required in [], [name for name in ("loss", "acc") if name in plain]:
        assert metrics.read(folder, "stdout", required) == plain


@pytest.mark.parametrize(("reduce", "number"), [("last", 3.0), ("min", 1.0), ("max", 5.0)])
def test_reduce_says_which_of_several_numbers_counts(attempt: Path, reduce: str, number: float) -> None:
    text = "val loss 5\nval loss 1\nval loss nan\nval loss 3\n"
    assert read(attempt, text, "val loss", reduce=reduce) == {"val loss": number}
    assert read(attempt, '{"val": [5, 1, 3]}', "val", "a.json", reduce=reduce) == {"val": number}
    assert read(attempt, "val,x\n5,1\n1,1\n3,1\n", "val", "a.csv", reduce=reduce) == {"val": number, "x": 1.0}


def test_a_malformed_number_is_no_extreme_and_nan_alone_is_a_divergence(attempt: Path) -> None:
    found = read(attempt, "loss 5\nloss 1,5\nloss 3\n", "loss", reduce="min")
    assert isinstance(found, Problem) and "line 2: loss: 1,5 has a comma" in found.message
    (attempt / "logs" / "train.out").write_text("val loss nan\nval loss inf\n")
    found = metrics.read(attempt, "stdout", ["val loss"], "val loss", Primary("val loss", "min"))
    assert isinstance(found, dict) and math.isnan(found["val loss"])


def test_a_pattern_finds_a_number_without_a_name(attempt: Path) -> None:
    text = "we got 0.5 bits (first)\n\x1b[1mwe got 0.25 bits\x1b[0m (then)\nloss: 3\n"
    assert read(attempt, text, "bits", pattern=r"got ([\d.]+) bits") == {"loss": 3.0, "bits": 0.25}
    assert read(attempt, text, "loss", pattern=r"got ([\d.]+) bits", reduce="max") == {"loss": 0.5}
    bar = "\r 10%|█   | 1/10 [00:01<00:09, val_loss=0.4]\r100%|████| 10/10 [00:10<00:00, val_loss=0.2]\n"
    assert read(attempt, bar, "val_loss", "stderr", pattern=r"val_loss=([\d.]+)") == {"val_loss": 0.2}
    missing = read(attempt, text, "bits", pattern="never ([0-9]+)")
    assert (
        isinstance(missing, Problem)
        and "bits is not in it; it has to be, in the form a line that train.pattern" in missing.message
    )


def test_a_slow_pattern_is_given_up(attempt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "PATTERN_SECONDS", -1.0)
    found = read(attempt, "x 1\n", "x", pattern="x ([0-9])")
    assert isinstance(found, Problem) and "train.pattern took" in found.message


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("loss [0-9", "is no regular expression"),
        ("loss [0-9]+", "has 0 groups"),
        ("(loss) ([0-9]+)", "has 2 groups"),
        ("((?:a+)+)b", "could take for ever"),
        ("((?:a|aa)+)b", "could take for ever"),
        ("(?:[a-z]*x){2,}(a)", "could take for ever"),
        (".*.*.*.*(a)", "could take for ever"),
        ("(" + "a" * 400 + ")", "more than the 300"),
    ],
)
def test_a_pattern_that_cannot_work_is_refused_in_one_line(pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match="pattern: ") as caught:
        refuse_pattern(pattern)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    metric = {"primary": "loss", "direction": "minimize", "success_delta": 0.1}
    with pytest.raises(RecordError, match="pattern"):
        Config.from_value({"metric": metric, "train": {"command": "x", "metrics": "stdout", "pattern": pattern}}, "c")


@pytest.mark.parametrize(
    "pattern", [r"val loss\s*[:=]?\s*([-+]?\d+\.?\d*(?:[eE][-+]?\d+)?)", r"got ([\d.]+).* in \(.*\)", "[(+*]([0-9])"]
)
def test_an_honest_pattern_is_accepted(pattern: str) -> None:
    refuse_pattern(pattern)


def test_other_files_take_no_pattern() -> None:
    metric = {"primary": "loss", "direction": "minimize", "success_delta": 0.1}
    with pytest.raises(RecordError, match=r"pattern: m.csv is no text"):
        Config.from_value({"metric": metric, "train": {"command": "x", "metrics": "m.csv", "pattern": "(a)"}}, "c")


def test_the_content_key_knows_how_the_number_is_chosen() -> None:
    metric = {"primary": "val loss", "direction": "minimize", "success_delta": 0.1}

    def identity(**train: str) -> list[object]:
        config = Config.from_value({"metric": metric, "train": {"command": "x", **train}}, "c")
        return list(TrialCommands.of("x", config).identity({}))

    assert identity() == identity(reduce="last") == ["x", ""]
    assert identity(reduce="min") == ["x", "", "reduce min"]
    assert identity(metrics="stdout", pattern="(a)") == ["x", "", "metrics stdout", "pattern (a)"]


def test_a_nested_document_gives_its_numbers_by_their_path(attempt: Path) -> None:
    nested = '{"eval": {"loss": 0.5}, "model": "cnn"}'
    assert read(attempt, nested, "eval.loss", "m.json") == {"eval.loss": 0.5}
    missing = read(attempt, nested, "loss", "m.json")
    assert isinstance(missing, Problem) and "loss is not in it" in missing.message
    text = read(attempt, '{"eval": {"loss": "low"}}', "eval.loss", "m.json")
    assert isinstance(text, Problem)


def test_a_target_may_name_a_metric_with_blanks() -> None:
    config = Config.from_value(
        {"metric": {"primary": "val loss", "direction": "minimize", "success_delta": 0.1, "report": ["Acc@1"]}}, "c"
    )
    assert target.parse("val loss <= 0.3", config) == ("val loss", "<=", 0.3)
    assert target.parse("Acc@1>=75", config) == ("Acc@1", ">=", 75.0)


REPORT = b"""\
              precision    recall  f1-score   support

           0       0.98      0.99      0.99        88
    accuracy                           0.97       899
   macro avg       0.97      0.96      0.95       899
"""


def test_a_table_without_lines_is_read_by_its_header() -> None:
    assert [one.number for one in readings(FASTAI.encode()) if one.name == "valid_loss"] == [0.312345, 0.302345]
    numbers = {one.name: one.number for one in readings(REPORT) if one.number is not None}
    assert numbers["macro avg f1-score"] == 0.95 and "precision" not in numbers
    prose = b"Starting training\nepoch 1 0.5 0.4\nstep 3 loss 0.5 0.4\n" + b"...\n" * 9 + b"0.3 0.2\n"
    assert [one.name for one in readings(prose) if one.number is not None] == ["step"]
    found = list(read_lines(FASTAI.encode().split(b"\n"), "stdout", ["accuracy"]))
    assert [one.number for one in found if one.name == "accuracy"] == [0.912345, 0.922345], (
        "a trial finds the column whose rows do not name it"
    )


def test_what_was_meant_as_a_number_and_is_none_has_its_complaint() -> None:
    text = b"a: 1,512\nb: nan\nc: 0.97 899\nd: 3\nd: nan\ne: 3\ne: 1,512\nf: 1,512\nf: 3\ng: word\n"
    said = complaints(readings(text))
    assert list(said) == ["a", "b", "c", "e"]
    assert "write 1.512 or 1512, whichever is meant" in said["a"] and "--metric-pattern" in said["c"]
    assert [row.name for row in series(readings(text))] == ["d", "f"], "a trial would refuse the others"
