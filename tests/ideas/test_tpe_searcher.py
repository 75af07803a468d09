"""Optuna's sampler as a searcher: what it finds, that it can be made anew, what is said where it is missing."""

from __future__ import annotations

import math

import pytest

from autolab.errors import ResearcherError
from autolab.ideas import tpe_searcher
from autolab.ideas.searchers import NumericKnob, Point, SearchSpace
from autolab.ideas.tpe_searcher import TpeSearcher

SPACE = SearchSpace(
    knobs=(
        NumericKnob("lr", 0.01, 1e-4, 1.0),
        NumericKnob("batch", 32, 4, 512, integer=True),
        NumericKnob("dropout", 0.0, 0.0, 0.8, log=False, step=0.1),
    ),
    switches=("bias", "sgd", "lion"),
    choices=(("sgd", "lion"),),
)


def score(point: Point) -> float:
    """Best at a step size of 0.08, with the bias."""
    return float(point["bias"]) - math.log2(float(point["lr"]) / 0.08) ** 2


def test_it_finds_what_helps_and_stays_in_the_space() -> None:
    searcher = TpeSearcher(SPACE, seed=0)
    for _ in range(12):
        points = searcher.propose(4)
        for point in points:
            assert point.keys() == SPACE.base.keys()
            assert 1e-4 <= float(point["lr"]) <= 1 and 0 <= float(point["dropout"]) <= 0.8
            assert float(point["batch"]).is_integer() and 4 <= float(point["batch"]) <= 512
        searcher.observe(points, [score(point) for point in points])
    assert score(searcher.best()) > 0 > score(SPACE.base)


def test_made_anew_from_its_record_it_goes_on_as_before() -> None:
    first, record = TpeSearcher(SPACE, seed=5), []
    for number in range(4):
        points = first.propose(4)
        scores: list[float | None] = [score(point) for point in points]
        # A training that failed is a part of the record, too.
        scores[number] = None
        first.observe(points, scores)
        record.append((points, scores))
    again = TpeSearcher(SPACE, seed=5)
    for points, scores in record:
        again.observe(points, scores)
    assert again.propose(4) == first.propose(4)
    assert again.best() == first.best()
    other = TpeSearcher(SPACE, seed=6)
    for points, scores in record:
        other.observe(points, scores)
    assert other.propose(4) != first.propose(4)


def test_the_base_is_first_and_stays_where_nothing_is_better() -> None:
    searcher = TpeSearcher(SPACE, seed=0)
    assert searcher.propose(1) == [SPACE.base] and searcher.best() == SPACE.base
    searcher.observe([SPACE.base], [0.0])
    points = searcher.propose(3)
    searcher.observe(points, [-1.0, None, -2.0])
    assert searcher.best() == SPACE.base


def test_a_point_outside_of_the_bounds_is_left_out() -> None:
    searcher = TpeSearcher(SPACE, seed=0)
    searcher.observe([SPACE.base | {"lr": 50.0}], [9.0])
    assert len(searcher.propose(2)) == 2


def test_without_optuna_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpe_searcher, "installed", lambda: False)
    with pytest.raises(ResearcherError, match=r"screen\.searcher: tpe needs the extra `search`: ") as caught:
        TpeSearcher(SPACE, seed=0)
    assert "\n" not in str(caught.value) and "pip install" in str(caught.value)
