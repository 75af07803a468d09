"""Kept is what comes back on fresh seeds and passes the holdout; what does not is retracted, or not kept."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import account_kit
import pytest
import yaml
from lab_kit import HELPS, LabKit, design, hypothesis, implementation, iteration, make_lab, make_twin, script

from autolab.errors import LabError
from autolab.lab.lab import Lab
from autolab.lab.schemas.campaign import Campaign, Champion, Claims
from autolab.lab.schemas.config import StoppingRule
from autolab.stats import rules
from autolab.stats.seeds import search_seeds
from autolab.trials import champion
from autolab.trials.confirmation import conclude, confirmation_rule, count_claim
from autolab.trials.holdout_question import HoldoutQuestion
from autolab.trials.lab_inputs import inputs_of, record_of

RULE = {"rule": "sequential", "alpha": 0.005, "max_pairs": 12, "confirm_pairs": 12}
STEEPER = iteration(hypothesis=hypothesis("Steeper still"), implementation=implementation(8.0))


def results(kit: LabKit, number: int = -1) -> dict[str, Any]:
    folders = [folder for folder in kit.iterations() if folder.name != "calibration"]
    value: dict[str, Any] = yaml.safe_load((folders[number] / "results.yaml").read_text())
    return value


def report(kit: LabKit) -> str:
    return max((kit.root / "9_reports").glob("20*.md")).read_text()


def with_holdout(kit: LabKit, *, flipped: bool) -> None:
    """The evaluation split once more as the holdout; flipped, what is better there is worse here."""
    there = kit.root / "data" / "holdout"
    shutil.copytree(kit.root / "data" / "eval", there)
    if flipped:
        raw = (there / "labels.npy").read_bytes()
        (size,) = struct.unpack("<H", raw[8:10])
        labels = struct.unpack(f"<{(len(raw) - 10 - size) // 4}f", raw[10 + size :])
        swapped = struct.pack(f"<{len(labels)}f", *(1 - label for label in labels))
        (there / "labels.npy").write_bytes(raw[: 10 + size] + swapped)
    path = kit.root / ".autolab" / "config.yaml"
    path.write_text(path.read_text().replace("eval: data/eval", "eval: data/eval\n  holdout: data/holdout"))
    kit.git("add", "-A")
    kit.git("commit", "-qm", "holdout")


@pytest.mark.process
def test_a_gain_that_comes_back_on_fresh_seeds_makes_the_champion(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, script(HELPS, STEEPER), config={"test": RULE})
    with_holdout(kit, flipped=False)
    said = kit.autolab("loop", "--max-iterations", "2")
    assert said.code == 0 and said.out.count("verdict: supported, kept") == 2
    found = [results(kit, number)["confirmation"] for number in (0, 1)]
    assert [(one["outcome"], one["holdout"], one["claim"]) for one in found] == [("kept", "passed", n) for n in (1, 2)]
    campaign = kit.events("transition")[-1]["data"]["campaign"]
    first, second = campaign["champions"]
    assert second["parent"] == first["commit"], "the second candidate branched from the first champion"
    assert kit.git("rev-parse", "autolab/champion").strip() == second["commit"]
    assert campaign["claims"] == {
        "confirmations": 2,
        "kept": 2,
        "alpha": 0.01,
        "protocol": first["protocol"],
        "questions": 2,
        "alphas": [],
    }
    manifest = json.loads(next(kit.root.glob("experiments/*h1/runs/run_0002/run_manifest.json")).read_text())
    search = json.loads(next(kit.root.glob("experiments/*h1/runs/run_0001/run_manifest.json")).read_text())
    assert manifest["kind"] == "confirm" and all(trial["reused_from"] is None for trial in manifest["trials"])
    assert not {t["seed"] for t in manifest["trials"]} & {t["seed"] for t in search["trials"]}, "fresh seeds"
    gains = [one["gain"] for one in campaign["champions"]]
    assert all(gain < one["difference"]["mean"] for gain, one in zip(gains, found, strict=True)), "drawn towards 0"
    request = next(kit.root.glob("experiments/*h2/merge_request.md")).read_text()
    assert (
        f"git merge {second['commit'][:12]}" in request
        and "- Of the 2 changes kept so far, at most 0.5% are" in request
    )
    status = kit.autolab("status").out
    assert "2 of 2 confirmed claims kept; at most 0.5% of the kept expected false" in status


@pytest.mark.process
def test_a_branch_that_somebody_moved_is_put_where_the_record_says(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, script(HELPS, STEEPER), config={"test": RULE})
    assert kit.autolab("loop", "--max-iterations", "1").code == 0
    kept = kit.git("rev-parse", "autolab/champion").strip()
    kit.git("update-ref", "refs/heads/autolab/champion", "HEAD")
    said = kit.autolab("loop", "--max-iterations", "1")
    assert said.code == 0 and "autolab/champion stood at" in said.out and "put back" in said.out
    assert kit.events("transition")[-1]["data"]["campaign"]["champions"][1]["parent"] == kept


@pytest.mark.process
def test_a_search_that_was_lucky_is_retracted(tmp_path: Path) -> None:
    """The candidate is better on the search's own seeds alone, as a lucky draw would be."""
    kit = make_lab(tmp_path, {}, config={"test": RULE})
    assert kit.autolab("calibrate").code == 0
    lab = Lab.find(kit.root)
    protocol = json.loads((kit.root / ".autolab" / "calibration.json").read_text())["protocol"]
    seeds = search_seeds(lab.secret, protocol, lab.git.tree("HEAD"), 12)
    luck = f'4.0 if int(__import__("os").environ.get("AUTOLAB_SEED", "0")) in {set(seeds)} else 2.0'
    answers = script(iteration(implementation=implementation(luck)))
    (kit.root / ".autolab" / "script.yaml").write_text(yaml.safe_dump(answers))
    said = kit.autolab("loop", "--max-iterations", "1")
    assert said.code == 0 and "verdict: retracted" in said.out
    found = results(kit)
    assert found["assessment"]["comparisons"][0]["verdict"] == "supported", "the search believed it"
    assert (found["assessment"]["verdict"], found["assessment"]["reason"]) == ("inconclusive", "retracted")
    assert (found["confirmation"]["outcome"], found["confirmation"]["holdout"]) == ("retracted", "not_asked")
    assert "The gain of the search was not repeated on fresh seeds" in report(kit)
    campaign = kit.events("transition")[-1]["data"]["campaign"]
    assert (campaign["champions"], campaign["claims"]["confirmations"], campaign["claims"]["kept"]) == ([], 1, 0)
    assert kit.events("holdout_asked") == []


@pytest.mark.process
def test_what_is_worse_on_the_holdout_is_search_only_and_the_champion_stays(tmp_path: Path) -> None:
    # Far off: on flipped labels both arms are worse than a constant prediction, and all their trials would be cut.
    kit = make_lab(tmp_path, script(HELPS), config={"test": RULE | {"bound": 50.0}})
    with_holdout(kit, flipped=True)
    said = kit.autolab("loop", "--max-iterations", "1")
    assert said.code == 0 and "verdict: not kept" in said.out
    found = results(kit)
    assert (found["assessment"]["verdict"], found["assessment"]["reason"]) == ("inconclusive", "search_only")
    again = found["confirmation"]
    assert (again["holdout"], again["outcome"]) == ("failed", "search_only")
    # Flipped labels make every score worse than the bound, where it is cut: then no seed differs from another.
    assert again["holdout_error"] in ("rows", "rows and seeds")
    assert "but the holdout does not show it beyond its error" in report(kit)
    assert "scores in all" in said.out, "a line is told before it is scored"
    assert kit.events("transition")[-1]["data"]["campaign"]["champions"] == []
    assert kit.events("learned")[-1]["data"]["lesson"]["outcome"] == "search_only"
    assert [line["data"]["question"] for line in kit.events("holdout_asked")] == [1]
    shown = [path.name for path in kit.root.rglob("*") if "holdout" in path.parts and "experiments" in path.parts]
    assert shown == [] and not (kit.store / "held").exists(), "predictions for the holdout are nobody's to look at"


@pytest.mark.process
def test_a_holdout_without_questions_left_leaves_the_claim_to_the_search(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, script(HELPS, STEEPER), config={"test": RULE | {"holdout_questions": 1}})
    with_holdout(kit, flipped=False)
    said = kit.autolab("loop", "--max-iterations", "2")
    assert said.code == 0 and "verdict: not kept" in said.out
    assert results(kit)["confirmation"]["holdout"] == "used_up"
    assert "the holdout has no questions left" in report(kit)
    campaign = kit.events("transition")[-1]["data"]["campaign"]
    assert [one["iteration_id"] for one in campaign["champions"]] == [results(kit, 0)["iteration_id"]]
    assert kit.git("rev-parse", "autolab/champion").strip() == campaign["champions"][0]["commit"]
    assert len(kit.events("holdout_asked")) == 1


@pytest.mark.process
def test_a_gain_within_the_error_of_the_holdouts_rows_does_not_pass(tmp_path: Path) -> None:
    """A mean above 0 passed once: here a few rows carry it, and the others say nothing."""
    kit = make_lab(tmp_path, script(HELPS), config={"test": RULE})
    with_holdout(kit, flipped=False)
    labels = kit.root / "data" / "holdout" / "labels.npy"
    raw = labels.read_bytes()
    (size,) = struct.unpack("<H", raw[8:10])
    values = struct.unpack(f"<{(len(raw) - 10 - size) // 4}f", raw[10 + size :])
    # Every second row flipped but for a few: what is won on one row is nearly lost on the next.
    mixed = [1 - value if index % 2 and index >= 8 else value for index, value in enumerate(values)]
    labels.write_bytes(raw[: 10 + size] + struct.pack(f"<{len(mixed)}f", *mixed))
    kit.git("commit", "-qam", "mixed labels")
    said = kit.autolab("loop", "--max-iterations", "1")
    assert said.code == 0, said.out + said.err
    assert results(kit)["confirmation"]["outcome"] == "search_only", "whether its mean is above 0 is not enough"


@pytest.mark.process
def test_without_a_holdout_the_champion_moves_and_the_claim_says_on_what(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, script(HELPS), config={"test": RULE})
    said = kit.autolab("loop", "--max-iterations", "1")
    assert said.code == 0 and "verdict: supported, kept on this evaluation alone" in said.out
    assert "kept on this evaluation alone: autolab/champion is" in said.out
    assert "on this evaluation alone" in report(kit)
    for name in ("RESEARCH_JOURNAL.md", "FINDINGS.md", "results.tsv"):
        assert "on this evaluation alone" in (kit.root / name).read_text(), name
    request = next(kit.root.glob("experiments/*h1/merge_request.md")).read_text()
    assert ", on this evaluation alone" in request.partition("Claimed gain in ")[2].splitlines()[0]
    champions = kit.events("transition")[-1]["data"]["campaign"]["champions"]
    assert [one["evaluation_only"] for one in champions] == [True]
    assert "claimed on this evaluation alone" in kit.autolab("status").out


@pytest.mark.process
def test_with_fdr_each_confirmation_gets_what_the_campaign_has_left_for_it(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, script(HELPS, STEEPER), config={"test": RULE | {"fdr": 0.05}})
    assert kit.autolab("loop", "--max-iterations", "2").code == 0
    alphas = [results(kit, number)["confirmation"]["alpha"] for number in (0, 1)]
    assert alphas == [rules.claim_alpha(0.05, 1, 0), rules.claim_alpha(0.05, 2, 1)]
    assert max(alphas) < 0.005


@pytest.mark.process
def test_the_holdout_is_paid_for_before_it_is_opened_and_once(tmp_path: Path) -> None:
    kits = []
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        kit = make_twin(tmp_path / name, script(HELPS), config={"test": RULE})
        with_holdout(kit, flipped=False)
        kits.append(kit)
    whole, killed = kits
    words = ("loop", "--max-iterations", "1")
    assert whole.autolab(*words).code == 0
    assert killed.autolab(*words, AUTOLAB_FAULT="holdout.after_debit").code != 0
    assert (len(killed.events("holdout_asked")), killed.events("confirmed")) == (1, [])
    assert killed.autolab(*words).code == 0
    assert [len(kit.events("holdout_asked")) for kit in kits] == [1, 1]
    tables = [{name: rows for name, rows in kit.tables().items() if "/run_" not in name} for kit in (killed, whole)]
    assert tables[0] == tables[1], "all that the rule has read; how many trials ran ahead of it is chance"
    assert killed.events("transition")[-1]["data"]["campaign"]["claims"]["questions"] == 1


@pytest.mark.process
def test_a_question_counts_although_it_finds_no_answer_and_none_is_put_when_they_are_used_up(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, {}, holdout=True)
    lab = Lab(kit.root)
    config, head = lab.config(), lab.git.head() or ""
    protocol = inputs_of(lab, config, head, head).protocol
    search = account_kit.manifest()
    trials = [trial.value() | {"score": {"val_loss": 0.1}} for trial in search.trials]
    compared = search.comparisons[0].model_copy(update={"pairs": 1})
    about = {"kind": "confirm", "metric": "val_loss", "direction": "minimize", "rule": RULE, "pairs": 1}
    about |= {"trials": trials, "comparisons": [compared.value()]}
    confirm = account_kit.manifest(run_id="run_0002", **about)

    def concluded(questions: int) -> Any:
        question = HoldoutQuestion(
            record=record_of(lab, "i1", list(lab.ledger.lines()), 0),
            confirm=confirm,
            claims=Claims(protocol=protocol, questions=questions),
            allowed=config.test.holdout_questions,
            inputs=lambda: inputs_of(lab, config, head, head),
            tell=print,
        )
        return conclude(question, search, passed=True)

    for _ in range(2):
        with pytest.raises(LabError, match="holdout: trial base-s0 of run_0002"):  # whose predictions nobody kept
            concluded(0)
        assert [line["data"]["question"] for line in kit.events("holdout_asked")] == [1]
    confirm = account_kit.manifest(run_id="run_0003", **about)
    found = concluded(config.test.holdout_questions)
    assert (found.holdout, found.outcome) == ("used_up", "search_only")
    assert len(kit.events("holdout_asked")) == 1


@pytest.mark.process
def test_a_budget_that_ends_before_the_confirmation_leaves_the_claim_open(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, script(HELPS), config={"test": RULE | {"max_pairs": 5}, "budget": {"trials": 27}})
    said = kit.autolab("loop", "--max-iterations", "1")
    assert said.code == 4 and "is supported, and not confirmed: the budget ends here" in said.out
    path = kit.root / ".autolab" / "config.yaml"
    path.write_text(path.read_text().replace("trials: 27", "trials: 100"))
    assert kit.autolab("review", "retry").code == 0
    assert "verdict: supported, kept" in kit.autolab("loop", "--max-iterations", "1").out


@pytest.mark.process
def test_the_best_of_several_arms_is_confirmed_and_no_other(tmp_path: Path) -> None:
    arms = [{"name": name, "config_overrides": {"width": width}} for name, width in (("steep", 3.0), ("steeper", 4.0))]
    kit = make_lab(tmp_path, script(iteration(design=design(variants=arms))), config={"test": RULE})
    said = kit.autolab("loop", "--max-iterations", "1")
    assert said.code == 0 and "verdict: supported, kept" in said.out
    found = results(kit)
    assert [one["verdict"] for one in found["assessment"]["comparisons"]] == ["supported", "supported"]
    assert found["confirmation"]["arm"] == "steeper"
    manifest = json.loads(next(kit.root.glob("experiments/*h1/runs/run_0002/run_manifest.json")).read_text())
    assert [arm["name"] for arm in manifest["arms"]] == ["baseline", "steeper"]


# the lineage


def kept(commit: str, parent: str) -> Champion:
    return Champion(
        iteration_id=f"i{commit}", run_id="run_0002", commit=commit, parent=parent, protocol="e", gain=1.0, metrics={}
    )


def test_a_retraction_takes_what_was_built_on_it_and_returns_to_the_parent() -> None:
    lineage = (kept("a", "home"), kept("b", "a"), kept("c", "b"), kept("d", "home2"))
    campaign = Campaign(champions=lineage, base_commit="c")
    left, fallen = champion.retract(campaign, "b")
    assert [one.commit for one in fallen] == ["b", "c"]
    assert ([one.commit for one in left.champions], left.base_commit) == (["a", "d"], "d")
    nothing, all_fallen = champion.retract(campaign.model_copy(update={"champions": lineage[:3]}), "a")
    assert ([one.commit for one in all_fallen], nothing.base_commit) == (["a", "b", "c"], "home")


def test_what_is_no_champion_takes_nothing_with_it() -> None:
    campaign = Campaign(champions=(kept("a", "home"),), base_commit="a")
    assert champion.retract(campaign, "x") == (campaign, ())


@pytest.mark.parametrize(("alpha", "number", "share"), [(0.0, 0, None), (0.01, 2, 0.005), (0.05, 1, 0.05)])
def test_the_false_share_is_the_errors_allowed_over_the_kept(alpha: float, number: int, share: float | None) -> None:
    assert Claims(confirmations=3, kept=number, alpha=alpha).false_share == share


def test_another_protocol_opens_the_holdout_anew() -> None:
    from autolab.lab.schemas.experiment import Confirmation, Interval

    found = Confirmation(
        run_id="run_0002",
        arm="steep",
        difference=Interval(n=5, mean=1.0, low=0.5, high=1.5, level=0.99),
        shrunken=0.9,
        reason="supported",
        holdout="passed",
        outcome="kept",
        claim=1,
        alpha=0.005,
    )
    once = count_claim(Claims(), found, "one")
    assert (count_claim(once, found, "one").questions, count_claim(once, found, "two").questions) == (2, 1)


def test_the_rule_of_a_confirmation_is_the_searchs_where_nothing_is_asked_of_the_campaign() -> None:
    from autolab.lab.schemas.config import Config, Metric

    config = Config(metric=Metric(primary="val_loss", direction="minimize", success_delta=0.1))
    tested = StoppingRule(alpha=0.01)
    assert confirmation_rule(config, tested, Claims(confirmations=9, kept=1)) == tested
