"""The source of a recipe: `recipe.py` with a class `Recipe`, with the code of what is switched on and no other."""

from __future__ import annotations

from dataclasses import dataclass, field

from autolab.lab.schemas.method import RecipeConfig
from autolab.researchers.assembler.mechanisms import parts
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

_STANDARD = ("import math", "import random", "from collections.abc import Iterable")
_EINOPS = "from einops import rearrange"
_OPTIMISER = "from optimiser import AdamW"


@dataclass
class _Lines:
    """The code of all parts of a recipe, by where it stands."""

    words: list[str] = field(default_factory=lambda: ["cross-entropy"])
    imports: set[str] = field(default_factory=set)
    constants: list[str] = field(default_factory=list)
    definitions: str = ""
    init: list[str] = field(default_factory=list)
    augment: list[str] = field(default_factory=list)
    before_step: list[str] = field(default_factory=list)
    after_step: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)


def recipe_source(recipe: RecipeConfig) -> Source:
    """`recipe.py`: equal recipes give equal bytes."""
    # A recipe that does not need the step number does not count steps: its code has nothing that is not used.
    lines = _collect(recipe)
    counts_steps = recipe.schedule != "constant" or recipe.warmup > 0 or recipe.averaging != "none"
    constants = [f"LR = {recipe.lr}", f"WEIGHT_DECAY = {recipe.weight_decay}", *lines.constants]
    text = _MODULE.format(
        words=_words(lines.words),
        imports="\n".join(_imports(lines.imports)),
        constants="\n".join(constants),
        definitions=lines.definitions,
        init=block(_init(lines, counts_steps), 2),
        loss=block(_loss(lines, recipe), 2),
        step=block(_step(lines, counts_steps), 2),
        finish=_KEEP if recipe.averaging == "none" else _KEEP_MEANS,
        methods="\n".join(lines.methods),
    )
    return Source("recipe.py", text)


def _collect(recipe: RecipeConfig) -> _Lines:
    lines = _Lines()
    for part in parts(recipe):
        lines.words.append(part.words)
        lines.imports.update(part.imports)
        lines.constants += part.constants
        lines.init += part.init
        lines.augment += part.loss
        lines.before_step += part.before
        lines.after_step += part.after
        if part.definition:
            lines.definitions += f"{part.definition}\n\n"
        if part.method:
            lines.methods.append(block(part.method.removesuffix("\n").split("\n"), 1) + "\n")
    return lines


def _words(words: list[str]) -> str:
    """The mechanisms in one sentence; on lines of their own if they are too many for one."""
    mechanisms = ", ".join(words)
    sentence = f"How a model is trained: {mechanisms}."
    # Leaves room for the quotes: a docstring in one line stays below the templates' 120 characters.
    if len(sentence) <= 112:
        return sentence
    paragraph = prose(f"With {mechanisms}.")
    return f"How a model is trained.\n\n{paragraph}\n"


def _imports(needed: set[str]) -> list[str]:
    # In the order of a formatter: the standard library, other packages, the lab's own files.
    lines = [line for line in _STANDARD if line in needed]
    if lines:
        lines.append("")
    lines.append("import torch")
    if _EINOPS in needed:
        lines.append(_EINOPS)
    lines += [
        "from jaxtyping import Float, Int",
        "from torch import Tensor, nn",
        "from torch.nn import functional as F",
    ]
    if _OPTIMISER in needed:
        lines += ["", _OPTIMISER]
    return lines


def _init(lines: _Lines, counts_steps: bool) -> list[str]:
    init = ["self._model = model", "self._lr = lr"]
    if counts_steps:
        init += ["self._steps = steps", "self._step = 0"]
    if lines.augment:
        init.append("self._noise = noise")
    return init + lines.init


def _loss(lines: _Lines, recipe: RecipeConfig) -> list[str]:
    smoothing = ", label_smoothing=LABEL_SMOOTHING" if recipe.label_smoothing else ""
    # With mixup each picture has two labels, and the loss is the mean of both by their shares.
    if not recipe.mixup:
        return [*lines.augment, f"return F.cross_entropy(self._model(images), labels{smoothing})"]
    return [
        *lines.augment,
        "logits = self._model(images)",
        f"loss = share * F.cross_entropy(logits, labels{smoothing})",
        f"return loss + (1 - share) * F.cross_entropy(logits, others{smoothing})",
    ]


def _step(lines: _Lines, counts_steps: bool) -> list[str]:
    step = [*lines.before_step, "self._optimiser.step(self._step_size())"]
    if counts_steps:
        # Between the step and the average: the average needs the number of steps done.
        step.append("self._step += 1")
    return step + lines.after_step
