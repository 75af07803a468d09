"""autolab.lab.git against the real git, a hostile configuration and file names that break quoting."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autolab.errors import GitError
from autolab.lab import plumbing
from autolab.lab.git import Git, common_dir, find_root
from autolab.lab.worktrees import UNFINISHED
from autolab.sandbox.collect import remove_tree

LOG = "refs/autolab/log"
NAMES = [
    "with space.py",
    "-leading-dash",
    'quo"te',
    "back\\slash",
    "new\nline",
    "tab\tcr\r",
    "ünï/cödé.txt",
    "deep/er/x",
]


def user(root: Path, *args: str, ok: tuple[int, ...] = (0,)) -> str:
    """git as the user runs it."""
    done = subprocess.run(["git", *args], cwd=root, capture_output=True, check=False)
    assert done.returncode in ok, done.stderr.decode()
    return os.fsdecode(done.stdout).rstrip("\n")


def files(root: Path) -> dict[str, bytes]:
    """Every file below a folder, links by their target; `.git` and worktrees left out."""
    found = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in (".git", "5_worktrees")]
        for path in (Path(folder) / name for name in names if name != ".git"):
            data = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()
            found[str(path.relative_to(root))] = data
    return found


def state(root: Path) -> dict[str, object]:
    """All that is the user's: index, stash, branches, configuration, files; read without a refresh."""
    refs = user(root, "for-each-ref").splitlines()
    return {
        "index": hashlib.sha256((root / ".git/index").read_bytes()).hexdigest(),
        "head": (root / ".git/HEAD").read_text(),
        "config": (root / ".git/config").read_text(),
        "stash": user(root, "stash", "list"),
        "refs": [ref for ref in refs if "refs/autolab/" not in ref and "refs/heads/exp/" not in ref],
        "files": files(root),
    }


@pytest.fixture(autouse=True)
def configured_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "gitconfig"
    config.write_text("[user]\n\tname = Pat\n\temail = pat@example.org\n[init]\n\tdefaultBranch = main\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def lab(tmp_path: Path) -> Git:
    root = tmp_path / "lab"
    git = Git.init(root)
    (root / ".gitignore").write_text("5_worktrees/\n__pycache__/\n")
    (root / "train.py").write_bytes(b"print(1)\n")
    (root / "crlf.txt").write_bytes(b"one\r\ntwo\n")
    (root / "run.sh").write_bytes(b"#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "data").mkdir()
    (root / "data/eval.npy").write_bytes(bytes(range(256)))
    (root / "data/link").symlink_to("../train.py")
    git.commit_all("first")
    return git


def base(lab: Git) -> str:
    head = lab.head()
    assert head is not None
    return head


@pytest.fixture
def hostile(lab: Git, tmp_path: Path) -> Iterator[Git]:
    """Configuration that leaves a mark whenever git runs a program of it; attributes that convert."""
    mark, script = tmp_path / "MARK", tmp_path / "evil"
    script.write_text(f'#!/bin/sh\necho "$0 $*" >> "{mark}"\ncat 2>/dev/null\n')
    script.chmod(0o755)
    (lab.root / ".gitattributes").write_text("* filter=evil text eol=crlf ident diff=evil\n")
    (lab.root / "filtered.dat").write_bytes(b"$Id$\r\nraw\n")
    user(lab.root, "add", ".gitattributes")
    blob = user(lab.root, "hash-object", "-w", "--no-filters", "filtered.dat")
    user(lab.root, "update-index", "--add", "--cacheinfo", f"100644,{blob},filtered.dat")
    user(lab.root, "commit", "-q", "-m", "attributes")
    for hook in ("pre-commit", "post-checkout", "post-commit", "reference-transaction", "post-index-change"):
        shutil.copy(script, lab.root / ".git/hooks" / hook)
    for key, value in {
        "core.fsmonitor": str(script),
        "core.autocrlf": "true",
        "filter.evil.clean": str(script),
        "filter.evil.smudge": str(script),
        "filter.evil.process": str(script),
        "filter.evil.required": "true",
        "filter.a=b.clean": str(script),
        "diff.external": str(script),
        "diff.evil.command": str(script),
        "diff.evil.textconv": str(script),
        "commit.gpgSign": "true",
        "log.showSignature": "true",
        "gpg.program": str(script),
        "core.pager": str(script),
        "core.worktree": str(tmp_path / "elsewhere"),
    }.items():
        user(lab.root, "config", key, value)
    yield lab
    assert not mark.exists(), f"git ran a configured program: {mark.read_text()}"


# --- finding ---


@pytest.mark.process
def test_root_is_the_nearest_checkout_above(lab: Git, tmp_path: Path) -> None:
    deep = lab.root / "data/a/b"
    deep.mkdir(parents=True)
    assert find_root(deep) == lab.root == find_root(lab.root)
    (tmp_path / "plain/.git").mkdir(parents=True)
    assert find_root(tmp_path / "plain") is None


@pytest.mark.process
def test_common_dir_of_a_worktree_is_that_of_the_main_checkout(lab: Git) -> None:
    lab.add_worktree(lab.root / "5_worktrees/h1", "exp/h1", base(lab))
    assert common_dir(lab.root / "5_worktrees/h1") == lab.root / ".git" == common_dir(lab.root)


def test_a_folder_that_is_no_checkout_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(GitError, match="is not a git checkout: run git init"):
        Git(tmp_path)


@pytest.mark.process
def test_missing_git_says_how_to_go_on(lab: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    plumbing._program.cache_clear()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(GitError, match="git was not found on PATH: install git, then run the same command again"):
        lab.head()


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that a plain user can neither read nor enter, as root's home is to everybody else."""
    folder = tmp_path / "closed"
    (folder / "bin").mkdir(parents=True)
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


@pytest.mark.process
def test_folders_of_path_that_this_user_cannot_enter_are_passed_over(
    lab: Git, closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", os.pathsep.join([str(closed / "bin"), str(closed), f"/{'long' * 100}", path]))
    plumbing._program.cache_clear()
    assert lab.head() and lab.dirty() == []
    if os.geteuid() != 0:  # to root no folder is closed
        assert str(closed) not in plumbing._sound_path()


@pytest.mark.process
def test_first_commit_is_made_once_and_in_the_users_name(lab: Git) -> None:
    assert lab.commit_all("again") == base(lab)
    assert user(lab.root, "log", "--format=%an <%ae> %s") == "Pat <pat@example.org> first"
    assert user(lab.root, "status", "--porcelain") == ""
    (lab.root / "train.py").write_text("theirs")
    with pytest.raises(GitError, match="uncommitted files: commit them"):
        lab.commit_all("not ours")


@pytest.mark.process
def test_first_commit_without_a_known_user_is_autolabs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git = Git.init(tmp_path / "new")
    git.commit_all("empty")
    assert user(git.root, "log", "--format=%an <%ae>") == "Autolab <autolab@localhost>"


@pytest.mark.process
def test_asking_of_an_unborn_branch_gives_none(tmp_path: Path) -> None:
    git = Git.init(tmp_path / "new")
    assert (git.head(), git.branch(), git.resolve("main"), git.dirty()) == (None, "main", None, [])


@pytest.mark.process
@pytest.mark.parametrize("rev", ["nope", "0" * 40, "-h", "--all", "", "a b", "x\ny"])
def test_a_name_of_no_commit_resolves_to_none(lab: Git, rev: str) -> None:
    assert lab.resolve(rev) is None
    with pytest.raises(GitError, match="names no commit"):
        lab.tree(rev)


@pytest.mark.process
def test_inherited_git_variables_are_not_obeyed(lab: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = base(lab)
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    assert lab.head() == head and lab.dirty() == []


@pytest.mark.process
@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        (["merge other"], "merge"),
        (["rebase other"], "rebase"),
        (["cherry-pick other"], "cherry-pick"),
        (["merge -s ours other", "revert --no-edit other"], None),
        (["bisect start"], "bisect"),
    ],
)
def test_an_operation_in_progress_is_named(lab: Git, commands: list[str], expected: str | None) -> None:
    conflict(lab)
    for command in commands:
        user(lab.root, *command.split(), ok=(0, 1))
    assert lab.busy() == ("revert" if expected is None else expected)


def conflict(lab: Git) -> None:
    """Branches main and other that both change train.py."""
    user(lab.root, "switch", "-q", "-c", "other")
    (lab.root / "train.py").write_text("other")
    user(lab.root, "commit", "-qam", "other")
    user(lab.root, "switch", "-q", "main")
    (lab.root / "train.py").write_text("main")
    user(lab.root, "commit", "-qam", "main")


@pytest.mark.process
def test_dirty_names_staged_unstaged_untracked_and_deleted(lab: Git) -> None:
    for name in NAMES:
        (lab.root / name).parent.mkdir(parents=True, exist_ok=True)
        (lab.root / name).write_text("x")
    user(lab.root, "add", "--", "new\nline")
    (lab.root / "train.py").write_text("changed")
    (lab.root / "crlf.txt").unlink()
    alone = [name for name in NAMES if "/" not in name]
    assert sorted(lab.dirty()) == sorted([*alone, "ünï/", "deep/", "train.py", "crlf.txt"])
    assert lab.dirty(["train.py", "run.sh"]) == ["train.py"] and lab.dirty([]) == lab.dirty(["*.py"]) == []


@pytest.mark.process
def test_a_touched_file_is_not_dirty_and_the_index_is_not_refreshed(lab: Git) -> None:
    os.utime(lab.root / "train.py", (1, 1))
    before = state(lab.root)
    assert lab.dirty() == []
    assert state(lab.root) == before


# --- nothing of the user's is touched ---


def engine_calls(lab: Git) -> dict[str, Callable[[], object]]:
    root, first = lab.root, base(lab)
    tree = root / "5_worktrees/h1"

    def work() -> None:
        for name in NAMES:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(b"$Id$\r\n" + os.fsencode(name))

    def commit() -> None:
        assert lab.commit_worktree(tree, "h1").tree != lab.tree(first)

    return {
        "ask": lambda: (lab.branch(), lab.busy(), lab.is_ancestor(first, first), lab.has_path(first, "data")),
        "dirty": lab.dirty,
        "add": lambda: lab.add_worktree(tree, "exp/h1", first),
        "work": work,
        "commit": commit,
        "equals": lambda: lab.worktree_equals(tree, "exp/h1"),
        "diff": lambda: (lab.diff(first, "exp/h1"), lab.diff_text(first, "exp/h1", 10**6)),
        "export": lambda: lab.export("exp/h1", root.parent / "export"),
        "snapshot": lambda: lab.snapshot(LOG, root, ["train.py", "staged", "untracked"], "log"),
        "log": lambda: list(lab.log_entries(LOG)),
        "restore": lambda: lab.restore_missing(LOG, root.parent / "restored"),
        "pin": lambda: lab.pin("refs/autolab/keep/a", "exp/h1"),
        "champion": lambda: lab.update_ref("refs/heads/autolab/champion", "exp/h1", None),
        "repair": lab.repair_worktrees,
    }


@pytest.mark.process
def test_engine_calls_leave_the_user_alone_and_run_none_of_their_programs(hostile: Git, tmp_path: Path) -> None:
    root = hostile.root
    user(root, "config", "--unset", "core.worktree")
    quiet = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.attributesFile=/dev/null"]
    raw = [*quiet, "-c", "filter.evil.clean=", "-c", "filter.evil.process=", "-c", "filter.evil.smudge="]
    raw += ["-c", "filter.evil.required=false", "-c", "commit.gpgSign=false"]
    (root / "train.py").write_text("stashed\n")
    user(root, *raw, "stash")
    for name in ("staged", "both"):
        (root / name).write_text("staged\n")
        user(root, *raw, "add", name)
    (root / "both").write_text("unstaged\n")
    (root / "train.py").write_text("unstaged\n")
    (root / "untracked").write_text("untracked\n")
    (root / "crlf.txt").unlink()
    (tmp_path / "MARK").unlink(missing_ok=True)
    user(root, "config", "core.fsmonitor", "false")  # the user's own reading below would run it
    user(root, "config", "core.hooksPath", "/dev/null")
    before = state(root)
    engine_only = {"core.fsmonitor": str(tmp_path / "evil"), "core.worktree": str(tmp_path / "elsewhere")}
    engine_only |= {
        "core.hooksPath": str(root / ".git/hooks"),
        "core.splitIndex": "true",
        "core.sparseCheckout": "true",
    }
    (root / ".git/info").mkdir(exist_ok=True)
    (root / ".git/info/sparse-checkout").write_text("/run.sh\n")
    kept = (root / ".git/config").read_text()
    for name, call in engine_calls(hostile).items():
        for key, value in engine_only.items():
            user(root, "config", "-f", ".git/config", key, value)
        call()
        (root / ".git/config").write_text(kept)
        after = state(root)
        after["refs"] = [ref for ref in after["refs"] if "autolab/champion" not in ref]  # type: ignore[attr-defined]
        assert after == before, name
        assert not list((root / ".git").rglob("sharedindex*")), name


@pytest.mark.process
def test_raw_bytes_survive_filters_line_endings_and_ident(hostile: Git, tmp_path: Path) -> None:
    tree = hostile.root / "5_worktrees/h1"
    hostile.add_worktree(tree, "exp/h1", "HEAD")
    assert (tree / "filtered.dat").read_bytes() == b"$Id$\r\nraw\n"
    assert (tree / "crlf.txt").read_bytes() == b"one\r\ntwo\n"
    (tree / "mine.txt").write_bytes(b"\r\n$Id$\n\r")
    commit = hostile.commit_worktree(tree, "mine").sha
    hostile.export(commit, tmp_path / "export")
    assert files(tmp_path / "export") == files(tree)
    assert hostile.worktree_equals(tree, commit)
    assert hostile.read(commit, "mine.txt") == b"\r\n$Id$\n\r"


# --- worktrees ---


@pytest.fixture
def tree(lab: Git) -> Path:
    path = lab.root / "5_worktrees/h1"
    lab.add_worktree(path, "exp/h1", base(lab))
    return path


@pytest.mark.process
def test_a_new_worktree_holds_the_base_and_is_clean_for_its_worker(lab: Git, tree: Path) -> None:
    assert files(tree) == files(lab.root)
    assert os.access(tree / "run.sh", os.X_OK) and not os.access(tree / "train.py", os.X_OK)
    assert user(tree, "status", "--porcelain") == "" and user(tree, "branch", "--show-current") == "exp/h1"
    assert lab.worktree_equals(tree, base(lab))
    assert "locked" not in user(lab.root, "worktree", "list", "--porcelain")


@pytest.mark.process
def test_adding_again_adopts_the_work_in_it(lab: Git, tree: Path) -> None:
    (tree / "train.py").write_text("work in progress")
    lab.add_worktree(tree, "exp/h1", base(lab))
    assert (tree / "train.py").read_text() == "work in progress"


@pytest.mark.process
def test_a_branch_without_worktree_is_adopted_after_a_crash(lab: Git) -> None:
    lab.update_ref("refs/heads/exp/h1", base(lab), None)
    lab.add_worktree(lab.root / "5_worktrees/h1", "exp/h1", base(lab))
    assert lab.worktree_equals(lab.root / "5_worktrees/h1", base(lab))


@pytest.mark.process
@pytest.mark.parametrize("crash", ["before the index", "half a file", "before the .git file", "before HEAD"])
def test_a_half_made_worktree_is_finished(lab: Git, tree: Path, crash: str) -> None:
    admin = lab.common / "worktrees/h1"
    (admin / "locked").write_text(UNFINISHED)
    if crash == "before the index":
        (admin / "index").unlink()
        (tree / "train.py").unlink()
    elif crash == "half a file":
        (tree / "train.py").write_text("pri")
    else:
        shutil.rmtree(tree)
        tree.mkdir()
        if crash == "before HEAD":
            (tree / ".git").write_text(f"gitdir: {admin}\n")
            (admin / "HEAD").write_text("0" * 40 + "\n")
    with pytest.raises(GitError, match=r"never finished|not a worktree"):
        lab.commit_worktree(tree, "would record deletions")
    lab.add_worktree(tree, "exp/h1", base(lab))
    assert lab.worktree_equals(tree, base(lab)) and files(tree) == files(lab.root)


@pytest.mark.process
def test_a_deleted_folder_comes_back_from_its_branch(lab: Git, tree: Path) -> None:
    (tree / "new.py").write_text("x")
    commit = lab.commit_worktree(tree, "h1").sha
    lab.add_worktree(lab.root / "5_worktrees/h2", "exp/h2", base(lab))
    shutil.rmtree(tree)
    assert not lab.worktree_equals(tree, commit)
    lab.add_worktree(tree, "exp/h1", base(lab))
    assert lab.worktree_equals(tree, commit) and (tree / "new.py").read_text() == "x"
    assert lab.worktree_equals(lab.root / "5_worktrees/h2", base(lab))


@pytest.mark.process
def test_another_missing_worktree_of_the_user_keeps_its_entry(lab: Git, tree: Path, tmp_path: Path) -> None:
    user(lab.root, "worktree", "add", "-q", "-b", "usb", str(tmp_path / "usb"))
    shutil.rmtree(tmp_path / "usb")
    shutil.rmtree(tree)
    lab.add_worktree(tree, "exp/h1", base(lab))
    assert (lab.common / "worktrees/usb/HEAD").exists()


@pytest.mark.process
def test_foreign_files_in_the_way_are_never_overwritten(lab: Git, tree: Path) -> None:
    foreign = lab.root / "5_worktrees/h2"
    foreign.mkdir()
    (foreign / "train.py").write_text("theirs")
    with pytest.raises(GitError, match="holds files and is no worktree"):
        lab.add_worktree(foreign, "exp/h2", base(lab))
    shutil.rmtree(tree)
    tree.mkdir()
    (tree / "train.py").write_text("theirs")
    with pytest.raises(GitError, match="holds files and is no worktree"):
        lab.add_worktree(tree, "exp/h1", base(lab))
    assert files(foreign) == files(tree) == {"train.py": b"theirs"}


@pytest.mark.process
def test_refused_worktrees_say_the_way_out(lab: Git, tree: Path, tmp_path: Path) -> None:
    (tree / "a").write_text("a")
    moved = lab.commit_worktree(tree, "a").sha
    with pytest.raises(GitError, match="does not come from"):
        lab.update_ref("refs/heads/exp/h3", base(lab), None)
        lab.add_worktree(lab.root / "5_worktrees/h3", "exp/h3", moved)
    with pytest.raises(GitError, match=r"already (checked out|used by worktree)"):
        lab.add_worktree(lab.root / "5_worktrees/other", "exp/h1", base(lab))
    with pytest.raises(GitError, match="is not one of Autolab's refs"):
        lab.add_worktree(lab.root / "5_worktrees/main", "feature", base(lab))
    user(lab.root, "worktree", "lock", "--reason", "mine", str(tree))
    shutil.rmtree(tree)
    with pytest.raises(GitError, match="is locked \\(mine\\): run git worktree unlock"):
        lab.add_worktree(tree, "exp/h1", base(lab))


@pytest.mark.process
def test_commit_holds_everything_not_ignored_and_is_idempotent(lab: Git, tree: Path) -> None:
    for name in NAMES:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    (tree / "__pycache__").mkdir()
    (tree / "__pycache__/x.pyc").write_text("ignored")
    (tree / "train.py").unlink()
    (tree / "run.sh").chmod(0o644)
    (tree / "abs").symlink_to("/nowhere")
    commit = lab.commit_worktree(tree, "work\n\nbody")
    assert {c.path: c.status for c in lab.diff(base(lab), commit.sha)} == (
        dict.fromkeys([*NAMES, "abs"], "A") | {"train.py": "D", "run.sh": "M"}
    )
    assert lab.changed_paths(base(lab), commit.sha) == [c.path for c in lab.diff(base(lab), commit.sha)]
    assert lab.commit_worktree(tree, "work") == commit and commit.tree == lab.tree("exp/h1")
    assert lab.is_ancestor(base(lab), commit.sha) and not lab.is_ancestor(commit.sha, base(lab))
    assert user(tree, "status", "--porcelain") == ""
    assert user(tree, "log", "-1", "--format=%an %s") == "Autolab work"


@pytest.mark.process
def test_commit_does_not_depend_on_what_the_worker_left_in_the_index(lab: Git, tree: Path) -> None:
    (tree / "train.py").write_text("staged")
    user(tree, "add", "train.py")
    user(tree, "rm", "-q", "--cached", "run.sh")
    (tree / "train.py").write_text("final")
    user(tree, "update-index", "--assume-unchanged", "crlf.txt")
    (tree / "crlf.txt").write_text("hidden change")
    (lab.common / "worktrees/h1/index.lock").touch()  # a killed git of the worker
    commit = lab.commit_worktree(tree, "work").sha
    assert {c.path for c in lab.diff(base(lab), commit)} == {"train.py", "crlf.txt"}
    assert lab.read(commit, "train.py") == b"final" and lab.worktree_equals(tree, commit)


@pytest.mark.process
def test_work_is_not_committed_to_another_branch(lab: Git, tree: Path) -> None:
    user(lab.root, "switch", "-q", "-c", "feature")
    user(tree, "switch", "-q", "main")
    (tree / "train.py").write_text("x")
    with pytest.raises(GitError, match=r"is not on exp/h1: run git -C .* switch exp/h1"):
        lab.commit_worktree(tree, "work")
    with pytest.raises(GitError, match=r"is not on exp/h1"):
        lab.add_worktree(tree, "exp/h1", base(lab))


@pytest.mark.process
def test_a_repository_inside_the_worktree_is_refused(lab: Git, tree: Path) -> None:
    Git.init(tree / "vendor").commit_all("x")
    assert not lab.worktree_equals(tree, base(lab))
    with pytest.raises(GitError, match=r"vendor/? is a repository of its own: remove its .git or ignore it"):
        lab.commit_worktree(tree, "work")


@pytest.mark.process
def test_files_behind_a_link_are_not_taken_in(lab: Git, tree: Path, tmp_path: Path) -> None:
    shutil.rmtree(tree / "data")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/eval.npy").write_text("secret")
    (tree / "data").symlink_to(tmp_path / "secret")
    commit = lab.commit_worktree(tree, "work").sha
    user(lab.root, "cat-file", "-e", user(lab.root, "hash-object", str(tmp_path / "secret/eval.npy")), ok=(1,))
    assert {(c.path, c.status) for c in lab.diff(base(lab), commit)} == {
        ("data", "A"),
        ("data/eval.npy", "D"),
        ("data/link", "D"),
    }


@pytest.mark.process
def test_a_worktree_whose_git_file_was_replaced_is_not_obeyed(lab: Git, tree: Path, tmp_path: Path) -> None:
    (tree / ".git").unlink()
    Git.init(tree)
    assert not lab.worktree_equals(tree, base(lab))
    with pytest.raises(GitError, match="is not a worktree of"):
        lab.commit_worktree(tree, "work")


@pytest.mark.process
@pytest.mark.parametrize(
    "change",
    ["modified", "hidden", "untracked", "staged", "deleted", "mode", "index only", "conflicted", "moved on"],
)
def test_worktree_equals_sees_every_difference(lab: Git, tree: Path, change: str) -> None:
    if change == "modified":
        (tree / "train.py").write_text("print(2)\n")  # same size
    elif change == "hidden":
        user(tree, "update-index", "--skip-worktree", "train.py")
        (tree / "train.py").write_text("print(2)\n")
    elif change == "untracked":
        (tree / "new\nfile").touch()
    elif change == "staged":
        (tree / "new").touch()
        user(tree, "add", "new")
        (tree / "new").unlink()
    elif change == "deleted":
        (tree / "train.py").unlink()
    elif change == "mode":
        (tree / "train.py").chmod(0o755)
    elif change == "index only":
        user(tree, "rm", "-q", "--cached", "train.py")
    elif change == "conflicted":
        blob = user(tree, "rev-parse", "HEAD:train.py")
        lines = f"0 {'0' * 40}\ttrain.py\n100644 {blob} 2\ttrain.py\n"
        subprocess.run(["git", "update-index", "--index-info"], cwd=tree, input=lines.encode(), check=True)
    else:
        user(tree, "commit", "-q", "--allow-empty", "-m", "x")
    assert not lab.worktree_equals(tree, base(lab))


@pytest.mark.process
def test_a_touched_or_ignored_file_makes_no_difference(lab: Git, tree: Path) -> None:
    os.utime(tree / "train.py", (1, 1))
    (tree / "__pycache__").mkdir()
    (tree / "__pycache__/x.pyc").touch()
    assert lab.worktree_equals(tree, base(lab))


@pytest.mark.process
def test_a_moved_lab_gets_its_worktrees_back(lab: Git, tree: Path, tmp_path: Path) -> None:
    (tree / "train.py").write_text("work")
    moved = tmp_path / "elsewhere/lab"
    moved.parent.mkdir()
    lab.root.rename(moved)
    git = Git(moved)
    path = moved / "5_worktrees/h1"
    with pytest.raises(GitError, match="doctor --fix"):
        git.commit_worktree(path, "work")
    assert git.repair_worktrees() == [path] and git.repair_worktrees() == []
    assert git.read(git.commit_worktree(path, "work").sha, "train.py") == b"work"
    assert user(path, "status", "--porcelain") == ""


@pytest.mark.process
def test_repair_in_a_copy_never_writes_to_the_original(lab: Git, tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(lab.root, copy, symlinks=True)
    links = ((tree / ".git").read_bytes(), (lab.common / "worktrees/h1/gitdir").read_bytes())
    git = Git(copy)
    with pytest.raises(GitError, match="is not a worktree of"):
        git.commit_worktree(copy / "5_worktrees/h1", "would go to the original")
    assert git.repair_worktrees() == [copy / "5_worktrees/h1"]
    assert links == ((tree / ".git").read_bytes(), (lab.common / "worktrees/h1/gitdir").read_bytes())
    (copy / "5_worktrees/h1/new").touch()
    git.commit_worktree(copy / "5_worktrees/h1", "copy")
    assert lab.resolve("exp/h1") == base(lab) and lab.worktree_equals(tree, base(lab))


@pytest.mark.process
def test_repair_restores_a_lost_git_file(lab: Git, tree: Path) -> None:
    (tree / ".git").unlink()
    assert lab.repair_worktrees() == [tree]
    assert lab.worktree_equals(tree, base(lab))


# --- reading commits ---


@pytest.mark.process
def test_diff_tells_modes_ids_and_renames_as_delete_and_add(lab: Git, tree: Path) -> None:
    (tree / "train.py").rename(tree / "moved.py")
    (tree / "crlf.txt").unlink()
    (tree / "crlf.txt").symlink_to("moved.py")
    commit = lab.commit_worktree(tree, "work").sha
    changes = {c.path: c for c in lab.diff(base(lab), commit)}
    assert {p: (c.status, c.old_mode, c.new_mode) for p, c in changes.items()} == {
        "crlf.txt": ("T", "100644", "120000"),
        "moved.py": ("A", "000000", "100644"),
        "train.py": ("D", "100644", "000000"),
    }
    assert changes["moved.py"].new_id == changes["train.py"].old_id == lab.has_path(base(lab), "train.py")


@pytest.mark.process
def test_diff_text_is_cut_at_a_line_and_says_so(lab: Git, tree: Path) -> None:
    (tree / "train.py").write_text("line\n" * 1000)
    commit = lab.commit_worktree(tree, "work").sha
    whole = lab.diff_text(base(lab), commit, 10**6)
    assert whole.count("+line") == 1000
    cut = lab.diff_text(base(lab), commit, 500)
    kept = cut[: cut.rindex("[diff cut after")]
    assert whole.startswith(kept) and kept.endswith("\n") and 490 < len(kept) <= 500


@pytest.mark.process
def test_has_path_and_read_tell_files_from_folders_and_nothing(lab: Git) -> None:
    assert lab.read("HEAD", "train.py") == b"print(1)\n" and lab.read("HEAD", "data/eval.npy") == bytes(range(256))
    assert lab.read("HEAD", "data") is None and lab.read("HEAD", "nope") is None
    assert lab.has_path("HEAD", "data/") == user(lab.root, "rev-parse", "HEAD:data")
    assert lab.has_path("HEAD", "*.py") is None


@pytest.mark.process
def test_export_is_byte_exact_read_only_and_idempotent(lab: Git, tree: Path, tmp_path: Path) -> None:
    for name in NAMES:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(os.urandom(64))
    commit = lab.commit_worktree(tree, "work").sha
    out = tmp_path / "export"
    for _ in range(2):
        lab.export(commit, out)
        assert files(out) == files(tree)
    modes = [path.lstat().st_mode for path in (out, *out.rglob("*")) if not path.is_symlink()]
    assert all(mode & 0o222 == 0 for mode in modes)
    assert (out / "run.sh").stat().st_mode & stat.S_IXUSR and not (out / "train.py").stat().st_mode & stat.S_IXUSR
    assert [path.name for path in tmp_path.glob(".export*")] == []
    remove_tree(out)
    remove_tree(out)
    assert not out.exists()


@pytest.mark.process
def test_export_of_a_part_and_without_a_part(lab: Git, tmp_path: Path) -> None:
    lab.export("HEAD", tmp_path / "a", only=["data", "train.py"], exclude=["data/link"])
    assert files(tmp_path / "a").keys() == {"data/eval.npy", "train.py"}
    lab.export("HEAD", tmp_path / "b", exclude=["data", "train", "crlf.txt"])
    assert files(tmp_path / "b").keys() == {".gitignore", "run.sh", "train.py"}
    with pytest.raises(GitError, match="it has no models"):
        lab.export("HEAD", tmp_path / "c", only=["models"])


@pytest.mark.process
def test_what_a_crash_left_of_an_export_is_replaced(lab: Git, tmp_path: Path) -> None:
    partial = tmp_path / ".export.partial"
    partial.mkdir()
    (partial / "train.py").write_text("pri")
    partial.chmod(0o555)
    lab.export("HEAD", tmp_path / "export")
    assert files(tmp_path / "export") == files(lab.root) and not partial.exists()


@pytest.mark.process
@pytest.mark.parametrize("links", [{"x": "/etc/passwd"}, {"x": "../out"}, {"up": "data/..", "x": "up/../out"}])
def test_a_link_out_of_the_export_is_refused(lab: Git, tree: Path, tmp_path: Path, links: dict[str, str]) -> None:
    for name, target in links.items():
        (tree / name).symlink_to(target)
    commit = lab.commit_worktree(tree, "work").sha
    with pytest.raises(GitError, match="the link x leads out of it"):
        lab.export(commit, tmp_path / "export")
    assert not (tmp_path / "export").exists()
    lab.export(commit, tmp_path / "without", exclude=["x"])


@pytest.mark.process
@pytest.mark.parametrize("name", ["..", ".git", ".GIT", "."])
def test_a_tree_made_by_hand_writes_nowhere_else(lab: Git, tmp_path: Path, name: str) -> None:
    blob = user(lab.root, "hash-object", "-w", "train.py")
    raw = b"100644 evil\0" + bytes.fromhex(blob)
    inner = make_tree(lab, raw)
    tree = make_tree(lab, b"40000 " + name.encode() + b"\0" + bytes.fromhex(inner))
    commit = user(lab.root, "commit-tree", tree, "-m", "x")
    with pytest.raises(GitError, match="which no folder may take"):
        lab.export(commit, tmp_path / "export")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.process
def test_a_tree_with_a_link_and_a_folder_of_one_name_writes_nowhere_else(lab: Git, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (lab.root / "target").write_text(str(tmp_path / "out"))
    blob = bytes.fromhex(user(lab.root, "hash-object", "-w", "target"))
    inner = bytes.fromhex(make_tree(lab, b"100644 evil\0" + blob))
    tree = make_tree(lab, b"120000 a\0" + blob + b"40000 a\0" + inner)
    commit = user(lab.root, "commit-tree", tree, "-m", "x")
    with pytest.raises(GitError, match="File exists"):
        lab.export(commit, tmp_path / "export")
    assert list((tmp_path / "out").iterdir()) == []


def make_tree(lab: Git, raw: bytes) -> str:
    argv = ["git", "hash-object", "-t", "tree", "-w", "--stdin", "--literally"]
    return subprocess.run(argv, cwd=lab.root, input=raw, capture_output=True, check=True).stdout.decode().strip()


# --- record ---


@pytest.mark.process
def test_snapshot_holds_just_these_files_on_top_of_the_last(lab: Git) -> None:
    (lab.root / "new\nline").write_text("untracked")
    first = lab.snapshot(LOG, lab.root, ["train.py", "new\nline"], "iteration 1")
    second = lab.snapshot(LOG, lab.root, ["data/link"], "iteration 2")
    assert user(lab.root, "ls-tree", "-r", "-z", "--name-only", first).split("\0") == ["new\nline", "train.py", ""]
    assert user(lab.root, "ls-tree", "-r", "--name-only", second) == "data/link"
    assert list(lab.log_entries(LOG)) == [(second, "iteration 2"), (first, "iteration 1")]
    assert next(lab.log_entries(LOG)) == (second, "iteration 2")
    assert list(lab.log_entries("refs/autolab/none")) == []


@pytest.mark.process
def test_the_same_snapshot_again_is_the_tip(lab: Git) -> None:
    first = lab.snapshot(LOG, lab.root, ["train.py"], "one")
    assert lab.snapshot(LOG, lab.root, ["train.py"], "one\n") == first
    assert lab.snapshot(LOG, lab.root, ["train.py"], "two") != first


@pytest.mark.process
def test_an_index_that_a_killed_call_left_is_in_nobodys_way(lab: Git) -> None:
    own = f"index-{os.getpid()}-{threading.get_native_id()}"
    for name in (own, f"{own}.lock"):
        (lab.common / "autolab").mkdir(exist_ok=True)
        (lab.common / "autolab" / name).write_text("torn")
    assert lab.snapshot(LOG, lab.root, ["train.py"], "x") == lab.resolve(LOG)


@pytest.mark.process
def test_a_missing_file_is_not_recorded_silently(lab: Git) -> None:
    for name in ("gone", "data"):
        with pytest.raises(GitError, match=f"{name} is not there to be recorded"):
            lab.snapshot(LOG, lab.root, ["train.py", name], "x")
    assert lab.resolve(LOG) is None


@pytest.mark.process
def test_the_cost_of_a_snapshot_does_not_grow_with_history(lab: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []
    call = plumbing.call_git

    def counted(args, cwd, env, stdin=b"", ok=(0,)):  # type: ignore[no-untyped-def]
        calls.append((args[0], stdin.count(b"\0")))
        return call(args, cwd, env, stdin, ok)

    def cost(i: int) -> tuple[list[tuple[str, int]], int]:
        (lab.root / f"result-{i:02}").write_text(str(i))
        calls.clear()
        before = len(user(lab.root, "cat-file", "--batch-all-objects", "--batch-check").splitlines())
        lab.snapshot(LOG, lab.root, [f"result-{i:02}"], f"iteration {i}")
        after = len(user(lab.root, "cat-file", "--batch-all-objects", "--batch-check").splitlines())
        return list(calls), after - before

    monkeypatch.setattr(plumbing, "call_git", counted)
    costs = [cost(i) for i in range(12)]
    assert all(found == costs[1] for found in costs[2:])
    assert ("update-index", 1) in costs[-1][0] and costs[-1][1] == 3  # one entry; blob, tree, commit
    assert list((lab.common / "autolab").iterdir()) == []


@pytest.mark.process
def test_restore_writes_what_is_missing_and_nothing_else(lab: Git) -> None:
    tip = lab.snapshot(LOG, lab.root, ["train.py", "crlf.txt", "data/link", "run.sh"], "x")
    (lab.root / "train.py").write_text("private")
    (lab.root / "crlf.txt").unlink()
    shutil.rmtree(lab.root / "data")
    (lab.root / "run.sh").unlink()
    (lab.root / "run.sh").symlink_to("/nowhere")  # a dangling link is the user's, too
    assert lab.restore_missing(tip, lab.root) == ["crlf.txt", "data/link"]
    assert (lab.root / "train.py").read_text() == "private" and os.readlink(lab.root / "run.sh") == "/nowhere"
    assert (lab.root / "crlf.txt").read_bytes() == b"one\r\ntwo\n"
    assert lab.restore_missing(tip, lab.root) == []
    assert not list(lab.root.rglob("*.autolab-partial"))


@pytest.mark.process
def test_a_ref_that_moved_is_not_overwritten(lab: Git, tree: Path) -> None:
    (tree / "new").touch()
    newer, ref = lab.commit_worktree(tree, "x").sha, "refs/heads/autolab/champion"
    lab.update_ref(ref, base(lab), None)
    with pytest.raises(GitError, match="update-ref"):
        lab.update_ref(ref, newer, None)
    with pytest.raises(GitError, match="update-ref"):
        lab.update_ref(ref, newer, newer)
    lab.update_ref(ref, newer, base(lab))
    assert lab.resolve(ref) == newer


@pytest.mark.process
def test_a_snapshot_on_a_log_that_moves_meanwhile_is_refused(lab: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    first = lab.snapshot(LOG, lab.root, ["train.py"], "one")
    commit, as_user = Git._commit, user

    def slow(self: Git, tree: str, parent: str | None, message: str, *, user: bool = False) -> str:
        as_user(lab.root, "update-ref", LOG, base(lab))
        return commit(self, tree, parent, message, user=user)

    monkeypatch.setattr(Git, "_commit", slow)
    with pytest.raises(GitError, match=f"expected {first}"):
        lab.snapshot(LOG, lab.root, ["crlf.txt"], "two")
    assert lab.resolve(LOG) == base(lab)


@pytest.mark.process
def test_a_pin_is_made_once_and_never_moved(lab: Git, tree: Path) -> None:
    lab.pin("refs/autolab/keep/a", base(lab))
    lab.pin("refs/autolab/keep/a", base(lab))
    (tree / "new").touch()
    newer = lab.commit_worktree(tree, "x").sha
    with pytest.raises(GitError, match="a pin is never moved"):
        lab.pin("refs/autolab/keep/a", newer)


@pytest.mark.process
@pytest.mark.parametrize("ref", ["refs/heads/main", "HEAD", "main", "refs/tags/v1", "refs/stash"])
def test_the_users_refs_cannot_be_written(lab: Git, ref: str) -> None:
    before = state(lab.root)
    for call in (
        lambda: lab.update_ref(ref, base(lab), None),
        lambda: lab.pin(ref, base(lab)),
        lambda: lab.snapshot(ref, lab.root, ["train.py"], "x"),
    ):
        with pytest.raises(GitError, match="left alone"):
            call()
    assert state(lab.root) == before


@pytest.mark.process
def test_a_branch_that_is_checked_out_is_not_moved_under_its_reader(lab: Git, tree: Path) -> None:
    (tree / "new").touch()
    newer, ref = lab.commit_worktree(tree, "x").sha, "refs/heads/autolab/champion"
    lab.update_ref(ref, base(lab), None)
    user(lab.root, "switch", "-q", "autolab/champion")
    with pytest.raises(GitError, match="is checked out and must move: switch to another branch"):
        lab.update_ref(ref, newer, base(lab))


# --- publish ---


@pytest.mark.process
def test_publish_commits_exactly_these_files(lab: Git) -> None:
    root = lab.root
    user(root, "mv", "crlf.txt", "renamed.txt")  # staged: a deletion and an addition
    for name in ("staged", "both", 'quo"te\n'):
        (root / name).write_text("staged")
        user(root, "add", "--", name)
    (root / "both").write_text("unstaged")
    (root / 'quo"te\n').write_text("published, not what was staged")
    (root / "train.py").write_text("unstaged")
    (root / "untracked").write_text("u")
    (root / "new file.md").write_text("n")
    (root / "data/link").unlink()
    index = {line for line in user(root, "ls-files", "-s", "-z").split("\0")}
    tree, published = files(root), ['quo"te\n', "./new file.md", "data/link", "run.sh", "never-was"]
    parent, commit = base(lab), lab.publish(published, "results of h1")
    assert commit == lab.head() and commit is not None
    assert {c.path: c.status for c in lab.diff(parent, commit)} == {
        'quo"te\n': "A",
        "new file.md": "A",
        "data/link": "D",
    }
    assert files(root) == tree
    changed = index ^ {line for line in user(root, "ls-files", "-s", "-z").split("\0")}
    assert {line.split("\t", 1)[1] for line in changed} == {'quo"te\n', "new file.md", "data/link"}
    assert user(root, "log", "-1", "--format=%an %ae %s %P") == f"Pat pat@example.org results of h1 {parent}"
    status = user(root, "status", "--porcelain", "-z").split("\0")
    assert sorted(status) == sorted(
        ["", "AM both", "A  staged", "R  renamed.txt", "crlf.txt", " M train.py", "?? untracked"]
    )
    assert lab.publish(published, "again") is None
    assert "results of h1" in user(root, "reflog", "-1")


@pytest.mark.process
def test_publish_on_an_unborn_branch_leaves_the_rest_staged(tmp_path: Path) -> None:
    git = Git.init(tmp_path / "new")
    (git.root / "a").write_text("a")
    (git.root / "b").write_text("b")
    user(git.root, "add", "b")
    assert git.publish([], "nothing") is None
    commit = git.publish(["a"], "first")
    assert commit is not None and user(git.root, "ls-tree", "--name-only", commit) == "a"
    assert user(git.root, "status", "--porcelain") == "A  b"


@pytest.mark.process
def test_publish_stores_what_the_users_own_git_would(lab: Git) -> None:
    (lab.root / ".gitattributes").write_text("*.up filter=upper\n*.md text\n")
    user(lab.root, "config", "filter.upper.clean", "tr a-z A-Z")
    (lab.root / "x.up").write_text("abc\n")
    (lab.root / "y.md").write_bytes(b"a\r\nb\r\n")
    commit = lab.publish(["x.up", "y.md"], "filtered")
    assert commit and lab.read(commit, "x.up") == b"ABC\n" and lab.read(commit, "y.md") == b"a\nb\n"
    assert user(lab.root, "status", "--porcelain") == "?? .gitattributes"


@pytest.mark.process
@pytest.mark.parametrize("operation", ["merge", "rebase", "cherry-pick"])
def test_publish_in_the_middle_of_an_operation_is_refused(lab: Git, operation: str) -> None:
    conflict(lab)
    user(lab.root, operation, "other", ok=(1,))
    before = state(lab.root)
    (lab.root / "new").write_text("x")
    with pytest.raises(GitError, match=f"a {operation} is in progress .*git {operation} --abort, then publish again"):
        lab.publish(["new"], "x")
    (lab.root / "new").unlink()
    assert state(lab.root) == before


@pytest.mark.process
def test_refused_publishing_says_the_way_out_and_changes_nothing(lab: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(lab.root)
    for path in ("data", "../x", "/etc/passwd", ""):
        with pytest.raises(GitError, match="is no file of"):
            lab.publish([path], "x")
    lock = lab.root / ".git/index.lock"
    lock.touch()
    (lab.root / "train.py").write_text("new")
    with pytest.raises(GitError, match=r"index.lock': File exists. If no other git command is running, remove that"):
        lab.publish(["train.py"], "x")
    lock.unlink()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    with pytest.raises(GitError, match="git has no name for you"):
        lab.publish(["train.py"], "x")
    monkeypatch.undo()
    (lab.root / "train.py").write_text("print(1)\n")
    assert state(lab.root) == before
    user(lab.root, "checkout", "-q", "--detach")
    with pytest.raises(GitError, match=r"HEAD is detached .*: run git switch <branch>, then publish again"):
        lab.publish(["train.py"], "x")


@pytest.mark.process
def test_a_publish_that_was_cut_short_is_finished_by_the_next(lab: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    (lab.root / "train.py").write_text("new")
    stage = Git._stage

    def cut(self: Git, *args: object, **options: object) -> None:
        stage(self, *args, **options)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    parent = base(lab)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Git, "_stage", cut)
        lab.publish(["train.py"], "x")
    assert lab.head() == parent
    commit = lab.publish(["train.py"], "x")
    assert commit == lab.head() != parent and user(lab.root, "status", "--porcelain") == ""


# --- errors ---


@pytest.mark.process
def test_every_refusal_is_one_line(lab: Git, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    calls: list[Callable[[], object]] = [
        lambda: lab.export("HEAD", blocked / "export"),
        lambda: lab.restore_missing("HEAD", blocked),
        lambda: lab.diff("HEAD", "nope\nnope"),
        lambda: Git.init(blocked),
        lambda: lab.update_ref("refs/autolab/a b", "HEAD", None),
    ]
    for call in calls:
        with pytest.raises(GitError) as caught:
            call()
        assert "\n" not in str(caught.value) and len(str(caught.value)) > 20


@pytest.mark.process
def test_a_damaged_object_is_named(lab: Git, tmp_path: Path) -> None:
    blob = user(lab.root, "rev-parse", "HEAD:train.py")
    (lab.common / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(GitError, match=f"object {blob} \\(train.py\\) cannot be read"):
        lab.export("HEAD", tmp_path / "export")
    assert not (tmp_path / "export").exists()
