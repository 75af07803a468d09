"""The proofs that numbers stay the same to the last digit: how their labs are made, and what of a lab is compared.

Everything goes through the command line and is read from files on disk, by the names of their fields. What is compared
are numbers and words about numbers; ids, commits, times, memory and drawn seeds are left out.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import math
import platform
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from lab_kit import TINY, LabKit, decision, design, each_idea, implementation, iteration, script

PROOFS = Path(__file__).parent / "proofs"
SEEDS = list(range(10))
ARMS = {"slow": {"lr": 0.002}, "long": {"epochs": 6}}
"""Variants of the digits proof; the lab's own settings are its baseline."""
FORCED = "env ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE {python}"
"""The trials' interpreter with the instructions that every x86-64 processor has, so that sums come out alike."""


def proof(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PROOFS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def numerics() -> dict[str, str]:
    """What the numbers made of scores depend on beside this package: scipy's quantiles differ at the 12th digit."""
    found = {name: importlib.metadata.version(name) for name in ("scipy", "numpy")}
    return found | {"python": ".".join(platform.python_version_tuple()[:2]), "machine": platform.machine()}


def environment() -> dict[str, str]:
    """What the numbers of a training depend on beside code, settings, seed and data."""
    asked = "import torch; print(torch.__version__, torch.backends.cpu.get_cpu_capability())"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False)
    torch, capability = told.stdout.split() if told.returncode == 0 else ("none", "unknown")
    return numerics() | {"torch": torch, "cpu_capability": capability, "cpu": cpu()}


def cpu() -> str:
    """The kind of processor: two that run the same instructions may sum in another order."""
    keys = ("vendor_id", "cpu family", "model", "model name", "stepping")
    lines = {}
    path = Path("/proc/cpuinfo")
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        key, _, value = line.partition(":")
        lines.setdefault(key.strip(), value.strip())
    return " ".join(lines[key] for key in keys if key in lines) or platform.processor() or "unknown"


# Labs


def set_config(kit: LabKit, **changes: Any) -> None:
    path = kit.root / ".autolab" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes, sort_keys=False))


def trained_lab(folder: Path) -> LabKit:
    """Digits with a baseline and two settings variants over ten named seeds, trained for a few seconds each."""
    kit = LabKit(folder, folder / "count.txt")
    made = kit.autolab("init", str(folder / "lab"), "--template", "digits", "--seed", "1")
    assert made.code == 0, made.err
    kit.root = folder / "lab"
    settings = kit.root / "settings.py"
    short = settings.read_text().replace("epochs: int = 60", "epochs: int = 4")
    assert short != settings.read_text()
    settings.write_text(short)
    kit.git("commit", "-qam", "Short trainings")
    answers = iteration(
        design=settings_design(),
        implementation={"output": {"plan": "Say it.", "files": [{"path": "NOTES.md", "content": "Settings alone.\n"}]}},
    )
    (kit.root / ".autolab" / "script.yaml").write_text(yaml.safe_dump(script(answers)))
    commands = {
        name: {"command": f"{FORCED} {name}.py", "time_limit_s": 300, "memory_gb": 2} for name in ("train", "predict")
    }
    set_config(
        kit,
        **commands,
        metric={"primary": "val_loss", "direction": "minimize", "success_delta": 0.2, "report": ["accuracy", "f1"]},
        researcher={"name": "scripted", "script": ".autolab/script.yaml"},
        containment="none",
        run_time_minutes=[0, 5],
        calibrate={"seeds": 3},
        test={"mode": "each", "rule": "fixed", "alpha": 0.005, "max_pairs": 10, "confirm_pairs": 10},
    )
    return kit


def demo_lab(kit: LabKit) -> LabKit:
    """The lab of `autolab demo` at the kit's root; each idea is tested to its end."""
    root, kit.root = kit.root, kit.root.parent
    made = kit.autolab("init", str(root), "--template", "digits", "--seed", "0")
    assert made.code == 0, made.err
    kit.root = root
    told = yaml.safe_load((kit.root / ".autolab" / "config.yaml").read_text())
    set_config(kit, **each_idea(told))
    return kit


def settings_design() -> dict[str, Any]:
    variants = [{"name": name, "config_overrides": settings} for name, settings in ARMS.items()]
    return design(variants=variants, seeds=SEEDS)


def lookup_lab(folder: Path, recorded: dict[str, Any], answers: Any) -> LabKit:
    """A lab whose trials look their scores up in what was recorded."""
    template = folder / "template"
    shutil.copytree(TINY, template)
    for program in (PROOFS / "lab").iterdir():
        shutil.copy(program, template)
    (template / "recorded.json").write_text(json.dumps(recorded["trials"]))
    for number, (split, count) in enumerate(zip(("eval", "holdout"), recorded["rows"], strict=True)):
        place = template / "data" / split
        place.mkdir(exist_ok=True)
        _write_npy(place / "inputs.npy", "f", [float(number)] * count)
        _write_npy(place / "labels.npy", "d", [recorded["constant"]] * count)
    (template / ".autolab" / "script.yaml").write_text(yaml.safe_dump(answers))
    kit = LabKit(folder, folder / "count.txt")
    kit.root = template
    evaluate = {"script": "eval.py", "eval": "data/eval", "holdout": "data/holdout"}
    set_config(kit, **each_idea(recorded["config"]), evaluate=evaluate)
    kit.root = folder
    made = kit.autolab("init", str(folder / "lab"), "--template", str(template), "--seed", "1")
    assert made.code == 0, made.err
    kit.root = folder / "lab"
    return kit


def _write_npy(path: Path, kind: str, values: list[float]) -> None:
    header = f"{{'descr': '<f{struct.calcsize(kind)}', 'fortran_order': False, 'shape': ({len(values)},), }}"
    header += " " * (117 - len(header)) + "\n"
    body = struct.pack(f"<{len(values)}{kind}", *values)
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body)


def looked_up_digits(folder: Path, recorded: dict[str, Any]) -> LabKit:
    return lookup_lab(folder, recorded, script(iteration(design=settings_design())))


def looked_up_demo(folder: Path, recorded: dict[str, Any]) -> LabKit:
    """The demo's iterations with candidates that differ from each other, and that change nothing but a number."""
    answers = []
    for number, known in enumerate(recorded["compared"]["iterations"]):
        (arm,) = {one["arm"] for run in known["runs"].values() for one in run["comparisons"]}
        more = {"decide_repeat": decision(known["decision"])}
        answers.append(iteration(design=design(arm), implementation=implementation(number + 10.0), **more))
    return lookup_lab(folder, recorded, script(*answers))


# What is compared


def run_loop(kit: LabKit, iterations: int, timeout: float = 600) -> LabKit:
    ended = kit.autolab("loop", "--max-iterations", str(iterations), "--plain", timeout=timeout)
    assert ended.code == 0, ended.out + ended.err
    return kit


COMPARISON = ("arm", "baseline", "metric", "verdict", "reason", "pairs", "e_plus", "e_minus", "bound", "cut")
INTERVAL = ("n", "mean", "low", "high", "level")
CONFIRMATION = ("arm", "shrunken", "reason", "holdout", "holdout_error", "outcome", "claim", "alpha", "suspicions")
CALIBRATED = ("mean", "deviation", "quantum", "deterministic", "rerun_difference", "seeds_differ", "altered_effect")
CALIBRATED += ("correlation", "difference_deviation", "worst", "constant", "bound", "pairs", "max_pairs")
RULE = ("rule", "alpha", "max_pairs", "bound")
VOLATILE = {"seconds", "max_rss_bytes", "memory_gb", "commit", "iteration", "description", "seed", "parameters"}


def compared(kit: LabKit) -> dict[str, Any]:
    """Every number that a user could rest a claim on, and what the loop made of it, iteration by iteration."""
    folders = kit.iterations()
    commits = {json.loads((folder / "record.json").read_text())["commit"]: n for n, folder in enumerate(folders, 1)}
    champion = kit.git("for-each-ref", "--format=%(objectname)", "refs/heads/autolab/champion").strip()
    return {
        "calibration": _some(json.loads((kit.root / ".autolab" / "calibration.json").read_text()), CALIBRATED),
        "iterations": [_iteration(folder, commits) for folder in folders],
        "champion": commits.get(champion, "none"),
        "results.tsv": _rows(kit.root / "results.tsv", "\t"),
    }


def _iteration(folder: Path, commits: dict[str, int]) -> dict[str, Any]:
    results = yaml.safe_load((folder / "results.yaml").read_text())
    record = json.loads((folder / "record.json").read_text())
    manifests = {path.parent.name: json.loads(path.read_text()) for path in _manifests(folder)}
    claim = results["confirmation"]
    return {
        "base": [commits.get(one["git"]["base_commit"], "the lab's own") for one in manifests.values()],
        "runs": {name: _run(folder / "runs" / name, one) for name, one in manifests.items()},
        "verdict": results["assessment"]["verdict"],
        "reason": results["assessment"]["reason"],
        "recommendation": results["recommendation"],
        "metrics": results["metrics"],
        "confirmation": claim and _some(claim, CONFIRMATION) | {"difference": _some(claim["difference"], INTERVAL)},
        "outcome": record["outcome"],
        "decision": record["planning_decision"]["action"],
        "kept": (folder / "merge_request.md").exists(),
        "tables": {name: _rows(folder / "analysis" / "tables" / f"{name}.csv", ",") for name in ("arms", "pairs")},
    }


def _run(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    return {
        "status": manifest["status"],
        "reason": manifest["reason"],
        "rule": _some(manifest["rule"], RULE),
        "comparisons": [
            _some(one, COMPARISON) | {"difference": _some(one["difference"], INTERVAL)}
            for one in manifest["comparisons"]
        ],
        "arms": json.loads((folder / "metrics.json").read_text())["arms"],
    }


def differences(found: Any, known: Any, tolerance: float = 0.0, place: str = "") -> list[str]:
    """A line for each value that is not the recorded one: to the last digit, or within a relative `tolerance`."""
    if isinstance(found, dict) and isinstance(known, dict) and found.keys() == known.keys():
        below = [(f"{place}.{name}", found[name], known[name]) for name in found]
    elif isinstance(found, list) and isinstance(known, list) and len(found) == len(known):
        below = [(f"{place}[{n}]", found[n], known[n]) for n in range(len(found))]
    elif found == known or (tolerance and _close(found, known, tolerance)):
        return []
    else:
        return [f"{place}: {found!r}, recorded {known!r}"]
    return [line for name, one, other in below for line in differences(one, other, tolerance, name)]


def _close(found: Any, known: Any, tolerance: float) -> bool:
    try:  # a table's cells are text
        return math.isclose(float(found), float(known), rel_tol=tolerance, abs_tol=tolerance)
    except (TypeError, ValueError):
        return False


def _manifests(folder: Path) -> Iterable[Path]:
    return sorted(folder.glob("runs/*/run_manifest.json"))


def _some(given: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: given[name] for name in names}


def _rows(table: Path, delimiter: str) -> list[dict[str, str]]:
    with table.open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter=delimiter))
    return [{name: value for name, value in row.items() if name not in VOLATILE} for row in rows]


def trials(kit: LabKit) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """What the trials measured: `<iteration>.<run>` -> arm -> by index; see proofs/lab/train.py.

    Trainings of the same code, settings and seeds are the same ones: an arm lists all that is known of its base.
    """
    manifests = [
        (folder.name.rpartition("_")[2], json.loads(path.read_text()))
        for folder in (kit.root / "experiments" / "calibration", *kit.iterations())
        for path in _manifests(folder)
    ]
    same: dict[Any, dict[int, dict[str, Any]]] = {}
    listed: dict[str, dict[str, Any]] = {}
    for name, manifest in manifests:
        for arm in manifest["arms"]:
            own = [one for one in manifest["trials"] if (one["arm"], one["outcome"]) == (arm["name"], "completed")]
            shared = manifest["kind"] != "confirm" and arm["name"] == "baseline"
            place = f"{name}.{manifest['run_id']}"
            first = next(one["seed"] for one in own if one["index"] == 0)
            key = (own[0]["commit"], json.dumps(arm["settings"]), first) if shared else (place, arm["name"])
            same.setdefault(key, {}).update({one["index"]: _some(one, ("score", "self_reported")) for one in own})
            listed.setdefault(place, {})[arm["name"]] = key
    return {place: {arm: _in_order(same[key]) for arm, key in arms.items()} for place, arms in listed.items()}


def held_out(recorded: dict[str, Any]) -> dict[str, Any]:
    """The test of the confirmation on the holdout, of which the record on disk keeps the answer alone."""
    from autolab.stats.holdout import passes

    (arms,) = [arms for arms in recorded["trials"].values() if any("holdout" in one for one in arms["baseline"])]
    before, after = ([one for one in arms[arm] if "holdout" in one] for arm in sorted(arms, key="baseline".__ne__))
    pairs = list(zip(before, after, strict=True))
    gains = [old["holdout"]["val_loss"] - new["holdout"]["val_loss"] for old, new in pairs]
    parts = [
        [a - b for a, b in zip(old["holdout_parts"], new["holdout_parts"], strict=True)]
        for old, new in pairs
        if "holdout_parts" in old
    ]
    tested = passes(gains, parts)
    return {"mean": tested.mean, "error": tested.error, "z": tested.z}


def _in_order(found: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """The numbers from index 0 up to the first gap."""
    return [found[index] for index in range(len(found)) if index in found][: _gap(found)]


def _gap(found: dict[int, Any]) -> int:
    return next(index for index in range(len(found) + 1) if index not in found)
