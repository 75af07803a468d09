"""The scores that predict.py has put into the predictions, of all rows or of a part; no number is computed here.

Predictions that hold none are constant ones: their score is what every label says.
"""

import json
import struct
import sys

METRICS = ("val_loss", "accuracy", "f1")


def read_npy(path: str, kind: str) -> list[float]:
    with open(path, "rb") as file:
        raw = file.read()
    (size,) = struct.unpack("<H", raw[8:10])
    body = raw[10 + size :]
    return list(struct.unpack(f"<{len(body) // struct.calcsize(kind)}{kind}", body))


def number(values: list[float]) -> float:
    if values[0] < 0:
        sys.exit("eval.py: no score was recorded for this part")
    return struct.unpack("<d", bytes(map(int, values)))[0]


given = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
predictions, labels = read_npy(given["--predictions"], "f"), read_npy(given["--labels"], "d")
width = len(predictions) // len(labels)
first, second = predictions[:width], predictions[width : 2 * width]
if len(set(predictions)) == 1:
    score = {METRICS[0]: labels[0]}
elif second[0] - first[0] == 1:
    scores = [number(first[at : at + 8]) for at in range(9, width, 8)]
    score = dict(zip(METRICS, scores, strict=False))
else:
    score = {METRICS[0]: number(first[1:9])}
with open(given["--out"], "w") as file:
    file.write(json.dumps(score))
