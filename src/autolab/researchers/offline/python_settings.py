"""Settings in Python: constants, flags with defaults, fields, keyword arguments, variables of the environment.

A definition counts where its name is used from the script on, and a setting where its name is read in such code. The
test goes by name alone. It cannot see a use through a registry, `globals()` or a computed attribute, nor that a branch
which reads a setting is never taken: the first are left out, and trials of the second come out equal.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from autolab.researchers.offline.choices import annotated_choices, flag_choices, tables, text_of, with_choices
from autolab.researchers.offline.command_values import command_values, word_value
from autolab.researchers.offline.knob_kinds import normal_name
from autolab.researchers.offline.reached_files import Reached, ReachedFile, parsed
from autolab.researchers.offline.source_setting import Scalar, SourceSetting, parse_number

_MAIN = re.compile(r"^(?:main|train|run|fit|cli|experiment|start)\w*$")
_EVALUATES = re.compile(r"_*(?:eval|valid|test|infer|predict|sample|generat)")
"""Functions whose settings are those of the evaluation."""
_TELLING = {"label_smoothing", "weight_decay", "lr", "learning_rate", "momentum", "max_norm", "nesterov"}
"""Keywords that mean the same in every function."""
_AMBIGUOUS = {"dim", "bias", "norm", "skip", "flip", "crop", "attention", "depth", "std"}
"""Names of variables inside a function that are an axis, a tensor or a flag of the data more often than a setting."""
_NOT_READ = 1
"""How often a key of a dictionary is a text where nobody reads it: where it is written."""


@dataclass(frozen=True)
class _SourceModule:
    file: ReachedFile
    tree: ast.Module
    units: dict[str, ast.AST]
    """Top-level functions and classes by name."""
    rest: tuple[ast.stmt, ...]
    """What runs when the module is imported, or started."""


def python_settings(reached: Reached) -> list[SourceSetting]:
    """All settings of the Python files, those in force first."""
    modules = [module for module in map(_module, reached.of("python")) if module is not None]
    extra = {target.rpartition(".")[2] for file in reached.of("yaml") for target in _targets(file.text)}
    live = _live(modules, extra)
    reads = _reads(live)
    calls = _calls(live)
    found: list[SourceSetting] = []
    for module in modules:
        reader = _Reader(module, live[module.file.path], reads, reached.flags, calls)
        found += reader.settings()
        if module.file.rank == 1:
            found += reader.told_settings(reached.words)
    listed = [table for module in modules for table in tables(module.tree)]
    return [with_choices(setting, listed) for setting in found]


def names_read(reached: Reached) -> Counter[str]:
    """How often the live code of the Python files reads each name."""
    modules = [module for module in map(_module, reached.of("python")) if module is not None]
    extra = {target.rpartition(".")[2] for file in reached.of("yaml") for target in _targets(file.text)}
    return _reads(_live(modules, extra))


def _targets(text: str) -> list[str]:
    return re.findall(r"_target_:[ \t]*([\w.]+)", text)


def _module(file: ReachedFile) -> _SourceModule | None:
    tree = parsed(file.text)
    if tree is None:
        return None
    units: dict[str, ast.AST] = {}
    rest: list[ast.stmt] = []
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            units[statement.name] = statement
        # An imported module's own start is not run.
        elif not (file.rank > 1 and isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)):
            rest.append(statement)
    return _SourceModule(file, tree, units, tuple(rest))


def _live(modules: Sequence[_SourceModule], extra: Iterable[str]) -> dict[str, list[ast.AST]]:
    """The statements of each file that the script reaches by name."""
    live: dict[str, list[ast.AST]] = {module.file.path: list(module.rest) for module in modules}
    pending: list[tuple[_SourceModule | None, str]] = [(None, name) for name in extra]
    for module in modules:
        pending += [(module, name) for statement in module.rest for name in _uses(statement)]
    seen: set[tuple[str, str]] = set()
    while pending:
        user, name = pending.pop()
        # A module's own definition comes before one of the same name elsewhere.
        own = user is not None and name in user.units
        for module in [user] if own and user is not None else modules:
            unit = module.units.get(name)
            if unit is not None and (module.file.path, name) not in seen:
                seen.add((module.file.path, name))
                live[module.file.path].append(unit)
                pending += [(module, used) for used in _uses(unit)]
    # In the order of the file: sets have another order in every process, and names of knobs depend on it.
    for nodes in live.values():
        nodes.sort(key=lambda node: getattr(node, "lineno", 0))
    return live


def _uses(statement: ast.AST) -> set[str]:
    """The names that a statement uses. An import is no use."""
    names: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            names.add(node.value)
    return names


def _reads(live: dict[str, list[ast.AST]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for nodes in live.values():
        for top in nodes:
            for node in ast.walk(top):
                if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
                    counts[node.id if isinstance(node, ast.Name) else node.attr] += 2
                # The text of a dictionary's key may be where it is written, so one alone is no reading.
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    counts[node.value] += 1
    return counts


def _calls(live: dict[str, list[ast.AST]]) -> dict[str, list[ast.Call]]:
    """The calls in live code, by the last part of the name that is called."""
    calls: dict[str, list[ast.Call]] = {}
    for nodes in live.values():
        for top in nodes:
            for node in ast.walk(top):
                if isinstance(node, ast.Call):
                    name = ast.unparse(node.func).rpartition(".")[2]
                    calls.setdefault(name, []).append(node)
    return calls


class _Reader:
    """The settings of one module."""

    def __init__(
        self,
        module: _SourceModule,
        live: Sequence[ast.AST],
        reads: Counter[str],
        flags: dict[str, str],
        calls: Mapping[str, Sequence[ast.Call]],
    ) -> None:
        self._calls = calls
        self._file, self._module, self._live = module.file, module, live
        self._reads, self._flags = reads, flags
        self._lines = module.file.text.split("\n")
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._parents = {child: node for node in ast.walk(module.tree) for child in ast.iter_child_nodes(node)}

    def settings(self) -> list[SourceSetting]:
        found = [*self._constants()]
        for top in self._live:
            for node in ast.walk(top):
                if isinstance(node, ast.Call):
                    found += self._call(node)
                elif isinstance(node, ast.ClassDef):
                    found += self._fields(node)
                elif isinstance(node, ast.FunctionDef):
                    found += self._parameters(node)
                    found += self._variables(node)
                elif isinstance(node, ast.If) and node in self._module.rest:
                    found += self._variables(node)
                elif isinstance(node, ast.Dict):
                    found += self._entries(node)
                elif isinstance(node, ast.BinOp):
                    found += self._step(node)
        found += self._attributes()
        # Without a schedule gamma is the discount of rewards, which belongs to the task.
        if not re.search(r"LR\b|scheduler", self._file.text):
            found = [setting for setting in found if setting.name != "gamma"]
        return [setting for setting in found if setting.rank < 0 or self._in_force(setting)]

    def told_settings(self, words: Mapping[str, str]) -> Iterator[SourceSetting]:
        """Values of the command that a line behind the parser can replace, where the program reads their names."""
        tree, text = self._module.tree, self._file.text
        for told in command_values(tree, text, self._flags, words):
            group, _, name = told.name.rpartition(".")
            if self._reads[name] == 0 and not told.exists:
                continue
            # An earlier idea that was kept has left its line there.
            earlier = self._assignment(told.target, told.place)
            if earlier is not None:
                yield replace(earlier, name=name, group=group, rank=-10.0)
                continue
            place = told.place
            setting = SourceSetting(self._file.path, "python", name, told.value, place, place, -5.0, group=group)
            yield replace(setting, template=told.template)

    def _assignment(self, target: str, after: int) -> SourceSetting | None:
        """The last plain assignment to `target` from the offset on."""
        last = None
        for node in ast.walk(self._module.tree):
            named, value_node = _assigned(node)
            if named is None or value_node is None or ast.unparse(named) != target:
                continue
            value = _scalar(value_node)
            if value is not None and self._offset(named.lineno, named.col_offset) >= after:
                last = self._setting(target, value_node, value)
        return last

    def _in_force(self, setting: SourceSetting) -> bool:
        """Whether the command does not set it: an edit of the default would change nothing."""
        return setting.template != "{}" or not self._flags.keys() & {
            normal_name(setting.name),
            normal_name(setting.key),
        }

    # places

    def _offset(self, line: int, column: int) -> int:
        # ast counts columns in bytes.
        text = self._lines[line - 1].encode()[:column].decode()
        return self._starts[line - 1] + len(text)

    def _setting(self, name: str, node: ast.expr, value: Scalar, group: str = "", rank: float = 0.0) -> SourceSetting:
        assert node.end_lineno is not None and node.end_col_offset is not None
        start = self._offset(node.lineno, node.col_offset)
        end = self._offset(node.end_lineno, node.end_col_offset)
        comment = self._lines[node.end_lineno - 1].partition("#")[2].strip()
        text = self._file.text[start:end]
        found = SourceSetting(self._file.path, "python", name, value, start, end, self._file.rank + rank, text, group)
        return replace(found, hint=comment)

    def _end_of_line(self, node: ast.stmt) -> int:
        assert node.end_lineno is not None
        return self._starts[node.end_lineno] - 1

    def _owner(self, node: ast.AST) -> str:
        """The class around a node, or nothing."""
        parent = self._parents.get(node)
        while parent is not None and not isinstance(parent, ast.ClassDef):
            parent = self._parents.get(parent)
        return parent.name if isinstance(parent, ast.ClassDef) else ""

    def _functions(self, node: ast.AST) -> Iterator[str]:
        """The names of the functions around a node."""
        parent = self._parents.get(node)
        while parent is not None:
            if isinstance(parent, ast.FunctionDef):
                yield parent.name
            parent = self._parents.get(parent)

    def _is_read(self, name: str) -> bool:
        return self._reads[name] > _NOT_READ

    # forms

    def _constants(self) -> Iterator[SourceSetting]:
        """Constants at module level. Where the name is assigned again, the last counts, if all are plain."""
        stored = Counter(
            node.id
            for statement in self._module.rest
            for node in ast.walk(statement)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        )
        executed = self._configurator()
        last: dict[str, SourceSetting] = {}
        plain: Counter[str] = Counter()
        for statement in self._module.rest:
            target, node = _assigned(statement)
            if not isinstance(target, ast.Name) or node is None:
                continue
            value = _scalar(node)
            if value is None or target.id.startswith("_"):
                continue
            plain[target.id] += 1
            after = executed is not None and statement.lineno > executed.lineno
            # What stands behind the configurator overrules the command and its files.
            last[target.id] = self._setting(target.id, node, value, rank=-10.0 if after else 0.0)
        for name, setting in last.items():
            # A value that is computed somewhere may overrule the constant.
            if self._is_read(name) and stored[name] == plain[name]:
                yield setting
        if executed is not None:
            yield from self._after_configurator(executed, last)

    def _configurator(self) -> ast.stmt | None:
        """The statement that lets the command line overrule the constants, as in nanoGPT."""
        if self._file.rank != 1:
            return None
        for statement in self._module.rest:
            if isinstance(statement, ast.Expr) and ast.unparse(statement).startswith("exec(open("):
                return statement
        return None

    def _after_configurator(self, executed: ast.stmt, constants: dict[str, SourceSetting]) -> Iterator[SourceSetting]:
        for name, setting in constants.items():
            value = word_value(self._flags.get(normal_name(name)))
            if value is not None and setting.rank > 0 and self._is_read(name):
                place = self._end_of_line(executed)
                yield replace(
                    setting, value=value, text="", start=place, end=place, rank=-5.0, template=f"\n{name} = {{}}"
                )

    def _attributes(self) -> Iterator[SourceSetting]:
        """`C.learning_rate = 3e-4`, `self.dropout = 0.1`, `args.lr = 0.3`: each that is assigned once."""
        found: dict[str, list[SourceSetting]] = {}
        for top in self._live:
            for node in ast.walk(top):
                target, value_node = _assigned(node)
                if not isinstance(target, ast.Attribute):
                    continue
                chain = ast.unparse(target)
                value = None if value_node is None else _scalar(value_node)
                group = ".".join(part for part in (self._owner(node), *chain.split(".")[1:-1]) if part)
                place = f"{self._owner(node)} {chain}"
                entries = found.setdefault(place, [])
                if value is None or value_node is None:
                    entries.append(SourceSetting("", "", "", 0, 0, 0, 0))
                    continue
                parser = self._parsed_names().get(chain.partition(".")[0])
                # Beside the parser an assignment overrules the command too.
                if parser is not None and self._parents[node] is self._parents[parser]:
                    setting = replace(self._setting(target.attr, value_node, value), rank=-5.0)
                else:
                    setting = self._setting(target.attr, value_node, value, group)
                entries.append(setting)
        for entries in found.values():
            if len(entries) == 1 and entries[0].path and self._is_read(entries[0].name):
                yield entries[0]

    def _parsed_names(self) -> dict[str, ast.stmt]:
        """The variables that hold parsed flags, each with its last assignment."""
        names: dict[str, ast.stmt] = {}
        for top in self._live:
            for node in ast.walk(top):
                if isinstance(node, ast.Assign) and re.search(
                    r"\.parse_(?:args|known_args)\(", ast.unparse(node.value)
                ):
                    target = node.targets[0]
                    target = target.elts[0] if isinstance(target, ast.Tuple) and target.elts else target
                    if isinstance(target, ast.Name):
                        names[target.id] = node
        return names

    def _call(self, node: ast.Call) -> Iterator[SourceSetting]:
        function = ast.unparse(node.func)
        name = function.rpartition(".")[2]
        if name == "add_argument" or (name == "option" and "click" in self._file.text):
            yield from self._argument(node)
        elif name in ("get", "getenv") and "environ" in function + "environ" * (name == "getenv"):
            yield from self._environment(node)
        elif name[:1].isupper() or name == "dict":
            yield from self._keywords(node, name)
        elif name.startswith("clip_grad_norm") and len(node.args) > 1:
            value = _scalar(node.args[1])
            if value is not None:
                yield self._setting("max_norm", node.args[1], value)
        else:
            yield from self._telling(node)

    def _telling(self, node: ast.Call) -> Iterator[SourceSetting]:
        """`F.cross_entropy(output, labels, label_smoothing=0.1)`."""
        if any(_EVALUATES.match(function) for function in self._functions(node)):
            return
        for keyword in node.keywords:
            value = _scalar(keyword.value)
            if keyword.arg in _TELLING and value is not None:
                yield self._setting(keyword.arg, keyword.value, value)

    def _argument(self, node: ast.Call) -> Iterator[SourceSetting]:
        options = [word.value for word in node.args if isinstance(word, ast.Constant) and isinstance(word.value, str)]
        long = [word for word in options if word.startswith("--")] or [word for word in options if word[:1] == "-"]
        if not long:
            return
        keywords = {one.arg: one.value for one in node.keywords}
        name = text_of(keywords.get("dest")) or normal_name_of_flag(long[0])
        if not self._is_read(name):
            return
        told = {normal_name(word) for word in options} & self._flags.keys()
        given = text_of(keywords.get("action")) or ""
        action = keywords.get("action")
        if given in ("store_true", "store_false") and "default" not in keywords and action is not None and not told:
            setting = self._setting(name, action, given == "store_false")
            yield replace(setting, text="", start=setting.end, template=", default={}")
            return
        default = keywords.get("default")
        value = None if default is None else _scalar(default)
        if default is None or value is None:
            return
        if ast.unparse(keywords.get("type", default)) == "float" and isinstance(value, int):
            value = float(value)
        setting = replace(self._setting(name, default, value), choices=flag_choices(keywords, value))
        setting = replace(setting, hint=text_of(keywords.get("help")) or setting.hint)
        yield from self._told_argument(setting, self._flags[min(told)]) if told else (setting,)

    def _told_argument(self, setting: SourceSetting, word: str) -> Iterator[SourceSetting]:
        """A flag that the command gives: a line behind the parser sets the value in its place."""
        value = word if isinstance(setting.value, str) else word_value(word)
        if isinstance(setting.value, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        for name, statement in self._parsed_names().items():
            if value is not None and type(value) is type(setting.value):
                place = self._end_of_line(statement)
                indent = " " * statement.col_offset
                quote = setting.text[:1] if isinstance(value, str) else ""
                template = f"\n{indent}{name}.{setting.name} = {quote}{{}}{quote}"
                yield replace(
                    setting, value=value, text="", start=place, end=place, template=template, rank=self._file.rank - 0.1
                )
                return

    def _environment(self, node: ast.Call) -> Iterator[SourceSetting]:
        if len(node.args) != 2:
            return
        name, default = text_of(node.args[0]), node.args[1]
        value = _scalar(default)
        if isinstance(value, str):
            value = parse_number(value)
        if name is not None and value is not None:
            yield self._setting(name, default, value)

    def _keywords(self, node: ast.Call, name: str) -> Iterator[SourceSetting]:
        """Keyword arguments of classes, and the share of a Dropout."""
        group = self._called(node) or name
        # A loader of the evaluation is known by what it is called or what it is given.
        if name.endswith("Loader") and node.args:
            group = f"{group} {ast.unparse(node.args[0])}".strip()
        if any(_EVALUATES.match(function) for function in self._functions(node)):
            return
        # A group of parameters has settings of its own on purpose: no decay for biases, say.
        own_group = any(keyword.arg == "params" for keyword in node.keywords)
        if self._in_table(node) or own_group:
            return
        for keyword in node.keywords:
            value = _scalar(keyword.value)
            if keyword.arg in ("gamma", "factor") and not name.endswith(("LR", "Plateau")):
                continue
            # The bias of one layer is a detail of its place, and `dim` is an axis more often than a size.
            if keyword.arg in ("bias", "dim") and not name.endswith(("Config", "Args", "dict")):
                continue
            if keyword.arg is not None and value is not None:
                yield self._setting(keyword.arg, keyword.value, value, "" if name == "dict" else group)
        if re.match(r"Dropout|DropPath", name):
            for share in [*node.args[:1], *(one.value for one in node.keywords if one.arg == "p")]:
                value = _scalar(share)
                # `self.dropout1 = nn.Dropout(0.25)` has its name already.
                named = self._called(node) if "drop" in self._called(node).lower() else "dropout"
                if value is not None:
                    yield self._setting(named, share, value, self._owner(node))

    def _called(self, node: ast.Call) -> str:
        """The variable or attribute that the result of a call is assigned to."""
        parent = self._parents.get(node)
        while parent is not None and not isinstance(parent, ast.stmt):
            parent = self._parents.get(parent)
        target, value = _assigned(parent) if parent is not None else (None, None)
        if target is None or value is not node:
            return ""
        return ast.unparse(target).rpartition(".")[2]

    def _fields(self, node: ast.ClassDef) -> Iterator[SourceSetting]:
        """`lr: float = 0.1` in a class, or `lr: float = field(default=0.1)`."""
        for statement in node.body:
            target, value_node = _assigned(statement)
            if not isinstance(target, ast.Name) or value_node is None:
                continue
            if isinstance(value_node, ast.Call):
                defaults = [one.value for one in value_node.keywords if one.arg == "default"]
                value_node = [*defaults, value_node][0]
            value = _scalar(value_node)
            # A field that a call gives has no default in force.
            given = any(one.arg == target.id for call in self._calls.get(node.name, ()) for one in call.keywords)
            if value is not None and self._is_read(target.id) and not given:
                yield replace(
                    self._setting(target.id, value_node, value, node.name), choices=annotated_choices(statement)
                )

    def _parameters(self, node: ast.FunctionDef) -> Iterator[SourceSetting]:
        """Defaults of a function, or of what makes an object of a class, where no call gives the argument."""
        called = self._owner(node) if node.name == "__init__" else node.name
        is_main = self._file.rank == 1 and _MAIN.match(node.name) and not self._owner(node)
        # A name that nobody calls may be a base class, or be called through a table.
        if not is_main and (called not in self._calls or (self._owner(node) and node.name != "__init__")):
            return
        if _EVALUATES.match(node.name):
            return
        arguments = [*node.args.posonlyargs, *node.args.args]
        pairs = list(zip(arguments[len(arguments) - len(node.args.defaults) :], node.args.defaults, strict=True))
        pairs += [
            (one, default) for one, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if default
        ]
        for argument, default in pairs:
            value = _scalar(default)
            if value is not None and self._is_read(argument.arg) and not self._is_given(called, argument.arg):
                yield self._setting(argument.arg, default, value)

    def _variables(self, node: ast.FunctionDef | ast.If) -> Iterator[SourceSetting]:
        """Variables of a function, or of the script's own start, that are assigned once and read there."""
        if isinstance(node, ast.FunctionDef) and (_EVALUATES.match(node.name) or self._owner(node)):
            return
        names = [inner for inner in ast.walk(node) if isinstance(inner, ast.Name)]
        stored = Counter(name.id for name in names if isinstance(name.ctx, ast.Store))
        read = {name.id for name in names if isinstance(name.ctx, ast.Load)}
        for statement in node.body:
            target, value_node = _assigned(statement)
            if not isinstance(target, ast.Name) or value_node is None or target.id in _AMBIGUOUS:
                continue
            value = _scalar(value_node)
            if value is not None and stored[target.id] == 1 and target.id in read:
                yield self._setting(target.id, value_node, value)

    def _is_given(self, function: str, argument: str) -> bool:
        """Whether a call gives the argument, or may give it by its place."""
        for call in self._calls.get(function, ()):
            if call.args or any(one.arg in (argument, None) for one in call.keywords):
                return True
        return False

    def _entries(self, node: ast.Dict) -> Iterator[SourceSetting]:
        """`{"lr": 0.1}`, where the key is read somewhere else."""
        keys = [text_of(key) for key in node.keys]
        # A group of parameters has settings of its own on purpose: no decay for biases, say.
        if "params" in keys or self._in_table(node):
            return
        for name, value_node in zip(keys, node.values, strict=True):
            value = _scalar(value_node)
            # A result that is reported is no setting, and has no literal value.
            if name is not None and value is not None and self._is_read(name):
                yield self._setting(name, value_node, value, self._entry_group(node))

    def _step(self, node: ast.BinOp) -> Iterator[SourceSetting]:
        """The size of a step that is written by hand: `-0.1 * param.grad`."""
        for number, other in ((node.left, node.right), (node.right, node.left)):
            plain = number.operand if isinstance(number, ast.UnaryOp) and isinstance(number.op, ast.USub) else number
            value = _scalar(plain)
            is_gradient = isinstance(other, ast.Attribute) and other.attr == "grad"
            if isinstance(node.op, ast.Mult) and is_gradient and isinstance(value, float):
                yield self._setting("learning_rate", plain, value)

    def _in_table(self, node: ast.AST) -> bool:
        """Whether a configuration is one of several in a table that is looked up by name."""
        parent = self._parents.get(node)
        return isinstance(parent, ast.Dict) and isinstance(self._parents.get(parent), ast.Subscript)

    def _entry_group(self, node: ast.Dict) -> str:
        parent = self._parents.get(node)
        if isinstance(parent, ast.Dict):
            names = [text_of(key) for key, value in zip(parent.keys, parent.values, strict=True) if value is node]
            return names[0] or ""
        return ""


def _assigned(node: ast.AST) -> tuple[ast.expr | None, ast.expr | None]:
    """Target and value of an assignment to one target."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        return node.targets[0], node.value
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        return node.target, node.value
    return None, None


def _scalar(node: ast.expr) -> Scalar | None:
    """The value of a literal; None for everything else."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        value = node.operand.value
        return -value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str):
        return node.value
    return None


def normal_name_of_flag(option: str) -> str:
    """The attribute that argparse makes of `--weight-decay`."""
    return option.lstrip("-").replace("-", "_")
