"""Where a program has its seed if no flag sets it: an environment variable that it reads, or constants in its code.

Constants come in tiers, of which the first that has any is taken: what the script sets, what it imports, defaults of
functions, and last the seed of single objects (`random_state=0`). Constants of data and splits are left alone, and
those in functions and classes whose name speaks of data or evaluation.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from autolab.adoption.program_sources import ProgramSources, SourceFile
from autolab.adoption.seed_flags import dotted_name
from autolab.adoption.seed_names import (
    SEEDING_FUNCTIONS,
    SEEDING_METHODS,
    SPLITS,
    is_of_data,
    is_seed_name,
    is_seed_variable,
)
from autolab.lab.schemas.config import SEED, is_seed_constant
from autolab.trials.seed_constants import SeedConstant

MOST_CONSTANTS = 12
"""A program with more of them has many seeds, and only its author knows which one is the training's."""

_READS_VARIABLE = (
    r"""getenv\(\s*["'](\w+)["']""",  # C, Lua, PHP, R's Sys.getenv
    r"""\bENV(?:IRON)?\[["'](\w+)["']\]""",  # Julia, Ruby, awk
    r"""\bprocess\.env\.(\w+)""",
    r"""\benv::var\(["'](\w+)["']""",
    r"""\$\{(\w+):?[-=]""",  # ${SEED:-0}
    r"""(?m)^(\w+)\s*\?=""",  # a Makefile's default
)
_PYTHON_GETTERS = ("os.environ.get", "environ.get", "os.getenv", "getenv")
_SHELL_VARIABLE = re.compile(r"\$\{?([A-Z][A-Z0-9_]*)\b")
_SEED = r"(?:(?:random|manual|rng|global|train|torch|base|init)[-_]?)?seed"
_CALLS = (
    r"srand(?:om|48)?|randomseed|set\.seed|Random\.seed!|seed_from_u64|seed|set_seed|manual_seed"
    r"|mt19937(?:_64)?(?:\s+\w+)?|MersenneTwister|Xoshiro"
)
# 5489 is what every Mersenne twister starts from if nobody seeds it.
_CONSTANTS_OF_TEXT = re.compile(
    rf"#[ \t]*define[ \t]+\w*seed\w*[ \t]+(?=\d)"
    rf"|(?<![\w.-])(?:(?:np\.|math\.|torch\.)?(?:random\.)?)(?:{_CALLS})[ \t]*[({{][ \t]*"
    r"(?:&?\w+,[ \t]*)?(?=\d)(?!5489\b)"
    rf"|--{_SEED}[ =](?=\d)"
    rf"""|(?<![\w.-])["']?{_SEED}["']?[ \t]*(?:::?[ \t]*\w+[ \t]*)?(?::=|<-|=|:)[ \t]*(?=\d)"""
    r"|(?<![\w.-])RANDOM=(?=\d)",
    re.IGNORECASE,
)
_WITH_COMMENTS = (".c", ".cc", ".cpp", ".cu", ".h", ".js", ".rs")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Tier(IntEnum):
    """How likely a constant is the seed of the training; less is more."""

    SET = 1
    DEFAULT = 2
    OBJECT = 3


@dataclass(frozen=True)
class Place:
    """An integer in a line (from 1) of a source: `text` is what stands in front of it, `prefix` all of the line that
    does, without its indentation."""

    line: int
    tier: Tier
    text: str
    prefix: str


# the environment


def find_variable(sources: ProgramSources) -> tuple[str, str] | None:
    """The environment variable that the program takes its seed from, and the file that reads it; None: none."""
    for source in sources.code:
        names = _python_variables(source.tree) if source.tree is not None else _text_variables(source.text)
        seeds = [name for name in names if is_seed_variable(name)]
        if seeds:
            return min(seeds, key=lambda name: name != "SEED"), source.path
    return None


def _python_variables(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        key: ast.AST | None = None
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            if dotted_name(node.value) in ("os.environ", "environ"):
                key = node.slice
        elif isinstance(node, ast.Call) and node.args and dotted_name(node.func) in _PYTHON_GETTERS:
            key = node.args[0]
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value


def _text_variables(text: str) -> Iterator[str]:
    for pattern in _READS_VARIABLE:
        yield from re.findall(pattern, text)
    # A shell variable that the script sets itself is not taken from the environment.
    for name in _SHELL_VARIABLE.findall(text):
        if not re.search(rf"(?m)^\s*(?:export\s+|local\s+|readonly\s+)?{name}=", text):
            yield name


# constants


def find_constants(sources: ProgramSources) -> list[SeedConstant]:
    """The constants that are the program's seed, as entries of `train.seed_constants`; none if there are too many."""
    script = [sources.script] if sources.script is not None else []
    # A script that reads settings has its seed there as well as in its own lines.
    nearest = _constants([*script, *sources.settings], Tier.SET)
    for constants in (
        nearest,
        _constants(sources.others, Tier.SET),
        _constants(script, Tier.DEFAULT),
        _constants(sources.others, Tier.DEFAULT),
        _constants(script, Tier.OBJECT),
        _constants(sources.others, Tier.OBJECT),
    ):
        # Of the programs that a shell script or a Makefile names, not all run in a training.
        is_clear = (
            sources.script is None or sources.script.tree is not None or len({one.file for one in constants}) == 1
        )
        if constants:
            return constants if is_clear and len(constants) <= MOST_CONSTANTS else []
    return []


def _constants(sources: list[SourceFile] | tuple[SourceFile, ...], tier: Tier) -> list[SeedConstant]:
    constants = []
    for source in sources:
        places = _python_places(source) if source.tree is not None else _text_places(source)
        chosen = [place for place in places if place.tier is tier]
        constants += _entries(source, sorted(chosen, key=lambda place: (place.line, len(place.prefix))))
    return constants


def _entries(source: SourceFile, places: list[Place]) -> list[SeedConstant]:
    """One entry for all places of the same text. A text that would change other lines too is made longer, or left."""
    entries: dict[str, SeedConstant] = {}
    for place in places:
        beside = [other for other in places if other.line == place.line and other is not place]
        candidates = [place.text]
        if any(other.text == place.text for other in beside):
            # One entry writes one number in a line.
            candidates = []
        elif not beside:
            # With another seed in front of it the line would not read so any more, once that one is written.
            candidates.append(place.prefix)
        for text in candidates:
            lines = {other.line for other in places if text in (other.text, other.prefix)}
            constant = SeedConstant(source.path, text + SEED)
            # A path with a colon cannot be written as an entry, nor a line that has `{seed}` already.
            if not is_seed_constant(str(constant)) or SeedConstant.of(str(constant)) != constant:
                continue
            # Exactly what was meant, as the trial's own tools will find it.
            if set(constant.matching_lines(source.text)) == lines:
                entries[text] = constant
                break
    return list(entries.values())


def _text_places(source: SourceFile) -> Iterator[Place]:
    text = source.text
    if source.path.endswith(_WITH_COMMENTS):
        # What they say goes, their lines stay.
        text = _COMMENT.sub(lambda match: "\n" * match[0].count("\n"), text)
    for number, line in enumerate(text.split("\n"), start=1):
        for match in _CONSTANTS_OF_TEXT.finditer(line):
            if not line.lstrip().startswith("//"):
                yield Place(number, Tier.SET, match[0], line[: match.end()].lstrip())


def _python_places(source: SourceFile) -> Iterator[Place]:
    lines = source.text.split("\n")
    for tier, start, number in _integers(source.tree or ast.Module([], [])):
        # A number on a line of its own has no text in front of it to be found by.
        if start[0] != number.lineno or number.lineno > len(lines):
            continue
        line = lines[number.lineno - 1].encode()
        text, prefix = line[start[1] : number.col_offset], line[: number.col_offset]
        place = Place(number.lineno, tier, text.decode(errors="replace"), prefix.decode(errors="replace").lstrip())
        if place.text.strip():
            yield place


Start = tuple[int, int]
"""The line, from 1, and the column, in bytes from 0, where the text in front of a number begins."""


def _integers(tree: ast.Module) -> Iterator[tuple[Tier, Start, ast.Constant]]:
    """Every integer of the file that is a seed."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if _is_of_data(node):
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            yield from _assigned(node)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if key is not None and _names_seed(key):
                    yield from _seed(Tier.SET, key, value)
        elif isinstance(node, ast.Call):
            yield from _called(node)
        elif isinstance(node, Function):
            yield from _defaults(node)


def _is_of_data(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return dotted_name(node.func).rpartition(".")[2] in SPLITS
    return isinstance(node, Function | ast.ClassDef) and is_of_data(node.name)


def _seed(
    tier: Tier, start: ast.expr | ast.arg | ast.keyword, value: ast.expr
) -> Iterator[tuple[Tier, Start, ast.Constant]]:
    number = _integer(value)
    if number is not None:
        yield tier, (start.lineno, start.col_offset), number


def _integer(value: ast.expr) -> ast.Constant | None:
    """The integer that is the value, or a summand of it: `1337 + rank`."""
    if isinstance(value, ast.Constant):
        return value if type(value.value) is int else None
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
        return _integer(value.left) or _integer(value.right)
    return None


def _names_seed(node: ast.expr) -> bool:
    """Whether a target or a key is a seed by its name: `SEED`, `args.seed`, `config["seed"]`, `"seed"`."""
    if isinstance(node, ast.Subscript):
        node = node.slice
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and is_seed_name(node.value)
    return is_seed_name(dotted_name(node).rpartition(".")[2])


def _assigned(node: ast.Assign | ast.AnnAssign) -> Iterator[tuple[Tier, Start, ast.Constant]]:
    target = node.targets[-1] if isinstance(node, ast.Assign) else node.target
    if node.value is not None and _names_seed(target):
        yield from _seed(Tier.SET, target, node.value)


def _called(call: ast.Call) -> Iterator[tuple[Tier, Start, ast.Constant]]:
    name = dotted_name(call.func)
    last = name.rpartition(".")[2]
    is_method = any(name == method or name.endswith(f".{method}") for method in SEEDING_METHODS)
    seeds = last in SEEDING_FUNCTIONS or is_method
    # One generator is often that of a split or of a loader, beside the seed of everything.
    is_generator = isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Call)
    tier = Tier.OBJECT if is_generator else Tier.SET
    if seeds and call.args:
        yield from _seed(tier, call, call.args[0])
    for keyword in call.keywords:
        name = keyword.arg or ""
        if is_seed_name(name) or name == "random_state":
            yield from _seed(tier if seeds else Tier.OBJECT, keyword, keyword.value)


def _defaults(function: Function) -> Iterator[tuple[Tier, Start, ast.Constant]]:
    arguments = function.args
    optional = arguments.args[len(arguments.args) - len(arguments.defaults) :]
    pairs = [
        *zip(optional, arguments.defaults, strict=False),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    for parameter, default in pairs:
        if default is not None and is_seed_name(parameter.arg):
            yield from _seed(Tier.DEFAULT, parameter, default)
