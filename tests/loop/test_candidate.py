"""What is made of an answer before anything is measured: the claim, its design, the candidate's code."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from lab_kit import HELPS, LabKit, decision, design, hypothesis, implementation, iteration, make_lab, script

from autolab import files
from autolab.lab.front_matter import front_matter
from autolab.lab.ledger import FIRST, Line
from autolab.lab.schemas.experiment import Hypothesis, ReviewResult
from autolab.loop.hypothesis import carry_hypothesis, hypothesis_text
from autolab.loop.review import gate

RECORD = {
    "run_id": None,
    "iteration": 1,
    "iteration_id": "old",
    "hypothesis_id": "h1",
    "timestamp": "2026-01-01T00:00:00Z",
    "model_config": {},
    "assembler": {"via": "scripted"},
    "llm_response": [],
    "code_path": "exp/h1",
    "code_checksum": "",
    "commit": "",
    "summary": None,
    "eval_metrics": {},
    "status": "completed",
    "verdict": None,
    "planning_decision": {"action": "refine", "reason": "r"},
}


# A refinement's hypothesis


def refining(folder: Path, next_config: dict[str, Any] | None = None) -> Any:
    """An iteration that refines `old`, as far as `carry_hypothesis` looks at it."""
    for name in ("old", "new"):
        (folder / name).mkdir()
    decided = RECORD["planning_decision"] | {"next_config": next_config}  # type: ignore[operator]
    (folder / "old" / "record.json").write_text(json.dumps(RECORD | {"planning_decision": decided}))
    parts = {
        name: SimpleNamespace(hypothesis=folder / name / "hypothesis.md", record=folder / name / "record.json")
        for name in ("old", "new")
    }
    return SimpleNamespace(
        paths=parts["old"],
        campaign=SimpleNamespace(parent="old"),
        lab=SimpleNamespace(iteration=parts.__getitem__),
        relative=str,
        load=lambda kind, path: kind.load(path),
        write=Path.write_text,
    )


def carried(refinement: Any, claim: Hypothesis, body: str = "Prose.") -> tuple[Hypothesis, str]:
    """The claim of the new iteration, and its whole text."""
    refinement.paths.hypothesis.write_text(hypothesis_text(claim, body))
    refinement.paths = refinement.lab.iteration("new")
    carry_hypothesis(refinement)
    text = refinement.paths.hypothesis.read_text()
    return Hypothesis.from_text(front_matter(text, "hypothesis.md"), "hypothesis.md"), text


def claim(mechanism: str = "m", **more: Any) -> Hypothesis:
    return Hypothesis(
        id="h1",
        title="T ---",
        metric="m",
        direction="minimize",
        success_delta=1.0,
        success="s",
        risk_bounds=(),
        mechanism=mechanism,
        **more,
    )


@pytest.mark.parametrize("mechanism", ["plain", "ends in ---", "a line\n---\nbetween", "--- begins"])
def test_a_refinement_carries_the_hypothesis_whatever_its_words(tmp_path: Path, mechanism: str) -> None:
    old = claim(mechanism)
    new, text = carried(refining(tmp_path), old, "Prose.\n\n---\n\nMore.")
    assert new == old.model_copy(update={"parent": "old"})
    assert text.endswith("# T ---\n\nProse.\n\n---\n\nMore.\n")


def test_a_refinement_takes_the_network_that_was_decided_on(tmp_path: Path) -> None:
    old = claim(changes={"model_config": {"name": "a"}, "norm": "batch"})
    new, _ = carried(refining(tmp_path, {"name": "b"}), old)
    assert new.changes == {"model_config": {"name": "b"}, "norm": "batch"}


# The gate before launch


def at_the_gate(folder: Path, reviewed: str) -> Any:
    """An iteration whose candidate is commit aaa…, with a recorded review that passed `reviewed`."""
    path = folder / "review_result.json"
    review = ReviewResult(status="pass", required_checks={}, reviewed_at="2026-01-01T00:00:00Z", commit=reviewed)
    path.write_text(review.to_json())
    written = {"commit": reviewed, "status": "pass", "sha256": files.sha256_of_file(path)}
    recorded = Line(1, "2026-01-01T00:00:00Z", "reviewed", written, FIRST, FIRST)
    git = SimpleNamespace(add_worktree=lambda *_: None, worktree_equals=lambda *_: True)
    return SimpleNamespace(
        paths=SimpleNamespace(review_result=path),
        candidate=lambda: "a" * 40,
        relative=lambda one: one.name,
        events=lambda: [recorded],
        lab=SimpleNamespace(git=git),
        worktree=folder,
        slug="h1",
    )


def test_a_recorded_review_of_another_commit_forbids_the_launch(tmp_path: Path) -> None:
    assert gate(at_the_gate(tmp_path, "a" * 40)) == ""
    said = gate(at_the_gate(tmp_path, "b" * 40))
    assert said == f"review_result.json: commit is {'b' * 40}, the candidate is {'a' * 40}"


# A network as data, through the command line

CNN = {"name": "small_cnn", "layers": [{"type": "conv", "channels": 8}, {"type": "flatten"}]}
WIDER = {"name": "wider_cnn", "layers": [{"type": "conv", "channels": 16}, {"type": "flatten"}]}
METHOD = {
    "model": {"name": "mlp", "input": [1, 8, 8], "classes": 10, "layers": [{"type": "flatten"}]},
    "recipe": {"lr": 0.01, "weight_decay": 0.1},
    "baselines": ["mlp"],
}
NO_CODE = {"output": {"plan": "As the design says."}}


def with_method(folder: Path, told: Any, **config: Any) -> LabKit:
    """The tiny lab with a method.json. Its training knows nothing of networks, so that none needs torch."""
    kit = make_lab(folder, told, config=config)
    (kit.root / "method.json").write_text(json.dumps(METHOD))
    (kit.root / "models" / "__init__.py").write_text('DEFAULT = "mlp"\n')
    (kit.root / "models" / "mlp.py").write_text("")
    kit.git("add", "method.json", "models")
    kit.git("commit", "-qm", "a method")
    return kit


def loop(kit: LabKit, count: int) -> None:
    ended = kit.autolab("loop", "--max-iterations", str(count))
    assert ended.code == 0, ended.out + ended.err


def refused(kit: LabKit) -> list[str]:
    return [e["data"]["reason"] for e in kit.events("transition") if e["data"].get("outcome") == "retry"]


def prompt(kit: LabKit, number: int, ask: str) -> str:
    return (kit.store / "requests" / kit.iterations()[number].name / ask / "prompt.md").read_text()


@pytest.mark.process
def test_a_network_is_proposed_assembled_and_refined_without_a_line_of_code(tmp_path: Path) -> None:
    claim = hypothesis("A small CNN", model_config=CNN, assumptions=["Pixels have neighbours."], notes="Seen nowhere.")
    wrong, again = (decision("refine")["output"] | {"next_config": given} for given in ({"layers": [1]}, WIDER))
    decisions = [{"output": wrong}, {"output": again}]
    first = iteration(hypothesis=claim, implementation=NO_CODE, decide_repeat=decisions)
    kit = with_method(tmp_path, script(first, iteration(implementation=NO_CODE)))
    loop(kit, 2)
    one, two = kit.iterations()
    text = (one / "hypothesis.md").read_text()
    assert "## Assumptions\n\n- Pixels have neighbours.\n\n## Notes\n\nSeen nowhere.\n" in text
    specs = [yaml.safe_load((folder / "design.yaml").read_text()) for folder in (one, two)]
    assert [spec["model"] for spec in specs] == [{"model_config": CNN}, {"model_config": WIDER}]
    assert [spec["changes"] for spec in specs] == [{"model_config": CNN}, {"model_config": WIDER}]
    records = [json.loads((folder / "record.json").read_text()) for folder in (one, two)]
    assert [record["assembler"]["via"] for record in records] == ["assembler", "assembler"]
    assert [record["planning_decision"]["next_config"] for record in records] == [WIDER, None]
    for record, name, channels in zip(records, ("small_cnn", "wider_cnn"), (8, 16), strict=True):
        assert f"nn.Conv2d(1, {channels}," in kit.git("show", f"{record['commit']}:models/{name}.py")
        assert f'DEFAULT = "{name}"' in kit.git("show", f"{record['commit']}:models/__init__.py")
    assert "small_cnn" not in kit.git("ls-tree", "-r", "--name-only", records[1]["commit"])
    assert "As the design says." in (one / "implementation_plan.md").read_text()
    assert "model_config: A model, layer by layer." in prompt(kit, 0, "hypothesis-1")
    (said,) = refused(kit)
    assert said.startswith("next_config: model: model_config: layers.0: ") and said in prompt(kit, 0, "decide_repeat-2")


@pytest.mark.process
def test_a_network_that_cannot_be_built_goes_back_and_code_of_ones_own_is_taken_as_it_is(tmp_path: Path) -> None:
    flat = {"name": "flat", "layers": [{"type": "conv", "channels": 8}]}
    claims = [hypothesis("Flat", model_config=flat), hypothesis("CNN", model_config=CNN)]
    taken = {"model_config": CNN | {"name": "mlp"}}
    own = implementation(4.0, via="assembler")
    told = iteration(hypothesis=claims, design=[design(model=taken), design()], implementation=own)
    kit = with_method(tmp_path, script(told))
    loop(kit, 1)
    assert [line.partition(": model")[0] for line in refused(kit)] == ["hypothesis", "design"]
    assert "end with flatten or global_pool" in refused(kit)[0]
    assert "models/mlp.py is there already; choose another name" in refused(kit)[1]
    assert refused(kit)[0] in prompt(kit, 0, "hypothesis-2")
    (said,) = kit.events("candidate")
    assert said["data"]["via"] == "scripted", "nobody is the assembler by saying so"
    assert "small_cnn" not in kit.git("ls-tree", "-r", "--name-only", said["data"]["commit"])


# What the prompts quote


@pytest.mark.process
def test_each_stage_is_shown_what_it_needs_and_the_reviewer_no_word_of_the_author(tmp_path: Path) -> None:
    fixed = implementation(4.0, plan="TRUST-ME") | {"summary": "WELL-DONE"}
    told = HELPS | {"implementation": [implementation("slope"), fixed]}
    kit = make_lab(tmp_path, script(told), config={"target": "accuracy>=2"})
    loop(kit, 1)
    first, second = (prompt(kit, 0, f"implementation-{number}") for number in (1, 2))
    assert "=== models/width.py ===\nWIDTH = 2.0\n" in first, "the base's"
    assert "=== models/width.py ===\nWIDTH = slope\n" in second, "that of the candidate which failed"
    assert "labels.npy" not in first and "=== eval.py" not in first
    assert refused(kit)[0] in second
    shown = prompt(kit, 0, "implementation_review-1")
    assert "the deviation between seeds is" in shown and "A trial takes" in shown, "the calibration"
    assert '"parameters": 40' in shown and "+WIDTH = 4.0" in shown
    assert "TRUST-ME" not in shown and "WELL-DONE" not in shown
    assert "the measured metric against the target: not met: " in prompt(kit, 0, "decide_repeat-1")
