"""Predictions that hold a recorded trial's scores: in each row its number, the scores, and that of its part.

A float64 stands as eight float32, a byte each, so that it arrives to the last digit; -1 where there is none.
"""

import json
import os
import struct
from pathlib import Path

SPLITS = ("eval", "holdout")
"""By the first value of a split's inputs."""


def read_npy(path: Path) -> list[float]:
    raw = path.read_bytes()
    (size,) = struct.unpack("<H", raw[8:10])
    body = raw[10 + size :]
    return list(struct.unpack(f"<{len(body) // 4}f", body))


def bytes_of(value: float | None) -> list[int]:
    return [-1] * 8 if value is None else list(struct.pack("<d", value))


def main() -> None:
    trial = json.loads((Path(os.environ["AUTOLAB_MODEL"]) / "scores.json").read_text())
    inputs = read_npy(Path(os.environ["AUTOLAB_INPUTS"]))
    split = SPLITS[int(inputs[0])]
    whole = trial["score"] if split == "eval" else trial["holdout"]
    parts = trial.get("holdout_parts") or [None] if split == "holdout" else [None]
    scores = [byte for value in whole.values() for byte in bytes_of(value)]
    values = []
    for row in range(len(inputs)):
        values += [row, *bytes_of(parts[row % len(parts)]), *scores]
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(inputs)}, {len(values) // len(inputs)}), }}"
    header += " " * (117 - len(header)) + "\n"
    body = struct.pack(f"<{len(values)}f", *values)
    out = Path(os.environ["AUTOLAB_TRIAL_DIR"]) / "predictions.npy"
    out.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body)


main()
