"""How programs of many forms take their seed: what is found in their sources, and that trials then differ by it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from lab_kit import LabKit
from test_adopt import adopted, answers, config, loop, make

from autolab.adoption.program_seed import ProgramSeed, find_seed
from autolab.adoption.repository import Repository
from autolab.adoption.training_program import find_program
from autolab.lab.git import Git
from autolab.lab.schemas.config import Train


@dataclass(frozen=True)
class CommittedFiles:
    """Of git, what the search asks for: every file of a folder is committed."""

    root: Path

    def files(self, _: str) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())

    def has_path(self, _: str, path: str) -> str | None:
        return "id" if (self.root / path).exists() else None

    def text(self, _: str, path: str) -> str | None:
        file = self.root / path
        return file.read_text() if file.is_file() else None


def found(root: Path, files: dict[str, str], command: str = "python train.py") -> ProgramSeed:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    repository = Repository(root, cast(Git, CommittedFiles(root)), "head", ())
    return find_seed(repository, find_program(repository, command))


ARGPARSE = "import argparse\np = argparse.ArgumentParser()\n"
HYDRA = "import hydra\n@hydra.main(version_base=None, config_path='conf', config_name='base')\ndef main(cfg): ...\n"
FIELDS = "from dataclasses import dataclass\n@dataclass\nclass Args:\n    lr: float = 1\n    seed: int = 1\n"
FLAGS: dict[str, tuple[dict[str, str] | str, str]] = {
    "argparse": (ARGPARSE + "p.add_argument('-s', '--seed', type=int, default=1)\n", "--seed {seed}"),
    "argparse, other name": (ARGPARSE + "p.add_argument('--manualSeed', type=int)\n", "--manualSeed {seed}"),
    "argparse, one dash": (ARGPARSE + "p.add_argument('-seed', type=int)\n", "-seed {seed}"),
    "argparse in an imported module": (
        {
            "train.py": "from lib.options import parse\n",
            "lib/options.py": ARGPARSE + "p.add_argument('--random-seed')\n",
        },
        "--random-seed {seed}",
    ),
    "click": (
        "import click\n@click.command()\n@click.option('--seed', default=1)\ndef main(seed): ...\n",
        "--seed {seed}",
    ),
    "absl": ("from absl import flags\nflags.DEFINE_integer('seed', 0, 'the seed')\n", "--seed {seed}"),
    "tyro, a dataclass": (f"import tyro\n{FIELDS}args = tyro.cli(Args)\n", "--seed {seed}"),
    "tyro, a dataclass within one": (
        f"import tyro\n{FIELDS}class All:\n    train_args: Args\ntyro.cli(All)\n",
        "--train-args.seed {seed}",
    ),
    "tyro, a function": (
        "import tyro\ndef main(lr: float, random_seed: int): ...\ntyro.cli(main)\n",
        "--random-seed {seed}",
    ),
    "typer": ("import typer\ndef main(lr: float = 1, seed: int = 1): ...\ntyper.run(main)\n", "--seed {seed}"),
    "typer, a command": (
        "import typer\napp = typer.Typer()\n@app.command()\ndef main(seed: int = typer.Option(1, '--the-seed')): ...\n",
        "--the-seed {seed}",
    ),
    "fire": ("import fire\ndef main(seed=1): ...\nfire.Fire(main)\n", "--seed={seed}"),
    "transformers": ("a = HfArgumentParser((Model, TrainingArguments))\n", "--seed {seed}"),
    "Lightning": ("cli = LightningCLI(Model)\n", "--seed_everything {seed}"),
    "pyrallis": (f"import pyrallis\n{FIELDS}@pyrallis.wrap()\ndef main(args: Args): ...\n", "--seed {seed}"),
    "Hydra": ({"train.py": HYDRA, "conf/base.yaml": "lr: 1\nseed: 1\n"}, "seed={seed}"),
    "Hydra, below a key": (
        {"train.py": HYDRA, "conf/base.yaml": "data: {seed: 1}\nrun: {seed: 2}\n"},
        "run.seed={seed}",
    ),
    "Hydra, a group": (
        {"train.py": HYDRA, "conf/base.yaml": "defaults: [{trainer: a}, _self_]\n", "conf/trainer/a.yaml": "seed: 1\n"},
        "trainer.seed={seed}",
    ),
    "Hydra, no key yet": (
        {"train.py": HYDRA.replace("...", "") + "    print(cfg.get('seed', 1))\n", "conf/base.yaml": "lr: 1\n"},
        "+seed={seed}",
    ),
    "Hydra, structured": (
        "import hydra\n" + FIELDS + "cs.store(name='base', node=Args)\n" + HYDRA,
        "seed={seed}",
    ),
    "a configurator": ("seed = 1\nexec(open('configurator.py').read())\n", "--seed={seed}"),
}


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_is_added_to_the_command(name: str, tmp_path: Path) -> None:
    files, words = FLAGS[name]
    seed = found(tmp_path, files if isinstance(files, dict) else {"train.py": files})
    assert (seed.how, seed.command) == ("flag", f"{{python}} train.py {words}")
    assert seed.reason.startswith("train.py takes the seed ")


COMMANDS = {
    "python train.py --seed 42": "{python} train.py --seed {seed}",
    "python train.py --seed=42 --lr 1": "{python} train.py --seed={seed} --lr 1",
    "python train.py trainer.seed=42": "{python} train.py trainer.seed={seed}",
    "env SEED=42 python train.py": "env SEED={seed} {python} train.py",
    "python train.py --data_seed 1 --seed {seed}": "{python} train.py --data_seed 1 --seed {seed}",
    "python train.py 'seed={seed}'": "{python} train.py seed={seed}",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_seed_in_the_command_itself_comes_first(command: str, tmp_path: Path) -> None:
    seed = found(tmp_path, {"train.py": ARGPARSE + "p.add_argument('--seed')\n"}, command)
    assert (seed.how, seed.command) == ("flag", COMMANDS[command])


VARIABLES = {
    "subscript": ("train.py", 'import os\nseed = int(os.environ["SEED"])\n', "SEED"),
    "get": ("train.py", 'from os import environ\nseed = int(environ.get("MY_SEED", 1))\n', "MY_SEED"),
    "getenv": ("train.py", 'import os\nseed = int(os.getenv("SEED", "1"))\n', "SEED"),
    "shell": ("train.sh", 'awk -v seed="${SEED:-0}" 1\n', "SEED"),
    "shell, plain": ("train.sh", "train --lr 1 -s $RNG_SEED\n", "RNG_SEED"),
    "C": ("train.c", 'srand(atoi(getenv("SEED")));\n', "SEED"),
    "Julia": ("train.jl", 'Random.seed!(parse(Int, ENV["SEED"]))\n', "SEED"),
}


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_is_set_in_front_of_the_command(name: str, tmp_path: Path) -> None:
    file, text, variable = VARIABLES[name]
    seed = found(tmp_path, {file: text, "train.sh": f"cc {file}\n{text if file == 'train.sh' else ''}"}, "sh train.sh")
    if file.endswith(".py"):
        seed = found(tmp_path, {}, f"python {file}")
    command = "{python} train.py" if file.endswith(".py") else "sh train.sh"
    assert (seed.how, seed.command) == ("environment", f"env {variable}={{seed}} {command}")


CONSTANTS: dict[str, tuple[dict[str, str] | str, list[str]]] = {
    "a name": ("SEED = 42\nlr = 1\nimport torch\ntorch.manual_seed(SEED)\n", ["train.py: SEED = {seed}"]),
    "a type": ("seed: int = 1337\n", ["train.py: seed: int = {seed}"]),
    "an attribute": ("args.seed = 3\n", ["train.py: args.seed = {seed}"]),
    "a dictionary": ('config = {"lr": 1, "seed": 3}\n', ['train.py: "seed": {seed}']),
    "torch": ("torch.manual_seed(1337)\n", ["train.py: torch.manual_seed({seed}"]),
    "nanoGPT": (
        "exec(open('configurator.py').read())\ntorch.manual_seed(1337 + seed_offset)\n",
        ["train.py: torch.manual_seed({seed}"],
    ),
    "a later summand": ("torch.manual_seed(rank + 1337)\n", ["train.py: torch.manual_seed(rank + {seed}"]),
    "all of them": (
        "random.seed(0)\nnp.random.seed(0); torch.cuda.manual_seed_all(0)\n",
        [
            "train.py: random.seed({seed}",
            "train.py: np.random.seed({seed}",
            "train.py: torch.cuda.manual_seed_all({seed}",
        ],
    ),
    "in one line": (
        "set_seed(3407) if x else set_seed(3407)\n",
        [],
    ),
    "twice": ("if a:\n    set_seed(1)\nelse:\n    set_seed(1)\n", ["train.py: set_seed({seed}"]),
    "transformers": ("from transformers import set_seed\nset_seed(3407)\n", ["train.py: set_seed({seed}"]),
    "JAX": ("key = jax.random.PRNGKey(0)\n", ["train.py: jax.random.PRNGKey({seed}"]),
    "JAX, typed key": ("key = jax.random.key(42)\n", ["train.py: jax.random.key({seed}"]),
    "JAX, key by its name": ("key = jax.random.key(seed=42)\n", ["train.py: seed={seed}"]),
    "Flax": ("rngs = nnx.Rngs(0)\n", ["train.py: nnx.Rngs({seed}"]),
    "a generator": ("rng = np.random.default_rng(seed=0)\n", ["train.py: seed={seed}"]),
    "random.Random": ("rng = random.Random(5)\n", ["train.py: random.Random({seed}"]),
    "scikit-learn": (
        "a, b = train_test_split(x, random_state=1)\nModel(n=3, random_state=0).fit(a)\n",
        ["train.py: Model(n=3, random_state={seed}"],
    ),
    "not that of the data": ("DATA_SEED = 1\nrandom_split(d, generator=torch.Generator().manual_seed(1))\n", []),
    "not that of a dataset": (
        "class SumsDataset:\n    rng.manual_seed(1337)\ndef evaluate(seed=1): ...\nset_seed(1)\n",
        ["train.py: set_seed({seed}"],
    ),
    "a default": ("def fix(seed: int = 42):\n    torch.manual_seed(seed)\nfix()\n", ["train.py: seed: int = {seed}"]),
    "an imported constant": (
        {"train.py": "from settings import SEED\n", "settings.py": "SEED = 1\n"},
        ["settings.py: SEED = {seed}"],
    ),
    "an imported package": (
        {
            "train.py": "from lib import train\n",
            "lib/__init__.py": "",
            "lib/train.py": "from .seeds import f\n",
            "lib/seeds.py": "torch.manual_seed(1)\n",
        },
        ["lib/seeds.py: torch.manual_seed({seed}"],
    ),
    "YAML": (
        {
            "train.py": "import yaml\nc = yaml.safe_load(open('conf/a.yaml'))\n",
            "conf/a.yaml": "lr: 1\ndata_seed: 2\nseed: 42 # x\n",
        },
        ["conf/a.yaml: seed: {seed}"],
    ),
    "JSON": ({"train.py": "open('a.json')\n", "a.json": '{"seed": 42, "lr": 1}\n'}, ['a.json: "seed": {seed}']),
    "a tab": ("if x:\n\tSEED\t=\t1\n", ["train.py: SEED\t=\t{seed}"]),
    "a line that cannot be told": ('train_test_split(d, seed=1)\nf(f"{seed}", seed=1)\ng("\u200b", seed=1)\n', []),
    "a line of its own": ("set_seed(\n    1\n)\n", []),
    "a comment is none": ("# SEED = 42\n", []),
    "no number": ("seed = time.time()\ntorch.manual_seed(seed)\ntorch.manual_seed(1.5)\n", []),
    "a flag": ("torch.manual_seed(True)\n", []),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_of_python_are_found_and_no_other_line(name: str, tmp_path: Path) -> None:
    files, constants = CONSTANTS[name]
    seed = found(tmp_path, files if isinstance(files, dict) else {"train.py": files})
    assert [str(constant) for constant in seed.constants] == constants
    assert (seed.how, seed.command) == ("constant" if constants else "none", "{python} train.py")
    assert Train(command=seed.command, in_copy=True, seed_constants=tuple(constants)).seed_constants == tuple(constants)


TEXTS = {
    "C": ("#define SEED 42\nint main() { srand(SEED); }\n", "#define SEED {seed}"),
    "C, a call": ("int main() {\n    srand(1);\n}\n", "srand({seed}"),
    "C++": ("std::mt19937 rng(7);\n", "mt19937 rng({seed}"),
    "Rust": ("let mut rng = StdRng::seed_from_u64(7);\n", "seed_from_u64({seed}"),
    "R": ("set.seed(7)\n", "set.seed({seed}"),
    "Julia": ("Random.seed!(7)\n", "Random.seed!({seed}"),
    "Lua": ("math.randomseed(7)\n", "math.randomseed({seed}"),
    "awk": ("BEGIN { srand(7) }\n", "srand({seed}"),
    "a shell variable": ("SEED=7\ntrain --x $SEED\n", "SEED={seed}"),
    "a shell command": ("exec train --lr 1 --seed 7\n", "--seed {seed}"),
    "a shell command, joined": ("exec train --lr 1 --seed=7 --x\n", "--seed={seed}"),
}


def test_a_seed_that_a_comment_of_c_speaks_of_is_none(tmp_path: Path) -> None:
    source = "/*\n srand(1);\n*/\nvoid f() { manual_seed(&rng, 42 + rank); if (unset) manual_seed(rng, 5489); }\n"
    (constant,) = found(tmp_path, {"run.sh": "cc train.c && ./a.out\n", "train.c": source}, "sh run.sh").constants
    assert str(constant) == "train.c: manual_seed(&rng, {seed}"


@pytest.mark.parametrize("name", TEXTS)
def test_constants_of_other_languages_are_found(name: str, tmp_path: Path) -> None:
    text, place = TEXTS[name]
    (constant,) = found(tmp_path, {"train.sh": text}, "sh train.sh").constants
    assert str(constant) == f"train.sh: {place}"


def test_a_script_leads_to_what_it_starts(tmp_path: Path) -> None:
    main = {"src/main.c": "int main() { srand(3); }\n", "py/train.py": ARGPARSE + "p.add_argument('--seed')\n"}
    (constant,) = found(tmp_path, {**main, "run.sh": "cc src/main.c && ./a.out\n"}, "sh run.sh").constants
    assert str(constant) == "src/main.c: srand({seed}"
    handed_on = found(tmp_path, {"run.sh": 'python py/train.py "$@"\n'}, "sh run.sh")
    assert handed_on.command == "sh run.sh --seed {seed}"
    assert found(tmp_path, {"run.sh": "python py/train.py\n"}, "sh run.sh").how == "none", "the flag cannot be reached"
    two = {"run.sh": "cc src/main.c src/other.c && ./a.out\n", "src/other.c": "int f() { srand(3); }\n"}
    assert found(tmp_path, two, "sh run.sh").how == "none", "which of them runs in a training is not clear"
    (constant,) = found(tmp_path, {"Makefile": "train:\n\tcc src/main.c\n"}, "make train").constants
    assert str(constant) == "src/main.c: srand({seed}"


def test_what_reads_the_seed_already_stays_as_it_is(tmp_path: Path) -> None:
    seed = found(tmp_path, {"train.py": 'SEED = 1\nimport os\nos.environ["AUTOLAB_SEED"]\n'})
    assert (seed.how, seed.command, seed.constants) == ("environment", "{python} train.py", ())


def test_a_flag_without_a_value_and_one_of_another_program_are_none(tmp_path: Path) -> None:
    other = f"if __name__ == '__main__':\n    {ARGPARSE.splitlines()[0]}\n    p.add_argument('--seed')\n"
    files = {"train.py": f"import other\n{ARGPARSE}p.add_argument('--seed', action='store_true')\n", "other.py": other}
    assert found(tmp_path, files).how == "none"


@pytest.mark.parametrize(
    ("script", "name", "how"),
    [
        ("from other import helper\ndef main(): ...\nmain()\n", "main", "none"),
        ("from other import main\nmain()\n", "main", "flag"),
        ("from lib import other\nother.main()\n", "main", "flag"),
        ("from other import helper\n", "parser_of_somebody", "none"),
        ("import other\nother.parser_of_mine()\n", "parser_of_mine", "flag"),
    ],
)
def test_a_parser_in_an_imported_module_counts_if_somebody_calls_it(
    script: str, name: str, how: str, tmp_path: Path
) -> None:
    other = f"def {name}():\n    p.add_argument('--seed')\nif __name__ == '__main__':\n    main()\n"
    files = {"train.py": script, "other.py": other, "lib/__init__.py": "", "lib/other.py": other}
    assert found(tmp_path, files).how == how


def test_a_program_that_python_cannot_read_is_read_as_text(tmp_path: Path) -> None:
    (constant,) = found(tmp_path, {"train.py": "print 'two'\nnp.random.seed(0)\n"}).constants
    assert str(constant) == "train.py: np.random.seed({seed}"


# through the command line

TRAIN = """\
import {modules}
{seed}
rng = random.Random({value})
print("val_loss:", 1 + rng.random() / 1000)
"""
PROGRAMS = {
    "flag": (
        TRAIN.format(
            modules="argparse, random",
            seed="parser = argparse.ArgumentParser()\nparser.add_argument('--seed', type=int, default=1)",
            value="parser.parse_args().seed",
        ),
        {"command": "{python} train.py --seed {seed}"},
    ),
    "constant": (
        TRAIN.format(modules="random", seed="SEED = 1337  # of everything", value="SEED"),
        {"seed_constants": ["train.py: SEED = {seed}"]},
    ),
    "environment": (
        TRAIN.format(modules="os, random", seed="", value='int(os.getenv("SEED", "1"))'),
        {"command": "env SEED={seed} {python} train.py"},
    ),
    "nothing": (TRAIN.format(modules="random", seed="", value="'always'"), {"seed_libraries": True}),
    "libraries": (TRAIN.format(modules="random", seed="", value="random.random()"), {"seed_libraries": True}),
}


def scores(kit: LabKit) -> dict[str, float]:
    """The score of each trial of the calibration, by its name."""
    (manifest,) = (kit.root / "experiments" / "calibration" / "runs").glob("*/run_manifest.json")
    return {trial["trial"]: trial["self_reported"]["val_loss"] for trial in json.loads(manifest.read_text())["trials"]}


def user_files(kit: LabKit) -> dict[str, bytes]:
    names = kit.git("ls-files").split()
    return {name: (kit.root / name).read_bytes() for name in names}


@pytest.mark.process
@pytest.mark.parametrize("how", PROGRAMS)
def test_trials_differ_by_their_seed_alone_and_the_users_files_stay(how: str, tmp_path: Path) -> None:
    text, keys = PROGRAMS[how]
    kit = make(tmp_path / "mine", {"train.py": text, "notes.md": "Mine.\n"})
    before, status = user_files(kit), kit.git("status", "--porcelain", "--", "train.py", "notes.md")
    # One that Autolab is not installed in: what its trials get of Autolab has to be given to them.
    told = adopted(kit, "--python", os.path.realpath(sys.executable))
    assert "no other seed was found" not in told
    assert ("it has no seed: random, numpy and torch are seeded" in told) == (how in ("nothing", "libraries"))
    value: dict[str, Any] = config(kit).train.value()
    assert {key: value[key] for key in keys} == keys
    calibrated = kit.autolab("calibrate")
    assert calibrated.code == 0, calibrated.err
    by_name = scores(kit)
    again = [by_name.pop(name) for name in list(by_name) if "again" in name]
    assert again == [by_name["baseline-s0"]], "the same seed gives the same"
    assert len(set(by_name.values())) == (1 if how == "nothing" else len(by_name)), by_name
    assert ("all seeds gave the same result" in calibrated.out + calibrated.err) == (how == "nothing")
    assert user_files(kit) == before and len(before) == 2
    assert kit.git("status", "--porcelain", "--", "train.py", "notes.md") == status == ""


@pytest.mark.process
def test_a_candidate_that_removed_the_constant_fails_with_one_line_and_any_other_runs(tmp_path: Path) -> None:
    kit = make(tmp_path / "mine", {"train.py": PROGRAMS["constant"][0]})
    adopted(kit, "--python", sys.executable)
    kit.git("rm", "--quiet", "--cached", "train.py")
    (kit.root / "train.py").write_text(PROGRAMS["constant"][0].replace("SEED = 1337", "SEED = 13.37"))
    kit.git("add", "train.py")
    kit.git("commit", "--quiet", "--message", "no seed any more")
    calibrated = kit.autolab("calibrate")
    assert calibrated.code == 1 and calibrated.err.count("\n") == 1
    assert "train.py: no line reads `SEED = {seed}` with an integer for {seed}" in calibrated.err
    assert "put the line back" in calibrated.err


@pytest.mark.process
@pytest.mark.parametrize("how", ["constant", "environment"])
def test_a_loop_measures_a_candidate_of_such_a_program(how: str, tmp_path: Path) -> None:
    text = PROGRAMS[how][0].replace("1 + rng", "STEP + rng") + "\n"
    kit = make(tmp_path / "mine", {"train.py": "STEP = 3\n" + text})
    before = user_files(kit)
    adopted(kit, "--python", sys.executable)
    assert "verdict: supported" in loop(kit, [answers("Smaller", "train.py", "STEP = 3", "STEP = 2", "stop")])
    assert user_files(kit) == before
    assert kit.autolab("verify").out == "all is well\n"
