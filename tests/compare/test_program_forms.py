"""Programs of three forms, compared as they are: a configurator, dotted flags, a C program.

Miniatures: each follows how a well-known repository takes its settings, seed and data, and trains for milliseconds.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from adoption_kit import repository
from lab_kit import Finished, LabKit

pytestmark = pytest.mark.process

STEPS = """\
    weight = 5.0
    for step in range(15):
        weight -= {rate} * (2 * weight + random.gauss(0, 0.2))
    print(f"step {{step}}: train loss {{weight ** 2:.4f}}, val loss {{abs(weight) + random.gauss(2, 0.02):.4f}}")
"""
CONFIGURED = {
    # Settings are globals; files and --key=value of the command line change them. The data is not in git.
    "train.py": """\
import random
learning_rate = 0.1
dataset = 'tiny'
exec(open('configurator.py').read())
random.seed(1337)
rows = open(f'data/{dataset}/rows.txt').read()
if rows:
"""
    + STEPS.format(rate="learning_rate"),
    "configurator.py": """\
import sys
for word in sys.argv[1:]:
    if word.startswith('--'):
        key, value = word[2:].split('=')
        assert key in globals(), f'unknown setting: {key}'
        globals()[key] = type(globals()[key])(value)
    else:
        exec(open(word).read())
""",
    "config/tiny.py": "learning_rate = 0.01\n",
    ".gitignore": "data/tiny\n",
}
DOTTED = {
    # The program lies two folders below the package that it imports; flags are --group.key=value.
    "toynet/__init__.py": "",
    "toynet/config.py": """\
import sys
class Settings:
    def merge(self):
        for word in sys.argv[1:]:
            key, value = word.removeprefix('--').split('=')
            *groups, name = key.split('.')
            group = self
            for part in groups:
                group = getattr(group, part)
            setattr(group, name, type(getattr(group, name))(value))
""",
    "projects/sums/sums.py": """\
import random
from toynet.config import Settings
settings = Settings()
settings.system = Settings()
settings.system.seed = 3407
settings.trainer = Settings()
settings.trainer.learning_rate = 0.01
settings.trainer.batch_size = 8
settings.merge()
random.seed(settings.system.seed)
if True:
"""
    + STEPS.format(rate="settings.trainer.learning_rate"),
}
COMPILED = {
    "train.c": """\
#include <stdio.h>
#include <stdlib.h>
int main(void) {
    srand(1337);
    float weight = 5.0f;
    float learning_rate = 0.01f;
    for (int step = 0; step < 15; step++) {
        weight -= learning_rate * (2 * weight + 0.2f * rand() / RAND_MAX);
    }
    printf("val loss %f\\n", weight + 0.02f * rand() / RAND_MAX);
    return 0;
}
""",
    "Makefile": "train: train.c\n\tcc -O1 -o train train.c\n",
    ".gitignore": "train\n",
}


@dataclass(frozen=True)
class ProgramForm:
    """A repository, its training command, and what is planted: the file and the text whose 0.01 becomes 0.2.

    `setting` is the same gain as a setting; None: the program gets no flags.
    """

    files: dict[str, str]
    command: str
    planted: str
    line: str
    setting: str | None


FORMS = {
    "configurator": ProgramForm(
        CONFIGURED,
        "python train.py config/tiny.py --dataset=tiny",
        "config/tiny.py",
        "learning_rate = 0.01",
        "learning_rate=0.2",
    ),
    "dotted flags": ProgramForm(
        DOTTED,
        "python projects/sums/sums.py --trainer.batch_size=4",
        "projects/sums/sums.py",
        "learning_rate = 0.01",
        "trainer.learning_rate=0.2",
    ),
    "C": ProgramForm(COMPILED, "sh -c 'make train && ./train'", "train.c", "learning_rate = 0.01", None),
}


def compare(kit: LabKit, *words: str) -> Finished:
    return kit.autolab("compare", *words, "--plain")


def answer(ended: Finished) -> str:
    (line,) = [line for line in ended.out.split("\n") if ": val loss " in line and " -> " in line]
    return line.partition(":")[0]


def state_of(kit: LabKit) -> dict[str, str]:
    """The bytes of each file of the checkout, and what git says of it."""
    state = {}
    for path in sorted(kit.root.rglob("*")):
        name = path.relative_to(kit.root)
        if path.is_file() and name.parts[0] != ".git":
            state[str(name)] = hashlib.sha256(path.read_bytes()).hexdigest()
    for words in (
        ("status", "--porcelain", "--ignored"),
        ("ls-files", "--stage"),
        ("branch", "--all"),
        ("stash", "list"),
    ):
        state[" ".join(words)] = kit.git(*words)
    return state


def write_data(kit: LabKit) -> None:
    """Data that git ignores."""
    (kit.root / "data" / "tiny").mkdir(parents=True)
    (kit.root / "data" / "tiny" / "rows.txt").write_text("1\n")


def patch_of(kit: LabKit, name: str, text: str) -> str:
    """A change of one file as a patch beside the checkout, which stays as it is."""
    path = kit.root / name
    before = path.read_text()
    path.write_text(text)
    patch = kit.root.parent / "gain.patch"
    patch.write_text(kit.git("diff"))
    path.write_text(before)
    return str(patch)


@pytest.mark.parametrize("name", FORMS)
def test_a_planted_gain_is_better_and_a_comment_is_no_gain_as_the_repository_is(name: str, tmp_path: Path) -> None:
    form = FORMS[name]
    if name == "C" and not (shutil.which("cc") and shutil.which("make")):
        pytest.skip("needs cc and make")
    kit = repository(tmp_path / "theirs", form.files)
    if form.files is CONFIGURED:
        write_data(kit)
    planted = form.files[form.planted]
    gain = patch_of(kit, form.planted, planted.replace(form.line, form.line.replace("0.01", "0.2")))
    before = state_of(kit)
    ended = compare(kit, "--train-command", form.command, "--patch", gain)
    assert (ended.code, answer(ended)) == (0, "better"), ended.out + ended.err
    # The program itself showed metric, seed, data and the folder of its own modules.
    assert "metric.primary        val loss  (" in ended.out
    assert "another seed, another result" in ended.out
    again = compare(kit, "--train-command", form.command, "--patch", gain)
    assert (again.code, answer(again)) == (0, "better"), again.out + again.err
    assert "looking at" not in again.out and "completed in" not in again.out
    assert state_of(kit) == before
    mark = "//" if form.planted.endswith(".c") else "#"
    (kit.root / form.planted).write_text(f"{planted}{mark} a comment\n")
    before = state_of(kit)
    ended = compare(kit)
    assert (ended.code, answer(ended)) == (5, "no gain"), ended.out + ended.err
    assert "the same output in every pair" in ended.out
    assert state_of(kit) == before
    ended = compare(kit, "--set", form.setting or "rate=0.2")
    if form.setting is None:
        assert ended.code == 2 and "--set: the training command is a line for a shell" in ended.err, ended.err
    else:
        assert (ended.code, answer(ended)) == (0, "better"), ended.out + ended.err


def test_a_worktree_is_compared_with_the_data_of_its_main_checkout(tmp_path: Path) -> None:
    kit = repository(tmp_path / "theirs", CONFIGURED)
    write_data(kit)
    kit.git("worktree", "add", "--quiet", str(tmp_path / "tree"))
    tree = LabKit(tmp_path / "tree", kit.counter)
    (tree.root / "config" / "tiny.py").write_text("learning_rate = 0.2\n")
    before = state_of(kit), state_of(tree)
    ended = compare(tree, "--train-command", FORMS["configurator"].command)
    assert (ended.code, answer(ended)) == (0, "better"), ended.out + ended.err
    assert "data/tiny/rows.txt: not in this worktree; git does not hold it" in ended.out
    # What was found holds in the main checkout too.
    ended = compare(kit, "--set", "learning_rate=0.01001", "--budget", "1 trial")
    assert ended.code == 6, ended.out + ended.err
    assert (state_of(kit), state_of(tree)) == before
