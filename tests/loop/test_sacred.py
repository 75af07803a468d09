"""The user's work is sacred: what is theirs stays byte for byte, whatever they do while a loop runs."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from gates import Gate, ended
from lab_kit import HELPS, Finished, LabKit, design, hypothesis, implementation, iteration, make_lab, script

pytestmark = pytest.mark.process

DOCUMENTS = ("RESEARCH_JOURNAL.md", "FINDINGS.md", "results.tsv", "paper/paperbanana.md")
HOOKS = (
    *("pre-commit", "prepare-commit-msg", "commit-msg", "post-commit", "post-checkout", "post-merge", "pre-push"),
    *("reference-transaction", "post-index-change", "pre-auto-gc", "post-rewrite", "pre-rebase", "fsmonitor-watchman"),
)
SECOND = iteration(hypothesis=hypothesis("A slope of five"), implementation=implementation(5.0))


def theirs(lab: LabKit) -> dict[str, object]:
    """What belongs to the user in `.git`, as bytes; the refs that Autolab owns are left out."""
    git = lab.root / ".git"
    refs = lab.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    own = ("refs/autolab/", "refs/heads/autolab/", "refs/heads/exp/")
    files = ("index", "HEAD", "config", "logs/HEAD", "logs/refs/heads/main", "logs/refs/stash", "MERGE_HEAD")
    return {
        "refs": [ref for ref in refs if not ref.startswith(own)],
        **{name: (git / name).read_bytes() if (git / name).exists() else None for name in files},
        "hooks": sorted(path.name for path in (git / "hooks").glob("*")),
    }


def tree(root: Path, *leave: str) -> dict[str, str]:
    """Every file below `root` with the hash of its bytes, but for the folders in `leave`."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_file() and not path.is_symlink() and not name.startswith(leave):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def well(done: Finished) -> Finished:
    assert done.code == 0, done.out + done.err
    return done


def refused(done: Finished, *words: str) -> None:
    """Exit 1, nothing on stdout, one line on stderr with these words in it."""
    assert (done.code, done.out) == (1, ""), done.out + done.err
    assert len(done.err.splitlines()) == 1, done.err
    for word in words:
        assert word in done.err, done.err


def entries(lab: LabKit, document: str, iteration_id: str) -> int:
    """How often a document holds an iteration: markers, or for the table the rows of one arm of its search."""
    text = (lab.root / document).read_text()
    if document.endswith(".tsv"):
        wanted = [iteration_id, "run_0001", "search", "baseline"]
        return sum(line.split("\t")[1:5] == wanted for line in text.splitlines())
    return text.count(f"<!-- autolab:{iteration_id} -->")


def verdicts(lab: LabKit) -> list[str]:
    """Of the runs that compare something, in their order."""
    return [line["data"]["verdict"] for line in lab.events("run_ended") if line["data"]["verdict"] is not None]


def names(lab: LabKit) -> list[str]:
    return [path.name for path in lab.iterations()]


@contextmanager
def at_gates(folder: Path) -> Iterator[tuple[LabKit, Gate, Gate]]:
    """A lab whose first and second candidate wait at a gate of their own."""
    with Gate(folder, "first") as first, Gate(folder, "second") as second:
        answers = script(
            iteration(implementation=implementation(first.code(4.0))),
            iteration(hypothesis=hypothesis("A slope of five"), implementation=implementation(second.code(5.0))),
            iteration(hypothesis=hypothesis("A slope of six"), implementation=implementation(6.0)),
        )
        yield make_lab(folder, answers, config={"executor": {"name": "local", "options": {"slots": 2}}}), first, second


@pytest.fixture
def lab(tmp_path: Path) -> LabKit:
    return make_lab(tmp_path, script(HELPS, SECOND))


# what lies uncommitted, and what git would run


def listen_in(lab: LabKit, witness: Path) -> None:
    """Hooks, filters, drivers and programs of the user's, each of which would leave a line in `witness`."""
    say = witness.with_name("say.sh")
    say.write_text(f'#!/bin/sh\necho "$0 $*" >> {witness}\ncat\n')
    say.chmod(0o755)
    (lab.root / ".gitattributes").write_text("*.py filter=loud diff=loud\n*.md filter=loud text eol=crlf\n")
    lab.git("add", ".gitattributes")
    lab.git("commit", "--quiet", "-m", "attributes")
    for hook in HOOKS:
        shutil.copy(say, lab.root / ".git" / "hooks" / hook)
    settings = ["filter.loud.clean", "filter.loud.smudge", "diff.loud.textconv", "diff.loud.command", "diff.external"]
    settings += ["core.fsmonitor", "core.pager", "core.editor", "gpg.program", "core.sshCommand", "credential.helper"]
    for name in settings:
        lab.git("config", name, str(say))
    lab.git("config", "commit.gpgSign", "true")
    lab.git("config", "alias.rev-parse", f"!{say}")


def test_two_iterations_leave_everything_uncommitted_as_it_was_and_run_no_program_of_the_users(lab: LabKit) -> None:
    (lab.root / "README.md").write_text("stashed\n")
    lab.git("stash", "--quiet")
    (lab.root / "README.md").write_text("staged\n")
    (lab.root / "staged.txt").write_text("new and staged\n")
    lab.git("add", "README.md", "staged.txt")
    witness = lab.root.parent / "witness.txt"
    listen_in(lab, witness)
    lab.git("-c", "core.fsmonitor=false", "update-index", "--assume-unchanged", "program.md")
    (lab.root / "README.md").write_text("unstaged\n")
    (lab.root / "eval.py").write_text("my own version\n")
    (lab.root / "predict.py").unlink()
    (lab.root / "notes").mkdir()
    (lab.root / "notes" / "private.txt").write_text("untracked\n")
    witness.unlink(missing_ok=True)
    engines = ("experiments", "9_reports", "paper/figures", ".git", ".autolab", "5_worktrees", *DOCUMENTS)
    files = tree(lab.root, *engines)
    held = (lab.root / ".git" / "index").read_bytes()
    mine = theirs(lab)
    assert (lab.root / ".git" / "index").read_bytes() == held, "looking must not write"
    witness.unlink(missing_ok=True)

    well(lab.autolab("loop", "--max-iterations", "2"))

    assert not witness.exists(), witness.read_text()
    assert theirs(lab) == mine
    assert tree(lab.root, *engines) == files
    assert verdicts(lab)[:2] == ["supported", "supported"], "of the search and of the confirmation"


def test_private_lines_in_the_engines_documents_survive_and_are_recorded(lab: LabKit) -> None:
    for document in DOCUMENTS:
        with open(lab.root / document, "a") as file:
            file.write(f"my line in {document}\n")
    before = {document: (lab.root / document).read_bytes() for document in DOCUMENTS}
    well(lab.autolab("loop", "--max-iterations", "1"))
    edited = [line["data"] for line in lab.events("document_edited")]
    assert {data["path"] for data in edited} == set(DOCUMENTS)
    assert {data["sha256"] for data in edited} == {hashlib.sha256(text).hexdigest() for text in before.values()}
    for document in DOCUMENTS:
        now = (lab.root / document).read_bytes()
        above = document.endswith("L.md") or document == "FINDINGS.md"
        assert now.endswith(before[document]) if above else now.startswith(before[document]), document
        assert now != before[document]

    journal = lab.root / "RESEARCH_JOURNAL.md"
    journal.write_text("on top\n" + journal.read_text())
    standing = journal.read_bytes()
    well(lab.autolab("loop", "--max-iterations", "1"))
    assert journal.read_bytes().endswith(standing)
    assert [line["data"]["path"] for line in lab.events("document_edited")][4:] == ["RESEARCH_JOURNAL.md"]
    for document in DOCUMENTS:
        assert [entries(lab, document, name) for name in names(lab)] == [1, 1], document


# what the user does with the checkout while trials run


def conflict(lab: LabKit) -> None:
    """A branch `other` that cannot be merged without a conflict, and an older commit to go back to."""
    lab.git("switch", "--quiet", "-c", "other")
    (lab.root / "README.md").write_text("theirs\n")
    lab.git("commit", "--quiet", "-am", "theirs")
    lab.git("switch", "--quiet", "main")
    (lab.root / "README.md").write_text("ours\n")
    lab.git("commit", "--quiet", "-am", "ours")


AWAY = {
    "merge": (["merge", "other"], ["merge", "--abort"], "a merge is in progress"),
    "rebase": (["rebase", "other"], ["rebase", "--abort"], "a rebase is in progress"),
    "branch": (["switch", "other"], ["switch", "main"], "other is checked out"),
    "older commit": (["checkout", "HEAD~1"], ["switch", "main"], "a detached commit is checked out"),
    "empty branch": (["switch", "--orphan", "empty"], ["switch", "main"], "empty is checked out"),
}


@pytest.mark.parametrize("away", AWAY)
def test_a_checkout_that_goes_elsewhere_stops_no_loop_and_documents_wait_for_it(tmp_path: Path, away: str) -> None:
    go, back, reason = AWAY[away]
    with at_gates(tmp_path) as (lab, first, second):
        conflict(lab)
        loop = lab.start("loop", "--max-iterations", "2")
        first.reached()
        subprocess.run(["git", *go], cwd=lab.root, capture_output=True, check=False)
        standing = tree(lab.root, "experiments", ".git", ".autolab/", "5_worktrees")
        mine = theirs(lab)
        first.open()
        second.reached()
        assert theirs(lab) == mine
        assert tree(lab.root, "experiments", ".git", ".autolab/", "5_worktrees") == standing
        assert json.loads(well(lab.autolab("status", "--json")).out)["documents_waiting"] > 0
        lab.git(*back)
        second.open()
        done = well(ended(loop))
    assert f"document entries wait: {reason}" in done.out
    for document in DOCUMENTS:
        assert [entries(lab, document, name) for name in names(lab)] == [1, 1], document
    assert len(list((lab.root / "9_reports").glob("2*.md"))) == 2
    assert lab.git("status", "--porcelain", "--untracked-files=no").split()[1::2] == sorted(DOCUMENTS)


def test_documents_that_wait_are_written_by_publish_too(lab: LabKit) -> None:
    lab.git("switch", "--quiet", "-c", "other")
    well(lab.autolab("loop", "--max-iterations", "1"))
    assert lab.git("status", "--porcelain", "--untracked-files=no") == ""
    lab.git("switch", "--quiet", "main")
    well(lab.autolab("publish"))
    assert entries(lab, "RESEARCH_JOURNAL.md", names(lab)[0]) == 1
    assert lab.git("status", "--porcelain") == ""


@pytest.mark.parametrize("untracked", [False, True])
def test_a_stash_in_mid_loop_stays_as_it_is_and_the_loop_goes_on(tmp_path: Path, untracked: bool) -> None:
    with at_gates(tmp_path) as (lab, first, second):
        first.open()
        loop = lab.start("loop", "--max-iterations", "2")
        second.reached()
        one = lab.iterations()[0]
        record = tree(one, *(str(path.relative_to(one)) for path in one.glob("runs/*/trials")))
        (lab.root / "README.md").write_text("mine\n")
        (lab.root / "private.txt").write_text("mine too\n")
        lab.git("stash", *(["--include-untracked"] if untracked else []))
        stash = lab.git("rev-parse", "stash")
        assert entries(lab, "RESEARCH_JOURNAL.md", one.name) == 0
        mine = theirs(lab)
        second.open()
        well(ended(loop))
    assert theirs(lab) == mine
    assert lab.git("show", "stash:README.md") == "mine\n"
    assert one.name in lab.git("show", "stash:RESEARCH_JOURNAL.md")
    assert (lab.root / "private.txt").exists() is not untracked
    two = json.loads(well(lab.autolab("registry", "--json")).out)[-1]["iteration_id"]
    for document in DOCUMENTS:
        assert entries(lab, document, two) == 1, document
    assert "RESEARCH_JOURNAL.md" in [line["data"]["path"] for line in lab.events("document_edited")]
    well(lab.autolab("doctor", "--fix"))
    assert tree(one, *(str(path.relative_to(one)) for path in one.glob("runs/*/trials"))) == record
    assert lab.git("rev-parse", "stash") == stash


@pytest.mark.parametrize("how", ["-fdx", "-ffdx"])
def test_what_a_clean_takes_away_comes_back_and_nothing_is_doubled(tmp_path: Path, how: str) -> None:
    with at_gates(tmp_path) as (lab, first, second):
        first.open()
        loop = lab.start("loop", "--max-iterations", "2")
        second.reached()
        while list(lab.root.glob("experiments/*/hypothesis.md")):  # a trial that ends meanwhile may be in its way
            subprocess.run(["git", "clean", how, "--quiet"], cwd=lab.root, capture_output=True, check=False)
        second.open()
        well(ended(loop))
        two = lab.iterations()
        assert len(two) == 1, "the finished iteration waits for doctor, the active one is back"
        for name in ("hypothesis.md", "design.yaml", "review_result.json", "launch/run_local.sh", "record.json"):
            assert (two[0] / name).exists(), name
        assert lab.state()["stage"] == "hypothesis"
        well(lab.autolab("doctor", "--fix", figures=True))

        def record() -> dict[str, str]:
            raw = tuple(f"experiments/{run.relative_to(lab.root / 'experiments')}" for run in trials())
            return tree(lab.root, ".git", "5_worktrees", ".autolab/logs/iterations/", *raw)

        def trials() -> list[Path]:
            return list((lab.root / "experiments").glob("*/runs/*/trials"))

        assert len(lab.iterations()) == 2
        assert len(list((lab.root / "9_reports").glob("2*.md"))) == 2
        whole, lines = record(), len(lab.events())
        replies = {path.name: path.read_bytes() for path in (lab.root / ".autolab/logs").rglob("*.reply.json")}
        lab.git("clean", how, "--quiet")
        assert record() != whole
        well(lab.autolab("doctor", "--fix", figures=True))
        assert record() == whole
        again = {path.name: path.read_bytes() for path in (lab.root / ".autolab/logs").rglob("*.reply.json")}
        assert again == replies
        assert (lab.root / ".autolab" / "ledger.jsonl").samefile(lab.store / "ledger.jsonl")
        assert len(lab.events()) == lines
        well(lab.autolab("verify"))
        well(lab.autolab("loop", "--max-iterations", "1"))
        assert len(json.loads(well(lab.autolab("registry", "--json")).out)) == 3


def test_a_clean_during_the_confirmation_loses_nothing_of_the_search(tmp_path: Path) -> None:
    lab = make_lab(tmp_path, script(iteration(design=design(train={"seconds": 0.5}))))
    loop = lab.start("loop", "--max-iterations", "1")
    assert loop.stdout is not None
    assert any("measured again on fresh seeds" in line for line in loop.stdout)
    subprocess.run(["git", "clean", "-fdxq"], cwd=lab.root, capture_output=True, check=False)
    done = well(ended(loop))
    assert "design.yaml: was missing, restored from the record" in done.out and "verdict: supported, kept" in done.out
    (one,) = lab.iterations()
    assert [path.parent.name for path in sorted(one.glob("runs/*/run_manifest.json"))] == ["run_0001", "run_0002"]
    well(lab.autolab("verify"))


# worktrees and branches of candidates


@pytest.mark.parametrize("branch_too", [False, True])
def test_a_worktree_that_was_deleted_before_launch_comes_back(lab: LabKit, branch_too: bool) -> None:
    well(lab.autolab("calibrate"))
    while lab.state()["stage"] != "launch":
        well(lab.autolab("run"))
    (worktree,) = (path for path in (lab.root / "5_worktrees").iterdir() if path.is_dir())
    (candidate,) = lab.events("candidate")
    shutil.rmtree(worktree)
    if branch_too:
        lab.git("worktree", "prune")
        lab.git("branch", "-D", f"exp/{worktree.name}")
    well(lab.autolab("run"))
    assert lab.state()["stage"] == "extract_results"
    assert lab.git("rev-parse", f"exp/{worktree.name}").strip() == candidate["data"]["commit"]
    assert (worktree / "train.py").exists()


def test_candidates_whose_branches_were_deleted_are_still_built_upon(lab: LabKit) -> None:
    well(lab.autolab("loop", "--max-iterations", "1"))
    (first,) = lab.events("candidate")
    shutil.rmtree(lab.root / "5_worktrees")
    lab.git("worktree", "prune")
    lab.git("branch", "-D", f"exp/{first['data']['slug']}")
    lab.git("reflog", "expire", "--expire=now", "--all")
    lab.git("gc", "--quiet", "--prune=now")
    well(lab.autolab("loop", "--max-iterations", "1"))
    assert lab.events("candidate")[-1]["data"]["base"] == first["data"]["commit"]


def test_code_that_the_user_commits_in_mid_loop_is_what_the_next_candidate_branches_from(tmp_path: Path) -> None:
    with at_gates(tmp_path) as (lab, first, second):
        loop = lab.start("loop", "--max-iterations", "2")
        first.reached()
        with open(lab.root / "predict.py", "a") as file:
            file.write("# mine\n")
        lab.git("commit", "--quiet", "-am", "mine")
        mine = lab.git("rev-parse", "HEAD").strip()
        first.open()
        second.open()
        done = well(ended(loop))
    assert [line["data"]["base"] == mine for line in lab.events("candidate")] == [False, True]
    assert "predict.py was committed on main: the next candidate branches from there" in done.out
    assert lab.git("rev-parse", "main").strip() == mine


# copies, moves, clones


def test_a_copy_is_refused_until_it_is_forked_and_then_neither_touches_the_other(lab: LabKit) -> None:
    well(lab.autolab("loop", "--max-iterations", "1"))
    copy = LabKit(lab.root.with_name("copy"), lab.counter)
    subprocess.run(["cp", "-r", str(lab.root), str(copy.root)], check=True)
    original = tree(lab.root)
    for words in (["loop", "--max-iterations", "1"], ["run"], ["publish"], ["review", "stop"], ["doctor", "--fix"]):
        refused(copy.autolab(*words), str(lab.root), "`autolab init --fork`")
    well(copy.autolab("init", "--fork"))
    assert copy.events("forked")[0]["data"]["from"] == str(lab.root)
    ids = {json.loads(well(one.autolab("status", "--json")).out)["lab_id"] for one in (lab, copy)}
    assert len(ids) == 2
    well(copy.autolab("loop", "--max-iterations", "1"))
    assert tree(lab.root) == original
    forked = tree(copy.root)
    well(lab.autolab("loop", "--max-iterations", "1"))
    assert tree(copy.root) == forked
    for one in (lab, copy):
        assert len(one.iterations()) == 2
        places = [line.split()[0] for line in one.git("worktree", "list").splitlines()]
        assert all(Path(place).is_relative_to(one.root) for place in places) and len(places) == 3
        well(one.autolab("verify"))


def test_a_lab_that_is_no_copy_cannot_be_forked(lab: LabKit) -> None:
    before = tree(lab.root)
    refused(lab.autolab("init", "--fork"), "not a copy")
    assert tree(lab.root) == before


def test_a_moved_lab_goes_on_and_its_worktrees_with_it(lab: LabKit) -> None:
    well(lab.autolab("loop", "--max-iterations", "1"))
    old, lab.root = lab.root, lab.root.with_name("moved")
    old.rename(lab.root)
    well(lab.autolab("loop", "--max-iterations", "1"))
    (moved,) = lab.events("lab_moved")
    assert (moved["data"]["from"], moved["data"]["to"]) == (str(old), str(lab.root))
    for worktree in (path for path in (lab.root / "5_worktrees").iterdir() if path.is_dir()):
        top = subprocess.run(
            ["git", "rev-parse", "--show-toplevel"], cwd=worktree, capture_output=True, text=True, check=True
        )
        assert top.stdout.strip() == str(worktree)
    assert len(lab.iterations()) == 2
    assert not old.exists()
    well(lab.autolab("verify"))


def test_a_lab_that_is_moved_while_trials_run_ends_its_loop_in_one_line_and_goes_on_where_it_is(tmp_path: Path) -> None:
    with at_gates(tmp_path) as (lab, first, second):
        well(lab.autolab("calibrate"))
        (lab.root / "models" / "width.py").write_text(f"WIDTH = {first.code(2.0)}")
        lab.git("commit", "--quiet", "-am", "every arm waits")
        loop = lab.start("loop", "--max-iterations", "1")
        first.reached(trials=2)
        old, lab.root = lab.root, lab.root.with_name("moved")
        old.rename(lab.root)
        done = ended(loop)
        assert done.code == 1
        assert len(done.err.splitlines()) == 1, done.err
        assert "moved" in done.err
        refused(lab.autolab("loop", "--max-iterations", "1"), "trials of the old place still run")
        first.open()
        second.open()
        assert not old.exists()
        wait_for_supervisors(lab)
        well(lab.autolab("loop", "--max-iterations", "1"))
    assert not old.exists()
    assert verdicts(lab) == ["supported", "supported"]
    assert [line["data"]["to"] for line in lab.events("lab_moved")] == [str(lab.root)]


def wait_for_supervisors(lab: LabKit) -> None:
    """Return when nobody holds the lock of a run any more: a flock that waits, no clock."""
    for lock in lab.store.glob("runs/*/lock"):
        subprocess.run(["flock", str(lock), "true"], check=True, timeout=60)


def test_a_clone_is_no_lab_until_init_makes_it_a_new_one(lab: LabKit) -> None:
    well(lab.autolab("loop", "--max-iterations", "1"))
    well(lab.autolab("publish"))
    clone = LabKit(lab.root.with_name("clone"), lab.counter)
    lab.git("clone", "--quiet", str(lab.root), str(clone.root))
    original = tree(lab.root)
    for words in (["status"], ["loop", "--max-iterations", "1"], ["publish"]):
        refused(clone.autolab(*words), "a clone of a lab", "`autolab init`")
    well(clone.autolab("init"))
    assert clone.events()[0]["event"] == "init"
    well(clone.autolab("loop", "--max-iterations", "1"))
    ids = {json.loads(well(one.autolab("status", "--json")).out)["lab_id"] for one in (lab, clone)}
    assert len(ids) == 2
    assert tree(lab.root) == original


# publish


def test_publish_commits_the_record_and_nothing_else(lab: LabKit) -> None:
    well(lab.autolab("loop", "--max-iterations", "1"))
    (lab.root / "README.md").write_text("staged\n")
    (lab.root / "staged.txt").write_text("staged\n")
    lab.git("add", "README.md", "staged.txt")
    (lab.root / "README.md").write_text("unstaged\n")
    (lab.root / "train.py").write_text("unstaged\n")
    (lab.root / "private.txt").write_text("untracked\n")
    (lab.iterations()[0] / "checkpoint.pt").write_bytes(b"weights")
    files, tip = tree(lab.root, ".git", ".autolab/"), lab.git("rev-parse", "HEAD").strip()
    staged = set(lab.git("ls-files", "-s").splitlines())
    stash = lab.git("stash", "list")

    well(lab.autolab("publish"))

    changed = lab.git("diff", "--name-only", tip, "HEAD").splitlines()
    assert lab.git("rev-parse", "HEAD~1").strip() == tip
    one = f"experiments/{names(lab)[0]}"
    for name in ("hypothesis.md", "design.yaml", "results.yaml", "record.json", "analysis/summary.md"):
        assert f"{one}/{name}" in changed
    assert f"{one}/runs/run_0001/run_manifest.json" in changed
    assert set(DOCUMENTS) <= set(changed)
    forbidden = ("/trials/", "/logs/", "data/", ".autolab/", "5_worktrees", ".pt", ".txt", ".py", ".npy", "README")
    assert [name for name in changed if any(part in name for part in forbidden)] == []
    left = {line for line in lab.git("ls-files", "-s").splitlines() if line.split("\t")[1] not in changed}
    assert left == {line for line in staged if line.split("\t")[1] not in changed}
    assert tree(lab.root, ".git", ".autolab/") == files
    assert lab.git("stash", "list") == stash
    again = well(lab.autolab("publish"))
    assert again.out == "nothing new to publish\n"
    assert lab.git("rev-parse", "HEAD~1").strip() == tip


def test_publish_in_a_merge_is_refused_in_one_line_and_changes_nothing(lab: LabKit) -> None:
    well(lab.autolab("loop", "--max-iterations", "1"))
    conflict_of = ["-c", "user.name=x"]
    lab.git("stash", "--quiet")
    conflict(lab)
    subprocess.run(["git", *conflict_of, "merge", "other"], cwd=lab.root, capture_output=True, check=False)
    mine, files = theirs(lab), tree(lab.root, ".git", ".autolab/")
    refused(lab.autolab("publish"), "a merge is in progress", "git merge --continue or git merge --abort")
    assert theirs(lab) == mine
    assert tree(lab.root, ".git", ".autolab/") == files


def test_what_publish_committed_does_not_count_as_the_users_code(lab: LabKit) -> None:
    well(lab.autolab("loop", "--max-iterations", "1"))
    (first,) = lab.events("candidate")
    well(lab.autolab("publish"))
    well(lab.autolab("loop", "--max-iterations", "1"))
    assert lab.events("candidate")[-1]["data"]["base"] == first["data"]["commit"]
