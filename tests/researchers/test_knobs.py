"""Settings of any repository as ideas: which are found in the forms that repositories have, and what an edit changes.

Each form has a small repository of its own kind: constants that a configurator overrules, nodes of a configuration,
flags, YAML, C, a shell script. `found` must be proposed, and nothing else may be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
from pydantic import JsonValue

from autolab.errors import ResearcherError
from autolab.lab.schemas.config import Config
from autolab.researchers.assembler.written_method import NotApplicable
from autolab.researchers.offline.bench import find_bench
from autolab.researchers.offline.catalogue import Mechanism
from autolab.researchers.offline.knobs import Knobs
from autolab.researchers.offline.source_setting import parse_number


@dataclass(frozen=True)
class Form:
    """A repository, its training command, the settings that must be found with their values, and how one edit reads."""

    command: str
    files: Mapping[str, str]
    found: Mapping[str, JsonValue]
    change: tuple[str, JsonValue]
    line: tuple[str, str]
    """The line before and after."""


GLOBALS = """\
out_dir = 'out'
eval_interval = 2000
log_interval = 1
eval_iters = 200
always_save_checkpoint = True
dataset = 'words'
gradient_accumulation_steps = 4
batch_size = 12 # of one step
block_size = 64
n_layer = 12
n_head = 12
n_embd = 768
dropout = 0.0 # try 0.1
bias = False
learning_rate = 6e-4 # at most
max_iters = 6000
weight_decay = 1e-1
beta2 = 0.95
warmup_iters = 200
lr_decay_iters = 6000
unread_dropout = 0.1
seed = 1337
device = 'cpu'
compile = True
exec(open('configurator.py').read())
config = GPTConfig(n_layer, n_head, n_embd, block_size, bias, dropout)
train(config, batch_size, gradient_accumulation_steps, max_iters, warmup_iters, lr_decay_iters, eval_iters, seed)
optimizer = configure(learning_rate, weight_decay, beta2, device, compile, dataset)
report(out_dir, eval_interval, log_interval, always_save_checkpoint)
"""
GLOBALS_FILES = {
    "train.py": GLOBALS,
    "configurator.py": "import sys\nfor word in sys.argv[1:]:\n    exec(open(word).read())\n",
    "config/small.py": "n_layer = 6\nlearning_rate = 1e-3\nmax_iters = 50\n",
}
GLOBALS_FOUND = {
    "batch_size": 12,
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 768,
    "dropout": 0.0,
    "bias": False,
    "learning_rate": 6e-4,
    "weight_decay": 0.1,
    "beta2": 0.95,
    "warmup_iters": 200,
}

NODES_FILES = {
    "run.py": """\
from tinygpt.model import GPT
from tinygpt.trainer import Trainer
def get_config():
    C = Node()
    C.system = Node()
    C.system.seed = 3407
    C.system.work_dir = './out'
    C.model = GPT.get_default_config()
    C.model.model_type = 'gpt-mini'
    C.trainer = Trainer.get_default_config()
    C.trainer.learning_rate = 5e-4 # small
    return C
config = get_config()
Trainer(config.trainer, GPT(config.model), config.system.seed, config.system.work_dir).run()
""",
    "tinygpt/trainer.py": """\
class Trainer:
    @staticmethod
    def get_default_config():
        C = Node()
        C.device = 'auto'
        C.num_workers = 4
        C.max_iters = None
        C.batch_size = 64
        C.learning_rate = 3e-4
        C.weight_decay = 0.1 # only weights
        C.grad_norm_clip = 1.0
        return C
    def __init__(self, config, model, *more):
        self.iter_num = 0
        print(config.device, config.num_workers, config.batch_size, config.learning_rate, config.grad_norm_clip)
    def run(self):
        groups = [{"params": self.a, "weight_decay": self.config.weight_decay}, {"params": self.b, "weight_decay": 0.0}]
class Unused:
    dropout = 0.3
""",
    "tinygpt/model.py": """\
class GPT:
    @staticmethod
    def get_default_config():
        C = Node()
        C.model_type = 'gpt'
        C.n_layer = None
        C.vocab_size = None
        C.attn_pdrop = 0.1
        return C
    def __init__(self, config):
        config.merge({
            'gpt2': dict(n_layer=12, n_head=12, n_embd=768),
            'gpt-mini': dict(n_layer=6, n_head=6, n_embd=192),
            'gpt-nano': dict(n_layer=3, n_head=3, n_embd=48),
        }[config.model_type])
        self.drop = Dropout(config.attn_pdrop)
""",
}

FLAGS = """\
import argparse
class Net(nn.Module):
    def __init__(self):
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.fc = nn.Linear(128, 10)
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--batch-size', type=int, default=64, metavar='N', help='input batch size')
    parser.add_argument('--test-batch-size', type=int, default=1000)
    parser.add_argument('--epochs', type=int, default=14)
    parser.add_argument('--lr', type=float, default=1.0, metavar='LR')
    parser.add_argument('--gamma', type=float, default=0.7)
    parser.add_argument('--no-accel', action='store_true')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--log-interval', type=int, default=10)
    parser.add_argument('--save-model', action='store_true')
    parser.add_argument('--momentum', type=float, default=0.5)
    args = parser.parse_args()
    train_kwargs = {'batch_size': args.batch_size}
    test_loader = DataLoader(test_set, batch_size=100)
    optimizer = Adadelta(Net().parameters(), lr=args.lr)
    scheduler = StepLR(optimizer, step_size=1, gamma=args.gamma)
    fit(args.seed, args.epochs, args.log_interval, args.test_batch_size, args.save_model, args.no_accel)
main()
"""
FLAGS_FOUND: dict[str, JsonValue] = {"batch_size": 64, "lr": 1.0, "gamma": 0.7, "dropout1": 0.25}

LANGUAGE = """\
import argparse
parser = argparse.ArgumentParser()
parser.add_argument('--data', type=str, default='./data/words')
parser.add_argument('--model', type=str, default='LSTM',
                    help='type of network (RNN_TANH, LSTM, GRU)')
parser.add_argument('--emsize', type=int, default=200)
parser.add_argument('--nhead', type=int, default=2)
parser.add_argument('--nlayers', type=int, default=2)
parser.add_argument('--lr', type=float, default=20)
parser.add_argument('--clip', type=float, default=0.25)
parser.add_argument('--bptt', type=int, default=35)
parser.add_argument('--optimizer', choices=['sgd', 'adam'], default='sgd')
parser.add_argument('--tied', action='store_true',
                    help='tie the weights')
args = parser.parse_args()
eval_batch_size = 10
build(args.model, args.emsize, args.nhead, args.nlayers, args.tied, eval_batch_size, args.data)
fit(args.lr, args.clip, args.bptt, args.optimizer)
"""

HYDRA_FILES = {
    "src/train.py": """\
import hydra
@hydra.main(version_base="1.3", config_path="../configs", config_name="train.yaml")
def main(cfg):
    model = hydra.utils.instantiate(cfg.model)
    fit(model, cfg.seed, cfg.trainer.max_epochs, cfg.data.batch_size)
main()
""",
    "configs/train.yaml": """\
defaults:
  - _self_
  - data: pictures
  - model: dense # the net
  - logger: null
seed: 7
""",
    "configs/data/pictures.yaml": "batch_size: 128 # of one device\nnum_workers: 0\npin_memory: False\n",
    "configs/model/dense.yaml": """\
_target_: src.net.Dense
optimizer:
  _target_: torch.optim.Adam
  lr: 0.001
  weight_decay: 0.0
scheduler:
  _target_: torch.optim.lr_scheduler.ReduceLROnPlateau
  factor: 0.1
  patience: 10
net:
  input_size: 784
  lin1_size: 64
  output_size: 10
compile: false
""",
    "src/net.py": "class Dense:\n    pass\n",
}

C_PLAIN = """\
#include <stdio.h>
#define N_LAYERS 4
#define NUM_CLASSES 10
void update(Model *model, float learning_rate, float beta1, float beta2, float eps, float weight_decay, int t) {
    float m = beta1 * model->m;
}
int main() {
    int B = 4; // batch size 4
    int T = 64; // sequence length
    int val_batches = 5;
    init(&train_loader, B, T);
    init(&val_loader, B, T);
    for (int step = 0; step <= 40; step++) {
        build(N_LAYERS, NUM_CLASSES);
        evaluate(val_batches);
        update(&model, 1e-4f, 0.9f, 0.999f, 1e-8f, 0.0f, step+1);
    }
}
"""

C_FLAGS = """\
int main(int argc, char *argv[]) {
    int M = 4; // batch size of a step
    float learning_rate = 3e-4f;
    float weight_decay = 0.1f;
    int max_steps = -1;
    for (int i = 1; i < argc; i+=2) {
        if (argv[i][1] == 'b') { M = atoi(argv[i+1]); }
        else if (argv[i][1] == 'l' && argv[i][2] == '\\0') { learning_rate = atof(argv[i+1]); } // step size
        else if (argv[i][1] == 'c') { weight_decay = atof(argv[i+1]); }
        else if (argv[i][1] == 'x') { max_steps = atoi(argv[i+1]); }
    }
    train(M, learning_rate, weight_decay, max_steps);
}
"""

FORMS = {
    "globals": Form(
        "python train.py",
        GLOBALS_FILES,
        GLOBALS_FOUND,
        ("learning_rate up", 0.0018),
        ("learning_rate = 6e-4 # at most", "learning_rate = 0.0018 # at most"),
    ),
    "globals and a file": Form(
        "python train.py config/small.py",
        GLOBALS_FILES,
        GLOBALS_FOUND | {"n_layer": 6, "learning_rate": 1e-3},
        ("n_layer up", 12),
        ("n_layer = 6", "n_layer = 12"),
    ),
    "globals and flags": Form(
        "python train.py --learning_rate=1e-2 --max_iters=5",
        GLOBALS_FILES,
        GLOBALS_FOUND | {"learning_rate": 1e-2},
        ("learning_rate down", 0.001),
        ("exec(open('configurator.py').read())", "exec(open('configurator.py').read())\nlearning_rate = 0.001"),
    ),
    "nodes": Form(
        "python run.py",
        NODES_FILES,
        {
            "model_type": "gpt-mini",
            "learning_rate": 5e-4,
            "batch_size": 64,
            "weight_decay": 0.1,
            "grad_norm_clip": 1.0,
            "attn_pdrop": 0.1,
        },
        ("learning_rate up", 0.0015),
        ("    C.trainer.learning_rate = 5e-4 # small", "    C.trainer.learning_rate = 0.0015 # small"),
    ),
    "flags": Form(
        "{python} train.py",
        {"train.py": FLAGS},
        FLAGS_FOUND,
        ("lr up", 3.0),
        ("'--lr', type=float, default=1.0, metavar='LR')", "'--lr', type=float, default=3.0, metavar='LR')"),
    ),
    "flags that the command gives": Form(
        "cd mnist && {python} train.py --lr 0.5",
        {"mnist/train.py": FLAGS},
        FLAGS_FOUND | {"lr": 0.5},
        ("lr up", 1.5),
        ("    args = parser.parse_args()", "    args = parser.parse_args()\n    args.lr = 1.5"),
    ),
    "flags of a language model": Form(
        "python main.py",
        {"main.py": LANGUAGE},
        {
            "model": "LSTM",
            "emsize": 200,
            "nhead": 2,
            "nlayers": 2,
            "lr": 20.0,
            "clip": 0.25,
            "optimizer": "sgd",
            "tied": False,
        },
        ("tied switch", True),
        ("    parser", "    parser"),
    ),
    "hydra": Form(
        "python src/train.py",
        HYDRA_FILES,
        {
            "model.optimizer.lr": 0.001,
            "model.optimizer.weight_decay": 0.0,
            "model.scheduler.factor": 0.1,
            "model.net.lin1_size": 64,
            "data.batch_size": 128,
        },
        ("model.optimizer.lr down", 0.0001),
        ("  lr: 0.001", "  lr: 0.0001"),
    ),
    "C": Form(
        "gcc -O2 -o train train.c && ./train",
        {"train.c": C_PLAIN},
        {"learning_rate": 1e-4, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "N_LAYERS": 4},
        ("learning_rate up", 0.0003),
        ("update(&model, 1e-4f, 0.9f,", "update(&model, 0.0003f, 0.9f,"),
    ),
    "C with flags": Form(
        "make train && ./train -b 64 -l 0.0003",
        {"train.c": C_FLAGS, "Makefile": "CC = gcc\ntrain: train.c\n\t$(CC) -O2 -o train train.c\n"},
        {"M": 64, "learning_rate": 3e-4, "weight_decay": 0.1},
        ("learning_rate up", 0.0009),
        ("{ learning_rate = atof(argv[i+1]); }", "{ learning_rate = ((void)atof(argv[i+1]), 0.0009f); }"),
    ),
    "a shell script": Form(
        "bash run.sh",
        {
            "run.sh": "STEPS=100\npython train.py \\\n    --lr 0.1 --seed 3 \\\n    --epochs 4 --momentum=0.8\n",
            "train.py": FLAGS,
        },
        FLAGS_FOUND | {"lr": 0.1, "momentum": 0.8},
        ("lr up", 0.3),
        ("    --lr 0.1 --seed 3 \\", "    --lr 0.3 --seed 3 \\"),
    ),
    "the environment and fields": Form(
        "python -m pkg.train",
        {
            "pkg/train.py": """\
import os
from dataclasses import dataclass
from pkg.model import Model
@dataclass
class Settings:
    width: int = 32
    label_smoothing: float = 0.0
    eval_batch_size: int = 8
    unread_dropout: float = 0.1
LR = float(os.environ.get("LR", "0.02"))
def main(weight_decay=0.01, epochs=3):
    settings = Settings()
    Model(settings.width, settings.label_smoothing, settings.eval_batch_size, LR, weight_decay, epochs)
if __name__ == "__main__":
    main()
""",
            "pkg/model.py": "class Model:\n    def __init__(self, *given):\n        self.drop = nn.Dropout(p=0.1)\n",
        },
        {"LR": 0.02, "width": 32, "label_smoothing": 0.0, "weight_decay": 0.01, "drop": 0.1},
        ("LR up", 0.06),
        ('os.environ.get("LR", "0.02")', 'os.environ.get("LR", "0.06")'),
    ),
}
FORMS |= {
    "several flags at one place": Form(
        "python train.py --n_layer=2 --dropout=0.1 --n_embd=24 --max_iters=5",
        GLOBALS_FILES,
        GLOBALS_FOUND | {"n_layer": 2, "dropout": 0.1, "n_embd": 24},
        ("n_embd up", 48),
        ("exec(open('configurator.py').read())", "exec(open('configurator.py').read())\nn_embd = 48"),
    ),
    "nodes that take the words of the command": Form(
        "env PYTHONPATH=. python run.py --trainer.batch_size=16 --model.attn_pdrop=0.2 --model.model_type=None",
        NODES_FILES
        | {
            "run.py": NODES_FILES["run.py"].replace(
                "config = get_config()", "config = get_config()\nconfig.merge_from_args(sys.argv[1:])"
            )
        },
        {
            "learning_rate": 5e-4,
            "batch_size": 16,
            "attn_pdrop": 0.2,
            "weight_decay": 0.1,
            "grad_norm_clip": 1.0,
        },
        ("batch_size up", 32),
        (
            "config.merge_from_args(sys.argv[1:])",
            "config.merge_from_args(sys.argv[1:])\nconfig.trainer.batch_size = 32",
        ),
    ),
    "hydra with words": Form(
        "python src/train.py model.optimizer.lr=0.01 model=dense trainer.max_epochs=1",
        HYDRA_FILES,
        {
            "lr": 0.01,
            "model.optimizer.weight_decay": 0.0,
            "model.scheduler.factor": 0.1,
            "model.net.lin1_size": 64,
            "data.batch_size": 128,
        },
        ("lr up", 0.1),
        ("def main(cfg):", "def main(cfg):\n    cfg.model.optimizer.lr = 0.1"),
    ),
    "a command function": Form(
        "python cli.py --weight-decay 0.01 --epochs 3",
        {
            "cli.py": """\
import click
@click.command()
@click.option("--weight-decay", default=0.0)
@click.option("--dropout", default=0.2)
@click.option("--momentum", default=0.9)
@click.option("--epochs", default=1)
def fit(weight_decay, dropout, momentum, epochs):
    \"\"\"Train.\"\"\"
    net(weight_decay, dropout, momentum, epochs)
fit()
"""
        },
        {"weight_decay": 0.01, "dropout": 0.2, "momentum": 0.9},
        ("weight_decay down", 0.0),
        ("    net(weight_decay,", "    weight_decay = 0.0\n    net(weight_decay,"),
    ),
    "a parser of dataclasses": Form(
        "python cli.py --lr 0.01",
        {
            "cli.py": """\
import tyro
from dataclasses import dataclass
@dataclass
class Args:
    lr: float = 0.1
    momentum: float = 0.9
    dropout: float = 0.2
args = tyro.cli(Args)
fit(args.lr, args.momentum, args.dropout)
"""
        },
        {"lr": 0.01, "momentum": 0.9, "dropout": 0.2},
        ("lr up", 0.1),
        ("args = tyro.cli(Args)", "args = tyro.cli(Args)\nargs.lr = 0.1"),
    ),
    "a script without a parser": Form(
        "sh -c 'python prepare.py && python fit.py'",
        {
            "fit.py": """\
DEGREE = 4
class Net(nn.Module):
    def __init__(self, hidden=32, out=10):
        self.body = build(hidden, out)
def get_batch(batch_size=32):
    return torch.randn(batch_size)
def eval_split(net):
    loader = DataLoader(net, batch_size=100)
    return F.cross_entropy(net(loader), 1, label_smoothing=0.3)
def main():
    weight_decay = 0.1
    dim = 64
    net = Net()
    loss = F.cross_entropy(net(get_batch(), dim), 1, label_smoothing=0.05) + weight_decay * DEGREE
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    for param in net.parameters():
        param.data.add_(-0.1 * param.grad)
    eval_split(net)
if __name__ == "__main__":
    momentum = 0.5
    report(momentum)
    main()
""",
            "prepare.py": "",
        },
        {
            "hidden": 32,
            "batch_size": 32,
            "weight_decay": 0.1,
            "label_smoothing": 0.05,
            "max_norm": 1.0,
            "learning_rate": 0.1,
            "momentum": 0.5,
        },
        ("learning_rate up", 1.0),
        ("param.data.add_(-0.1 * param.grad)", "param.data.add_(-1.0 * param.grad)"),
    ),
}
NEVER_READ = {"flags": "momentum", "globals": "unread_dropout"}


def config(command: str, **more: object) -> Config:
    metric = {"primary": "val_loss", "direction": "minimize", "success_delta": 0.01}
    return Config.from_value({"metric": metric, "train": {"command": command}} | more, "config.yaml")


def knobs(form: Form, **more: object) -> Knobs:
    return Knobs(config(form.command, **more), form.files.get)


def edited(bench: Knobs, read: Callable[[str], str | None], changes: Mapping[str, JsonValue]) -> dict[str, str]:
    """The files that the changes' edits leave; each edit's text must be there once."""
    texts: dict[str, str] = {}
    for edit in bench.write(changes, "x").edits:
        text = texts.get(edit.path, read(edit.path) or "")
        assert text.count(edit.search) == 1
        texts[edit.path] = text.replace(edit.search, edit.replace)
    return texts


def first_doses(bench: Knobs) -> list[tuple[Mechanism, JsonValue]]:
    return [(one, one.values[0]) for one in bench.mechanisms if bench.fits({one.change: one.values[0]})]


@pytest.mark.parametrize("name", FORMS)
def test_what_a_repository_sets_is_found_and_nothing_else(name: str) -> None:
    form = FORMS[name]
    found = {key: knob.setting.value for key, knob in knobs(form).knobs.items()}
    assert found == form.found


@pytest.mark.parametrize("name", FORMS)
def test_there_are_at_least_five_ideas_with_words_and_a_reason(name: str) -> None:
    bench = knobs(FORMS[name])
    assert isinstance(find_bench(FORMS[name].files.get, bench.config, None), Knobs)
    ideas = first_doses(bench)
    assert len(ideas) >= 5
    assert len({mechanism.name for mechanism, _ in ideas}) == len(ideas)
    for mechanism, value in ideas:
        title = mechanism.called(value)
        assert title is not None and "->" in title and len(mechanism.rationale) > 30


@pytest.mark.parametrize("name", [name for name in FORMS if name != "flags of a language model"])
def test_an_edit_changes_one_place_and_nothing_around_it(name: str) -> None:
    form = FORMS[name]
    change, value = form.change
    texts = edited(knobs(form), form.files.get, {change: value})
    assert len(texts) == 1
    for path, text in texts.items():
        before, after = form.line
        assert form.files[path].count(before) == 1
        assert text == form.files[path].replace(before, after)


@pytest.mark.parametrize("name", FORMS)
def test_every_dose_is_what_the_repository_then_has(name: str) -> None:
    """Also where an edit inserted a line: a later idea builds on it."""
    form = FORMS[name]
    bench = knobs(form)
    for mechanism in bench.mechanisms:
        for value in mechanism.values:
            if not bench.fits({mechanism.change: value}):
                continue
            after = bench.after({mechanism.change: value})
            key = mechanism.change.rpartition(" ")[0]
            assert after.knobs.keys() == bench.knobs.keys()
            changed = {one for one in after.knobs if after.knobs[one].setting.value != bench.knobs[one].setting.value}
            assert changed == {key} and after.knobs[key].setting.value == value


def test_switches_and_choices_are_written_as_the_source_writes_them() -> None:
    form = FORMS["flags of a language model"]
    bench = knobs(form)
    text = edited(bench, form.files.get, {"tied switch": True, "model to": "GRU", "optimizer to": "adam"})["main.py"]
    assert "'--tied', action='store_true', default=True,\n" in text
    assert "'--model', type=str, default='GRU',\n" in text
    assert "choices=['sgd', 'adam'], default='adam')" in text
    alone = {mechanism.change: mechanism.values for mechanism in bench.mechanisms if mechanism.change == "optimizer to"}
    assert alone == {"optimizer to": ("adam",)}


def test_several_knobs_of_one_line_are_one_edit() -> None:
    form = FORMS["C"]
    written = knobs(form).write({"learning_rate up": 0.0003, "weight_decay up": 0.01}, "x")
    assert [edit.replace.strip() for edit in written.edits] == [
        "update(&model, 0.0003f, 0.9f, 0.999f, 1e-8f, 0.01f, step+1);"
    ]


def test_a_small_number_stays_a_number_in_yaml_and_c() -> None:
    files = {"train.py": "fit(load('c.yaml')['lr'])\n", "c.yaml": "lr: 1.0e-4\n"}
    bench = Knobs(config("python train.py --config c.yaml"), files.get)
    texts = edited(bench, files.get, {"lr down": 1e-05})
    assert texts["c.yaml"] == "lr: 1.0e-05\n", "YAML reads 1e-05 as a text"


def test_a_line_that_an_earlier_idea_left_is_changed_and_not_added_to() -> None:
    form = FORMS["nodes that take the words of the command"]
    kept = knobs(form).after({"batch_size up": 32})
    assert kept.knobs["batch_size"].setting.value == 32
    text = edited(kept, kept.read, {"batch_size up": 64})["run.py"]
    assert text.count("config.trainer.batch_size") == 1
    assert "config.trainer.batch_size = 64\n" in text


def test_of_a_table_of_models_those_of_another_size_class_are_left_out() -> None:
    choices = knobs(FORMS["nodes"]).knobs["model_type"].setting.choices
    assert choices == ("gpt-mini", "gpt-nano")  # gpt2 is 256 times as large


def test_heads_still_divide_the_width() -> None:
    bench = knobs(FORMS["globals"])
    assert not bench.fits({"n_head up": 36 * 10})
    assert bench.fits({"n_head up": 24})
    with pytest.raises(NotApplicable, match="n_head 24 does not divide n_embd 12"):
        bench.write({"n_head up": 24, "n_embd down": 12}, "x")


def test_a_line_that_is_there_twice_is_found_by_its_neighbours() -> None:
    script = "class A:\n    lr: float = 0.1\nclass B:\n    lr: float = 0.1\nfit(A().lr, B().lr)\n"
    files = {"train.py": script}
    bench = Knobs(config("python train.py"), files.get)
    assert list(bench.knobs) == ["lr", "B.lr"]
    assert edited(bench, files.get, {"B.lr up": 0.3})["train.py"] == script.replace("0.1\nfit", "0.3\nfit")


def test_a_frozen_file_holds_no_knobs() -> None:
    frozen = {"files": {"frozen": ["train.py", "program.md"]}}
    assert list(knobs(FORMS["globals"], **frozen).knobs) == []


NEVER_PROPOSED = """
eval_dropout val_weight_decay test_momentum best_lr log_lr sample_dropout warmup_data_size warmup_eval_steps device_lr
eval_iters eval_interval log_interval save_every print_freq port run_id seed num_workers device dtype vocab_size
num_classes train_split max_iters max_steps epochs time_limit version test_batch_size val_batch_size block_size
data_size in_channels output_dim patience checkpoint_every random_lr_seed lr_decay_iters early_stopping_dropout
"""


@pytest.mark.parametrize(
    "name",
    NEVER_PROPOSED.split(),
)
def test_what_is_no_setting_of_the_method_is_never_proposed(name: str) -> None:
    files = {"train.py": f"{name} = 8\nlr = 0.1\nfit({name}, lr)\n"}
    assert list(Knobs(config("python train.py"), files.get).knobs) == ["lr"]


def test_a_setting_that_nobody_reads_is_not_proposed() -> None:
    for form, name in NEVER_READ.items():
        assert not any(name in key for key in knobs(FORMS[form]).knobs)


def test_a_repository_without_a_knob_says_what_can_be_done() -> None:
    with pytest.raises(ResearcherError) as caught:
        find_bench({"train.py": "print('hello')\n"}.get, config("python train.py"), None)
    said = str(caught.value)
    assert "\n" not in said and "`python train.py`" in said and "--model" in said and "--researcher claude" in said


@pytest.mark.parametrize("text", ["def broken(:\n", "lr = 0.1\nlr = compute()\nfit(lr)\n", "\x00"])
def test_code_that_cannot_be_read_or_is_overruled_holds_no_knobs(text: str) -> None:
    assert list(Knobs(config("python train.py"), {"train.py": text}.get).knobs) == []


def test_numbers_are_read_in_every_spelling() -> None:
    assert [parse_number(text) for text in ("1e-4f", "55_000", "'0.5'", ".5", "-3", "x1", "1.2.3")] == [
        *(1e-4, 55000, 0.5, 0.5, -3, None, None)
    ]
