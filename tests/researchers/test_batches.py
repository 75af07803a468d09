"""Ideas of a batch: drawn by a searcher that learns from the lessons of one base, or by the bandit, place by place."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import JsonValue

from autolab.ideas import tpe_searcher
from autolab.ideas.response_surface import ResponseSurface
from autolab.ideas.searchers import Point
from autolab.lab.schemas.config import Config, ResearcherConfig
from autolab.lab.schemas.experiment import Assessment, Comparison, Design, Hypothesis, Interval, Lesson, Results
from autolab.lab.schemas.outcomes import RequestKind, Verdict
from autolab.lab.schemas.replies import HypothesisOutput
from autolab.researchers.base import Batch, Code, Documents, Goal, History, LabSnapshot, Task, TaskFolders
from autolab.researchers.offline import bandit, batches, words
from autolab.researchers.offline.bench import find_bench
from autolab.researchers.offline.researcher import OfflineResearcher
from autolab.researchers.offline.search_points import SearchPoints

TEMPLATES = Path(__file__).resolve().parents[2] / "src" / "autolab" / "templates"
DIGITS = {
    "method.json": (TEMPLATES / "digits" / "method.json").read_text(),
    "models/__init__.py": 'DEFAULT = "mlp"\n',
    "train.py": "",
}
CONSTANTS = {"train.py": "LR = 3e-4\nMARGIN = 0.5\nHIDDEN = 64\n"}
BASE = "base"
Files = Mapping[str, str]
Changes = dict[str, JsonValue]


def configured(searcher: str = "auto") -> Config:
    metric = {"primary": "val_loss", "direction": "minimize", "success_delta": 0.01}
    value = {"metric": metric, "train": {"command": "python train.py"}, "screen": {"searcher": searcher}}
    return Config.from_value(value, "config.yaml")


def lesson(changes: Changes, gain: float | None, batch: int, number: int, pairs: int = 1, **more: Any) -> Lesson:
    """What the engine writes of an idea that was screened."""
    value = {
        "iteration": batch,
        "iteration_id": f"i_batch{batch}",
        "hypothesis_id": f"h{number}",
        "title": f"idea {number}",
        "family": "activation",
        "changes": changes,
        "base": BASE,
        "commit": "c",
        "status": "failed" if gain is None else "completed",
        "verdict": None if gain is None else "inconclusive",
        "outcome": "dropped",
        "reason": "failed" if gain is None else "screened",
        "delta": 0.01,
        "gain": None if gain is None else {"n": pairs, "mean": gain, "low": None, "high": None, "level": 0.95},
        "decision": "new_hypothesis",
    }
    return Lesson.from_value(value | more, "lesson")


def snapshot_of(
    files: Files,
    lessons: Sequence[Lesson] = (),
    batch: Batch | None = None,
    searcher: str = "auto",
    seed: int = 3,
    goal: str = "",
    documents: Documents | None = None,
    candidate: Files | None = None,
    trouble: str = "",
) -> LabSnapshot:
    """`lessons` are oldest first here."""
    return LabSnapshot(
        config=configured(searcher),
        goal=Goal(text=goal, given_with_loop=bool(goal), target=None),
        history=History(tuple(reversed(lessons)), frozenset(), seed, deviation=0.01),
        documents=documents or Documents("h1", 0, None, None, None),
        code=Code(BASE, files.get, (candidate or files).get),
        trouble=trouble,
        batch=batch,
    )


def asked(
    snapshot: LabSnapshot, kind: RequestKind = RequestKind.HYPOTHESIS, number: int = 1, policy: str = "bandit"
) -> Any:
    task = Task("k", kind, "i1", 1, number, "", TaskFolders(Path(), Path()), lambda: snapshot)
    config = ResearcherConfig.from_value({"policy": policy}, "researcher")
    raw = OfflineResearcher(config).perform(task).raw
    assert raw is not None
    return json.loads(raw)


def idea_of(answer: Any, hypothesis_id: str = "h1") -> Hypothesis:
    output = HypothesisOutput.from_value(answer["output"], "output")
    return Hypothesis(
        id=hypothesis_id,
        title=output.title,
        metric="val_loss",
        direction="minimize",
        success_delta=0.01,
        success=output.success,
        risk_bounds=output.risk_bounds,
        mechanism=output.mechanism,
        references=output.references,
        family=output.family,
        changes=output.changes,
    )


def batch_of(
    files: Files, lessons: Sequence[Lesson] = (), number: int = 1, size: int = 4, policy: str = "bandit", **more: Any
) -> list[Hypothesis]:
    """The ideas of a batch, asked for one after the other; fewer if one of them is given up."""
    ideas: list[Hypothesis] = []
    for place in range(1, size + 1):
        batch = Batch(number=number, size=size, place=place, earlier=tuple(ideas), concludes=False)
        answer = asked(snapshot_of(files, lessons, batch, **more), policy=policy)
        if answer["status"] == "failed":
            break
        ideas.append(idea_of(answer, f"h{place}"))
    return ideas


def concluded(files: Files, lessons: Sequence[Lesson], number: int = 9, **more: Any) -> Any:
    batch = Batch(number=number, size=1, place=1, earlier=(), concludes=True)
    return asked(snapshot_of(files, lessons, batch, **more))


PARTS = {("activation", "gelu"): 0.03, ("convolution", 16): 0.03, ("mixup", 0.1): -0.03, ("mixup", 0.3): -0.04}


def gain_of(changes: Changes) -> float:
    """Two parts help, one harms, and half of the step size is better than it."""
    lr = changes.get("lr", 1.0)
    assert isinstance(lr, float)
    gain = 0.01 - 0.01 * math.log2(lr / 0.5) ** 2
    for (change, value), effect in PARTS.items():
        if changes.get(change) == value:
            gain += effect
    return gain


def searched(files: Files, count: int, searcher: str = "auto", seed: int = 3) -> list[Lesson]:
    lessons: list[Lesson] = []
    luck = np.random.default_rng(seed)
    for number in range(1, count + 1):
        for idea in batch_of(files, lessons, number, searcher=searcher, seed=seed):
            gain = gain_of(idea.changes) + 0.004 * luck.standard_normal()
            lessons.append(lesson(dict(idea.changes), gain, number, len(lessons) + 1))
    return lessons


# The searcher


@pytest.mark.parametrize("files", [DIGITS, CONSTANTS], ids=["method", "constants"])
@pytest.mark.parametrize("searcher", ["auto", "surface", "tpe"])
def test_a_batch_holds_different_ideas_and_the_same_when_it_is_asked_again(files: Files, searcher: str) -> None:
    ideas = batch_of(files, searcher=searcher)
    assert len({json.dumps(idea.changes, sort_keys=True) for idea in ideas}) == 4 == len({idea.title for idea in ideas})
    assert all(idea.changes for idea in ideas)
    assert batch_of(files, searcher=searcher) == ideas
    other = batch_of(files, searcher=searcher, number=2)
    assert [idea.changes for idea in other] != [idea.changes for idea in ideas]


def test_a_search_ends_with_what_helps() -> None:
    lessons = searched(DIGITS, 12)
    answer = concluded(DIGITS, lessons)
    best = idea_of(answer).changes
    assert best.get("activation") == "gelu" and best.get("convolution") == 16 and "mixup" not in best
    assert gain_of(best) > 0.05


def test_what_was_screened_on_this_base_gives_way_to_the_next_draw() -> None:
    first = batch_of(CONSTANTS)
    # As if the same batch had been screened without telling anything about this space.
    lessons = [lesson(dict(first[0].changes), None, 1, 1, reason="review")]
    second = batch_of(CONSTANTS, lessons)
    assert [idea.changes for idea in second[:3]] == [idea.changes for idea in first[1:]]
    elsewhere = [lesson(dict(first[0].changes), None, 1, 1, reason="review", base="other")]
    assert batch_of(CONSTANTS, elsewhere) == first


def test_an_idea_that_the_batch_has_gives_way_too() -> None:
    first = batch_of(CONSTANTS)
    batch = Batch(number=1, size=4, place=1, earlier=tuple(first[:2]), concludes=False)
    assert idea_of(asked(snapshot_of(CONSTANTS, (), batch))).changes == first[2].changes


def test_only_lessons_of_ideas_on_this_base_are_told() -> None:
    points = SearchPoints(find_bench(CONSTANTS.get, configured(), None))
    changes: Changes = {"LR to": 6e-4}
    others = [
        lesson(changes, 0.5, 1, 1, base="other"),
        lesson(changes, 0.5, 1, 2, hypothesis_id="claim1"),
        lesson({}, 0.5, 1, 3),
        lesson({"unknown": 1}, 0.5, 1, 4),
        lesson(changes, 0.5, 1, 5, outcome="suspicious"),
        lesson(changes, None, 1, 6, reason="review"),
    ]
    assert batches._screened(snapshot_of(CONSTANTS, others), points) == []
    told = [
        lesson(changes, 0.5, 1, 1),
        lesson({"HIDDEN up": 2.0}, None, 1, 2),
        # Tested to its end on this base: it counts as often as it has pairs.
        lesson({"LR up": 2.0}, -7.0, 2, 3, reason="budget", pairs=3),
    ]
    snapshot = snapshot_of(CONSTANTS, told)
    screened = batches._screened(snapshot, points)
    assert [one.gain for one in screened] == [0.5, None, -7.0] and screened[1].point["HIDDEN"] == 128
    searcher = Recorded()
    batches._tell(searcher, points, screened, snapshot)
    # Ten wanted differences below the base is lost, and no more is told.
    assert searcher.scores == [[0.0], [0.5, None], [-0.1, -0.1, -0.1]]


class Recorded:
    """A searcher that keeps what it is told."""

    def __init__(self) -> None:
        self.scores: list[list[float | None]] = []

    def propose(self, count: int) -> list[Point]:
        return []

    def observe(self, points: Sequence[Point], scores: Sequence[float | None]) -> None:
        assert len(points) == len(scores)
        self.scores.append(list(scores))

    def best(self) -> Point:
        return {}


def test_a_measured_point_is_concluded_where_effects_do_not_add_up() -> None:
    """Each of two parts harms alone; together they help. No sum of effects says so."""
    pair: Changes = {"activation": "gelu", "convolution": 16}
    lessons = []
    for number in range(1, 6):
        lessons.append(lesson({"activation": "gelu"}, -0.05, number, 3 * number))
        lessons.append(lesson({"convolution": 16}, -0.05, number, 3 * number + 1))
        lessons.append(lesson({"averaging": "ema"}, 0.03, number, 3 * number + 2))
    # The sum of effects alone would conclude with the average of the weights.
    assert idea_of(concluded(DIGITS, lessons)).changes.get("averaging") == "ema"
    lessons.append(lesson(pair, 0.08, 6, 30))
    assert idea_of(concluded(DIGITS, lessons)).changes == pair


def test_a_deviation_of_pairs_is_that_of_two_trials() -> None:
    snapshot = snapshot_of(CONSTANTS)
    assert batches._deviation(snapshot) == pytest.approx(0.01 / 2**0.5)
    for unknown in (None, 0.0):
        history = replace(snapshot.history, deviation=unknown)
        assert batches._deviation(replace(snapshot, history=history)) == 0.01


def test_the_best_measured_point_is_concluded_where_no_part_is_clear() -> None:
    batch = [lesson({"activation": "gelu"}, 0.002, 1, 1), lesson({"norm": "batch", "convolution": 16}, -0.03, 1, 2)]
    assert idea_of(concluded(DIGITS, batch)).changes == {"activation": "gelu"}


def test_nothing_is_concluded_where_nothing_promises_a_gain() -> None:
    answer = concluded(DIGITS, [lesson({"activation": name}, -0.05, 1, 1) for name in ("gelu", "silu")])
    assert (answer["status"], answer["summary"]) == ("failed", "nothing that was screened promises a gain")


def test_a_space_that_is_used_up_makes_the_batch_smaller() -> None:
    flag = "p.add_argument('--nesterov', type=bool, default=False)"
    files = {"train.py": f"import argparse\np = argparse.ArgumentParser()\n{flag}\nfit(p.parse_args().nesterov)\n"}
    assert [idea.changes for idea in batch_of(files)] == [{"nesterov switch": True}]
    batch = Batch(number=1, size=4, place=2, earlier=(), concludes=False)
    answer = asked(snapshot_of(files, (), batch))
    assert answer["summary"] == "the searcher draws nothing that was not screened on this base"


def test_a_missing_optuna_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpe_searcher, "installed", lambda: False)
    with pytest.raises(Exception, match="needs the extra `search`"):
        batch_of(DIGITS, searcher="tpe")


def test_the_users_goal_is_the_first_idea_on_a_base() -> None:
    ideas = batch_of(DIGITS, goal="try GELU with batch norm and a CNN")
    assert ideas[0].changes == {"activation": "gelu", "norm": "batch", "convolution": 16}
    assert ideas[1].changes != ideas[0].changes and len(ideas) == 4
    # A runner-up of the batch before may have the first place.
    batch = Batch(number=1, size=4, place=2, earlier=(ideas[1],), concludes=False)
    second = idea_of(asked(snapshot_of(DIGITS, (), batch, goal="try GELU with batch norm and a CNN")))
    assert second.changes == ideas[0].changes
    screened = [lesson(dict(ideas[0].changes), 0.01, 1, 1)]
    assert batch_of(DIGITS, screened, 2, goal="try GELU with batch norm and a CNN")[0].changes != ideas[0].changes


@pytest.mark.parametrize(
    ("searcher", "policy", "concludes"),
    [
        ("auto", "bandit", True),
        ("surface", "bandit", True),
        ("tpe", "bandit", True),
        ("bandit", "bandit", False),
        ("auto", "random", False),
        ("surface", "random", True),
    ],
)
def test_who_learns_from_all_screens_concludes(searcher: str, policy: str, concludes: bool) -> None:
    researcher = OfflineResearcher(ResearcherConfig.from_value({"policy": policy}, "researcher"))
    assert researcher.concludes(configured(searcher)) is concludes


# The bandit


@pytest.mark.parametrize("policy", ["bandit", "random"])
def test_without_a_model_a_batch_is_the_best_of_one_draw(policy: str) -> None:
    ideas = batch_of(DIGITS, policy=policy, searcher="bandit")
    assert len({json.dumps(idea.changes, sort_keys=True) for idea in ideas}) == 4
    assert all(len(idea.changes) == 1 for idea in ideas)
    assert batch_of(DIGITS, policy=policy, searcher="bandit") == ideas
    if policy == "bandit":
        alone = asked(snapshot_of(DIGITS, searcher="bandit"))
        assert idea_of(alone).changes == ideas[0].changes


def test_a_bandit_whose_catalogue_is_used_up_makes_the_batch_smaller() -> None:
    ideas = batch_of({"train.py": "MARGIN = 0.5\n"}, searcher="bandit")
    assert [idea.changes for idea in ideas] in (
        [{"MARGIN up": 2.0}, {"MARGIN down": 0.5}],
        [{"MARGIN down": 0.5}, {"MARGIN up": 2.0}],
    )


@pytest.mark.parametrize("gain", [0.2, None])
def test_a_step_is_another_idea_on_another_base(gain: float | None) -> None:
    """Doubled once and kept, or diverged: on a new base doubling leads to a value that nobody has tried."""
    bench = find_bench(CONSTANTS.get, configured(), None)
    told = [lesson({"LR up": 2.0}, gain, 1, 1, base="before")]
    fresh = bandit.ideas(bench.mechanisms, (), BASE, bench.fits)
    assert bandit.ideas(bench.mechanisms, told, BASE, bench.fits) == fresh
    # A kind is the same idea on every base, so what failed once is left.
    pictures = find_bench(DIGITS.get, configured(), None)
    failed = [lesson({"activation": "gelu"}, None, 1, 1, base="before")]
    left = bandit.ideas(pictures.mechanisms, failed, BASE, pictures.fits)
    assert {"activation": "gelu"} not in [idea.changes for idea in left]


# Words


def test_the_words_of_many_parts_stay_short() -> None:
    ideas = batch_of(DIGITS)
    for idea in ideas:
        assert len(idea.changes) > 3 and idea.family is not None
        assert len(idea.title) < 150 and ", and " in idea.title and " more (" in idea.title
        assert idea.family.count("+") == 3 and idea.family.endswith("+more")
        assert idea.mechanism.startswith(f"{len(idea.changes)} parts change together: ") and len(idea.mechanism) < 2500


def test_a_few_parts_are_named_in_full() -> None:
    points = SearchPoints(find_bench(DIGITS.get, configured(), None))
    idea = points.idea({"activation": "gelu", "lr": 0.6})
    assert idea is not None
    output = words.hypothesis(idea, configured().metric, ())
    assert output.title == "GELU activations and smaller steps (x0.6)"
    assert output.family == "activation+optimiser" and "weighs an input" in output.mechanism
    settings = SearchPoints(find_bench(CONSTANTS.get, configured(), None))
    one = settings.idea({"LR to": 0.0005})
    assert one is not None and words.hypothesis(one, configured().metric, ()).title == "LR 0.0005"


# Code


def design_of(changes: Changes) -> Design:
    spec = {
        "id": "e1",
        "iteration_id": "i1",
        "hypothesis_id": "h1",
        "entrypoint": {"command": "python train.py"},
        "reproducibility": {"seeds": {"max_pairs": 3}},
        "metrics": {"primary": "val_loss", "success_delta": 0.01},
        "baselines": [{"name": "baseline"}],
        "variants": [{"name": "h1-point"}],
        "changes": changes,
    }
    return Design.from_value(spec, "design.yaml")


@pytest.mark.parametrize("files", [DIGITS, CONSTANTS], ids=["method", "constants"])
def test_code_review_and_withdrawal_of_a_point(files: Files) -> None:
    idea = batch_of(files)[0]
    documents = Documents("h1", 0, idea, design_of(dict(idea.changes)), None)
    written = asked(snapshot_of(files, documents=documents), RequestKind.IMPLEMENTATION)["output"]
    candidate = dict(files)
    for file in written["files"]:
        candidate[file["path"]] = file["content"]
    for edit in written["edits"]:
        assert candidate[edit["path"]].count(edit["search"]) == 1
        candidate[edit["path"]] = candidate[edit["path"]].replace(edit["search"], edit["replace"])
    assert candidate != files
    told = snapshot_of(files, documents=documents, candidate=candidate)
    review = asked(told, RequestKind.IMPLEMENTATION_REVIEW)["output"]
    assert not [finding for finding in review["findings"] if finding["severity"] == "blocking"]
    assert "byte for byte" in review["notes"]
    broken = {path: f"{text} " for path, text in candidate.items()}
    review = asked(replace(told, code=Code(BASE, files.get, broken.get)), RequestKind.IMPLEMENTATION_REVIEW)["output"]
    assert any(finding["severity"] == "blocking" for finding in review["findings"])
    failed = snapshot_of(files, documents=documents, trouble="it does not run")
    withdrawn = asked(failed, RequestKind.IMPLEMENTATION, number=2)["output"]
    assert withdrawn["plan"].startswith("Withdrawn") and withdrawn != written


@pytest.mark.parametrize(("reason", "refined"), [("budget", True), ("futile", False), ("no_change", False)])
def test_a_futile_idea_is_not_refined(reason: str, refined: bool) -> None:
    difference = Interval(n=8, mean=0.005, low=None, high=None, level=0.9)
    assessment = Assessment.model_construct(
        verdict=Verdict.INCONCLUSIVE,
        reason=reason,
        comparisons=(Comparison.model_construct(arm="a", difference=difference),),
    )
    results = Results.model_construct(assessment=assessment, confirmation=None)
    documents = Documents("h1", 0, None, design_of({"label_smoothing": 0.02}), results)
    decided = asked(snapshot_of(DIGITS, documents=documents), RequestKind.DECIDE_REPEAT)["output"]
    assert decided["decision"] == ("refine" if refined else "new_hypothesis")


@pytest.mark.process
def test_numpy_is_loaded_when_a_batch_is_asked_for_and_not_before() -> None:
    code = "import sys, autolab.researchers.offline.researcher; print({'numpy', 'optuna'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_answer_from_two_hundred_lessons_takes_no_time() -> None:
    files = DIGITS | {"method.json": (TEMPLATES / "cifar10" / "method.json").read_text()}
    points = SearchPoints(find_bench(files.get, configured(), None))
    searcher = ResponseSurface(points.space, 1.0, seed=1)
    luck = np.random.default_rng(1)
    lessons = []
    for number, point in enumerate(searcher.propose(200)):
        gain = 0.01 * luck.standard_normal()
        lessons.append(lesson(points.changes(point) or {"clip": 1.0}, gain, number // 4, number))
    batch = Batch(number=51, size=4, place=4, earlier=(), concludes=False)
    snapshot = snapshot_of(files, lessons, batch)
    times = []
    for _ in range(3):
        # Of this thread alone: others may keep the machine busy.
        began = time.thread_time()
        assert asked(snapshot)["status"] == "complete"
        times.append(time.thread_time() - began)
    assert min(times) < 0.3, times
