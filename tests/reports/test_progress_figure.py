"""The figure of progress shows every iteration and what was kept, with every word readable."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from figure_kit import png_size, texts, unexplained, unreadable

from autolab.lab.schemas.experiment import Interval
from autolab.reports import drawing, progress_figure
from autolab.reports.progress_figure import Try


def attempt(number: int, verdict: str, value: float | None, title: str = "Small CNN", width: float = 0.002) -> Try:
    if value is None:
        return Try(number, title, verdict, None)
    return Try(number, title, verdict, Interval(n=5, mean=value, low=value - width, high=value + width, level=0.95))


def drawn(tries: list[Try], direction: Any = "minimize", metric: str = "val_loss") -> Any:
    """The figure itself, in place of its files."""
    pages: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "save", lambda figure, stem: pages.append(figure) or (stem, stem))
        progress_figure.draw(tries, metric, direction, Path("progress"))
    return pages[0]


HISTORY = [
    attempt(0, "baseline", 0.085),
    attempt(1, "supported", 0.070),
    attempt(2, "refuted", 0.080),
    attempt(3, "failed", None),
    attempt(4, "inconclusive", 0.069),
    attempt(5, "supported", 0.060, "Label smoothing"),
    attempt(6, "refuted", 2.3),
]


def markers(axes: Any, marker: str) -> list[tuple[list[float], list[float]]]:
    """The points drawn with a marker, filled ones first."""
    found = [line for line in axes.get_lines() if line.get_marker() == marker]
    found.sort(key=lambda line: line.get_fillstyle() == "none")
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in found]


def test_progress_steps_along_what_was_kept_and_shows_every_try() -> None:
    figure = drawn(HISTORY)
    axes = figure.axes[0]
    step = next(line for line in axes.get_lines() if line.get_drawstyle() == "steps-post")
    assert list(step.get_xdata())[:-1] == [0, 1, 5] and list(step.get_ydata()) == [0.085, 0.070, 0.060, 0.060]
    assert markers(axes, "o") == [([1, 5], [0.070, 0.060])]
    assert markers(axes, "v")[0] == ([2], [0.080]) and markers(axes, "s") == [([4], [0.069])]
    (((cross,), (height,)),) = markers(axes, "x")
    low, high = axes.get_ylim()
    assert cross == 3 and low < height < low + 0.05 * (high - low)
    assert [text.get_text() for text in axes.texts] == ["1: Small CNN", "5: Label smoothing", "2.3"]
    assert "val_loss from 0.085 to 0.06 in 6 iterations: 2 supported, 2 refuted, 1 inconclusive, 1 failed" in texts(
        figure
    )
    assert axes.get_ylabel() == "val_loss (lower is better)"
    assert list(axes.get_xticks()) == list(range(7))


def test_intervals_of_the_tries_are_bars_and_a_disaster_is_hollow_at_the_edge() -> None:
    figure = drawn(HISTORY)
    axes = figure.axes[0]
    bars = [line for line in axes.get_lines() if line.get_alpha() == 0.6]
    ends = sorted((line.get_xdata()[0], *line.get_ydata()) for line in bars)
    scored = [(t.iteration, t.score) for t in HISTORY if t.score is not None and t.score.mean < 1]
    assert ends == [(iteration, score.low, score.high) for iteration, score in scored]
    assert markers(axes, "v")[1] == ([6], [axes.get_ylim()[1]])
    assert axes.get_ylim()[1] < 0.2
    assert {"refuted, beyond the axis", "95% interval of the mean, 5 trials"} <= set(texts(figure))


def test_a_value_that_is_only_a_few_times_worse_stays_on_the_axis() -> None:
    tries = [attempt(0, "baseline", 0.084), attempt(1, "refuted", 0.23), attempt(2, "supported", 0.046)]
    low, high = drawn(tries).axes[0].get_ylim()
    assert low < 0.046 and high > 0.23


def long_history(direction: str, count: int = 60) -> list[Try]:
    draw, best, tries = random.Random(3), 0.085, []
    titles = [
        "Depthwise separable convolutions with GELU",
        "Cosine",
        "Mixup 0.2",
        "Weight averaging over the last quarter",
    ]
    for number in range(1, count + 1):
        kept = draw.random() < 0.25
        best *= 0.93 if kept else 1.0
        value = best if kept else best * (1 + abs(draw.gauss(0, 0.2)))
        value = value if direction == "minimize" else 1 - value
        tries.append(attempt(number, "supported" if kept else "refuted", value, titles[number % 4]))
    return tries


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_titles_of_what_was_kept_cover_no_other_title_and_no_point(direction: str) -> None:
    tries = long_history(direction)
    figure = drawn(tries, direction)
    assert unreadable(figure) == [] and unexplained(figure) == []
    axes = figure.axes[0]
    kept = [t for t in tries if t.kept]
    assert len(axes.texts) >= len(kept) - 2 > 8
    renderer = figure.canvas.get_renderer()
    points = [axes.transData.transform((t.iteration, t.score.mean)) for t in tries if t.score]
    for label in axes.texts:
        box = label.get_window_extent(renderer)
        assert not any(box.contains(x, y) for x, y in points), label.get_text()


def decades() -> list[Try]:
    tries = [attempt(0, "baseline", 2.3, width=0.1)]
    for number in range(1, 16):
        value = 2.3 * 0.6**number
        tries.append(attempt(number, "supported" if number % 3 == 0 else "refuted", value, width=value / 2))
    return tries


BEGINNINGS = {
    "one": [attempt(1, "supported", 0.05)],
    "baseline and one": [attempt(0, "baseline", 0.085), attempt(1, "refuted", 0.09)],
    "nothing": [attempt(1, "", None)],
    "failed": [attempt(1, "supported", 0.05), attempt(2, "failed", None)],
    "equal": [attempt(7, "refuted", 0.0), attempt(8, "refuted", 0.0)],
    "disaster": [
        Try(1, "Small CNN", "supported", Interval(n=2, mean=0.05, low=None, high=None, level=0.95)),
        attempt(2, "no verdict", 1e140),
    ],
    "all kinds": HISTORY,
    "forty": [attempt(0, "baseline", 0.085), *long_history("minimize", 40)],
    "decades": decades(),
    "below 0": [attempt(0, "baseline", -0.5), attempt(1, "supported", -9.0, "word " * 40)],
}


@pytest.mark.parametrize("tries", BEGINNINGS.values(), ids=BEGINNINGS.keys())
def test_no_word_is_cut_off_or_covers_another_and_the_legend_names_every_line_and_marker(tries: list[Try]) -> None:
    figure = drawn(tries)
    assert unreadable(figure) == [] and unexplained(figure) == []


def test_what_was_kept_over_decades_stands_on_a_logarithmic_axis() -> None:
    axes = drawn(decades()).axes[0]
    assert axes.get_yscale() == "log" and axes.get_ylabel() == "val_loss (logarithmic, lower is better)"


@pytest.mark.parametrize("name", ["one", "nothing", "disaster"])
def test_progress_is_drawn_the_same_each_time(tmp_path: Path, name: str) -> None:
    for stem in ("a", "b"):
        progress_figure.draw(BEGINNINGS[name], "val_loss", "minimize", tmp_path / stem)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    assert png_size((tmp_path / "a.png").read_bytes())[0] == 1260
