"""The figure of progress: every iteration of the campaign so far, and what was kept of them.

A batch of mode `explore` is one iteration with several tries: small dots for ideas that are no step, hollow circles
along a dashed line for what later ideas are built upon, and stars on the full line for what was claimed.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolab.ideas import lessons
from autolab.lab.lab import Lab
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import Config, Direction
from autolab.lab.schemas.experiment import Interval, Lesson
from autolab.lab.schemas.outcomes import Fate
from autolab.reports import claim_words, drawing
from autolab.reports.drawing import BASELINE_COLOURS, VARIANT_COLOURS, WIDTH, Page
from autolab.reports.exploration_account import counted

_SCREENED = "not built upon"
"""An idea that was screened, and is no step."""
_MARKS = {
    "baseline": ("D", BASELINE_COLOURS[0]),
    "claimed": ("*", VARIANT_COLOURS[0]),
    "supported": ("o", VARIANT_COLOURS[0]),
    "provisional": ("o", VARIANT_COLOURS[0]),
    "refuted": ("v", VARIANT_COLOURS[1]),
    "inconclusive": ("s", BASELINE_COLOURS[1]),
    "claim failed": ("X", VARIANT_COLOURS[1]),
    _SCREENED: (".", BASELINE_COLOURS[1]),
    "failed": ("x", "black"),
}
_SIZES = {"claimed": 9.0, "provisional": 6.5, _SCREENED: 5.0}
"""Of markers that are larger or smaller than the others, in points."""
_KEPT_KINDS = ("baseline", "claimed", "supported")
_UNMEASURED = "not measured"
"""An idea that has no score: it is counted and not drawn."""
_KEPT: drawing.Style = {"linestyle": "-", "linewidth": 1.5, "color": VARIANT_COLOURS[0]}
_UNCLAIMED: drawing.Style = {"linestyle": "--", "linewidth": 1.0, "color": VARIANT_COLOURS[0]}
_BAR: drawing.Style = {"linestyle": "-", "linewidth": 1.2, "alpha": 0.6}
_LEFT, _WIDE, _TALL = 0.95, WIDTH - 1.1, 3.6
"""Inches: where the axes begin, and their size."""
_FAR = 5
"""How many times as far as the best value a value may lie from what is usual, and still be on the axis."""
_TICKS = 25
"""Iterations that get a tick at most."""
_BEYOND = ", beyond the axis"


@dataclass(frozen=True)
class Try:
    """An iteration, or an idea of a batch. The first may be the "baseline"; a failed one has no `score`."""

    iteration: int
    title: str
    verdict: str
    score: Interval | None

    @property
    def kind(self) -> str:
        """Which marker it has."""
        if self.score is None:
            return _UNMEASURED if self.verdict in (_SCREENED, Fate.PROVISIONAL) else "failed"
        if self.verdict in _MARKS:
            return self.verdict
        return "inconclusive"

    @property
    def kept(self) -> bool:
        return self.kind in _KEPT_KINDS


def show_progress(lab: Lab, config: Config, campaign: Campaign) -> list[str]:
    """Draw every iteration so far among the paper's figures, while the checkout is the lab's; the files written."""
    learned = lessons.recall(lab.store, lab.ledger, campaign.learned)[::-1]
    # The figure lies in the checkout, which may hold another branch of the user's.
    if not learned or lab.away(campaign):
        return []
    tries = []
    baseline = base_score(learned)
    if baseline:
        tries.append(Try(learned[0].iteration - 1, "baseline", "baseline", baseline))
    tries += [try_of(lesson) for lesson in learned]
    stem = lab.root / config.docs.figures / "progress"
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = draw(tries, config.metric.primary, config.metric.direction, stem)
    return [str(path.relative_to(lab.root)) for path in paths]


def base_score(learned: Sequence[Lesson]) -> Interval | None:
    """The score of the first base: as a claim measured it, or else the first batch, often by a single trial."""
    first = learned[0]
    for lesson in learned:
        if lesson.base == first.base and lesson.baseline and claim_words.is_claim_iteration(lesson.iteration_id):
            return lesson.baseline
    return first.baseline


def try_of(lesson: Lesson) -> Try:
    """A lesson as the progress shows it."""
    score = lesson.measured
    # A failed iteration may have measured some trials; they prove nothing.
    if lesson.status == "failed":
        score = None
    verdict: str = lesson.verdict or lesson.status
    if lesson.outcome == Fate.PROVISIONAL:
        verdict = lesson.outcome
    elif lesson.outcome in (Fate.DROPPED, Fate.SCREENED):
        verdict = _SCREENED
    elif lesson.verdict is not None and claim_words.is_claim_iteration(lesson.iteration_id):
        verdict = "claimed" if lesson.outcome == "kept" else "claim failed"
    return Try(lesson.iteration, lesson.title, verdict, score)


def draw(tries: Sequence[Try], metric: str, direction: Direction, stem: Path) -> tuple[Path, Path]:
    """Draw the tries, at least one, in the order of iterations; writes `stem`.png and .pdf."""
    with drawing.settings():
        return drawing.save(_page(tries, metric, direction).figure, stem)


def _page(tries: Sequence[Try], metric: str, direction: Direction) -> Page:
    axis = _Axis(tries, direction)
    points = [_Point(attempt, axis) for attempt in tries if attempt.kind != _UNMEASURED]
    kept = [point for point in points if point.attempt.kept]
    groups = _groups(points)
    stacks = list(_stacks(points))
    page = Page(_title(tries, kept, metric), _TALL, _entries(groups, stacks, _interval_label(tries)))
    axes = page.axes(_LEFT, _WIDE)
    drawing.scale(axes, "y", axis.means, _TALL, axis.logarithmic)
    first, last = tries[0].iteration, tries[-1].iteration
    # Beyond the last iteration the line of what was kept goes on to the edge.
    edge = last + 0.7
    axes.set_xlim(first - 0.7, edge)
    axes.set_ylim(*axis.limits)
    axes.set_xticks(range(first, last + 1, math.ceil((last - first + 1) / _TICKS)))
    axes.set_xlabel("iteration")
    axes.set_ylabel(drawing.axis_label(metric, direction, _TALL, values=axis.means, logarithmic=axis.logarithmic))

    if kept:
        places, heights = _coordinates(kept)
        axes.step([*places, edge], [*heights, heights[-1]], where="post", **_KEPT)
    for stack in stacks:
        places, heights = _coordinates(stack)
        # The last step holds until a claim decides on it, or until now.
        end = next((point.x for point in points if point.x > places[-1] and point.decides), edge)
        axes.step([*places, end], [*heights, heights[-1]], where="post", **_UNCLAIMED)
    for group in groups.values():
        # A marker at the edge of the axis is drawn whole.
        axes.plot(*_coordinates(group), clip_on=False, **group[0].style)
        for point in group:
            if point.ends:
                axes.plot([point.x, point.x], point.ends, color=point.style["color"], **_BAR)
    good = 1
    if direction == "minimize":
        good = -1
    _annotate(page.figure, axes, points, good)
    return page


def _stacks(points: Sequence[_Point]) -> Iterator[list[_Point]]:
    """The provisional steps between two claims, in order, each list with the base that they are built upon."""
    base: list[_Point] = []
    steps: list[_Point] = []
    for point in points:
        if point.attempt.kind == "provisional":
            steps.append(point)
        if not point.decides:
            continue
        if steps:
            yield [*base, *steps]
        steps = []
        # After a claim that failed the next ideas branch from the old base again.
        if point.attempt.kept:
            base = [point]
    if steps:
        yield [*base, *steps]


def _coordinates(points: Sequence[_Point]) -> tuple[list[int], list[float]]:
    places, heights = [], []
    for point in points:
        places.append(point.x)
        heights.append(point.y)
    return places, heights


def _title(tries: Sequence[Try], kept: Sequence[_Point], metric: str) -> str:
    """How far the campaign has come, and how many iterations or ideas had which result."""
    counts = Counter(attempt.kind for attempt in tries)
    del counts["baseline"]
    numbers = {attempt.iteration for attempt in tries if attempt.kind != "baseline"}
    iterations = counted(len(numbers), "iteration")
    # Of a long campaign the lab remembers the newest lessons.
    if min(numbers, default=1) > 1:
        iterations = f"the last {iterations}"
    words = {kind: kind for kind in (*_MARKS, _UNMEASURED)}
    if counts["claim failed"] > 1:
        words["claim failed"] = "claims failed"
    results = ", ".join(f"{counts[kind]} {word}" for kind, word in words.items() if counts[kind])
    if len(kept) > 1:
        return f"{metric} from {kept[0].y:.4g} to {kept[-1].y:.4g} in {iterations}: {results}"
    return f"{iterations}: {results}"


def _entries(groups: Mapping[str, Sequence[_Point]], stacks: Sequence[object], interval: str) -> list[Any]:
    """The legend: an entry for each line and marker that is drawn."""
    entries = []
    for label, group in groups.items():
        entries.append(drawing.entry(label, group[0].style))
    if any(group[0].attempt.kept for group in groups.values()):
        entries.insert(0, drawing.entry("kept so far", _KEPT))
    if stacks:
        entries.insert(1, drawing.entry("built upon, unclaimed", _UNCLAIMED))
    if interval:
        entries.append(drawing.entry(interval, _BAR))
    return entries


def _interval_label(tries: Sequence[Try]) -> str:
    """What the bars are, and from how many trials; empty if no try has an interval."""
    counts = {attempt.score.n for attempt in tries if attempt.score and drawing.ends(attempt.score)}
    if not counts:
        return ""
    trials = f"{max(counts)} trials"
    if len(counts) > 1:
        trials = f"{min(counts)} to {trials}"
    return f"95% interval of the mean, {trials}"


class _Axis:
    """The axis of the metric: room for titles at its good end, and no single disaster at the bad one.

    It is logarithmic if the kept values span decades. A *place* is where a value lies along it; smaller is better.
    """

    def __init__(self, tries: Sequence[Try], direction: Direction) -> None:
        self._sign = 1.0
        if direction == "maximize":
            self._sign = -1.0
        self.means: list[float] = []
        kept: list[float] = []
        for attempt in tries:
            if attempt.score:
                self.means.append(attempt.score.mean)
            if attempt.score and (attempt.kept or attempt.kind == "provisional"):
                kept.append(attempt.score.mean)
        self.logarithmic = bool(kept) and min(self.means) > 0 and drawing.spans_decades(kept)

        # A value far beyond the usual would press all others into one line, so it is left off the axis.
        places = sorted(map(self._place, self.means)) or [0.0, 1.0]
        best = places[0]
        usual = max([places[len(places) // 2], *map(self._place, kept)])
        farthest = usual + _FAR * (usual - best or places[-1] - best)
        visible = [place for place in places if place <= farthest]
        for attempt in tries:
            if attempt.score and self._place(attempt.score.mean) <= farthest:
                visible += self._places_of_ends(attempt.score)
        top, bottom = min(visible), max(visible)
        # All values may be equal, and even 0: the axis still has a length.
        room = 0.08 * (bottom - top or abs(best) or 1.0)
        good, bad = top - room, bottom + room
        if kept:
            good -= 3 * room  # the titles of what was kept stand on the good side
        self.limits = sorted((self._value(good), self._value(bad)))
        above_bottom = 0.03 * (bad - good)
        self.bottom = self._value(good + above_bottom if self._sign > 0 else bad - above_bottom)
        """Where the crosses of failed iterations stand."""

    def _places_of_ends(self, score: Interval) -> list[float]:
        # A logarithm has no place for an end at or below 0.
        return [self._place(end) for end in drawing.ends(score) if end > 0 or not self.logarithmic]

    def _place(self, value: float) -> float:
        if self.logarithmic:
            value = math.log10(value)
        return self._sign * value

    def _value(self, place: float) -> float:
        value = self._sign * place
        return 10**value if self.logarithmic else value


class _Point:
    """Where and how a try is drawn, and the words beside it."""

    def __init__(self, attempt: Try, axis: _Axis) -> None:
        self.attempt = attempt
        self.x = attempt.iteration
        self.y = axis.bottom
        self.ends: list[float] = []
        self.label, self.words = attempt.kind, ""
        marker, colour = _MARKS[attempt.kind]
        size = _SIZES.get(attempt.kind, 5.5)
        self.style: dict[str, Any] = {"marker": marker, "color": colour, "linestyle": "none", "markersize": size}
        if attempt.kind == "provisional":
            self.style["fillstyle"] = "none"
        elif attempt.kind == _SCREENED:
            # Below all that was built upon or decided.
            self.style["zorder"] = 1.5
        if attempt.score is None:
            self.label = "failed, no score"
            return
        mean = attempt.score.mean
        low, high = axis.limits
        self.y = min(max(mean, low), high)
        # A value beyond the axis stands hollow at its edge, with the number in words.
        if self.y != mean:
            self.label += _BEYOND
            # Of many dots at the edge the numbers would cover the figure.
            self.words = "" if attempt.kind == _SCREENED else f"{mean:.3g}"
            self.style["fillstyle"] = "none"
            return
        self.ends = drawing.ends(attempt.score)
        if attempt.kind in ("claimed", "supported"):
            title = textwrap.wrap(f"{self.x}: {attempt.title}", 32, max_lines=2, placeholder=" ...")
            self.words = "\n".join(title)

    @property
    def decides(self) -> bool:
        """Whether the ideas after it branch from another commit than those before."""
        return self.attempt.kept or self.attempt.kind == "claim failed"


def _groups(points: Sequence[_Point]) -> dict[str, list[_Point]]:
    """The points that look alike, by their label in the legend, in the order of the markers."""
    groups: dict[str, list[_Point]] = {}
    for beyond in (False, True):
        for kind in _MARKS:
            for point in points:
                if point.attempt.kind == kind and point.label.endswith(_BEYOND) is beyond:
                    groups.setdefault(point.label, []).append(point)
    return groups


# The words beside the points


def _annotate(figure: Any, axes: Any, points: Sequence[_Point], good: int) -> None:
    """Titles of what was kept, and values beyond the axis, each at the nearest free place, or not at all."""
    renderer, frame = figure.canvas.get_renderer(), axes.get_window_extent()
    obstacles = _obstacles(axes, points, 4 * figure.dpi / 72)
    for point in points:
        if point.words:
            label = axes.annotate(point.words, (point.x, point.y), (0, 0), textcoords="offset points", fontsize=8)
            _settle(label, renderer, frame, obstacles, good)


def _obstacles(axes: Any, points: Sequence[_Point], radius: float) -> list[Any]:
    """Boxes, in pixels, that no words may cover: markers with their bars, the line of what was kept."""
    from matplotlib.transforms import Bbox

    to_pixels, frame = axes.transData.transform, axes.bbox
    boxes, corners = [], []
    for point in points:
        # The dots of screened ideas are too many to keep words away from.
        if point.attempt.kind == _SCREENED:
            continue
        x, y = to_pixels((point.x, point.y))
        if point.attempt.kept:
            corners.append((x, y))
        heights = [y]
        for end in point.ends:
            heights.append(to_pixels((point.x, end))[1])
        # On a logarithmic axis an end below 0 lies nowhere.
        bottom = max(frame.y0, min(heights))
        boxes.append(Bbox([[x - radius, bottom - radius], [x + radius, max(heights) + radius]]))
    if corners:
        corners.append((frame.x1, corners[-1][1]))
    # Each step of the line is a level part and then an upright one.
    for (left, height), (right, next_height) in itertools.pairwise(corners):
        boxes.append(Bbox([[left, height], [right, height]]).padded(2))
        boxes.append(Bbox([[right, height], [right, next_height]]).padded(2))
    return boxes


def _settle(label: Any, renderer: Any, frame: Any, obstacles: list[Any], good: int) -> None:
    """Move a label to the first place where it covers nothing, the good side of its line first; else remove it."""
    for side, distance, align in itertools.product((good, -good), range(9, 130, 11), ("right", "center", "left")):
        label.set_position((0, side * distance))
        label.set(ha=align, va="top" if side < 0 else "bottom")
        box = label.get_window_extent(renderer)
        inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        if inside and not any(box.overlaps(obstacle) for obstacle in obstacles):
            obstacles.append(box.padded(2))
            return
    # No title is better than one that hides a value.
    label.remove()
