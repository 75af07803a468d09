"""Traps for git: each one bites the user's ordinary git here, and none of them the engine's.

A trap runs a program or makes git write, read or believe something else. `BITTEN` is the file that tells.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from autolab.errors import GitError
from autolab.lab.git import Git

pytestmark = pytest.mark.process

BITTEN = "BITTEN"


@dataclass
class Ground:
    """A lab with a candidate's worktree, a program that leaves the mark, and the user's environment."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def tree(self) -> Path:
        return self.root / "5_worktrees" / "h1"

    @property
    def outside(self) -> Path:
        return self.root.parent

    @property
    def evil(self) -> str:
        return str(self.outside / "evil")

    @property
    def bitten(self) -> bool:
        return (self.outside / BITTEN).exists()

    def user(self, *words: str, at: Path | None = None) -> str:
        """git as the user runs it; its failure is no matter here, what it left is."""
        env = {**os.environ, **self.env}
        done = subprocess.run(["git", *words], cwd=at or self.root, env=env, capture_output=True, check=False)
        return os.fsdecode(done.stdout).strip()

    def config(self, key: str, value: str, at: Path | None = None) -> None:
        subprocess.run(["git", "config", key, value], cwd=at or self.root, check=True)

    def attributes(self, line: str) -> None:
        (self.root / ".git" / "info" / "attributes").write_text(f"{line}\n")

    def hook(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.evil, folder / name)


def make(folder: Path) -> Ground:
    ground = Ground(folder / "lab")
    folder.mkdir()
    (folder / "evil").write_text(f'#!/bin/sh\ntouch "{folder / BITTEN}"\ncat 2>/dev/null </dev/null\nexit 0\n')
    (folder / "evil").chmod(0o755)
    git = Git.init(ground.root)
    (ground.root / "models").mkdir()
    (ground.root / "train.py").write_text("print(1)\n")
    (ground.root / "models" / "width.py").write_text("WIDTH = 1\n")
    (ground.root / ".gitignore").write_text("5_worktrees/\n")
    git.commit_all("base")
    git.add_worktree(ground.tree, "exp/h1", "HEAD")
    return ground


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    yield make(tmp_path / "ground")
    place = str(tmp_path / "ground")
    subprocess.run(["chmod", "-R", "u+rwX", place], check=True)  # exports are read-only, which holds a plain user's rm
    subprocess.run(["rm", "-rf", place], check=True)  # Python's own removal ends at deep folders


def everything_the_loop_does(ground: Ground) -> Git:
    """Each of the engine's calls at least once, with new work in a worktree and files to record."""
    git, root = Git(ground.root), ground.root
    base = git.head()
    assert base is not None
    git.dirty(), git.busy(), git.branch(), git.repair_worktrees()
    git.add_worktree(root / "5_worktrees" / "h2", "exp/h2", base)
    for tree, branch in ((ground.tree, "exp/h1"), (root / "5_worktrees" / "h2", "exp/h2")):
        (tree / "train.py").write_text(f"print({branch!r})\n")
        (tree / "new.txt").write_text("$Id$\r\n")
        commit = git.commit_worktree(tree, "candidate", branch).sha
        git.worktree_equals(tree, commit), git.strays(tree, base)
        git.diff(base, commit), git.changed_paths(base, commit), git.diff_text(base, commit, 10_000)
        git.pin(f"refs/autolab/keep/{branch[-2:]}", commit)
        git.export(commit, ground.outside / f"export-{branch[-2:]}", exclude=["nested"])
    (root / "record.md").write_text("record\n")
    log = git.snapshot("refs/autolab/log", root, ["record.md", "train.py"], "log")
    (root / "record.md").unlink()
    assert git.restore_missing(log, root) == ["record.md"]
    list(git.log_entries("refs/autolab/log"))
    git.is_ancestor(base, "exp/h1"), git.has_path(base, "models"), git.read(base, "train.py"), git.files(base)
    git.update_ref("refs/heads/autolab/champion", base, None)
    return git


# programs that git would run

Setter = Callable[[Ground], None]
Control = Callable[[Ground], object]


def _hook(*names: str) -> Setter:
    def setter(ground: Ground) -> None:
        for name in names:
            ground.hook(ground.root / ".git" / "hooks", name)

    return setter


def _config(values: Mapping[str, str], attributes: str = "") -> Setter:
    def setter(ground: Ground) -> None:
        for key, value in values.items():
            ground.config(key, value.replace("EVIL", ground.evil).replace("OUTSIDE", str(ground.outside)))
        if attributes:
            ground.attributes(attributes)

    return setter


def _hooks_folder(ground: Ground) -> None:
    ground.hook(ground.root / "tools", "post-checkout")
    ground.config("core.hooksPath", str(ground.root / "tools"))


def _included(ground: Ground) -> None:
    ground.hook(ground.root / "tools", "post-checkout")
    (ground.root / "more.cfg").write_text(
        f'[core]\n\thooksPath = {ground.root / "tools"}\n\tfsmonitor = "{ground.evil}"\n'
        f'[filter "x"]\n\tsmudge = "{ground.evil}"\n\tclean = "{ground.evil}"\n'
    )
    ground.config("include.path", str(ground.root / "more.cfg"))
    ground.attributes("* filter=x")


def _worktree_config(ground: Ground) -> None:
    ground.config("extensions.worktreeConfig", "true")
    for place in (ground.root, ground.tree):
        subprocess.run(["git", "config", "--worktree", "core.fsmonitor", ground.evil], cwd=place, check=True)


def _committed_attributes(ground: Ground) -> None:
    for folder in (ground.root, ground.tree):
        (folder / ".gitattributes").write_text("*.py filter=x\n")
    ground.config("filter.x.smudge", ground.evil)
    ground.config("filter.x.clean", ground.evil)


def _nested(ground: Ground) -> None:
    """A repository inside the lab, known to its index, whose own configuration names a program."""
    nested = ground.root / "nested"
    subprocess.run(["git", "init", "-q", str(nested)], check=True)
    (nested / "x").write_text("x\n")
    subprocess.run(["git", "add", "x"], cwd=nested, check=True)
    subprocess.run(["git", "commit", "-qm", "x"], cwd=nested, check=True)
    ground.user("add", "nested")
    ground.user("commit", "-qm", "nested")
    ground.config("core.fsmonitor", ground.evil, at=nested)


def _submodule_command(ground: Ground) -> None:
    _nested(ground)
    subprocess.run(["git", "config", "--unset", "core.fsmonitor"], cwd=ground.root / "nested", check=True)
    subprocess.run(["git", "commit", "-q", "--allow-empty", "-m", "on"], cwd=ground.root / "nested", check=True)
    (ground.root / ".gitmodules").write_text('[submodule "nested"]\n\tpath = nested\n\turl = ./nested\n')
    for key, value in {"url": "./nested", "active": "true", "update": f"!{ground.evil}"}.items():
        ground.config(f"submodule.nested.{key}", value)
    ground.config("submodule.recurse", "true")


def _elsewhere(ground: Ground) -> None:
    """The candidate's `.git` file names a repository of its own making, with a hook."""
    other = ground.outside / "other"
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    ground.hook(other / ".git" / "hooks", "pre-commit")
    (ground.tree / ".git").write_text(f"gitdir: {other / '.git'}\n")


def _environment(**values: str) -> Setter:
    def setter(ground: Ground) -> None:
        told = {name: value.replace("EVIL", ground.evil) for name, value in values.items()}
        ground.env |= {name: value.replace("OUTSIDE", str(ground.outside)) for name, value in told.items()}

    return setter


def _personal(ground: Ground) -> None:
    (ground.outside / "personal").write_text(
        f'[core]\n\tfsmonitor = "{ground.evil}"\n\thooksPath = {ground.outside}/h\n'
    )
    ground.hook(ground.outside / "h", "post-checkout")
    ground.env["GIT_CONFIG_GLOBAL"] = str(ground.outside / "personal")


def does(*words: str, file: str = "") -> Control:
    def control(ground: Ground) -> None:
        if file:
            (ground.root / file).write_text("print(2)\n")
        ground.user(*words)

    return control


def _commit_there(ground: Ground) -> None:
    ground.user("commit", "--allow-empty", "-m", "x", at=ground.tree)


def _diff_of_commits(ground: Ground) -> None:
    (ground.root / "train.py").write_text("print(2)\n")
    ground.user("-c", "core.hooksPath=/dev/null", "commit", "-qam", "two")
    ground.user("show", "HEAD")


CHECKOUT, COMMIT = does("checkout", "-q", "-b", "other"), does("commit", "-qam", "x", file="train.py")
ADD, STATUS, DIFF = does("add", "train.py", file="train.py"), does("status"), does("diff", file="train.py")
PROGRAMS: dict[str, tuple[Setter, Control]] = {
    "post-checkout hook": (_hook("post-checkout"), CHECKOUT),
    "pre-commit hook": (_hook("pre-commit", "prepare-commit-msg", "commit-msg", "post-commit"), COMMIT),
    "reference-transaction hook": (_hook("reference-transaction"), does("update-ref", "refs/heads/exp/x", "HEAD")),
    "post-index-change hook": (_hook("post-index-change"), ADD),
    "hooks folder in the lab": (_hooks_folder, CHECKOUT),
    "hooks folder by an included file": (_included, CHECKOUT),
    "fsmonitor": (_config({"core.fsmonitor": "EVIL"}), STATUS),
    "fsmonitor of a worktree": (_worktree_config, STATUS),
    "fsmonitor of a nested repository": (_nested, STATUS),
    "fsmonitor of the user's configuration": (_personal, STATUS),
    "clean filter": (_config({"filter.x.clean": "EVIL"}, "* filter=x"), ADD),
    "smudge filter": (_config({"filter.x.smudge": "EVIL"}, "* filter=x"), does("worktree", "add", "-f", "w", "HEAD")),
    "filter process": (_config({"filter.x.process": "EVIL", "filter.x.required": "true"}, "* filter=x"), ADD),
    "filter by committed attributes": (_committed_attributes, ADD),
    "textconv": (_config({"diff.x.textconv": "EVIL"}, "* diff=x"), _diff_of_commits),
    "diff driver": (_config({"diff.x.command": "EVIL"}, "* diff=x"), DIFF),
    "external diff": (_config({"diff.external": "EVIL"}), DIFF),
    "signing program": (_config({"commit.gpgSign": "true", "gpg.program": "EVIL"}), COMMIT),
    "editor": (_config({"core.editor": "EVIL"}), does("commit", "--allow-empty")),
    "submodule's update command": (_submodule_command, does("submodule", "update")),
    "candidate's .git file": (_elsewhere, _commit_there),
    "external diff by environment": (_environment(GIT_EXTERNAL_DIFF="EVIL"), DIFF),
    "configuration by environment": (
        _environment(GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0="core.fsmonitor", GIT_CONFIG_VALUE_0="EVIL"),
        STATUS,
    ),
    "trace by environment": (_environment(GIT_TRACE=f"OUTSIDE/{BITTEN}"), STATUS),
    "work tree by configuration": (_config({"core.worktree": "OUTSIDE"}), lambda ground: _checks_out_above(ground)),
}


def _checks_out_above(ground: Ground) -> None:
    ground.user("reset", "--hard")
    if (ground.outside / "train.py").exists():
        (ground.outside / BITTEN).touch()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_trap_that_bites_the_users_git_never_bites_the_engines(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setter, control = PROGRAMS[name]
    free, ground = make(tmp_path / "free"), make(tmp_path / "ground")
    setter(free)
    (free.outside / BITTEN).unlink(missing_ok=True)
    control(free)
    assert free.bitten, "the trap does not work, so that this test would show nothing"

    setter(ground)
    (ground.outside / BITTEN).unlink(missing_ok=True)
    for variable, value in ground.env.items():
        monkeypatch.setenv(variable, value)
    if name == "candidate's .git file":
        with pytest.raises(GitError, match="is not a worktree"):
            Git(ground.root).commit_worktree(ground.tree, "candidate", "exp/h1")
    else:
        everything_the_loop_does(ground)
        assert (ground.outside / "export-h2" / "new.txt").read_bytes() == b"$Id$\r\n"
    assert not ground.bitten and not (ground.outside / "train.py").exists()


PROMISES = {
    "upload-pack program": {"url": "OUTSIDE/lab", "uploadpack": "EVIL"},
    "ssh program": {"url": "ssh://nowhere.invalid/x", "core.sshCommand": "EVIL"},
    "ext transport": {"url": "ext::EVIL", "protocol.ext.allow": "always"},
}


@pytest.mark.parametrize("name", PROMISES)
def test_a_missing_object_is_fetched_from_nowhere(name: str, ground: Ground) -> None:
    values = {"promisor": "true"} | PROMISES[name]
    blob = ground.user("rev-parse", "HEAD:train.py")
    (ground.root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    named = {key if "." in key else f"remote.far.{key}": value for key, value in values.items()}
    _config({"core.repositoryFormatVersion": "1", "extensions.partialClone": "far"} | named)(ground)
    ground.user("cat-file", "-p", blob)
    assert ground.bitten, "the trap does not work"
    (ground.outside / BITTEN).unlink()
    git = Git(ground.root)
    with pytest.raises(GitError, match=r"train\.py\) cannot be read"):
        git.export("HEAD", ground.outside / "export")
    git.dirty()
    git.commit_worktree(ground.tree, "nothing", "exp/h1")
    assert not ground.bitten


def test_a_template_of_hooks_gets_into_no_repository_that_the_engine_makes(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground.hook(ground.outside / "template" / "hooks", "post-checkout")
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(ground.outside / "template"))
    ground.user("init", "-q", str(ground.outside / "theirs"))
    assert (ground.outside / "theirs" / ".git" / "hooks" / "post-checkout").exists()
    Git.init(ground.outside / "ours")
    assert not (ground.outside / "ours" / ".git" / "hooks" / "post-checkout").exists()


# which git is run


def _world_writable(ground: Ground) -> str:
    folder = ground.outside / "shared"
    ground.hook(folder, "git")
    folder.chmod(0o777)
    return str(folder)


def _in_the_lab(ground: Ground) -> str:
    (ground.root / ".autolab").mkdir()
    ground.hook(ground.root / "5_worktrees" / "h1" / "bin", "git")
    return str(ground.root / "5_worktrees" / "h1" / "bin")


def _relative(ground: Ground) -> str:
    ground.hook(ground.root / "bin", "git")
    return "bin"


def _here(ground: Ground) -> str:
    ground.hook(ground.root, "git")
    return ""


@pytest.mark.parametrize("place", [_world_writable, _in_the_lab, _relative, _here])
def test_a_git_that_others_can_put_on_the_path_is_not_run(place: Callable[[Ground], str], ground: Ground) -> None:
    env = {**os.environ, "PATH": f"{place(ground)}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", "-c", "git status"], cwd=ground.root, env=env, capture_output=True, check=False)
    assert ground.bitten, "the trap does not work"
    (ground.outside / BITTEN).unlink()
    code = "from pathlib import Path; from autolab.lab.git import Git; g = Git(Path.cwd()); print(g.head(), g.dirty())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ground.root, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(ground.user("rev-parse", "HEAD")) and not ground.bitten


def test_only_a_git_of_others_on_the_path_is_refused_in_one_line(ground: Ground) -> None:
    env = {"PATH": _world_writable(ground)}
    code = "from pathlib import Path; from autolab.lab.git import Git; print(Git(Path.cwd()).head())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ground.root, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "where others may write" in done.stderr and not ground.bitten


# what git would believe


def test_a_replaced_object_is_read_as_what_its_id_says(ground: Ground) -> None:
    honest = ground.user("rev-parse", "HEAD:train.py")
    (ground.outside / "other").write_text("print('other')\n")
    ground.user("replace", honest, ground.user("hash-object", "-w", str(ground.outside / "other")))
    assert ground.user("cat-file", "-p", honest) == "print('other')"
    git = Git(ground.root)
    assert git.read("HEAD", "train.py") == b"print(1)\n"
    git.export("HEAD", ground.outside / "export")
    assert (ground.outside / "export" / "train.py").read_text() == "print(1)\n"


def test_grafted_parents_are_not_believed(ground: Ground) -> None:
    head = ground.user("rev-parse", "HEAD")
    stranger = ground.user("commit-tree", "HEAD^{tree}", "-m", "stranger")
    (ground.root / ".git" / "info" / "grafts").write_text(f"{head} {stranger}\n")
    assert stranger in ground.user("rev-list", "HEAD")
    assert not Git(ground.root).is_ancestor(stranger, head)


def test_objects_of_another_store_are_not_found_by_environment(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = make(tmp_path / "other")
    (other.root / "new").write_text("x")
    stranger = other.user("commit-tree", other.user("mktree"), "-m", "stranger")
    monkeypatch.setenv("GIT_ALTERNATE_OBJECT_DIRECTORIES", str(other.root / ".git" / "objects"))
    assert ground.user("rev-parse", "--verify", "-q", f"{stranger}^{{commit}}") == stranger
    assert Git(ground.root).resolve(stranger) is None


@pytest.mark.parametrize("name", ["--output=OUTSIDE/BITTEN", "-oOUTSIDE/BITTEN"])
def test_a_name_like_an_option_is_a_name(name: str, ground: Ground) -> None:
    name = name.replace("OUTSIDE", str(ground.outside))
    ground.user(*("format-patch" if name.startswith("-o") else "log", name, "--root", "HEAD"))
    ground.user("log", name.replace("-o/", "--output=/"), "HEAD")
    assert ground.bitten, "the trap does not work"
    bitten = ground.outside / BITTEN
    shutil.rmtree(bitten) if bitten.is_dir() else bitten.unlink()
    git = Git(ground.root)
    assert git.resolve(name) is None and git.has_path("HEAD", name) is None and git.read("HEAD", name) is None
    (ground.tree / "--output=x").write_text("x\n")
    (ground.tree / "-rf").write_text("x\n")
    commit = git.commit_worktree(ground.tree, "candidate", "exp/h1").sha
    assert sorted(git.changed_paths("HEAD", commit)) == ["--output=x", "-rf"]
    git.snapshot("refs/autolab/log", ground.tree, ["--output=x", "-rf"], "--amend")
    assert git.read(commit, "-rf") == b"x\n" and not ground.bitten


# what a commit may hold


def tree_of(ground: Ground, *entries: tuple[str, str, str]) -> str:
    """A tree object of (mode, name, id), whatever the names are."""
    raw = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(id) for mode, name, id in entries)
    argv = ["git", "hash-object", "-t", "tree", "-w", "--stdin", "--literally"]
    return subprocess.run(argv, cwd=ground.root, input=raw, capture_output=True, check=True).stdout.decode().strip()


def commit_of(ground: Ground, tree: str) -> str:
    return ground.user("commit-tree", tree, "-m", "made by hand")


def unpack(ground: Ground, commit: str, folder: Path) -> None:
    """What a user may do who wants a commit's files: list them, and write each."""
    folder.mkdir(exist_ok=True)
    loop = f'while IFS= read -r f; do mkdir -p "$(dirname "{folder}/$f")"; git show "{commit}:$f" > "{folder}/$f"; done'
    command = f"git ls-tree -r --name-only {commit} | {loop}"
    subprocess.run(["/bin/sh", "-c", command], cwd=ground.root, capture_output=True, check=False)


@pytest.mark.parametrize("name", [".git", "..", ".GIT"])
def test_a_tree_that_names_gits_folder_or_the_one_above_is_written_nowhere(name: str, ground: Ground) -> None:
    evil = ground.user("hash-object", "-w", ground.evil)
    inner = tree_of(ground, ("100755", "config", evil))
    commit = commit_of(ground, tree_of(ground, ("40000", name, inner)))
    unpack(ground, commit, ground.outside / "theirs")
    assert (ground.outside / "theirs" / name / "config").exists(), "the trap does not work"
    (ground.outside / "config").unlink(missing_ok=True)
    git = Git(ground.root)
    with pytest.raises(GitError, match="which no folder may take"):
        git.export(commit, ground.outside / "export")
    with pytest.raises(GitError, match="which no folder may take"):
        git.restore_missing(commit, ground.outside / "ours")
    git.update_ref("refs/heads/exp/h3", commit, None)
    with pytest.raises(GitError):
        git.add_worktree(ground.root / "5_worktrees" / "h3", "exp/h3", commit)
    left = [path for path in ground.outside.rglob("config") if "theirs" not in path.parts]
    assert [path for path in left if path.read_bytes() == Path(ground.evil).read_bytes()] == []


def test_a_file_is_never_written_through_a_link_that_stands_in_its_way(ground: Ground) -> None:
    aim = ground.outside / "aim"
    aim.mkdir()
    git = Git(ground.root)
    (ground.root / "record").mkdir()
    (ground.root / "record" / "a.md").write_text("a\n")
    log = git.snapshot("refs/autolab/log", ground.root, ["record/a.md"], "log")
    shutil.rmtree(ground.root / "record")
    (ground.root / "record").symlink_to(aim)
    subprocess.run(["/bin/sh", "-c", f"git show {log}:record/a.md > record/a.md"], cwd=ground.root, check=True)
    assert (aim / "a.md").exists(), "the trap does not work"
    (aim / "a.md").unlink()
    with pytest.raises(GitError, match="a folder above it is a symbolic link"):
        git.restore_missing(log, ground.root)
    assert list(aim.iterdir()) == []


def test_files_behind_a_candidates_link_are_neither_taken_in_nor_looked_at(ground: Ground) -> None:
    secret = ground.outside / "private"
    secret.mkdir()
    (secret / "key.txt").write_text("private\n")
    (ground.tree / "models" / "width.py").unlink()
    (ground.tree / "models").rmdir()
    (ground.tree / "models").symlink_to(secret)
    (ground.tree / "out").symlink_to(secret / "key.txt")
    assert (ground.tree / "models" / "key.txt").read_text() == "private\n", "the trap does not work"
    git = Git(ground.root)
    assert git.strays(ground.tree, "HEAD") == []
    commit = git.commit_worktree(ground.tree, "candidate", "exp/h1").sha
    assert {change.path: change.new_mode for change in git.diff("HEAD", commit)} == {
        "models": "120000",
        "models/width.py": "000000",
        "out": "120000",
    }
    with pytest.raises(GitError, match="leads out of it"):
        git.export(commit, ground.outside / "export")


def test_a_tree_without_end_is_refused_before_anything_is_written(ground: Ground) -> None:
    blob = ground.user("rev-parse", "HEAD:train.py")
    ground.env["GIT_INDEX_FILE"] = str(ground.outside / "index")
    ground.user("update-index", "--add", "--cacheinfo", f"100644,{blob},{'d/' * 1_500}x")
    commit = commit_of(ground, ground.user("write-tree"))
    unpack(ground, commit, ground.outside / "theirs")
    assert (ground.outside / "theirs" / "d" / "d" / "d").is_dir(), "the trap does not work"
    git = Git(ground.root)
    with pytest.raises(GitError, match="folders deep"):
        git.export(commit, ground.outside / "export")
    with pytest.raises(GitError, match="folders deep"):
        git.restore_missing(commit, ground.outside / "ours")
    assert not (ground.outside / "export").exists() and not (ground.outside / "ours").exists()


def test_a_candidate_that_digs_deeper_than_any_path_stops_nothing(ground: Ground) -> None:
    code = "import os\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')\nopen('x', 'w').close()"
    subprocess.run([sys.executable, "-c", code], cwd=ground.tree, check=True)
    git = Git(ground.root)
    (ground.tree / "new.py").write_text("x = 1\n")
    assert git.strays(ground.tree, "HEAD") == [ground.tree / "new.py"]
    commit = git.commit_worktree(ground.tree, "candidate", "exp/h1").sha
    assert git.changed_paths("HEAD", commit) == ["new.py"]


def test_names_that_are_no_text_survive_every_call(ground: Ground) -> None:
    names = [os.fsdecode(name) for name in (b"caf\xe9.py", b"\xff\xfe", b"a\nb", b'q"\\', b"tab\t")]
    for name in names:
        (ground.tree / name).write_bytes(os.fsencode(name))
    shown = ground.user("status", "--porcelain", at=ground.tree)
    assert all(name not in shown for name in names), "the trap does not work: git would quote them"
    git = Git(ground.root)
    commit = git.commit_worktree(ground.tree, "candidate", "exp/h1").sha
    assert sorted(git.changed_paths("HEAD", commit)) == sorted(names)
    git.export(commit, ground.outside / "export")
    assert all((ground.outside / "export" / name).read_bytes() == os.fsencode(name) for name in names)
