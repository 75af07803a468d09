"""The figure of progress shows every iteration and what was kept, with every word readable."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from figure_kit import png_size, texts, unexplained, unreadable

from autolab.lab.schemas.experiment import Interval, Lesson
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


def single(number: int, verdict: str, value: float | None, title: str = "Mixup") -> Try:
    """An idea of a batch, measured once."""
    score = None if value is None else Interval(n=1, mean=value, low=None, high=None, level=0.95)
    return Try(number, title, verdict, score)


EXPLORED = [
    attempt(0, "baseline", 0.085),
    single(1, "provisional", 0.080),
    *(single(1, "not built upon", value) for value in (0.084, 0.09, None)),
    single(2, "not built upon", 0.079),
    single(3, "provisional", 0.075),
    single(3, "not built upon", 2.3),
    attempt(4, "claimed", 0.077, "2 steps together"),
    single(5, "provisional", 0.070),
    attempt(6, "claim failed", 0.078),
    single(7, "provisional", 0.074),
    single(8, "not built upon", 0.076),
]


def explored(batches: int, ideas: int = 4) -> list[Try]:
    """A long campaign: every 20 batches a claim, each third of which fails."""
    draw, best, tries = random.Random(4), 0.085, [attempt(0, "baseline", 0.085)]
    for number in range(1, batches + 1):
        if number % 20 == 0:
            verdict = "claimed" if number % 60 else "claim failed"
            tries.append(attempt(number, verdict, best, "20 steps together"))
            continue
        values = [best * (1 + draw.gauss(0.02, 0.02)) for _ in range(ideas)]
        for value in values:
            is_step = value == min(values) < best
            tries.append(single(number, "provisional" if is_step else "not built upon", value))
        best = min(best, *values)
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
    "explored": EXPLORED,
    "a batch of which nothing was measured": [single(1, "not built upon", None), attempt(2, "refuted", 0.09)],
    "long": explored(200),
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


# Mode explore


def dashed(axes: Any) -> list[tuple[list[float], list[float]]]:
    found = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in found]


def test_what_was_claimed_is_the_full_line_and_what_is_built_upon_a_dashed_one() -> None:
    figure = drawn(EXPLORED)
    axes = figure.axes[0]
    full = next(line for line in axes.get_lines() if line.get_linewidth() == 1.5)
    assert list(full.get_xdata())[:-1] == [0, 4] and list(full.get_ydata()) == [0.085, 0.077, 0.077]
    first, second, third = dashed(axes)
    assert first == ([0, 1, 3, 4], [0.085, 0.080, 0.075, 0.075])
    assert second == ([4, 5, 6], [0.077, 0.070, 0.070])
    places, heights = third
    assert places[:2] == [4, 7] and places[2] > 8 and heights == [0.077, 0.074, 0.074], "from the old base again"


def test_dropped_ideas_are_dots_and_those_without_a_score_are_counted() -> None:
    figure = drawn(EXPLORED)
    axes = figure.axes[0]
    dots, beyond = markers(axes, ".")
    assert dots[1] == [0.084, 0.09, 0.079, 0.076] and beyond == ([3], [axes.get_ylim()[1]])
    (hollow,) = (line for line in axes.get_lines() if line.get_marker() == "o")
    assert hollow.get_fillstyle() == "none" and list(hollow.get_xdata()) == [1, 3, 5, 7]
    title = "val_loss from 0.085 to 0.077 in 8 iterations: 1 claimed, 4 provisional, 1 claim failed, 5 not built upon,"
    assert any(text.replace("\n", " ").startswith(title) for text in texts(figure))
    assert [text.get_text() for text in axes.texts] == ["4: 2 steps together"]


def test_a_campaign_of_which_the_beginning_is_forgotten_says_so() -> None:
    tries = [attempt(40, "baseline", 0.085), single(41, "provisional", 0.08), single(42, "not built upon", 0.082)]
    assert "the last 2 iterations: 1 provisional, 1 not built upon" in texts(drawn(tries))


def learned(
    outcome: str | None, verdict: str | None = "inconclusive", iteration: str = "x_batch3", **more: Any
) -> Lesson:
    about: dict[str, Any] = {"iteration": 3, "iteration_id": iteration, "hypothesis_id": "h5", "title": "t"}
    about |= {"family": None, "changes": {}, "base": "b", "commit": None, "delta": 0.01, "decision": "new_hypothesis"}
    about |= {"status": "completed", "reason": "screened", "verdict": verdict, "outcome": outcome}
    about |= {"measured": {"n": 1, "mean": 0.08, "low": None, "high": None, "level": 0.95}}
    return Lesson.from_value(about | more, "lesson")


def lesson(outcome: str | None, verdict: str | None = "inconclusive", iteration: str = "x_batch3", **more: Any) -> Try:
    return progress_figure.try_of(learned(outcome, verdict, iteration, **more))


def test_the_first_base_has_the_score_that_a_claim_measured_over_several_seeds() -> None:
    def base(n: int, mean: float) -> dict[str, Any]:
        return {"baseline": {"n": n, "mean": mean, "low": None, "high": None, "level": 0.95}}

    batch = learned("screened", **base(1, 0.097))
    claim = learned("kept", "supported", "x_claim1", **base(5, 0.106))
    of_another = learned("kept", "supported", "x_claim2", **base(5, 0.05) | {"base": "c"})
    score = progress_figure.base_score
    assert score([batch]) == batch.baseline == score([batch, of_another])
    assert score([batch, of_another, claim]) == claim.baseline


def test_lessons_are_shown_by_what_became_of_them() -> None:
    assert (
        lesson("provisional").kind == "provisional"
        and lesson("dropped").kind == lesson("screened").kind == "not built upon"
    )
    assert lesson("dropped", status="failed", verdict=None).kind == "not measured"
    assert lesson("kept", "supported", "x_claim2").kind == "claimed"
    assert lesson("retracted", "refuted", "x_claim2").kind == "claim failed"
    assert lesson("search_only", "inconclusive", "x_claim12").kind == "claim failed"
    assert lesson(None, None, "x_claim2", status="failed").kind == "failed", "its run measured nothing"
    assert lesson("kept", "supported", "x_h2").kind == "supported"
    assert lesson("retracted", "inconclusive", "x_h2").kind == "inconclusive"
