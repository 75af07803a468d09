"""The offline researcher: what it understands, what it changes, what it tries next, and what it finds."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from autolab.errors import RecordError, ResearcherError
from autolab.lab.schemas.config import Config, ResearcherConfig
from autolab.lab.schemas.experiment import Design, Hypothesis, Lesson
from autolab.lab.schemas.method import Method
from autolab.lab.schemas.outcomes import Stage, Verdict
from autolab.researchers import assembler
from autolab.researchers.assembler.written_method import NotApplicable
from autolab.researchers.base import Code, Documents, Goal, History, LabSnapshot, Task, TaskFolders
from autolab.researchers.offline.bandit import choose, ideas, without
from autolab.researchers.offline.bench import Constants, find_bench
from autolab.researchers.offline.catalogue import SHIPPED, Mechanism, load, understand
from autolab.researchers.offline.changes import CHANGES, apply
from autolab.researchers.offline.researcher import OfflineResearcher

SHIPPED_MECHANISMS = load(SHIPPED, "catalogue.yaml", tuple(CHANGES))
TEMPLATES = Path(__file__).resolve().parents[2] / "src" / "autolab" / "templates"
DIGITS = Method.from_text((TEMPLATES / "digits" / "method.json").read_text(), "method.json")
CIFAR = Method.from_text((TEMPLATES / "cifar10" / "method.json").read_text(), "method.json")


def lesson(changes: Mapping[str, JsonValue], mean: float | None, base: str = "b", **more: Any) -> Lesson:
    """What was learned of some changes whose gain was `mean` success_deltas."""
    families = [m.family for m in SHIPPED_MECHANISMS for change in changes if m.change == change]
    verdict = None if mean is None else Verdict.SUPPORTED if mean >= 1 else Verdict.REFUTED
    verdict = Verdict.INCONCLUSIVE if mean is not None and 0.1 < mean < 1 else verdict
    value = {
        "iteration": 1,
        "iteration_id": "i1",
        "hypothesis_id": "h1",
        "title": "t",
        "family": "+".join(dict.fromkeys(families)) or None,
        "changes": dict(changes),
        "base": base,
        "commit": "c",
        "status": "failed" if mean is None else "completed",
        "verdict": verdict,
        "reason": "",
        "delta": 0.01,
        "gain": None if mean is None else {"n": 10, "mean": mean * 0.01, "low": None, "high": None, "level": 0.99},
        "decision": "new_hypothesis",
    }
    return Lesson.from_value(value | more, "lesson")


# What a goal asks for


@pytest.mark.parametrize(
    ("goal", "named"),
    [
        ("test CNN with GELU + depthwise separable convs", ["convolution", "gelu", "depthwise_separable"]),
        ("Depthwise-Separable convolutions, please", ["depthwise_separable"]),
        ("does batchnorm help? and Mix-up?", ["batch_norm", "mixup"]),
        ("global average pooling", ["global_average"]),
        ("average pooling", ["average_pool"]),
        ("测试 GELU 与深度可分离卷积", ["gelu", "depthwise_separable"]),
        ("leaky ReLU", ["leaky_relu"]),
        ("a gelular network", []),
        ("make it better", []),
        ("提高准确率", []),
    ],
)
def test_a_goal_names_mechanisms_in_its_order(goal: str, named: list[str]) -> None:
    assert [mechanism.name for mechanism in understand(goal, SHIPPED_MECHANISMS).mechanisms] == named


def test_words_that_say_nothing_to_the_catalogue_are_given_back() -> None:
    assert understand("try GELU with quantum entanglement", SHIPPED_MECHANISMS).rest == ("quantum", "entanglement")


# The catalogue


def test_every_mechanism_has_words_a_reason_and_a_source() -> None:
    assert len(SHIPPED_MECHANISMS) >= 35 and len({m.family for m in SHIPPED_MECHANISMS}) >= 10
    for mechanism in SHIPPED_MECHANISMS:
        assert mechanism.words and len(mechanism.rationale) > 40 and mechanism.references


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "other", "change": "magic"}, "change: 'magic' is not known; known: convolution"),
        ({}, "name: gelu is there twice"),
    ],
)
def test_a_catalogue_of_ones_own_is_refused_in_one_line(tmp_path: Path, change: dict[str, str], said: str) -> None:
    entry = {"name": "gelu", "family": "f", "title": "t", "change": "activation", "values": ["gelu"], "rationale": "r"}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"mechanisms": [entry, entry | change]}))
    with pytest.raises(RecordError, match=r"mechanisms\.1") as caught:
        load(path, "mine.json", tuple(CHANGES))
    assert said in str(caught.value)


# What a mechanism changes


@pytest.mark.parametrize("mechanism", SHIPPED_MECHANISMS, ids=lambda m: m.name)
@pytest.mark.parametrize("base", [DIGITS, CIFAR], ids=["digits", "cifar10"])
def test_every_change_can_be_built_or_says_why_not(base: Method, mechanism: Mechanism) -> None:
    """Also on a convolutional base, so that each is built at least once."""
    convolved = apply(base, {"convolution": 16}, "conv") if base is DIGITS else base
    built = 0
    for value in mechanism.values:
        for method in (base, convolved):
            try:
                made = apply(method, {mechanism.change: value}, "candidate")
            except NotApplicable as error:
                assert "\n" not in str(error) and len(str(error)) > 10
                continue
            built += 1
            assert (made.model, made.recipe) != (method.model, method.recipe)
            assert (made.model.name == "candidate") == (made.model != method.model)
            compile(assembler.model_source(made.model).text, "model", "exec")
            compile(assembler.recipe_source(made.recipe).text, "recipe", "exec")
    refusals = {("digits", "less_dropout"), ("cifar10", "convolution"), ("cifar10", "less_dropout")}
    assert built or ("digits" if base is DIGITS else "cifar10", mechanism.name) in refusals


def test_a_goals_mechanisms_come_together_whatever_their_order() -> None:
    wanted = {"activation": "gelu", "depthwise_separable": True, "convolution": 16}
    made = apply(DIGITS, wanted, "custom")
    assert made == apply(DIGITS, dict(reversed(wanted.items())), "custom")
    kinds = [layer.type for layer in made.model.layers]
    assert kinds[:5] == ["conv", "activation", "depthwise_separable", "activation", "pool"]
    assert {layer["kind"] for layer in made.model.value()["layers"] if layer["type"] == "activation"} == {"gelu"}


def test_a_change_that_changes_nothing_is_no_experiment() -> None:
    with pytest.raises(NotApplicable, match="activation: changes nothing here"):
        apply(DIGITS, {"activation": "relu"}, "candidate")


def test_a_layer_that_does_not_fit_is_no_experiment() -> None:
    with pytest.raises(NotApplicable, match="shift: 4 pixels are too many for a side of 8"):
        apply(DIGITS, {"shift": 4}, "candidate")


# Which lab


def config(command: str = "{python} train.py") -> Config:
    metric = {"primary": "val_loss", "direction": "minimize", "success_delta": 0.01}
    return Config.from_value({"metric": metric, "train": {"command": command}}, "config.yaml")


def lab(**files: str) -> Callable[[str], str | None]:
    named = {
        name.replace("__", "/").replace("_py", ".py").replace("_json", ".json"): text for name, text in files.items()
    }
    return lambda path: named.get(path)


def test_constants_of_a_script_are_doubled_and_halved() -> None:
    script = (
        "import os\nLR = 3e-4  # step size\nBATCH = 16\nSEED = 42\nPADDING = 0\nDEPTH: int = 8\nWIDTH = 2 * DEPTH\n"
    )
    found = find_bench(lab(train_py=script), config(), None)
    assert isinstance(found, Constants)
    assert [m.title for m in found.mechanisms] == ["LR doubled", "LR halved", "BATCH doubled", "BATCH halved"]
    assert [m.name for m in found.mechanisms] == ["lr_doubled", "lr_halved", "batch_doubled", "batch_halved"]
    written = found.write({"LR up": 2.0, "BATCH down": 0.5}, "x")
    assert [edit.replace for edit in written.edits] == ["LR = 0.0006  # step size", "BATCH = 8"]
    assert found.model({"BATCH down": 0.5}, "x") == {"BATCH": 8}


def test_a_constant_that_rounding_leaves_as_it_is_is_no_experiment() -> None:
    found = find_bench(lab(train_py="LAYERS = 1\n"), config(), None)
    assert not found.fits({"LAYERS down": 0.5}) and found.fits({"LAYERS up": 2.0})


def test_a_lab_with_nothing_to_change_is_refused_with_the_way_out() -> None:
    with pytest.raises(ResearcherError, match=r"finds nothing to change: .* --researcher claude$"):
        find_bench(lab(train_py="print('hello')\n"), config(), None)


# What is tried next


def fits(_: dict[str, JsonValue]) -> bool:
    return True


def test_what_was_measured_on_this_base_is_not_tried_again() -> None:
    found = ideas(SHIPPED_MECHANISMS, [lesson({"activation": "gelu"}, -1)], "b", fits)
    assert {"activation": "gelu"} not in [idea.changes for idea in found]
    other = ideas(SHIPPED_MECHANISMS, [lesson({"activation": "gelu"}, -1, base="a")], "b", fits)
    assert {"activation": "gelu"} in [idea.changes for idea in other]


def test_what_failed_is_never_tried_again() -> None:
    for failed in (
        lesson({"activation": "gelu"}, None, base="a"),
        lesson({"activation": "gelu"}, 0.0, "a", reason="no_change"),
    ):
        found = ideas(SHIPPED_MECHANISMS, [failed], "b", fits)
        assert {"activation": "gelu"} not in [idea.changes for idea in found]


def test_a_higher_dose_follows_only_a_promising_one() -> None:
    def tried(mean: float) -> bool:
        found = ideas(SHIPPED_MECHANISMS, [lesson({"label_smoothing": 0.02}, mean)], "b", fits)
        return {"label_smoothing": 0.05} in [idea.changes for idea in found]

    assert tried(0.5) and not tried(0.1) and not tried(-1)


def test_two_near_misses_of_different_families_are_tried_together() -> None:
    close = [lesson({"activation": "gelu"}, 0.6), lesson({"norm": "batch"}, 0.5), lesson({"activation": "silu"}, 0.4)]
    found = ideas(SHIPPED_MECHANISMS, close, "b", fits)
    assert [idea.changes for idea in found if len(idea.parts) == 2] == [{"activation": "gelu", "norm": "batch"}]


def test_a_family_that_pays_is_drawn_more_often_than_one_that_does_not() -> None:
    told = [lesson({"norm": "batch"}, 2.5), lesson({"optimiser": "sgd"}, -2.5), lesson({"optimiser": "lion"}, -2.0)]
    found = ideas(SHIPPED_MECHANISMS, told, "b", fits)
    chosen = [choose(found, told, random.Random(seed)) for seed in range(300)]
    families = [idea.families[0] for idea in chosen if idea is not None]
    assert families.count("normalisation") > 60 and families.count("optimiser") < 5


def test_on_a_plateau_the_families_tried_last_wait() -> None:
    told = [lesson({"norm": "batch"}, 0.05), lesson({"norm": "group"}, 0.05), lesson({"clip": 1.0}, 0.05)]
    found = ideas(SHIPPED_MECHANISMS, told, "b", fits)
    chosen = {choose(found, told, random.Random(seed)) for seed in range(100)}
    assert not {"normalisation"} & {family for idea in chosen if idea for family in idea.families}


def test_families_to_be_avoided_are_left_out_as_long_as_there_are_others() -> None:
    found = ideas(SHIPPED_MECHANISMS, (), "b", fits)
    families = {family for idea in found for family in idea.families}
    left = without(found, families - {"activation"})
    assert {family for idea in left for family in idea.families} == {"activation"}
    assert without(found, families) == found, "rather than nothing"


# In the place of another researcher


def answer(stage: Stage, changes: dict[str, Any], **files: str) -> dict[str, Any]:
    """What it answers where the claim and the design name `changes`."""
    spec = {
        "id": "e1",
        "iteration_id": "i1",
        "hypothesis_id": "h1",
        "entrypoint": {"command": "python train.py"},
        "reproducibility": {"seeds": {"max_pairs": 3}},
        "metrics": {"primary": "val_loss", "success_delta": 0.01},
        "baselines": [{"name": "baseline"}],
        "variants": [{"name": "steep"}],
        "changes": changes,
    }
    claim = {"id": "h1", "title": "t", "metric": "val_loss", "direction": "minimize", "success_delta": 0.01}
    read = lab(**files)
    documents = Documents(
        hypothesis_id="h1",
        refinement=0,
        hypothesis=Hypothesis.from_value(
            claim | {"success": "s", "risk_bounds": [], "mechanism": "m", "changes": changes}, "hypothesis.md"
        ),
        design=Design.from_value(spec, "design.yaml"),
        results=None,
    )
    snapshot = LabSnapshot(
        config=config(),
        goal=Goal(text="", given_with_loop=False, target=None),
        history=History(lessons=(), avoided_families=frozenset(["WIDTH"]), seed=1),
        documents=documents,
        code=Code(base_commit="b", read_base=read, read_candidate=read),
        trouble="",
    )
    task = Task("k", stage, "i1", 1, 1, "", TaskFolders(Path(), Path()), lambda: snapshot)
    raw = OfflineResearcher(ResearcherConfig()).perform(task).raw
    assert raw is not None
    value: dict[str, Any] = json.loads(raw)
    return value


NETWORK = {"model_config": {"name": "cnn"}}
LABS: list[dict[str, str]] = [{"train_py": "WIDTH = 2\n"}, {"method_json": DIGITS.to_json()}]


@pytest.mark.parametrize("files", LABS, ids=["constants", "method"])
@pytest.mark.parametrize("stage", [Stage.DESIGN, Stage.IMPLEMENTATION])
def test_there_is_no_code_for_another_researchers_claim(stage: Stage, files: dict[str, str]) -> None:
    said = answer(stage, NETWORK, **files)
    assert (said["status"], said["output"]) == ("failed", None)
    assert said["summary"] == "the claim is another researcher's: the catalogue has no change model_config"


@pytest.mark.parametrize("files", LABS, ids=["constants", "method"])
def test_the_review_of_another_researchers_network_says_what_it_did_not_compare(files: dict[str, str]) -> None:
    said = answer(Stage.IMPLEMENTATION_REVIEW, NETWORK, **files)
    assert said["status"] == "complete" and said["output"]["findings"] == []
    assert "names no changes of the catalogue" in said["output"]["notes"]


def test_a_family_to_be_avoided_is_not_proposed() -> None:
    files = {"train_py": "WIDTH = 2\nLR = 0.1\n"}
    assert answer(Stage.HYPOTHESIS, {}, **files)["output"]["family"] == "LR"
    assert answer(Stage.HYPOTHESIS, {}, train_py="WIDTH = 2\n")["output"]["family"] == "WIDTH", "there is no other"


def test_the_same_seed_and_lessons_give_the_same_idea() -> None:
    found = ideas(SHIPPED_MECHANISMS, (), "b", fits)
    chosen = [choose(found, (), random.Random("7 1")) for _ in range(2)]
    assert chosen[0] == chosen[1] and chosen[0] is not None


def campaign(seed: int, draw_from: str, iterations: int = 20) -> float:
    """Total true gain, in success_deltas, found in a made-up world whose families differ; the catalogue is shuffled."""
    world = random.Random(seed)
    family = {name: world.gauss(-0.3, 1.0) for name in sorted({m.family for m in SHIPPED_MECHANISMS})}
    truth = {(m.change, repr(v)): family[m.family] + world.gauss(0, 0.6) for m in SHIPPED_MECHANISMS for v in m.values}
    guesses = [m.expected for m in SHIPPED_MECHANISMS]
    world.shuffle(guesses)
    pairs = zip(SHIPPED_MECHANISMS, guesses, strict=True)
    shuffled = [m.model_copy(update={"expected": guess}) for m, guess in pairs]
    world.shuffle(shuffled)
    lessons: list[Lesson] = []
    base, have, total = "b0", set[str](), 0.0
    for number in range(iterations):
        open_ = [m for m in shuffled if m.change not in have]
        found = ideas(open_, lessons, base, fits)
        draw = random.Random(f"{seed} {number}")
        idea = draw.choice(found) if draw_from == "random" else choose(found, lessons, draw)
        assert idea is not None
        gain = sum(truth[change, repr(value)] for change, value in idea.changes.items())
        seen = gain + world.gauss(0, 0.35)
        lessons.insert(0, lesson(idea.changes, seen, base))
        if lessons[0].verdict is Verdict.SUPPORTED:
            total, base, have = total + gain, f"b{number}", have | set(idea.changes)
    return total


def test_a_shuffled_catalogue_still_finds_gains_and_more_than_chance_does() -> None:
    bandit = [campaign(seed, "bandit") for seed in range(40)]
    chance = [campaign(seed, "random") for seed in range(40)]
    ahead = [a - b for a, b in zip(bandit, chance, strict=True)]
    assert statistics.mean(bandit) > 2
    assert statistics.mean(ahead) > 2 * statistics.stdev(ahead) / len(ahead) ** 0.5, statistics.mean(ahead)
