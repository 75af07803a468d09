"""A lab whose own package is installed editable, in its own ./venv: through the command line, at each level.

Each trial imports the candidate's code, and reaches neither the labels nor the record by what is bound for it.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from editable_kit import WAYS, WIDTH, make_venv, package
from lab_kit import TINY, LabKit, each_idea, iteration, script

pytestmark = pytest.mark.process

LOOP = ("loop", "--max-iterations", "1")
THIEF = """
def stolen(lab):
    found = 0
    for path in ("data/eval/labels.npy", ".git/autolab/ledger.jsonl", ".git/autolab/secret", "eval.py"):
        try:
            with open(f"{lab}/{path}", "rb") as file:
                found += bool(file.read(1))
        except OSError:
            pass
    return found
"""


def own_lab(folder: Path, way: str, level: str, answers: Any) -> LabKit:
    """The tiny lab with its width in a package below src, which a venv in the lab has installed; it steals."""
    template, root = folder / "template", folder / "lab"
    subprocess.run(["cp", "-r", str(TINY), str(template)], check=True)
    package(template, 1.0)
    (template / "src" / "slope" / "__init__.py").write_text(f"from slope.width import WIDTH\n{THIEF}")
    train = (
        (template / "train.py")
        .read_text()
        .replace("from models.width import WIDTH", "import slope\n\nWIDTH = slope.WIDTH")
    )
    told = 'json.dumps({"train_loss": 1.0 / width'
    assert told in train
    train = train.replace(told, f'{told}, "stolen": slope.stolen({str(root)!r}), "package": slope.WIDTH', 1)
    (template / "train.py").write_text(train)
    (template / ".autolab" / "script.yaml").write_text(yaml.safe_dump(answers, sort_keys=False))
    path = template / ".autolab" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    for step in ("train", "predict"):
        config[step]["command"] = config[step]["command"].replace("-S -B", "-B")
    path.write_text(yaml.safe_dump(each_idea(config | {"containment": level}), sort_keys=False))
    policy = template / ".autolab" / "verifier_policy.yaml"
    checks = yaml.safe_load(policy.read_text().replace("-S -B", "-B"))
    checks |= {"smoke_command": "{python} -c 'import slope; assert slope.WIDTH'"}
    policy.write_text(yaml.safe_dump(checks))
    kit = LabKit(folder, folder / "count.txt")
    made = kit.autolab("init", str(root), "--template", str(template), "--seed", "3")
    assert made.code == 0, made.err
    kit.root = root
    WAYS[way](make_venv(root / "venv"), root)
    return kit


def steeper(width: float = 4.0) -> dict[str, Any]:
    files = [{"path": "src/slope/width.py", "content": WIDTH.format(width)}]
    return iteration(implementation={"output": {"plan": "Set the slope.", "files": files}})


def measured(kit: LabKit) -> dict[str, set[tuple[float, float]]]:
    """Arm -> what its trials said: the width that they imported, how much they had stolen."""
    found: dict[str, set[tuple[float, float]]] = {}
    for path in sorted(kit.root.glob("experiments/*/runs/*/trials/*/*/train/metrics.json")):
        told = json.loads(path.read_text())
        found.setdefault(path.parts[-4].rpartition("-")[0], set()).add((told["package"], told["stolen"]))
    return found


@pytest.mark.parametrize(("level", "way"), [("full", "path_line"), ("full", "finder"), ("partial", "path_line")])
def test_a_trial_imports_the_candidates_package_and_steals_nothing(tmp_path: Path, level: str, way: str) -> None:
    kit = own_lab(tmp_path, way, level, script(steeper()))
    ended = kit.autolab(*LOOP)
    assert ended.code == 0 and "verdict: supported" in ended.out, ended.out + ended.err
    found = measured(kit)
    assert found.pop("steep") == {(4.0, 0)}
    assert set().union(*found.values()) == {(1.0, 0)}, found
    ended = kit.autolab("verify")
    assert ended.code == 0, ended.out + ended.err


def test_at_none_it_imports_the_candidates_package_too(tmp_path: Path) -> None:
    kit = own_lab(tmp_path, "path_line", "none", script(steeper()))
    ended = kit.autolab(*LOOP)
    assert ended.code == 0 and "verdict: supported" in ended.out, ended.out + ended.err
    assert {width for width, _ in measured(kit)["steep"]} == {4.0}


def test_a_candidates_checks_run_its_own_package(tmp_path: Path) -> None:
    """Its dry run imports a module that only the candidate has."""
    files = [{"path": "src/slope/width.py", "content": "from slope.fresh import WIDTH\n"}]
    fresh = [{"path": "src/slope/fresh.py", "content": WIDTH.format(4.0)}]
    lacks = {"output": {"plan": "Half of it.", "files": files}}
    whole = {"output": {"plan": "All of it.", "files": [*files, *fresh]}}
    kit = own_lab(tmp_path, "finder", "full", script(iteration(implementation=[lacks, whole])))
    ended = kit.autolab(*LOOP)
    assert ended.code == 0 and "verdict: supported" in ended.out, ended.out + ended.err
    assert "env_smoke" in ended.out and "No module named 'slope.fresh'" in ended.out
