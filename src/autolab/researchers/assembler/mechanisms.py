"""The mechanisms of a recipe: for each the code that it adds to `recipe.py`, with its source in the literature.

The code stands here as in the file, but lines of a method have no indent. Random numbers come from the generator
`noise`, which lives on the processor, and are moved to the images' device, so that a training draws the same numbers on
every device.
"""

from __future__ import annotations

from dataclasses import dataclass

from autolab.lab.schemas.method import RecipeConfig


@dataclass(frozen=True)
class Part:
    """One mechanism. `words` go into the module's docstring, `definition` before the class, `method` at its end."""

    words: str = ""
    imports: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    definition: str = ""
    init: tuple[str, ...] = ()
    loss: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    """Before the weights move."""
    after: tuple[str, ...] = ()
    method: str = ""


def optimiser(config: RecipeConfig) -> Part:
    if config.optimiser == "adamw":
        # A lab's own optimiser.py holds AdamW; the other two become a part of the recipe.
        init = "self._optimiser = AdamW(model.parameters(), weight_decay=weight_decay, betas=(0.9, 0.999))"
        return Part("AdamW", imports=("from optimiser import AdamW",), init=(init,))
    if config.optimiser == "sgd":
        name, words, constant, definition = "SGD", "SGD with Nesterov's momentum", "MOMENTUM = 0.9", _SGD
    else:
        name, words, constant, definition = "Lion", "Lion", "BETAS = (0.9, 0.99)", _LION
    return Part(
        words,
        imports=("from collections.abc import Iterable",),
        constants=(constant,),
        definition=definition,
        init=(f"self._optimiser = {name}(model.parameters(), weight_decay=weight_decay)",),
    )


# A weight without a gradient is an error in what follows: it would never learn, and nobody would notice.
_SGD = '''\
class SGD:
    """Nesterov's momentum (Sutskever et al. 2013, ICML), weight decay decoupled (arXiv:1711.05101).

    Only matrices and kernels decay, biases and other vectors do not.
    """

    def __init__(self, parameters: Iterable[Tensor], *, weight_decay: float) -> None:
        self._parameters = list(parameters)
        self._decay = weight_decay
        self._velocities = [torch.zeros_like(p) for p in self._parameters]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Move by the gradients, then drop them."""
        for p, velocity in zip(self._parameters, self._velocities, strict=True):
            if p.grad is None:
                raise RuntimeError("a parameter got no gradient: it takes no part in the loss")
            velocity.mul_(MOMENTUM).add_(p.grad)
            if p.ndim > 1:
                p.mul_(1 - lr * self._decay)
            p.add_(p.grad.add(velocity, alpha=MOMENTUM), alpha=-lr)
            p.grad = None
'''

_LION = '''\
class Lion:
    """Steps of one size, by the sign of a mean gradient (Chen et al. 2023, arXiv:2302.06675).

    Only matrices and kernels decay, biases and other vectors do not.
    """

    def __init__(self, parameters: Iterable[Tensor], *, weight_decay: float) -> None:
        self._parameters = list(parameters)
        self._decay = weight_decay
        self._means = [torch.zeros_like(p) for p in self._parameters]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Move by the gradients, then drop them."""
        fast, slow = BETAS
        for p, mean in zip(self._parameters, self._means, strict=True):
            if p.grad is None:
                raise RuntimeError("a parameter got no gradient: it takes no part in the loss")
            if p.ndim > 1:
                p.mul_(1 - lr * self._decay)
            p.add_(mean.lerp(p.grad, 1 - fast).sign_(), alpha=-lr)
            mean.lerp_(p.grad, 1 - slow)
            p.grad = None
'''


def clip(config: RecipeConfig) -> Part:
    return Part(
        "clipped gradients",
        constants=(f"CLIP = {config.clip}  # the largest norm of a gradient",),
        before=(
            "# Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063",
            "nn.utils.clip_grad_norm_(self._model.parameters(), CLIP)",
        ),
    )


@dataclass(frozen=True)
class _Fall:
    """How a step size falls from its peak. `doc` describes it from the first step on, `then` after a warm-up."""

    words: str
    doc: str
    then: str
    code: str
    imports: tuple[str, ...] = ()


_COSINE = "to 0 along half a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983)"
_LINE = "to 0 in a line (Defazio et al. 2023, arXiv:2310.07831)"
_FALLS = {
    "cosine": _Fall(
        "a step size that falls to 0 along half a cosine",
        f"From `lr` {_COSINE}",
        _COSINE,
        "self._lr * 0.5 * (1 + math.cos(math.pi * {done} / {all}))",
        ("import math",),
    ),
    "linear": _Fall(
        "a step size that falls to 0 in a line", f"From `lr` {_LINE}", _LINE, "self._lr * (1 - {done} / {all})"
    ),
    "constant": _Fall("a constant step size", "The same at every step", "the same at every step", "self._lr"),
}


def schedule(config: RecipeConfig) -> Part:
    """The step size as a function of `_step`, the number of steps done, and `_steps`, the number of all."""
    if config.schedule == "one_cycle":
        # One cycle is nothing without its rise; without a share of the user's it takes PyTorch's default.
        constant = f"WARMUP = {config.warmup or 0.3}  # share of the steps in which the step size rises"
        words = "a step size that rises and falls in one cycle"
        return Part(words, imports=("import math",), constants=(constant,), method=_ONE_CYCLE)
    fall = _FALLS[config.schedule]
    # Without a warm-up the code has no branch for one: a reader sees only what is switched on.
    if not config.warmup:
        code = fall.code.format(done="self._step", all="self._steps")
        return Part(fall.words, imports=fall.imports, method=_PLAIN.format(doc=fall.doc, code=code))
    code = fall.code.format(done="(self._step - rise)", all="(self._steps - rise)")
    return Part(
        f"a warm-up, then {fall.words}",
        imports=fall.imports,
        constants=(f"WARMUP = {config.warmup}  # share of the steps in which the step size rises",),
        method=_RISING.format(then=fall.then, code=code),
    )


_PLAIN = '''\
def _step_size(self) -> float:
    """{doc}."""
    return {code}
'''

_RISING = '''\
def _step_size(self) -> float:
    """Up to `lr` in a line (Goyal et al. 2017, arXiv:1706.02677).

    Then {then}.
    """
    rise = round(WARMUP * self._steps)
    if self._step < rise:
        return self._lr * (self._step + 1) / (rise + 1)
    return {code}
'''

_ONE_CYCLE = '''\
def _step_size(self) -> float:
    """From a 25th of `lr` up to `lr`, then down to 0, each along half a cosine.

    Smith and Topin 2018, arXiv:1708.07120, without their cycle of the momentum.
    """
    rise = round(WARMUP * self._steps)
    if self._step < rise:
        return self._lr * (1 - 0.48 * (1 + math.cos(math.pi * self._step / rise)))
    return self._lr * 0.5 * (1 + math.cos(math.pi * (self._step - rise) / (self._steps - rise)))
'''


def shift(config: RecipeConfig) -> Part:
    return Part(
        "shifted pictures",
        imports=("from einops import rearrange",),
        constants=(f"SHIFT = {config.shift}  # pixels",),
        definition=_SHIFT,
        loss=("images = shift(images, self._noise)",),
    )


# All pictures of a batch at once, by one index: a loop over them would take longer than the training step.
_SHIFT = '''\
def shift(images: Float[Tensor, "b c h w"], noise: torch.Generator) -> Float[Tensor, "b c h w"]:
    """Each picture moved by up to SHIFT pixels each way, zeros where it was (He et al. 2016, arXiv:1512.03385)."""
    b, c, h, w = images.shape
    padded = F.pad(images, (SHIFT,) * 4)
    down, right = torch.randint(2 * SHIFT + 1, (2, b, 1), generator=noise)
    picture = rearrange(torch.arange(b), "b -> b 1 1 1")
    channel = rearrange(torch.arange(c), "c -> c 1 1")
    row = rearrange(down + torch.arange(h), "b h -> b 1 h 1")
    column = rearrange(right + torch.arange(w), "b w -> b 1 1 w")
    return padded[tuple(index.to(images.device) for index in (picture, channel, row, column))]
'''


def flip(config: RecipeConfig) -> Part:
    return Part("mirrored pictures", definition=_FLIP, loss=("images = flip(images, self._noise)",))


_FLIP = '''\
def flip(images: Float[Tensor, "b c h w"], noise: torch.Generator) -> Float[Tensor, "b c h w"]:
    """Every other picture, by chance, mirrored left to right (Krizhevsky, Sutskever and Hinton 2012, NIPS)."""
    mirrored = torch.rand(len(images), 1, 1, 1, generator=noise) < 0.5
    return torch.where(mirrored.to(images.device), images.flip(3), images)
'''


def cutout(config: RecipeConfig) -> Part:
    return Part(
        "a square cut out",
        imports=("from einops import rearrange",),
        constants=(f"CUTOUT = {config.cutout}  # pixels",),
        definition=_CUTOUT,
        loss=("images = cutout(images, self._noise)",),
    )


_CUTOUT = '''\
def cutout(images: Float[Tensor, "b c h w"], noise: torch.Generator) -> Float[Tensor, "b c h w"]:
    """A square of CUTOUT pixels set to 0 round a place in each picture (DeVries and Taylor 2017, arXiv:1708.04552)."""
    b, _, h, w = images.shape
    rows, columns = (
        # How far each place lies from the edge of the square, which may stick out of the picture.
        torch.arange(side) - torch.randint(side, (b, 1), generator=noise) + CUTOUT // 2
        for side in (h, w)
    )
    hidden = rearrange((rows >= 0) & (rows < CUTOUT), "b h -> b 1 h 1")
    hidden = hidden & rearrange((columns >= 0) & (columns < CUTOUT), "b w -> b 1 1 w")
    return images.masked_fill(hidden.to(images.device), 0)
'''


def noise(config: RecipeConfig) -> Part:
    return Part(
        "noise on the pictures",
        constants=(f"NOISE = {config.noise}  # deviation, in units of the model's input",),
        definition=_NOISE,
        loss=("images = add_noise(images, self._noise)",),
    )


_NOISE = '''\
def add_noise(images: Float[Tensor, "b c h w"], noise: torch.Generator) -> Float[Tensor, "b c h w"]:
    """Gaussian noise on every value (Bishop 1995, Neural Computation 7)."""
    return images + NOISE * torch.randn(images.shape, generator=noise).to(images.device)
'''


def mixup(config: RecipeConfig) -> Part:
    return Part(
        "mixed pairs of pictures",
        imports=("import random",),
        constants=(f"MIXUP = {config.mixup}  # both parameters of the Beta distribution of a mixture's share",),
        definition=_MIXUP,
        loss=("images, others, share = mixup(images, labels, self._noise)",),
    )


# torch's Beta distribution takes no generator, so a seed drawn from `noise` feeds the one of the standard library.
_MIXUP = '''\
def mixup(
    images: Float[Tensor, "b c h w"], labels: Int[Tensor, "b"], noise: torch.Generator
) -> tuple[Float[Tensor, "b c h w"], Int[Tensor, "b"], float]:
    """Each picture mixed with another one of the batch (Zhang et al. 2018, arXiv:1710.09412).

    Returns the mixtures, the other ones' labels, and the share of the first in all of them.
    """
    seed = int(torch.randint(2**62, (), generator=noise))
    share = random.Random(seed).betavariate(MIXUP, MIXUP)
    other = torch.randperm(len(images), generator=noise).to(images.device)
    return share * images + (1 - share) * images[other], labels[other], share
'''


def smoothing(config: RecipeConfig) -> Part:
    # Only the constant: the recipe's loss uses it, once or (with mixup) twice.
    comment = "share of a label that all classes get (Szegedy et al. 2016, arXiv:1512.00567)"
    return Part("smoothed labels", constants=(f"LABEL_SMOOTHING = {config.label_smoothing}  # {comment}",))


def averaging(config: RecipeConfig) -> Part:
    init = (
        "# These share the model's memory; whole numbers, such as counts of batches, have no mean.",
        "self._weights = [value for value in model.state_dict().values() if value.is_floating_point()]",
        "self._means = [weight.clone() for weight in self._weights]",
    )
    # After the step is counted: the means weigh by the number of steps done.
    after = ("self._average()",)
    if config.averaging == "tail":
        return Part("the mean weights of the last quarter kept", init=init, after=after, method=_TAIL)
    constants = ("HORIZON = 0.1  # share of the steps that the mean looks back",)
    return Part("a running mean of the weights kept", constants=constants, init=init, after=after, method=_EMA)


_EMA = '''\
def _average(self) -> None:
    """Exponential mean of weights and buffers (Tarvainen and Valpola 2017, arXiv:1703.01780).

    Divided by the sum of its coefficients, as Adam's are (arXiv:1412.6980): the first value does not linger.
    """
    decay = 1 - 1 / max(1, HORIZON * self._steps)
    for mean, weight in zip(self._means, self._weights, strict=True):
        mean.lerp_(weight, (1 - decay) / (1 - decay**self._step))
'''

_TAIL = '''\
def _average(self) -> None:
    """Mean of weights and buffers over the last quarter of the steps (Izmailov et al. 2018, arXiv:1803.05407)."""
    taken = self._step - self._steps + max(1, self._steps // 4)
    if taken > 0:
        for mean, weight in zip(self._means, self._weights, strict=True):
            mean.lerp_(weight, 1 / taken)
'''


def parts(config: RecipeConfig) -> tuple[Part, ...]:
    """The mechanisms that are switched on, in the order in which they act on pictures, labels, gradients, weights."""
    # Mixup comes after the other augmentations, so that a mixture is one of two augmented pictures.
    switches = (
        (config.shift, shift),
        (config.flip, flip),
        (config.cutout, cutout),
        (config.noise, noise),
        (config.mixup, mixup),
        (config.label_smoothing, smoothing),
        (config.clip, clip),
        (True, optimiser),
        (True, schedule),
        (config.averaging != "none", averaging),
    )
    return tuple(mechanism(config) for switch, mechanism in switches if switch)
