"""What `autolab status` says of the kept candidates and of the claims of a campaign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from exploration_kit import exploration

from autolab.cli import status
from autolab.lab.ledger import Ledger
from autolab.lab.schemas.campaign import Campaign, Champion, Claims, Exploration, Loop, State
from autolab.lab.schemas.outcomes import Gear, Stage

CHAMPION = Champion(
    iteration_id="2026-02-12T23-30-00Z_h1",
    run_id="run_0002",
    commit="c" * 40,
    parent="b" * 40,
    protocol="e",
    gain=0.0195,
    metrics={},
)


def rows(champion: Champion | None = None, **claims: Any) -> dict[str, str]:
    """The text's rows, for a ledger whose newest transition holds this."""
    campaign = Campaign(champions=(champion,) if champion else (), claims=Claims(**claims)).value()
    value = {
        "lab": "/lab",
        "lab_id": "x",
        "state": State(iteration_id=None, stage=Stage.HYPOTHESIS).value(),
        "since": "now",
    }
    value |= {"iterations": 3, "trials": 40, "loop": None, "run": None, "held_by": None, "documents_waiting": 0}
    value |= {"champion": (campaign["champions"] or [None])[-1], "claims": campaign["claims"]}
    return {line[:10].strip(): line[11:] for line in status.text(value).split("\n")}


def test_a_campaign_without_a_claim_says_nothing_of_it() -> None:
    assert not {"champion", "kept", "holdout"} & rows().keys()


def test_the_champion_stands_with_its_commit_iteration_and_shrunken_gain() -> None:
    assert (
        rows(CHAMPION)["champion"] == "cccccccccccc of 2026-02-12T23-30-00Z_h1, gain +0.0195 on fresh seeds, shrunken"
    )


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        (
            {"confirmations": 3, "kept": 2, "alpha": 0.015},
            "2 of 3 %s; at most 0.75% of the kept expected false",
        ),
        ({"confirmations": 1, "kept": 0, "alpha": 0.005}, "0 of 1 %s"),
        (
            {"confirmations": 900, "kept": 1, "alpha": 4.5},
            "1 of 900 %s; at most 100% of the kept expected false",
        ),
    ],
)
def test_the_share_of_false_ones_is_the_allowed_errors_over_the_kept(claims: dict[str, Any], says: str) -> None:
    assert rows(**claims)["kept"] == says.replace("%s", "confirmed claims kept")


def test_questions_to_the_holdout_are_counted() -> None:
    assert rows(questions=1)["holdout"] == "1 question asked"
    assert rows(questions=4)["holdout"] == "4 questions asked"


# Mode explore


def explored(unclaimed: int = 3, reserve: int | None = 14, **changes: Any) -> dict[str, str]:
    """The text's rows of a campaign that has screened, with what `read` takes from it."""
    steps = exploration(min(unclaimed, 3)).steps if unclaimed else ()
    base = "1a2b3c4d5e6f" + "0" * 28
    lab = Exploration(base=base, protocol="e", reserve=reserve, steps=steps, unclaimed=unclaimed, batches=4)
    campaign = Campaign(iterations=6, uncapped=1, claims_begun=1, exploration=lab).model_copy(update=changes).value()
    value = {"lab": "/lab", "lab_id": "x", "since": "now", "run": None, "held_by": None, "documents_waiting": 0}
    value |= {"state": State(iteration_id=None, stage=Stage.HYPOTHESIS).value(), "champion": None, "claims": {}}
    value |= {name: campaign[name] for name in ("iterations", "uncapped", "claims_begun", "gear", "loop", "trials")}
    value |= {"unclaimed": unclaimed, "base": base, "working": lab.working, "reserve": reserve, "batches": 4}
    return {line[:10].strip(): line[11:] for line in status.text(value).split("\n")}


def test_steps_that_nothing_has_claimed_stand_with_their_base_and_the_working_commit() -> None:
    rows = explored()
    assert rows["working"] == "3 steps unclaimed on 1a2b3c4d5e6f; autolab/working is 300000000000, a best guess"
    assert rows["reserve"] == "14 trials set aside for the claim"
    assert explored(1)["working"].startswith("1 step unclaimed on ")
    assert explored(0)["working"] == "no step yet on 1a2b3c4d5e6f, 4 batches screened"
    assert "reserve" not in explored(reserve=None)


def test_a_claim_is_counted_apart_from_the_iterations_of_a_cap() -> None:
    loop = Loop(max_iterations=10, goal="", first_iteration=2)
    rows = explored(loop=loop)
    assert rows["spent"] == "5 iterations and 1 claim, 0 trials" and rows["loop"] == "iteration 3 of 10"
    assert explored(loop=loop, gear=Gear.CLAIM)["loop"] == "a claim, after iteration 3 of 10"


def test_the_json_has_the_unclaimed_steps_the_working_commit_and_the_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path)
    ledger.create("0123abcd", tmp_path)
    lab = Exploration(base="b" * 40, protocol="e", reserve=14, steps=exploration().steps, unclaimed=53)
    state = State(iteration_id="x_batch3", stage=Stage.LAUNCH)
    for explored in (None, lab):
        campaign = Campaign(iterations=5, uncapped=2, claims_begun=1, gear=Gear.SCREEN, exploration=explored)
        told = {"state": state.value(), "campaign": campaign.value(), "outcome": "complete", "from": "hypothesis"}
        ledger.append("transition", told | {"reason": "", "log": None})
        monkeypatch.setattr(status, "locate", lambda start: (start, tmp_path))
        value = status.read(tmp_path)
        if explored is None:
            assert (value["unclaimed"], value["working"], value["base"], value["reserve"]) == (0, None, None, None)
    assert (value["unclaimed"], value["reserve"], value["base"]) == (53, 14, "b" * 40)
    assert value["working"] == exploration().steps[-1].commit
    assert "working    53 steps unclaimed on bbbbbbbbbbbb; autolab/working is 300000000000" in status.text(value)
    assert "spent      3 iterations and 1 claim, 0 trials" in status.text(value)


def test_a_lab_that_explores_nothing_says_nothing_of_it() -> None:
    assert not {"working", "reserve"} & rows().keys()
    assert rows()["spent"] == "3 iterations, 40 trials"
