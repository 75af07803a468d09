"""The words for results: how a trial ended, what the evidence says, what the loop does next.

Standard library only, so that a supervisor or a cluster job can import it alone.
"""

from __future__ import annotations

from enum import StrEnum

from autolab.sandbox.exit_record import TrialOutcome

__all__ = [
    "Decision",
    "DropReason",
    "Fate",
    "Gear",
    "Recommendation",
    "RequestKind",
    "RunKind",
    "Stage",
    "TrialOutcome",
    "Verdict",
    "recommend",
]


class Verdict(StrEnum):
    """What the evidence says; only a completed, measured, unstubbed run has one."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"


class Recommendation(StrEnum):
    PROCEED = "proceed"
    PIVOT = "pivot"
    INVESTIGATE = "investigate"


class Decision(StrEnum):
    """What an iteration's last stage decides."""

    REFINE = "refine"
    NEW_HYPOTHESIS = "new_hypothesis"
    ACHIEVE = "achieve"
    STOP = "stop"
    HUMAN_REVIEW = "human_review"


class RunKind(StrEnum):
    CALIBRATE = "calibrate"
    SEARCH = "search"
    CONFIRM = "confirm"
    REPRODUCE = "reproduce"
    STUB = "stub"
    WARM_UP = "warm_up"
    NOISE = "noise"
    MANUAL = "manual"
    SCREEN = "screen"
    CLAIM = "claim"


class Gear(StrEnum):
    """What an iteration tests: one idea to its end, a batch without a claim, or the steps since the champion."""

    EACH = "each"
    SCREEN = "screen"
    CLAIM = "claim"


class Fate(StrEnum):
    """What became of an idea that was screened: a step that is built upon, dropped, or measured to learn from."""

    PROVISIONAL = "provisional"
    DROPPED = "dropped"
    SCREENED = "screened"


class DropReason(StrEnum):
    """Why a screened idea was dropped. `pruned`: its learning curve ended it early. `budget`: it was never tried."""

    BEHIND = "behind"
    REVIEW = "review"
    FAILED = "failed"
    PRUNED = "pruned"
    BUDGET = "budget"


def recommend(verdict: Verdict | None) -> Recommendation:
    """The recommendation that follows from a verdict; None is a failed or unmeasured run."""
    if verdict is Verdict.SUPPORTED:
        return Recommendation.PROCEED
    if verdict is Verdict.REFUTED:
        return Recommendation.PIVOT
    return Recommendation.INVESTIGATE


class Stage(StrEnum):
    """Where an iteration is. Exactly one is active."""

    HYPOTHESIS = "hypothesis"
    DESIGN = "design"
    IMPLEMENTATION = "implementation"
    IMPLEMENTATION_REVIEW = "implementation_review"
    LAUNCH = "launch"
    EXTRACT_RESULTS = "extract_results"
    UPDATE_DOCS = "update_docs"
    DECIDE_REPEAT = "decide_repeat"
    HUMAN_REVIEW = "human_review"
    STOP = "stop"


class RequestKind(StrEnum):
    """What a researcher is asked for. It names the prompt, the form of the answer, and where both are kept."""

    HYPOTHESIS = "hypothesis"
    DESIGN = "design"
    IMPLEMENTATION = "implementation"
    IMPLEMENTATION_REVIEW = "implementation_review"
    UPDATE_DOCS = "update_docs"
    DECIDE_REPEAT = "decide_repeat"
