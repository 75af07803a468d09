"""Repositories whose programs report their metric in different forms."""

from __future__ import annotations

from forms_kit import Form, Refusal

HEAD = """\
import argparse
import random

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--epochs", type=int, default=12)
args = parser.parse_args()
random.seed(args.seed)
weight, losses = 4.0, []
for _ in range(args.epochs):
    weight -= args.lr * (weight + random.gauss(0, 0.005))
    losses.append(weight * weight + 0.3)
"""
"""A noisy descent; `losses` has the loss after each epoch."""
STDOUT = {"train.metrics": "stdout", "metric.direction": "minimize"}


def program(tail: str) -> dict[str, str]:
    return {"train.py": HEAD + tail, ".gitignore": "*.csv\n*.json\n*.jsonl\n*.log\nlightning_logs/\n"}


METRIC_FORMS: dict[str, Form] = {
    "name and colon": Form(
        program('print(f"val_loss: {losses[-1]:.4f}")\n'), settings={"metric.primary": "val_loss", **STDOUT}
    ),
    "name and equals sign": Form(
        program('for loss in losses:\n    print(f"val_loss={loss:.4f}")\n'),
        settings={"metric.primary": "val_loss", **STDOUT},
        says="it printed 12 values there",
    ),
    "several on a line": Form(
        program(
            "for step, loss in enumerate(losses):\n"
            '    print(f"step {step * 250}: train loss {loss - 0.1:.4f}, val loss {loss:.4f}")\n'
            'print("device: cuda:0, parameters: 10672, run id: 31337")\n'
        ),
        '--metric "val loss"',
        {"metric.primary": "val loss", **STDOUT},
    ),
    "ratio and percent": Form(
        program(
            "right = int(10000 / (1 + losses[-1]))\n"
            "for loss in losses:\n"
            '    print(f"Train loss: {loss:.6f}")\n'
            'print(f"\\nTest set: Average loss: {losses[-1]:.4f}, Accuracy: {right}/10000 ({right / 100:.2f}%)\\n")\n'
        ),
        "--metric Accuracy --delta 1",
        {"metric.primary": "Accuracy", "metric.direction": "maximize", "train.metrics": "stdout"},
        refusals=(
            Refusal(
                "",
                "--metric: name the number that decides",
                r'--metric "Average loss"  1 value, last [\d.]+\n  --metric "Accuracy"  1 value, last \d\d\.\d\d\n',
                code=2,
            ),
        ),
    ),
    "bars between": Form(
        program(
            "for epoch, loss in enumerate(losses):\n"
            '    print(f"Epoch {epoch} | train_loss: {loss - 0.1:.3f} | val_loss: {loss:.3f} | lr 0.1")\n'
        ),
        settings={"metric.primary": "val_loss", **STDOUT},
    ),
    "a progress bar": Form(
        program(
            "import sys\n"
            "for epoch, loss in enumerate(losses):\n"
            '    bar = f"\\r{epoch * 10:3d}%|████      | {epoch}/12 [00:00<00:01, 75.02it/s, loss={loss:.3f}]"\n'
            "    print(bar, end='', file=sys.stderr)\n"
            "print(file=sys.stderr)\n"
            "print('val error', round(losses[-1], 5))\n"
        ),
        settings={"metric.primary": "val error", **STDOUT},
    ),
    "colours": Form(
        program('print(f"\\x1b[32mval_loss\\x1b[0m: \\x1b[1m{losses[-1]:.4f}\\x1b[0m")\n'),
        settings={"metric.primary": "val_loss", **STDOUT},
    ),
    "a log on stderr": Form(
        program(
            "import logging\n"
            'logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")\n'
            "for epoch, loss in enumerate(losses):\n"
            '    logging.info("epoch=%d val_loss=%.4f", epoch, loss)\n'
        ),
        settings={"metric.primary": "val_loss", "train.metrics": "stderr"},
    ),
    "a log on stdout": Form(
        program(
            "import logging, sys\n"
            'form = "[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"\n'
            'logging.basicConfig(level="INFO", stream=sys.stdout, format=form)\n'
            'logging.getLogger("train").info("val_loss: %.4f", losses[-1])\n'
        ),
        settings={"metric.primary": "val_loss", **STDOUT},
    ),
    "JSON lines": Form(
        program(
            "import json\n"
            "for epoch, loss in enumerate(losses):\n"
            '    print(json.dumps({"epoch": epoch, "val": {"loss": loss}, "train": {"loss": loss - 0.1}}))\n'
        ),
        settings={"metric.primary": "val.loss", **STDOUT},
    ),
    "a nested JSON file": Form(
        program(
            "import json\n"
            'with open("results.json", "w") as file:\n'
            '    json.dump({"config": vars(args), "eval": {"loss": losses[-1], "rows": 1000}}, file)\n'
        ),
        "--metric eval.loss",
        {"metric.primary": "eval.loss", "train.metrics": "results.json"},
    ),
    "a file of JSON lines": Form(
        program(
            "import json\n"
            'with open("log.jsonl", "w") as file:\n'
            "    for epoch, loss in enumerate(losses):\n"
            '        print(json.dumps({"epoch": epoch, "val_loss": loss}), file=file)\n'
            'print("done")\n'
        ),
        settings={"metric.primary": "val_loss", "train.metrics": "log.jsonl"},
    ),
    "Lightning's table": Form(
        program(
            "import csv, os\n"
            'os.makedirs("lightning_logs/version_0")\n'
            'with open("lightning_logs/version_0/metrics.csv", "w", newline="") as file:\n'
            '    table = csv.DictWriter(file, ["epoch", "step", "train_loss", "val_loss"])\n'
            "    table.writeheader()\n"
            "    for epoch, loss in enumerate(losses):\n"
            '        table.writerow({"epoch": epoch, "step": epoch * 9, "train_loss": loss - 0.1})\n'
            '        table.writerow({"epoch": epoch, "step": epoch * 9, "val_loss": loss})\n'
        ),
        "--metric val_loss",
        {"metric.primary": "val_loss", "train.metrics": "lightning_logs/version_0/metrics.csv"},
    ),
    "Keras' table": Form(
        program(
            'with open("history.csv", "w") as file:\n'
            '    print("epoch,accuracy,loss,val_accuracy,val_loss", file=file)\n'
            "    for epoch, loss in enumerate(losses):\n"
            "        share = 1 / (1 + loss)\n"
            '        print(f"{epoch},{share},{loss - 0.1},{share - 0.01},{loss}", file=file)\n'
        ),
        "--metric val_accuracy",
        {"metric.primary": "val_accuracy", "metric.direction": "maximize", "train.metrics": "history.csv"},
    ),
    "the best epoch": Form(
        program(
            "losses += [losses[-1] * 1.5, losses[-1] * 2]\n"
            "for epoch, loss in enumerate(losses):\n"
            '    print(f"epoch {epoch}: val loss {loss:.4f}")\n'
        ),
        "--reduce min",
        {"metric.primary": "val loss", "train.reduce": "min", **STDOUT},
    ),
    "no name before the number": Form(
        program('print(f"the model reached {losses[-1]:.4f} nats after {args.epochs} epochs")\n'),
        "--metric nats --direction minimize --metric-pattern 'reached ([0-9.]+) nats'",
        {"metric.primary": "nats", "train.pattern": "reached ([0-9.]+) nats", **STDOUT},
        refusals=(Refusal("", r"printed no number that could decide; .*--metric NAME --metric-pattern REGEX", code=2),),
    ),
    "no metric": Form(
        program('print("done, model of 31337 bytes")\n'),
        None,
        refusals=(
            Refusal("", r"printed no number that could decide; .*--metric NAME --metric-pattern REGEX", code=2),
            Refusal("--metric val_loss", r"ended without printing val_loss; it printed no number", code=2),
        ),
    ),
    "a comma between thousands": Form(
        program('print(f"val perplexity: {losses[-1] * 1e4:,.0f}")\nprint(f"val nll: {losses[-1]:.4f}")\n'),
        '--metric "val nll"',
        {"metric.primary": "val nll", **STDOUT},
        refusals=(
            Refusal(
                '--metric "val perplexity"',
                r"val perplexity: (\d+),(\d{3}) has a comma; write \1\.\2 or \1\2, whichever is meant; what it printed",
                '--metric "val nll"  1 value',
                code=2,
            ),
        ),
    ),
    "a decimal comma": Form(
        program('print(f"val_loss: {losses[-1]:.4f}".replace(".", ","))\n'),
        None,
        refusals=(Refusal("--metric val_loss", r"val_loss: 1,(\d+) has a comma; write 1\.\1 with a point", code=2),),
    ),
    "a dictionary": Form(
        program(
            "for epoch, loss in enumerate(losses):\n"
            "    print({'loss': loss - 0.1, 'learning_rate': args.lr, 'epoch': epoch})\n"
            "print({'eval_loss': losses[-1], 'eval_runtime': 1.25, 'eval_samples_per_second': 800.1, 'epoch': 12.0})\n"
        ),
        "--metric eval_loss",
        {"metric.primary": "eval_loss", **STDOUT},
    ),
}
