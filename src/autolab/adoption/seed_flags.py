"""How a Python program takes a seed on its command line: a flag of its parser, a setting of Hydra, a configurator.

Each finding is what is added to the command, and a word for the reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from autolab.adoption.program_sources import ProgramSources, SourceFile
from autolab.adoption.seed_names import is_seed_name
from autolab.lab.schemas.config import SEED

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_CONFIGURATOR = re.compile(r"""exec\(open\(["'][\w./-]*configurator\.py["']\)\.read\(\)\)""")
_NO_VALUE = {"store_true", "store_false", "store_const", "count", "help", "version"}
_DATACLASS_PARSERS = {"tyro.cli": "tyro", "simple_parsing.parse": "simple_parsing", "pyrallis.parse": "pyrallis"}
_DATACLASS_PARSERS |= {
    "draccus.parse": "draccus",
    "jsonargparse.CLI": "jsonargparse",
    "jsonargparse.auto_cli": "jsonargparse",
}
_TRANSFORMERS = {"TrainingArguments", "Seq2SeqTrainingArguments", "SFTConfig", "DPOConfig", "GRPOConfig"}
DEEPEST = 3
"""Dataclasses within dataclasses that are followed."""


@dataclass(frozen=True)
class SeedFlag:
    """`words` are added to the command; `kind` says what reads them."""

    words: str
    kind: str


def find_flag(sources: ProgramSources, words: Sequence[str]) -> SeedFlag | None:
    """The flag by which the program of the command `words` takes its seed; None if there is none."""
    script = sources.script
    if script is None:
        return None
    if script.tree is None:
        return _flag_of_text(sources)
    definitions = _definitions(sources.code)
    for source in sources.code:
        nodes = list(_nodes(source.tree, with_main=True))
        if source is not script:
            nodes = list(_imported_nodes(source, sources))
        flag = _declared_flag(nodes) or _typed_flag(nodes, definitions, words)
        # The parser of transformers takes a file of settings alone, without flags.
        is_file_alone = flag is not None and flag.kind == "transformers" and words[-1:] and words[-1].endswith(".json")
        if flag is not None and not is_file_alone:
            return flag
    is_configured = _CONFIGURATOR.search(script.text)
    if is_configured and _has_global_seed(script.tree):
        return SeedFlag(f"--seed={SEED}", "configurator.py")
    return None


def _flag_of_text(sources: ProgramSources) -> SeedFlag | None:
    """Of a program in another language: `"--seed"` in C and the like, `--seed)` in a shell."""
    script = sources.script
    if script is None:
        return None
    match = re.search(r"""["'](--(?:random[-_]|manual[-_])?seed)["']|^\s*(--seed)\)""", script.text, re.MULTILINE)
    if match:
        return SeedFlag(f"{match[1] or match[2]} {SEED}", "its own parser")
    # A script that hands its arguments on takes those of the program that it starts.
    if re.search(r"\$@|\$\*", script.text):
        for source in sources.others:
            if source.tree is not None and source.path in script.text:
                inner = ProgramSources(source, sources.others, ())
                return find_flag(inner, ())
    return None


def _nodes(tree: ast.AST | None, with_main: bool) -> Iterator[ast.AST]:
    """All nodes of a file, without those below `if __name__ == "__main__"` if they do not run."""
    waiting: list[ast.AST] = [tree] if tree is not None else []
    while waiting:
        node = waiting.pop(0)
        if not with_main and isinstance(node, ast.If) and "__main__" in ast.dump(node.test):
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def _imported_nodes(source: SourceFile, sources: ProgramSources) -> Iterator[ast.AST]:
    """The nodes of an imported file, without what it does only as the script itself, or for nobody."""
    for statement in source.tree.body if source.tree is not None else ():
        if isinstance(statement, Definition) and not _is_used(statement.name, source, sources):
            continue
        yield from _nodes(statement, with_main=False)


def _is_used(name: str, source: SourceFile, sources: ProgramSources) -> bool:
    """Whether a function or class of an imported file is named anywhere but where it is defined.

    Every script has a `main` of its own: another file's is imported by name, or called as the module's.
    """
    module = PurePosixPath(source.path).stem
    mentions = 0
    for other in sources.code:
        if name != "main":
            mentions += len(re.findall(rf"\b{name}\b", other.text))
        elif other is not source and re.search(rf"import\b.*\bmain\b|\b{module}\.main\b", other.text):
            return True
    return mentions > 1


def dotted_name(node: ast.AST) -> str:
    """`np.random.seed` of a name or attribute; what is no name in it (a call) is left out."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    return ".".join(reversed(parts))


def _texts(call: ast.Call) -> list[str]:
    return [part.value for part in call.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def _keyword(call: ast.Call, name: str) -> object:
    for keyword in call.keywords:
        if keyword.arg == name and isinstance(keyword.value, ast.Constant):
            return keyword.value.value
    return None


def _declared_flag(nodes: Sequence[ast.AST]) -> SeedFlag | None:
    """A flag that is declared by its name: argparse, click, absl."""
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        function = dotted_name(node.func).rpartition(".")[2]
        if function in ("DEFINE_integer", "DEFINE_string") and _texts(node) and is_seed_name(_texts(node)[0]):
            return SeedFlag(f"--{_texts(node)[0]} {SEED}", "absl")
        kinds = {"add_argument": "argparse", "add_arg": "argparse", "option": "click"}
        if function not in kinds or _keyword(node, "action") in _NO_VALUE or _keyword(node, "is_flag"):
            continue
        flags = [text for text in _texts(node) if text.startswith("-") and is_seed_name(text)]
        if flags:
            # `-s` alone is no seed by its name; `--seed` is clearer than `-seed`.
            flag = min(flags, key=lambda text: not text.startswith("--"))
            return SeedFlag(f"{flag} {SEED}", kinds[function])
    return None


def _definitions(sources: Sequence[SourceFile]) -> dict[str, Definition]:
    """Functions and classes by name; of two of one name the one that lies nearer to the script."""
    definitions: dict[str, Definition] = {}
    for source in sources:
        for node in _nodes(source.tree, with_main=True):
            if isinstance(node, Definition):
                definitions.setdefault(node.name, node)
    return definitions


def _typed_flag(
    nodes: Sequence[ast.AST], definitions: Mapping[str, Definition], words: Sequence[str]
) -> SeedFlag | None:
    """A flag that follows from a parameter or a field: tyro, typer, fire, transformers, Lightning and the like."""
    commands = []
    for node in nodes:
        if isinstance(node, ast.Call):
            flag = _flag_of_call(node, definitions)
            if flag is not None:
                return flag
        elif isinstance(node, ast.ClassDef) and "Tap" in map(_last_name, node.bases):
            path = seed_path(node.name, definitions)
            if len(path) == 1:
                return SeedFlag(f"--{path[0]} {SEED}", "Tap")
        elif isinstance(node, ast.FunctionDef):
            decorators = {_decorator(one) for one in node.decorator_list}
            if decorators & {"pyrallis.wrap", "draccus.wrap"}:
                path = seed_path(node.name, definitions)[1:]
                if path:
                    return SeedFlag(f"--{'.'.join(path)} {SEED}", "pyrallis")
            if any(name.endswith(".command") and name != "click.command" for name in decorators):
                commands.append(node)
    # Of several commands the one that the command line names.
    if len(commands) > 1:
        commands = [node for node in commands if node.name.replace("_", "-") in words]
    return _typer_flag(commands[0]) if len(commands) == 1 else None


def _flag_of_call(call: ast.Call, definitions: Mapping[str, Definition]) -> SeedFlag | None:
    name = dotted_name(call.func)
    last = name.rpartition(".")[2]
    targets = [_last_name(node) for node in _targets(call)]
    if last == "LightningCLI":
        return SeedFlag(f"--seed_everything {SEED}", "Lightning")
    if last == "HfArgumentParser":
        for target in targets:
            bases = {target, *_bases(target, definitions)}
            if bases & _TRANSFORMERS or seed_path(target, definitions)[:1] == ["seed"]:
                return SeedFlag(f"--seed {SEED}", "transformers")
    if not targets:
        return None
    if name in ("typer.run", "fire.Fire", "Fire"):
        definition = definitions.get(targets[0])
        if last == "run" and isinstance(definition, ast.FunctionDef):
            return _typer_flag(definition)
        path = seed_path(targets[0], definitions)
        if last == "Fire" and isinstance(definition, ast.FunctionDef) and len(path) == 1:
            return SeedFlag(f"--{path[0]}={SEED}", "fire")
    if name in _DATACLASS_PARSERS:
        path = seed_path(targets[0], definitions)
        if path:
            flag = ".".join(path)
            if name == "tyro.cli":
                flag = flag.replace("_", "-")
            return SeedFlag(f"--{flag} {SEED}", _DATACLASS_PARSERS[name])
    return None


def _targets(call: ast.Call) -> list[ast.AST]:
    """What a parser is made for: its first argument, or the members of a tuple there."""
    if call.args:
        first: ast.AST = call.args[0]
    else:
        values = [one.value for one in call.keywords if one.arg in ("config_class", "dataclass_types", "component")]
        if not values:
            return []
        first = values[0]
    if isinstance(first, ast.Tuple | ast.List):
        return list(first.elts)
    return [first]


def _bases(name: str, definitions: Mapping[str, Definition]) -> list[str]:
    definition = definitions.get(name)
    if not isinstance(definition, ast.ClassDef):
        return []
    return [_last_name(base) for base in definition.bases]


def _last_name(node: ast.AST) -> str:
    return dotted_name(node).rpartition(".")[2]


def _decorator(node: ast.AST) -> str:
    return dotted_name(node.func if isinstance(node, ast.Call) else node)


def seed_path(name: str, definitions: Mapping[str, Definition], depth: int = 0) -> list[str]:
    """The parameter or field of `name` that is the seed, `["train", "seed"]` if it lies in a dataclass; empty: none."""
    definition = definitions.get(name)
    if definition is None or depth > DEEPEST:
        return []
    fields = _fields(definition)
    for field in fields:
        if is_seed_name(field):
            return [field]
    for base in _bases(name, definitions):
        if base != name:
            path = seed_path(base, definitions, depth + 1)
            if path:
                return path
    for field, annotation in fields.items():
        path = seed_path(annotation, definitions, depth + 1)
        if path:
            return [field, *path]
    return []


def _fields(definition: Definition) -> dict[str, str]:
    """The parameters of a function or the fields of a class, each with the name of its type."""
    fields = {}
    if isinstance(definition, ast.ClassDef):
        for node in definition.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                fields[node.target.id] = _last_name(node.annotation)
        return fields
    for parameter in [*definition.args.args, *definition.args.kwonlyargs]:
        fields[parameter.arg] = _last_name(parameter.annotation) if parameter.annotation else ""
    return fields


def _typer_flag(function: ast.FunctionDef) -> SeedFlag | None:
    """The option of a typer command: a parameter with a default, unless it is declared as an argument."""
    arguments = function.args
    positional = arguments.args
    no_default: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults = [*no_default, *arguments.defaults, *arguments.kw_defaults]
    for parameter, default in zip([*positional, *arguments.kwonlyargs], defaults, strict=True):
        if not is_seed_name(parameter.arg):
            continue
        declared = ast.dump(parameter.annotation) if parameter.annotation else ""
        if isinstance(default, ast.Call):
            declared += ast.dump(default)
        is_option = default is not None or "'Option'" in declared
        if not is_option or "'Argument'" in declared:
            return None
        own_name = re.search(r"'(--[\w-]+)'", declared)
        flag = own_name[1] if own_name else "--" + parameter.arg.replace("_", "-")
        return SeedFlag(f"{flag} {SEED}", "typer")
    return None


def _has_global_seed(tree: ast.Module) -> bool:
    """Whether the file sets `seed` at its top: the configurator takes only names that exist."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id == "seed":
                    return True
    return False


# Hydra


def hydra_entry(sources: ProgramSources) -> tuple[str | None, str] | None:
    """The config folder, relative to the script's, and the config's name of `@hydra.main`; None if it is not used."""
    tree = sources.script.tree if sources.script is not None else None
    for node in _nodes(tree, with_main=True):
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and _decorator(decorator) == "hydra.main":
                folder, name = _keyword(decorator, "config_path"), _keyword(decorator, "config_name")
                texts = _texts(decorator)
                folder = folder if isinstance(folder, str) else next(iter(texts), None)
                return folder, name if isinstance(name, str) else "config"
    return None


def hydra_structured_path(sources: ProgramSources) -> list[str]:
    """The seed in a dataclass that is stored as the config: `cs.store(name="config", node=Config)`."""
    definitions = _definitions(sources.code)
    for source in sources.code:
        for node in _nodes(source.tree, with_main=True):
            if not isinstance(node, ast.Call) or not dotted_name(node.func).endswith(".store"):
                continue
            for keyword in node.keywords:
                # A group's dataclass is not the whole config.
                if keyword.arg == "node" and _keyword(node, "group") is None:
                    target = keyword.value.func if isinstance(keyword.value, ast.Call) else keyword.value
                    path = seed_path(_last_name(target), definitions)
                    if path:
                        return path
    return []
