"""Targets: what is understood, what is refused, and when one counts as achieved."""

from __future__ import annotations

import pytest

from autolab.errors import UsageError
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Results
from autolab.stats import target

CONFIG = Config.from_value(
    {"metric": {"primary": "val_loss", "direction": "minimize", "success_delta": 0.1, "report": ["accuracy", "f1"]}},
    "config.yaml",
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("accuracy>=0.98", ("accuracy", ">=", 0.98)),
        (" accuracy >= .98 ", ("accuracy", ">=", 0.98)),
        ("val_loss<=1e-3", ("val_loss", "<=", 0.001)),
        ("val_loss>=-2", ("val_loss", ">=", -2.0)),
        ("f1<=+1.", ("f1", "<=", 1.0)),
        ("0.3", ("val_loss", "<=", 0.3)),
        ("-1E2", ("val_loss", "<=", -100.0)),
    ],
)
def test_a_target_is_read(text: str, found: tuple[str, str, float]) -> None:
    assert target.parse(text, CONFIG) == found


def test_a_bare_number_is_the_primary_metric_in_its_good_direction() -> None:
    metric = CONFIG.metric.model_copy(update={"direction": "maximize"})
    assert target.parse("0.3", CONFIG.model_copy(update={"metric": metric})) == ("val_loss", ">=", 0.3)


@pytest.mark.parametrize(
    "text",
    ["", "accuracy", "accuracy>0.9", "accuracy=0.9", "accuracy>=", ">=0.9", "accuracy>=nan", "inf", "0.9%", "1,5",
     "accuracy>=0.9 f1>=0.8", "٣"],
)  # fmt: skip
def test_a_target_that_is_not_understood_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not understood; write METRIC>=NUMBER, METRIC<=NUMBER or a number"):
        target.parse(text, CONFIG)


def test_a_target_on_what_is_not_measured_names_what_is() -> None:
    with pytest.raises(UsageError, match="auc is not measured in this lab; measured: val_loss, accuracy, f1"):
        target.parse("auc>=0.9", CONFIG)


# Achieved


def results(verdict: str | None, outcome: str | None = "kept", **means: float) -> Results:
    confirmation = {
        "run_id": "run_0002",
        "arm": "steep",
        "difference": {"n": 3, "mean": 0.3, "low": 0.2, "high": 0.4, "level": 0.99},
        "shrunken": 0.29,
        "reason": "supported",
        "holdout": "none",
        "outcome": outcome,
        "claim": 1,
        "alpha": 0.005,
    }
    value = {
        "experiment_id": "e1",
        "iteration_id": "i1",
        "run_id": "run_0001",
        "status": "completed",
        "results": {"experiments": {}},
        "metrics": means,
        "assessment": {"verdict": verdict, "reason": ""},
        "confirmation": confirmation if verdict == "supported" and outcome else None,
        "recommendation": "proceed",
    }
    return Results.from_value(value, "results.yaml")


@pytest.mark.parametrize(
    ("text", "verdict", "said"),
    [
        (None, "supported", "there is no target"),
        ("accuracy>=0.9", "refuted", "the verdict is refuted, the target needs a supported candidate"),
        ("accuracy>=0.9", None, "the verdict is completed, the target needs a supported candidate"),
        ("accuracy>=0.96", "supported", "accuracy is 0.95, the target is >= 0.96"),
        ("accuracy<=0.94", "supported", "accuracy is 0.95, the target is <= 0.94"),
        ("f1>=0.1", "supported", "f1 was not measured"),
        ("accuracy>=0.95", "supported", ""),
    ],
)
def test_a_target_is_achieved_by_the_kept_candidates_measured_mean(
    text: str | None, verdict: str | None, said: str
) -> None:
    found = target.missed(text, CONFIG, results(verdict, accuracy=0.95))
    assert found.startswith(said) and bool(found) == bool(said)


@pytest.mark.parametrize("outcome", ["retracted", "search_only", None])
def test_what_was_supported_and_not_kept_achieves_nothing(outcome: str | None) -> None:
    found = target.missed("accuracy>=0.9", CONFIG, results("supported", outcome, accuracy=0.95))
    assert found == "the candidate is supported, and not kept"
