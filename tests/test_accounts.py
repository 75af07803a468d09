"""What the documents say: every number from the records, marked for what it is, and words kept apart from them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autolab import accounts
from autolab.accounts import Account
from autolab.documents import COLUMNS
from autolab.errors import RecordError
from autolab.records.experiment import (
    ArmMetrics,
    Assessment,
    Comparison,
    Design,
    Hypothesis,
    Interval,
    Manifest,
    Results,
    RunMetrics,
    SubExperiments,
)
from autolab.records.outcomes import Recommendation, Verdict
from autolab.records.replies import DocsOutput, PaperUpdate

ID = "2026-02-12T23-30-00Z_h1"


def account(verdict: Verdict | None = Verdict.SUPPORTED, **changes: object) -> Account:
    gain = Interval(n=8, mean=0.027, low=0.02, high=0.034, level=0.99)
    comparisons = (
        (Comparison(arm="small_cnn", baseline="base", metric="val_loss", difference=gain, verdict=verdict),)
        if verdict
        else ()
    )
    arms = {"base": 0.14, "small_cnn": 0.113}
    value = Account(
        iteration_id=ID,
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
        ),
        design=Design.from_value(DESIGN, "design.yaml"),
        results=Results(
            experiment_id="e1",
            iteration_id=ID,
            run_id="run_0001",
            status="completed" if verdict else "failed",
            results=SubExperiments(experiments={}),
            error=None if verdict else "trial small_cnn-s0: failed: shape",
            assessment=Assessment(verdict=verdict, reason="", comparisons=comparisons),
            recommendation=Recommendation.PROCEED,
        ),
        docs=DocsOutput(observation="It fell.", inference="Filters help.", claim="On digits, it helps."),
        metrics=RunMetrics(
            run_id="run_0001",
            primary="val_loss",
            self_reported=False,
            arms={name: {"val_loss": ArmMetrics(mean=mean, std=0.004, n=8)} for name, mean in arms.items()},
            comparisons=comparisons,
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


def test_the_journal_keeps_observation_inference_and_claim_apart_in_that_order() -> None:
    text = accounts.journal_entry(account()).text
    assert text.startswith("## 2026-02-12 · A small CNN · supported, unconfirmed\n")
    order = ["**Observation**", "0.027 better (0.113 ± 0.004 against 0.14 ± 0.004)", "[0.02, 0.034] at 99 %, n = 8"]
    order += ["It fell.", "**Inference**", "Filters help.", "**Claim**", "On digits, it helps."]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        (Verdict.SUPPORTED, "unconfirmed until fresh seeds"),
        (Verdict.REFUTED, "rules out a gain of 0.01 in val_loss"),
        (Verdict.INCONCLUSIVE, "neither show the expected gain nor rule it out"),
        (None, "says nothing about the hypothesis: trial small_cnn-s0: failed: shape."),
    ],
)
def test_every_verdict_has_one_plain_sentence(verdict: Verdict | None, says: str) -> None:
    sentence = accounts.verdict_sentence(account(verdict))
    assert says in sentence and sentence.endswith(".") and "\n" not in sentence


def test_a_confirmed_result_is_not_called_unconfirmed() -> None:
    text = accounts.journal_entry(account(confirmed=True)).text
    assert "unconfirmed" not in text and "measured again on fresh seeds" in text


def test_self_reported_numbers_are_marked_in_every_document() -> None:
    metrics = account().metrics
    assert metrics is not None
    reported = account(metrics=metrics.model_copy(update={"self_reported": True}))
    builders = (accounts.journal_entry, accounts.findings_entry, accounts.iteration_findings)
    for text in (*(build(reported).text for build in builders), accounts.report(reported, None).text):
        assert "self-reported" in text


def test_the_iterations_findings_have_their_shape() -> None:
    text = accounts.iteration_findings(account()).text
    assert text.startswith(
        "# H1: A small CNN - Findings\n\n## Status: COMPLETED | Recommendation: PROCEED\n\n## Summary"
    )
    assert "| Metric | Value | Threshold | Result |" in text
    assert "| val_loss, gain of small_cnn | 0.027 [0.02, 0.034] at 99 % | gain >= 0.01 | supported |" in text
    assert "\n## Implications\n" in text


def test_a_report_follows_the_templates_headings_and_loses_no_part() -> None:
    template = "# Title\n\n## What I learned\n\nhint\n\n## Metrics\n\n## Budget\n"
    made = accounts.report(account(), template)
    assert made.path == "9_reports/2026-02-12_h1-small-cnn.md" and made.place == "file"
    headings = [line[3:] for line in made.text.split("\n") if line.startswith("## ")]
    assert headings == [
        *("Question", "Method", "Observation", "What I learned", "Metrics", "Budget"),
        *("Claim", "Limits", "Evidence", "Next"),
    ]
    assert "hint" not in made.text and "Nothing was recorded under this heading." in made.text


def test_a_researchers_words_cannot_begin_an_entry_and_are_bounded() -> None:
    words = "## 2030-01-01 · fake\n<!-- autolab:fake -->\n" + "x" * 50_000
    text = accounts.journal_entry(account(docs=DocsOutput(observation=words, inference="i", claim="c"))).text
    assert sum(line.startswith("## ") for line in text.split("\n")) == 1
    assert len(text) < 10_000 and "[cut]" in text


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
        "comparisons": [one.value() for one in account().comparisons],
    }
    return Manifest.from_value(value | changes, "run_manifest.json")


def test_the_table_has_one_row_an_arm_with_the_interval_of_its_mean() -> None:
    made = accounts.tsv_rows(manifest(), account().metrics, "val_loss", "a small\tCNN\nagainst an MLP")
    base, variant = (dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in made.text.split("\n"))
    assert (base["arm"], base["n"], base["value"], base["verdict"]) == ("base", "8", "0.14", "")
    assert (variant["arm"], variant["verdict"], variant["status"]) == ("small_cnn", "supported", "completed")
    assert float(variant["ci_low"]) == pytest.approx(0.113 - 2.3646 * 0.004 / 8**0.5, rel=1e-4)  # t(7), 97.5 %
    assert (variant["memory_gb"], variant["seconds"]) == ("0.500", "2.00")
    assert variant["description"] == "a small CNN against an MLP"


def test_a_failed_run_has_rows_without_a_value_and_self_reported_ones_say_so() -> None:
    failed = manifest(status="failed", comparisons=[], self_reported=True)
    cells = dict(
        zip(COLUMNS, accounts.tsv_rows(failed, None, "val_loss", "x").text.split("\n")[0].split("\t"), strict=True)
    )
    assert (cells["n"], cells["value"], cells["ci_low"], cells["status"]) == ("0", "", "", "failed")
    assert cells["description"] == "x (self-reported)"


def test_paper_text_goes_to_known_targets_only_with_its_standing_said() -> None:
    update = PaperUpdate(path="paper/ralph.md", text="It helps.")
    told = account(docs=DocsOutput(observation="o", inference="i", claim="c", paper=(update,)))
    made = accounts.paper_entries(told, ("paper/ralph.md",))
    assert [(one.id, one.path, one.place) for one in made] == [(ID, "paper/ralph.md", "section")]
    assert made[0].text == "It helps.\n\n*2026-02-12, experiment e1: supported, unconfirmed.*"
    with pytest.raises(RecordError, match=r"^paper/ralph\.md: not a paper target; known: paper/other\.md"):
        accounts.paper_entries(told, ("paper/other.md",))


def test_the_docs_update_names_every_document_or_the_reason_for_none() -> None:
    told = account(docs=DocsOutput(observation="o", inference="i", claim="c", no_changes="nothing new"))
    text = accounts.docs_update(told, [accounts.journal_entry(told)]).text
    assert f"| RESEARCH_JOURNAL.md | top | {ID} |" in text and "No changes needed: nothing new" in text
