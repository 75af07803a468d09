"""What a setting's name says that it is: a step size, a probability, a size; and the doses that are tried of each kind.

A name says nothing about its use, so names that no kind claims are left alone, and NEVER comes before every kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from autolab.researchers.offline.source_setting import Scalar, SourceSetting

NEVER = re.compile(
    r"""(?x) (?:^|_) (?:
    # where things lie and what they are called
      id|ids|path|paths|dir|dirs|folder|root|file|files|filename|port|url|host|address|ip|project|entity|tags?|run|user
    # what is said and stored
    | log|logs|logging|logger|print|verbose|report|save|saving|saved|checkpoints?|ckpt|every|interval|freq|frequency
    | plot|wandb|tensorboard|callbacks?|resume|profil\w*|debug|progress|display|dry
    # the evaluation
    | eval\w*|val|valid|validation|test|testing|bench\w*|samples?|sampling|sampler|generat\w*|temperature|topk|beam\w*
    | early|patience|metrics?|score|best|threshold
    # the machine
    | seed|rng|device|devices|gpus?|cuda|cpu|mps|accel\w*|backend|dtype|precision|amp|fp\d+|bf\d+|half|tf\d+|compile
    | workers?|threads?|procs?|process\w*|prefetch\w*|pin|nodes?|rank|world|ddp|fsdp|shards?|distributed|memory
    # the task and its data
    | vocab\w*|class|classes|labels|categories|ntokens?|tokens?|data|dataset|datasets|splits?|images?|img|resolution
    | pixels?
    | subset|limit|seq\w*|sequence|context|block|bptt|maxlen|length|len|in|input|inputs|out|output|outputs|features
    # how much is trained
    | epochs?|iters?|iterations?|steps?|time|minutes|hours|seconds|timeout|deadline|budget|accum\w*|total
    | version|versions|start|begin|offset
    ) (?:$|_)"""
)
"""No idea is made of these. Warm-up steps are the exception, see WARMUP."""

_WARMUP = re.compile(r"warm_?up")
_EVALUATION = re.compile(r"val|test|eval|(?:^|_)dev(?:_|$)")


@dataclass(frozen=True)
class Direction:
    """One way to move a setting, and what is said about it. `doses` gives the new values, the first to try first."""

    name: str
    title: str
    why: str
    doses: Callable[[SourceSetting], Sequence[Scalar]]
    cost: float = 1.0


@dataclass(frozen=True)
class Spacing:
    """What a step is: a factor of two, a difference of `step`, or a factor of two of what the value leaves to 1.

    `most` is the largest value that makes sense.
    """

    by: Literal["factor", "difference", "rest"] = "factor"
    step: float = 1.0
    most: float | None = None


@dataclass(frozen=True)
class KnobKind:
    """What is known about all settings of one kind. `names` is searched in a setting's name in lower case."""

    family: str
    names: re.Pattern[str]
    fits: Callable[[Scalar], bool]
    directions: tuple[Direction, ...]
    references: tuple[str, ...]
    words: tuple[str, ...]
    expected: float = 0.1
    spacing: Spacing = Spacing()


def kind_of(setting: SourceSetting) -> KnobKind | None:
    """The kind of a setting; None if it is not to be changed."""
    name = normal_name(setting.name)
    # One letter says nothing; the comment beside it may.
    if len(name) < 3 and name not in _SHORT:
        name = normal_name(" ".join(re.findall(r"[A-Za-z]+", setting.hint)[:2]))
    if _EVALUATION.search(normal_name(setting.group)):
        return None
    if NEVER.search(name) and not (_WARMUP.search(name) and not re.search(r"eval|test|val_|data", name)):
        return None
    if NEVER_GROUP.search(normal_name(setting.group)):
        return None
    for kind in KINDS:
        if kind.names.search(name) and kind.fits(setting.value):
            return kind
    if setting.choices and _CHOICES.search(name):
        return CHOICE
    return None


def normal_name(name: str) -> str:
    """`--weight-decay`, `weightDecay` and `WEIGHT_DECAY` are `weight_decay`."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").lower()


_SHORT = {"lr", "wd", "bs"}
_CHOICES = re.compile(
    r"^(?:lr_)?(?:optim(?:i[sz]er)?|opt|activation|act|nonlinearity|model|arch|architecture|net|network|backbone|sched(?:uler)?"
    r"|norm|norm_layer|init|pool(?:ing)?|cell|solver|kernel|attention)(?:_(?:type|name|fn))?$"
)
"""Of names with choices only these: a mode or a task is no setting of a method."""
NEVER_GROUP = re.compile(
    r"(?:^|_)(?:callbacks?|loggers?|paths?|early_stopping|checkpoint|sampl\w*|tokenizer|profiler)(?:$|_)"
)

# doses


def _number(setting: SourceSetting) -> float:
    assert not isinstance(setting.value, str)
    return float(setting.value)


def _times(*factors: float) -> Callable[[SourceSetting], Sequence[Scalar]]:
    return lambda setting: [float(f"{_number(setting) * factor:.4g}") for factor in factors]


def _whole_times(*factors: float) -> Callable[[SourceSetting], Sequence[Scalar]]:
    """Whole numbers of at least 1 that are the value times the factor."""

    def doses(setting: SourceSetting) -> Sequence[Scalar]:
        exact = [_number(setting) * factor for factor in factors]
        return [int(value) for value in exact if value >= 1 and value == int(value)]

    return doses


def _above(*ladder: float) -> Callable[[SourceSetting], Sequence[Scalar]]:
    """The next three rungs above the value."""
    return lambda setting: [rung for rung in ladder if rung > _number(setting) + 1e-12][:3]


def _below(*ladder: float) -> Callable[[SourceSetting], Sequence[Scalar]]:
    return lambda setting: [rung for rung in reversed(ladder) if rung < _number(setting) - 1e-12][:3]


def _decay_up(setting: SourceSetting) -> Sequence[Scalar]:
    return [0.01, 0.1] if _number(setting) == 0 else _times(3, 10)(setting)


def _decay_down(setting: SourceSetting) -> Sequence[Scalar]:
    return [] if _number(setting) == 0 else [*_times(1 / 3, 0.1)(setting), 0.0]


def _flip(setting: SourceSetting) -> Sequence[Scalar]:
    return [not setting.value]


def _is_number(value: Scalar) -> bool:
    return not isinstance(value, bool | str)


def _positive(value: Scalar) -> bool:
    return not isinstance(value, bool | str) and value > 0


def _not_negative(value: Scalar) -> bool:
    return not isinstance(value, bool | str) and value >= 0


def _share(value: Scalar) -> bool:
    return not isinstance(value, bool | str) and 0 <= value < 1


def _count(value: Scalar) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _switch(value: Scalar) -> bool:
    return isinstance(value, bool)


_DROPOUT = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_SMOOTHING = (0.0, 0.05, 0.1, 0.2)
_MOMENTUM = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98)
_BETA2 = (0.9, 0.95, 0.98, 0.99, 0.999, 0.9999)
_GAMMA = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
_EMA = (0.9, 0.99, 0.999, 0.9999)

_SMITH = "Smith 2018, A disciplined approach to neural network hyper-parameters, arXiv:1803.09820"
_KINGMA = "Kingma, Ba 2014, Adam: A Method for Stochastic Optimization, arXiv:1412.6980"
_KAPLAN = "Kaplan et al. 2020, Scaling Laws for Neural Language Models, arXiv:2001.08361"
_SGDR = "Loshchilov, Hutter 2016, SGDR: Stochastic Gradient Descent with Warm Restarts, arXiv:1608.03983"

KINDS = (
    KnobKind(
        "schedule",
        re.compile(r"^(?:min|final|end)_(?:lr|learning_rate)(?:_frac\w*|_ratio)?$|^lr_min$|^eta_min$"),
        _not_negative,
        (
            Direction(
                "up", "A higher last step size", "The last steps may still be too small to learn from.", _times(3)
            ),
            Direction(
                "down",
                "A lower last step size",
                "Small last steps let the weights settle, so the noise of the batches averages out.",
                _times(1 / 3, 0.1),
            ),
        ),
        (_SGDR,),
        ("minimum learning rate", "final learning rate"),
        expected=0.05,
    ),
    KnobKind(
        "step size",
        re.compile(r"(?:^|_)(?:lr|learning_rate)\d?(?:_init)?$|^(?:lr|learning_rate)_(?:max|peak|base)$"),
        _positive,
        (
            Direction(
                "up",
                "A larger step size",
                "Within a fixed training a larger step gets further, as long as the loss does not diverge. The step"
                " size is the setting that matters most, and its best value depends on the data.",
                _times(3, 10),
            ),
            Direction(
                "down",
                "A smaller step size",
                "Steps that are too large jump over narrow valleys of the loss. The step size is the setting that"
                " matters most, and its best value depends on the data.",
                _times(1 / 3, 0.1),
            ),
        ),
        (_SMITH,),
        ("learning rate", "step size", "lr"),
        expected=0.3,
    ),
    KnobKind(
        "regularisation",
        re.compile(r"weight_?decay|(?:^|_)(?:wd|l2|l2_reg)$"),
        _not_negative,
        (
            Direction(
                "up",
                "A stronger weight decay",
                "Smaller weights make smoother functions, which fit new examples better when data is scarce.",
                _decay_up,
            ),
            Direction(
                "down",
                "A weaker weight decay",
                "A model that does not overfit in this training loses capacity to the decay.",
                _decay_down,
            ),
        ),
        ("Loshchilov, Hutter 2017, Decoupled Weight Decay Regularization, arXiv:1711.05101",),
        ("weight decay",),
        expected=0.1,
    ),
    KnobKind(
        "regularisation",
        re.compile(r"smoothing"),
        _share,
        (
            Direction(
                "up",
                "More label smoothing",
                "Targets short of certainty keep the logits from growing without bound.",
                _above(*_SMOOTHING),
            ),
            Direction(
                "down", "Less label smoothing", "Smoothed targets cost accuracy of probabilities.", _below(*_SMOOTHING)
            ),
        ),
        ("Szegedy et al. 2015, Rethinking the Inception Architecture for Computer Vision, arXiv:1512.00567",),
        ("label smoothing",),
        expected=0.1,
        spacing=Spacing("difference", 0.05, most=0.3),
    ),
    KnobKind(
        "regularisation",
        re.compile(r"drop_?out\d?|(?:^|_)p?drop$|drop_?path|drop_?(?:rate|prob)"),
        _share,
        (
            Direction(
                "up",
                "More dropout",
                "Units that are switched off at random cannot rely on each other, which helps where a model overfits.",
                _above(*_DROPOUT),
            ),
            Direction(
                "down",
                "Less dropout",
                "In a short training a model underfits, and dropout slows it down.",
                _below(*_DROPOUT),
            ),
        ),
        ("Srivastava et al. 2014, Dropout: A Simple Way to Prevent Neural Networks from Overfitting, JMLR 15",),
        ("dropout",),
        expected=0.1,
        spacing=Spacing("difference", 0.1, most=0.8),
    ),
    KnobKind(
        "gradient clipping",
        re.compile(r"(?:^|_)clip(?:$|_)|clip_?(?:norm|val\w*)|^max_(?:grad_)?norm$"),
        _not_negative,
        (
            Direction(
                "up",
                "Looser gradient clipping",
                "Clipping that acts at every step shortens useful steps too.",
                lambda setting: [1.0] if _number(setting) == 0 else _times(3, 10)(setting),
            ),
            Direction(
                "down",
                "Tighter gradient clipping",
                "A single steep batch can throw the weights far off; a bound on the gradient's norm limits the damage.",
                lambda setting: [] if _number(setting) == 0 else _times(1 / 3, 0.1)(setting),
            ),
        ),
        ("Pascanu, Mikolov, Bengio 2013, On the difficulty of training recurrent neural networks, arXiv:1211.5063",),
        ("gradient clipping", "clipping"),
    ),
    KnobKind(
        "momentum",
        re.compile(r"^(?:adam_)?beta_?2$"),
        _share,
        (
            Direction(
                "up",
                "A longer average of squared gradients",
                "A longer average makes the step of each weight steadier.",
                _above(*_BETA2),
            ),
            Direction(
                "down",
                "A shorter average of squared gradients",
                "A shorter average follows gradients that change quickly, as they do early in a short training.",
                _below(*_BETA2),
            ),
        ),
        (_KINGMA,),
        ("beta2",),
        spacing=Spacing("rest"),
    ),
    KnobKind(
        "momentum",
        re.compile(r"momentum$|^(?:adam_)?beta_?1$"),
        _share,
        (
            Direction(
                "up",
                "More momentum",
                "Averaged gradients are less noisy and move faster along flat valleys.",
                _above(*_MOMENTUM),
            ),
            Direction("down", "Less momentum", "Less momentum turns sooner where the loss curves.", _below(*_MOMENTUM)),
        ),
        ("Sutskever et al. 2013, On the importance of initialization and momentum in deep learning, ICML", _KINGMA),
        ("momentum",),
        spacing=Spacing("rest"),
    ),
    KnobKind(
        "averaging",
        re.compile(r"(?:^|_)ema(?:_decay|_beta)?$"),
        _share,
        (
            Direction(
                "up",
                "A longer average of the weights",
                "Averaged weights lie nearer to the middle of a valley.",
                _above(*_EMA),
            ),
            Direction(
                "down",
                "A shorter average of the weights",
                "A long average lags behind in a short training.",
                _below(*_EMA),
            ),
        ),
        ("Polyak, Juditsky 1992, Acceleration of Stochastic Approximation by Averaging",),
        ("weight averaging",),
        spacing=Spacing("rest"),
    ),
    KnobKind(
        "schedule",
        re.compile(r"warm_?up"),
        _positive,
        (
            Direction(
                "up",
                "A longer warm-up",
                "Large steps on unsettled statistics can spoil the start.",
                lambda setting: _scaled(setting, 2.0, 4.0),
            ),
            Direction(
                "down",
                "A shorter warm-up",
                "A warm-up costs steps at full size.",
                lambda setting: _scaled(setting, 0.5, 0.25),
            ),
        ),
        ("Goyal et al. 2017, Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour, arXiv:1706.02677",),
        ("warmup", "warm up"),
        spacing=Spacing(most=0.5),
    ),
    KnobKind(
        "schedule",
        re.compile(r"^(?:lr_)?gamma$|(?:lr|learning_rate)_decay$|^decay_rate$"),
        _share,
        (
            Direction(
                "up",
                "A slower decay of the step size",
                "Steps that shrink too soon stop the learning early.",
                _above(*_GAMMA),
            ),
            Direction(
                "down", "A faster decay of the step size", "Smaller late steps let the weights settle.", _below(*_GAMMA)
            ),
        ),
        (_SGDR,),
        ("learning rate decay", "decay"),
        expected=0.1,
        spacing=Spacing("rest"),
    ),
    KnobKind(
        "schedule",
        re.compile(r"^factor$"),
        lambda value: _share(value) and value != 0,
        (
            Direction("up", "A gentler cut of the step size", "A tenfold cut may end the learning.", _above(*_GAMMA)),
            Direction(
                "down", "A sharper cut of the step size", "Smaller late steps let the weights settle.", _below(*_GAMMA)
            ),
        ),
        (_SGDR,),
        (),
        spacing=Spacing("rest"),
    ),
    KnobKind(
        "batch",
        re.compile(
            r"^(?:train_|device_|micro_|mini_|per_device_)*batch(?:_?size)?(?:_per_(?:gpu|device))?$|^(?:bs|bsz|b_size)$|^batch_?size_train$"
        ),
        _count,
        (
            Direction(
                "down",
                "A smaller batch",
                "Smaller batches give more and noisier steps over the same data, and often generalise better.",
                _whole_times(0.5, 0.25),
            ),
            Direction(
                "up",
                "A larger batch",
                "A larger batch gives each step a less noisy gradient.",
                _whole_times(2, 4),
                cost=1.5,
            ),
        ),
        (
            "Masters, Luschi 2018, Revisiting Small Batch Training for Deep Neural Networks, arXiv:1804.07612",
            "Smith et al. 2018, Don't Decay the Learning Rate, Increase the Batch Size, arXiv:1711.00489",
        ),
        ("batch size", "batch"),
        expected=0.1,
    ),
    KnobKind(
        "heads",
        re.compile(r"^(?:n|num|nr)_?(?:attention_|attn_)?heads?$|^heads$"),
        _count,
        (
            Direction(
                "up", "More attention heads", "More heads can attend to more things at once.", _whole_times(2, 4)
            ),
            Direction("down", "Fewer attention heads", "Fewer heads are wider each.", _whole_times(0.5, 0.25)),
        ),
        ("Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762",),
        ("attention heads", "heads"),
        expected=0.05,
    ),
    KnobKind(
        "capacity",
        re.compile(r"^(?:n|num|nr)_?(?:hidden_)?(?:layers?|blocks)$|^(?:model_|max_)?depth$|^(?:hidden_)?layers$"),
        _count,
        (
            Direction(
                "up",
                "More layers",
                "A deeper network composes more steps, if it still fits the training time.",
                _whole_times(2, 4),
                2.0,
            ),
            Direction(
                "down",
                "Fewer layers",
                "A shallower network trains faster and overfits less.",
                _whole_times(0.5, 0.25),
                0.7,
            ),
        ),
        (_KAPLAN,),
        ("layers", "depth", "deeper"),
        expected=0.2,
    ),
    KnobKind(
        "capacity",
        re.compile(
            r"^(?:n|num)_?(?:embd|embed|hid|hidden|units|filters|channels|estimators|neurons)$|^(?:d|dim)_(?:model|ff|hidden|inner)$"
            r"|^(?:em|emb|embd|embed|embedding|hidden|model|ff|ffn|mlp|inner|state|layer|lin\d|fc\d)_?(?:size|dim|width|units)\d?$"
            r"|^(?:emsize|nhid|nembd|width|base_width|channels|hidden|units|filters|mlp_ratio|dim|num_leaves|max_leaf_nodes)$"
        ),
        _count,
        (
            Direction(
                "up",
                "A wider model",
                "More units store more of what is in the data, if it still fits the training time.",
                _whole_times(2, 4),
                2.0,
            ),
            Direction(
                "down",
                "A narrower model",
                "A smaller network trains faster and overfits less.",
                _whole_times(0.5, 0.25),
                0.7,
            ),
        ),
        (_KAPLAN,),
        ("width", "wider", "hidden size", "embedding size"),
        expected=0.2,
    ),
    KnobKind(
        "initialisation",
        re.compile(r"^init(?:ial)?_?(?:std|scale|range)|^initiali[sz]er_range$|^(?:weight_)?std$"),
        lambda value: _positive(value) and not _count(value),
        (
            Direction("up", "Larger initial weights", "Weights that start too small pass little signal.", _times(2, 4)),
            Direction(
                "down", "Smaller initial weights", "Weights that start too large saturate the units.", _times(0.5, 0.25)
            ),
        ),
        ("He, Zhang, Ren, Sun 2015, Delving Deep into Rectifiers, arXiv:1502.01852",),
        ("initialisation", "initialization"),
    ),
    KnobKind(
        "weight tying",
        re.compile(r"^(?:tied|tie_(?:weights|embeddings?|word_embeddings)|weight_tying)$"),
        _switch,
        (
            Direction(
                "switch",
                "Tied input and output embeddings switched",
                "Tied embeddings need fewer parameters and learn from each word twice; untied ones are freer.",
                _flip,
            ),
        ),
        ("Press, Wolf 2016, Using the Output Embedding to Improve Language Models, arXiv:1608.05859",),
        ("weight tying", "tied embeddings"),
        expected=0.2,
    ),
    KnobKind(
        "switch",
        re.compile(
            r"^(?:use_)?(?:bias|nesterov|amsgrad|decay_lr|lr_decay|batch_?norm|layer_?norm|norm|bn|residual|skip|augment\w*|flip|hflip|crop"
            r"|cutout|mixup|ema|swa|rotary|rope|qk_norm|pre_?norm|norm_first|attention|bidirectional|optimizer|cosine\w*|scheduler)$"
        ),
        _switch,
        (
            Direction(
                "switch",
                "The other choice",
                "The switch was set by hand; whether the other choice is better was not measured here.",
                _flip,
            ),
        ),
        (),
        (),
    ),
)


def _scaled(setting: SourceSetting, *factors: float) -> Sequence[Scalar]:
    """A count stays whole, a share stays below 1."""
    if isinstance(setting.value, int):
        return _whole_times(*factors)(setting)
    return [value for value in _times(*factors)(setting) if not isinstance(value, str) and value < 1]


CHOICE = KnobKind(
    "choice",
    re.compile(""),
    lambda value: True,
    (),
    (),
    (),
)
"""A setting whose source lists what it may be. Each other choice is an idea of its own."""
