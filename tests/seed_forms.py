"""Repositories whose programs take their seed in different ways."""

from __future__ import annotations

from forms_kit import Form

BODY = """\
weight = 4.0
for _ in range(12):
    weight -= lr * (weight + random.gauss(0, 0.001))
print(f"val_loss: {weight * weight + 0.3:.4f}")
"""
HYDRA = """\
import functools, pathlib, sys, types

def main(version_base=None, config_path=None, config_name="config"):
    def wrap(function):
        @functools.wraps(function)
        def run():
            text = pathlib.Path(config_path, config_name + ".yaml").read_text()
            pairs = [line.split(": ") for line in text.split("\\n") if ": " in line]
            pairs += [word.split("=") for word in sys.argv[1:]]
            function(types.SimpleNamespace(**{key: float(value) for key, value in pairs}))
        return run
    return wrap
"""
"""As much of Hydra as the form needs, which is not installed everywhere."""
INDENTED = "".join(f"    {line}\n" for line in BODY.rstrip("\n").split("\n"))
COMMAND = "train.command"
CONSTANTS = "train.seed_constants"

SEED_FORMS: dict[str, Form] = {
    "Hydra's key": Form(
        {
            "train.py": "import random\nimport hydra\n\n"
            '@hydra.main(version_base=None, config_path="conf", config_name="config")\n'
            "def main(cfg):\n    random.seed(cfg.seed)\n    lr = cfg.lr\n"
            + INDENTED
            + '\nif __name__ == "__main__":\n    main()\n',
            "hydra/__init__.py": HYDRA,
            "conf/config.yaml": "seed: 42\nlr: 0.1\n",
        },
        settings={COMMAND: "{python} train.py seed={seed}"},
    ),
    "click's option": Form(
        {
            "train.py": "import random\nimport click\n\n"
            '@click.command()\n@click.option("--lr", default=0.1)\n@click.option("--seed", default=0, type=int)\n'
            "def main(lr, seed):\n    random.seed(seed)\n" + INDENTED + '\nif __name__ == "__main__":\n    main()\n'
        },
        settings={COMMAND: "{python} train.py --seed {seed}"},
    ),
    "tyro's dataclass": Form(
        {
            "train.py": "import random\nfrom dataclasses import dataclass\nimport tyro\n\n"
            "@dataclass\nclass Args:\n    lr: float = 0.1\n    random_seed: int = 1\n\n"
            "args = tyro.cli(Args)\nrandom.seed(args.random_seed)\nlr = args.lr\n" + BODY
        },
        settings={COMMAND: "{python} train.py --random-seed {seed}"},
    ),
    "a file of settings": Form(
        {
            "train.py": "import random, sys\nimport yaml\n\n"
            "with open(sys.argv[1]) as file:\n    settings = yaml.safe_load(file)\n"
            'random.seed(settings["seed"])\nlr = settings["optimizer"]["lr"]\n' + BODY,
            "configs/base.yaml": "seed: 1337\noptimizer:\n  lr: 0.1\n",
        },
        '--train-command "python train.py configs/base.yaml"',
        {CONSTANTS: ("configs/base.yaml: seed: {seed}",)},
    ),
    "a constant": Form(
        {"train.py": "import random\n\nseed = 1337\nlr = 0.1\nrandom.seed(seed)\n" + BODY},
        settings={CONSTANTS: ("train.py: seed = {seed}",), COMMAND: "{python} train.py"},
    ),
    "a number in a call": Form(
        {"train.py": "import random\n\nlr = 0.1\nrandom.seed(0)\n" + BODY},
        settings={CONSTANTS: ("train.py: random.seed({seed}",)},
    ),
    "an environment variable": Form(
        {"train.py": 'import os\nimport random\n\nlr = 0.1\nrandom.seed(int(os.environ.get("SEED", "1")))\n' + BODY},
        settings={COMMAND: "env SEED={seed} {python} train.py"},
    ),
    "libraries that are seeded": Form(
        {"train.py": "import random\n\nlr = 0.1\n" + BODY}, settings={"train.seed_libraries": True}
    ),
    "numpy that is seeded": Form(
        {
            "train.py": "import numpy as np\n\nlr = 0.1\nnoise = np.random.default_rng().normal(size=12)\n"
            "weight = 4.0\nfor draw in noise:\n    weight -= lr * (weight + 0.001 * draw)\n"
            'print(f"val_loss: {weight * weight + 0.3:.4f}")\n'
        },
        settings={"train.seed_libraries": True},
    ),
    "no chance at all": Form(
        {
            "train.py": "lr = 0.1\nweight = 4.0\nfor step in range(12):\n    weight -= lr * weight\n"
            "print(f'val_loss: {weight:.5f}')\n"
        },
        settings={"train.seed_libraries": False, CONSTANTS: ()},
        says="train.py never reads AUTOLAB_SEED, and no other seed was found in it",
        seeds_differ=False,
    ),
    "the command's own flag": Form(
        {"train.py": "import random, sys\n\nlr = 0.1\nrandom.seed(sys.argv[sys.argv.index('-s') + 1])\n" + BODY},
        '--train-command "python train.py -s {seed}"',
        {COMMAND: "{python} train.py -s {seed}"},
    ),
}
