"""Sealed files: what changed is named, what did not costs a look, what was broken is put away and made again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_kit import LabKit, implementation, iteration, make_twin, script

from autolab.files import sha256_of, sha256_of_file
from autolab.sandbox.collect import remove_tree
from autolab.trials.seal import Seal, Seals

Hashed = list[Path]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "exports" / "code-1"
    (folder / "models").mkdir(parents=True)
    (folder / "train.py").write_text("import models\n")
    (folder / "models" / "width.py").write_text("WIDTH = 4\n")
    (folder / "models" / "z.py").symlink_to("width.py")
    return folder


@pytest.fixture
def seals(tmp_path: Path) -> Seals:
    return Seals(tmp_path / "exports", tmp_path / "seals")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Hashed:
    """Every file whose content is read for its hash."""
    found: Hashed = []
    real = sha256_of_file

    def count(path: Path) -> str:
        found.append(path)
        return real(path)

    monkeypatch.setattr("autolab.trials.seal.sha256_of_file", count)
    return found


def same_size_and_time(path: Path) -> None:
    """What a forger would do who knows about sizes and times."""
    facts = path.stat()
    path.write_text("WIDTH = 9\n")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def exchanged(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("WIDTH = 9\n")
    other.rename(path)


def link_elsewhere(path: Path) -> None:
    path.with_name("z.py").unlink()
    path.with_name("z.py").symlink_to("../train.py")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "content": (lambda path: path.write_text("WIDTH = 99\n"), "models/width.py was changed"),
    "size and time kept": (same_size_and_time, "models/width.py was changed"),
    "exchanged": (exchanged, "models/width.py was changed"),
    "removed": (lambda path: path.unlink(), "models/width.py was taken away"),
    "file added": (lambda path: path.with_name("sitecustomize.py").touch(), "models/sitecustomize.py was added"),
    "folder added": (lambda path: path.with_name("__pycache__").mkdir(), "models/__pycache__/ was added"),
    "link turned": (link_elsewhere, "models/z.py was changed"),
    "pipe in its place": (pipe, "models/width.py was changed"),
    "folder in its place": (folder, "models/width.py was taken away"),
    "a terabyte of nothing": (lambda path: os.truncate(path, 1 << 40), "models/width.py was changed"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_whatever_changes_breaks_the_seal_and_is_named(export: Path, case: str) -> None:
    seal = Seal.of(export)
    assert seal.broken() == ""
    change, said = CHANGES[case]
    change(export / "models" / "width.py")
    assert seal.broken() == said


def test_a_file_is_sealed_too(export: Path) -> None:
    seal = Seal.of(export / "train.py")
    assert seal.broken() == ""
    (export / "train.py").write_text("import nothing\n")
    assert seal.broken() == "train.py was changed"
    (export / "train.py").write_text("import models\n")
    assert seal.broken() == "train.py was changed", "put back: but something ran meanwhile"
    assert Seal.of(export / "train.py", seal.files).broken() == ""
    (export / "train.py").unlink()
    assert Seal(export / "train.py", seal.files).broken() == "train.py was taken away"


def test_what_vanished_whole_is_broken(export: Path) -> None:
    seal = Seal.of(export)
    export.rename(export.with_name("elsewhere"))
    assert seal.broken() == "models/ was taken away"


def test_a_look_reads_nothing_and_touching_breaks_nothing(export: Path, hashed: Hashed) -> None:
    seal = Seal.of(export)
    hashed.clear()
    assert seal.broken() == "" and hashed == []
    (export / "train.py").touch()
    (export / "train.py").chmod(0o444)
    assert seal.broken() == ""
    assert hashed == [export / "train.py"], "what looks different is asked for its hash"
    assert seal.broken() == "" and len(hashed) == 1, "once"


def test_a_folder_5000_deep_is_news_and_no_traceback(export: Path) -> None:
    seal = Seal.of(export)
    here = os.open(export, os.O_RDONLY)
    for _ in range(5000):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    assert seal.broken() == "d/ was added"
    remove_tree(export)


# what is kept


def test_what_was_sealed_once_is_not_hashed_again_and_is_held_to_it(
    export: Path, seals: Seals, tmp_path: Path, hashed: Hashed
) -> None:
    seals.add("code of the base", export)
    hashed.clear()
    later = Seals(seals.exports, seals.records)
    later.add("code of the base", export)
    assert later.broken() == "" and hashed == []
    (export / "train.py").write_text("import os\n\n\n\n")
    after_a_crash = Seals(seals.exports, seals.records)
    after_a_crash.add("code of the base", export)
    broken = "code of the base: train.py was changed since it was sealed: nothing that was measured with it counts"
    assert after_a_crash.broken() == broken == later.broken()


def test_a_broken_export_is_put_away_and_is_whole_again_when_it_was_made_again(
    export: Path, seals: Seals, tmp_path: Path
) -> None:
    def make() -> None:
        (export / "a").mkdir(parents=True)
        (export / "a" / "train.py").write_text("import models\n")
        export.chmod(0o555)

    sound = export.with_name("data-2")
    sound.mkdir()
    (sound / "points").touch()
    os.rename(export, tmp_path / "away")
    make()
    for what, path in (("code", export / "a"), ("data", sound)):
        seals.add(what, path)
    (export / "a" / "train.py").write_text("import os\n")
    (aside,) = seals.put_away()
    assert (aside / "a" / "train.py").read_text() == "import os\n", "what was changed can be looked at"
    assert aside.name.startswith(".tampered-") and aside.name.endswith("-code-1")
    assert not export.exists() and sound.exists()
    make()
    for _ in range(2):
        again = Seals(seals.exports, seals.records)
        again.add("code", export / "a")
        assert again.broken() == "" and again.put_away() == []


def test_of_the_settings_only_the_broken_file_is_put_away(seals: Seals) -> None:
    configs = seals.exports / "configs"
    configs.mkdir(parents=True)
    for name in ("one.json", "two.json"):
        (configs / name).write_text("{}")
        seals.add(name, configs / name)
    (configs / "one.json").write_text('{"width": 9}')
    assert len(seals.put_away()) == 1
    assert [path.name for path in configs.iterdir()] == ["two.json"]


def test_a_users_own_folder_may_change_between_runs_but_not_in_one(
    seals: Seals, tmp_path: Path, hashed: Hashed
) -> None:
    own = tmp_path / "data"
    (own / "b").mkdir(parents=True)
    (own / "b" / "x.npy").write_bytes(b"x")
    (own / "b.npy").write_bytes(b"y")
    first = seals.add_own("data/train", own)
    hashed.clear()
    later = Seals(seals.exports, seals.records)
    assert later.add_own("data/train", own) == first and hashed == []
    (own / "b" / "x.npy").write_bytes(b"z")
    assert "data/train: b/x.npy was changed" in later.broken()
    assert later.put_away() == [] and (own / "b" / "x.npy").read_bytes() == b"z", "a user's files stay where they are"
    next_run = Seals(seals.exports, seals.records)
    assert next_run.add_own("data/train", own) != first and next_run.broken() == ""
    files = sorted(path for path in own.rglob("*") if path.is_file())
    told = "\n".join(f"{path.relative_to(own)} {sha256_of_file(path)}" for path in files)
    assert next_run.seals["data/train"].sha256 == sha256_of(told)


def test_a_link_to_data_elsewhere_is_sealed_by_what_it_leads_to(seals: Seals, tmp_path: Path) -> None:
    (tmp_path / "big.npy").write_bytes(b"big")
    own = tmp_path / "own"
    own.mkdir()
    (own / "x.npy").symlink_to(tmp_path / "big.npy")
    seals.add_own("data", own)
    assert seals.broken() == ""
    (tmp_path / "big.npy").write_bytes(b"BIG")
    assert "x.npy was changed" in seals.broken()


def test_a_look_at_a_lab_of_usual_size_takes_less_than_5_ms(export: Path, seals: Seals) -> None:
    for number in range(40):
        (export / f"module{number}.py").write_text("x = 1\n")
    seals.add("code", export)
    took = []
    for _ in range(20):
        began = time.perf_counter()
        assert seals.broken() == ""
        took.append(time.perf_counter() - began)
    assert min(took) < 0.005, took


# through the command line: a trial that may write anywhere changes what the others share

FIND = "import glob, os, sys\nif not sys.argv[1:]:\n    store = os.path.dirname(os.getcwd())\n"
OVERWRITE = (
    "    path, = glob.glob(store + {pattern!r})\n"
    "    os.chmod(os.path.dirname(path), 0o755)\n    os.chmod(path, 0o644)\n"
    "    with open(path, 'r+b') as file:\n        raw = file.read()\n        file.seek(0)\n"
    "        file.write({change})\n"
)
TARGETS = {
    "labels": ("/data-*/data/eval/labels.npy", "raw[:128] + raw[128:][::-1]", "data/eval: labels.npy was changed"),
    "inputs": ("/data-*/data/eval/inputs.npy", "raw[:128] + raw[128:][::-1]", "data/eval: inputs.npy was changed"),
    "training data": ("/data-*/data/train/points.json", "b' ' + raw", "data/train: points.json was changed"),
    "evaluator": ("/file-*/eval.py", "raw + b'# no change'", "the evaluator: eval.py was changed"),
}


def tampers(body: str) -> str:
    """What `lab_kit.implementation` takes as a width: a candidate that helps, and does this on its way."""
    return f"4.0\n\n{FIND}{body}"


def loop(kit: LabKit) -> str:
    """Runs one iteration; it ends waiting for a user, whose reason comes back."""
    ended = kit.autolab("loop", "--max-iterations", "1", "--containment", "none")
    assert ended.code == 3, ended.out + ended.err
    state = kit.state()
    assert (state["stage"], state["from_stage"]) == ("human_review", "launch")
    return str(state["reason"])


@pytest.mark.process
@pytest.mark.parametrize("target", TARGETS)
def test_a_trial_that_overwrites_what_is_shared_is_caught_and_a_user_is_asked(tmp_path: Path, target: str) -> None:
    pattern, change, said = TARGETS[target]
    body = OVERWRITE.format(pattern=pattern, change=change)
    kit = make_twin(tmp_path, script(iteration(implementation=implementation(tampers(body)))))
    reason = loop(kit)
    assert "tampered" in reason and said in reason and "\n" not in reason
    tampered = [line["data"]["trial"] for line in kit.events("trial") if line["data"]["trial"]["outcome"] == "tampered"]
    assert tampered and all(not trial["score"] for trial in tampered)
    (folder,) = kit.iterations()
    assert said in (folder / "failure_report.md").read_text()
    assert said in json.loads((folder / "runs" / "run_0001" / "run_manifest.json").read_text())["reason"]
    (aside,) = (kit.store / "exports").glob(".tampered-*")
    whole = kit.store / "exports" / aside.name.split("-", 2)[2]
    assert not whole.exists()


@pytest.mark.process
def test_code_changed_for_the_others_is_caught_and_retry_measures_on_a_fresh_export(tmp_path: Path) -> None:
    """One trial writes into the code that it shares with those that come after it, once."""
    mark = tmp_path / "mark"
    body = (
        f"    if os.path.exists({str(mark)!r}):\n        os.remove({str(mark)!r})\n"
        "        os.chmod('models', 0o755)\n        os.chmod('.', 0o755)\n"
        "        open('models/random.py', 'w').write('poison')\n"
    )
    kit = make_twin(tmp_path, script(iteration(implementation=implementation(tampers(body)))))
    mark.touch()
    reason = loop(kit)
    assert "code of the candidate: models/random.py was added" in reason
    known = {line["data"]["trial"]["outcome"] for line in kit.events("trial")}
    assert "tampered" in known
    assert kit.autolab("review", "retry").code == 0
    ended = kit.autolab("loop", "--max-iterations", "1", "--containment", "none")
    assert ended.code == 0, ended.out + ended.err
    manifest = json.loads((kit.iterations()[0] / "runs" / "run_0002" / "run_manifest.json").read_text())
    assert manifest["status"] == "completed"
    assert {trial["outcome"] for trial in manifest["trials"]} == {"completed"}
    assert not list((kit.store / "exports").glob("code-*/models/random.py"))


@pytest.mark.process
def test_an_engine_that_was_killed_before_it_looked_finds_the_broken_seal_later(tmp_path: Path) -> None:
    """Killed when the candidate's first trial is fetched and not yet judged, with the labels changed meanwhile."""
    kit = make_twin(tmp_path, script(iteration()))
    assert kit.autolab("calibrate").code == 0
    points = tmp_path / "points"
    reached = kit.autolab("loop", "--max-iterations", "1", AUTOLAB_FAULT="1000000", AUTOLAB_FAULT_LOG=str(points))
    assert reached.code == 0, reached.err
    number = points.read_text().splitlines().index("trial.after_fetch") + 1
    other = tmp_path / "other"
    other.mkdir()
    kit = make_twin(other, script(iteration()))
    assert kit.autolab("calibrate").code == 0
    assert kit.autolab("loop", "--max-iterations", "1", AUTOLAB_FAULT=str(number)).code == -9
    (labels,) = (kit.store / "exports").glob("data-*/data/eval/labels.npy")
    labels.parent.chmod(0o755)
    labels.chmod(0o644)
    labels.write_bytes(labels.read_bytes()[:-4] + b"abcd")
    assert "data/eval: labels.npy was changed" in loop(kit)


@pytest.mark.process
def test_a_calibration_with_what_was_changed_counts_for_nothing_and_the_next_is_measured_anew(tmp_path: Path) -> None:
    kit = make_twin(tmp_path, script(iteration()))
    assert kit.autolab("calibrate").code == 0
    calibrated = (kit.store / "calibration.json").read_bytes()
    (labels,) = (kit.store / "exports").glob("data-*/data/eval/labels.npy")
    labels.parent.chmod(0o755)
    labels.chmod(0o644)
    labels.write_bytes(labels.read_bytes()[:-4] + b"abcd")
    ended = kit.autolab("calibrate")
    assert ended.code == 1 and "data/eval: labels.npy was changed" in ended.err, ended.out + ended.err
    assert len(ended.err.splitlines()) == 1 and (kit.store / "calibration.json").read_bytes() == calibrated
    again = kit.autolab("calibrate")
    assert again.code == 0, again.out + again.err
    found = kit.root / "experiments" / "calibration" / "runs"
    said = [json.loads((run / "run_manifest.json").read_text())["status"] for run in sorted(found.iterdir())]
    assert said == ["completed", "failed", "completed"]
