"""What the documents say: every number from the records, marked for what it is, and words kept apart from them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import pytest
from account_kit import FIGURES, ID, account, confirmed, manifest

from autolab.errors import RecordError
from autolab.lab.schemas.replies import DocsOutput, PaperUpdate
from autolab.reports import iteration_documents
from autolab.reports.journal import COLUMNS, DocumentEntry

TEMPLATES = Path(iteration_documents.__file__).parents[1] / "templates"


def test_the_journal_keeps_observation_inference_and_claim_apart_in_that_order() -> None:
    text = iteration_documents.journal_entry(account()).text
    assert text.startswith("## 2026-02-12 · h1: A small CNN · supported, unconfirmed\n")
    order = ["**Observation** (measured): val_loss fell from 0.1400 (base) to 0.1130 (small_cnn) over 8 pairs"]
    order += ["better by 0.0270 (99% interval 0.0200 to 0.0340 of the gain).", "It fell."]
    order += ["**Inference**", "Filters help.", "**Claim**", "unconfirmed until fresh seeds", "On digits, it helps."]
    order += [f"(experiments/{ID}/analysis/summary.md), run_0001; spent: 2 trials, 4.0 s."]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("outcome", "holdout", "heading"),
    [
        ("kept", "passed", "supported, kept"),
        ("kept", "none", "supported, kept on this evaluation alone"),
        ("search_only", "used_up", "inconclusive, search only"),
        ("search_only", "failed", "inconclusive, search only"),
        ("suspicious", "passed", "inconclusive, suspicious"),
        ("retracted", "not_asked", "inconclusive, retracted"),
    ],
)
def test_the_heading_says_what_became_of_a_supported_candidate(outcome: str, holdout: str, heading: str) -> None:
    told = confirmed(outcome, holdout)
    text = iteration_documents.journal_entry(told).text
    assert text.split("\n")[0].endswith(f"· {heading}") and "unconfirmed" not in text
    assert "run_0001, run_0002; spent: 4 trials" in text
    assert f"Verdict: {heading.upper()}" in iteration_documents.findings_entry(told).text


def test_report_findings_and_summary_explain_exactly_the_words_that_they_use_under_the_verdict() -> None:
    told = confirmed("kept")
    texts = [
        iteration_documents.summary(told),
        iteration_documents.iteration_findings(told).text,
        iteration_documents.report(told, None).text,
    ]
    for text in (*texts, iteration_documents.findings_entry(told).text):
        part = text[text.index("What the words mean:") :]
        words = re.findall(r"(?m)^- \*([a-z ]+)\*: .+\.$", part)
        assert words == ["supported", "kept", "confirmed"]
        assert text.index("What the words mean:") < text.index("| Metric |")


def test_a_merge_request_has_change_evidence_price_commands_risks_and_the_share_of_false_ones() -> None:
    text = iteration_documents.merge_request(
        confirmed("kept"), "c" * 40, "b" * 40, ["models/cnn.py", "train.py"], 0.0125
    )
    assert text.startswith("# Merge request: A small CNN\n\n**Supported, kept.** Tried: An MLP against a small CNN.")
    heads = [line[3:] for line in text.split("\n") if line.startswith("## ")]
    assert heads == ["What changes", "Evidence", "Price", "To reproduce it", "To take it", "Risks"]
    for part in (
        "local filters",
        "- `models/cnn.py`\n- `train.py`",
        "| val_loss: gain that is claimed | 0.0195 (shrunken) |",
        "At most 1.25% of what this campaign has kept so far is expected to be false",
        "Spent: 4 trials, 8.0 s.",
        f"    autolab reproduce {ID}/run_0002",
        f"    git diff {'b' * 12} {'c' * 12}\n    git merge {'c' * 40}",
        "- no more parameters",
        "[runs/run_0002/run_manifest.json](runs/run_0002/run_manifest.json)",
    ):
        assert part in text
    assert "expected to be false" not in iteration_documents.merge_request(
        confirmed("kept"), "c" * 40, "b" * 40, [], None
    )


def test_self_reported_numbers_are_marked_in_every_document() -> None:
    reported = account(metrics=account().metrics.model_copy(update={"self_reported": True}))
    builders = (
        iteration_documents.journal_entry,
        iteration_documents.findings_entry,
        iteration_documents.iteration_findings,
    )
    texts = [*(build(reported).text for build in builders), iteration_documents.report(reported, None).text]
    for text in (*texts, iteration_documents.summary(reported)):
        assert "self-reported" in text.replace("in training (self-reported)", "")


def test_the_iterations_findings_have_their_shape() -> None:
    text = iteration_documents.iteration_findings(account()).text
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
    for entry in (made[0], made[4]):
        assert [posixpath.basename(link) for link in links(entry.text) if link.endswith(".png")] == [
            *("comparison.png", "loss.png", "acc.png")
        ]


def test_a_researchers_words_cannot_begin_an_entry_and_are_bounded() -> None:
    words = "## 2030-01-01 · fake\n<!-- autolab:fake -->\n" + "x" * 19_000
    text = iteration_documents.journal_entry(account(docs=DocsOutput(observation=words, inference="i", claim="c"))).text
    assert sum(line.startswith("## ") for line in text.split("\n")) == 1
    assert len(text) < 10_000 and r"[cut\]" in text, "the bracket is escaped, so that it begins no link"


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
    assert first.startswith("It helps paper/ralph.md.\n\n| Metric |") and "| base | 8 | 0.1400 ± 0.0033 |" in first
    assert f"](../experiments/{ID}/analysis/figures/comparison.png)" in first
    note = f"*2026-02-12, experiment e1, [run_0001 of {ID}](%s): supported, unconfirmed.*"
    assert first.endswith(note % f"../experiments/{ID}/analysis/summary.md")
    assert second == f"It helps notes.md.\n\n{note % f'experiments/{ID}/analysis/summary.md'}"
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
    files = [
        iteration_documents.journal_entry(told),
        iteration_documents.findings_entry(told),
        iteration_documents.iteration_findings(told),
    ]
    files += [iteration_documents.report(told, None)]
    files += [iteration_documents.tsv_rows(told.confirm, told.confirm_metrics, "val_loss", "x", told.confirmation)]
    texts = [one.text for one in files] + [iteration_documents.merge_request(told, "c" * 40, "b" * 40, [], None)]
    assert [text for text in texts if "on this evaluation alone" not in text] == []
    assert "Claimed: a gain of 0.0195 in val_loss, on this evaluation alone" in texts[0]
    tested = confirmed("kept")
    assert "evaluation alone" not in iteration_documents.merge_request(tested, "c" * 40, "b" * 40, [], None)


def test_the_request_of_a_suspicious_candidate_gives_the_reasons_and_the_ways() -> None:
    told = confirmed("suspicious", suspicions=["arm small_cnn: val_loss is better by 99 deviations"])
    text = iteration_documents.merge_request(told, "c" * 40, "b" * 40, [], None)
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
