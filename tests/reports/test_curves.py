"""Histories of trainings, which anybody may have written: what is sound becomes curves, what is not costs a line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from autolab.lab.schemas.experiment import Trial
from autolab.reports import curves
from autolab.reports.curves import POINTS, Curve, gather

RUN = "it/run_0001"


def trial(name: str, arm: str = "a", **more: Any) -> Trial:
    value = {"trial": name, "arm": arm, "index": 0, "seed": 1, "attempt": 1, "commit": "c", "key": "k", "content": "c"}
    return Trial.from_value(value | {"outcome": "completed"} | more, "trial")


def place(root: Path, name: str) -> Path:
    path = root / "it" / "runs" / "run_0001" / "trials" / name / "a1" / "train" / "history.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def collect(root: Path, *histories: str | bytes | list[dict[str, Any]]) -> tuple[list[Curve], list[str]]:
    """Curves of one arm whose trials left these histories."""
    trials = []
    for number, history in enumerate(histories):
        text = history if isinstance(history, str | bytes) else "\n".join(json.dumps(row) for row in history)
        place(root, f"a-s{number}").write_bytes(text if isinstance(text, bytes) else text.encode())
        trials.append(trial(f"a-s{number}"))
    return gather(root, RUN, trials)


def at(found: list[Curve]) -> list[float]:
    return [point.at for point in found[0].points]


def test_epoch_is_the_axis_only_where_every_trial_gives_it_in_rising_order(tmp_path: Path) -> None:
    rows = [{"step": 5, "epoch": 1, "loss": 2.0}, {"step": 10, "epoch": 1, "loss": 1.0}]
    found, _ = collect(tmp_path, rows)
    assert (found[0].axis, at(found)) == ("step", [5.0, 10.0])
    found, _ = collect(tmp_path, [rows[0]])
    assert (found[0].axis, at(found)) == ("epoch", [1.0])
    found, _ = collect(tmp_path, [{"loss": 2.0}, {"loss": 1.0}], rows)
    assert (found[0].axis, at(found)) == ("line", [1.0, 2.0])


def test_seeds_that_stopped_early_leave_the_others_to_go_on(tmp_path: Path) -> None:
    rows = [{"epoch": float(e), "loss": 1.0 / e} for e in range(1, 5)]
    found, notes = collect(tmp_path, rows, rows[:2])
    assert [(point.at, point.mean.n) for point in found[0].points] == [(1, 2), (2, 2), (3, 1), (4, 1)]
    last = found[0].points[-1]
    assert (last.mean.mean, last.mean.low, last.least, last.most) == (0.25, None, 0.25, 0.25)
    assert notes == []


def test_words_flags_and_nulls_beside_the_numbers_do_no_harm(tmp_path: Path) -> None:
    found, notes = collect(
        tmp_path, [{"epoch": 1, "loss": 1, "phase": "warm", "best": True, "val": None, "seconds": 3}]
    )
    assert [curve.metric for curve in found] == ["loss"] and notes == []


def test_a_long_history_is_thinned_and_keeps_its_end(tmp_path: Path) -> None:
    rows = [{"step": n, "loss": float(n)} for n in range(1, 10 * POINTS + 8)]
    found, _ = collect(tmp_path, rows, rows)
    places = at(found)
    assert len(places) <= POINTS + 1 and places[-1] == rows[-1]["step"]
    assert all(point.mean.n == 2 for point in found[0].points)


@pytest.mark.parametrize(
    ("history", "why"),
    [
        ("", "empty"),
        (" \n\n", "empty"),
        ('{"epoch": 1, "loss": NaN}', "a number is not finite"),
        ('{"epoch": 1, "loss": -Infinity}', "a number is not finite"),
        ('{"epoch": 1, "loss": 1e999}', "a number is not finite"),
        ('{"epoch": 1, "loss": 1' + 400 * "0" + "}", "a number is not finite"),
        ('{"epoch": 1, "loss": 1' + 5000 * "0" + "}", "a line is not JSON"),
        ('{"epoch": 1, "loss": 0.5}\n{"epoch": 2, "lo', "a line is not JSON"),
        ("[" * 100_000, "a line is not JSON"),
        (b'{"loss": \xff\xfe}', "a line is not JSON"),
        (b"\x00\x01", "a line is not JSON"),
        ("[1, 2]", "a line is not an object"),
        (b"0" * (curves.HISTORY_BYTES + 1), "8388609 bytes, more than the 8388608 allowed"),
    ],
    ids=["empty", "blank", "nan", "inf", "1e999", "400", "5000", "torn", "deep", "bytes", "binary", "list", "huge"],
)  # fmt: skip
def test_a_hostile_history_costs_its_trial_and_one_line(tmp_path: Path, history: str | bytes, why: str) -> None:
    found, notes = collect(tmp_path, [{"epoch": 1, "loss": 1.0}], history)
    assert [point.mean.n for point in found[0].points] == [1]
    assert notes == [f"history.jsonl: {why}; the curves are without a-s1"]


def test_a_folder_and_a_pipe_are_not_waited_for(tmp_path: Path) -> None:
    place(tmp_path, "a-s0").mkdir()
    os.mkfifo(place(tmp_path, "a-s1"))
    found, notes = gather(tmp_path, RUN, [trial("a-s0"), trial("a-s1")])
    assert found == [] and notes == ["history.jsonl: not a regular file; the curves are without a-s0 and 1 more"]


@pytest.mark.parametrize("origin", ["x", "../../etc", "a/b/c/d", "it//a-s0", "it/../a-s0"])
def test_an_origin_that_names_no_trial_leads_nowhere(tmp_path: Path, origin: str) -> None:
    place(tmp_path, "a-s0").write_text('{"epoch": 1, "loss": 1.0}')
    assert gather(tmp_path, RUN, [trial("a-s0", reused_from=origin)]) == (
        [],
        ["history.jsonl: where it was measured first is not known; the curves are without a-s0"],
    )


def test_a_hundred_names_do_not_become_a_hundred_curves(tmp_path: Path) -> None:
    found, _ = collect(tmp_path, [{"epoch": 1} | {f"m{n:03d}": 1.0 for n in range(100)}])
    assert [curve.metric for curve in found] == [f"m{n:03d}" for n in range(curves.METRICS)]


def test_values_that_are_no_numbers_are_said_and_texts_that_never_are_one_are_not(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"step": 1, "loss": 2.0, "acc": "0.5", "phase": "train", "val": None},
        {"step": 2, "loss": "nan", "acc": 0.6, "phase": "val", "val": 0.1, "best": True},
        {"step": 3, "loss": 1.0, "best": 1},
    ]
    found, notes = collect(tmp_path, rows, rows)
    assert {curve.metric for curve in found} == {"loss", "acc", "val", "best"}
    without = "its curve is without them"
    assert notes == [
        f"history.jsonl: {name!r}: not a number in some lines of a-s0 and 1 more; {without}"
        for name in ("acc", "best", "loss")
    ]


def test_many_of_them_are_counted_and_so_are_metrics_that_are_not_drawn(tmp_path: Path) -> None:
    row = {f"m{number:02}": 1.0 for number in range(20)} | {f"x{number}\n": "1" for number in range(9)}
    found, notes = collect(tmp_path, [row])
    assert len(found) == curves.METRICS
    assert notes[-2:] == [
        "history.jsonl: 6 more names are not numbers in some lines",
        "history.jsonl: 20 metrics; the curves show the first 12 in the alphabet",
    ]
    assert len(notes) == curves.NOTED + 2 and all(note.isprintable() for note in notes)
