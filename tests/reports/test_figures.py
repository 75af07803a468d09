"""What the figures show is what the records say, in the same bytes each time, with every word readable."""

from __future__ import annotations

import itertools
import math
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autolab.lab.schemas.experiment import Comparison, Confirmation, Interval
from autolab.lab.schemas.outcomes import Verdict
from autolab.reports import figures
from autolab.reports.curves import Curve, Point, mean95
from autolab.reports.figures import Measure, Run, Try

ITERATION = "2026-02-12T23-30-00Z_h1"
LONG = "depthwise_separable_gelu_with_label_smoothing_01"
FOUR = {"cnn_basic": "baseline", "resnet18": "baseline", "dwsep-gelu": "variant", LONG: "variant"}
TWO = {"baseline": "baseline", "gelu": "variant"}


def measure(metric: str, roles: dict[str, str], seeds: int, direction: Any = "minimize") -> Measure:
    draw = random.Random(metric)
    values = {arm: {i: 0.5 + 0.1 * n + draw.gauss(0, 0.01) for i in range(seeds)} for n, arm in enumerate(roles)}
    return Measure(metric, direction, values, {arm: mean95(list(found.values())) for arm, found in values.items()})


def curve(arm: str, metric: str, values: list[float]) -> Curve:
    band = [Point(float(e), mean95([v * 0.9, v * 1.1]), v * 0.9, v * 1.1) for e, v in enumerate(values, 1)]
    return Curve(arm, metric, "epoch", tuple(band))


def run(roles: dict[str, str], seeds: int = 5, **changes: Any) -> Run:
    primary = measure("val_loss", roles, seeds)
    base = next(iter(roles))
    gains: dict[str, list[float]] = {}
    comparisons = []
    for arm in (arm for arm in roles if roles[arm] == "variant"):
        gains[arm] = [primary.values[base][i] - primary.values[arm][i] for i in range(seeds)]
        gain = mean95(gains[arm]).model_copy(update={"level": 0.99})
        comparisons.append(
            Comparison(arm=arm, baseline=base, metric="val_loss", difference=gain, verdict=Verdict.REFUTED)
        )
    fall = [2.0 / e for e in range(1, 21)]
    shown = Run(
        title="A title: refuted",
        roles=roles,
        primary=primary,
        delta=0.01,
        runs=("run_0001",),
        iteration_id=ITERATION,
        comparisons=comparisons,
        gains=gains,
        loss=primary,
        loss_curves=[curve(arm, "train_loss", fall) for arm in roles],
        shares=[measure(name, roles, seeds, "maximize") for name in ("accuracy", "f1")],
        share_curves=[curve(arm, "train_accuracy", [1 - math.exp(-e / 5) for e in range(1, 21)]) for arm in roles],
    )
    return replace(shown, **changes)


def confirmed(roles: dict[str, str], outcome: str = "retracted", seeds: int = 5, **changes: Any) -> Run:
    """The first variant measured again on fresh seeds, where it gained a tenth of what the search saw."""
    shown = run(roles, seeds, runs=("run_0001", "run_0002"))
    arm = shown.comparisons[0].arm
    fresh = [gain / 10 for gain in shown.gains[arm]]
    value = {"run_id": "run_0002", "arm": arm, "difference": mean95(fresh).value(), "shrunken": 0.0, "reason": ""}
    value |= {"holdout": "none", "outcome": outcome, "claim": 1, "alpha": 0.005} | changes
    return replace(shown, confirmation=Confirmation.from_value(value, "confirmation"), fresh=fresh)


NOTHING = Interval(n=0, mean=0.0, low=None, high=None, level=0.99)


def exploded() -> Run:
    """One seed of one arm at a million, and its training loss from epoch 10 on."""
    shown = run(TWO)
    values = {arm: dict(found) for arm, found in shown.primary.values.items()}
    values["gelu"][4] = 1e6
    burst = Measure(
        "val_loss", "minimize", values, {arm: mean95(list(found.values())) for arm, found in values.items()}
    )
    gains = {"gelu": [values["baseline"][i] - values["gelu"][i] for i in range(5)]}
    compared = shown.comparisons[0].model_copy(update={"difference": mean95(gains["gelu"])})
    curves = [shown.loss_curves[0], curve("gelu", "train_loss", [2.0 if e < 10 else 1e5 * e for e in range(1, 21)])]
    return replace(shown, primary=burst, loss=burst, loss_curves=curves, gains=gains, comparisons=[compared])


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., dict[str, Any]]]:
    """Draws and hands back matplotlib's figures by name, in place of writing them."""
    seen: dict[str, Any] = {}

    def keep(figure: Any, stem: Path) -> tuple[Path, Path]:
        seen[stem.name] = figure
        return stem.with_suffix(".png"), stem.with_suffix(".pdf")

    def draw(shown: Run | list[Try], direction: Any = "minimize") -> dict[str, Any]:
        seen.clear()
        if isinstance(shown, Run):
            figures.draw(shown, tmp_path)
        else:
            figures.progress(shown, "val_loss", direction, tmp_path / "progress")
        return dict(seen)

    monkeypatch.setattr(figures, "_save", keep)
    yield draw


def lines(axes: Any) -> list[tuple[list[float], list[float], str]]:
    """Every line of an axes: x, y, colour."""
    return [(list(line.get_xdata()), list(line.get_ydata()), line.get_color()) for line in axes.get_lines()]


def boxes(figure: Any) -> list[tuple[str, Any]]:
    """Every word that is drawn, with the place it takes."""
    from matplotlib.text import Text

    drawn: list[Any] = []
    draw = Text.draw

    def noted(text: Any, *rest: Any) -> None:
        drawn.append(text)
        draw(text, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", noted)
        figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    found = [text for text in dict.fromkeys(drawn) if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in found]


def texts(figure: Any) -> list[str]:
    return [word for word, _ in boxes(figure)]


def unreadable(figure: Any) -> list[str]:
    """Words that leave the figure, and pairs of words that cover each other."""
    placed, frame = boxes(figure), figure.bbox
    outside = [
        word for word, box in placed
        if box.x0 < 0 or box.y0 < 0 or box.x1 > frame.x1 or box.y1 > frame.y1
    ]  # fmt: skip
    return outside + [f"{a} / {b}" for (a, p), (b, q) in itertools.combinations(placed, 2) if p.overlaps(q)]


# the files


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG whose chunks are all sound."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, size = 8, (0, 0)
    while place < len(data):
        length = struct.unpack(">I", data[place : place + 4])[0]
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        assert struct.unpack(">I", data[place + 8 + length : place + 12 + length])[0] == zlib.crc32(kind + body)
        if kind == b"IHDR":
            size = struct.unpack(">II", body[:8])
        place += 12 + length
    return size


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
    bare = replace(run(TWO), comparisons=(), gains={}, loss=None, loss_curves=(), shares=(), share_curves=())
    assert figures.draw(bare, tmp_path) == () and not any(tmp_path.iterdir())


@pytest.mark.parametrize("title", ["$\\nosuch{ costs 5$ \N{CJK UNIFIED IDEOGRAPH-5B66}", "word " * 60, "x" * 300])
def test_any_title_is_drawn(tmp_path: Path, title: str) -> None:
    figures.draw(replace(run(TWO), title=title, shares=(), loss_curves=()), tmp_path)
    assert png_size((tmp_path / "comparison.png").read_bytes())[0] == 1260


# right at first glance


@pytest.mark.parametrize(
    "shown",
    [
        run(TWO),
        run(TWO, 2, note="self-reported: no evaluator measured these numbers"),
        run(FOUR, 24),
        run(FOUR, 3, title="A very long title that goes on " * 6),
        run({"baseline": "baseline", "a": "variant", "b": "variant"}, 10, share_curves=()),
        run(TWO, loss=None, shares=[]),
        run(TWO, loss_curves=[], share_curves=[]),
        exploded(),
        replace(confirmed(FOUR, "search_only"), note="self-reported: no evaluator measured these numbers"),
    ],
    ids=["two", "self-reported", "four", "long", "three", "curves", "points", "exploded", "fresh"],
)
def test_no_word_is_cut_off_or_covers_another(drawn: Callable[..., dict[str, Any]], shown: Run) -> None:
    for name, figure in drawn(shown).items():
        assert unreadable(figure) == [], name


def test_axes_name_metric_direction_delta_verdict_and_every_arm(drawn: Callable[..., dict[str, Any]]) -> None:
    made = drawn(run(FOUR))
    words = " | ".join(texts(made["comparison"])).replace("\n", " ")
    for wanted in ("val_loss (lower is better)", "dashed: 0.01 asked for", "cnn_basic", "dwsep-gelu refuted", "99%"):
        assert wanted in words
    assert "accuracy (higher is better)" in texts(made["acc"])
    assert {"train_loss (self-reported)", "epoch"} <= set(texts(made["loss"]))


def test_what_no_evaluator_measured_is_marked_on_every_figure(drawn: Callable[..., dict[str, Any]]) -> None:
    note = "self-reported: no evaluator measured these numbers"
    for figure in drawn(run(TWO, note=note)).values():
        assert note in texts(figure)


def test_an_arm_has_one_colour_everywhere_and_no_two_arms_share_one(drawn: Callable[..., dict[str, Any]]) -> None:
    made = drawn(run(FOUR))
    colours = [
        [tick.get_color() for tick in made[name].axes[place].get_yticklabels()]
        for name, place in (("comparison", 0), ("loss", 1), ("acc", 1))
    ]
    assert colours[0] == colours[1] == colours[2] and len(set(colours[0])) == 4
    assert [tick.get_color() for tick in made["comparison"].axes[1].get_yticklabels()] == colours[0][2:]
    for name in ("loss", "acc"):
        assert [line.get_color() for line in made[name].axes[0].get_lines()] == colours[0]


# the numbers


def test_points_means_and_intervals_are_those_of_the_records(drawn: Callable[..., dict[str, Any]]) -> None:
    shown = run(FOUR, 6)
    made = drawn(shown)
    for figure, place, measured in (
        ("comparison", 0, shown.primary),
        ("loss", 1, shown.loss),
        ("acc", 2, shown.shares[1]),
    ):
        found = [(x, y[0]) for x, y, _ in lines(made[figure].axes[place])]
        assert measured is not None
        for row, arm in enumerate(FOUR):
            mean = measured.means[arm]
            assert (list(measured.values[arm].values()), row) in found
            assert ([mean.low, mean.high], row - 0.27) in found and ([mean.mean], row - 0.27) in found


def test_gains_have_the_interval_that_decided_and_the_two_values_they_are_held_against(
    drawn: Callable[..., dict[str, Any]],
) -> None:
    shown = run(TWO)
    found = [x for x, _, _ in lines(drawn(shown)["comparison"].axes[1])]
    gain = shown.comparisons[0].difference
    assert found == [[0, 0], [0.01, 0.01], shown.gains["gelu"], [gain.low, gain.high], [gain.mean]]


def test_a_gain_without_spread_is_drawn_without_an_interval(drawn: Callable[..., dict[str, Any]]) -> None:
    shown = run(TWO)
    bare = shown.comparisons[0].model_copy(
        update={"difference": Interval(n=5, mean=0.0, low=None, high=None, level=0.99)}
    )
    figure = drawn(replace(shown, comparisons=[bare], gains={"gelu": [0.0] * 5}))["comparison"]
    assert [x for x, _, _ in lines(figure.axes[1])][2:] == [[0.0] * 5, [0.0]]
    told = " ".join(texts(figure)).replace("\n", " ")
    assert "each pair; above: mean and no interval: no spread, or too few pairs" in told


def test_search_and_fresh_seeds_stand_below_each_other_each_with_its_points_and_interval(
    drawn: Callable[..., dict[str, Any]],
) -> None:
    shown = confirmed(TWO)
    figure = drawn(shown)["comparison"]
    axes, again = figure.axes[1], shown.confirmation
    assert again is not None
    found = [(x, y[0]) for x, y, _ in lines(axes)[2:]]
    rows = ((shown.gains["gelu"], shown.comparisons[0].difference), (shown.fresh, again.difference))
    for row, (gains, gain) in enumerate(rows):
        assert (list(gains), row) in found and ([gain.mean], row - 0.27) in found
        assert ([gain.low, gain.high], row - 0.27) in found
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels == ["gelu\nsearch: refuted", "gelu\nfresh seeds: retracted"]
    assert "mean and 99% or 95% interval" in " ".join(texts(figure)).replace("\n", " "), "the levels of both"


def test_a_confirmation_without_any_pair_has_an_empty_row(drawn: Callable[..., dict[str, Any]]) -> None:
    shown = replace(confirmed(TWO, difference=NOTHING.value()), fresh=())
    assert [y[:1] for _, y, _ in lines(drawn(shown)["comparison"].axes[1])[2:]] == [[0], [-0.27], [-0.27], []]


def test_every_figure_names_its_runs(drawn: Callable[..., dict[str, Any]]) -> None:
    made = drawn(confirmed(TWO))
    assert f"run_0001, run_0002 of {ITERATION}" in texts(made["comparison"])
    for name in ("loss", "acc"):
        assert f"run_0001 of {ITERATION}" in texts(made[name])


def test_seeds_are_joined_where_one_variant_stands_against_one_baseline(drawn: Callable[..., dict[str, Any]]) -> None:
    shown = run(TWO, 3)
    values = shown.primary.values
    joined = [x for x, y, _ in lines(drawn(shown)["comparison"].axes[0]) if y == [0, 1]]
    assert joined == [[values["baseline"][i], values["gelu"][i]] for i in range(3)]


def test_curves_are_means_over_seeds_in_a_band_from_the_lowest_to_the_highest(
    drawn: Callable[..., dict[str, Any]],
) -> None:
    shown = run(TWO)
    axes = drawn(shown)["loss"].axes[0]
    points = shown.loss_curves[0].points
    x, y, _ = lines(axes)[0]
    assert (x, y) == ([point.at for point in points], [point.mean.mean for point in points])
    band = axes.collections[0].get_paths()[0].vertices
    assert {round(v, 12) for v in band[:, 1]} == {round(v, 12) for p in points for v in (p.least, p.most)}


def test_a_loss_that_explodes_leaves_the_others_readable(drawn: Callable[..., dict[str, Any]]) -> None:
    made = drawn(exploded())
    assert made["loss"].axes[0].get_yscale() == made["loss"].axes[1].get_xscale() == "log"
    left, right = made["comparison"].axes
    assert (left.get_xscale(), right.get_xscale()) == ("log", "symlog")
    low, high = right.transData.transform([(0, 0), (-0.5, 0)])[:, 0]
    assert low - high > 5  # pixels between no gain and what the other seeds lost


def test_numbers_at_the_edge_of_what_is_allowed_are_drawn(tmp_path: Path) -> None:
    values = {"baseline": {0: -9e149, 1: 1e-150}, "gelu": {0: 9e149, 1: 0.0}}
    wild = Measure("val_loss", "minimize", values, {arm: mean95(list(found.values())) for arm, found in values.items()})
    shown = run(TWO, 2, primary=wild, loss=wild, gains={"gelu": [-1.8e150, 1e-150]})
    assert len(figures.draw(shown, tmp_path)) == 6


# the progress of a lab


def attempt(number: int, verdict: str, value: float | None, title: str = "Small CNN") -> Try:
    low, high = (None, None) if value is None else (value - 0.002, value + 0.002)
    return Try(number, title, verdict, value, low, high, verdict == "supported")


HISTORY = [
    attempt(0, "baseline", 0.085),
    attempt(1, "supported", 0.070),
    attempt(2, "refuted", 0.080),
    attempt(3, "failed", None),
    attempt(4, "inconclusive", 0.069),
    attempt(5, "supported", 0.060, "Label smoothing"),
    attempt(6, "refuted", 2.3),
]


def test_progress_steps_along_what_was_kept_and_shows_every_try(drawn: Callable[..., dict[str, Any]]) -> None:
    figure = drawn(HISTORY)["progress"]
    axes = figure.axes[0]
    step = next(line for line in axes.get_lines() if line.get_drawstyle() == "steps-post")
    assert list(step.get_xdata())[:-1] == [0, 1, 5] and list(step.get_ydata()) == [0.085, 0.070, 0.060, 0.060]
    by_label = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}
    assert by_label["supported"] == ([1, 5], [0.070, 0.060])
    assert by_label["refuted"] == ([2], [0.080]) and by_label["inconclusive"] == ([4], [0.069])
    assert by_label["failed"] == ([3], [0.03])  # of the height of the axes: a cross at the bottom
    assert [text.get_text() for text in axes.texts] == ["1: Small CNN", "5: Label smoothing"]
    assert "6 tries: 2 supported, 2 refuted, 1 inconclusive, 1 failed" in texts(figure)
    assert axes.get_ylabel() == "val_loss (lower is better)"
    assert [tick for tick in axes.get_xticks()] == list(range(7))


def test_intervals_of_the_tries_are_bars_and_a_disaster_is_hollow_at_the_edge(
    drawn: Callable[..., dict[str, Any]],
) -> None:
    axes = drawn(HISTORY)["progress"].axes[0]
    bars = sorted(tuple(map(tuple, path.vertices)) for found in axes.collections for path in found.get_paths())
    wanted = [(float(t.iteration), t.low, t.high) for t in HISTORY if t.value is not None and t.value < 1]
    assert bars == [((x, low), (x, high)) for x, low, high in wanted]
    hollow = [line for line in axes.get_lines() if line.get_fillstyle() == "none" and len(line.get_xdata())]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in hollow] == [([6], [axes.get_ylim()[1]])]
    assert axes.get_ylim()[1] < 0.2


def long_history(direction: str) -> list[Try]:
    draw, best, tries = random.Random(3), 0.085, []
    titles = [
        "Depthwise separable convolutions with GELU",
        "Cosine",
        "Mixup 0.2",
        "Weight averaging over the last quarter",
    ]
    for number in range(1, 61):
        kept = draw.random() < 0.25
        best *= 0.93 if kept else 1.0
        value = best if kept else best * (1 + abs(draw.gauss(0, 0.2)))
        value = value if direction == "minimize" else 1 - value
        tries.append(attempt(number, "supported" if kept else "refuted", value, titles[number % 4]))
    return tries


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_titles_of_what_was_kept_cover_no_other_title_and_no_point(
    drawn: Callable[..., dict[str, Any]], direction: str
) -> None:
    tries = long_history(direction)
    figure = drawn(tries, direction)["progress"]
    assert unreadable(figure) == []
    axes = figure.axes[0]
    kept = [one for one in tries if one.supported]
    assert len(axes.texts) >= len(kept) - 2 > 8
    renderer = figure.canvas.get_renderer()
    points = [axes.transData.transform((one.iteration, one.value)) for one in tries]
    for label in axes.texts:
        box = label.get_window_extent(renderer)
        assert not any(box.contains(x, y) for x, y in points), label.get_text()


@pytest.mark.parametrize(
    "tries",
    [
        [attempt(1, "supported", 0.05)],
        [attempt(1, "", None)],
        [attempt(1, "failed", 0.05)],
        [attempt(7, "refuted", 0.0), attempt(8, "refuted", 0.0)],
        [replace(attempt(1, "supported", 0.05), low=None, high=None), attempt(2, "no verdict", 1e140)],
    ],
    ids=["one", "nothing", "failed", "equal", "disaster"],
)
def test_progress_of_any_beginning_is_drawn_the_same_each_time(tmp_path: Path, tries: list[Try]) -> None:
    for name in ("a", "b"):
        figures.progress(tries, "val_loss", "minimize", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    assert png_size((tmp_path / "a.png").read_bytes())[0] == 1260
