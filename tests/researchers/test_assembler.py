"""The assembler: what it says of a model is what torch finds, and its sources are as good as ones written by hand."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import math
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autolab.errors import RecordError
from autolab.lab.schemas.method import LAYER_TYPES, Method, ModelConfig, RecipeConfig
from autolab.researchers.assembler import (
    Source,
    method_source,
    model_source,
    parameters,
    recipe_source,
    shapes,
)

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "src" / "autolab" / "templates"
PLAIN = {"lr": 0.05, "weight_decay": 0.1}
CONV = {"type": "conv", "channels": 8}
FLATTEN = {"type": "flatten"}

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def model(*layers: dict[str, Any], **other: Any) -> ModelConfig:
    value = {"name": "small", "input": [2, 8, 6], "classes": 5, "layers": list(layers), **other}
    return ModelConfig.from_value(value, "model_config")


def recipe(**values: Any) -> RecipeConfig:
    return RecipeConfig.from_value({**PLAIN, **values}, "recipe")


def method(**values: Any) -> Method:
    return Method.from_value({"model": model(FLATTEN).value(), "recipe": recipe().value()} | values, "method.json")


def assemble(method: Method) -> tuple[Source, ...]:
    return model_source(method.model), recipe_source(method.recipe), method_source(method)


# Configurations that fit, layer by layer.

ACTIVATIONS = st.sampled_from(["relu", "gelu", "silu", "leaky_relu", "mish", "elu"])
CHANNELS = st.integers(1, 16)
KERNELS, STRIDES = st.sampled_from([1, 3, 5]), st.integers(1, 3)
NORMS = st.sampled_from(["batch", "group", "layer"])
CONVOLUTIONS = st.sampled_from(["conv", "depthwise_separable"])
ANYWHERE = (
    st.fixed_dictionaries({"type": st.just("activation"), "kind": ACTIVATIONS}),
    st.fixed_dictionaries({"type": st.just("norm"), "kind": NORMS}),
    st.fixed_dictionaries({"type": st.just("dropout"), "p": st.sampled_from([0.0, 0.3])}),
)
ON_MAPS = st.one_of(
    st.fixed_dictionaries({"type": CONVOLUTIONS, "channels": CHANNELS, "kernel": KERNELS, "stride": STRIDES}),
    st.fixed_dictionaries(
        {
            "type": st.just("residual"),
            "channels": CHANNELS,
            "stride": STRIDES,
            "convolution": CONVOLUTIONS,
            "norm": st.sampled_from(["batch", "group", "none"]),
            "activation": ACTIVATIONS,
        }
    ),
    st.fixed_dictionaries(
        {"type": st.just("pool"), "kind": st.sampled_from(["max", "avg"]), "size": st.integers(2, 3)}
    ),
    *ANYWHERE,
)
ENDS = st.one_of(
    st.just(FLATTEN),
    st.fixed_dictionaries({"type": st.just("global_pool"), "kind": st.sampled_from(["avg", "max"])}),
)
ON_VALUES = st.one_of(st.fixed_dictionaries({"type": st.just("linear"), "units": st.integers(1, 16)}), *ANYWHERE)


def fits(value: dict[str, Any]) -> bool:
    try:
        shapes(ModelConfig.from_value(value, "x"))
    except RecordError:
        return False
    return True


@st.composite
def models(draw: st.DrawFn) -> ModelConfig:
    """A model whose layers fit: one that does not is left out as it is drawn."""
    side = st.integers(3, 10)
    value = {
        "name": "drawn",
        "input": [draw(st.integers(1, 3)), draw(side), draw(side)],
        "classes": draw(st.integers(2, 12)),
        "initialisation": draw(st.sampled_from(["default", "kaiming", "orthogonal"])),
    }
    layers: list[dict[str, Any]] = []
    for layer in draw(st.lists(ON_MAPS, max_size=6)):
        layers += [layer] if fits(value | {"layers": [*layers, layer, FLATTEN]}) else []
    layers.append(draw(ENDS))
    for layer in draw(st.lists(ON_VALUES, max_size=3)):
        layers += [layer] if fits(value | {"layers": [*layers, layer]}) else []
    return ModelConfig.from_value(value | {"layers": layers}, "x")


def recipes() -> list[RecipeConfig]:
    """Every optimiser with every schedule, warm-up and averaging, and over them every set of the other mechanisms."""
    given = {"flip": True, "shift": 2, "cutout": 3, "noise": 0.1, "mixup": 0.2, "label_smoothing": 0.1, "clip": 1.0}
    others = itertools.cycle(itertools.product((False, True), repeat=len(given)))
    found = []
    for optimiser, schedule, warmup, averaging in itertools.product(
        ("adamw", "sgd", "lion"),
        ("cosine", "linear", "constant", "one_cycle"),
        (0.0, 0.1),
        ("none", "ema", "tail"),
    ):
        on = {name: value for (name, value), is_on in zip(given.items(), next(others), strict=True) if is_on}
        found.append(recipe(optimiser=optimiser, schedule=schedule, warmup=warmup, averaging=averaging, **on))
    found += [recipe(), *(recipe(**{name: value}) for name, value in given.items()), recipe(**given)]
    return list(dict.fromkeys(found))


# Sources.


@pytest.mark.parametrize("template", ["digits", "cifar10"])
def test_a_template_holds_what_its_method_assembles_to(template: str) -> None:
    for source in assemble(Method.load(TEMPLATES / template / "method.json")):
        path = TEMPLATES / template / source.path
        if not path.exists():
            path = TEMPLATES / "pictures" / source.path
        assert path.read_text(encoding="utf-8") == source.text, source.path


def test_a_method_gives_the_model_the_recipe_and_itself() -> None:
    sources = assemble(method(baselines=["small"]))
    assert [source.path for source in sources] == ["models/small.py", "recipe.py", "method.json"]
    assert Method.from_text(sources[2].text, "method.json") == method(baselines=["small"])


@given(models(), st.sampled_from(recipes()))
@settings(max_examples=60, deadline=None)
def test_equal_configurations_give_equal_bytes_and_they_compile(config: ModelConfig, how: RecipeConfig) -> None:
    for source, again in (
        (model_source(config), model_source(ModelConfig.from_text(config.to_json(), "x.json"))),
        (recipe_source(how), recipe_source(RecipeConfig.from_text(how.to_yaml(), "x.yaml"))),
    ):
        assert source == again
        assert source.sha256 == again.sha256 == hashlib.sha256(source.text.encode()).hexdigest()
        compile(source.text, source.path, "exec")


def test_every_other_recipe_is_another_text() -> None:
    given = recipes()
    assert len({recipe_source(how).sha256 for how in given}) == len(given)
    assert Source("a", "x").sha256 != Source("a", "y").sha256


@pytest.mark.process
def test_sources_are_what_ruff_would_have_written(tmp_path: Path) -> None:
    """One of each layer in several combinations, and every kind of recipe, under the repository's own rules."""
    folder = tmp_path / "src" / "autolab" / "templates"
    sources = [recipe_source(how) for how in recipes()]
    for norm, convolution in itertools.product(("batch", "group", "none"), ("conv", "depthwise_separable")):
        block = {"type": "residual", "channels": 8, "norm": norm, "convolution": convolution, "activation": "gelu"}
        norms = [] if norm == "none" else [{"type": "norm", "kind": norm}]
        ends = {"batch": "default", "group": "kaiming", "none": "orthogonal"}
        layers = [{"type": convolution, "channels": 4}, *norms, block, {**block, "stride": 2}]
        sources.append(model_source(model(*layers, {"type": "global_pool"}, initialisation=ends[norm])))
    sources.append(model_source(model(FLATTEN)))
    for number, source in enumerate(sources):
        path = folder / str(number) / source.path
        path.parent.mkdir(parents=True)
        path.write_text(source.text, encoding="utf-8")
    (folder / "0" / "optimiser.py").write_text("AdamW = None\n", encoding="utf-8")
    files = len(sources) + 1
    for flags, answer in (
        (["check"], "All checks passed!"),
        (["format", "--check"], f"{files} files already formatted"),
    ):
        command = [sys.executable, "-m", "ruff", *flags, "--no-cache", "--config", str(ROOT / "pyproject.toml"), "."]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout.strip()) == (0, answer), done.stderr


def test_a_recipe_holds_no_code_of_what_is_off() -> None:
    text = recipe_source(recipe()).text
    for word in ("mixup", "cutout", "flip", "shift", "noise,", "random", "rearrange", "clip", "WARMUP", "_average"):
        assert word not in text, word
    assert "_steps" not in recipe_source(recipe(schedule="constant")).text
    assert "class" not in recipe_source(recipe()).text.replace("class Recipe", "")
    blocks = model_source(model(CONV, FLATTEN)).text
    assert "Residual" not in blocks and "Separable" not in blocks


def test_every_mechanism_names_its_paper() -> None:
    papers = {
        "1608.03983": {"schedule": "cosine"},
        "2310.07831": {"schedule": "linear"},
        "1708.07120": {"schedule": "one_cycle"},
        "1706.02677": {"warmup": 0.1},
        "2302.06675": {"optimiser": "lion"},
        "1512.00567": {"label_smoothing": 0.1},
        "1512.03385": {"shift": 1},
        "1708.04552": {"cutout": 2},
        "1710.09412": {"mixup": 0.2},
        "1703.01780": {"averaging": "ema"},
        "1803.05407": {"averaging": "tail"},
        "1211.5063": {"clip": 1.0},
    }
    for number, values in papers.items():
        assert f"arXiv:{number}" in recipe_source(recipe(**values)).text, values
    text = model_source(model({"type": "norm", "kind": "group"}, {"type": "activation", "kind": "mish"}, FLATTEN)).text
    assert "arXiv:1803.08494" in text and "arXiv:1908.08681" in text


def test_method_json_has_a_line_for_each_layer() -> None:
    text = method_source(method()).text
    assert '      {"type": "flatten"}\n' in text
    assert '    "input": [2, 8, 6],\n' in text


@pytest.mark.process
def test_assembling_needs_no_torch() -> None:
    code = "import sys, autolab.researchers.assembler; print({'torch', 'numpy', 'einops'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# What does not fit.


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [CONV, {"type": "global_pool"}, CONV, FLATTEN],
            "layers.2: conv takes maps, and the layers before it leave 8 values; put it before flatten and global_pool",
        ),
        ([FLATTEN, FLATTEN], "layers.1: flatten takes maps, and the layers before it leave 96 values; take it out"),
        (
            [FLATTEN, {"type": "residual", "channels": 8}],
            "layers.1: residual takes maps, and the layers before it leave 96 values; "
            "put it before flatten and global_pool",
        ),
        (
            [CONV, {"type": "pool", "size": 7}, FLATTEN],
            "layers.1: pool 7 does not fit on maps of 8 x 8 x 6; take it out, or pool and stride less before it",
        ),
        (
            [CONV, {"type": "linear", "units": 4}],
            "layers.1: linear takes values, and gets maps of 8 x 8 x 6; put flatten or global_pool before it",
        ),
        (
            [CONV],
            "layers: they end in maps of 8 x 8 x 6, the last linear layer takes values; "
            "end with flatten or global_pool",
        ),
        (
            [FLATTEN, {"type": "norm", "kind": "group"}],
            "layers.1: group norm takes maps, and gets 96 values; use batch or layer here",
        ),
        (
            [{"type": "pool", "size": 6}, {"type": "norm", "kind": "group"}, FLATTEN],
            "layers.1: group norm of maps of 2 x 1 x 1 takes 1 values at a time, too few to normalise; "
            "use batch norm here, or pool and stride less before it",
        ),
        (
            [{"type": "pool", "size": 6}, {"type": "residual", "channels": 8, "norm": "group"}, FLATTEN],
            "layers.1: group norm of maps of 8 x 1 x 1 takes 1 values at a time, too few to normalise; "
            "use batch norm here, or pool and stride less before it",
        ),
        (
            [{"type": "global_pool"}, {"type": "norm", "kind": "layer"}],
            "layers.1: layer norm gets 2 values, too few to normalise; use batch norm here",
        ),
        (
            [{"type": "conv", "channels": 1024}, FLATTEN, {"type": "linear", "units": 8192}],
            "layers.2: linear 8192 has 402,661,376 parameters, which makes the model larger than 50,000,000; "
            "take fewer units or channels, or pool before it",
        ),
    ],
)
def test_a_misfit_is_one_line_with_the_way_out(layers: list[dict[str, Any]], message: str) -> None:
    for function in (shapes, parameters, model_source):
        with pytest.raises(RecordError) as refused:
            function(model(*layers))
        assert str(refused.value) == f"model_config: {message}"


def test_maps_larger_than_a_lab_can_want_are_refused() -> None:
    with pytest.raises(RecordError, match=r"layers\.0: conv 1024 makes 67,108,864 values of one picture, more than"):
        shapes(model({"type": "conv", "channels": 1024}, FLATTEN, input=[3, 256, 256]))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"type": "conv", "channels": 10**9}, "layers.0.channels: Input should be less than or equal to 1024"),
        ({"type": "conv", "channels": 8, "kernel": 4}, "layers.0.kernel: Input should be 1, 3, 5 or 7, got 4"),
        ({"type": "conv", "channels": 8, "stride": 0}, "layers.0.stride: Input should be greater than or equal to 1"),
        ({"type": "conv", "channels": 8.0}, "layers.0.channels: Input should be a valid integer"),
        ({"type": "conv", "chanels": 8}, "layers.0.channels: missing (and 1 more)"),
        ({"type": "linear", "units": 8, "bias": False}, "layers.0.bias: unknown key"),
        ({"type": "linear", "units": -1}, "layers.0.units: Input should be greater than or equal to 1, got -1"),
        ({"type": "dropout", "p": 1}, "layers.0.p: Input should be less than 1"),
        ({"type": "pool", "size": 10**9}, "layers.0.size: Input should be less than or equal to 16"),
        ({"type": "attention"}, f"layers.0: type: 'attention' is none of {', '.join(LAYER_TYPES)}"),
        ({"channels": 8}, "layers.0: type: None is none of conv"),
        ("conv", "layers.0: Input should be an object"),
    ],
)
def test_a_wrong_layer_is_refused_by_place_and_field(layer: Any, message: str) -> None:
    with pytest.raises(RecordError) as refused:
        model(layer)
    assert str(refused.value).startswith(f"model_config: {message}")


@pytest.mark.parametrize("name", ["../escape", "Model", "a b", "", "class", "__init__", "x" * 49, "ä", "a\n"])
def test_a_name_that_is_no_module_is_refused(name: str) -> None:
    with pytest.raises(RecordError, match="model_config: name: "):
        model(FLATTEN, name=name)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 0}, "lr: Input should be greater than 0"),
        ({"lr": 1e9}, "lr: Input should be less than or equal to 10"),
        ({"lr": float("nan")}, "lr: must be a finite number"),
        ({"warmup": 0.9}, "warmup: Input should be less than or equal to 0.5"),
        ({"shift": -1}, "shift: Input should be greater than or equal to 0"),
        ({"flip": 1}, "flip: Input should be a valid boolean"),
        ({"optimiser": "adam"}, "optimiser: Input should be 'adamw', 'sgd' or 'lion', got 'adam'"),
        ({"lr": 1, "weight_decay": 1}, "weight_decay: 1.0 at lr 1.0 takes a whole weight away a step"),
        ({"momentum": 0.9}, "momentum: unknown key"),
    ],
)
def test_a_wrong_recipe_is_refused_by_field(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError) as refused:
        recipe(**values)
    assert str(refused.value).startswith(f"recipe: {message}")


def test_augmentation_larger_than_the_pictures_is_refused() -> None:
    with pytest.raises(RecordError, match=r"recipe\.shift: 6 pixels would move a picture of 6 out of sight"):
        method(recipe={**PLAIN, "shift": 6})
    with pytest.raises(RecordError, match=r"recipe\.cutout: a square of 7 does not fit in a picture of 6"):
        method(recipe={**PLAIN, "cutout": 7})


# What torch says of it.


@pytest.fixture(scope="module")
def torch() -> Iterator[Any]:
    """torch on one thread, and the lab's own `optimiser` where a recipe finds it."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sys.path.insert(0, str(TEMPLATES / "pictures"))
    yield torch
    sys.path.remove(str(TEMPLATES / "pictures"))
    sys.modules.pop("optimiser", None)
    torch.set_num_threads(threads)


def load(source: Source) -> dict[str, Any]:
    """What the module of `source` defines."""
    names: dict[str, Any] = {"__name__": "assembled"}
    exec(compile(source.text, source.path, "exec"), names)
    return names


@needs_torch
@given(config=models())
@settings(max_examples=60, deadline=None)
def test_torch_finds_the_shapes_and_the_parameters_that_were_said(torch: Any, config: ModelConfig) -> None:
    torch.manual_seed(0)
    built = load(model_source(config))["Model"]()
    maps = images = torch.rand(4, *config.input)
    found = []
    for layer in built.layers:
        maps = layer(maps)
        found.append(tuple(maps.shape[1:]))
    assert tuple(found) == shapes(config)
    assert sum(p.numel() for p in built.parameters()) == parameters(config)
    logits = built(images)
    assert logits.shape == (4, config.classes)
    logits.square().mean().backward()
    assert [name for name, p in built.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@needs_torch
def test_initialisation_draws_what_it_says(torch: Any) -> None:
    layers = ({"type": "conv", "channels": 64}, FLATTEN, {"type": "linear", "units": 256})
    torch.manual_seed(0)
    kaiming = load(model_source(model(*layers, initialisation="kaiming")))["Model"]().layers
    assert kaiming[0].weight.std().item() == pytest.approx(math.sqrt(2 / 18), rel=0.1)
    assert kaiming[2].weight.std().item() == pytest.approx(math.sqrt(2 / 3072), rel=0.1)
    assert not kaiming[0].bias.any()
    rows = load(model_source(model(*layers, initialisation="orthogonal")))["Model"]().layers[2].weight
    assert torch.allclose(rows @ rows.T, 2 * torch.eye(256), atol=1e-4)


SMALL = model(
    {"type": "conv", "channels": 4},
    {"type": "norm"},
    {"type": "activation"},
    {"type": "pool"},
    FLATTEN,
    input=[1, 8, 8],
)


class Bench:
    """One training of the small model on fixed random pictures."""

    def __init__(self, torch: Any, how: RecipeConfig, *, steps: int = 8, seed: int = 0, **replaced: Any) -> None:
        names = load(recipe_source(how))
        names.update(replaced)
        torch.manual_seed(0)
        self.model = load(model_source(SMALL))["Model"]()
        self.images, self.labels = torch.rand(20, 1, 8, 8), torch.arange(20) % 5
        self.steps = steps
        noise = torch.Generator().manual_seed(seed)
        self.recipe = names["Recipe"](self.model, lr=how.lr, weight_decay=how.weight_decay, steps=steps, noise=noise)

    def step(self) -> float:
        loss = self.recipe.loss(self.images, self.labels)
        loss.backward()
        self.recipe.step()
        return float(loss.item())

    def run(self) -> list[float]:
        losses = [self.step() for _ in range(self.steps)]
        self.recipe.finish()
        return losses

    def weights(self) -> list[Any]:
        return [value.clone() for value in self.model.state_dict().values()]


def same(torch: Any, first: list[Any], second: list[Any]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@needs_torch
@pytest.mark.parametrize("how", recipes(), ids=lambda how: hashlib.sha256(how.to_json().encode()).hexdigest()[:6])
def test_every_recipe_trains_and_is_the_same_for_the_same_seed(torch: Any, how: RecipeConfig) -> None:
    bench, again, other = Bench(torch, how), Bench(torch, how), Bench(torch, how, seed=1)
    before = bench.weights()
    losses = bench.run()
    assert all(math.isfinite(loss) for loss in losses)
    assert losses == again.run()
    assert same(torch, bench.weights(), again.weights())
    assert not same(torch, before, bench.weights())
    assert all(p.grad is None for p in bench.model.parameters())
    other.run()
    draws = bool(how.flip or how.shift or how.cutout or how.noise or how.mixup)
    assert same(torch, bench.weights(), other.weights()) is not draws


@needs_torch
@pytest.mark.parametrize(("optimiser", "lr"), [("adamw", 0.05), ("sgd", 0.05), ("lion", 0.01)])
def test_every_optimiser_brings_the_loss_down(torch: Any, optimiser: str, lr: float) -> None:
    losses = Bench(torch, recipe(optimiser=optimiser, lr=lr, clip=5.0), steps=40).run()
    assert losses[-1] < 0.5 * losses[0]


@needs_torch
def test_augmentation_draws_from_its_own_generator_alone(torch: Any) -> None:
    bench = Bench(torch, recipe(flip=True, shift=2, cutout=3, noise=0.1, mixup=0.4))
    state, plain = torch.get_rng_state(), random.getstate()
    images = bench.images.clone()
    bench.recipe.loss(bench.images, bench.labels)
    assert torch.equal(torch.get_rng_state(), state) and random.getstate() == plain
    assert torch.equal(bench.images, images), "the batch itself is left as it is"


def augmented(torch: Any, name: str, images: Any, **values: Any) -> Any:
    return load(recipe_source(recipe(**values)))[name](images, torch.Generator().manual_seed(3))


@needs_torch
def test_a_shifted_picture_is_a_window_of_the_padded_one(torch: Any) -> None:
    images = 1 + torch.arange(40 * 2 * 5 * 4).reshape(40, 2, 5, 4).float()
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    moves = set()
    for picture, whole in zip(augmented(torch, "shift", images, shift=1), padded, strict=True):
        moves.add(
            next((y, x) for y in range(3) for x in range(3) if torch.equal(picture, whole[:, y : y + 5, x : x + 4]))
        )
    assert len(moves) == 9


@needs_torch
def test_a_flipped_picture_is_itself_or_its_mirror_image(torch: Any) -> None:
    images = torch.rand(60, 2, 4, 4)
    flipped = augmented(torch, "flip", images, flip=True)
    kept = [torch.equal(a, b) for a, b in zip(flipped, images, strict=True)]
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(flipped, images, strict=True)]
    assert all(a or b for a, b in zip(kept, mirrored, strict=True))
    assert 15 < sum(kept) < 45


@needs_torch
def test_cutout_hides_a_square_that_may_stick_out(torch: Any) -> None:
    images = torch.ones(200, 2, 7, 7)
    hidden = augmented(torch, "cutout", images, cutout=3) == 0
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    areas = []
    for picture in hidden[:, 0]:
        height, width = int(picture.any(1).sum()), int(picture.any(0).sum())
        assert int(picture.sum()) == height * width
        areas.append((height, width))
    assert set(areas) == {(3, 3), (3, 2), (2, 3), (2, 2)}
    assert hidden.float().mean(0).min() > 0, "every place is hidden at times"


@needs_torch
def test_noise_has_the_deviation_that_was_asked_for(torch: Any) -> None:
    images = torch.rand(50, 1, 10, 10)
    assert (augmented(torch, "add_noise", images, noise=0.2) - images).std().item() == pytest.approx(0.2, rel=0.05)


@needs_torch
def test_mixup_is_the_loss_of_both_labels_at_their_shares(torch: Any) -> None:
    how = recipe(mixup=1.0, label_smoothing=0.1)
    names, noise = load(recipe_source(how)), torch.Generator().manual_seed(0)
    bench = Bench(torch, how)
    images, others, share = names["mixup"](bench.images, bench.labels, noise)
    order = [int(place) for place in torch.randperm(20, generator=_after_one_draw(torch))]
    assert torch.equal(others, bench.labels[order]) and 0 < share < 1
    assert torch.allclose(images, share * bench.images + (1 - share) * bench.images[order])
    loss = bench.recipe.loss(bench.images, bench.labels)
    logits = bench.model(images)
    first, second = (
        torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1) for labels in (bench.labels, others)
    )
    assert loss.item() == pytest.approx((share * first + (1 - share) * second).item(), rel=1e-5)


def _after_one_draw(torch: Any) -> Any:
    noise = torch.Generator().manual_seed(0)
    torch.randint(2**62, (), generator=noise)
    return noise


# How the weights move.


class Recorder:
    """Stands for an optimiser: notes the step sizes and the norms of the gradients, and moves nothing."""

    def __init__(self, parameters: Any, **_: Any) -> None:
        self.parameters = list(parameters)
        self.sizes: list[float] = []
        self.norms: list[float] = []
        Recorder.last = self

    last: Recorder

    def step(self, lr: float) -> None:
        self.sizes.append(lr)
        self.norms.append(math.sqrt(sum(float(p.grad.square().sum()) for p in self.parameters)))
        for p in self.parameters:
            p.grad = None


def half_cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


@needs_torch
@pytest.mark.parametrize(
    ("values", "sizes"),
    [
        ({"schedule": "constant"}, [1.0] * 10),
        ({"schedule": "linear"}, [1 - step / 10 for step in range(10)]),
        ({"schedule": "cosine"}, [half_cosine(step / 10) for step in range(10)]),
        ({"schedule": "constant", "warmup": 0.3}, [0.25, 0.5, 0.75] + [1.0] * 7),
        ({"schedule": "linear", "warmup": 0.5}, [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0, 0.8, 0.6, 0.4, 0.2]),
        ({"schedule": "cosine", "warmup": 0.2}, [1 / 3, 2 / 3] + [half_cosine(step / 8) for step in range(8)]),
        (
            {"schedule": "one_cycle"},
            [0.04, 0.04 + 0.96 * 0.25, 0.04 + 0.96 * 0.75] + [half_cosine(step / 7) for step in range(7)],
        ),
        ({"schedule": "one_cycle", "warmup": 0.2}, [0.04, 0.52] + [half_cosine(step / 8) for step in range(8)]),
    ],
)
def test_step_sizes_follow_the_schedule(torch: Any, values: dict[str, Any], sizes: list[float]) -> None:
    Bench(torch, recipe(**values), steps=10, AdamW=Recorder).run()
    assert Recorder.last.sizes == pytest.approx([0.05 * size for size in sizes])


@needs_torch
@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant", "one_cycle"])
@pytest.mark.parametrize("averaging", ["none", "ema", "tail"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_trainings_have_a_schedule_too(torch: Any, schedule: str, averaging: str, steps: int) -> None:
    bench = Bench(torch, recipe(schedule=schedule, warmup=0.5, averaging=averaging), steps=steps)
    assert all(math.isfinite(loss) for loss in bench.run())
    assert all(value.isfinite().all() for value in bench.weights())


@needs_torch
def test_gradients_are_clipped_by_their_norm_over_all_parameters(torch: Any) -> None:
    Bench(torch, recipe(), AdamW=Recorder).run()
    free = Recorder.last.norms
    Bench(torch, recipe(clip=0.01), AdamW=Recorder).run()
    assert min(free) > 0.01
    assert Recorder.last.norms == pytest.approx([0.01] * 8, rel=1e-3)


@needs_torch
def test_smoothed_labels_share_a_part_with_all_classes(torch: Any) -> None:
    bench, plain = Bench(torch, recipe(label_smoothing=0.2)), Bench(torch, recipe())
    logs = plain.model(plain.images).log_softmax(1)
    hit = logs[torch.arange(20), plain.labels].mean()
    loss = bench.recipe.loss(bench.images, bench.labels)
    assert loss.item() == pytest.approx(-(0.8 * hit + 0.2 * logs.mean()).item(), rel=1e-5)


def moved(torch: Any, how: RecipeConfig, gradients: list[float]) -> tuple[float, float]:
    """Where an optimiser takes a weight and a bias of 1 along these gradients at the recipe's constant step size."""
    names = load(recipe_source(how))
    layer = torch.nn.Linear(1, 1)
    torch.nn.init.ones_(layer.weight)
    torch.nn.init.ones_(layer.bias)
    run = names["Recipe"](layer, lr=how.lr, weight_decay=how.weight_decay, steps=9, noise=torch.Generator())
    for gradient in gradients:
        for p in layer.parameters():
            p.grad = torch.full_like(p, gradient)
        run.step()
    return layer.weight.item(), layer.bias.item()


@needs_torch
def test_sgd_looks_ahead_along_its_momentum(torch: Any) -> None:
    how = recipe(optimiser="sgd", schedule="constant", lr=0.1, weight_decay=0.5)
    weight = bias = 1.0
    velocity = 0.0
    for gradient in (1.0, -2.0, 0.5):
        velocity = 0.9 * velocity + gradient
        weight = weight * (1 - 0.1 * 0.5) - 0.1 * (gradient + 0.9 * velocity)
        bias -= 0.1 * (gradient + 0.9 * velocity)
    assert moved(torch, how, [1.0, -2.0, 0.5]) == pytest.approx((weight, bias))


@needs_torch
def test_lion_goes_by_the_sign_of_the_mean_gradient(torch: Any) -> None:
    how = recipe(optimiser="lion", schedule="constant", lr=0.1, weight_decay=0.5)
    # Means after each gradient: 0.01, -0.0001; what decides: 0.1, 0.9 * 0.01 - 0.1, 0.9 * -0.0001 + 0.00005.
    bias = 1.0 - 0.1 + 0.1 + 0.1
    weight = ((0.95 - 0.1) * 0.95 + 0.1) * 0.95 + 0.1
    assert moved(torch, how, [1.0, -1.0, 0.0005]) == pytest.approx((weight, bias))


@needs_torch
@pytest.mark.parametrize("optimiser", ["adamw", "sgd", "lion"])
def test_a_parameter_outside_the_loss_is_an_error(torch: Any, optimiser: str) -> None:
    bench = Bench(torch, recipe(optimiser=optimiser))
    with pytest.raises(RuntimeError, match="a parameter got no gradient: it takes no part in the loss"):
        bench.recipe.step()


def expected_mean(torch: Any, averaging: str, seen: list[list[Any]]) -> list[Any]:
    """The mean of each tensor over what was seen of a training of 40 steps, from its definition."""
    if averaging == "tail":
        shares = [0.0] * 30 + [0.1] * 10
    else:
        decayed = [0.75**age for age in reversed(range(len(seen)))]  # looks back a tenth, four steps
        shares = [share / sum(decayed) for share in decayed]
    columns = zip(*seen, strict=True)
    return [sum(share * value.double() for share, value in zip(shares, values, strict=True)) for values in columns]


@needs_torch
@pytest.mark.parametrize(("averaging", "steps"), [("ema", 40), ("ema", 3), ("tail", 40)])
def test_what_is_kept_is_the_mean_of_weights_and_float_buffers(torch: Any, averaging: str, steps: int) -> None:
    bench, seen = Bench(torch, recipe(averaging=averaging), steps=40), []
    for _ in range(steps):
        bench.step()
        seen.append(bench.weights())
    bench.recipe.finish()
    names = list(bench.model.state_dict())
    assert {"layers.1.running_mean", "layers.1.num_batches_tracked"} <= set(names)
    means = expected_mean(torch, averaging, seen)
    for name, kept, mean, last in zip(names, bench.weights(), means, seen[-1], strict=True):
        if last.is_floating_point():
            assert torch.allclose(kept.double(), mean, atol=1e-5), name
            assert not torch.equal(kept, last), name
        else:
            assert torch.equal(kept, last), name
