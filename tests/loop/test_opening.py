"""Iterations that enter the loop later than at the hypothesis, with what they bring."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_kit import HELPS, Kept, LabKit, decision, docs, hypothesis, implementation, iteration, make_lab, script

from autolab.cli.view import Plain
from autolab.errors import LabError
from autolab.lab.front_matter import front_matter
from autolab.lab.lab import Lab
from autolab.lab.schemas.experiment import Design, Hypothesis, Results
from autolab.lab.schemas.outcomes import Stage, Verdict
from autolab.lab.schemas.plans import BroughtCommit, Entry
from autolab.loop.engine import Engine
from autolab.loop.iteration import Iteration
from autolab.loop.opening import adopt, reviewed_commit
from autolab.loop.preflight import relative
from autolab.loop.review import gate
from autolab.loop.stored_plans import entry_of, find_plan, store_candidate, store_plan

pytestmark = pytest.mark.process

REFUTED = iteration(hypothesis=hypothesis("A flat slope"), implementation=implementation(0.5))
"""Its candidate is no champion, so that the lab's base stays what it was made from."""
LATER = {"update_docs": [docs()], "decide_repeat": [decision()]}
"""The answers of an iteration that enters at launch: nobody is asked for anything else."""


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A lab after one iteration, whose candidate has a passed review on record."""
    later = LATER | {"implementation_review": HELPS["implementation_review"]}
    kit = make_lab(tmp_path_factory.mktemp("opening"), script(REFUTED, later))
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.err
    return Kept(kit)


@contextlib.contextmanager
def engine_of(kit: LabKit) -> Iterator[Engine]:
    lab = Lab(kit.root)
    with lab.hold("a test"):
        yield Engine(lab, relative(lab, lab.config()), Plain(lambda line: None), lambda: False)


def brought(kit: LabKit) -> dict[str, Any]:
    """What the tested iteration left, for another one to begin with."""
    paths = Lab(kit.root).iteration(kit.iterations()[0].name)
    claim = Hypothesis.from_text(front_matter(paths.hypothesis.read_text(), "hypothesis.md"), "hypothesis.md")
    candidate = reviewed_commit(Lab(kit.root), kit.iterations()[0].name)
    return {"hypothesis": claim, "design": Design.load(paths.design), "candidate": candidate}


def at_launch(kit: LabKit, **changes: Any) -> Entry:
    return Entry(stage=Stage.LAUNCH, **(brought(kit) | changes))


def stages(kit: LabKit, iteration_id: str) -> list[str]:
    """The stages of an iteration that had an outcome, in order."""
    moves = [line["data"] for line in kit.events("transition")]
    opened = next(n for n, data in enumerate(moves) if data["state"]["iteration_id"] == iteration_id)
    return [data["from"] for data in moves[opened:] if "outcome" in data]


def test_an_iteration_that_enters_at_launch_is_measured_and_decided(tested: Kept) -> None:
    kit = tested.back()
    with engine_of(kit) as engine:
        iteration_id = engine.open(at_launch(kit))
        while engine.lab.load()[0].iteration_id == iteration_id:
            assert engine.step()
    assert stages(kit, iteration_id) == ["launch", "extract_results", "update_docs", "decide_repeat"]
    first, second = kit.iterations()
    assert second.name == iteration_id and iteration_id.endswith("_h2")
    design = Design.load(second / "design.yaml")
    assert (design.id, design.iteration_id, design.hypothesis_id) == ("e2", iteration_id, "h2")
    assert (second / "record.json").exists()
    asked = [line["data"]["kind"] for line in kit.events("asked")][6:]
    assert asked == ["update_docs", "decide_repeat"], "nobody is asked for what was brought"
    results = [Results.load(folder / "results.yaml") for folder in (first, second)]
    assert results[1].assessment.verdict is results[0].assessment.verdict is Verdict.REFUTED
    assert kit.autolab("verify").code == 0


def test_a_commit_without_a_passed_review_on_record_does_not_enter_at_launch(tested: Kept) -> None:
    kit = tested.back()
    candidate = brought(kit)["candidate"]
    review = candidate.review
    other = kit.git("rev-parse", "HEAD").strip()
    wrong = {
        "it has no review": candidate.model_copy(update={"review": None}),
        "its review's status is failed, launch needs pass": candidate.model_copy(
            update={"review": review.model_copy(update={"status": "failed"})}
        ),
        f"its review is of commit {candidate.commit[:12]}": candidate.model_copy(update={"commit": other}),
        "its review is not on record": candidate.model_copy(
            update={"review": review.model_copy(update={"reviewer": "nobody"})}
        ),
        "stands now: make it again from that": candidate.model_copy(update={"base": candidate.commit}),
    }
    before = kit.events()
    with engine_of(kit) as engine:
        for reason, one in wrong.items():
            with pytest.raises(LabError, match=reason):
                engine.open(at_launch(kit, candidate=one))
        with pytest.raises(LabError, match="enters at launch brings a design"):
            engine.open(at_launch(kit, design=None))
        with pytest.raises(LabError, match="no iteration enters at implementation_review"):
            engine.open(Entry(stage=Stage.IMPLEMENTATION_REVIEW))
    assert kit.events() == before


def test_the_gate_holds_for_an_iteration_that_enters_at_launch(tested: Kept) -> None:
    """Without its review, and with another tree than the reviewed one, it is sent back and nothing runs."""
    kit = tested.back()
    trained = kit.executions()
    with engine_of(kit) as engine:
        engine.open(at_launch(kit))
        opened = Iteration.read(engine.lab, engine.config)
        assert gate(opened).startswith(f"experiments/{opened.iteration_id}/review_result.json: not found")
        # What a user, or a program of theirs, changes between the first step's adoption and the launch.
        opened.restore(engine.tell)
        adopt(opened)
        assert gate(opened) == ""
        (opened.worktree / "models" / "width.py").write_text("WIDTH = 9\n")
        assert f"changed since commit {opened.candidate()[:12]} was reviewed" in gate(opened)  # type: ignore[index]
        opened.paths.review_result.unlink()
        assert engine.step()
        state = engine.lab.load()[0]
    assert state.stage is Stage.IMPLEMENTATION and "launch is forbidden: " in state.reason
    assert kit.executions() == trained


def test_what_is_brought_is_adopted_once(tested: Kept) -> None:
    """However often the first step is begun again."""
    kit = tested.back()
    with engine_of(kit) as engine:
        engine.open(at_launch(kit))
        opened = Iteration.read(engine.lab, engine.config)
        opened.restore(engine.tell)
        for _ in range(3):
            adopt(opened)
        events = [line.event for line in opened.events()]
    assert events == ["transition", "candidate", "checked", "reviewed"]
    pins = kit.git("for-each-ref", "--format=%(refname)", f"refs/autolab/keep/{opened.iteration_id}").split()
    assert len(pins) == 1


# plans that are stored first


def test_a_stored_plan_enters_at_implementation(tested: Kept) -> None:
    kit = tested.back()
    parts = brought(kit)
    with engine_of(kit) as engine:
        plan = store_plan(engine.lab, parts["hypothesis"], parts["design"])
        assert plan.id == "pln1" and find_plan(engine.lab, "pln1") == plan
        iteration_id = engine.open(entry_of(engine.lab, "pln1"))
        adopted = Iteration.read(engine.lab, engine.config)
        assert adopted.state.stage is Stage.IMPLEMENTATION
        engine.step()  # the script has no code for it
        assert adopted.hypothesis() == parts["hypothesis"].model_copy(update={"id": "h2"})
        ids = {"id": "e2", "iteration_id": iteration_id, "hypothesis_id": "h2"}
        assert adopted.design() == parts["design"].model_copy(update=ids)
    assert kit.events("asked")[-1]["data"]["kind"] == "implementation"


def test_a_stored_candidate_enters_at_launch_and_one_without_review_is_judged_and_reviewed(tested: Kept) -> None:
    kit = tested.back()
    parts = brought(kit)
    unreviewed = parts["candidate"].model_copy(update={"review": None})
    with engine_of(kit) as engine:
        lab = engine.lab
        store_plan(lab, parts["hypothesis"], parts["design"])
        assert store_candidate(lab, "pln1", parts["candidate"]).id == "c1"
        assert store_candidate(lab, "pln1", unreviewed).id == "c2"
        commit = parts["candidate"].commit
        assert lab.git.resolve(f"refs/autolab/keep/plans/{commit[:12]}") == commit
        assert entry_of(lab, "pln1", "c1") == at_launch(kit)
        iteration_id = engine.open(entry_of(lab, "pln1", "c2"))
        while lab.load()[0].stage is not Stage.LAUNCH:
            assert engine.step()
        assert Iteration.read(lab, engine.config).candidate() == commit
        assert gate(Iteration.read(lab, engine.config)) == ""
    assert stages(kit, iteration_id) == ["implementation", "implementation_review"]
    assert [line["data"]["kind"] for line in kit.events("asked")][6:] == ["implementation_review"]


def test_what_was_not_stored_or_was_changed_is_refused(tested: Kept) -> None:
    kit = tested.back()
    parts = brought(kit)
    with engine_of(kit) as engine:
        lab = engine.lab
        with pytest.raises(LabError, match="pln1: not stored; known: none"):
            store_candidate(lab, "pln1", parts["candidate"])
        store_plan(lab, parts["hypothesis"], parts["design"])
        store_plan(lab, parts["hypothesis"], parts["design"])
        store_candidate(lab, "pln1", parts["candidate"])
        with pytest.raises(LabError, match="c1 is a candidate for pln1, not for pln2"):
            entry_of(lab, "pln2", "c1")
        nowhere = BroughtCommit(commit="0" * 40, base=parts["candidate"].base, via="nobody")
        with pytest.raises(LabError, match="no such commit"):
            store_candidate(lab, "pln1", nowhere)
        path = Path(lab.store / "plans" / "pln1.json")
        path.write_text(path.read_text().replace("A flat slope", "Another slope"))
        with pytest.raises(LabError, match="missing or changed since it was stored"):
            entry_of(lab, "pln1")
