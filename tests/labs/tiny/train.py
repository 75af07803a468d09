"""A training that takes milliseconds: a threshold, learned from the data, blurred by the seed.

Standard library only, so that hundreds of trials fit into a test. `counter.txt`, if the lab has one, names
a file outside of the lab to which every execution appends a line: the tests' own count.
"""

import json
import os
import random
import sys
import time
from pathlib import Path

from models.width import WIDTH


def count(word: str, folder: Path) -> None:
    counter = Path("counter.txt")
    if counter.exists():
        line = f"{word} {'/'.join(folder.parts[-4:])} {os.environ['AUTOLAB_SEED']} {os.getpid()} {folder.parts[-5]}\n"
        descriptor = os.open(counter.read_text().strip(), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, line.encode())
        os.close(descriptor)


def main() -> None:
    folder = Path(os.environ["AUTOLAB_TRIAL_DIR"])
    if "--dry-run" in sys.argv:
        return
    if "--summary" in sys.argv:
        summary = {"parameters": int(WIDTH * 10), "layers": [], "input_shape": [1], "output_shape": [2]}
        (folder / "summary.json").write_text(json.dumps(summary))
        return
    count("start", folder)
    settings = json.loads(Path(os.environ["AUTOLAB_CONFIG"]).read_text())
    points = json.loads((Path(os.environ["AUTOLAB_DATA"]) / "points.json").read_text())
    noise = random.Random(int(os.environ["AUTOLAB_SEED"]))
    width = settings.get("width", WIDTH)
    if width > 100:
        raise ValueError("a width above 100 has no shape")
    threshold = sum(points) / len(points) + noise.gauss(0, 0.02)
    time.sleep(settings.get("seconds", 0))
    (folder / "model").mkdir()
    (folder / "model" / "weights.json").write_text(json.dumps({"threshold": threshold, "slope": width}))
    (folder / "metrics.json").write_text(json.dumps({"train_loss": 1.0 / width}))
    (folder / "history.jsonl").write_text(json.dumps({"step": 1, "train_loss": 1.0 / width}) + "\n")
    count("done", folder)


main()
