"""Points of a search and the changes that make them: for a method, for the settings of a repository, for constants."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import JsonValue

from autolab.ideas.response_surface import ResponseSurface
from autolab.ideas.searchers import NumericKnob, Point
from autolab.lab.schemas.config import Config
from autolab.researchers.offline.bench import Bench, Constants, find_bench
from autolab.researchers.offline.knobs import Knobs
from autolab.researchers.offline.scales import SettingScale
from autolab.researchers.offline.search_points import MOST_COST, SearchPoints

TEMPLATES = Path(__file__).resolve().parents[2] / "src" / "autolab" / "templates"
SCRIPT = """\
LEARNING = 3e-4  # of Adam
BATCH2 = 2
SHIFT_BY = -0.5
WIDE = 1_024
"""
SETTINGS = """\
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--optimizer", default="sgd", choices=["sgd", "adam", "lion"])
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--dropout", type=float, default=0.1)
parser.add_argument("--momentum", type=float, default=0.9)
parser.add_argument("--weight-decay", type=float, default=0.0)
parser.add_argument("--batch-size", type=int, default=128)
parser.add_argument("--n-head", type=int, default=12)
parser.add_argument("--n-embd", type=int, default=768)
parser.add_argument("--grad-clip", type=float, default=1)
parser.add_argument("--nesterov", type=bool, default=False)
args = parser.parse_args()
fit(args.optimizer, args.lr, args.dropout, args.momentum, args.weight_decay, args.batch_size, args.n_head, args.n_embd)
more(args.nesterov, args.grad_clip)
"""


def bench_of(script: str = "", template: str = "") -> Bench:
    files = {"train.py": script}
    if template:
        files["method.json"] = (TEMPLATES / template / "method.json").read_text()
        files["models/__init__.py"] = 'DEFAULT = "mlp"\n'
    metric = {"primary": "val_loss", "direction": "minimize", "success_delta": 0.01}
    config = Config.from_value({"metric": metric, "train": {"command": "python train.py"}}, "config.yaml")
    return find_bench(files.get, config, None)


def drawn(points: SearchPoints, count: int = 40, seed: int = 0) -> list[Point]:
    searcher = ResponseSurface(points.space, 1.0, seed)
    searcher.observe([points.space.base], [0.0])
    return searcher.propose(count)


BENCHES: dict[str, Callable[[], Bench]] = {
    "digits": lambda: bench_of(template="digits"),
    "cifar10": lambda: bench_of(template="cifar10"),
    "knobs": lambda: bench_of(SETTINGS),
    "constants": lambda: bench_of(SCRIPT),
}


@pytest.mark.parametrize("name", BENCHES)
def test_every_drawn_point_can_be_written_and_read_back(name: str) -> None:
    bench = BENCHES[name]()
    points = SearchPoints(bench)
    for point in drawn(points):
        changes = points.changes(point)
        assert bench.fits(changes)
        # The record holds changes as JSON: the code has to come from that alone.
        recorded = json.loads(json.dumps(changes))
        again = BENCHES[name]()
        assert again.write(recorded, "x") == bench.write(changes, "x")
        back = points.point(recorded)
        assert back is not None and points.changes(back) == changes
        idea = points.idea(recorded)
        assert idea is not None and idea.changes == changes


@pytest.mark.parametrize("name", BENCHES)
def test_the_base_is_no_change(name: str) -> None:
    points = SearchPoints(BENCHES[name]())
    assert points.changes(points.space.base) == {}
    assert points.point({}) == points.space.base
    assert points.idea({}) is None


# A method


def test_doses_and_kinds_of_one_change_exclude_each_other() -> None:
    space = SearchPoints(bench_of(template="digits")).space
    assert ("label_smoothing: 0.02", "label_smoothing: 0.05", "label_smoothing: 0.1") in space.choices
    # More and less dropout are two mechanisms of the catalogue, and one change.
    assert ("dropout: 0.1", "dropout: 0.2", "dropout: -0.1", "dropout: -0.2") in space.choices
    assert [knob.name for knob in space.knobs] == ["lr", "weight_decay"]
    assert not [name for name in space.switches if name.startswith(("lr", "weight_decay"))]


def test_what_can_never_fit_is_left_out_and_what_needs_another_part_is_not() -> None:
    switches = SearchPoints(bench_of(template="digits")).space.switches
    # Four pixels are too many for pictures of 8; a norm needs the convolution that another part brings.
    assert "shift: 4" not in switches and "shift: 2" in switches
    assert 'norm: "batch"' in switches and not bench_of(template="digits").fits({"norm": "batch"})
    # A model with convolutions gets no first one, and less dropout than none is nothing.
    others = SearchPoints(bench_of(template="cifar10")).space.switches
    assert not [name for name in others if name.startswith("convolution") or name.startswith("dropout: -")]


def test_parts_that_do_not_fit_are_left_out_always_the_same() -> None:
    points = SearchPoints(bench_of(template="digits"))
    alone = points.space.base | {'norm: "batch"': True, 'activation: "gelu"': True}
    assert points.changes(alone) == {"activation": "gelu"}
    # The norm comes before the convolution in no order: what it needs may come after it.
    both = alone | {"convolution: 16": True}
    assert points.changes(both) == {"activation": "gelu", "convolution": 16, "norm": "batch"}
    # The norm alone makes the whole not fit, so each part is tried by itself.
    needed = alone | {"convolution: 16": True, "shift: 2": True, 'norm: "batch"': True, "kernel: 5": True}
    assert set(points.changes(needed)) == {"activation", "convolution", "norm", "kernel", "shift"}


def test_a_step_size_is_a_factor_in_two_digits() -> None:
    points = SearchPoints(bench_of(template="digits"))
    assert points.changes(points.space.base | {"lr": 1.7342}) == {"lr": 1.7}
    assert points.changes(points.space.base | {"lr": 1.003}) == {}
    idea = points.idea({"lr": 1.7})
    assert idea is not None and idea.parts[0][0].called(1.7) == "step size x1.7"
    assert idea.families == ("optimiser",)
    smaller = points.idea({"lr": 0.4})
    assert smaller is not None and smaller.parts[0][0].name == "smaller_steps"


# A repository


def knob_of(points: SearchPoints, name: str) -> NumericKnob:
    (knob,) = [knob for knob in points.space.knobs if knob.name == name]
    return knob


def test_numeric_settings_are_knobs_of_their_kind_and_others_switches() -> None:
    bench = bench_of(SETTINGS)
    assert isinstance(bench, Knobs)
    points = SearchPoints(bench)
    lr, batch = knob_of(points, "lr"), knob_of(points, "batch_size")
    assert (lr.base, lr.log, lr.integer) == (0.1, True, False)
    assert lr.high / lr.base == pytest.approx(32) and lr.base / lr.low == pytest.approx(32)
    assert (batch.low, batch.high, batch.integer) == (32, 512, True)
    dropout = knob_of(points, "dropout")
    assert (dropout.log, dropout.step, dropout.low, dropout.high) == (False, 0.1, 0.0, 0.8)
    # 1 as a bound of a gradient's norm is a number like 0.5, though it is written without a point.
    assert not knob_of(points, "grad_clip").integer
    switches = points.space.switches
    assert "nesterov switch: true" in switches
    assert ('optimizer to: "adam"', 'optimizer to: "lion"') in points.space.choices
    # A decay of 0 has no factor.
    assert "weight_decay up: 0.01" in switches
    # One has to divide the other, so they keep their doses.
    assert "n_head up: 24" in switches and "n_embd down: 384" in switches


def test_a_momentum_is_told_from_one() -> None:
    points = SearchPoints(bench_of(SETTINGS))
    knob = knob_of(points, "momentum")
    assert knob.base == pytest.approx(0.1)
    # A step up halves what is left to 1.
    assert points.changes(points.space.base | {"momentum": knob.value(-1)}) == {"momentum to": 0.95}
    assert points.changes(points.space.base | {"momentum": knob.value(1)}) == {"momentum to": 0.8}
    for point in drawn(points, 200):
        value = points.changes(point).get("momentum to", 0.9)
        assert isinstance(value, float) and 0 <= value < 1


def test_changes_by_dose_lie_in_the_same_space() -> None:
    points = SearchPoints(bench_of(SETTINGS))
    point = points.point({"lr up": 0.3, "optimizer to": "adam"})
    assert point is not None and point["lr"] == pytest.approx(0.3) and point['optimizer to: "adam"'] is True
    assert points.point({"lr up": 0.3, "unknown": 1}) is None
    assert points.point({"optimizer to": "rmsprop"}) is None


def test_a_width_and_heads_that_do_not_divide_it_are_not_changed_together() -> None:
    bench = bench_of(SETTINGS.replace("default=768", "default=12"))
    points = SearchPoints(bench)
    names = points.space.switches
    both = points.space.base | {"n_head up: 24": True, "n_embd down: 6": True}
    assert "n_embd up: 24" in names
    wanted = {name: True for name in ("n_head up: 24", "n_embd up: 48") if name in names}
    for point in (points.space.base | wanted, {name: both[name] for name in points.space.base}):
        assert bench.fits(points.changes(point))


# Constants


def test_constants_get_a_new_value_and_counts_stay_counts() -> None:
    bench = bench_of(SCRIPT)
    assert isinstance(bench, Constants)
    points = SearchPoints(bench)
    assert not points.space.switches
    base = points.space.base
    assert base == {"LEARNING": 3e-4, "BATCH2": 2, "SHIFT_BY": 0.5, "WIDE": 1024}
    changes = points.changes(base | {"LEARNING": 6.2e-4, "BATCH2": 3, "SHIFT_BY": 0.8, "WIDE": 2048})
    assert changes == {"LEARNING to": 6.2e-4, "BATCH2 to": 3, "SHIFT_BY to": -0.8, "WIDE to": 2050}
    written = bench.write(changes, "x")
    assert [edit.replace for edit in written.edits] == [
        "LEARNING = 0.00062  # of Adam",
        "BATCH2 = 3",
        "SHIFT_BY = -0.8",
        "WIDE = 2050",
    ]
    assert bench.model({"WIDE to": 2050}, "x") == {"WIDE": 2050}


def test_doses_of_constants_lie_in_the_same_space_and_two_of_one_constant_fit_never() -> None:
    bench = bench_of(SCRIPT)
    points = SearchPoints(bench)
    point = points.point({"LEARNING up": 2.0, "SHIFT_BY down": 0.5})
    assert point is not None and point["LEARNING"] == pytest.approx(6e-4) and point["SHIFT_BY"] == pytest.approx(0.25)
    assert bench.fits({"LEARNING up": 2.0}) and not bench.fits({"LEARNING up": 2.0, "LEARNING to": 0.1})
    assert not bench.fits({"LEARNING to": 3e-4}) and not bench.fits({"LEARNING to": "x"})
    assert not bench.fits({"BATCH2 to": True}) and not bench.fits({"OTHER to": 1.0})


def test_a_step_is_its_value_on_its_base() -> None:
    """The same relative step on a base that was moved by it is another value, and so another idea."""
    bench = bench_of(SCRIPT)
    first = SearchPoints(bench)
    doubled = first.changes(first.space.base | {"LEARNING": 6e-4})
    moved = SearchPoints(bench.after(doubled))
    again = moved.changes(moved.space.base | {"LEARNING": 12e-4})
    assert (doubled, again) == ({"LEARNING to": 6e-4}, {"LEARNING to": 0.0012})


# Scales


@pytest.mark.parametrize(
    ("knob", "origin", "sign", "inside", "outside"),
    [
        (NumericKnob("lr", 0.1, 0.001, 10), 0.0, 1.0, 0.3, 0.0),
        (NumericKnob("momentum", 0.1, 0.01, 0.9), 1.0, -1.0, 0.95, 1.0),
        (NumericKnob("shift", 0.5, 0.1, 10), 0.0, -1.0, -0.25, 0.25),
    ],
)
def test_a_value_of_the_code_and_of_its_knob(
    knob: NumericKnob, origin: float, sign: float, inside: float, outside: float
) -> None:
    scale = SettingScale("x to", knob, origin, sign)
    position = scale.knob_value(inside)
    assert position is not None and scale.value(position) == pytest.approx(inside)
    assert scale.knob_value(outside) is None
    assert scale.value(knob.base) is None


def written(bench: Bench, changes: dict[str, JsonValue]) -> list[str]:
    return [edit.replace for edit in bench.write(changes, "x").edits]


def test_several_settings_of_a_repository_are_written_together() -> None:
    lines = written(bench_of(SETTINGS), {"lr to": 0.05, "momentum to": 0.95, "optimizer to": "adam"})
    text = "\n".join(lines)
    assert "default=0.05" in text and "default=0.95" in text and 'default="adam"' in text


def test_the_most_costly_parts_of_a_point_are_left_out() -> None:
    bench = bench_of(template="digits")
    points = SearchPoints(bench)
    for point in drawn(points):
        idea = points.idea(points.changes(point))
        assert idea is None or len(idea.parts) == 1 or idea.cost <= MOST_COST
    everything = points.space.base | {name: True for name in points.space.switches}
    idea = points.idea(points.changes(everything))
    assert idea is not None and 1.0 < idea.cost <= MOST_COST
