"""Who writes a candidate sees code, documents and training data: no labels, no evaluation inputs, no record."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from agent_kit import AGENTS, configure
from lab_kit import LabKit, implementation, iteration, make_lab, script

from autolab.lab.git import Git
from autolab.lab.schemas.config import Config
from autolab.loop.workspace import Workspaces, open_up

VALUE = {
    "metric": {"primary": "loss", "direction": "minimize", "success_delta": 0.1},
    "data": "data/train",
    "train": {"command": "{python} train.py"},
    "predict": {"command": "{python} predict.py"},
    "evaluate": {"script": "eval.py", "eval": "data/eval", "holdout": "data/holdout"},
}
CONFIG = Config.from_value(VALUE, "config.yaml")


def write_npy(path: Path, values: list[float]) -> None:
    """An array of float32, as the tiny lab has them."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(values)},), }}"
    header += " " * (117 - len(header)) + "\n"
    raw = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
    path.write_bytes(raw + struct.pack(f"<{len(values)}f", *values))


def fill(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


FILES = {
    "train.py": "print(1)\n",
    "eval.py": "print(2)\n",
    "0_docs/problem.md": "the problem\n",
    ".gitignore": "*.log\n/data/prepared/\n",
    "data/train/inputs.npy": "training",
    "data/eval/inputs.npy": "evaluation inputs",
    "data/eval/labels.npy": "evaluation labels",
    "data/holdout/inputs.npy": "holdout inputs",
    "data/holdout/labels.npy": "holdout labels",
    "backup/old_labels.npy": "evaluation labels",
    ".autolab/config.yaml": "x: 1\n",
    "experiments/i1/results.yaml": "best: 1\n",
}


class Ground:
    """A repository with a candidate's worktree and an agent's folder."""

    def __init__(self, folder: Path, **files: str) -> None:
        self.root = folder / "lab"
        Git.init(self.root)
        fill(self.root, FILES | files)
        self.git = Workspaces(self.root)
        self.base = self.git.commit_all("first")
        self.place, self.tree = self.root / "5_worktrees" / "agent-1", self.root / "5_worktrees" / "h1-x"

    def make(self, config: Config = CONFIG, commit: str | None = None) -> Path:
        self.git.make(self.place, commit or self.base, self.base, config)
        self.git.add_worktree(self.tree, "exp/h1-x", self.base)
        return self.place

    def carry(self, config: Config = CONFIG) -> tuple[dict[str, str], list[str]]:
        """The candidate's difference to the base, and the findings."""
        parent = self.git.resolve("exp/h1-x") or ""
        found = self.git.carry(self.place, self.tree, parent, self.base, config)
        commit = self.git.commit_worktree(self.tree, "work").sha
        assert self.git.worktree_equals(self.tree, commit)
        return {change.path: change.status for change in self.git.diff(self.base, commit)}, [f.message for f in found]


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def listed(place: Path) -> set[str]:
    files = (path for path in place.rglob("*") if path.is_file() or path.is_symlink())
    return {name for path in files if not (name := str(path.relative_to(place))).startswith(".git/")}


@pytest.mark.process
def test_labels_inputs_copies_of_them_and_the_record_are_not_there(ground: Ground) -> None:
    place = ground.make()
    assert listed(place) == {"train.py", "eval.py", "0_docs/problem.md", ".gitignore", "data/train/inputs.npy"}


@pytest.mark.process
def test_its_repository_has_one_commit_and_no_object_of_the_labs(ground: Ground) -> None:
    place = ground.make()
    theirs = ["git", "-C", str(place)]
    said = subprocess.run([*theirs, "rev-list", "--objects", "--all"], capture_output=True, text=True, check=True)
    names = {line.partition(" ")[2] for line in said.stdout.splitlines()}
    assert len(subprocess.run([*theirs, "rev-list", "--all"], capture_output=True, check=True).stdout.split()) == 1
    assert not [name for name in names if "labels" in name or name.startswith(("data/eval", "experiments", ".autolab"))]
    for name in ("HEAD:data/eval/labels.npy", ground.base):
        assert subprocess.run([*theirs, "cat-file", "-e", name], capture_output=True, check=False).returncode
    assert not (place / ".git" / "objects" / "info" / "alternates").exists()
    status = subprocess.run([*theirs, "status", "--porcelain"], capture_output=True, text=True, check=True)
    assert status.stdout == ""


@pytest.mark.process
def test_what_was_hidden_is_no_deletion_and_stays_the_bases(ground: Ground) -> None:
    place = ground.make()
    fill(place, {"train.py": "print(3)\n", "models/new.py": "X = 1\n", "run.log": "ignored"})
    (place / "0_docs" / "problem.md").unlink()
    changes = {"train.py": "M", "models/new.py": "A", "0_docs/problem.md": "D"}
    assert ground.carry() == (changes, [])
    assert ground.carry() == (changes, []), "the same again gives the same"
    assert (ground.tree / "data" / "eval" / "labels.npy").read_text() == "evaluation labels"
    assert not (ground.tree / "run.log").exists() and not (ground.tree / "0_docs").exists()


@pytest.mark.process
def test_a_file_at_a_hidden_path_is_a_change_that_the_next_round_does_not_inherit(ground: Ground) -> None:
    place = ground.make()
    fill(place, {"data/eval/labels.npy": "mine", "experiments/new.md": "mine", "backup/old_labels.npy": "mine"})
    changes, _ = ground.carry()
    assert changes == {"data/eval/labels.npy": "M", "experiments/new.md": "A", "backup/old_labels.npy": "M"}
    for name in changes:
        (place / name).unlink()
    assert ground.carry() == ({}, [])


@pytest.mark.process
def test_a_file_in_the_place_of_a_hidden_folder_is_a_change_too(ground: Ground) -> None:
    place = ground.make()
    fill(place, {"data/holdout": "mine"})
    changes, found = ground.carry()
    assert found == []
    assert changes == {"data/holdout": "A", "data/holdout/inputs.npy": "D", "data/holdout/labels.npy": "D"}


@pytest.mark.process
def test_a_folder_takes_the_place_of_a_file_and_back(ground: Ground) -> None:
    place = ground.make()
    (place / "train.py").unlink()
    fill(place, {"train.py/inside.py": "X = 1\n"})
    assert ground.carry() == ({"train.py": "D", "train.py/inside.py": "A"}, [])
    (place / "train.py" / "inside.py").unlink()
    (place / "train.py").rmdir()
    fill(place, {"train.py": FILES["train.py"]})
    assert ground.carry() == ({}, [])


@pytest.mark.process
def test_training_data_that_git_does_not_hold_is_there_as_a_link(tmp_path: Path) -> None:
    """A split that lies in it is refused by the configuration, so there is none to leave out."""
    ground = Ground(tmp_path)
    fill(ground.root, {"data/prepared/train/inputs.npy": "inputs"})
    config = Config.from_value(VALUE | {"data": "data/prepared"}, "config.yaml")
    place = ground.make(config)
    assert (place / "data" / "prepared" / "train" / "inputs.npy").read_text() == "inputs"
    assert ground.git.data(ground.base, config) == {"data/prepared": ground.root / "data" / "prepared"}
    fill(place, {"train.py": "print(3)\n"})
    assert ground.carry(config)[0] == {"train.py": "M"}


@pytest.mark.process
def test_an_interrupted_copy_is_made_again_and_a_whole_one_stays(ground: Ground) -> None:
    new = ground.place.with_name(f".{ground.place.name}.new")
    fill(new, {"rubbish": "x"})
    place = ground.make()
    assert "rubbish" not in listed(place) and not new.exists()
    fill(place, {"train.py": "mine"})
    assert (ground.make() / "train.py").read_text() == "mine"


@pytest.mark.parametrize("mode", [0, 0o111, 0o400])
def test_rights_that_were_taken_away_are_given_back(tmp_path: Path, mode: int) -> None:
    fill(tmp_path, {"top/inner/file": "x"})
    for name in ("inner/file", "inner"):
        (tmp_path / "top" / name).chmod(mode)
    open_up(tmp_path / "top")
    for name in ("inner", "inner/file"):
        assert os.stat(tmp_path / "top" / name).st_mode & 0o600 == 0o600
    assert (tmp_path / "top" / "inner" / "file").read_text() == "x"


# Through the command line


@pytest.mark.process
@pytest.mark.parametrize("containment", ["none", "full"])
def test_an_agent_that_copies_labels_finds_none_at_any_stage(
    tmp_path: Path, containment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "home" / ".claude").mkdir(parents=True)
    (tmp_path / "bin" / "claude").symlink_to(AGENTS / "copier")
    given = {"name": "claude", "reads": [] if containment == "none" else [str(AGENTS)]}
    kit = make_lab(tmp_path, script(), holdout=True, config={"researcher": given, "containment": "none"})
    kit.env = {"HOME": str(tmp_path / "home"), "PATH": f"{tmp_path / 'bin'}:{AGENTS}:{os.environ['PATH']}"}
    kit.git("config", "user.email", "me@example.org")
    kit.git("config", "user.name", "me")
    before = kit.autolab("calibrate")
    assert before.code == 0, before.err
    configure(kit, containment=containment)
    for _ in range(4):
        ended = kit.autolab("run")
        assert ended.code == 0, ended.out + ended.err
    seen = json.loads((tmp_path / "home" / ".claude" / "found.json").read_text())
    assert seen["stages"] == ["hypothesis", "design", "implementation", "implementation_review"]
    assert (seen["names"], seen["labels"]) == ([], [])
    assert kit.git("show", f"{kit.events('candidate')[-1]['data']['commit']}:models/table.py") == "TABLE = []\n"


def labelled_lab(folder: Path, told: dict[str, Any]) -> LabKit:
    """A tiny lab whose labels are drawn by chance, with inputs that tell them."""
    kit = make_lab(folder, told, holdout=True)
    drawn = random.Random(7)
    for split in ("eval", "holdout"):
        labels = [float(drawn.random() < 0.5) for _ in range(400)]
        write_npy(kit.root / "data" / split / "labels.npy", labels)
        write_npy(kit.root / "data" / split / "inputs.npy", [drawn.gauss(label, 0.3) for label in labels])
    kit.git("commit", "-qam", "labels without a pattern")
    return kit


def labels_of(kit: LabKit, split: str) -> list[int]:
    raw = (kit.root / "data" / split / "labels.npy").read_bytes()[128:]
    return [int(label) for label in struct.unpack(f"<{len(raw) // 4}f", raw)]


@pytest.mark.process
@pytest.mark.parametrize("split", ["eval", "holdout"])
def test_a_candidate_with_labels_in_its_code_is_refused_and_goes_back_to_its_author(tmp_path: Path, split: str) -> None:
    kit = labelled_lab(tmp_path, script())
    half = labels_of(kit, split)[:200]
    files = [{"path": "models/table.py", "content": f"TABLE = {half}\n"}]
    cheat = implementation(plan="A table.", files=files)
    honest = implementation(delete=["models/table.py"])
    told = script(iteration(implementation=[cheat, honest]))
    (kit.root / ".autolab" / "script.yaml").write_text(json.dumps(told))
    for _ in range(3):
        ended = kit.autolab("run")
        assert ended.code == 0, ended.out + ended.err
    state, said = kit.state(), kit.events("checked")[-1]["data"]
    assert said["checks"] == {"paths": "pass", "labels": "fail"}, "and none of its programs ran"
    assert (state["stage"], state["stage_attempt"]) == ("implementation", 2)
    name = {"eval": "the evaluation", "holdout": "the holdout"}[split]
    assert (
        "labels: models/table.py: holds " in state["reason"] and f" of the labels of {name} in their" in state["reason"]
    )
    assert kit.autolab("run").code == 0
    assert kit.events("checked")[-1]["data"]["checks"]["labels"] == "pass"
    assert kit.state()["stage"] == "implementation_review"


@pytest.mark.process
def test_a_model_folder_that_leads_away_is_the_candidates_fault(tmp_path: Path) -> None:
    edit = {"path": "train.py", "search": '(folder / "model").mkdir()', "replace": 'aside = folder / "aside"'}
    more = [
        {
            "path": "train.py",
            "search": '    (folder / "model" / "weights.json")',
            "replace": '    aside.mkdir()\n    (aside / "weights.json")',
        },
        {
            "path": "train.py",
            "search": '    (folder / "history.jsonl")',
            "replace": '    (folder / "model").symlink_to("/proc/1/root")\n    (folder / "history.jsonl")',
        },
    ]
    bad = implementation(plan="Lead away.", edits=[edit, *more])
    kit = make_lab(tmp_path, script(iteration(implementation=bad)))
    assert kit.autolab("calibrate").code == 0
    for _ in range(5):
        ended = kit.autolab("run")
        assert ended.code == 0, ended.out + ended.err
    state = kit.state()
    assert not kit.events("trial_lost")
    assert (state["stage"], state["bounces"]) == ("implementation", 1), state
    assert "train/model: a link, where a folder of its own was expected" in state["reason"]
