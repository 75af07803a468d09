"""Forms of predictions that mean the same become one; every other stays as it is, and is refused with a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autolab.trials.evaluator import Problem, check_predictions
from autolab.trials.prediction_form import settle_form

SAME = {
    "one dimension": np.arange(5, dtype=np.float32),
    "float64": np.linspace(-1, 1, 15).reshape(5, 3),
    "float16": np.linspace(-1, 1, 15, dtype=np.float16).reshape(5, 3),
    "class numbers": np.array([3, 0, 9, 2, 1], dtype=np.int64),
    "small integers": np.arange(15, dtype=np.uint8).reshape(5, 3),
    "booleans": np.array([True, False, True, True, False]),
    "big-endian": np.arange(15, dtype=">f4").reshape(5, 3),
    "Fortran's order of float64": np.asfortranarray(np.arange(15.0).reshape(5, 3)),
    "not finite": np.array([[np.nan, np.inf], [1.0, -np.inf]]),
    "sequences": np.arange(24, dtype=np.int16).reshape(2, 3, 4),
}


@pytest.mark.parametrize("name", SAME)
def test_what_means_the_same_is_float32_with_two_dimensions(tmp_path: Path, name: str) -> None:
    path, array = tmp_path / "predictions.npy", SAME[name]
    np.save(path, array)
    settle_form(path)
    rewritten = np.load(path)
    expected = array.reshape(len(array), -1) if array.ndim == 1 else array
    assert rewritten.dtype.str == "<f4" and rewritten.flags.c_contiguous
    np.testing.assert_array_equal(rewritten, expected.astype(np.float32))
    sha256 = check_predictions(path, len(array))
    assert isinstance(sha256, str)
    settle_form(path)
    assert check_predictions(path, None) == sha256 and list(tmp_path.iterdir()) == [path]


def test_float32_stays_byte_for_byte_in_either_order(tmp_path: Path) -> None:
    for order in ("C", "F"):
        path = tmp_path / f"{order}.npy"
        np.save(path, np.ones((5, 3), np.float32, order=order))  # type: ignore[call-overload]
        before = path.read_bytes()
        settle_form(path)
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("array", "way_out"),
    [
        (np.array([[2**24 + 1]]), "integers above 16,777,216"),
        (np.array([[1e300, 0.0]]), "beyond the range of float32"),
        (np.array([[1j]]), "give real ones"),
        (np.array([["cat"]]), "give a number for each class"),
        (np.array([[1.0]], dtype=np.longdouble), "dtype=numpy.float32"),
        (np.array([[None]]), "unpickled"),
        (np.zeros((0, 3)), "no empty one"),
        (np.float64(3), "two dimensions or more"),
    ],
)
def test_what_means_something_else_is_refused_with_a_way_out(tmp_path: Path, array: Any, way_out: str) -> None:
    path = tmp_path / "predictions.npy"
    np.save(path, array, allow_pickle=True)
    before = path.read_bytes()
    settle_form(path)
    problem = check_predictions(path, None)
    assert isinstance(problem, Problem) and way_out in problem.message and path.read_bytes() == before


def test_what_is_no_file_of_predictions_is_left_alone(tmp_path: Path) -> None:
    cut, link, text = tmp_path / "cut.npy", tmp_path / "link.npy", tmp_path / "text.npy"
    np.save(cut, np.zeros(5))
    cut.write_bytes(cut.read_bytes()[:-1])
    text.write_text("3.5\n")
    link.symlink_to(text)
    for path in (cut, link, text, tmp_path / "missing.npy"):
        settle_form(path)
        assert isinstance(check_predictions(path, None), Problem)
    assert text.read_text() == "3.5\n" and link.is_symlink() and cut.stat().st_size == 128 + 5 * 8 - 1


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    path, theirs = tmp_path / "predictions.npy", tmp_path / "theirs"
    np.save(path, np.arange(5))
    theirs.write_text("theirs")
    (tmp_path / ".predictions.npy.autolab-tmp").symlink_to(theirs)
    settle_form(path)
    assert theirs.read_text() == "theirs" and np.load(path).shape == (5, 1)
