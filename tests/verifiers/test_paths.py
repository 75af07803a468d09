"""Verifiers: what a candidate may touch, what an answer must hold, which results are sane."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from autolab.lab.git import Change, Git
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Design, Finding, Hypothesis
from autolab.lab.schemas.replies import DocsOutput, PaperUpdate
from autolab.verifiers import design_checks, docs_checks
from autolab.verifiers.paths import meta_mode, path_policy

ID = "2026-02-12T23-30-00Z_h1"
CONFIG = Config.from_value(
    {
        "metric": {"primary": "val_loss", "direction": "minimize", "success_delta": 0.01, "report": ["accuracy"]},
        "predict": {"command": "{python} predict.py"},
        "evaluate": {"script": "eval.py", "eval": "data/eval", "holdout": "data/holdout"},
    },
    "config.yaml",
)


def change(path: str, status: str = "M", mode: str = "100644") -> Change:
    new_mode = "000000" if status == "D" else mode
    return Change(status, path, "000000" if status == "A" else "100644", new_mode, "0" * 40, "1" * 40)


def messages(found: list[Finding], severity: str | None = None) -> list[str]:
    return [finding.message for finding in found if severity in (None, finding.severity)]


# paths


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("eval.py", "FROZEN"),
        ("program.md", "FROZEN"),
        ("meta_journal.md", "FROZEN"),
        ("human_journal.md", "HUMAN"),
        ("RESEARCH_JOURNAL.md", "GLOBAL"),
        ("RESEARCH_JOURNAL.3.md", "GLOBAL"),
        ("results.tsv", "GLOBAL"),
        ("FINDINGS.md", "GLOBAL"),
        ("models_journal.md", "APPEND-ONLY"),
        ("notes/lab_journal.md", "APPEND-ONLY"),
        ("data/eval/labels.npy", "evaluation data"),
        ("data/holdout/labels.npy", "evaluation data"),
        ("data", "takes the place of the folder of data/eval"),
        ("data/eval", "evaluation data"),
        (".autolab/config.yaml", "control plane"),
        ("./eval.py", "FROZEN"),
        ("experiments/x/design.yaml", "control plane"),
        ("5_worktrees/x/train.py", "control plane"),
        ("paper/ralph.md", "paper target"),
        ("paper/figures/a.png", "paper target"),
        (".gitattributes", "git's own file"),
        ("models/.gitmodules", "git's own file"),
        (".git/config", "git's own file"),
        ("a/../eval.py", "leaves the lab"),
        ("/etc/passwd", "leaves the lab"),
        ("..", "leaves the lab"),
    ],
)
def test_a_candidate_may_not_change_what_is_not_its_own(path: str, kind: str) -> None:
    (finding,) = path_policy([change(path)], CONFIG)
    assert finding.severity == "blocking" and finding.file == path
    assert kind in finding.message and path in finding.message and ";" in finding.message


@pytest.mark.parametrize(
    "path", ["Eval.py", "EVAL.PY", "\uff45val.py", "Results.TSV", ".AutoLab/config.yaml", ".GIT/x"]
)
def test_another_spelling_of_a_protected_name_is_the_same_name(path: str) -> None:
    (finding,) = path_policy([change(path, "A")], CONFIG)
    assert finding.severity == "blocking"


@pytest.mark.parametrize(
    "path", ["train.py", "models/eval_head.py", "data.py", "evaluate.py", "src/eval.py", ".gitkeep"]
)
def test_regular_files_are_the_candidates(path: str) -> None:
    assert path_policy([change(path, status) for status in "AMD"], CONFIG) == []


@pytest.mark.parametrize(("mode", "what"), [("120000", "symbolic link"), ("160000", "submodule")])
def test_links_and_submodules_are_blocked_but_may_be_removed(mode: str, what: str) -> None:
    (finding,) = path_policy([change("models/x", "A", mode)], CONFIG)
    assert what in finding.message
    assert path_policy([replace(change("models/x", "D"), old_mode=mode)], CONFIG) == []


def test_the_evaluator_is_frozen_whatever_its_name_and_whatever_else_is() -> None:
    value = CONFIG.value()
    value |= {"evaluate": value["evaluate"] | {"script": "scores/judge.py"}, "files": value["files"] | {"frozen": []}}
    config = Config.from_value(value, "config.yaml")
    assert path_policy([change("eval.py")], config) == [], "it is a file like any other there"
    (said,) = messages(path_policy([change("scores/judge.py")], config), "blocking")
    assert said.startswith("scores/judge.py: FROZEN;")


def test_meta_mode_opens_frozen_files_and_nothing_else() -> None:
    paths = ["eval.py", "program.md", "meta_journal.md", "human_journal.md", "results.tsv", "data/eval/labels.npy"]
    left = [finding.file for finding in path_policy([change(path) for path in paths], CONFIG, unlocked=True)]
    assert left == ["human_journal.md", "results.tsv", "data/eval/labels.npy"]


def test_an_append_only_file_may_be_made_and_grow_but_not_lose_its_text() -> None:
    grown = {"a_journal.md": True, "b_journal.md": False}
    changes = [
        change("new_journal.md", "A"),
        change("a_journal.md"),
        change("b_journal.md"),
        change("a_journal.md", "D"),
    ]
    found = path_policy(changes, CONFIG, kept=grown.__getitem__)
    assert [finding.file for finding in found] == ["b_journal.md", "a_journal.md"]


@pytest.mark.process
def test_the_policy_reads_a_real_diff_with_a_rename_and_a_link(tmp_path: Path) -> None:
    git, tree = Git.init(tmp_path / "lab"), tmp_path / "tree"
    (tmp_path / "lab" / "eval.py").write_text("score\n")
    (tmp_path / "lab" / "train.py").write_text("train\n")
    base = git.commit_all("base")
    git.add_worktree(tree, "exp/tree", base)
    (tree / "eval.py").rename(tree / "scorer.py")
    (tree / "train.py").unlink()
    (tree / "train.py").symlink_to("/etc/hostname")
    found = path_policy(git.diff(base, git.commit_worktree(tree, "candidate").sha), CONFIG)
    assert sorted((finding.file, finding.message.split("; ")[0].split(": ")[1]) for finding in found) == [
        ("eval.py", "FROZEN"),
        ("train.py", "symbolic link"),
    ]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("sitecustomize.py", "Python runs it by itself"),
        ("src/usercustomize/__init__.py", "Python runs it by itself"),
        ("SiteCustomize.py", "Python runs it by itself"),
        ("easy.pth", "Python runs it by itself"),
        ("venv/pyvenv.cfg", "Python runs it by itself"),
        ("x.dist-info/entry_points.txt", "Python runs it by itself"),
        ("conftest.py", "programs run it by themselves"),
        ("tests/conftest.py", "programs run it by themselves"),
        (".envrc", "programs run it by themselves"),
        (".vscode/tasks.json", "programs run it by themselves"),
        ("models/width.pyc", "compiled code"),
        ("models/__pycache__/width.cpython-311.pyc", "compiled code"),
        ("models/fast.cpython-311-x86_64-linux-gnu.so", "compiled code"),
        ("models/libfast.so.1.2", "compiled code"),
        ("models/fast.dylib", "compiled code"),
        ("models/fast.PYD", "compiled code"),
        ("tools/hooks/pre-commit", "git hook"),
        ("hooks/post-checkout", "git hook"),
        ("tools/repo/HEAD", "makes a folder a repository"),
        (".githooks/pre-commit", "git's own file"),
        (".gitattributes", "git's own file"),
        ("models/.gitmodules", "git's own file"),
        ("GIT~1/config", "git's own file"),
        (".g\u200cit/config", "git's own file"),
        ("random.py", "in place of random of the standard library"),
        ("json/__init__.py", "in place of json of the standard library"),
        ("Numpy.py", "in place of numpy of an installed package"),
        ("torch/__init__.py", "in place of torch of an installed package"),
        ("eval/__init__.py", "in place of eval.py (FROZEN)"),
        ("a\nb.py", "characters that cannot be seen"),
        ("a\x1b[2K.py", "characters that cannot be seen"),
        ("a\u202egnp.py", "characters that cannot be seen"),
        ("caf\udce9.py", "not UTF-8"),
        ("x" * 256, "longer than"),
        ("/".join(["d" * 100] * 11), "longer than"),
        ("/".join(["d"] * 40), "folders deep"),
        ("models/width.py ", "a space"),
        ("models/width.py.", "a dot"),
    ],
)
def test_new_files_that_run_shadow_or_hide_are_blocked_but_may_be_removed(path: str, reason: str) -> None:
    (finding,) = path_policy([change(path, "A")], CONFIG)
    assert finding.severity == "blocking" and reason in finding.message, finding.message
    assert ";" in finding.message and finding.message.isprintable(), "one line, with the way out"
    assert finding.file is not None and finding.file.isprintable()
    finding.value()
    if "git's own" not in reason:
        assert path_policy([change(path, "D")], CONFIG, existing=[path]) == []


@pytest.mark.parametrize(
    "path",
    [
        *("models/random.py", "models/json/__init__.py", "code/notes.md", "evaluation/__init__.py", "utils/hooks.py"),
        *("hooks/readme.md", "models/head.py", "models/head/linear.py", "weights.pt", "data/a.social", "settings.py"),
        *("models/with space.py", "models/\u00fc.py", "site.md"),
    ],
)
def test_names_that_only_look_alike_are_the_candidates(path: str) -> None:
    assert path_policy([change(path, "A")], CONFIG) == []


def test_a_module_beside_a_program_shadows_wherever_that_lies_and_one_of_the_base_does_not() -> None:
    config = Config.from_value(CONFIG.value() | {"train": {"command": "{python} -u src/train.py"}}, "config.yaml")
    (finding,) = path_policy([change("src/random.py", "A")], config)
    assert "standard library" in finding.message
    there = ["src/random.py", "numpy/__init__.py", "conftest.py"]
    assert path_policy([change("src/random.py"), change("numpy.py", "A")], config, existing=there) == []
    assert len(path_policy([change("conftest.py")], config, existing=there)) == 1, "of the base it may stay, as it is"


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("Train.py", "train.py"),
        ("models/WIDTH.py", "models/width.py"),
        ("Models/new.py", "models"),
        ("\uff54rain.py", "train.py"),
    ],
)
def test_a_name_that_differs_from_another_by_case_alone_is_blocked(path: str, other: str) -> None:
    existing = ["train.py", "models/width.py"]
    (finding,) = path_policy([change(path, "A")], CONFIG, existing=existing)
    assert finding.severity == "blocking" and f"the same name as {other} without case" in finding.message
    assert path_policy([change("train.py"), change("models/new.py", "A")], CONFIG, existing=existing) == []


def test_two_new_names_that_are_one_without_case_block_each_other_and_a_rename_does_not() -> None:
    found = path_policy([change("a/x.py", "A"), change("A/y.py", "A")], CONFIG)
    assert [finding.file for finding in found] == ["a/x.py", "A/y.py"]
    assert path_policy([change("Notes.md", "D"), change("notes.md", "A")], CONFIG, existing=["Notes.md"]) == []
    twins = ["Docs/a.md", "docs/a.md"]
    assert path_policy([change("Docs/a.md"), change("docs/b.md", "A")], CONFIG, existing=twins) == [], "the base's own"


def test_a_mode_is_a_change_and_a_file_that_becomes_executable_is_pointed_out() -> None:
    frozen = replace(change("eval.py", mode="100755"), new_id="0" * 40)
    (finding,) = path_policy([frozen], CONFIG)
    assert finding.severity == "blocking" and "FROZEN" in finding.message
    (finding,) = path_policy([change("run.sh", mode="100755")], CONFIG)
    assert finding.severity == "advisory" and "becomes executable" in finding.message
    assert path_policy([replace(change("run.sh", mode="100755"), old_mode="100755")], CONFIG) == []
    (finding,) = path_policy([change("models", "A", "040000")], CONFIG)
    assert finding.severity == "blocking" and "mode 040000" in finding.message


def test_meta_mode_opens_no_name_that_runs_or_shadows() -> None:
    paths = ["sitecustomize.py", "conftest.py", "random.py", "a\tb.py", ".gitattributes", "data/holdout/x"]
    changes = [change(path, "A") for path in paths]
    assert [finding.file is not None for finding in path_policy(changes, CONFIG, unlocked=True)] == [True] * len(paths)


@pytest.mark.process
def test_the_policy_reads_a_real_diff_with_links_modes_twins_and_odd_names(tmp_path: Path) -> None:
    git, tree = Git.init(tmp_path / "lab"), tmp_path / "tree"
    root = tmp_path / "lab"
    for name in ("eval.py", "run.sh", "train.py", "models/width.py", "data/eval/labels.npy"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{name}\n")
    (root / "latest").symlink_to("data")
    base = git.commit_all("base")
    git.add_worktree(tree, "exp/tree", base)
    (tree / "eval.py").chmod(0o755)
    (tree / "run.sh").chmod(0o755)
    (tree / "latest").unlink()
    (tree / "latest").symlink_to("/etc")
    (tree / "Models").mkdir()
    (tree / "Models" / "new.py").write_text("x\n")
    (tree / "out").symlink_to("data/eval")
    (tree / "data" / "eval").rename(tree / "data" / "moved")
    (tree / os.fsdecode(b"caf\xe9.py")).write_text("x\n")
    changes = git.diff(base, git.commit_worktree(tree, "candidate").sha)
    found = path_policy(changes, CONFIG, existing=git.files(base))
    told = {str(finding.file): finding.message.split(": ", 1)[1].split(";")[0] for finding in found}
    assert told == {
        "eval.py": "FROZEN",
        "run.sh": "becomes executable",
        "latest": "symbolic link",
        "out": "symbolic link",
        "Models/new.py": "the same name as models without case",
        "data/eval/labels.npy": "evaluation data",
        "'caf\\udce9.py'": "the name is not UTF-8",
    }


@pytest.mark.parametrize(
    ("text", "unlocked"),
    [
        ("## today\nMETA_MODE=1\n", True),
        ("# Journal\n\n## today\r\nMETA_MODE=1\r\n## before\r\n", True),
        ("\ufeff## today\nMETA_MODE=1\n", True),
        ("## today\n\n## before\nMETA_MODE=1\n", False),
        ("\ufeff## today\n\n## before\nMETA_MODE=1\n", False),
        ("META_MODE=1\n## today\n", False),
        ("## today\n META_MODE=1\nMETA_MODE=1 \nMETA_MODE=10\n# META_MODE=1\n", False),
        ("## today\nsee:\u2028META_MODE=1\u2028\n", False),
        ("", False),
    ],
)
def test_only_the_exact_line_in_the_newest_entry_unlocks(text: str, unlocked: bool) -> None:
    assert meta_mode(text) is unlocked


# answers

HYPOTHESIS = Hypothesis(
    id="h1",
    title="t",
    metric="val_loss",
    direction="minimize",
    success_delta=0.01,
    success="s",
    risk_bounds=(),
    mechanism="m",
)
DESIGN_VALUE: dict[str, object] = {
    "id": "e1",
    "iteration_id": ID,
    "hypothesis_id": "h1",
    "entrypoint": {"command": "{python} train.py"},
    "reproducibility": {"seeds": [1, 2, 3]},
    "metrics": {"primary": "val_loss", "success_delta": 0.01},
    "baselines": [{"name": "base"}],
    "variants": [{"name": "wide"}],
}
DESIGN = Design.from_value(DESIGN_VALUE, "design.yaml")


def design(**changes: object) -> Design:
    return Design.from_value(DESIGN_VALUE | changes, "design.yaml")


def checked(
    one: Design, files: tuple[str, ...] = ("train.py",), config: Config = CONFIG, **more: object
) -> list[Finding]:
    return design_checks.design_checks(one, HYPOTHESIS, config, files.__contains__, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entrypoint", "file"),
    [
        ({"module": "lab.train"}, "lab/train.py"),
        ({"module": "lab.train"}, "lab/train/__init__.py"),
        ({"command": "{python} -m lab.train --x 1"}, "lab/train.py"),
        ({"command": "{python} -u scripts/run.py --out a.py"}, "scripts/run.py"),
        ({"command": "./run.sh fast"}, "run.sh"),
    ],
)
def test_the_entrypoint_must_exist_in_the_base(entrypoint: object, file: str) -> None:
    assert checked(design(entrypoint=entrypoint), (file,)) == []
    (finding,) = checked(design(entrypoint=entrypoint), ())
    assert finding.severity == "blocking" and file in finding.message and finding.file == "design.yaml"


def test_a_command_that_names_no_file_of_the_lab_is_not_judged() -> None:
    assert checked(design(entrypoint={"command": "make train"}), ()) == []


def test_a_design_without_baseline_or_variant_is_blocked() -> None:
    assert messages(checked(design(baselines=[]))) == ["baselines: none; name at least one baseline"]
    assert messages(checked(design(variants=[]))) == ["variants: none; name at least one variant"]


def test_an_unknown_metric_is_blocked_and_the_known_ones_are_listed() -> None:
    found = checked(design(metrics={"primary": "bleu", "success_delta": 1.0, "secondary": ["ece"]}))
    assert any("bleu is not the hypothesis's metric" in message for message in messages(found, "blocking"))
    assert "metrics.primary: bleu is not measured here; known: accuracy, val_loss" in messages(found, "blocking")
    assert ["ece" in message for message in messages(found, "advisory")] == [True]


@pytest.mark.parametrize(
    ("seeds", "rule", "left", "severity"),
    [
        ([1, 2, 3], "fixed", 6, None),
        ([1, 2, 3], "fixed", 5, "blocking"),
        ({"max_pairs": 24}, "fixed", 47, "blocking"),
        ({"max_pairs": 24}, "sequential", 47, "advisory"),
        ({"max_pairs": 24}, "sequential", 0, "blocking"),
    ],
)
def test_a_design_must_fit_the_trials_that_are_left(seeds: object, rule: str, left: int, severity: str | None) -> None:
    config = Config.from_value(CONFIG.value() | {"budget": {"trials": 100}}, "config.yaml")
    found = checked(
        design(reproducibility={"seeds": seeds}, test={"rule": rule}), config=config, trials_spent=100 - left
    )
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_an_answer_for_the_documents_names_known_targets_with_text() -> None:
    def answer(*paper: PaperUpdate, no_changes: str | None = None) -> list[str]:
        docs = DocsOutput(observation="o", inference="i", claim="c", paper=paper, no_changes=no_changes)
        return messages(docs_checks.docs_answer(docs, ("paper/ralph.md",)), "blocking")

    assert answer(PaperUpdate(path="paper/ralph.md", text="words")) == []
    assert answer(no_changes="nothing to say") == []
    assert "not a paper target; known: paper/ralph.md" in answer(PaperUpdate(path="paper/x.md", text="words"))[0]
    assert "the text is empty" in answer(PaperUpdate(path="paper/ralph.md", text=" "))[0]
    assert "give no_changes" in answer()[0]
