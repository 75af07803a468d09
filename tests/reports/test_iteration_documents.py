"""What the documents say: every number from the records, marked for what it is, and words kept apart from them."""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from pathlib import Path

import jinja2
import pytest
from account_kit import FIGURES, ID, account, compared, confirmed, manifest
from text_kit import headings

from autolab.errors import RecordError
from autolab.lab.schemas.campaign import Claims
from autolab.lab.schemas.experiment import ArmMetrics, CutTrials
from autolab.lab.schemas.outcomes import Verdict
from autolab.lab.schemas.replies import DocsOutput, PaperUpdate
from autolab.reports import decision_table, iteration_documents
from autolab.reports.journal import DocumentEntry
from autolab.reports.passages import Account
from autolab.reports.rendering import render
from autolab.reports.results_table import COLUMNS

TEMPLATES = Path(iteration_documents.__file__).parents[1] / "templates"

CLAIMED = "0.0195 (less than the mean of 0.0210, because a gain that was selected is partly luck)"
HEADLINE = "Kept: val_loss 0.1420 -> 0.1210, gain 0.0210 (99% CI 0.0150 to 0.0270), 9 fresh seeds, holdout passed"


def all_documents(told: Account) -> dict[str, str]:
    """Every document of an iteration but the paper's, by its job."""
    entries = {
        "journal": iteration_documents.journal_entry(told),
        "findings": iteration_documents.findings_entry(told),
        "iteration findings": iteration_documents.iteration_findings(told),
        "report": iteration_documents.report(told, None),
    }
    texts = {name: entry.text for name, entry in entries.items()}
    texts["summary"] = iteration_documents.summary(told)
    texts["merge request"] = iteration_documents.merge_request(told, "c" * 40, "b" * 40, ["train.py"], Claims())
    return texts


def test_the_first_line_under_the_title_of_every_document_says_it_all() -> None:
    for name, text in all_documents(confirmed("kept")).items():
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert lines[0].startswith(f"**{HEADLINE}**"), name


def test_the_journal_entry_has_five_lines_with_observation_inference_and_claim_apart() -> None:
    text = iteration_documents.journal_entry(account()).text
    title, headline, *lines = text.splitlines()
    assert title == "## 2026-02-12 · h1: A small CNN"
    assert headline.endswith(f"([numbers](experiments/{ID}/analysis/summary.md), run_0001)")
    assert lines == [
        "- Observation (measured): It fell.",
        "- Inference (interpretation): Filters help.",
        "- Claim (what the lab holds): On digits, it helps.",
    ]


def test_however_long_the_researchers_words_are_the_journal_entry_has_five_lines() -> None:
    words = "```\ncode\n```\n\n- a\n- b\n\n" + "x " * 9_000
    text = iteration_documents.journal_entry(account(docs=DocsOutput(observation=words, inference="", claim=""))).text
    assert len(text.splitlines()) == 5 and len(text) < 1_500
    assert text.splitlines()[3:] == ["- Inference (interpretation): none.", "- Claim (what the lab holds): none."]


@pytest.mark.parametrize("outcome", ["kept", "retracted", "search_only"])
def test_a_report_is_one_page(outcome: str) -> None:
    text = iteration_documents.report(confirmed(outcome), None).text
    assert len(text.splitlines()) < 80 and len(text.split()) < 450


@pytest.mark.parametrize(
    ("outcome", "holdout", "heading"),
    [
        ("kept", "passed", "kept"),
        ("kept", "none", "kept on this evaluation alone"),
        ("search_only", "used_up", "not kept"),
        ("search_only", "failed", "not kept"),
        ("suspicious", "passed", "set aside (suspicious)"),
        ("retracted", "not_asked", "retracted"),
    ],
)
def test_the_findings_say_what_became_of_a_supported_candidate(outcome: str, holdout: str, heading: str) -> None:
    text = iteration_documents.findings_entry(confirmed(outcome, holdout)).text
    recommendation = "PROCEED" if outcome == "kept" else "INVESTIGATE"
    assert f"Status: COMPLETED | Recommendation: {recommendation} | Verdict: {heading.upper()}\n" in text


def test_the_summary_explains_exactly_the_words_that_the_documents_use() -> None:
    text = iteration_documents.summary(confirmed("kept"))
    assert re.findall(r"(?m)^- \*([a-z ]+)\*: .+\.$", text) == ["supported", "kept", "confirmed"]


def test_a_report_says_in_one_sentence_what_the_outcome_means_and_what_comes_next() -> None:
    text = iteration_documents.report(confirmed("retracted", "not_asked"), None).text
    assert "\n\nThe gain of the search was not repeated on fresh seeds, so it is not claimed" in text
    assert (
        "## Next\n\nRecommendation: investigate. Find out why the gain of the search did not repeat, or try another"
        in text
    )
    for told, step in (
        (confirmed("kept"), "proceed. This variant is the new baseline"),
        (confirmed("suspicious"), "investigate. Look at merge_request.md, then accept or reject"),
        (account(Verdict.REFUTED), "pivot. Try another idea"),
        (account(), "proceed. Measure the variant on fresh seeds"),
    ):
        assert f"Recommendation: {step}" in iteration_documents.report(told, None).text


def test_the_cost_of_each_arm_stands_in_the_summary() -> None:
    trials = [trial.value() for trial in manifest().trials]
    trials[1] |= {"self_reported": {"parameters": 34346.0}, "seconds": 720.0}
    text = iteration_documents.summary(account(manifest=manifest(trials=trials)))
    assert "- base: 2.0 s a trial\n- small_cnn: 34,346 parameters (self-reported), 12 min a trial\n" in text


# The tables


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


def test_search_fresh_seeds_holdout_and_claim_stand_in_the_table_one_below_the_other() -> None:
    found = rows(decision_table.decision_table(confirmed("kept")))
    assert [row[0] for row in found] == [
        "val_loss gain of small_cnn over base (search, 8 pairs)",
        "val_loss gain of small_cnn (fresh seeds, 9 pairs)",
        "val_loss gain of small_cnn (holdout)",
        "val_loss gain of small_cnn (claimed)",
    ]
    assert [row[3] for row in found] == ["supported", "confirmed", "passed", "kept"]
    assert found[1][1] == "0.0210 (99% CI 0.0150 to 0.0270)"
    assert found[3][1] == CLAIMED
    only = rows(decision_table.decision_table(confirmed("search_only", "failed")))
    assert len(only) == 3, "the holdout answers yes or no: no number of it is told, and nothing is claimed"
    assert only[2][1:] == ["secret on purpose", "above 0 with 97.5% confidence", "failed"]
    fell = rows(decision_table.decision_table(confirmed("retracted", "not_asked")))
    assert [row[3] for row in fell] == ["supported", "not confirmed (futile)"]


@pytest.mark.parametrize(
    ("rule", "verdict", "reason", "threshold"),
    [
        ("sequential", Verdict.SUPPORTED, "", "CI above 0, mean at least 0.005 (half of the wanted 0.01)"),
        ("sprt", Verdict.SUPPORTED, "", "CI above 0, mean at least 0.005 (half of the wanted 0.01)"),
        ("fixed", Verdict.SUPPORTED, "", "CI above 0, mean at least 0.01"),
        ("sequential", Verdict.INCONCLUSIVE, "budget", "CI above 0, mean at least 0.005 (half of the wanted 0.01)"),
        ("sequential", Verdict.INCONCLUSIVE, "futile", "stopped once a gain of 0.01 is unlikely"),
        ("sequential", Verdict.REFUTED, "", "refuted if the CI is below 0.01"),
    ],
)
def test_a_threshold_is_the_one_that_decides(rule: str, verdict: Verdict, reason: str, threshold: str) -> None:
    comparison = compared(verdict).model_copy(update={"reason": reason})
    assert decision_table.threshold(confirmed("kept", rule=rule), comparison) == threshold


def test_the_means_of_fresh_seeds_stand_below_those_of_the_search() -> None:
    found = rows(decision_table.arms_table(confirmed("kept")))
    assert [row[0] for row in found] == ["base", "small_cnn", "base (fresh seeds)", "small_cnn (fresh seeds)"]
    assert found[0][1:] == ["8", "0.1400 ± 0.0033"]


def test_a_table_of_means_has_the_metric_that_decides_and_a_few_more() -> None:
    names = ("a", "b", "c", "val_loss")
    arms = {arm: {name: ArmMetrics(mean=1.0, std=0.1, n=8) for name in names} for arm in ("base", "small_cnn")}
    told = account(metrics=account().metrics.model_copy(update={"arms": arms}))
    assert decision_table.arms_table(told, 3).startswith("| arm | trials | val_loss | a | b |\n")


# The rule


def method(told: Account) -> str:
    """The rule in a report's section on the method, on one line."""
    text = iteration_documents.report(told, None).text
    return " ".join(text[text.index("Rule, fixed before") : text.index("\n\n## Results")].split())


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("sequential", "up to 24 pairs of trials. The two trials of a pair share a seed"),
        ("sequential", "From pair 3 on, a sequential test (t e-process) looks at the gain after every pair:"),
        (
            "sequential",
            "- Supported: its 99% CI lies above 0 (at most 1 in 200 useless changes gets there), and its mean is at"
            " least 0.005, half of the wanted gain.",
        ),
        (
            "sequential",
            "- Refuted: its 90% CI lies below the wanted 0.01 (at most 1 in 20 real gains is refuted). - Futile:",
        ),
        ("sprt", "with the declared deviation 0.01: - Supported: a gain of 0.01 is far more likely than none"),
        ("sprt", "no gain is far more likely than 0.01 (at most 1 in 4 real gains is given up)."),
    ],
)
def test_the_rule_that_decided_is_told_with_its_errors(rule: str, says: str) -> None:
    text = method(confirmed("kept", rule=rule))
    assert says in text and text.endswith(
        "tested again by the same rule on fresh seeds, and then once on the holdout, a hidden test set."
    )


def test_a_design_with_seeds_of_its_own_is_told_as_one_look_at_them() -> None:
    text = method(account(manifest=manifest(rule={"rule": "sequential"})))
    assert text.startswith("Rule, fixed before the first trial: 2 pairs of trials. The two trials of a pair share")
    assert "After the last pair, Student's t interval of the mean gain decides:" in text and "again" not in text


# The merge request


def test_a_merge_request_has_change_evidence_risk_and_the_way_to_take_it() -> None:
    text = iteration_documents.merge_request(
        confirmed("kept"), "c" * 40, "b" * 40, ["models/cnn.py", "train.py"], Claims(kept=2, alpha=0.025)
    )
    assert text.startswith(f"# Merge request: A small CNN\n\n**{HEADLINE}**\n")
    heads = [line[3:] for line in text.split("\n") if line.startswith("## ")]
    assert heads == ["What changes", "Evidence", "Risk", "How to take it"]
    for part in (
        "local filters",
        "- `models/cnn.py`\n- `train.py`",
        f"- Claimed gain in val_loss: {CLAIMED}\n",
        "- Of the 2 changes kept so far, at most 1.25% are expected to be useless.",
        f"`autolab reproduce {ID}/run_0002`",
        f"    git diff {'b' * 12} {'c' * 12}\n    git merge {'c' * 12}",
        "[fresh seeds (run_0002)](runs/run_0002/run_manifest.json)",
    ):
        assert part in text
    without = iteration_documents.merge_request(confirmed("kept"), "c" * 40, "b" * 40, [], Claims(kept=1, alpha=0.005))
    assert "expected to be useless" not in without and "- no file differs" in without


def test_trainings_that_were_cut_stand_in_the_first_line_and_their_share_in_the_claims() -> None:
    told = confirmed("kept")
    assert told.fresh is not None and told.confirm_metrics is not None
    cut = tuple(
        CutTrials(arm=arm, trials=9, cut=count, diverged=0, at_most=0.43)
        for arm, count in (("base", 0), ("small_cnn", 1))
    )
    fresh = told.fresh.model_copy(update={"bound": 2.3026, "cut": cut})
    told = replace(told, confirm_metrics=told.confirm_metrics.model_copy(update={"comparisons": (fresh,)}))
    texts = all_documents(told)
    assert {name for name, text in texts.items() if "9 fresh seeds, 1 of 9 trials of small_cnn cut" in text} == set(
        texts
    )
    share = "- Trials of small_cnn that diverged or scored worse (each counts as 2.3026): 1 of 9 (at most 43% in"
    assert share in texts["merge request"] and share in texts["report"] and "Trials of base" not in texts["report"]
    row = "| trials of small_cnn that diverged or scored worse than 2.3026 (fresh seeds) | 1 of 9 (at most 43% in "
    assert row in texts["summary"]


def test_a_bound_that_cut_no_trial_stands_in_the_summary_alone() -> None:
    told = confirmed("kept")
    none = tuple(CutTrials(arm=arm, trials=9, cut=0, diverged=0, at_most=0.28) for arm in ("base", "small_cnn"))
    search = told.results.assessment.comparisons[0].model_copy(update={"bound": 2.3026, "cut": none})
    assessment = told.results.assessment.model_copy(update={"comparisons": (search,)})
    told = replace(told, results=told.results.model_copy(update={"assessment": assessment}))
    texts = all_documents(told)
    assert (
        "\nNo trial diverged, and none scored worse than 2.3026, the bound that design.yaml sets.\n" in texts["summary"]
    )
    assert [name for name, text in texts.items() if "2.3026" in text] == ["summary"]


@pytest.mark.parametrize("name", ["iteration findings", "report", "merge request"])
def test_a_mechanism_that_promised_fewer_parameters_is_contradicted_by_the_measured_ones(name: str) -> None:
    trials = [trial.value() for trial in manifest().trials]
    for trial, size in zip(trials, (9610.0, 20180.0), strict=True):
        trial["self_reported"] = {"parameters": size}
    claim = account().hypothesis.model_copy(update={"mechanism": "A fraction of the weights."})
    text = all_documents(account(hypothesis=claim, manifest=manifest(trials=trials)))[name]
    assert "Measured: small_cnn has 2.1 times the baseline's parameters" in text


# What others wrote


@pytest.mark.parametrize("hostile", ["<img src=http://e.x/a.png>", "[x](http://e.x)", "{{ 7*7 }}", "a | b", "# Kept"])
def test_a_value_of_others_is_text_in_every_document(hostile: str) -> None:
    claim = account().hypothesis.model_copy(
        update={"title": hostile, "mechanism": hostile, "success": hostile, "references": (hostile,)}
    )
    words = DocsOutput(observation=hostile, inference=hostile, claim=hostile)
    told = account(hypothesis=claim, docs=words)
    usual = all_documents(account())
    for name, text in all_documents(told).items():
        assert len(headings(_without_figures(text))) == len(headings(_without_figures(usual[name]))), name
        assert "49" not in text and "](http" not in text.replace("\\](http", ""), name


def _without_figures(summary: str) -> str:
    """A text without the engine's own links that only a summary has."""
    return re.sub(r"!?\[[^\]\n]+\]\((figures/(comparison|loss|acc)\.png|tables)\)", "", summary)


def test_a_name_that_no_template_knows_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="is undefined"):
        render("journal_entry", account=account())


def test_self_reported_numbers_are_marked_in_every_document() -> None:
    reported = account(metrics=account().metrics.model_copy(update={"self_reported": True}))
    for name, text in all_documents(reported).items():
        assert "val_loss (self-reported) 0.1400 -> 0.1130" in text, name
    for name in ("report", "summary"):
        assert "**These numbers are self-reported**" in all_documents(reported)[name], name
        assert "**These numbers are self-reported**" not in all_documents(account())[name], name


def test_the_iterations_findings_have_their_shape() -> None:
    text = iteration_documents.iteration_findings(account()).text
    heads = [line for line in text.split("\n") if line.startswith("#")]
    assert heads == [
        "# H1: A small CNN - Findings",
        "## Status: COMPLETED | Recommendation: PROCEED",
        *("## Summary", "## Key Metrics", "## Implications"),
    ]
    assert "| Metric | Value | Threshold | Result |" in text
    gain = "0.0270 (99% CI 0.0200 to 0.0340)"
    assert (
        f"| val_loss gain of small_cnn over base (8 pairs) | {gain} | CI above 0, mean at least 0.01 | supported |"
        in (text)
    )
    assert "## Implications\n\nFilters help.\n" in text


def test_a_report_follows_the_templates_headings_and_loses_no_part() -> None:
    template = "# Title\n\n## What I learned\n\nhint\n\n## Metrics\n\n## Budget\n"
    made = iteration_documents.report(account(), template)
    assert made.path == "9_reports/2026-02-12_h1-small-cnn.md" and made.place == "file"
    headings = [line[3:] for line in made.text.split("\n") if line.startswith("## ")]
    assert headings == [
        *("Question", "Method", "Observation", "What I learned", "Metrics", "Budget"),
        *("Claim", "Limits", "Evidence", "Next"),
    ]
    assert "hint" not in made.text and "Nothing was recorded under this heading." in made.text


def test_the_shipped_template_takes_every_part_under_a_heading_of_its_own() -> None:
    template = (TEMPLATES / "base" / "9_reports" / "_TEMPLATE.md").read_text(encoding="utf-8")
    text = iteration_documents.report(account(), template).text
    headings = [line for line in text.split("\n") if line.startswith("## ")]
    assert headings == [line for line in template.split("\n") if line.startswith("## ")]
    assert "Nothing was recorded" not in text and "<" not in text


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", text)


def test_links_and_pictures_work_from_where_each_document_lies() -> None:
    told = account(
        docs=DocsOutput(observation="o", inference="i", claim="c", paper=(PaperUpdate(path="p/x.md", text="t"),))
    )
    summary = DocumentEntry(
        "s", f"experiments/{ID}/{iteration_documents.SUMMARY}", iteration_documents.summary(told), "file"
    )
    made = [
        summary,
        iteration_documents.journal_entry(told),
        iteration_documents.findings_entry(told),
        iteration_documents.iteration_findings(told),
    ]
    made += [iteration_documents.report(told, None), *iteration_documents.paper_entries(told, ("p/x.md",))]
    made.append(iteration_documents.docs_update(told, made[1:]))
    there = {entry.path for entry in made} | {f"experiments/{ID}/{path}" for path in FIGURES}
    there |= {
        f"experiments/{ID}/{name}" for name in ("analysis/tables", "design.yaml", "runs/run_0001/run_manifest.json")
    }
    for entry in made:
        found = links(entry.text)
        assert found, entry.path
        for link in found:
            assert posixpath.normpath(posixpath.join(posixpath.dirname(entry.path), link)) in there, entry.path
    for entry, figures in ((made[0], ["comparison.png", "loss.png", "acc.png"]), (made[4], ["comparison.png"])):
        assert [posixpath.basename(link) for link in links(entry.text) if link.endswith(".png")] == figures


def test_a_researchers_words_cannot_begin_an_entry_and_are_bounded() -> None:
    words = "## 2030-01-01 · fake\n<!-- autolab:fake -->\n" + "x" * 19_000
    text = iteration_documents.journal_entry(account(docs=DocsOutput(observation=words, inference="i", claim="c"))).text
    assert sum(line.startswith("## ") for line in text.split("\n")) == 1
    assert len(text) < 1_500 and r"[cut\]" in text, "the bracket is escaped, so that it begins no link"


def test_the_table_has_one_row_an_arm_with_the_interval_of_its_mean() -> None:
    made = iteration_documents.tsv_rows(manifest(), account().metrics, "val_loss", "a small\tCNN\nagainst an MLP")
    base, variant = (dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in made.text.split("\n"))
    assert (base["arm"], base["n"], base["value"], base["verdict"]) == ("base", "8", "0.14", "")
    assert (variant["arm"], variant["verdict"], variant["status"]) == ("small_cnn", "supported", "completed")
    assert float(variant["ci_low"]) == pytest.approx(0.113 - 2.3646 * 0.004 / 8**0.5, rel=1e-4)  # t(7), 97.5 %
    assert (variant["memory_gb"], variant["seconds"]) == ("0.500", "2.00")
    assert variant["description"] == "a small CNN against an MLP"


def test_a_failed_run_has_rows_without_a_value_and_self_reported_ones_say_so() -> None:
    failed = manifest(status="failed", comparisons=[], self_reported=True)
    cells = dict(
        zip(
            COLUMNS,
            iteration_documents.tsv_rows(failed, None, "val_loss", "x").text.split("\n")[0].split("\t"),
            strict=True,
        )
    )
    assert (cells["n"], cells["value"], cells["ci_low"], cells["status"]) == ("0", "", "", "failed")
    assert cells["description"] == "x (self-reported)"


def test_paper_text_goes_to_known_targets_only_with_its_numbers_figure_and_run() -> None:
    updates = tuple(PaperUpdate(path=path, text=f"It helps {path}.") for path in ("paper/ralph.md", "notes.md"))
    told = account(docs=DocsOutput(observation="o", inference="i", claim="c", paper=updates))
    made = iteration_documents.paper_entries(told, ("paper/ralph.md", "notes.md"))
    assert [(one.id, one.path, one.place) for one in made] == [
        (ID, "paper/ralph.md", "section"),
        (f"{ID}.1", "notes.md", "section"),
    ]
    first, second = (one.text for one in made)
    assert first.startswith("It helps paper/ralph.md.\n\n| arm |") and "| base | 8 | 0.1400 ± 0.0033 |" in first
    assert f"](../experiments/{ID}/analysis/figures/comparison.png)" in first
    note = f"*2026-02-12, experiment e1, [run_0001 of {ID}](%s): Supported, not confirmed: val_loss 0.1400 -> 0.1130"
    assert note % f"../experiments/{ID}/analysis/summary.md" in first
    assert second.startswith(f"It helps notes.md.\n\n{note % f'experiments/{ID}/analysis/summary.md'}")
    with pytest.raises(RecordError, match=r"^paper/ralph\.md: not a paper target; known: paper/other\.md"):
        iteration_documents.paper_entries(told, ("paper/other.md",))


def test_the_docs_update_names_every_document_or_the_reason_for_none() -> None:
    told = account(docs=DocsOutput(observation="o", inference="i", claim="c", no_changes="nothing new"))
    text = iteration_documents.docs_update(told, [iteration_documents.journal_entry(told)]).text
    assert (
        "| [RESEARCH_JOURNAL.md](../../RESEARCH_JOURNAL.md) | an entry at the top |" in text
        and "No changes needed: nothing new" in text
    )


def test_wherever_a_claim_stands_that_no_holdout_has_tested_it_says_so() -> None:
    told = confirmed("kept", "none")
    assert told.confirm is not None
    texts = all_documents(told)
    texts["table"] = iteration_documents.tsv_rows(
        told.confirm, told.confirm_metrics, "val_loss", "x", told.confirmation
    ).text
    assert [name for name, text in texts.items() if "on this evaluation alone" not in text] == []
    assert f"{CLAIMED}, on this evaluation alone" in texts["merge request"]
    tested = all_documents(confirmed("kept"))
    assert [name for name, text in tested.items() if "evaluation alone" in text] == []


def test_the_request_of_a_suspicious_candidate_gives_the_reasons_and_the_ways() -> None:
    told = confirmed("suspicious", suspicions=["arm small_cnn: val_loss is better by 99 deviations"])
    text = iteration_documents.merge_request(told, "c" * 40, "b" * 40, [], Claims(kept=1, alpha=0.005))
    assert "- arm small_cnn: val_loss is better by 99 deviations" in text
    assert f"autolab review approve --iteration {ID}" in text and f"autolab review stop --iteration {ID}" in text


def test_the_rows_of_a_confirmation_say_what_became_of_the_variant() -> None:
    told = confirmed("retracted", "not_asked")
    assert told.confirm is not None
    for again, says in ((told.confirmation, "fresh seeds, retracted: x"), (None, "fresh seeds: x")):
        made = iteration_documents.tsv_rows(told.confirm, told.confirm_metrics, "val_loss", "x", again)
        cells = [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in made.text.split("\n")]
        assert [(cell["run"], cell["n"], cell["description"]) for cell in cells] == [("run_0002", "9", says)] * 2
    search = iteration_documents.tsv_rows(told.manifest, told.metrics, "val_loss", "x", told.confirmation)
    assert "fresh seeds" not in search.text and search.id != made.id
