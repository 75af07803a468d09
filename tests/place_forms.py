"""Repositories whose data, interpreter or code lies in different places."""

from __future__ import annotations

import sys

from forms_kit import Form, Refusal
from seed_forms import BODY

TRAIN = """\
import argparse
import random

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--rows", default="data/rows.txt")
args = parser.parse_args()
random.seed(args.seed)
with open(args.rows) as file:
    rows = [float(line) for line in file]
weight = 4.0
for row in rows * 3:
    weight -= args.lr * (weight - row + random.gauss(0, 0.005))
print(f"val_loss: {weight * weight + 0.3:.4f}")
"""
ROWS = "0.1\n-0.1\n0.2\n-0.2\n"
PREPARE = f"import os\nos.makedirs('data', exist_ok=True)\nopen('data/rows.txt', 'w').write({ROWS!r})\n"
PLAIN = TRAIN.replace(
    "with open(args.rows) as file:\n    rows = [float(line) for line in file]\n", "rows = [0.1] * 4\n"
)
OWN = PLAIN.replace("import random\n", "import random\nimport installed\n")
"""It imports a module that only an environment of its own has."""
SITE = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
FROM_PACKAGE = PLAIN.replace("import random\n", "import random\nfrom own.steps import LR\n").replace(
    "default=0.1", "default=LR"
)
STEPS = {"own/__init__.py": "", "own/steps.py": "LR = 0.1\n"}
MAKEFILE = "train: train.c\n\tcc -O1 -o train train.c\n"
PROGRAM_C = """\
#include <stdio.h>
#include <stdlib.h>

#define LR 0.1

int main(int argc, char **argv) {
    srand(42);
    double weight = 4.0;
    for (int step = 0; step < 12; step++)
        weight -= LR * (weight + 0.002 * rand() / RAND_MAX - 0.001);
    printf("val loss %.5f\\n", weight * weight + 0.3);
    return 0;
}
"""
SHELL = '#!/bin/sh\nset -e\npython train.py --rows data/rows.txt "$@"\n'


def environment(folder: str) -> dict[str, str]:
    return {f"{folder}/{SITE}/installed.py": "VALUE = 1\n"}


VENV = f"{sys.executable} -m venv --without-pip"

DATA_FORMS: dict[str, Form] = {
    "data in git": Form({"train.py": TRAIN, "data/rows.txt": ROWS}, settings={"data": None}),
    "an ignored folder of data": Form(
        {"train.py": TRAIN, ".gitignore": "data/\n"},
        settings={"data": "data"},
        ignored={"data/rows.txt": ROWS},
    ),
    "ignored data beside a readme": Form(
        {"train.py": TRAIN.replace("data/rows", "data/text/rows"), ".gitignore": "*.txt\n", "data/text/readme.md": "."},
        settings={"data": "data/text"},
        ignored={"data/text/rows.txt": ROWS},
    ),
    "data that a program makes": Form(
        {"train.py": TRAIN, "prepare.py": PREPARE, ".gitignore": "data/\n"},
        says="autolab.fetched/prepare",
        refusals=(
            Refusal(
                "",
                "does not run as a trial yet: one thing is missing, see above",
                "missing: data/rows.txt: not there: make it once, with network: autolab fetch -- python prepare.py\n",
                done=f"{sys.executable} -m autolab fetch -- python prepare.py",
            ),
        ),
    ),
    "data outside": Form(
        {"train.py": TRAIN},
        '--train-command "python train.py --rows {folder}/shared/rows.txt" --data {folder}/shared',
        {"data": "{folder}/shared"},
        refusals=(
            Refusal(
                '--train-command "python train.py --rows {folder}/shared/rows.txt"',
                "one thing is missing, see above",
                r"shared/rows.txt: a trial does not see it: name it as data: --data \S+shared\n",
            ),
        ),
        outside={"shared/rows.txt": ROWS},
    ),
}
PYTHON_FORMS: dict[str, Form] = {
    "the repository's .venv": Form(
        {"train.py": OWN, ".gitignore": ".venv\n"},
        settings={"python": ".venv/bin/python"},
        ignored=environment(".venv"),
        prepared=f"{VENV} .venv",
    ),
    "the repository's venv": Form(
        {"train.py": OWN, ".gitignore": "venv\n"},
        settings={"python": "venv/bin/python"},
        ignored=environment("venv"),
        prepared=f"{VENV} venv",
    ),
    "a Python that is named": Form(
        {"train.py": OWN},
        "--python ../elsewhere/bin/python",
        {"python": "../elsewhere/bin/python"},
        refusals=(
            Refusal("", "one thing is missing", r"has no module installed: install it there, or name .* --python"),
        ),
        outside=environment("elsewhere"),
        prepared=f"{VENV} ../elsewhere",
    ),
    "an activated environment": Form(
        {"train.py": OWN},
        settings={"python": "{folder}/active/bin/python"},
        outside=environment("active"),
        prepared=f"{VENV} ../active",
        env={"VIRTUAL_ENV": "{folder}/active"},
    ),
}
LAYOUT_FORMS: dict[str, Form] = {
    "a package below src": Form(
        {f"src/{name}": text for name, text in STEPS.items()} | {"src/own/train.py": FROM_PACKAGE},
        '--train-command "python -m own.train"',
        {"train.command": "env PYTHONPATH=src {python} -m own.train --seed {seed}"},
        says="it does not find own, which lies in this repository: PYTHONPATH=src is set for it",
    ),
    "a script in a folder": Form(
        {**STEPS, "scripts/train.py": FROM_PACKAGE},
        '--train-command "python scripts/train.py"',
        {"train.command": "env PYTHONPATH=. {python} scripts/train.py --seed {seed}"},
        says="it does not find own, which lies in this repository: PYTHONPATH=. is set for it",
    ),
    "a shell script": Form(
        {"train.py": TRAIN, "data/rows.txt": ROWS, "train.sh": SHELL},
        "--train-command ./train.sh",
        {"train.command": "./train.sh --seed {seed}", "metric.primary": "val_loss"},
    ),
    "a shell script that starts Python": Form(
        {"train.py": OWN, "train.sh": '#!/bin/sh\npython train.py "$@"\n', ".gitignore": ".venv\n"},
        "--train-command ./train.sh",
        {"train.command": "./train.sh --seed {seed}", "python": ".venv/bin/python"},
        ignored=environment(".venv"),
        prepared=f"{VENV} .venv",
    ),
    "a path of imports, and seeded libraries": Form(
        {
            "lib/own/__init__.py": "",
            "lib/own/steps.py": "LR = 0.1\n",
            "train.py": f"import random\nfrom own.steps import LR\n\nlr = LR\n{BODY}",
        },
        '--train-command "PYTHONPATH=lib python train.py"',
        {"train.command": "env PYTHONPATH=lib {python} train.py", "train.seed_libraries": True},
    ),
    "a program in C": Form(
        {"train.c": PROGRAM_C, "Makefile": MAKEFILE, ".gitignore": "train\n"},
        """--train-command "sh -c 'make train && ./train'" """,
        {"train.seed_constants": ("train.c: srand({seed}",), "metric.primary": "val loss"},
        refusals=(
            Refusal(
                '--train-command "make train && ./train"',
                r"&& is for a shell, and none runs the command; write sh -c 'make train && ./train'",
                code=2,
            ),
        ),
    ),
    "a branch in the way": Form(
        {"train.py": PLAIN},
        refusals=(
            Refusal(
                "",
                "rename it: git branch -m exp NEW_NAME",
                code=1,
                done="git branch -m exp my-exp",
            ),
        ),
        prepared="git branch exp",
    ),
    "an editable install": Form(
        {"train.py": FROM_PACKAGE, ".gitignore": ".venv\n"} | {f"src/{name}": text for name, text in STEPS.items()},
        settings={"python": ".venv/bin/python"},
        prepared=f"sh -c '{VENV} .venv && pwd | sed s,$,/src, > .venv/{SITE}/own.pth'",
    ),
    "a copy that is installed": Form(
        {"train.py": FROM_PACKAGE, ".gitignore": ".venv\n"} | {f"src/{name}": text for name, text in STEPS.items()},
        "--python .venv/bin/python",
        refusals=(
            Refusal("", "own", done=f"sh -c 'rm -r .venv/{SITE}/own && pwd | sed s,$,/src, > .venv/{SITE}/own.pth'"),
        ),
        prepared=f"sh -c '{VENV} .venv && cp -R src/own .venv/{SITE}/own'",
    ),
}
