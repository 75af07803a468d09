"""Accounts of iterations, made of records, for the tests of what documents say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from autolab.lab.schemas.experiment import (
    ArmMetrics,
    Assessment,
    Comparison,
    Confirmation,
    Design,
    Hypothesis,
    Interval,
    Manifest,
    Results,
    RunMetrics,
    SubExperiments,
)
from autolab.lab.schemas.outcomes import Verdict, recommend
from autolab.lab.schemas.replies import DocsOutput
from autolab.reports.passages import Account

ID = "2026-02-12T23-30-00Z_h1"
FIGURES = tuple(f"analysis/figures/{name}.{end}" for name in ("comparison", "loss", "acc") for end in ("png", "pdf"))


def compared(verdict: Verdict, mean: float = 0.027, half: float | None = 0.007, arm: str = "small_cnn") -> Comparison:
    ends = {"low": mean - half, "high": mean + half} if half else {"low": None, "high": None}
    gain = Interval(n=8, mean=mean, level=0.99, **ends)
    return Comparison(arm=arm, baseline="base", metric="val_loss", difference=gain, verdict=verdict)


def account(verdict: Verdict | None = Verdict.SUPPORTED, *comparisons: Comparison, **changes: object) -> Account:
    told = (comparisons or (compared(verdict),)) if verdict else ()
    arms = {"base": 0.14, "small_cnn": 0.113, "other": 0.15}
    value = Account(
        slug="h1-small-cnn",
        hypothesis=Hypothesis(
            id="h1",
            title="A small CNN",
            metric="val_loss",
            direction="minimize",
            success_delta=0.01,
            success="val_loss falls by 0.01",
            risk_bounds=("no more parameters",),
            mechanism="local filters",
            references=("LeCun 1998",),
        ),
        design=Design.from_value(DESIGN, "design.yaml"),
        manifest=manifest(),
        results=Results(
            experiment_id="e1",
            iteration_id=ID,
            run_id="run_0001",
            status="completed" if verdict else "failed",
            results=SubExperiments(experiments={}),
            artifacts=("analysis/tables/arms.csv", *FIGURES),
            error=None if verdict else "trial small_cnn-s0: failed: shape",
            assessment=Assessment(verdict=verdict, reason="", comparisons=told),
            recommendation=recommend(verdict),
        ),
        docs=DocsOutput(observation="It fell.", inference="Filters help.", claim="On digits, it helps."),
        metrics=RunMetrics(
            run_id="run_0001",
            primary="val_loss",
            self_reported=False,
            arms={name: {"val_loss": ArmMetrics(mean=mean, std=0.004, n=8)} for name, mean in arms.items()},
            comparisons=told,
        ),
    )
    return replace(value, **changes)  # type: ignore[arg-type]


DESIGN = {
    "id": "e1",
    "iteration_id": ID,
    "hypothesis_id": "h1",
    "description": "An MLP against a small CNN.",
    "entrypoint": {"command": "{python} train.py"},
    "reproducibility": {"seeds": [1, 2]},
    "metrics": {"primary": "val_loss", "success_delta": 0.01},
    "baselines": [{"name": "base"}],
    "variants": [{"name": "small_cnn", "config_overrides": {"model": "small_cnn"}}],
}


def manifest(**changes: object) -> Manifest:
    cost = {"attempt": 1, "commit": "c" * 40, "key": "k", "content": "c", "outcome": "completed", "seconds": 2.0}
    trials = [
        {"trial": f"{arm}-s0", "arm": arm, "index": 0, "seed": 1, "max_rss_bytes": 5 * 10**8, **cost}
        for arm in ("base", "small_cnn")
    ]
    value: dict[str, object] = {
        "run_id": "run_0001",
        "iteration_id": ID,
        "status": "completed",
        "git": {"control_plane_commit": "a" * 40, "dirty": False},
        "location": "local",
        "command": "{python} train.py",
        "sync": {"artifact_sync_to_local": {"status": "ok"}},
        "verifier_results": {},
        "started_at": "2026-02-12T23:30:00Z",
        "artifacts": {},
        "trials": trials,
        "comparisons": [compared(Verdict.SUPPORTED).value()],
    }
    return Manifest.from_value(value | changes, "run_manifest.json")


def confirmation(outcome: str, holdout: str = "passed", **changes: Any) -> Confirmation:
    """Of `small_cnn`, whose gain of 0.027 came to 0.021, or to 0.001 where fresh seeds did not repeat it."""
    mean, reason = (0.001, "futile") if holdout == "not_asked" else (0.021, "supported")
    gain = {"n": 9, "mean": mean, "low": mean - 0.006, "high": mean + 0.006, "level": 0.99}
    value = {"run_id": "run_0002", "arm": "small_cnn", "difference": gain, "shrunken": 0.0195, "reason": reason}
    value |= {"holdout": holdout, "outcome": outcome, "claim": 3, "alpha": 0.005}
    return Confirmation.from_value(value | changes, "confirmation")


def confirmed(outcome: str, holdout: str = "passed", rule: str = "sequential", **changes: Any) -> Account:
    """A supported search and what came of its confirmation."""
    again, told = confirmation(outcome, holdout, **changes), account()
    verdict, reason = (Verdict.SUPPORTED, "") if outcome == "kept" else (Verdict.INCONCLUSIVE, outcome)
    assessment = told.results.assessment.model_copy(update={"verdict": verdict, "reason": reason})
    judged_as = Verdict.INCONCLUSIVE if holdout == "not_asked" else Verdict.SUPPORTED
    fresh = compared(judged_as).model_copy(update={"difference": again.difference, "pairs": 9})
    arms = {"base": 0.142, "small_cnn": 0.142 - again.difference.mean}
    design = Design.from_value(DESIGN | {"reproducibility": {"seeds": {"max_pairs": 24}}}, "design.yaml")
    judged = {"rule": rule, "deviation": 0.01 if rule == "sprt" else None}
    return replace(
        told,
        design=design,
        manifest=manifest(rule=judged),
        results=told.results.model_copy(
            update={"assessment": assessment, "confirmation": again, "recommendation": recommend(verdict)}
        ),
        confirm=manifest(run_id="run_0002", kind="confirm", rule=judged, comparisons=[fresh.value()]),
        confirm_metrics=told.metrics.model_copy(
            update={
                "run_id": "run_0002",
                "arms": {name: {"val_loss": ArmMetrics(mean=mean, std=0.004, n=9)} for name, mean in arms.items()},
                "comparisons": (fresh,),
            }
        ),
    )
