"""`autolab prompt`: what would be sent, without sending or changing anything."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from lab_kit import LabKit, decision, iteration, make_lab, script

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> LabKit:
    made = make_lab(tmp_path_factory.mktemp("prompt"), script(iteration(decide_repeat=decision("stop", "enough"))))
    # Its prompts are those that every new lab gets.
    base = Path(__file__).parents[2] / "src" / "autolab" / "templates" / "base" / ".autolab" / "prompts"
    for path in base.iterdir():
        (made.root / ".autolab" / "prompts" / path.name).write_text(path.read_text())
    return made


def without_calibration(prompt: str) -> str:
    """The first run adds the correlation to the calibration, so that later prompts say more than the earlier did."""
    return re.sub(r"(?s)```data (?:calibration|evidence)\n.*?\n```\n", "", prompt)


def test_before_the_first_iteration_only_a_hypothesis_can_be_asked_for(kit: LabKit) -> None:
    shown = kit.autolab("prompt", "hypothesis")
    assert shown.code == 0 and "=== system ===" in shown.out and "Nothing was tried in this lab yet." in shown.out
    assert "not calibrated yet, so noise and cost are not known" in shown.out
    refused = kit.autolab("prompt", "decide_repeat")
    assert refused.code == 1 and refused.out == ""
    assert refused.err == (
        "autolab: prompt: no iteration of this lab was asked for decide_repeat yet; `autolab prompt hypothesis` shows"
        " the next request\n"
    )
    unknown = kit.autolab("prompt", "dream")
    assert unknown.code == 2 and "hypothesis" in unknown.err and unknown.err.count("\n") == 1


def test_what_is_shown_is_what_was_sent_and_nothing_changes(kit: LabKit) -> None:
    if not kit.iterations():
        assert kit.autolab("loop", "--max-iterations", "1", "--containment", "none").code == 0
    before = (kit.store / "ledger.jsonl").read_bytes(), (kit.store / "lessons.jsonl").read_bytes()
    (folder,) = (kit.store / "requests").iterdir()
    # The later two quote the summary, to which the decision was added since.
    for stage in ("design", "implementation", "implementation_review"):
        value = json.loads(kit.autolab("prompt", stage, "--json").out)
        sent = (folder / f"{stage}-1" / "prompt.md").read_text()
        assert without_calibration(value["user"]) == without_calibration(sent), stage
        whole = len(value["system"]) + len(value["user"])
        # Each part is rounded up to a whole token.
        assert whole / 4 <= sum(value["tokens"].values()) <= whole / 4 + len(value["tokens"])
    assert before == ((kit.store / "ledger.jsonl").read_bytes(), (kit.store / "lessons.jsonl").read_bytes())


def test_the_table_stands_alone_and_an_agent_has_another_contract(kit: LabKit) -> None:
    sizes = kit.autolab("prompt", "hypothesis", "--sizes")
    assert sizes.out.startswith("about ") and "  contract\n" in sizes.out and "# ROLE" not in sizes.out
    agent = kit.autolab("prompt", "hypothesis", "--agent")
    assert ".autolab/agent_result.json" in agent.out


def test_a_prompt_file_of_the_users_that_is_broken_is_named(kit: LabKit) -> None:
    path = kit.root / ".autolab" / "prompts" / "stage_hypothesis.md"
    text = path.read_text()
    path.write_text(text.replace("{{goal}}", "{{gaol}}"))
    try:
        refused = kit.autolab("prompt", "hypothesis")
        assert refused.code == 1 and "stage_hypothesis.md: line 6: {{gaol}} is not known" in refused.err
    finally:
        path.write_text(text)
