"""What a program prints is followed while it runs, and ends it once that is enough."""

from __future__ import annotations

import threading
from pathlib import Path

from autolab.adoption.output_watch import OutputWatch, Times, numbers
from autolab.adoption.seed_proof import first_watch
from autolab.lab.schemas.config import Config, Metric, Train
from autolab.trials.metrics import Primary

PATIENCE_S = 30.0


def test_numbers_are_read_once_their_line_is_whole(tmp_path: Path) -> None:
    ended = threading.Event()

    def due(times: Times) -> float | None:
        return 0.0 if len(times.get(("stdout", "val loss"), [])) >= 2 else None

    watch = OutputWatch(Primary("val loss"), due)
    watch.begin(tmp_path)
    watch.look(ended.set)
    with (tmp_path / "train.out").open("a") as log:
        for text, count in (("step 1: val lo", 0), ("ss 3.90\nstep 2: val loss 3.", 1), ("85\n", 2)):
            assert not ended.is_set()
            log.write(text)
            log.flush()
            watch.look(ended.set)
            assert len(watch.times.get(("stdout", "val loss"), [])) == count
    assert ended.wait(PATIENCE_S)


def test_a_watch_that_is_over_ends_nothing(tmp_path: Path) -> None:
    ended = threading.Event()
    watch = OutputWatch(Primary("val_loss"), lambda times: 1000.0)
    watch.begin(tmp_path)
    watch.look(ended.set)
    watch.end()
    assert not ended.is_set()


def test_a_pattern_finds_the_metric_as_trials_do() -> None:
    text = b"loss then was 3.90 of 4\nloss then was 3.85 of 4\n"
    found = numbers(text, "stdout", Primary("val", pattern=r"was ([\d.]+)"))
    assert list(found) == [("val", "3.90"), ("val", "3.85")]


def due_at(limit_s: float, times: Times, name: str = "val_loss") -> float | None:
    metric = Metric(primary=name, direction="minimize", success_delta=0.1)
    return first_watch(Config(metric=metric, train=Train(command="true")), limit_s).due(times)


def test_the_first_run_leaves_the_time_that_two_more_need_for_two_numbers() -> None:
    assert due_at(60, {("stdout", "val_loss"): [3.0, 10.0, 17.0]}) == 60 - 2 * 1.25 * 10 - 1
    assert due_at(60, {("stdout", "val_loss"): [3.0, 10.0], ("stdout", "other"): [1.0, 2.0]}) == 34
    assert due_at(60, {("stdout", "acc"): [2.0, 4.0]}, "unknown") == 60 - 2 * 1.25 * 4 - 1


def test_a_first_run_that_leaves_too_little_for_two_more_goes_on_to_its_limit() -> None:
    assert due_at(60, {("stdout", "val_loss"): [10.0, 20.0]}) is None
    assert due_at(60, {("stdout", "val_loss"): [1.0]}) is None
    assert due_at(60, {("stdout", "train_loss"): [1.0, 2.0]}) is None
