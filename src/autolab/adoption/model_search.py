"""What a training program trains and what it saves, read from its sources. Nothing is imported or run.

Classes of models are those that derive from `torch.nn.Module` or a class that does. How the program builds its model is
followed through its variables as far as they have one value: a constant, a flag's default, an entry of the checkpoint.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from autolab.adoption.program_sources import ProgramSources, SourceFile
from autolab.errors import UsageError

UNKNOWN = "FILL_IN"
"""Stands in code for what the sources do not say."""
_BASES = frozenset({"Module", "LightningModule", "PreTrainedModel", "Sequential"})
_WRAPPERS = frozenset({"compile", "DataParallel", "DistributedDataParallel", "prepare", "setup"})
_REGRESSION = ("mse_loss", "MSELoss", "l1_loss", "L1Loss", "SmoothL1Loss", "HuberLoss", "smooth_l1_loss")
_SAVES = {
    "torch.save": 1,
    "torch.jit.save": 1,
    "pickle.dump": 1,
    "joblib.dump": 1,
    "np.save": 0,
    "np.savez": 0,
    "np.savez_compressed": 0,
    "numpy.save": 0,
    "numpy.savez": 0,
    "safetensors.torch.save_file": 1,
    "save_file": 1,
}
"""Functions that save a model, and which of their arguments is the path."""
_METHODS = {"save_pretrained": ("pretrained", ""), "save_checkpoint": ("checkpoint", "state_dict")}
"""Methods that save a model to the path that they get, with form and key; of transformers and of Lightning."""
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")
_DEPTH = 12
"""Steps that a value is followed at most: variables may refer to each other."""


@dataclass(frozen=True)
class ModelClass:
    """A class, its file, and how a program at the top of the repository imports it: `from MODULE import NAME` with
    `folder` on sys.path (empty: the top itself). `trains`: to import the file would run the training."""

    name: str
    path: str
    module: str
    folder: str
    trains: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


@dataclass(frozen=True)
class SavedModel:
    """A call that saves something: the function, the path as far as the sources say it, what is saved.

    `form`: `state` (of a model), `checkpoint` (a dict that has the state under `key`), `whole`, or `pretrained` (a
    folder of transformers). `entries`: the variables of a checkpoint by key.
    """

    function: str
    path: str
    form: str
    place: str
    key: str = ""
    entries: dict[str, str] = field(default_factory=dict)
    variable: str = ""
    """The variable of the model, if the call names one."""


@dataclass(frozen=True)
class TrainedModel:
    """What the search says. `call` builds the model, with `FILL_IN` for what is unknown; it needs `imports`."""

    cls: ModelClass | None
    call: str
    imports: tuple[ModelClass, ...]
    saved: SavedModel | None
    is_regression: bool
    is_wrapped: bool
    """Whether the program compiles the model, or wraps it for several processes."""
    classes: tuple[ModelClass, ...]


def search_model(sources: ProgramSources, committed: Set[str], words: Sequence[str], name: str | None) -> TrainedModel:
    """The model of a program that the command `words` runs; `name` is the user's `module:Class`.

    UsageError: the sources have no such class.
    """
    classes = _model_classes(sources, committed)
    every_class = _classes(sources, committed)
    saves = [saved for source in sources.code for saved in _saves(source)]
    saved = _most_likely(saves)
    flags = _flags(words)
    values = [_Values(source, flags) for source in sources.code if source.tree is not None]
    cls = _given(name, every_class) if name else _trained(classes, saved, values)
    call = UNKNOWN
    imports: tuple[ModelClass, ...] = ()
    if cls is not None:
        call, imports = _construction(cls, every_class, saved, values)
    text = "\n".join(source.text for source in sources.code)
    is_regression = any(word in text for word in _REGRESSION) and "cross_entropy" not in text.lower()
    is_wrapped = "torch.compile(" in text or "DataParallel" in text
    return TrainedModel(cls, call, imports, saved, is_regression, is_wrapped, tuple(classes.values()))


def _given(name: str, classes: dict[str, ModelClass]) -> ModelClass:
    module, _, last = name.partition(":")
    cls = classes.get(last)
    if cls is None or (module and cls.module != module):
        there = ", ".join(str(known) for known in classes.values()) or "no class at all"
        raise UsageError(f"--model: {name}: not in the training's sources, as MODULE:CLASS; they have {there}")
    return cls


# Classes


def _classes(sources: ProgramSources, committed: Set[str]) -> dict[str, ModelClass]:
    script = sources.script.path if sources.script is not None else ""
    classes: dict[str, ModelClass] = {}
    for source in sources.code:
        for node in source.tree.body if source.tree is not None else ():
            if isinstance(node, ast.ClassDef):
                module, folder = _module(source.path, script, committed)
                classes[node.name] = ModelClass(node.name, source.path, module, folder, _trains(source, script))
    return classes


def _model_classes(sources: ProgramSources, committed: Set[str]) -> dict[str, ModelClass]:
    """The classes that derive from a module of torch, also by way of each other."""
    bases: dict[str, set[str]] = {}
    for source in sources.code:
        for node in ast.walk(source.tree or ast.Module([], [])):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = {_last_name(base) for base in node.bases}
    models: set[str] = set()
    for _ in bases:
        models |= {name for name, above in bases.items() if above & (_BASES | models)}
    every_class = _classes(sources, committed)
    return {name: cls for name, cls in every_class.items() if name in models}


def _module(path: str, script: str, committed: Set[str]) -> tuple[str, str]:
    """The dotted name of a file's module, and the folder that it is imported from."""
    folder, file = posixpath.split(path)
    names = [] if file == "__init__.py" else [file.removesuffix(".py")]
    while folder and f"{folder}/__init__.py" in committed:
        folder, name = posixpath.split(folder)
        names.insert(0, name)
    # A folder without `__init__.py` is where Python looks, or a part of the name.
    if folder and folder not in (posixpath.dirname(script), "src"):
        names[:0] = folder.split("/")
        folder = ""
    return ".".join(names), folder


def _trains(source: SourceFile, script: str) -> bool:
    """Whether to import the file runs the training: it is the script, and nothing guards its statements."""
    return source.path == script and not has_guard(source.text)


def has_guard(text: str) -> bool:
    """Whether a script's training stands under `if __name__ == "__main__":`."""
    return "__name__" in text and "__main__" in text


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        above = _dotted(node.value)
        return f"{above}.{node.attr}" if above else node.attr
    return node.id if isinstance(node, ast.Name) else ""


# What is saved


def _saves(source: SourceFile) -> Iterator[SavedModel]:
    values = _Values(source, {})
    for node in ast.walk(source.tree or ast.Module([], [])):
        if not isinstance(node, ast.Call):
            continue
        function, method = _dotted(node.func), _last_name(node.func)
        if method in _METHODS and node.args and "token" not in function:
            form, key = _METHODS[method]
            path, owner = values.path(node.args[0]), function.rpartition(".")[0]
            variable = owner.removesuffix(".module") if form == "pretrained" else ""
            yield SavedModel(method, path, form, f"{source.path}:{node.lineno}", key, variable=variable)
        position = _SAVES.get(function)
        if position is None or len(node.args) <= position:
            continue
        path, place = values.path(node.args[position]), f"{source.path}:{node.lineno}"
        thing = node.args[0] if position else None
        if thing is None or function in ("np.savez", "np.savez_compressed"):
            yield SavedModel(function, path, "whole", place)
        else:
            yield _saved(function, path, place, values.followed(thing))


def _saved(function: str, path: str, place: str, thing: ast.expr) -> SavedModel:
    variable = _state_of(thing)
    if variable:
        return SavedModel(function, path, "state", place, variable=variable)
    if isinstance(thing, ast.Dict):
        entries: dict[str, str] = {}
        state = variable = ""
        for key, value in zip(thing.keys, thing.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                entries[key.value] = _dotted(value)
                # The optimizer has a state too.
                if _state_of(value) and not state and "optim" not in key.value:
                    state, variable = key.value, _state_of(value)
        if state:
            return SavedModel(function, path, "checkpoint", place, state, entries, variable)
    return SavedModel(function, path, "whole", place, variable=_dotted(thing))


def _state_of(node: ast.expr) -> str:
    """The variable whose `state_dict()` an expression is; empty if it is none."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "state_dict":
        return _dotted(node.func.value).removesuffix(".module")
    return ""


def _most_likely(saves: Sequence[SavedModel]) -> SavedModel | None:
    """The save that is the model's: one of weights before any other, the last one in the sources."""
    for form in ("state", "checkpoint", "pretrained", "whole"):
        of_form = [saved for saved in saves if saved.form == form and "optim" not in saved.variable]
        if of_form:
            return of_form[-1]
    return None


# How the model is built


def _flags(words: Sequence[str]) -> dict[str, str]:
    """The flags with a number that a command gives, by the name that the program has for each: `--n-layer 2`."""
    flags = {}
    for word, after in zip(words, [*words, ""][1:], strict=True):
        name, equals, value = word.partition("=")
        text = value if equals else after
        if name.startswith("--") and _NUMBER.fullmatch(text):
            flags[name.lstrip("-").replace("-", "_")] = text
    return flags


class _Values:
    """The values of a file's variables and attributes that are assigned once, and the defaults of its flags."""

    def __init__(self, source: SourceFile, given: Mapping[str, str]) -> None:
        self.path_of_file = source.path
        self._given = given
        self._of: dict[str, list[ast.expr]] = {}
        self._flags: dict[str, ast.expr] = {}
        for node in ast.walk(source.tree or ast.Module([], [])):
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                self._of.setdefault(_dotted(node.targets[0]), []).append(node.value)
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                self._of.setdefault(_dotted(node.target), []).append(node.value)
            elif isinstance(node, ast.withitem) and node.optional_vars is not None:
                # `with open("model.pt", "wb") as file:`
                self._of.setdefault(_dotted(node.optional_vars), []).append(node.context_expr)
            elif isinstance(node, ast.Call) and _last_name(node.func) == "add_argument":
                self._add_flag(node)
        # Of a target without a name, such as `values[0]`.
        self._of.pop("", None)

    def _add_flag(self, call: ast.Call) -> None:
        options = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        for keyword in call.keywords:
            if keyword.arg == "default" and options:
                name = max(options, key=len).lstrip("-").replace("-", "_")
                self._flags[name] = keyword.value

    def first(self, name: str) -> ast.expr | None:
        """The first value of a variable; None if it has none."""
        values = self._of.get(name)
        return values[0] if values else None

    def calls(self) -> Iterator[ast.Call]:
        """Calls whose result a variable gets, in the order of the lines: those that may build the model."""
        for values in self._of.values():
            for value in values:
                call = _unwrapped(value)
                if isinstance(call, ast.Call):
                    yield call

    def building(self, name: str, depth: int = 0) -> ast.Call | None:
        """The call that builds the model in a variable, also by way of another variable; None if none does."""
        value = self.first(name)
        # `raw_model = model.module if ddp else model`
        if isinstance(value, ast.IfExp):
            value = value.orelse
        inner = _unwrapped(value) if value is not None else None
        if isinstance(inner, ast.Name) and depth < _DEPTH:
            return self.building(inner.id, depth + 1)
        return inner if isinstance(inner, ast.Call) else None

    def constant(self, node: ast.expr) -> ast.expr | None:
        """The constant that an expression stands for; None if it has no single one."""
        return self._named(node)[1]

    def setting(self, node: ast.expr) -> str:
        """The code that gives a constant as a candidate has it, by the name that it has in the file; else empty."""
        name, constant = self._named(node)
        if constant is None:
            return ""
        if not name:
            return ast.unparse(constant)
        value = f", {self._given[name]}" if name in self._given else ""
        return f"setting({self.path_of_file!r}, {name!r}{value})"

    def _named(self, node: ast.expr) -> tuple[str, ast.expr | None]:
        """The constant, and the last name that it has; the name is empty if the expression is a constant itself."""
        last = ""
        for _ in range(_DEPTH):
            if _is_constant(node):
                return last, node
            name = _dotted(node)
            values = self._of.get(name, [])
            last = name.rpartition(".")[2]
            if len(values) == 1:
                node = values[0]
            elif isinstance(node, ast.Attribute) and node.attr in self._flags:
                node = self._flags[node.attr]
            else:
                return last, None
        return last, None

    def followed(self, node: ast.expr) -> ast.expr:
        """An expression, or the dict or the state of a model that the variable which it names was set to."""
        for value in self._of.get(_dotted(node), []) if isinstance(node, ast.Name) else ():
            if isinstance(value, ast.Dict) or _state_of(value):
                return value
        return node

    def path(self, node: ast.expr) -> str:
        """The path that an expression is, as far as it is known: its last part alone if the first ones are not."""
        pieces = self._pieces(node)
        text = ""
        for piece in pieces:
            text = "" if piece is None else text + piece
        return posixpath.normpath(text).lstrip("/") if text.strip("/") else ""

    def _pieces(self, node: ast.expr, depth: int = 0) -> list[str | None]:
        constant = self.constant(node)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
            return [constant.value]
        if depth > _DEPTH:
            return [None]
        pieces: list[str | None] = []
        if isinstance(node, ast.JoinedStr):
            for part in node.values:
                inner = part.value if isinstance(part, ast.FormattedValue) else part
                pieces += self._pieces(inner, depth + 1)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Div):
            between: list[str | None] = ["/"] if isinstance(node.op, ast.Div) else []
            pieces = [*self._pieces(node.left, depth + 1), *between, *self._pieces(node.right, depth + 1)]
        elif isinstance(node, ast.Call) and _last_name(node.func) in ("join", "Path", "str", "open"):
            for argument in node.args[:1] if _last_name(node.func) == "open" else node.args:
                pieces += ["/"] if pieces else []
                pieces += self._pieces(argument, depth + 1)
        elif isinstance(node, ast.Name) and self.first(node.id) is not None:
            value = self.first(node.id)
            assert value is not None
            pieces = self._pieces(value, depth + 1)
        return pieces or [None]


def _is_constant(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _unwrapped(node: ast.expr) -> ast.expr:
    """What builds a model, without what is done to the model at once: `.to(device)`, `torch.compile(…)`."""
    while isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call):
            node = node.func.value
        elif _last_name(node.func) in _WRAPPERS and node.args:
            node = node.args[0]
        else:
            return node
    return node


def _trained(classes: dict[str, ModelClass], saved: SavedModel | None, values: Sequence[_Values]) -> ModelClass | None:
    """The class of the model that is saved; else the only class of a model."""
    if saved is not None and saved.variable:
        for file in values:
            for name in (saved.variable, f"self.{saved.variable}"):
                call = file.building(name)
                if call is not None and _last_name(call.func) in classes:
                    return classes[_last_name(call.func)]
    return next(iter(classes.values())) if len(classes) == 1 else None


def _construction(
    cls: ModelClass, classes: dict[str, ModelClass], saved: SavedModel | None, values: Sequence[_Values]
) -> tuple[str, tuple[ModelClass, ...]]:
    """The code that builds the model as the program does, and the classes that it names."""
    if saved is not None and saved.form == "whole":
        # Whoever unpickles a model needs its class.
        return "", (cls,)
    for file in values:
        for call in file.calls():
            if _last_name(call.func) == cls.name:
                builder = _Builder(classes, saved, file)
                return builder.code(call), tuple(builder.imports.values())
    return f"{cls.name}({UNKNOWN})", (cls,)


class _Builder:
    """Writes an expression anew from what predict.py can know: constants, the checkpoint, classes to import."""

    def __init__(self, classes: dict[str, ModelClass], saved: SavedModel | None, values: _Values) -> None:
        self._classes, self._values = classes, values
        self._entries = {variable: key for key, variable in (saved.entries if saved else {}).items() if variable}
        self.imports: dict[str, ModelClass] = {}

    def code(self, node: ast.expr, depth: int = 0) -> str:
        if depth > _DEPTH:
            return UNKNOWN
        name = _dotted(node)
        # What the training saved holds for each candidate; a constant of the source only for this one.
        if name in self._entries:
            return f"checkpoint[{self._entries[name]!r}]"
        owner, _, attribute = name.rpartition(".")
        if owner in self._entries:
            return f"checkpoint[{self._entries[owner]!r}].{attribute}"
        setting = self._values.setting(node)
        if setting:
            return setting
        if isinstance(node, ast.Call) and _last_name(node.func) in self._classes:
            return self._call(node, depth)
        value = self._values.first(name) if name else None
        return self.code(value, depth + 1) if value is not None else UNKNOWN

    def _call(self, node: ast.Call, depth: int) -> str:
        cls = self._classes[_last_name(node.func)]
        self.imports[cls.name] = cls
        arguments = []
        for argument in node.args:
            star = isinstance(argument, ast.Starred)
            inner = argument.value if isinstance(argument, ast.Starred) else argument
            arguments.append(f"{'*' if star else ''}{self.code(inner, depth + 1)}")
        for keyword in node.keywords:
            prefix = "**" if keyword.arg is None else f"{keyword.arg}="
            arguments.append(f"{prefix}{self.code(keyword.value, depth + 1)}")
        return f"{cls.name}({', '.join(arguments)})"
