"""The frozen evaluator: mean negative log-likelihood and accuracy."""

import argparse
import json
import struct
import sys
from pathlib import Path


def read_npy(path: str) -> list[float]:
    raw = Path(path).read_bytes()
    (size,) = struct.unpack("<H", raw[8:10])
    body = raw[10 + size :]
    return list(struct.unpack(f"<{len(body) // 4}f", body))


parser = argparse.ArgumentParser()
for name in ("predictions", "labels", "out"):
    parser.add_argument(f"--{name}", required=True)
given = parser.parse_args()
rows, labels = read_npy(given.predictions), read_npy(given.labels)
if len(rows) != 2 * len(labels):
    sys.exit(f"predictions: {len(rows) // 2} rows, {len(labels)} wanted")
chosen = [rows[2 * i + int(label)] for i, label in enumerate(labels)]
right = [rows[2 * i + int(label)] > rows[2 * i + 1 - int(label)] for i, label in enumerate(labels)]
score = {"val_loss": -sum(chosen) / len(chosen), "accuracy": sum(right) / len(right)}
Path(given.out).write_text(json.dumps(score))
