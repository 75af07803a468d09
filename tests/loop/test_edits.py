"""A researcher's answer is a value: what it may not write is said, and nothing is written."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest
from edit_kit import apply
from edit_kit import candidate as candidate  # the fixture

pytestmark = pytest.mark.process


def changed(candidate: Any) -> list[str]:
    command = ["git", "status", "--porcelain", "-uall"]
    done = subprocess.run(command, cwd=candidate.worktree, capture_output=True, text=True, check=True)
    return sorted(row[3:] for row in done.stdout.splitlines())


def test_files_edits_and_deletions_are_applied_and_twice_is_as_once(candidate: Any) -> None:
    output = {
        "files": [{"path": "models/new.py", "content": "NEW\n"}],
        "edits": [
            {"path": "train.py", "search": "a = 1", "replace": "a = 2"},
            {"path": "train.py", "search": "b = 1", "replace": "b = 3"},
        ],
        "delete": ["models/width.py"],
    }
    for _ in range(2):
        assert apply(candidate, **output) == ""
        assert (candidate.worktree / "train.py").read_text() == "a = 2\nb = 3\n"
        assert (candidate.worktree / "models" / "new.py").read_text() == "NEW\n"
        assert changed(candidate) == ["models/new.py", "models/width.py", "train.py"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../outside.py", "not a plain path below the worktree"),
        ("/etc/passwd", "not a plain path below the worktree"),
        ("models/../../x", "not a plain path below the worktree"),
        ("./train.py", "not a plain path below the worktree"),
        ("models//width.py", "not a plain path below the worktree"),
        ("models\\width.py", "not a plain path below the worktree"),
        ("nul\0.py", "a control character"),
        ("", "not a plain path below the worktree"),
        (".", "not a plain path below the worktree"),
        ("models", "is a folder, not a file"),
        ("train.py/inside.py", "train.py is a file, so that nothing can lie below it"),
        ("x" * 300, "too long for a file's name"),
        ("x/" * 900 + "x", "too long for a file's name"),
        ("link/x.py", "link is a symbolic link, which is not written through"),
        ("eval.py", "eval.py: "),
        ("EVAL.py", "EVAL.py: "),
        (".git", ".git: "),
        (".git/hooks/pre-commit", ".git"),
        (".autolab/config.yaml", ".autolab/config.yaml: "),
        ("human_journal.md", "human_journal.md: "),
        ("results.tsv", "results.tsv: "),
    ],
)
def test_a_path_that_is_not_the_researchers_is_refused_and_nothing_is_written(
    candidate: Any, path: str, reason: str
) -> None:
    (candidate.worktree / "link").symlink_to(candidate.worktree / "models")
    before = changed(candidate)
    good = {"path": "other/good.py", "content": "x"}
    for output in (
        {"files": [good, {"path": path, "content": "x"}]},
        {"files": [good], "delete": [path]},
    ):
        said = apply(candidate, **output)
        assert reason in said
        assert "\n" not in said
        assert len(said) < 400
        assert changed(candidate) == before, "all or none"


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ({"path": "nowhere.py", "search": "a", "replace": "b"}, "edit of nowhere.py: no such file in"),
        ({"path": "train.py", "search": "zzz", "replace": "b"}, "stands there 0 times, not once"),
        ({"path": "train.py", "search": " = 1", "replace": "b"}, "stands there 2 times, not once"),
        ({"path": "train.py", "search": "", "replace": "b"}, "not once"),
        ({"path": "empty.py", "search": "a", "replace": "b"}, "stands there 0 times, not once"),
        ({"path": "models", "search": "a", "replace": "b"}, "models: "),
    ],
)
def test_an_edit_that_has_no_one_place_is_refused(candidate: Any, edit: dict[str, str], reason: str) -> None:
    assert reason in apply(candidate, edits=[edit])
    assert changed(candidate) == []


def test_an_edit_after_another_of_the_same_file_does_not_see_the_old_text(candidate: Any) -> None:
    edit = {"path": "train.py", "search": "a = 1", "replace": ""}
    assert "stands there 0 times, not once" in apply(candidate, edits=[edit, edit])


def test_a_file_and_a_folder_of_one_name_in_one_answer_are_refused(candidate: Any) -> None:
    said = apply(candidate, files=[{"path": "n", "content": "x"}, {"path": "n/inside.py", "content": "x"}])
    assert "n is a file, so that nothing can lie below it" in said
    assert changed(candidate) == []


def test_a_faulty_edit_shows_where_it_may_have_been_meant(candidate: Any) -> None:
    text = "import torch\n\n\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        return self.layers(x)\n"
    (candidate.worktree / "net.py").write_text(text)
    commit = candidate.lab.git.commit_worktree(candidate.worktree, "net", "exp/x").sha
    search = "  def forward(self, x):\n     return self.layer(x)\n"
    said = apply(candidate, commit, edits=[{"path": "net.py", "search": search, "replace": ""}])
    assert said.split("\n") == [
        "edit of net.py: the text to replace stands there 0 times, not once",
        "net.py: nearest to the text to replace are the lines 5 to 6, as they are:",
        "    def forward(self, x):",
        "        return self.layers(x)",
    ]


def test_all_faulty_edits_are_counted_and_the_places_of_a_text_that_stands_twice_are_said(candidate: Any) -> None:
    edits = [
        {"path": "train.py", "search": " = 1", "replace": ""},
        {"path": "train.py", "search": "a = 1", "replace": "a = 2"},
        {"path": "models/width.py", "search": "width = 1", "replace": ""},
    ]
    assert apply(candidate, edits=edits).split("\n") == [
        "edit of train.py: the text to replace stands there 2 times, not once (and 1 more)",
        "train.py: it stands on the lines 1, 2; quote more lines around one",
        "models/width.py: nearest to the text to replace are the lines 1 to 1, as they are:",
        "WIDTH = 1",
    ]


def test_a_long_text_that_is_not_there_is_looked_for_quickly_and_shown_briefly(candidate: Any) -> None:
    rows = [f"value_{number} = {number * 7919 % 1000}" for number in range(30_000)]
    (candidate.worktree / "table.py").write_text("\n".join(rows))
    commit = candidate.lab.git.commit_worktree(candidate.worktree, "table", "exp/x").sha
    search = "\n".join(f"valeu_{number} = {'9' * 300}" for number in range(2_000))
    edits = [{"path": "table.py", "search": search, "replace": ""}] * 20
    started = time.monotonic()
    said = apply(candidate, commit, edits=edits)
    assert time.monotonic() - started < 20
    assert len(said) < 5 * (12 * 200 + 200)
