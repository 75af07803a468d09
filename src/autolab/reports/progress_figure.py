"""The figure of progress: every iteration of the campaign so far, and what was kept of them."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolab.ideas import lessons
from autolab.lab.lab import Lab
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import Config, Direction
from autolab.lab.schemas.experiment import Interval
from autolab.reports import drawing
from autolab.reports.drawing import BASELINE_COLOURS, VARIANT_COLOURS, WIDTH, Page
from autolab.stats import metric_names

_MARKS = {
    "baseline": ("D", BASELINE_COLOURS[0]),
    "supported": ("o", VARIANT_COLOURS[0]),
    "refuted": ("v", VARIANT_COLOURS[1]),
    "inconclusive": ("s", BASELINE_COLOURS[1]),
    "failed": ("x", "black"),
}
_KEPT: drawing.Style = {"linestyle": "-", "linewidth": 1.5, "color": VARIANT_COLOURS[0]}
_BAR: drawing.Style = {"linestyle": "-", "linewidth": 1.2, "alpha": 0.6}
_FAR = 5
"""How many times as far as the best value a value may lie from what is usual, and still be on the axis."""
_TICKS = 25
"""Iterations that get a tick at most."""
_BOTTOM = 0.03
"""Where the crosses of failed iterations stand, as a share of the axes' height."""
_OFFSET: dict[str, Any] = {"xytext": (0, 0), "textcoords": "offset points"}


@dataclass(frozen=True)
class Try:
    """One iteration as the progress shows it. `verdict` is "baseline" where all began; without a `score` it failed."""

    iteration: int
    title: str
    verdict: str
    score: Interval | None

    @property
    def kind(self) -> str:
        """Which marker it has."""
        if self.score is None or self.verdict == "failed":
            return "failed"
        return self.verdict if self.verdict in _MARKS else "inconclusive"

    @property
    def kept(self) -> bool:
        return self.kind in ("baseline", "supported")


def show_progress(lab: Lab, config: Config, campaign: Campaign) -> list[str]:
    """Draw every iteration so far among the paper's figures, while the checkout is the lab's; the files written."""
    learned = lessons.recall(lab.store, lab.ledger, campaign.learned)[::-1]
    if not learned or lab.away(campaign):
        return []
    tries = [
        Try(lesson.iteration, lesson.title, lesson.verdict or lesson.status, lesson.measured) for lesson in learned
    ]
    if learned[0].baseline:
        tries.insert(0, Try(learned[0].iteration - 1, "baseline", "baseline", learned[0].baseline))
    stem = lab.root / config.docs.figures / "progress"
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = draw(tries, config.metric.primary, config.metric.direction, stem)
    return [str(path.relative_to(lab.root)) for path in paths]


def draw(tries: Sequence[Try], metric: str, direction: Direction, stem: Path) -> tuple[Path, Path]:
    """Draw the tries, at least one, in the order of iterations; writes `stem`.png and .pdf."""
    with drawing.settings():
        return drawing.save(_Progress(tries, metric, direction).page().figure, stem)


class _Progress:
    """The figure while it is drawn. The axis is logarithmic where what was kept spans decades."""

    def __init__(self, tries: Sequence[Try], metric: str, direction: Direction) -> None:
        self.tries = tries
        self.metric = metric
        self.sign = 1.0 if direction == "minimize" else -1.0
        self.direction = direction
        self.scored = [(t, t.score) for t in tries if t.score is not None and t.kind != "failed"]
        self.kept = [(t, score) for t, score in self.scored if t.kept]
        kept_means = [score.mean for _, score in self.kept]
        positive = all(score.mean > 0 for _, score in self.scored)
        self.logarithmic = bool(kept_means) and positive and drawing.spans_decades(kept_means)
        self.limits = self._limits()

    def page(self) -> Page:
        page = Page(self._title(), 3.6, self._entries())
        axes = page.axes(0.95, WIDTH - 1.1)
        scores = [score.mean for _, score in (self.kept if self.logarithmic else self.scored)]
        drawing.scale(axes, "y", scores, 3.6, self.logarithmic)
        first, last = self.tries[0].iteration, self.tries[-1].iteration
        axes.set_xlim(first - 0.7, last + 0.7)
        axes.set_ylim(*self.limits)
        axes.set_xticks(range(first, last + 1, math.ceil((last - first + 1) / _TICKS)))
        axes.set_xlabel("iteration")
        axes.set_ylabel(drawing.wrapped(self._label(), 3.6))
        self._draw(axes)
        self._annotate(page.figure, axes)
        return page

    def _label(self) -> str:
        notes = ["logarithmic"] if self.logarithmic else []
        return metric_names.axis_label(self.metric, self.direction, *notes)

    def _title(self) -> str:
        """How far the campaign has come, and how many iterations came to what."""
        kinds = [t.kind for t in self.tries if t.kind != "baseline"]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in _MARKS if kind in kinds)
        iterations = "1 iteration" if len(kinds) == 1 else f"{len(kinds)} iterations"
        if len(self.kept) > 1:
            before, after = self.kept[0][1].mean, self.kept[-1][1].mean
            return f"{self.metric} from {before:.4g} to {after:.4g} in {iterations}: {counts}"
        return f"{iterations}: {counts}"

    def _limits(self) -> tuple[float, float]:
        """Both ends of the axis: room for titles on the good side, and no lone disaster on the bad one."""
        places = sorted(self._place(score.mean) for _, score in self.scored) or [0.0, 1.0]
        best = places[0]
        usual = max([places[len(places) // 2], *(self._place(score.mean) for _, score in self.kept)])
        farthest = usual + _FAR * (usual - best or places[-1] - best)
        ends = [place for place in places if place <= farthest]
        for _, score in self.scored:
            if self._place(score.mean) <= farthest:
                ends += [self._place(end) for end in _ends(score) if end > 0 or not self.logarithmic]
        room = 0.08 * (max(ends) - min(ends) or abs(best) or 1.0)
        good = self._value(min(ends) - (4 if self.kept else 1) * room)
        bad = self._value(max(ends) + room)
        return min(good, bad), max(good, bad)

    def _place(self, value: float) -> float:
        """Where a value lies along the axis; smaller is better."""
        return self.sign * (math.log10(value) if self.logarithmic else value)

    def _value(self, place: float) -> float:
        return 10 ** (self.sign * place) if self.logarithmic else self.sign * place

    def _clipped(self, score: Interval) -> float:
        """The mean, or the end of the axis that it lies beyond."""
        return min(max(score.mean, self.limits[0]), self.limits[1])

    def _inside(self, score: Interval) -> bool:
        return self.limits[0] < score.mean < self.limits[1]

    def _of_kind(self, kind: str, inside: bool) -> list[tuple[Try, Interval]]:
        return [(t, score) for t, score in self.scored if t.kind == kind and self._inside(score) is inside]

    def _entries(self) -> list[Any]:
        """What the legend says: an entry for each line and marker that is drawn."""
        entries = []
        if self.kept:
            entries.append(drawing.entry("kept so far", **_KEPT))
        for kind in _MARKS:
            if self._of_kind(kind, inside=True):
                entries.append(drawing.entry(kind, **_mark(kind)))
        if any(t.kind == "failed" for t in self.tries):
            entries.append(drawing.entry("failed, no score", **_mark("failed")))
        for kind in _MARKS:
            if self._of_kind(kind, inside=False):
                entries.append(drawing.entry(f"{kind}, beyond the axis", **_mark(kind), fillstyle="none"))
        counts = sorted(score.n for _, score in self.scored if score.low is not None)
        if counts:
            trials = f"{counts[0]} trials" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]} trials"
            entries.append(drawing.entry(f"95% interval of the mean, {trials}", **_BAR))
        return entries

    def _draw(self, axes: Any) -> None:
        if self.kept:
            places = [t.iteration for t, _ in self.kept] + [self.tries[-1].iteration + 0.7]
            heights = [score.mean for _, score in self.kept]
            axes.step(places, [*heights, heights[-1]], where="post", **_KEPT)
        for kind in _MARKS:
            inside, beyond = self._of_kind(kind, inside=True), self._of_kind(kind, inside=False)
            for t, score in inside:
                axes.plot([t.iteration] * len(_ends(score)), _ends(score), **_BAR, color=_MARKS[kind][1])
            if inside:
                axes.plot([t.iteration for t, _ in inside], [score.mean for _, score in inside], **_mark(kind))
            for t, score in beyond:
                axes.plot([t.iteration], [self._clipped(score)], **_mark(kind), fillstyle="none", clip_on=False)
        failed = [t.iteration for t in self.tries if t.kind == "failed"]
        if failed:
            axes.plot(failed, [_BOTTOM] * len(failed), transform=axes.get_xaxis_transform(), **_mark("failed"))

    def _annotate(self, figure: Any, axes: Any) -> None:
        """Titles of what was kept, and values beyond the axis, each at the nearest free place, or not at all."""
        renderer, frame = figure.canvas.get_renderer(), axes.get_window_extent()
        obstacles = self._obstacles(axes, 4 * figure.dpi / 72)
        good = -1 if self.sign > 0 else 1
        for t, score in self.kept:
            if t.kind == "supported":
                words = textwrap.wrap(f"{t.iteration}: {t.title}", 32, max_lines=2, placeholder=" ...")
                label = axes.annotate("\n".join(words), (t.iteration, score.mean), **_OFFSET, fontsize=8)
                _settle(label, renderer, frame, obstacles, good)
        for t, score in self.scored:
            if not self._inside(score):
                label = axes.annotate(f"{score.mean:.3g}", (t.iteration, self._clipped(score)), **_OFFSET, fontsize=7)
                _settle(label, renderer, frame, obstacles, good)

    def _obstacles(self, axes: Any, dot: float) -> list[Any]:
        """Boxes, in pixels, that no title may cover: markers (of radius `dot`), bars, the line of what was kept."""
        from matplotlib.transforms import Bbox

        to_pixels, bottom = axes.transData.transform, axes.get_window_extent().y0
        boxes = []
        for t in self.tries:
            if t.kind == "failed":
                x, y = axes.get_xaxis_transform().transform((t.iteration, _BOTTOM))
                boxes.append(Bbox([[x - dot, y - dot], [x + dot, y + dot]]))
        for t, score in self.scored:
            x, y = to_pixels((t.iteration, self._clipped(score)))
            ends = [y]
            if self._inside(score):
                ends += [max(bottom, to_pixels((t.iteration, end))[1]) for end in _ends(score)]
            boxes.append(Bbox([[x - dot, min(ends) - dot], [x + dot, max(ends) + dot]]))
        corners = [to_pixels((t.iteration, score.mean)) for t, score in self.kept]
        if not corners:
            return boxes
        for (left, height), (right, next_height) in itertools.pairwise([*corners, (axes.bbox.x1, corners[-1][1])]):
            boxes.append(Bbox([[left, height], [right, height]]).padded(2))
            boxes.append(Bbox([[right, height], [right, next_height]]).padded(2))
        return boxes


def _ends(score: Interval) -> list[float]:
    """Both ends of its interval, or none."""
    return [] if score.low is None or score.high is None else [score.low, score.high]


def _mark(kind: str) -> dict[str, Any]:
    marker, colour = _MARKS[kind]
    return {"marker": marker, "color": colour, "linestyle": "none", "markersize": 5.5}


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
    label.remove()
