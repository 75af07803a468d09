"""Record both proofs anew at the present commit: python tests/proofs/record.py (some five minutes).

Trains a lab on digits, runs three iterations of the demo's lab in mode `each`, and writes digits.json and demo.json
beside this file; --digits and --demo take labs in which that was done. Trainings have to give these numbers again; so
a number that changes needs a reason.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import proof_kit
import yaml
from lab_kit import LabKit

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

PARTS, PAIRS = 20, 3
"""As in docs/evidence.md: parts of the holdout, and of how many pairs they are scored."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--digits", type=Path, help="the lab of a trained digits proof")
    parser.add_argument("--demo", type=Path, help="a demo lab after its three iterations")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        trained = LabKit(given.digits or scratch, scratch / "count.txt")
        if given.digits is None:
            trained = proof_kit.run_loop(proof_kit.trained_lab(scratch), 1, timeout=1200)
        write("digits", trained, proof_kit.trials(trained))
        kit = LabKit(given.demo or scratch / "demo", scratch / "count.txt")
        if given.demo is None:
            proof_kit.run_loop(proof_kit.demo_lab(kit), 3, timeout=3600)
        found = proof_kit.trials(kit)
        for folder in kit.iterations():
            hold_out(kit, folder, found, scratch)
        write("demo", kit, found)
        subprocess.run(["chmod", "-R", "u+w", str(scratch)], check=True)


def write(name: str, kit: LabKit, trials: dict[str, Any]) -> None:
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=HERE, text=True).strip()
    changed = subprocess.check_output(["git", "status", "--porcelain", "../../src"], cwd=HERE, text=True)
    config = yaml.safe_load((kit.root / ".autolab" / "config.yaml").read_text())
    told = {
        "commit": f"{commit} with changes in src" if changed else commit,
        "environment": proof_kit.environment(),
        "rows": [rows(kit, split) for split in ("eval", "holdout")],
        "config": {part: config[part] for part in ("metric", "test", "calibrate")},
        "compared": proof_kit.compared(kit),
        "trials": trials,
    }
    told["constant"] = told["compared"]["calibration"]["constant"]
    if name == "demo":
        told["held_out"] = proof_kit.held_out(told)
    (HERE / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def rows(kit: LabKit, split: str) -> int:
    import numpy as np

    return len(np.load(kit.root / "data" / split / "labels.npy"))


def hold_out(kit: LabKit, folder: Path, found: dict[str, Any], scratch: Path) -> None:
    """Scores on the holdout of a confirmation's trials, which the engine does not keep: from their models once more."""
    for path in folder.glob("runs/*/run_manifest.json"):
        manifest = json.loads(path.read_text())
        if manifest["kind"] != "confirm":
            continue
        place = found[f"{folder.name.rpartition('_')[2]}.{manifest['run_id']}"]
        for trial in manifest["trials"]:
            if trial["index"] >= manifest["comparisons"][0]["pairs"]:
                continue
            code = scratch / trial["commit"]
            if not code.exists():
                subprocess.run(["git", "clone", "-q", "--no-checkout", str(kit.root), str(code)], check=True)
                subprocess.run(["git", "checkout", "-q", "--detach", trial["commit"]], cwd=code, check=True)
            left = path.parent / "trials" / trial["trial"] / f"a{trial['attempt']}"
            known = place[trial["arm"]][trial["index"]]
            again = predicted(code, left / "train" / "model", "eval", scratch)
            assert scored(code, again, "eval", scratch) == known["score"], trial["trial"]
            made = predicted(code, left / "train" / "model", "holdout", scratch)
            known["holdout"] = scored(code, made, "holdout", scratch)
            if trial["index"] < PAIRS:
                parts = [scored(code, made, "holdout", scratch, part) for part in range(PARTS)]
                known["holdout_parts"] = [one["val_loss"] for one in parts]


def predicted(code: Path, model: Path, split: str, scratch: Path) -> Path:
    inputs = code / "data" / split / "inputs.npy"
    told = {"AUTOLAB_MODEL": str(model), "AUTOLAB_INPUTS": str(inputs), "AUTOLAB_TRIAL_DIR": str(scratch)}
    one_thread = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    subprocess.run([sys.executable, "predict.py"], cwd=code, env=told | one_thread, check=True)
    return scratch / "predictions.npy"


def scored(code: Path, predictions: Path, split: str, scratch: Path, part: int | None = None) -> dict[str, float]:
    """What the lab's evaluator says of all rows, or of every `PARTS`-th from row `part` on."""
    import numpy as np

    labels, every = code / "data" / split / "labels.npy", slice(None) if part is None else slice(part, None, PARTS)
    given = []
    for name, source in (("predictions", predictions), ("labels", labels)):
        given += [f"--{name}", str(scratch / f"some_{name}.npy")]
        np.save(given[-1], np.ascontiguousarray(np.load(source)[every]))
    out = scratch / "score.json"
    subprocess.run([sys.executable, "-I", str(code / "eval.py"), *given, "--out", str(out)], check=True)
    found: dict[str, float] = json.loads(out.read_text())
    return found


if __name__ == "__main__":
    main()
