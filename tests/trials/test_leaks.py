"""Copies of the labels in what trials may read, and paths that lead to the lab: found, said in a line, refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from editable_kit import make_venv, newer
from lab_kit import HELPS, LabKit, implementation, iteration, make_lab, script

from autolab.errors import LabError
from autolab.trials import leaks

LOOP = ("loop", "--max-iterations", "1")


class Ground:
    """Labels of 50 bytes, and a folder with files of all kinds and depths that a trial may read."""

    def __init__(self, folder: Path) -> None:
        self.labels, self.seen = folder / "lab" / "labels.npy", folder / "seen"
        self.labels.parent.mkdir()
        self.labels.write_bytes(b"labels" * 10)
        for name in ("a/b/c", "a/d", "e"):
            (self.seen / name).mkdir(parents=True)
            (self.seen / name / "file").write_bytes(b"other." * 10)
        self.index = leaks.Index()

    def copies(self, *covers: Path, index: bool = True) -> list[str]:
        labels = {"data/eval/labels.npy": self.labels}
        found = leaks.copies(labels, [str(self.seen)], map(str, covers), self.index if index else None)
        assert {copy.equals for copy in found} <= {"data/eval/labels.npy"}
        return [os.path.relpath(copy.path, self.seen) for copy in found]


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def copy(labels: Path, place: Path) -> None:
    shutil.copyfile(labels, place)


def second_name(labels: Path, place: Path) -> None:
    os.link(labels, place)


def link(labels: Path, place: Path) -> None:
    place.symlink_to(labels)


KINDS: list[Callable[[Path, Path], None]] = [copy, second_name, link]


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_a_second_name_and_a_link_are_found_first_and_later(
    ground: Ground, kind: Callable[[Path, Path], None]
) -> None:
    assert ground.copies() == []
    kind(ground.labels, ground.seen / "a" / "b" / "x.bin")
    newer(ground.seen / "a" / "b")
    assert ground.copies() == ["a/b/x.bin"] == ground.copies() == ground.copies(index=False)
    (ground.seen / "a" / "b" / "x.bin").unlink()
    newer(ground.seen / "a" / "b")
    assert ground.copies() == []


def test_a_new_folder_is_walked_and_one_that_is_gone_forgotten(ground: Ground) -> None:
    assert ground.copies() == []
    (ground.seen / "a" / "new" / "deep").mkdir(parents=True)
    copy(ground.labels, ground.seen / "a" / "new" / "deep" / "y")
    newer(ground.seen / "a")
    assert ground.copies() == ["a/new/deep/y"]
    shutil.rmtree(ground.seen / "a" / "new")
    newer(ground.seen / "a")
    assert ground.copies() == []
    assert str(ground.seen / "a" / "new") not in ground.index.folders


def test_a_file_of_that_size_that_becomes_a_copy_in_place_is_found(ground: Ground) -> None:
    assert ground.copies() == []
    ground_file = ground.seen / "e" / "file"
    ground_file.write_bytes(ground.labels.read_bytes())
    os.utime(ground_file, ns=(1, 1))
    assert ground.copies() == ["e/file"]


def test_other_labels_are_looked_for_anew(ground: Ground) -> None:
    (ground.seen / "e" / "file").write_bytes(b"longer labels" * 10)
    assert ground.copies() == []
    ground.labels.write_bytes(b"longer labels" * 10)
    assert ground.copies() == ["e/file"]


def test_what_is_covered_is_not_walked(ground: Ground) -> None:
    copy(ground.labels, ground.seen / "a" / "b" / "x")
    assert ground.copies(ground.seen / "a") == []


def test_no_folder_is_read_twice_that_has_not_changed(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.copies()
    monkeypatch.setattr(leaks, "_read", lambda folder, sizes: pytest.fail(f"{folder} was read again"))
    assert ground.copies() == []


def test_an_index_comes_back_from_its_file_and_a_damaged_one_is_none(ground: Ground, tmp_path: Path) -> None:
    copy(ground.labels, ground.seen / "a" / "b" / "x")
    ground.copies()
    ground.index.save(tmp_path / "index")
    back = leaks.Index.load(tmp_path / "index")
    assert (back.sizes, back.folders, back.hashes) == (ground.index.sizes, ground.index.folders, ground.index.hashes)
    for text in ("", "[]", '{"sizes": 3}', '{"sizes": [], "folders": [], "hashes": {}}'):
        (tmp_path / "index").write_text(text)
        assert leaks.Index.load(tmp_path / "index") == leaks.Index()


def test_empty_labels_equal_nothing(ground: Ground) -> None:
    ground.labels.write_bytes(b"")
    (ground.seen / "e" / "file").write_bytes(b"")
    assert ground.copies() == []


# reads


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("{lab}", "holds the lab, with its labels and its record"),
        ("{lab}/..", "holds the lab"),
        ("{lab}/.git", "holds .*/.git/autolab, which no trial may see"),
        ("{lab}/.git/autolab/exports", "holds .*autolab, which no trial may see"),
        ("{lab}/data", "holds .*data/eval, which no trial may see"),
        ("{lab}/data/eval/labels.npy", "which no trial may see"),
        ("{lab}/eval.py", "which no trial may see"),
        ("{lab}/../way", "way: leads to .*/lab, which holds the lab"),
        ("/proc", "leads to every file of this machine"),
        ("/proc/1/root", "leads to every file of this machine"),
        ("/proc/self/root/usr", "leads to every file of this machine"),
        ("//", "leads to every file of this machine"),
    ],
)
def test_a_path_that_leads_to_the_lab_is_refused(tmp_path: Path, path: str, words: str) -> None:
    lab = tmp_path / "lab"
    (lab / "data" / "eval").mkdir(parents=True)
    (tmp_path / "way").symlink_to(lab)
    reads = {"train.reads": (path.format(lab=lab),)}
    hidden = ("data/eval", "eval.py")
    with pytest.raises(LabError, match=rf"config.yaml: train.reads: .*{words}.*; name the folder"):
        leaks.refuse_reads(lab, lab / ".git" / "autolab", reads, hidden)


def test_a_link_into_proc_is_refused_whether_it_can_be_followed_or_not(tmp_path: Path) -> None:
    for number, target in enumerate(("/proc/1/root", "/proc/self/root", "/proc")):
        way = tmp_path / f"way{number}"
        way.symlink_to(target)
        with pytest.raises(LabError, match=r"every file of this machine|cannot be followed|holds the lab"):
            leaks.refuse_reads(tmp_path / "lab", tmp_path / "lab" / ".git", {"train.reads": (str(way),)}, ())


def test_a_folder_of_the_lab_that_is_no_secret_and_one_beside_it_may_be_read(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    for folder in ("assets", "data/eval"):
        (lab / folder).mkdir(parents=True)
    (tmp_path / "lab-weights").mkdir()
    reads = {"train.reads": (f"{lab}/assets", f"{tmp_path}/lab-weights", "/usr/share")}
    leaks.refuse_reads(lab, lab / ".git" / "autolab", reads, ("data/eval",))
    secret = {"train.reads": (*reads["train.reads"], f"{lab}/data/eval")}
    with pytest.raises(LabError, match="data/eval"):
        leaks.refuse_reads(lab, lab / ".git" / "autolab", secret, ("data/eval",))


def test_a_lab_within_the_system_is_refused() -> None:
    with pytest.raises(LabError, match="lies in /usr, which every trial can read, labels too"):
        leaks.refuse_reads(Path("/usr/share/lab"), Path("/usr/share/lab/.git/autolab"), {}, ())


# through the command line


def full_lab(folder: Path, **config: object) -> LabKit:
    """A lab with an environment of its own, at level full."""
    kit = make_lab(folder, script(HELPS), config={"containment": "full", **config})
    make_venv(kit.root / "venv")
    (kit.root / "counter.txt").unlink()  # it names a file outside
    kit.git("commit", "-qam", "no counter")
    return kit


def configure(kit: LabKit, step: str, reads: list[str]) -> None:
    path = kit.root / ".autolab" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config[step]["reads"] = reads
    path.write_text(yaml.safe_dump(config))


@pytest.mark.process
def test_a_copy_in_the_environment_refuses_the_launch_until_it_is_taken_away(tmp_path: Path) -> None:
    kit = full_lab(tmp_path)
    found = kit.root / "venv" / "share" / "pictures.bin"
    found.parent.mkdir()
    os.link(kit.root / "data" / "eval" / "labels.npy", found)
    for command in (LOOP, ("calibrate",), ("verify",), ("doctor",)):
        ended = kit.autolab(*command)
        assert ended.code == 1, command
        said = ended.err if command in (LOOP, ("calibrate",)) else ended.out
        assert (
            f"{found}: equals data/eval/labels.npy, and every trial could read it there, in the environment of" in said
        )
        assert "name an environment without it as python in .autolab/config.yaml" in said
        assert "Traceback" not in ended.err
    assert kit.executions() == [] and not (kit.root / "experiments" / "calibration" / "runs").exists()
    found.unlink()
    ended = kit.autolab(*LOOP)
    assert ended.code == 0 and "verdict: supported" in ended.out, ended.out + ended.err
    index = json.loads((kit.store / "reach.json").read_text())
    assert str(found.parent) in index["folders"]
    assert kit.autolab("verify").code == 0


@pytest.mark.process
def test_reads_that_hold_the_lab_or_a_copy_are_refused_at_once(tmp_path: Path) -> None:
    kit = full_lab(tmp_path)
    (tmp_path / "assets").mkdir()
    shutil.copyfile(kit.root / "data" / "eval" / "labels.npy", tmp_path / "assets" / "old")
    for step, path, words in (
        ("train", str(kit.root), "holds the lab, with its labels"),
        ("predict", "/proc/self/root", "leads to every file of this machine"),
        ("train", str(tmp_path / "assets"), f"{tmp_path}/assets/old: equals data/eval/labels.npy"),
    ):
        configure(kit, step, [path])
        for command in (LOOP, ("verify",)):
            ended = kit.autolab(*command)
            assert ended.code == 1 and words in ended.out + ended.err, ended.out + ended.err
            assert len(ended.err.splitlines()) <= 1
        configure(kit, step, [])
    assert kit.executions() == []


@pytest.mark.process
def test_a_candidate_that_holds_a_copy_goes_back_to_its_author(tmp_path: Path) -> None:
    """The labels come as text, so they are given some that text can hold."""
    kit = full_lab(tmp_path)
    labels = kit.root / "data" / "eval" / "labels.npy"
    stolen = {"path": "models/table.txt", "content": "zeros and ones\n"}
    honest = implementation()["output"]
    thief = {"output": {**honest, "files": [*honest["files"], stolen]}}
    (kit.root / ".autolab" / "script.yaml").write_text(
        yaml.safe_dump(script(iteration(implementation=[thief, implementation()])))
    )
    labels_text = kit.root / "data" / "holdout"
    labels_text.mkdir()
    shutil.copyfile(labels.with_name("inputs.npy"), labels_text / "inputs.npy")
    (labels_text / "labels.npy").write_text("zeros and ones\n")
    path = kit.root / ".autolab" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["evaluate"]["holdout"] = "data/holdout"
    path.write_text(yaml.safe_dump(config))
    kit.git("add", "data/holdout")
    kit.git("commit", "-qam", "a holdout")
    ended = kit.autolab(*LOOP)
    assert "retry: labels: models/table.txt: equals data/holdout/labels.npy, which no candidate may hold" in ended.out
    assert "implementation (attempt 2 of 5)" in ended.out and "Traceback" not in ended.err
