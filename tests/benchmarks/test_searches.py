"""A slice of the benchmark of real searches: what is counted, what is claimed, and that it goes on after a kill."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from autolab.ideas.searchers import NumericKnob, SearchSpace
from autolab.lab.schemas.config import Config
from autolab.researchers.offline.knobs import find_knobs

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def searches() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("searches")
    finally:
        sys.path.remove(str(BENCHMARKS))


class Hill:
    """Two knobs whose best values are twice and a quarter of the base's; luck of a hundredth. Counts its trainings."""

    name = "hill"
    space = SearchSpace((NumericKnob("rate", 1.0, 0.1, 10.0), NumericKnob("size", 8, 1, 64, integer=True)))
    wanted = 0.2

    def __init__(self, searches: Any, has_holdout: bool = False, holdout_gain: float = 1.0) -> None:
        self._searches = searches
        self.has_holdout = has_holdout
        self._holdout_gain = holdout_gain
        self.trained = 0

    def code(self, point: Any) -> Path:
        return Path("nowhere")

    def train(self, code: Path, point: Any, seed: int, asks_holdout: bool, folder: Path) -> Any:
        self.trained += 1
        rate, size = (knob.position(point[knob.name]) for knob in self.space.knobs)
        if rate > 2.5:
            raise RuntimeError("the loss is nan")
        luck = (hash((seed, rate, size)) % 1000 / 1000 - 0.5) / 100
        score = -0.1 * (rate - 1) ** 2 - 0.1 * (size + 2) ** 2 + luck
        held_out = score * self._holdout_gain
        parts = tuple(held_out + part / 1000 for part in range(20))
        return self._searches.Outcome(score, 0.5, held_out if asks_holdout else None, parts if asks_holdout else ())


def test_greedy_steps_find_the_top_and_it_is_claimed(searches: Any, tmp_path: Path) -> None:
    problem = Hill(searches)
    one = searches.campaign(problem, tmp_path, "greedy", 1, 60)
    assert (one.point, one.claimed) == ({"rate": 2.0, "size": 2.0}, True)
    assert one.low < one.gain < one.high and one.gain == pytest.approx(0.5, abs=0.01)
    assert one.counted == one.gain
    # The search ends where no step pays, five pairs claim, and a training that is known does not run again.
    assert one.trials <= 60 and one.pairs == 5
    assert one.seconds == pytest.approx(0.5 * one.trials)
    assert problem.trained <= one.trials + 2 * searches.TRUE_SEEDS


def test_a_killed_search_goes_on_and_trains_nothing_twice(searches: Any, tmp_path: Path) -> None:
    first = Hill(searches)
    expected = searches.campaign(first, tmp_path, "tpe", 2, 30)
    path = tmp_path / "trainings.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == first.trained
    # Killed in the middle of a line.
    path.write_text("".join(lines[:10]) + lines[10][:20])
    for trained in (first.trained - 10, 0):
        again = Hill(searches)
        found = searches.campaign(again, tmp_path, "tpe", 2, 30)
        assert again.trained == trained
        # A training that failed takes no fixed time here.
        assert replace(found, seconds=expected.seconds) == expected


def test_a_training_that_fails_counts_as_a_constant_prediction(
    searches: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = searches.Ledger(Hill(searches), tmp_path)
    assert ledger.at({"rate": 8.0, "size": 8}, 1).score == searches.WORST
    assert "hill: the loss is nan" in capsys.readouterr().err
    assert searches._bounded(float("nan")) == searches._bounded(-9.0) == searches.WORST


def test_a_claim_takes_what_is_left_and_asks_the_holdout(searches: Any, tmp_path: Path) -> None:
    better, base = {"rate": 2.0, "size": 2}, Hill.space.base
    ledger = searches.Ledger(Hill(searches), tmp_path / "none")
    assert searches.claimed(Hill(searches), ledger, better, 24, 7).kept
    # Two pairs decide nothing, and the base itself is no gain.
    assert not searches.claimed(Hill(searches), ledger, better, 2, 7).kept
    assert not searches.claimed(Hill(searches), ledger, base, 24, 7).kept
    for gain, kept in ((1.0, True), (-1.0, False)):
        problem = Hill(searches, has_holdout=True, holdout_gain=gain)
        sealed = searches.Ledger(problem, tmp_path / f"holdout{gain}")
        assert searches.claimed(problem, sealed, better, 24, 7).kept is kept


def test_what_is_not_claimed_counts_as_nothing_and_fails_for_ours(searches: Any) -> None:
    def result(way: str, claimed: bool, low: float) -> Any:
        return searches.Result("script", way, 1, {}, claimed, 0.1, low, 0.2, 60, None, 9.0)

    results = [result("ours", True, 0.05), result("ours", False, 0.05), result("ours", True, -0.05)]
    assert [holds for holds, _ in searches.promises(results)] == [True, False, False]
    assert searches.promises([result("tpe", False, 0.05)]) == []
    assert result("tpe", False, 0.05).counted == 0
    assert "| script | ours | +0.0667 | 2 of 3 |" in searches.table(results)


def test_the_scripts_knobs_are_those_that_the_built_in_researcher_finds(searches: Any) -> None:
    text = (BENCHMARKS / "labs" / "script" / "train.py").read_text()
    metric = {"primary": "val_loss", "direction": "minimize", "success_delta": 0.02}
    config = Config.from_value({"metric": metric, "train": {"command": "python train.py"}}, "config")
    found = find_knobs(config, lambda path: text if path == "train.py" else None)
    values = {name: knob.setting.value for name, knob in found.items()}
    assert values == searches.Script.space.base


def test_the_code_at_a_point_of_digits(searches: Any, tmp_path: Path) -> None:
    problem = searches.Digits(tmp_path)
    code = problem.code(problem.space.base | {"units": 61, "dropout": 0.125})
    model = (code / "models" / "mlp.py").read_text()
    assert "nn.Linear(64, 61)" in model and "nn.Linear(61, 10)" in model and "nn.Dropout(0.125)" in model
    base = problem.code(problem.space.base)
    assert (base / "models" / "mlp.py").read_text() == (problem.template() / "models" / "mlp.py").read_text()


@pytest.mark.process
def test_a_search_of_the_script_with_real_trainings(
    searches: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(searches, "TRUE_SEEDS", 2)
    words = ["--folder", str(tmp_path / "kept"), "--problems", "script", "--ways", "greedy", "--seeds", "1"]
    words += ["--trials", "14", "--out", str(tmp_path)]
    assert searches.main(words) == 0
    (one,) = json.loads((tmp_path / "searches.json").read_text())
    # Ten steps, and four trials are two pairs, which decide nothing.
    assert (one["trials"], one["pairs"], one["claimed"]) == (14, 2, False)
    assert one["point"] != searches.Script.space.base and -0.5 < one["gain"] < 0.2
    assert capsys.readouterr().out == (tmp_path / "searches.md").read_text()


@pytest.mark.process
def test_a_lab_of_the_script_is_made_and_its_champion_is_read(searches: Any, tmp_path: Path) -> None:
    problem = searches.Script(tmp_path)
    lab = tmp_path / "lab"
    problem.make_lab(lab, 1, 60)
    config = Config.load(lab / ".autolab" / "config.yaml")
    assert (config.test.mode, config.budget.trials, config.metric.primary) == ("explore", 60, "val_loss")
    assert problem.champion(lab) is None
    source = (lab / "train.py").read_text()
    (lab / "train.py").write_text(source.replace("LR = 0.03", "LR = 0.06"))
    searches._commit(lab, "A candidate")
    searches.run(["git", "branch", "autolab/champion"], lab)
    searches.run(["git", "reset", "--quiet", "--hard", "HEAD~1"], lab)
    champion = problem.champion(lab)
    assert champion is not None and "LR = 0.06" in (champion / "train.py").read_text()
    outcome = searches.Ledger(problem, tmp_path).of(champion, 5)
    assert -1 < outcome.score < 0
