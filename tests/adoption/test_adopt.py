"""A repository with a training of its own becomes a lab in one command; nothing of it changes, each guess is said."""

from __future__ import annotations

import csv
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_kit import Finished, LabKit, decision, design, docs, hypothesis, iteration, script

from autolab.adoption import adopt, lab_files
from autolab.adoption.detection import AdoptionRequest
from autolab.errors import AutolabError
from autolab.lab.schemas.config import Config

TRAIN = """\
\"\"\"A model of which character follows which, trained for a fixed number of steps.\"\"\"

import os
import re
import time

import numpy as np

# Settings (edit these directly)
STEPS = 80
LR = 0.1        # step size
BATCH_SIZE = 64
TEXT = "the quick brown fox jumps over the lazy dog and the dog does not mind at all. " * 8

started = time.time()
rng = np.random.default_rng(int(os.environ.get("AUTOLAB_SEED", "0")))
kinds = sorted(set(TEXT))
tokens = np.array([kinds.index(sign) for sign in TEXT])
weights = np.zeros((len(kinds), len(kinds)))
print(f"Vocab size: {len(kinds):,}")
for step in range(STEPS):
    at = rng.integers(400, size=BATCH_SIZE)
    seen, wanted = tokens[at], tokens[at + 1]
    p = np.exp(weights[seen]) / np.exp(weights[seen]).sum(axis=1, keepdims=True)
    p[np.arange(BATCH_SIZE), wanted] -= 1
    np.add.at(weights, seen, -LR * p / BATCH_SIZE * len(kinds))
    print(f"\\rstep {step:05d} | loss: {np.abs(p).mean():.6f}", end="", flush=True)
print()
logits = weights[tokens[400:-1]]
chosen = logits[np.arange(len(logits)), tokens[401:]] - np.log(np.exp(logits).sum(axis=1))
val_bpb = -chosen.mean() / np.log(2)
np.save("checkpoint.npy", weights)
open("notes.md", "a").write("trained once more\\n")
print("---")
print(f"val_bpb:          {val_bpb:.6f}")
print(f"training_seconds: {time.time() - started:.1f}")
print(f"num_params_M:     {weights.size / 1e6:.4f}")
"""
FILES = {
    "train.py": TRAIN,
    "prepare.py": '"""Data; do not change."""\n',
    "program.md": "# autoresearch\n\nLog each experiment to `results.tsv`. Lower val_bpb.\n",
    "notes.md": "Mine.\n",
    ".gitignore": "*.npy\nrun.log\n",
    "results.tsv": "commit\tval_bpb\tmemory_gb\tstatus\tdescription\na1b2c3d\t2.997900\t0.1\tkeep\tbaseline\n",
}


def make(root: Path, files: dict[str, str]) -> LabKit:
    """A repository with these files committed; `#!` files may be run."""
    root.mkdir(parents=True)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)
    kit = LabKit(root, root.parent / "count.txt")
    kit.git("init", "--quiet")
    kit.git("add", "--all")
    kit.git("commit", "--quiet", "--message", "mine")
    return kit


@pytest.fixture
def repository(tmp_path: Path) -> Callable[..., LabKit]:
    return lambda **files: make(tmp_path / "mine", FILES | {name.replace("__", "."): t for name, t in files.items()})


def adopted(kit: LabKit, *flags: str) -> str:
    made = kit.autolab("init", "--from-existing", "--seed", "1", "--probe-seconds", "0", *flags)
    assert made.code == 0, made.err
    return made.out


def guessed(kit: LabKit, **options: Any) -> str:
    """What an adoption says, without the command line."""
    told: list[str] = []
    adopt.adopt(kit.root, AdoptionRequest(**options), 1, told.append)
    return "\n".join(told)


def refused(kit: LabKit, **options: Any) -> str:
    """The message of a refusal, which says nothing else and leaves nothing behind."""
    before = everything(kit.root)
    with pytest.raises(AutolabError) as caught:
        adopt.adopt(kit.root, AdoptionRequest(**options), 1, lambda line: pytest.fail(line))
    assert everything(kit.root) == before
    return str(caught.value)


def everything(root: Path) -> dict[str, bytes]:
    """Every file, git's own and the times of its index apart."""
    files = [path for path in root.rglob("*") if path.is_file() and path.name != "index"]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def config(kit: LabKit) -> Config:
    return Config.load(kit.root / Config.FILE)


def answers(title: str, path: str, search: str, replace: str, what: str) -> dict[str, Any]:
    """One iteration that makes one edit."""
    plan = {"plan": "One edit.", "edits": [{"path": path, "search": search, "replace": replace}]}
    return iteration(
        hypothesis=hypothesis(title),
        design=design("changed"),
        implementation={"output": plan},
        update_docs=docs(None, no_changes="nothing for a paper"),
        decide_repeat=decision(what),
    )


def loop(kit: LabKit, iterations: list[dict[str, Any]]) -> str:
    ended = try_loop(kit, iterations)
    assert ended.code == 0, ended.out + ended.err
    return ended.out


def try_loop(kit: LabKit, iterations: list[dict[str, Any]]) -> Finished:
    """A loop over five pairs a run, which is quicker than the rule that an adoption plans, for a gain they resolve.

    Each idea is tested to its end.
    """
    path, settings = kit.root.parent / "script.yaml", kit.root / Config.FILE
    path.write_text(yaml.safe_dump(script(*iterations)))
    quicker = "test: {mode: each, rule: fixed, alpha: 0.005, max_pairs: 5, confirm_pairs: 5}"
    text, count = re.subn(r"(?m)^test: .*", quicker, settings.read_text())
    assert count == 1
    settings.write_text(re.sub(r"success_delta: 0\.01\b", "success_delta: 0.1", text))
    return kit.autolab(
        *("loop", "--max-iterations", str(len(iterations)), "--researcher", "scripted", "--script", str(path))
    )


def rows(kit: LabKit, table: str) -> list[dict[str, str]]:
    with (kit.root / table).open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


# adopted and run


@pytest.mark.process
def test_a_repository_of_autoresearchs_form_is_adopted_and_two_iterations_come_to_a_verdict(
    repository: Callable[..., LabKit],
) -> None:
    kit = repository()
    mine, index = everything(kit.root), (kit.root / ".git" / "index").read_bytes()
    (kit.root / "run.log").write_text("an earlier run\n")
    told = adopted(kit)
    for part in ("{python} train.py", "val_bpb  (train.py prints it)", "minimize", "stdout", "autolab_results.tsv"):
        assert part in told
    assert "AUTOLAB_SEED" not in told and "program.md, prepare.py" in told

    out = loop(
        kit,
        [
            answers("A larger step", "train.py", "LR = 0.1 ", "LR = 0.5 ", "new_hypothesis"),
            answers("A tiny step", "train.py", "LR = 0.5 ", "LR = 0.01 ", "stop"),
        ],
    )
    assert "verdict: supported" in out and "verdict: refuted" in out

    table = rows(kit, "autolab_results.tsv")
    assert [(row["arm"], row["verdict"]) for row in table] == [
        ("baseline", ""),
        ("changed", "supported"),
        ("baseline", ""),  # and once more on fresh seeds
        ("changed", "supported"),
        ("baseline", ""),
        ("changed", "refuted"),
    ]
    assert all("(self-reported)" in row["description"] and row["metric"] == "val_bpb" for row in table)
    journal = (kit.root / "RESEARCH_JOURNAL.md").read_text()
    assert "self-reported" in journal

    verified = kit.autolab("verify")
    assert (verified.code, verified.out) == (0, "all is well\n")
    after = everything(kit.root)
    assert {path: after[path] for path in mine if path != ".git/info/exclude"} == {
        path: content for path, content in mine.items() if path != ".git/info/exclude"
    }
    assert (kit.root / ".git" / "index").read_bytes() == index
    assert kit.git("log", "--format=%s", "main").split() == ["mine"]
    assert not [path for path in after if path.endswith("checkpoint.npy")], "copies of the code are thrown away"


AWK = """\
#!/bin/sh
# The loss falls with the rate, and so does the noise of the seed.
RATE=2
echo "reading"
awk -v rate="$RATE" -v seed="${AUTOLAB_SEED:-0}" 'BEGIN {
    srand(seed % 10007)
    for (i = 0; i < 1000; i++) sum += rand()
    printf "val_loss: %.6f\\n", (1 + sum / 1000000) / rate
}'
echo done > ran.txt
"""


@pytest.mark.process
def test_a_training_in_any_language_is_adopted(repository: Callable[..., LabKit]) -> None:
    kit = repository(train__sh=AWK)
    told = adopted(kit, "--train-command", "sh train.sh", "--delta", "0.05")
    assert "train.command         sh train.sh  (given)" in told and "val_loss  (train.sh prints it)" in told
    assert "0.05  (given)" in told
    out = loop(kit, [answers("Faster", "train.sh", "RATE=2", "RATE=4", "stop")])
    assert "verdict: supported" in out
    assert kit.autolab("verify").code == 0


JSON = """\
import json, os, random
random.seed(int(os.environ["AUTOLAB_SEED"]))
WIDTH = 1
assert open("data/points.txt").read() == "1 2 3", "the data is not at its place"
with open("out/metrics.json", "w") as file:
    json.dump({"accuracy": 0.5 + WIDTH * (0.1 + random.random() / 1000)}, file)
"""


@pytest.mark.process
def test_numbers_in_a_file_and_data_outside_of_git_are_found_where_the_script_has_them(
    repository: Callable[..., LabKit],
) -> None:
    stale = '{"accuracy": 0.99}'
    kit = repository(main__py=JSON, **{"out/metrics__json": stale, "__gitignore": "data/\n"})
    (kit.root / "data").mkdir()
    (kit.root / "data" / "points.txt").write_text("1 2 3")
    told = adopted(kit, "--train-command", "python3 main.py", "--metric", "accuracy")
    assert "maximize  (by its name)" in told and "out/metrics.json  (the script names it" in told
    assert "data                  data  (the script names it, and it is not committed)" in told
    out = loop(kit, [answers("Wider", "main.py", "WIDTH = 1", "WIDTH = 2", "stop")])
    assert "verdict: supported" in out
    assert {row["value"][:3] for row in rows(kit, "autolab_results.tsv")} == {"0.6", "0.7"}


@pytest.mark.process
def test_a_comma_in_the_metric_is_one_clear_line_for_the_user(repository: Callable[..., LabKit]) -> None:
    comma = TRAIN.replace(
        'print(f"val_bpb:          {val_bpb:.6f}")', 'print("val_bpb: " + f"{val_bpb:.3f}".replace(".", ","))'
    )
    kit = repository(train__py=comma)
    adopted(kit, "--metric", "val_bpb")
    ended = try_loop(kit, [answers("Any", "train.py", "LR = 0.1 ", "LR = 1.0 ", "stop")])
    assert ended.code == 1 and ended.err.count("\n") == 1, ended.out + ended.err
    assert "baseline-s0: invalid_artifact: logs/train.out: line " in ended.err
    assert "has a comma" in ended.err and "baseline, then calibrate again" in ended.err


NANOGPT = """\
import os, random, sys
random.seed(int(os.environ["AUTOLAB_SEED"]))
RATE = 2
for step in (0, 250):
    val = (1 + random.random() / 1000) / RATE
    print(f"step {step}: train loss {val / 2:.4f}, val loss {val + (250 - step):.4f}")
    print(f"iter {step}: loss {val:.4f}, time 20.31ms", file=sys.stderr)
"""


@pytest.mark.process
def test_a_metric_with_a_blank_in_its_name_decides_and_stands_in_every_document(
    repository: Callable[..., LabKit],
) -> None:
    kit = repository(train__py=NANOGPT)
    told = adopted(kit, "--metric", "val loss", "--direction", "minimize", "--reduce", "min", "--delta", "0.05")
    assert "stdout  (`val loss` before a NUMBER, the smallest counts)" in told and "train.reduce          min" in told
    out = loop(kit, [answers("Faster", "train.py", "RATE = 2", "RATE = 4", "stop")])
    assert "verdict: supported" in out
    table = rows(kit, "autolab_results.tsv")
    assert {(row["metric"], row["value"][:4]) for row in table} == {("val loss", "0.50"), ("val loss", "0.25")}
    (folder,) = kit.iterations()
    assert yaml.safe_load((folder / "hypothesis.md").read_text().split("---")[1])["metric"] == "val loss"
    with (folder / "analysis" / "tables" / "pairs.csv").open() as file:
        assert {row["metric"] for row in csv.DictReader(file)} == {"val loss"}
    assert "val loss (self-reported) 0.50" in (kit.root / "RESEARCH_JOURNAL.md").read_text()
    verified = kit.autolab("verify")
    assert (verified.code, verified.out) == (0, "all is well\n")


@pytest.mark.process
def test_a_pattern_names_the_number_and_a_bad_one_is_one_line(repository: Callable[..., LabKit]) -> None:
    kit = repository(train__py="print(f'we got {1} bits')\n")
    given = {"metric": "bits", "direction": "minimize"}
    said = refused(kit, metric_pattern="got [0-9]+", **given)
    assert said.startswith("--metric-pattern: 'got [0-9]+' has 0 groups")
    adopted(kit, "--metric", "bits", "--direction", "minimize", "--metric-pattern", r"got ([\d.]+) bits")
    assert (config(kit).train.pattern, config(kit).train.metrics) == (r"got ([\d.]+) bits", "stdout")


@pytest.mark.process
@pytest.mark.parametrize(
    ("printed", "primary"),
    [
        ('print(f"step {i}: train loss {a:.4f}, val loss {b:.4f}")', "val loss"),
        ("print('| end of epoch {:3d} | valid loss {:5.2f} |'.format(i, b))", "valid loss"),
        ('print("Epoch %d | val_acc=%.3f" % (i, b))', "val_acc"),
        ('printf("val loss %f\\n", val_loss);', "val loss"),
    ],
)
def test_a_metric_in_the_middle_of_a_line_is_found(
    repository: Callable[..., LabKit], printed: str, primary: str
) -> None:
    kit = repository(train__py=f"# AUTOLAB_SEED\n{printed}\n")
    told = guessed(kit)
    assert config(kit).metric.primary == primary and f"`{primary}` before a NUMBER" in told


# guesses


@pytest.mark.process
@pytest.mark.parametrize(
    ("printed", "primary", "direction"),
    [
        ('print(f"val_loss: {x:.4f}")', "val_loss", "minimize"),
        ('print("test_accuracy: %.3f" % x)', "test_accuracy", "maximize"),
        ('print("error_rate:", x)', "error_rate", "minimize"),
        ("sys.stdout.write('macro-F1: {}'.format(x))", "macro-F1", "maximize"),
        ('echo "perplexity: $x"', "perplexity", "minimize"),
        ('printf "\\nscore: %s" x', "score", "maximize"),
    ],
)
def test_the_metric_is_read_off_the_line_that_prints_it(
    repository: Callable[..., LabKit], printed: str, primary: str, direction: str
) -> None:
    kit = repository(train__py=f'# AUTOLAB_SEED\n{printed}\nprint(f"seconds: {{y}}")\n')
    guessed(kit)
    metric = config(kit).metric
    assert (metric.primary, metric.direction) == (primary, direction)


@pytest.mark.process
def test_what_goes_to_the_error_stream_is_no_metric(repository: Callable[..., LabKit]) -> None:
    kit = repository(train__py='logger.info(f"val_loss: {x}")\nprint(f"accuracy: {y}", file=sys.stderr)\n')
    assert "--metric: no metric was found" in refused(kit)


LOSSES = 'print(f"train_loss: {a}")\nprint(f"val_loss: {b}")\nprint(f"steps: {c}")\n'


@pytest.mark.process
@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("print(1)\n", {}, "--metric: no metric was found; name the one that decides, such as --metric val_loss"),
        (LOSSES, {}, "--metric: train.py prints train_loss, val_loss; name the one that decides"),
        ("", {"metric": "goodness"}, "--direction: goodness does not say which way is good; give minimize or maximize"),
        ("", {"metric": "error_score"}, "--direction: error_score does not say"),
        ("", {"metric": "loss", "delta": -1.0}, "--delta: -1 is not a positive number"),
        ("", {"metric": "loss", "data": ("nowhere",)}, "--data: nowhere: no such file or folder"),
        ("", {"train_command": "python trian.py"}, "--train-command: trian.py: not in the last commit"),
        ("", {"train_command": "python -m pkg.train"}, "--train-command: pkg.train: not in the last commit"),
        ("", {"train_command": "python"}, "--train-command: no script is named"),
        (
            "",
            {"train_command": "make x && ./x"},
            "--train-command: && is for a shell, and none runs the command; write",
        ),
        ("", {"train_command": "julia-9 notes.md"}, "--train-command: julia-9: no such program"),
        ("", {"train_command": "./train.py"}, "--train-command: ./train.py: not a committed program that may be run"),
        ("", {"train_command": "python 'train.py"}, "No closing quotation"),
    ],
)
def test_what_cannot_be_guessed_is_asked_in_one_line(
    repository: Callable[..., LabKit], text: str, options: dict[str, Any], said: str
) -> None:
    assert said in refused(repository(train__py=text), **options)


@pytest.mark.process
def test_a_refusal_is_one_line_and_wrong_flags_are_usage(repository: Callable[..., LabKit]) -> None:
    kit = repository(train__py="print(1)\n")
    for words, said in (
        (["--from-existing", "--probe-seconds", "0"], "--metric: no metric was found"),
        (["lab", "--metric", "loss"], "go with --from-existing"),
        (["--from-existing", "--template", "empty"], "leave --template and --fork out"),
    ):
        made = kit.autolab("init", *words)
        assert (made.code, made.out) == (2, "") and said in made.err and made.err.count("\n") == 1, made.err
    assert not (kit.root / "lab").exists() and not (kit.root / ".autolab").exists()


@pytest.mark.process
def test_a_script_that_ignores_the_seed_is_told_what_to_add_and_why(repository: Callable[..., LabKit]) -> None:
    told = guessed(repository(train__py='print(f"val_loss: {1}")\n'))
    (line,) = [line for line in told.splitlines() if "AUTOLAB_SEED" in line]
    assert line.startswith("note: train.py never reads AUTOLAB_SEED")
    assert 'SEED = int(os.environ.get("AUTOLAB_SEED", "0"))' in line and "a gain cannot be told from chance" in line


@pytest.mark.process
def test_the_repositorys_own_interpreter_is_taken(repository: Callable[..., LabKit]) -> None:
    kit = repository(__gitignore=".venv\n")
    (kit.root / ".venv" / "bin").mkdir(parents=True)
    (kit.root / ".venv" / "bin" / "python").symlink_to(sys.executable)
    told = guessed(kit, train_command="uv run train.py")
    assert "python                .venv/bin/python  (the repository's own)" in told
    assert (config(kit).python, config(kit).train.command) == (".venv/bin/python", "{python} train.py")


@pytest.mark.process
@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"setup.py": "from setuptools import setup\nsetup(ext_modules=[1])\n"}, "setup.py: ext_modules: "),
        ({"setup.py": "setup(ext=cythonize('a.pyx'))\n"}, "setup.py: cythonize: "),
        ({"pyproject.toml": '[build-system]\nbuild-backend = "mesonpy"\n'}, "build-system: mesonpy: "),
        ({"pyproject.toml": '[build-system]\nrequires = ["setuptools", "Cython>=3"]\n'}, "build-system: Cython>=3: "),
        (
            {"pyproject.toml": '[build-system]\nbuild-backend = "scikit_build_core.build"\n'},
            "scikit_build_core.build: ",
        ),
        ({"pyproject.toml": '[build-system]\nbuild-backend = "maturin"\n'}, "build-system: maturin: "),
        ({"own/fast.pyx": "x\n"}, "own/fast.pyx: "),
        ({"setup.py": "from setuptools import setup\nsetup()\n"}, ""),
        ({"pyproject.toml": '[build-system]\nbuild-backend = "hatchling.build"\n'}, ""),
        ({"pyproject.toml": "not toml ["}, ""),
    ],
)
def test_a_package_that_must_be_compiled_is_said_with_the_way_out(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    told = guessed(make(tmp_path / "mine", FILES | files))
    lines = [line for line in told.splitlines() if "has to be compiled" in line]
    assert len(lines) == bool(said)
    for line in lines:
        assert line.startswith("note: ") and said in line and "--python /path/to/env/bin/python" in line


@pytest.mark.process
def test_a_built_library_beside_committed_code_is_said_too(repository: Callable[..., LabKit]) -> None:
    kit = repository(__gitignore="*.so\n")
    (kit.root / "fast.cpython-311-x86_64-linux-gnu.so").touch()
    assert "note: fast.cpython-311-x86_64-linux-gnu.so: the package has to be compiled" in guessed(kit)


@pytest.mark.process
def test_an_interpreter_that_is_given_is_the_trials(repository: Callable[..., LabKit]) -> None:
    kit = repository()
    assert "--python: none: no such program" in refused(kit, python=Path("none"))
    told = adopted(kit, "--python", sys.executable)
    assert f"python                {sys.executable}  (given)" in told
    assert config(kit).python == sys.executable


@pytest.mark.process
def test_what_is_read_below_the_home_folder_gets_home(repository: Callable[..., LabKit]) -> None:
    kit = repository(prepare__py='import os\nCACHE = os.path.expanduser("~/.cache/mine")\n')
    guessed(kit)
    assert config(kit).train.env == ("HOME",)


@pytest.mark.process
def test_a_table_of_the_labs_own_form_is_used_as_it_is(repository: Callable[..., LabKit]) -> None:
    columns = "commit iteration run arm n metric value ci_low ci_high verdict status memory_gb seconds description"
    kit = repository(results__tsv="\t".join(columns.split()) + "\n", program__md="# Mine\n")
    guessed(kit)
    assert config(kit).files.table == "results.tsv"


@pytest.mark.process
def test_files_of_the_same_name_stay_and_are_named(repository: Callable[..., LabKit]) -> None:
    kit = repository(FINDINGS__md="What I found.\n")
    told = guessed(kit)
    assert "note: FINDINGS.md is yours; the lab's entries will go above what it holds" in told
    assert (kit.root / "FINDINGS.md").read_text() == "What I found.\n"
    assert (kit.root / "program.md").read_text() == FILES["program.md"]


@pytest.mark.process
def test_a_repository_without_documents_gets_them_and_nothing_is_staged(tmp_path: Path) -> None:
    kit = make(tmp_path / "mine", {"src/train.py": TRAIN, "data/set.txt": "1\n"})
    told = guessed(kit, train_command="python src/train.py --fast", data=(str(kit.root / "data"),))
    found = config(kit)
    assert (found.data, found.files.frozen, found.files.table) == (
        *("data", ("program.md", "meta_journal.md"), "results.tsv"),
    )
    assert found.train.command == "{python} src/train.py --fast" and "src/train.py prints it" in told
    program = (kit.root / "program.md").read_text()
    assert "val_bpb (lower is better)" in program and "`src/train.py`" in program
    shown = kit.git("status", "--porcelain").splitlines()
    assert shown and all(line.startswith("?? ") for line in shown)
    assert "state.json" not in kit.git("status", "--porcelain", "--untracked-files=all")


# what cannot be adopted


@pytest.mark.process
def test_a_repository_that_is_not_ready_is_refused_with_the_way_out(repository: Callable[..., LabKit]) -> None:
    kit = repository()
    (kit.root / "train.py").write_text(TRAIN + "# changed\n")
    (kit.root / "new.py").write_text("untracked\n")
    assert "train.py: changed since the last commit" in refused(kit)
    kit.git("add", "train.py")
    assert "train.py: changed since the last commit" in refused(kit)
    kit.git("commit", "--quiet", "--message", "more")
    kit.git("switch", "--quiet", "--detach")
    assert "HEAD is detached" in refused(kit)
    kit.git("switch", "--quiet", "main")
    sub = LabKit(kit.root / "src", kit.counter)
    sub.root.mkdir()
    assert "src: git does not hold this folder of " in refused(sub)
    kit.git("worktree", "add", "--quiet", "../tree")
    assert "adopt the main checkout" in refused(LabKit(kit.root.parent / "tree", kit.counter))
    assert "note: not committed, so trials do not see: new.py" in guessed(kit)
    assert "is a lab already" in refused(kit)


@pytest.mark.process
def test_no_repository_and_no_commit(tmp_path: Path) -> None:
    kit = LabKit(tmp_path / "plain", tmp_path / "count.txt")
    kit.root.mkdir()
    (kit.root / "train.py").write_text(TRAIN)
    assert "not a git repository; run `git init` there" in refused(kit)
    kit.git("init", "--quiet")
    assert "has no commit yet" in refused(kit)


@pytest.mark.process
def test_a_link_that_leads_out_is_refused(repository: Callable[..., LabKit]) -> None:
    kit = repository()
    os.symlink("/etc", kit.root / "etc")
    kit.git("add", "--all")
    kit.git("commit", "--quiet", "--message", "a link")
    assert "the link etc leads out of it" in refused(kit)


@pytest.mark.process
def test_a_folder_in_which_a_lab_keeps_its_record_is_refused(repository: Callable[..., LabKit]) -> None:
    assert "experiments: the repository has it" in refused(repository(**{"experiments/one__py": "1\n"}))


@pytest.mark.process
def test_killed_in_between_the_same_command_goes_on(
    repository: Callable[..., LabKit], monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = repository()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lab_files, "policy_text", killed)
        with pytest.raises(KeyboardInterrupt):
            adopt.adopt(kit.root, AdoptionRequest(), 1, lambda line: None)
    assert not (kit.root / ".autolab" / "config.yaml").exists()
    guessed(kit)
    assert kit.autolab("verify").out == "all is well\n"
