"""A batch of ideas and a claim, made of records, for the tests of what a user reads of mode `explore`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from account_kit import confirmed, manifest

from autolab.lab.schemas.campaign import ProvisionalStep
from autolab.lab.schemas.experiment import Interval, Manifest
from autolab.lab.schemas.outcomes import Fate, RunKind, Verdict, recommend
from autolab.reports.engine_words import engine_words
from autolab.reports.exploration_account import ExplorationAccount
from autolab.reports.passages import Account
from autolab.reports.screen_documents import ScreenedBatch, ScreenedIdea

BATCH = "2026-02-12T23-40-00Z_batch3"
SCORES = {"baseline": 0.0861, "h5-cnn": 0.0738, "h6-gelu": 0.0872}


def trial(arm: str, value: float | None, index: int = 0, **changes: Any) -> dict[str, Any]:
    about = {"trial": f"{arm}-s{index}", "arm": arm, "index": index, "seed": 7 + index, "attempt": 1, "key": "k"}
    about |= {"commit": "c" * 40, "content": "c", "seconds": 2.0, "max_rss_bytes": 5 * 10**8}
    if value is None:
        about |= {"outcome": "failed", "message": "exit status 1"}
    else:
        about |= {"outcome": "completed", "score": {"val_loss": value, "accuracy": 1 - value}}
    return about | changes


def screen_manifest(*more: dict[str, Any], **changes: Any) -> Manifest:
    """The run of a batch: the base, two ideas that were measured, one whose training failed."""
    arms: list[dict[str, Any]] = [{"name": "baseline", "role": "baseline", "code": "base"}]
    for arm in ("h5-cnn", "h6-gelu", "h7-mixup"):
        arms.append({"name": arm, "role": "variant", "code": arm, "commit": arm[1] * 40})
    trials = [*(trial(arm, value) for arm, value in SCORES.items()), trial("h7-mixup", None), *more]
    about = {"iteration_id": BATCH, "kind": "screen", "arms": arms, "trials": trials, "comparisons": []}
    about |= {"pairs": 1, "arm_seeds": 1}
    return manifest(**about | {"metric": "val_loss", "direction": "minimize", "success_delta": 0.01} | changes)


def failed_manifest() -> Manifest:
    """A batch that ended with the base's first trial."""
    reason = "trial baseline-s0: failed: exit status 1"
    return screen_manifest(trials=[trial("baseline", None)], status="failed", reason=reason)


def idea(arm: str, title: str, fate: str = "dropped", reason: str = "behind", **changes: Any) -> ScreenedIdea:
    gain, score = None, SCORES.get(arm)
    if score is not None:
        gain = Interval(n=1, mean=SCORES["baseline"] - score, low=None, high=None, level=0.95)
    made = ScreenedIdea(
        arm=arm,
        hypothesis_id=arm[:2],
        title=title,
        family="models",
        changes={},
        commit=arm[1] * 40,
        gain=gain,
        score=score,
        n=0 if gain is None else 1,
        seconds=None if gain is None else 2.0,
        fate=Fate(fate),
        reason=reason,
        detail="",
    )
    return replace(made, **changes)


IDEAS = (
    idea("h5-cnn", "Small CNN", "provisional", ""),
    idea("h6-gelu", "GELU | with a bar"),
    idea("h7-mixup", "Mixup", reason="failed", detail="trial h7-mixup-s0: failed: exit status 1"),
    idea("h8-decay", "Weight decay", reason="review", detail="the tests fail: test_model", commit=None),
)


def batch(*ideas: ScreenedIdea, **changes: Any) -> ScreenedBatch:
    made = ScreenedBatch(
        iteration_id=BATCH,
        experiment_id="e3",
        metric="val_loss",
        direction="minimize",
        delta=0.01,
        base="b" * 40,
        ideas=ideas or IDEAS,
        manifest=screen_manifest(),
    )
    return replace(made, **changes)


def exploration(shown: int = 3, **changes: Any) -> ExplorationAccount:
    """A search of 21 ideas that took three steps, and its second claim."""
    steps = []
    for number in range(1, shown + 1):
        step = ProvisionalStep(
            iteration_id=f"2026-02-12T23-30-00Z_batch{number}",
            arm=f"h{number}-arm",
            commit=f"{number:0<40}",
            title=f"Idea {number}",
            gain=0.001 * number,
            seeds=1,
        )
        steps.append(step)
    made = ExplorationAccount(
        steps=tuple(steps),
        unclaimed=shown,
        ideas_screened=21,
        provisional=3,
        claims=2,
        kept=1,
        trials_by_purpose={"calibration": 6, "screens": 40, "claims": 18, "tests": 0},
        alpha_spent=0.0067,
        ideas=tuple(f"What idea {number} changes." for number in range(1, shown + 1)),
    )
    return replace(made, **changes)


def claim(outcome: str, holdout: str = "passed", **changes: Any) -> Account:
    """The account of a claim: one run on fresh seeds, judged and confirmed, with the words of the engine."""
    two_runs = confirmed(outcome, holdout, **changes)
    fresh, confirm = two_runs.fresh, two_runs.confirm
    assert fresh is not None and confirm is not None and two_runs.confirm_metrics is not None
    if holdout == "not_asked" and fresh.verdict is Verdict.INCONCLUSIVE:
        fresh = fresh.model_copy(update={"reason": "futile"})
    verdict, reason = fresh.verdict, fresh.reason
    if verdict is Verdict.SUPPORTED and outcome != "kept":
        verdict, reason = Verdict.INCONCLUSIVE, outcome
    metrics = two_runs.confirm_metrics.model_copy(update={"comparisons": (fresh,)})
    assessment = two_runs.results.assessment
    judged = {"verdict": verdict, "reason": reason, "comparisons": (fresh,)}
    results = two_runs.results.model_copy(
        update={
            "run_id": confirm.run_id,
            "assessment": assessment.model_copy(update=judged),
            "recommendation": recommend(verdict),
        }
    )
    run = confirm.model_copy(update={"kind": RunKind.CLAIM, "comparisons": (fresh,)})
    made = replace(two_runs, manifest=run, metrics=metrics, results=results, confirm=run, confirm_metrics=metrics)
    made = replace(made, exploration=exploration())
    return replace(made, docs=engine_words(made, ("paper/ralph.md",)))
