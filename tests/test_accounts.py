"""What the documents say: every number from the records, marked for what it is, and words kept apart from them."""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from pathlib import Path

import pytest

from autolab import accounts
from autolab.accounts import Account
from autolab.documents import COLUMNS, Entry
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
    Summary,
)
from autolab.records.outcomes import Recommendation, Verdict
from autolab.records.replies import DocsOutput, PaperUpdate

ID = "2026-02-12T23-30-00Z_h1"
TEMPLATES = Path(accounts.__file__).parent / "templates"


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
            recommendation=Recommendation.PROCEED,
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


def test_the_journal_keeps_observation_inference_and_claim_apart_in_that_order() -> None:
    text = accounts.journal_entry(account()).text
    assert text.startswith("## 2026-02-12 · h1: A small CNN · supported, unconfirmed\n")
    order = ["**Observation** (measured): val_loss fell from 0.1400 (base) to 0.1130 (small_cnn) over 8 pairs"]
    order += ["better by 0.0270 (99% interval 0.0200 to 0.0340 of the gain).", "It fell."]
    order += ["**Inference**", "Filters help.", "**Claim**", "unconfirmed until fresh seeds", "On digits, it helps."]
    order += [f"(experiments/{ID}/analysis/summary.md), run_0001; spent: 2 trials, 4.0 s."]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("verdict", "gain", "says"),
    [
        (Verdict.SUPPORTED, 0.027, "the mean reaches the 0.01 in val_loss that was asked for; unconfirmed until fresh"),
        (Verdict.REFUTED, 0.001, "A gain of 0.01 in val_loss is ruled out: at most 0.0080 fits the measurements."),
        (Verdict.REFUTED, -0.02, "A gain of 0.01 in val_loss is ruled out: the change makes it worse."),
        (None, 0, "says nothing about the hypothesis: trial small_cnn-s0: failed: shape."),
    ],
)
def test_every_verdict_has_one_plain_sentence(verdict: Verdict | None, gain: float, says: str) -> None:
    told = account(verdict, compared(verdict, gain)) if verdict else account(None)
    sentence = accounts.verdict_sentence(told)
    assert says in sentence and sentence.endswith(".") and "\n" not in sentence


@pytest.mark.parametrize("reason", ["no_change", "deterministic", "budget", "futile", "accuracy below_acceptable"])
def test_every_reason_of_no_evidence_is_told_in_words(reason: str) -> None:
    results = account().results
    assessment = results.assessment.model_copy(update={"verdict": Verdict.INCONCLUSIVE, "reason": reason})
    told = account(results=results.model_copy(update={"assessment": assessment}))
    sentence = accounts.verdict_sentence(told)
    assert reason not in sentence or reason.startswith("accuracy")
    assert "{" not in sentence and sentence.endswith(".")


def test_the_opening_says_what_was_tried_what_came_out_and_how_sure_it_is() -> None:
    text = accounts.opening(account())
    assert text.startswith("**Supported, unconfirmed.** Tried: An MLP against a small CNN. val_loss fell from 0.1400")
    assert text.endswith("unconfirmed until fresh seeds repeat it.") and "\n" not in text


def test_several_variants_each_have_their_own_verdict_in_the_sentence() -> None:
    two = (compared(Verdict.SUPPORTED), compared(Verdict.REFUTED, -0.01, arm="other"))
    text = accounts.observed(account(Verdict.SUPPORTED, *two))
    assert "(small_cnn)" in text and "of the gain): supported." in text
    assert "rose from 0.1400 (base) to 0.1500 (other)" in text and text.endswith(
        "worse by 0.0100 (99% interval -0.0170 to -0.0030 of the gain): refuted."
    )


@pytest.mark.parametrize(
    ("value", "half", "shown"),
    [
        (0.034078, 0.00815, "0.0341"),
        (0.972361, 0.0021, "0.9724"),
        (-0.00001, 0.01, "0.000"),
        (12345.6, 250.0, "12350"),
        (12345.6, 25.0, "12346"),
        (0.0, None, "0"),
        (0.123456, None, "0.1235"),
        (1e12, 0.1, "1e+12"),
        (0.5, 1e-15, "0.5"),
    ],
)
def test_a_number_has_the_digits_that_its_interval_bears(value: float, half: float | None, shown: str) -> None:
    told = account(Verdict.REFUTED, compared(Verdict.REFUTED, value, half))
    if value > 0:
        assert f"better by {shown} (" in accounts.observed(told)
    assert f"| {shown} (" in accounts.key_metrics(told)


def test_values_that_round_to_the_same_are_not_said_to_fall() -> None:
    arms = {
        arm: {"val_loss": ArmMetrics(mean=mean, std=0.1, n=8)} for arm, mean in (("base", 0.5), ("small_cnn", 0.4999))
    }
    told = account(metrics=account().metrics.model_copy(update={"arms": arms}))
    assert "val_loss stayed at 0.500 (base, small_cnn) over 8 pairs" in accounts.observed(told)


def test_what_was_spent_leaves_out_what_was_taken_over() -> None:
    trials = [trial.value() for trial in manifest().trials]
    trials[0] |= {"reused_from": "it/run_0001/base-s0", "seconds": 900.0}
    told = account(manifest=manifest(trials=trials))
    assert accounts.spent(told) == "1 trials, 2.0 s; 1 more taken over from earlier iterations"


def test_the_cost_of_the_change_stands_against_the_baselines() -> None:
    trials = [trial.value() for trial in manifest().trials]
    for trial, size in zip(trials, (9610.0, 34346.0), strict=True):
        trial["self_reported"] = {"parameters": size}
    trials[1]["seconds"] = 720.0
    text = accounts.cost(account(manifest=manifest(trials=trials)))
    assert "small_cnn: 34,346 parameters, self-reported (base: 9,610); 12 min a trial (base: 2.0 s)." in text


def test_parameters_come_from_the_code_where_trainings_tell_none_and_are_left_out_where_one_side_is_unknown() -> None:
    about = Summary(parameters=34346)
    assert "parameters" not in accounts.cost(account(about=about))
    trials = [trial.value() for trial in manifest().trials]
    trials[0]["self_reported"] = {"parameters": 9610.0}
    assert "34,346 parameters, self-reported (base: 9,610)" in accounts.cost(
        account(about=about, manifest=manifest(trials=trials))
    )
    trials[0]["self_reported"] = {"parameters": 1e300}
    assert "parameters" not in accounts.cost(account(about=about, manifest=manifest(trials=trials)))


def test_a_confirmed_result_is_not_called_unconfirmed() -> None:
    text = accounts.journal_entry(account(confirmed=True)).text
    assert "unconfirmed" not in text and "measured again on fresh seeds" in text


def test_self_reported_numbers_are_marked_in_every_document() -> None:
    reported = account(metrics=account().metrics.model_copy(update={"self_reported": True}))
    builders = (accounts.journal_entry, accounts.findings_entry, accounts.iteration_findings)
    texts = [*(build(reported).text for build in builders), accounts.report(reported, None).text]
    for text in (*texts, accounts.summary(reported)):
        assert "self-reported" in text.replace("in training (self-reported)", "")


def test_the_iterations_findings_have_their_shape() -> None:
    text = accounts.iteration_findings(account()).text
    assert text.startswith(
        "# H1: A small CNN - Findings\n\n## Status: COMPLETED | Recommendation: PROCEED\n\n## Summary"
    )
    assert "| Metric | Value | Threshold | Result |" in text
    gain = "0.0270 (99% interval 0.0200 to 0.0340, 8 pairs)"
    assert f"| val_loss: gain of small_cnn over base | {gain} | at least 0.01 | supported |" in text
    assert "| base | 8 | 0.1400 ± 0.0033 |" in text  # t(7) at 97.5 % is 2.3646
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


def test_the_shipped_template_takes_every_part_under_a_heading_of_its_own() -> None:
    template = (TEMPLATES / "base" / "9_reports" / "_TEMPLATE.md").read_text(encoding="utf-8")
    text = accounts.report(account(), template).text
    headings = [line for line in text.split("\n") if line.startswith("## ")]
    assert headings == [line for line in template.split("\n") if line.startswith("## ")]
    assert "Nothing was recorded" not in text and "<" not in text


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", text)


def test_links_and_pictures_work_from_where_each_document_lies() -> None:
    told = account(
        docs=DocsOutput(observation="o", inference="i", claim="c", paper=(PaperUpdate(path="p/x.md", text="t"),))
    )
    summary = Entry("s", f"experiments/{ID}/{accounts.SUMMARY}", accounts.summary(told), "file")
    made = [summary, accounts.journal_entry(told), accounts.findings_entry(told), accounts.iteration_findings(told)]
    made += [accounts.report(told, None), *accounts.paper_entries(told, ("p/x.md",))]
    made.append(accounts.docs_update(told, made[1:]))
    there = {entry.path for entry in made} | {f"experiments/{ID}/{path}" for path in FIGURES}
    there |= {
        f"experiments/{ID}/{name}" for name in ("analysis/tables", "design.yaml", "runs/run_0001/run_manifest.json")
    }
    for entry in made:
        found = links(entry.text)
        assert found, entry.path
        for link in found:
            assert posixpath.normpath(posixpath.join(posixpath.dirname(entry.path), link)) in there, entry.path
    for entry in (made[0], made[4]):
        assert [posixpath.basename(link) for link in links(entry.text) if link.endswith(".png")] == [
            *("comparison.png", "loss.png", "acc.png")
        ]


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
        "comparisons": [compared(Verdict.SUPPORTED).value()],
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


def test_paper_text_goes_to_known_targets_only_with_its_numbers_figure_and_run() -> None:
    updates = tuple(PaperUpdate(path=path, text=f"It helps {path}.") for path in ("paper/ralph.md", "notes.md"))
    told = account(docs=DocsOutput(observation="o", inference="i", claim="c", paper=updates))
    made = accounts.paper_entries(told, ("paper/ralph.md", "notes.md"))
    assert [(one.id, one.path, one.place) for one in made] == [
        (ID, "paper/ralph.md", "section"),
        (f"{ID}.1", "notes.md", "section"),
    ]
    first, second = (one.text for one in made)
    assert first.startswith("It helps paper/ralph.md.\n\n| Metric |") and "| base | 8 | 0.1400 ± 0.0033 |" in first
    assert f"](../experiments/{ID}/analysis/figures/comparison.png)" in first
    note = f"*2026-02-12, experiment e1, [run_0001 of {ID}](%s): supported, unconfirmed.*"
    assert first.endswith(note % f"../experiments/{ID}/analysis/summary.md")
    assert second == f"It helps notes.md.\n\n{note % f'experiments/{ID}/analysis/summary.md'}"
    with pytest.raises(RecordError, match=r"^paper/ralph\.md: not a paper target; known: paper/other\.md"):
        accounts.paper_entries(told, ("paper/other.md",))


def test_the_docs_update_names_every_document_or_the_reason_for_none() -> None:
    told = account(docs=DocsOutput(observation="o", inference="i", claim="c", no_changes="nothing new"))
    text = accounts.docs_update(told, [accounts.journal_entry(told)]).text
    assert (
        "| [RESEARCH_JOURNAL.md](../../RESEARCH_JOURNAL.md) | an entry at the top |" in text
        and "No changes needed: nothing new" in text
    )
