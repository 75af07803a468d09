"""`autolab init --evaluator` through the command line: write, say what does not fit, put in force."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from adoption_kit import adopted, commit, repository
from lab_kit import Finished, LabKit

from autolab.adoption.evaluator_setup import text_with_evaluator
from autolab.errors import LabError
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.record import parse_yaml

TRAIN = """\
import os

import numpy as np

SEED = int(os.environ.get("AUTOLAB_SEED", "0"))
STEPS = 30
rng = np.random.default_rng(SEED)
rows = rng.normal(size=(200, 3))
labels = rows.argmax(axis=1)
weights = rng.normal(size=(3, 3)) * 0.1
for step in range(STEPS):
    shares = np.exp(rows @ weights)
    shares /= shares.sum(axis=1, keepdims=True)
    shares[np.arange(len(labels)), labels] -= 1
    weights -= 0.5 * rows.T @ shares / len(labels)
print(f"accuracy: {((rows @ weights).argmax(axis=1) == labels).mean():.4f}")
os.makedirs("out", exist_ok=True)
np.savez("out/model.npz", weights=weights)
"""
OPEN = re.compile(r"    raise NotImplementedError\(.*\)\n")
LOGITS = '    return rows @ model["weights"]\n'
ROWS = """\
    inputs = np.random.default_rng(9).normal(size=(120, 3))
    return inputs, inputs.argmax(axis=1)
"""
PAIRS = """\
import argparse, json
import numpy as np
parser = argparse.ArgumentParser()
for name in ("--predictions", "--labels", "--out"):
    parser.add_argument(name)
given = parser.parse_args()
hits = np.load(given.predictions) == np.load(given.labels)
json.dump({"accuracy": float(hits.mean())}, open(given.out, "w"))
"""


def evaluator(kit: LabKit, *words: str) -> Finished:
    return kit.autolab("init", "--evaluator", *words)


def problems(ended: Finished) -> list[str]:
    """What does not fit, in the words of a refusal of one line."""
    assert ended.code == 1 and ended.err.count("\n") == 1, ended.out + ended.err
    return re.findall(r"  does not fit: (.*)\n", ended.out)


def edit(kit: LabKit, name: str, text: str) -> None:
    path = kit.root / name
    path.write_text(OPEN.sub(lambda _: text, path.read_text()))


def make_data(kit: LabKit) -> None:
    values: dict[str, object] = {"__name__": "maker", "__file__": str(kit.root / "make_eval_data.py")}
    exec(compile((kit.root / "make_eval_data.py").read_text(), "make_eval_data.py", "exec"), values)
    values["main"]()  # type: ignore[operator]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> LabKit:
    """A lab whose three files are filled in and fit, with its short training, and no evaluator yet."""
    kit = repository(tmp_path_factory.mktemp("evaluator") / "mine", {"train.py": TRAIN, ".gitignore": "eval_data/\n"})
    adopted(kit, "--delta", "0.02")
    first = evaluator(kit)
    assert first.code == 0, first.err
    assert "model: train.py:18 saves it to out/model.npz (np.savez)\n" in first.out
    assert "written, and yours to change: predict.py, eval.py, make_eval_data.py\n" in first.out
    again = evaluator(kit)
    assert [line.partition(",")[0] for line in problems(again)] == [
        "predict.py",
        "make_eval_data.py",
        "eval_data: no evaluation data yet: python make_eval_data.py",
    ]
    assert "it left out/model.npz" in again.out and "3 things do not fit yet" in again.err
    edit(kit, "predict.py", LOGITS)
    edit(kit, "make_eval_data.py", ROWS)
    make_data(kit)
    return kit


@pytest.fixture
def filled(kept: LabKit) -> LabKit:
    """The same, put back as it was before each test."""
    backup = kept.root.with_name("backup")
    if not backup.exists():
        shutil.copytree(kept.root, backup, symlinks=True)
    names = ("predict.py", "eval.py", "eval_data", ".autolab/config.yaml")
    for name in names:
        target = kept.root / name
        if target.is_dir():
            shutil.rmtree(target)
            shutil.copytree(backup / name, target)
        else:
            shutil.copyfile(backup / name, target)
    return kept


BREAKAGES = {
    "predictions of another length": (
        "predict.py",
        LOGITS,
        '    return (rows @ model["weights"])[:-1]\n',
        "predict.py wrote 59 rows for the 60 inputs of eval_data/eval",
    ),
    "classes where scores are wanted": (
        "predict.py",
        LOGITS,
        '    return (rows @ model["weights"]).argmax(axis=1)\n',
        "give scores of the classes (60, 3); of one logit z",
    ),
    "labels that predictions cannot see": (
        "predict.py",
        LOGITS,
        '    return np.load("{root}/eval_data/eval/labels.npy")\n',
        "FileNotFoundError: [Errno 2] No such file or directory: '{root}/eval_data/eval/labels.npy'",
    ),
    "another checkpoint": (
        "predict.py",
        '"out/model.npz"',
        '"model.npy"',
        'CHECKPOINT is model.npy, and train.py saved out/model.npz: write CHECKPOINT = "out/model.npz"',
    ),
}


@pytest.mark.process
@pytest.mark.parametrize("name", BREAKAGES)
def test_what_does_not_fit_is_said_in_one_line(filled: LabKit, name: str) -> None:
    file, old, new, words = BREAKAGES[name]
    path, root = filled.root / file, str(filled.root)
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new.replace("{root}", root)))
    before = (filled.root / Config.FILE).read_bytes()
    ended = evaluator(filled)
    (problem,) = problems(ended)
    assert words.replace("{root}", root) in problem
    assert "not again: this commit's short training is still there" in ended.out
    assert (filled.root / Config.FILE).read_bytes() == before


@pytest.mark.process
def test_an_evaluator_that_compares_all_pairs_is_found_out(filled: LabKit) -> None:
    (filled.root / "eval.py").write_text(PAIRS)
    (scores,) = problems(evaluator(filled))
    assert "could not be broadcast" in scores and "take argmax(axis=-1) in predict.py" in scores
    path = filled.root / "predict.py"
    path.write_text(path.read_text().replace(LOGITS, '    return (rows @ model["weights"]).argmax(axis=1)\n'))
    (pairs,) = problems(evaluator(filled))
    assert "also if each row gets another row's prediction" in pairs and "predictions[:, 0]" in pairs


@pytest.mark.process
def test_data_that_does_not_fit_is_said_all_at_once(filled: LabKit) -> None:
    data = filled.root / "eval_data"
    np.save(data / "eval" / "labels.npy", np.load(data / "eval" / "labels.npy")[:50])
    np.save(data / "holdout" / "labels.npy", np.array(["a"] * 60))
    (data / "holdout" / "inputs.npy").unlink()
    assert problems(evaluator(filled)) == [
        "eval_data/eval: labels.npy has 50 rows, inputs.npy 60: a label for each input, in their order",
        "eval_data/holdout/inputs.npy: not found: python make_eval_data.py makes it",
        "eval_data/holdout/labels.npy: <U1 is no type of numbers: save an array of numbers",
    ]
    for name in ("inputs", "labels"):
        np.save(data / "eval" / f"{name}.npy", np.arange(60))
        np.save(data / "holdout" / f"{name}.npy", np.arange(60))
    assert "the holdout has the inputs of the evaluation" in problems(evaluator(filled))[-1]


@pytest.mark.process
def test_what_fits_is_put_in_force_and_the_rest_of_the_configuration_stays(filled: LabKit) -> None:
    path = filled.root / Config.FILE
    text = path.read_text() + "# my own words\nbudget: {iterations: 7}"
    path.write_text(text)
    # Labels as [n, 1], booleans or 3.0 mean the same.
    labels = filled.root / "eval_data" / "eval" / "labels.npy"
    np.save(labels, np.load(labels)[:, None].astype(float))
    done = evaluator(filled)
    assert done.code == 0, done.out + done.err
    added = path.read_text()
    assert added.startswith(text + "\n# Added by `autolab init --evaluator`: eval.py measures")
    config = Config.from_text(added, Config.FILE)
    assert config.predict is not None and config.evaluate is not None and config.budget.iterations == 7
    assert (config.predict.command, config.predict.model) == ("{python} predict.py", "out/model.npz")
    assert (config.evaluate.eval, config.evaluate.holdout) == ("eval_data/eval", "eval_data/holdout")
    assert "predict.py wrote float64 (60, 3)" in done.out
    assert re.search(
        r"metric of record: accuracy, by eval.py: 0\.\d+ on the evaluation, 0\.\d+ on the holdout", done.out
    )
    assert "next: git add predict.py eval.py && git commit" in done.out
    assert not (filled.root / ".git" / "autolab.evaluator").exists()
    commit(filled, {})
    # What is in force is checked again; it is committed, and so it is ready to be measured.
    again = evaluator(filled)
    assert again.code == 0 and "the lab has an evaluator" in again.out and path.read_text() == added
    assert again.out.endswith("next: autolab calibrate\n")


EVALUATED = {
    "predict": {"command": "{python} predict.py", "time_limit_s": 600},
    "evaluate": {"holdout": "data/holdout"},
}
METRIC = "metric: {primary: loss, direction: minimize, success_delta: 1}"


@pytest.mark.parametrize("text", [METRIC, f"{METRIC} # mine\n", f"---\n# mine\n{METRIC}\nbudget:\n  iterations: 3\n"])
def test_lines_are_added_at_the_end(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    evaluated = Config.from_value(parse_yaml(text, "config.yaml")[0] | EVALUATED, Config.FILE)
    added = text_with_evaluator(tmp_path / "config.yaml", evaluated, print)
    assert added.startswith(text) and Config.from_text(added, Config.FILE) == evaluated


@pytest.mark.parametrize("text", ["{" + METRIC + "}\n", f"{METRIC}\npredict: null\n", f"{METRIC}\n...\n"])
def test_lines_are_printed_where_none_can_be_added(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    evaluated = Config.from_value(Config.from_text(text, Config.FILE).value() | EVALUATED, Config.FILE)
    printed: list[str] = []
    with pytest.raises(LabError, match=r"lines cannot be added at its end.*by hand"):
        text_with_evaluator(tmp_path / "config.yaml", evaluated, printed.append)
    assert any(line.startswith("  evaluate: {script: ") for line in printed)


@pytest.mark.process
def test_a_folder_that_is_no_lab_and_options_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {"train.py": "print(1)\n"})
    ended = evaluator(kit)
    assert ended.code == 1 and "no lab yet; first autolab init --from-existing, then" in ended.err
    for words, reason in (
        (("--metric", "x"), "with --evaluator go --model, --checkpoint and --probe-seconds"),
        (("--from-existing",), "first init --from-existing, then this"),
        (("--probe-seconds", "0"), "the training has to run once"),
    ):
        ended = evaluator(kit, *words)
        assert ended.code == 2 and reason in ended.err
    ended = kit.autolab("init", "--from-existing", "--model", "net:Net")
    assert ended.code == 2 and "--model and --checkpoint go with --evaluator" in ended.err


@pytest.mark.process
def test_a_training_that_fails_or_saves_nothing_is_said_with_its_error(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {"train.py": "print(f'accuracy: {0.5}')\n"})
    adopted(kit)
    evaluator(kit)
    assert "train.py: the training saved no file: let it save its model" in "\n".join(problems(evaluator(kit)))
    commit(kit, {"train.py": "raise OSError('no such luck')\n"})
    assert "train.py: the training exited with status 1: OSError: no such luck" in "\n".join(problems(evaluator(kit)))
    commit(kit, {"train.py": "import time\nopen('net.pt', 'w').write('x')\ntime.sleep(60)\n"})
    slow = evaluator(kit, "--probe-seconds", "2")
    assert "it left net.pt" in slow.out and "CHECKPOINT is model.npz, and train.py saved net.pt" in slow.out
