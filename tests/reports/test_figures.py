"""What the figures of a run show is what the records say, in the same bytes each time, with every word readable."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from figure_kit import lines, png_size, texts, unexplained, unreadable

from autolab.lab.schemas.experiment import Interval
from autolab.reports import drawing, figures
from autolab.reports.curves import Curve, Point, mean95
from autolab.reports.figures import Gain, Measure, Run, Training

ITERATION = "2026-02-12T23-30-00Z_h1"
LONG = "depthwise_separable_gelu_with_label_smoothing_01"
FOUR = {"cnn_basic": "baseline", "resnet18": "baseline", "dwsep-gelu": "variant", LONG: "variant"}
TWO = {"baseline": "baseline", "gelu": "variant"}
NOTE = "self-reported: no evaluator measured these numbers"

Drawn = Callable[[Run], dict[str, Any]]


def measure(metric: str, roles: dict[str, str], seeds: int, direction: Any = "minimize") -> Measure:
    draw = random.Random(metric)
    values = {arm: {i: 0.5 + 0.1 * n + draw.gauss(0, 0.01) for i in range(seeds)} for n, arm in enumerate(roles)}
    return measure_of(metric, direction, values)


def measure_of(metric: str, direction: Any, values: dict[str, dict[int, float]]) -> Measure:
    means = {arm: mean95(list(by_index.values())) for arm, by_index in values.items()}
    return Measure(metric, direction, values, means)


def curve(arm: str, metric: str, values: list[float]) -> Curve:
    band = [Point(float(e), mean95([v * 0.9, v * 1.1]), v * 0.9, v * 1.1) for e, v in enumerate(values, 1)]
    return Curve(arm, metric, "epoch", tuple(band))


def gain(arm: str, pairs: list[float], verdict: str = "refuted") -> Gain:
    return Gain(arm, verdict, mean95(pairs).model_copy(update={"level": 0.99}), pairs)


def run(roles: dict[str, str], seeds: int = 5, **changes: Any) -> Run:
    primary = measure("val_loss", roles, seeds)
    base = primary.values[next(iter(roles))]
    gains = []
    for arm in roles:
        if roles[arm] == "variant":
            gains.append(gain(arm, [base[i] - primary.values[arm][i] for i in range(seeds)]))
    falling = [2.0 / e for e in range(1, 21)]
    rising = [1 - math.exp(-e / 5) for e in range(1, 21)]
    about = Run(
        title="A title: refuted",
        roles=roles,
        primary=primary,
        delta=0.01,
        runs=("run_0001",),
        iteration_id=ITERATION,
        gains=gains,
        loss=Training([curve(arm, "train_loss", falling) for arm in roles], [primary]),
        shares=Training(
            [curve(arm, "train_accuracy", rising) for arm in roles],
            [measure(name, roles, seeds, "maximize") for name in ("accuracy", "f1")],
        ),
    )
    return replace(about, **changes)


def confirmed(roles: dict[str, str], verdict: str = "fresh seeds: retracted") -> Run:
    """The first variant measured again on fresh seeds, where it gained a tenth of what the search saw."""
    about = run(roles)
    search = [replace(gain, verdict=f"search: {gain.verdict}") for gain in about.gains]
    pairs = [pair / 10 for pair in search[0].pairs]
    fresh = Gain(search[0].arm, verdict, mean95(pairs), pairs)
    return replace(about, runs=("run_0001", "run_0002"), gains=[*search, fresh])


def exploded() -> Run:
    """One seed of one arm at a million, and its training loss from epoch 10 on."""
    about = run(TWO)
    values = {arm: dict(by_index) for arm, by_index in about.primary.values.items()}
    values["gelu"][4] = 1e6
    burst = measure_of("val_loss", "minimize", values)
    pairs = [values["baseline"][i] - values["gelu"][i] for i in range(5)]
    bursting = curve("gelu", "train_loss", [2.0 if e < 10 else 1e5 * e for e in range(1, 21)])
    loss = Training([about.loss.curves[0], bursting], [burst])
    return replace(about, primary=burst, loss=loss, gains=[gain("gelu", pairs)])


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Drawn]:
    """Draws and hands back matplotlib's figures by name, in place of writing them."""
    pages: dict[str, Any] = {}

    def keep(figure: Any, stem: Path) -> tuple[Path, Path]:
        pages[stem.name] = figure
        return stem.with_suffix(".png"), stem.with_suffix(".pdf")

    def draw(about: Run) -> dict[str, Any]:
        pages.clear()
        figures.draw(about, tmp_path)
        return dict(pages)

    monkeypatch.setattr(drawing, "save", keep)
    yield draw


# the files


def test_a_run_leaves_three_figures_as_sound_png_and_pdf_with_the_same_bytes_each_time(tmp_path: Path) -> None:
    names = figures.draw(run(TWO), tmp_path / "a")
    assert names == tuple(f"{name}.{end}" for name in figures.NAMES for end in ("png", "pdf"))
    figures.draw(run(TWO), tmp_path / "b")
    for name in names:
        data = (tmp_path / "a" / name).read_bytes()
        assert data == (tmp_path / "b" / name).read_bytes()
        if name.endswith(".png"):
            width, height = png_size(data)
            assert width == 1260 and 300 < height < 700
        else:
            assert data.startswith(b"%PDF") and b"CreationDate" not in data


def test_what_there_is_nothing_of_is_not_drawn(tmp_path: Path) -> None:
    bare = replace(run(TWO), gains=(), loss=Training(), shares=Training())
    assert figures.draw(bare, tmp_path) == () and not any(tmp_path.iterdir())


@pytest.mark.parametrize("title", ["$\\nosuch{ costs 5$ \N{CJK UNIFIED IDEOGRAPH-5B66}", "word " * 60, "x" * 300])
def test_any_title_is_drawn(tmp_path: Path, title: str) -> None:
    figures.draw(replace(run(TWO), title=title, shares=Training(), loss=Training()), tmp_path)
    assert png_size((tmp_path / "comparison.png").read_bytes())[0] == 1260


# right at first glance


@pytest.mark.parametrize(
    "about",
    [
        run(TWO),
        run(TWO, 1),
        run(TWO, 2, note=NOTE),
        run(FOUR, 24),
        run(FOUR, 3, title="A very long title that goes on " * 6),
        run({LONG: "baseline", f"{LONG}_again": "variant"}, 3, note=NOTE),
        run({"baseline": "baseline", "a": "variant", "b": "variant"}, 10, shares=Training()),
        run(FOUR, 4, loss=Training(run(FOUR).loss.curves), shares=Training((), run(FOUR).shares.measures)),
        run(
            FOUR,
            4,
            shares=Training(
                run(FOUR).shares.curves,
                [measure(name, FOUR, 4, "maximize") for name in ("accuracy", "balanced_accuracy_top5", "f1")],
            ),
        ),
        exploded(),
        replace(confirmed(FOUR, "fresh seeds: kept on this evaluation alone"), note=NOTE),
        run(TWO, primary=measure_of("steps", None, {arm: {0: 1e7 + n, 1: 2e7} for n, arm in enumerate(TWO)})),
    ],
    ids=["two", "pair", "note", "24", "title", "long", "three", "alone", "panels", "exploded", "fresh", "millions"],
)
def test_no_word_is_cut_off_or_covers_another_and_the_legend_names_every_line_and_marker(
    drawn: Drawn, about: Run
) -> None:
    for name, figure in drawn(about).items():
        assert unreadable(figure) == [], name
        assert unexplained(figure) == [], name


def test_axes_and_rows_name_metric_direction_verdict_n_and_interval(drawn: Drawn) -> None:
    pages = drawn(run(FOUR))
    comparison = " | ".join(texts(pages["comparison"])).replace("\n", " ")
    for wanted in (
        "val_loss (lower is better)",
        "gain in val_loss (positive is better)",
        "least gain wanted: 0.01",
        "cnn_basic 5 trials, 95% interval",
        "dwsep-gelu refuted 5 pairs, 99% interval",
    ):
        assert wanted in comparison
    evaluated, trained = (" | ".join(texts(pages[name])).replace("\n", " ") for name in ("acc", "loss"))
    assert "accuracy (0 to 1, higher is better)" in evaluated and "f1 (0 to 1, higher is better)" in evaluated
    assert "train_loss (self-reported, logarithmic, lower is better)" in trained and "epoch" in trained
    assert f"{LONG}: mean of 2 trials" in trained


def test_no_interval_is_called_one_of_100_percent() -> None:
    sure = Interval(n=5, mean=0.1, low=0.0, high=0.2, level=1 - 2e-9)
    assert Gain("a", "supported", sure, [0.1] * 5).label().endswith("5 pairs, 99.9999998% interval")


def test_a_row_says_how_many_parts_of_the_evaluation_stand_for_pairs() -> None:
    parts = Interval(n=20, mean=0.1, low=0.0, high=0.2, level=0.99)
    assert Gain("a", "supported", parts, [0.1, 0.1]).label() == "a\nsupported\n2 pairs, 20 parts, 99% interval"


def test_seeds_that_stopped_early_are_said_in_the_legend(drawn: Drawn) -> None:
    points = (Point(1.0, mean95([1.0, 2.0, 3.0]), 1.0, 3.0), Point(2.0, mean95([1.0]), 1.0, 1.0))
    shown = run(TWO, loss=Training([Curve("gelu", "train_loss", "line", points)]))
    words = texts(drawn(shown)["loss"])
    assert "gelu: mean of 1 to 3 trials" in words and "line of history.jsonl" in words


def test_what_no_evaluator_measured_is_marked_on_every_figure(drawn: Drawn) -> None:
    for figure in drawn(run(TWO, note=NOTE)).values():
        assert NOTE in texts(figure)


def test_an_arm_has_one_colour_everywhere_and_no_two_arms_share_one(drawn: Drawn) -> None:
    pages = drawn(run(FOUR))

    def means(axes: Any) -> list[str]:
        return [line.get_color() for line in axes.get_lines() if line.get_marker() == "D"]

    colours = [means(pages[name].axes[place]) for name, place in (("comparison", 0), ("loss", 1), ("acc", 1))]
    assert colours[0] == colours[1] == colours[2] and len(set(colours[0])) == 4
    assert means(pages["comparison"].axes[1]) == colours[0][2:]
    for name in ("loss", "acc"):
        assert [line.get_color() for line in pages[name].axes[0].get_lines()] == colours[0]


def test_eight_variants_differ_in_colour_or_line() -> None:
    looks = run({"base": "baseline"} | {f"v{n}": "variant" for n in range(8)}).looks()
    assert len({(look["color"], look["linestyle"]) for look in looks.values()}) == 9


# the numbers


def test_points_means_and_intervals_are_those_of_the_records(drawn: Drawn) -> None:
    about = run(FOUR, 6)
    pages = drawn(about)
    for figure, place, measured in (
        ("comparison", 0, about.primary),
        ("loss", 1, about.loss.measures[0]),
        ("acc", 2, about.shares.measures[1]),
    ):
        points = [(x, y[0]) for x, y, _ in lines(pages[figure].axes[place])]
        for row, arm in enumerate(FOUR):
            mean = measured.means[arm]
            assert (list(measured.values[arm].values()), row) in points
            assert ([mean.low, mean.high], row - 0.27) in points and ([mean.mean], row - 0.27) in points


def test_gains_have_the_interval_that_decided_and_the_two_values_they_are_held_against(drawn: Drawn) -> None:
    about = run(TWO)
    (only,) = about.gains
    interval = only.difference
    points = [x for x, _, _ in lines(drawn(about)["comparison"].axes[1])]
    assert points == [[0, 0], [0.01, 0.01], only.pairs, [interval.low, interval.high], [interval.mean]]


def test_a_gain_without_spread_is_drawn_without_an_interval(drawn: Drawn) -> None:
    bare = Gain("gelu", "inconclusive", Interval(n=5, mean=0.0, low=None, high=None, level=0.99), [0.0] * 5)
    figure = drawn(replace(run(TWO), gains=[bare]))["comparison"]
    assert [x for x, _, _ in lines(figure.axes[1])][2:] == [[0.0] * 5, [0.0]]
    assert "gelu\ninconclusive\n5 pairs, no interval" in texts(figure)


def test_search_and_fresh_seeds_stand_below_each_other_each_with_its_points_and_interval(drawn: Drawn) -> None:
    about = confirmed(TWO)
    axes = drawn(about)["comparison"].axes[1]
    points = [(x, y[0]) for x, y, _ in lines(axes)[2:]]
    for row, shown in enumerate(about.gains):
        interval = shown.difference
        assert (list(shown.pairs), row) in points and ([interval.mean], row - 0.27) in points
        assert ([interval.low, interval.high], row - 0.27) in points
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels == [
        "gelu\nsearch: refuted\n5 pairs, 99% interval",
        "gelu\nfresh seeds: retracted\n5 pairs, 95% interval",
    ]


def test_a_confirmation_without_any_pair_has_an_empty_row(drawn: Drawn) -> None:
    about = confirmed(TWO)
    nothing = Gain("gelu", "fresh seeds: retracted", Interval(n=0, mean=0.0, low=None, high=None, level=0.99), ())
    axes = drawn(replace(about, gains=[about.gains[0], nothing]))["comparison"].axes[1]
    assert [y[:1] for _, y, _ in lines(axes)[2:]] == [[0], [-0.27], [-0.27], []]
    assert axes.get_yticklabels()[1].get_text().endswith("0 pairs, no interval")


def test_every_figure_names_its_runs(drawn: Drawn) -> None:
    pages = drawn(confirmed(TWO))
    assert f"run_0001, run_0002 of {ITERATION}" in texts(pages["comparison"])
    for name in ("loss", "acc"):
        assert f"run_0001 of {ITERATION}" in texts(pages[name])


def test_seeds_are_joined_where_one_variant_stands_against_one_baseline(drawn: Drawn) -> None:
    about = run(TWO, 3)
    values = about.primary.values
    joined = [x for x, y, _ in lines(drawn(about)["comparison"].axes[0]) if y == [0, 1]]
    assert joined == [[values["baseline"][i], values["gelu"][i]] for i in range(3)]


def test_curves_are_means_over_seeds_in_a_band_from_the_lowest_to_the_highest(drawn: Drawn) -> None:
    about = run(TWO)
    axes = drawn(about)["loss"].axes[0]
    points = about.loss.curves[0].points
    x, y, _ = lines(axes)[0]
    assert (x, y) == ([point.at for point in points], [point.mean.mean for point in points])
    band = axes.collections[0].get_paths()[0].vertices
    assert {round(v, 12) for v in band[:, 1]} == {round(v, 12) for p in points for v in (p.least, p.most)}


def test_a_loss_that_explodes_leaves_the_others_readable(drawn: Drawn) -> None:
    pages = drawn(exploded())
    assert pages["loss"].axes[0].get_yscale() == pages["loss"].axes[1].get_xscale() == "log"
    assert pages["loss"].axes[0].get_xscale() == "linear"
    left, right = pages["comparison"].axes
    assert (left.get_xscale(), right.get_xscale()) == ("log", "symlog")
    assert "logarithmic" in left.get_xlabel() and "logarithmic beyond 0.47" in right.get_xlabel().replace("\n", " ")
    low, high = right.transData.transform([(0, 0), (-0.5, 0)])[:, 0]
    assert low - high > 5  # pixels between no gain and what the other seeds lost


def test_numbers_at_the_edge_of_what_is_allowed_are_drawn(tmp_path: Path) -> None:
    wild = measure_of("val_loss", "minimize", {"baseline": {0: -9e149, 1: 1e-150}, "gelu": {0: 9e149, 1: 0.0}})
    about = run(TWO, 2, primary=wild, loss=Training((), [wild]), gains=[gain("gelu", [-1.8e150, 1e-150])])
    assert len(figures.draw(about, tmp_path)) == 6
