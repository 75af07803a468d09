"""A screen's trial whose learning curve is behind is ended, where the lab's own curves say that this is fair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import account_kit
import pytest
from bench_kit import TINY, Bench, Elsewhere, World, batch, commit_of

from autolab.cli import init
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import ExecutorConfig
from autolab.lab.schemas.experiment import Manifest
from autolab.lab.schemas.outcomes import DropReason, TrialOutcome
from autolab.researchers.offline import catalogue
from autolab.researchers.offline.changes import CHANGES
from autolab.stats.plan import recorded_plan
from autolab.stats.screening import dropped_arms
from autolab.trials.early_stop import HISTORY, EarlyStop, early_stop_of, is_of_schedule, read_history
from autolab.trials.measurement import Ending

LOCAL = {"executor": ExecutorConfig(name="local")}
WRITES = """
import json, os, pathlib, time
folder = pathlib.Path(os.environ["AUTOLAB_TRIAL_DIR"])
for step in (1, 2, 3):
    with open(folder / "history.jsonl", "a") as lines:
        lines.write(json.dumps({"step": step, "train_loss": 9.0 / step}) + "\\n")
time.sleep(600)
"""
"""A training that is behind and would take ten minutes more."""
STOP = EarlyStop(frozenset({"h1", "h2"}), "train_loss", "minimize", "step", 1.0)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(Elsewhere, "world", World())
    return Bench(init.make_lab(tmp_path / "lab", str(TINY), seed=1).root, Elsewhere.world)


@pytest.mark.process
def test_a_trial_that_is_behind_is_ended_and_never_taken_for_another(bench: Bench) -> None:
    wanted = batch(bench, "h1", "h2")
    wanted["commits"]["h1"] = commit_of(bench, "h1", "train.py", WRITES)
    measured = bench.measure(config=LOCAL, early_stop=STOP, **wanted)
    assert (measured.ending, measured.reason, measured.executed) == (Ending.DONE, "screened", 3)
    trials = bench.trials()
    assert trials["h1-s0"]["outcome"] == "cancelled" and trials["h1-s0"]["score"] == {}
    manifest = bench.manifest()
    assert [compared.arm for compared in manifest.comparisons] == ["h2"]
    (why,) = dropped_arms(recorded_plan(manifest, None, None, None), manifest.trials).values()
    assert why == (
        DropReason.PRUNED,
        "trial h1-s0: cancelled: behind the baseline at step 1 of its learning curve (train_loss)",
    )
    record = Lab(bench.root).store / "trials"
    assert len(list(record.rglob("*.json"))) == 2, "what was ended is nobody's result"


def test_only_the_arms_that_are_named_are_ended_and_none_before_both_curves_have_come_so_far() -> None:
    def rows(*losses: float) -> list[dict[str, float]]:
        return [{"step": float(step), "train_loss": loss} for step, loss in enumerate(losses, 1)]

    stop = EarlyStop(frozenset({"h1"}), "train_loss", "minimize", "step", 2.0)
    assert stop.is_behind("h1", rows(9.0, 5.0), rows(1.0, 4.0))
    assert not stop.is_behind("h1", rows(9.0, 3.0), rows(1.0, 4.0, 0.1))
    assert not stop.is_behind("h1", rows(9.0, 4.0), rows(1.0, 4.0)), "level is not behind"
    assert not stop.is_behind("h2", rows(9.0, 5.0), rows(1.0, 4.0))
    assert not stop.is_behind("h1", rows(9.0), rows(1.0, 4.0))
    assert not stop.is_behind("h1", rows(9.0, 5.0), rows(1.0))


# When the lab's curves say it


def finished(root: Path, **changes: Any) -> Manifest:
    """A run of ten completed trials whose training loss tells their score from step 2 on."""
    (known, _) = account_kit.manifest().trials
    trials = []
    for seed in range(10):
        trial = known.value() | {"trial": f"base-s{seed}", "index": seed, "seed": seed, "score": {"val_loss": seed}}
        trials.append(trial)
        place = root / account_kit.ID / "runs" / "run_0001" / "trials" / f"base-s{seed}" / "a1" / HISTORY
        place.parent.mkdir(parents=True)
        losses = (-seed, seed, seed + 1, seed)
        lines = [{"step": step, "train_loss": loss, "seconds": 1} for step, loss in enumerate(losses, 1)]
        place.write_text("\n".join(map(json.dumps, lines)))
    arm = {"name": "base", "role": "baseline", "code": "base", "settings": {"lr": 0.1, "width": 8}}
    about: dict[str, Any] = {"metric": "val_loss", "direction": "minimize", "arms": [arm], "trials": trials}
    return account_kit.manifest(**about | changes)


SETTINGS = {
    "base": {"lr": 0.1, "width": 4},
    "wide": {"lr": 0.1, "width": 16},
    "hot": {"lr": 1.0, "width": 4},
    "long": {"lr": 0.1, "max_steps": 9},
}


def found(root: Path, manifest: Manifest, settings: Any = None, **more: Any) -> EarlyStop | None:
    return early_stop_of(root, [manifest], lambda *_: True, settings or SETTINGS, "base", **more)


def test_the_labs_own_curves_say_from_which_step_and_other_schedules_are_left_alone(tmp_path: Path) -> None:
    stop = found(tmp_path, finished(tmp_path))
    assert stop == EarlyStop(frozenset({"wide"}), "train_loss", "minimize", "step", 2.0)


NAMED = """
    max_steps n_epochs numEpochs nepochs max_iter totalIterations num_boost_round n_estimators train_tokens max_time
    learning_rate learningRate base-lr lr0 initialLR eta bs bsz batch_size batchsize opt solver optimizer patience
    warm_up warmupSteps sched lr_gamma factor cosine_T one_cycle cooldown milestones decay_rate annealing
    ema_beta swa_start tail_average weight_averaging
"""
OTHERS = "width depth dropout label_smoothing activation heads n_layers mixup flip init_std kernel norm head clip"


@pytest.mark.parametrize("name", NAMED.split())
def test_schedules_lengths_rates_and_averaging_are_known_by_their_names(name: str) -> None:
    assert is_of_schedule(name)


@pytest.mark.parametrize("name", OTHERS.split())
def test_other_settings_may_be_compared_by_their_curves(name: str) -> None:
    assert not is_of_schedule(name)


def test_no_mechanism_of_the_catalogue_that_sets_the_steps_is_taken_for_another() -> None:
    mechanisms = catalogue.load(catalogue.SHIPPED, "catalogue.yaml", list(CHANGES))
    of_steps = {one.change for one in mechanisms if one.family in ("schedule", "optimiser", "averaging")} - {"clip"}
    assert of_steps == {"schedule", "warmup", "lr", "optimiser", "averaging"}
    assert all(is_of_schedule(change) for change in of_steps)


def test_trainings_of_another_schedule_and_those_that_the_caller_leaves_out_say_nothing(tmp_path: Path) -> None:
    manifest = finished(tmp_path)
    assert found(tmp_path, manifest, {"base": {"lr": 0.2}, "wide": {"lr": 0.2}}) is None
    first = early_stop_of(tmp_path, [manifest], lambda _, trial: trial.seed < 7, SETTINGS, "base")
    assert first is None, "seven curves are too few"
    assert early_stop_of(tmp_path, [], lambda *_: True, SETTINGS, "base") is None


def test_a_curve_of_the_compared_metric_goes_first(tmp_path: Path) -> None:
    manifest = finished(tmp_path)
    for path in tmp_path.rglob("history.jsonl"):
        rows = read_history(path)
        end = rows[-1]["train_loss"]
        path.write_text("\n".join(json.dumps({**row, "val_loss": end}) for row in rows))
    stop = found(tmp_path, manifest)
    assert stop is not None and (stop.metric, stop.step) == ("val_loss", 1.0)


def test_trials_that_failed_or_were_reused_say_nothing(tmp_path: Path) -> None:
    manifest = finished(tmp_path)
    for change in ({"outcome": TrialOutcome.FAILED}, {"reused_from": "i0/run_0001/base-s0"}):
        trials = [trial.model_copy(update=change) for trial in manifest.trials[:3]]
        assert found(tmp_path, manifest.model_copy(update={"trials": (*trials, *manifest.trials[3:])})) is None


@pytest.mark.parametrize("content", [b"", b"{\n[1]\nnull\n\xff", b'{"step": true}', b'{"step": 1e999}'])
def test_what_is_no_curve_has_no_rows(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "history.jsonl"
    assert read_history(path) == []
    path.write_bytes(content)
    assert read_history(path) == []
    link = tmp_path / "link"
    link.symlink_to(TINY / "train.py")
    assert read_history(link) == []


def test_half_a_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"step": 1, "train_loss": 0.5, "phase": "train"}\n{"step": 2, "tra')
    assert read_history(path) == [{"step": 1.0, "train_loss": 0.5}]
