"""Log-probabilities of two classes for each input, written as .npy by hand."""

import json
import math
import os
import struct
from pathlib import Path


def read_npy(path: Path) -> list[float]:
    raw = path.read_bytes()
    (size,) = struct.unpack("<H", raw[8:10])
    body = raw[10 + size :]
    return list(struct.unpack(f"<{len(body) // 4}f", body))


def main() -> None:
    model = json.loads((Path(os.environ["AUTOLAB_MODEL"]) / "weights.json").read_text())
    rows = []
    for x in read_npy(Path(os.environ["AUTOLAB_INPUTS"])):
        p = 1 / (1 + math.exp(-model["slope"] * (x - model["threshold"])))
        rows += [math.log(1 - p), math.log(p)]
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(rows) // 2}, 2), }}"
    header += " " * (117 - len(header)) + "\n"
    out = Path(os.environ["AUTOLAB_TRIAL_DIR"]) / "predictions.npy"
    body = struct.pack(f"<{len(rows)}f", *rows)
    out.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body)


main()
