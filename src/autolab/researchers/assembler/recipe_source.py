"""The source of a recipe: `recipe.py` with a class `Recipe`, holding the code of what is switched on and no other."""

from __future__ import annotations

from autolab.lab.schemas.method import RecipeConfig
from autolab.researchers.assembler.mechanisms import Part, parts
from autolab.researchers.assembler.source import Source, block, prose

_MODULE = '''\
"""{words}"""

# ruff: noqa: F722, F821
from __future__ import annotations

{imports}

{constants}


{definitions}class Recipe:
    """One training of `steps` steps. `lr` is the largest step size, `noise` all that augmentation draws from."""

    def __init__(self, model: nn.Module, *, lr: float, weight_decay: float, steps: int, noise: torch.Generator) -> None:
{init}

    def loss(self, images: Float[Tensor, "b c h w"], labels: Int[Tensor, "b"]) -> Float[Tensor, ""]:
        """What is minimised: cross-entropy, nats a picture."""
{loss}

    def step(self) -> None:
        """After the backward pass: move the weights by their gradients, and drop those."""
{step}

{finish}
{methods}'''

_KEEP = '''\
    def finish(self) -> None:
        """After the last step: the weights are kept as they are."""
'''

_KEEP_MEANS = '''\
    def finish(self) -> None:
        """After the last step: the means take the place of the weights."""
        for weight, mean in zip(self._weights, self._means, strict=True):
            weight.copy_(mean)
'''


def recipe_source(recipe: RecipeConfig) -> Source:
    """`recipe.py`: equal recipes give equal bytes."""
    on = parts(recipe)
    counted = recipe.schedule != "constant" or recipe.warmup > 0 or recipe.averaging != "none"
    constants = [line for part in on for line in part.constants]
    text = _MODULE.format(
        words=_words(on),
        imports="\n".join(_imports(on)),
        constants="\n".join([f"LR = {recipe.lr}", f"WEIGHT_DECAY = {recipe.weight_decay}", *constants]),
        definitions="".join(f"{part.definition}\n\n" for part in on if part.definition),
        init=block(_init(on, counted), 2),
        loss=block(_loss(recipe, on), 2),
        step=block(_step(on, counted), 2),
        finish=_KEEP if recipe.averaging == "none" else _KEEP_MEANS,
        methods="\n".join(block(part.method.removesuffix("\n").split("\n"), 1) + "\n" for part in on if part.method),
    )
    return Source("recipe.py", text)


def _words(on: tuple[Part, ...]) -> str:
    """The mechanisms in one sentence, or under a heading where they are too many for a line."""
    words = ", ".join(["cross-entropy", *(part.words for part in on)])
    line = f"How a model is trained: {words}."
    return line if len(line) <= 112 else f"How a model is trained.\n\n{prose('With ' + words + '.')}\n"


def _imports(on: tuple[Part, ...]) -> list[str]:
    wanted = {line for part in on for line in part.imports}
    standard = ("import math", "import random", "from collections.abc import Iterable")
    third = ("from einops import rearrange",)
    own = ("from optimiser import AdamW",)
    first = [line for line in standard if line in wanted]
    last = [line for line in own if line in wanted]
    return [
        *first,
        *([""] if first else []),
        "import torch",
        *(line for line in third if line in wanted),
        "from jaxtyping import Float, Int",
        "from torch import Tensor, nn",
        "from torch.nn import functional as F",
        *([""] if last else []),
        *last,
    ]


def _init(on: tuple[Part, ...], counted: bool) -> list[str]:
    return [
        "self._model = model",
        "self._lr = lr",
        *(["self._steps = steps", "self._step = 0"] if counted else []),
        *(["self._noise = noise"] if any(part.loss for part in on) else []),
        *(line for part in on for line in part.init),
    ]


def _loss(recipe: RecipeConfig, on: tuple[Part, ...]) -> list[str]:
    smoothing = ", label_smoothing=LABEL_SMOOTHING" if recipe.label_smoothing else ""
    augmented = [line for part in on for line in part.loss]
    if not recipe.mixup:
        return [*augmented, f"return F.cross_entropy(self._model(images), labels{smoothing})"]
    return [
        *augmented,
        "logits = self._model(images)",
        f"loss = share * F.cross_entropy(logits, labels{smoothing})",
        f"return loss + (1 - share) * F.cross_entropy(logits, others{smoothing})",
    ]


def _step(on: tuple[Part, ...], counted: bool) -> list[str]:
    return [
        *(line for part in on for line in part.before),
        "self._optimiser.step(self._step_size())",
        *(["self._step += 1"] if counted else []),
        *(line for part in on for line in part.after),
    ]
