"""Artifacts of hostile trials are refused in one line; the evaluator runs apart, verified, and is over at the end."""

from __future__ import annotations

import json
import os
import py_compile
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolab import files
from autolab.errors import LabError
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.trials import evaluator
from autolab.trials.evaluator import FrozenEvaluator, Problem, check_predictions, read_metrics

PYTHON = Path(sys.executable)


def refused(found: object, *words: str) -> None:
    assert isinstance(found, Problem)
    assert found.outcome is TrialOutcome.INVALID_ARTIFACT
    assert "\n" not in found.message
    for word in words:
        assert word in found.message


# metrics


def metrics(folder: Path, text: str | bytes) -> dict[str, float] | Problem:
    path = folder / "metrics.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_metrics(path)


def test_a_flat_object_of_numbers_is_read_as_floats(tmp_path: Path) -> None:
    found = metrics(tmp_path, '{"val_loss": 0.113, "epochs": 3}')
    assert found == {"val_loss": 0.113, "epochs": 3.0}
    assert isinstance(found, dict)
    assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[0.1]", "one flat object"),
        ("0.1", "one flat object"),
        ("{}", "one flat object"),
        ('{"a": NaN}', "NaN"),
        ('{"a": Infinity}', "Infinity"),
        ('{"a": 1e999}', "finite number"),
        ('{"a": 1e150}', "a: must be a finite number, got 1e+150"),
        ('{"a": 1' + "0" * 400 + "}", "a: must be a finite number"),
        ('{"a": 1' + "0" * 6000 + "}", "metrics.json"),
        ('{"a": "0.1"}', "a: must be a number"),
        ('{"a": true}', "a: must be a number"),
        ('{"a": null}', "a: must be a number"),
        ('{"a": {"b": 1}}', "a: must be a number"),
        ('{"a": 1, "a": 2}', "given twice"),
        ("[" * 30000, "metrics.json"),
        (json.dumps({str(n): n for n in range(201)}), "201 keys"),
        (json.dumps({"a" * 70000: 1}), "more than the 65536 allowed"),
    ],
    ids=lambda value: str(value)[:25],
)
def test_anything_else_is_an_invalid_artifact(tmp_path: Path, text: str | bytes, words: str) -> None:
    refused(metrics(tmp_path, text), "metrics.json", words)


def test_a_key_that_is_not_utf8_is_shown(tmp_path: Path) -> None:
    assert metrics(tmp_path, b'{"a\xff": 1, "\\ud83d": 3}') == {"a\\xff": 1, "\\ud83d": 3}


@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_raise(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    found = metrics(folder, content)
    assert isinstance(found, dict | Problem)
    (folder / "predictions.npy").write_bytes(b"\x93NUMPY" + content)
    assert isinstance(check_predictions(folder / "predictions.npy", None), str | Problem)


@pytest.mark.parametrize("read", [read_metrics, lambda path: check_predictions(path, None)])
def test_only_a_regular_file_is_opened(tmp_path: Path, read: Any) -> None:
    real = tmp_path / "real"
    real.write_text('{"a": 1}')
    link, pipe, folder = tmp_path / "link", tmp_path / "pipe", tmp_path / "folder"
    link.symlink_to(real)
    os.mkfifo(pipe)
    folder.mkdir()
    refused(read(link), "link: a link")
    refused(read(pipe), "pipe: not a regular file")
    refused(read(folder), "folder: not a regular file")
    refused(read(tmp_path / "none"), "none: not found")


# predictions


def save(path: Path, array: np.ndarray[Any, Any]) -> Path:
    np.save(path, array, allow_pickle=False)
    return path


def test_float32_predictions_of_the_right_rows_give_their_hash(tmp_path: Path) -> None:
    path = save(tmp_path / "predictions.npy", np.zeros((5, 3), np.float32))
    assert check_predictions(path, 5) == files.sha256_of_file(path)
    assert check_predictions(path, None) == files.sha256_of_file(path)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((5, 3), np.float64), "must be float32"),
        (np.zeros((5, 3), ">f4"), "must be float32"),
        (np.zeros((5, 3), np.int32), "must be float32"),
        (np.zeros(5, np.float32), "two dimensions or more"),
        (np.zeros((0, 3), np.float32), "no empty one"),
        (np.zeros((4, 3), np.float32), "4 rows, but there are 5 inputs"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray[Any, Any], words: str) -> None:
    refused(check_predictions(save(tmp_path / "predictions.npy", array), 5), "predictions.npy: ", words)


def header(text: str, data: bytes = b"", version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode("latin-1") + data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a .npy file"),
        (b"PK\x03\x04 a zip of arrays", "not a .npy file"),
        (header("{'descr': '|O', 'shape': (5, 3)}", b"\x80\x04."), "must be float32"),
        (header("{'descr': '<f4', 'shape': (5, 3)}", b"0" * 59), "a float32 array of shape (5, 3) has"),
        (header("{'descr': '<f4', 'shape': (5, 3)}", b"0" * 61), "a float32 array of shape (5, 3) has"),
        (header("{'descr': '<f4', 'shape': (-5, -3)}", b"0" * 60), "two dimensions or more"),
        (header("{'descr': '<f4', 'shape': (5, True)}", b"0" * 20), "two dimensions or more"),
        (header("{'descr': '<f4', 'shape': (5, 1" + "0" * 3000 + ")}"), "bytes"),
        (header("{'descr': '<f4'}"), "header is not"),
        (header("__import__('os').abort()"), "header is not"),
        (header("(" * 4000), "header is not"),
        (header("-" * 4000 + "1"), "header is not"),
        (header("[1]"), "header is not"),
        (header("{}", version=2)[:9], "header"),
        (header("{'descr': '<f4', 'shape': (5, 3)}" + " " * 5000), "header of 5033 bytes"),
        (header("{}", version=3), "not a .npy file of version 1.0 or 2.0"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_crafted_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "predictions.npy"
    path.write_bytes(content)
    refused(check_predictions(path, 5), "predictions.npy: ", words)


@given(st.lists(st.integers(1, 6), min_size=2, max_size=4), st.booleans())
def test_whatever_numpy_saves_as_float32_is_accepted(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], fortran: bool
) -> None:
    array = np.zeros(shape, np.float32, order="F" if fortran else "C")
    path = save(tmp_path_factory.getbasetemp() / "p.npy", array)
    assert check_predictions(path, shape[0]) == files.sha256_of_file(path)


def test_a_file_over_the_limit_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "predictions.npy", np.zeros((5, 3), np.float32))
    monkeypatch.setattr(evaluator, "PREDICTIONS_BYTES", 100)
    refused(check_predictions(path, 5), "more than the 100 allowed")


# score

OPTIONS = """
import argparse, json, os, signal, subprocess, sys, time
parser = argparse.ArgumentParser()
for name in ("--predictions", "--labels", "--out"):
    parser.add_argument(name, required=True)
found = parser.parse_args()
"""
GOOD = OPTIONS + "json.dump({'val_loss': len(open(found.predictions).read()) / 2}, open(found.out, 'w'))\n"


class Bench:
    """An evaluator with its inputs, and where the score goes."""

    def __init__(self, root: Path, source: str = GOOD) -> None:
        self.evaluator, self.predictions, self.labels = root / "eval.py", root / "p.npy", root / "l.npy"
        self.folder = root / "score"
        self.evaluator.write_text(source)
        self.predictions.write_text("abcd")
        self.labels.write_text("l")
        self.sha256 = files.sha256_of_file(self.evaluator)

    def run(self, limit: float = 30) -> dict[str, float] | Problem:
        frozen = FrozenEvaluator(PYTHON, self.evaluator, self.sha256, limit)
        return frozen.score(self.predictions, self.labels, self.folder)


@pytest.mark.process
def test_the_evaluators_numbers_are_the_score(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.run() == {"val_loss": 2.0}
    assert json.loads((bench.folder / "score.json").read_text()) == {"val_loss": 2.0}


@pytest.mark.process
def test_an_earlier_score_is_made_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.folder.mkdir()
    (bench.folder / "score.json").write_text('{"val_loss": 99.0}')
    assert bench.run() == {"val_loss": 2.0}


@pytest.mark.process
def test_a_score_planted_as_a_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    bench = Bench(tmp_path)
    bench.folder.mkdir()
    (bench.folder / "score.json").symlink_to(victim)
    assert bench.run() == {"val_loss": 2.0}
    assert victim.read_text() == "untouched"


@pytest.mark.process
def test_nothing_of_our_environment_or_folder_reaches_the_evaluator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "sesame")
    # LC_CTYPE is what the interpreter itself sets for a C locale (PEP 538).
    source = OPTIONS + (
        "seen = [name for name in os.environ if name not in ('LC_CTYPE', '__CF_USER_TEXT_ENCODING')]\n"
        "here = os.getcwd() == os.path.dirname(found.out) and '' not in sys.path and os.getcwd() not in sys.path\n"
        "json.dump({'variables': len(seen), 'here': int(here), 'leader': int(os.getsid(0) == os.getpid()),\n"
        "           'input': len(sys.stdin.read())}, open(found.out, 'w'))\n"
    )
    assert Bench(tmp_path, source).run() == {"variables": 0.0, "here": 1.0, "leader": 1.0, "input": 0.0}


@pytest.mark.process
def test_byte_code_that_lies_beside_a_module_is_not_believed(tmp_path: Path) -> None:
    """A module of the evaluator's interpreter whose byte code somebody has exchanged: length and time fit."""
    module = tmp_path / "site" / "ruler.py"
    module.parent.mkdir()
    module.write_text("LENGTH = 9.0\n")
    py_compile.compile(str(module))
    times = module.stat()
    module.write_text("LENGTH = 2.0\n")
    os.utime(module, ns=(times.st_atime_ns, times.st_mtime_ns))
    look = f"import sys; sys.path.append({str(module.parent)!r})\nimport ruler\n"
    control = [sys.executable, "-I", "-B", "-c", f"{look}print(ruler.LENGTH)"]
    assert subprocess.run(control, capture_output=True, text=True, check=True).stdout == "9.0\n", "the poison works"
    source = OPTIONS + look + "json.dump({'m': ruler.LENGTH}, open(found.out, 'w'))\n"
    assert Bench(tmp_path, source).run() == {"m": 2.0}


@pytest.mark.process
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import sys; sys.exit('predictions: 3 rows are missing')", "p.npy: predictions: 3 rows are missing"),
        ("raise ValueError('shape')", "p.npy: ValueError: shape"),
        ("import sys; sys.exit(3)", "exit status 3 and said nothing"),
        ("import os; os.abort()", "killed by SIGABRT"),
        ("pass", "score.json: not found"),
        (OPTIONS + "open(found.out, 'w').write('{\"a\": NaN}')", "score.json: a: must be a finite number, got NaN"),
        (OPTIONS + "os.symlink('/etc/hostname', found.out)", "score.json: a link"),
    ],
)
def test_an_evaluator_that_refuses_or_breaks_makes_an_invalid_artifact(tmp_path: Path, source: str, words: str) -> None:
    refused(Bench(tmp_path, source).run(), words)


@pytest.mark.process
def test_a_failed_evaluator_leaves_no_score(tmp_path: Path) -> None:
    bench = Bench(tmp_path, GOOD + "sys.stdout.flush(); sys.exit(1)")
    refused(bench.run())
    assert not (bench.folder / "score.json").exists()


def test_a_changed_evaluator_is_tampered_and_not_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.evaluator.write_text(OPTIONS + "open(found.labels, 'w')")
    found = bench.run()
    assert isinstance(found, Problem)
    assert found.outcome is TrialOutcome.TAMPERED
    assert bench.labels.read_text() == "l"


@pytest.mark.process
def test_an_evaluator_changed_while_it_runs_is_tampered(tmp_path: Path) -> None:
    bench = Bench(tmp_path, GOOD + "open(__file__, 'a').write('#')")
    found = bench.run()
    assert isinstance(found, Problem)
    assert found.outcome is TrialOutcome.TAMPERED
    assert not (bench.folder / "score.json").exists()


@pytest.mark.process
@pytest.mark.parametrize("missing", ["evaluator", "labels"])
def test_what_the_lab_lacks_is_the_labs_error(tmp_path: Path, missing: str) -> None:
    bench = Bench(tmp_path)
    getattr(bench, missing).unlink()
    with pytest.raises(LabError, match=getattr(bench, missing).name):
        bench.run()


def test_a_missing_interpreter_is_the_labs_error(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(LabError, match="not found"):
        frozen = FrozenEvaluator(tmp_path / "python", bench.evaluator, bench.sha256, 5)
        frozen.score(bench.predictions, bench.labels, bench.folder)


@pytest.mark.process
def test_an_evaluator_that_hangs_is_over_at_the_limit(tmp_path: Path) -> None:
    bench = Bench(tmp_path, GOOD + "while True: pass")
    refused(bench.run(1), "p.npy: not scored within 1 s")
    assert not (bench.folder / "score.json").exists()


@pytest.mark.process
def test_the_last_thing_that_an_evaluator_says_is_the_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "print('reading'); raise ValueError('shape')")
    refused(bench.run(), "p.npy: ValueError: shape")
    assert (bench.folder / "score.log").read_text().startswith("reading\nTraceback")
