"""Values that the training command gives: a candidate changes them in a line behind the place where they are parsed.

The command is the lab's own, so no candidate may change its words. Programs in which this works: a configuration object
that merges the words (`config.merge_from_args(sys.argv[1:])`, OmegaConf, yacs), an object that a parser of dataclasses
returns (tyro, HfArgumentParser), the function of `hydra.main`, and the parameters of a click, typer or fire command.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from autolab.researchers.offline.source_setting import Scalar, parse_number

_MERGES = re.compile(r"\.(?:merge_from_(?:args|list|cli|dotlist)|update_from_(?:args|cli|argv)|parse_overrides)\(")
_PARSES = re.compile(
    r"(?:OmegaConf\.(?:merge|from_cli)|tyro\.cli|simple_parsing\.parse|parse_args_into_dataclasses|pyrallis\.parse|chz\.entrypoint"
    r"|draccus\.parse|jsonargparse\.CLI)\("
)
_COMMAND = re.compile(r"(?:^|\.)(?:command|Fire|run|cli)$")


@dataclass(frozen=True)
class CommandValue:
    """A value of the command in force: a line at offset `place` can replace it.

    `template` is the line with `{}` for the new value; `name` may have dots. `exists`: the program refuses a command
    with a name that it does not have, so that nobody has to read the name in the code.
    """

    name: str
    value: Scalar
    place: int
    template: str
    exists: bool = False

    @property
    def target(self) -> str:
        """What the line assigns to."""
        return self.template.partition(" = ")[0].strip()


def command_values(
    tree: ast.Module, text: str, flags: Mapping[str, str], words: Mapping[str, str]
) -> list[CommandValue]:
    """What can be changed of a script. `flags`: value of each flag by normal name; `words`: how each is spelled."""
    if not words:
        return []
    starts = _line_starts(text)
    values: list[CommandValue] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            values += _function(node, tree, starts, flags, words)
        elif isinstance(node, ast.Expr | ast.Assign):
            values += _object(node, text, starts, flags, words)
    return values


def word_value(word: str | None) -> Scalar | None:
    """The value of a flag's word: a number or a switch; None for anything else."""
    if word in ("True", "False", "true", "false"):
        return word in ("True", "true")
    return None if word is None else parse_number(word)


def _line_starts(text: str) -> list[int]:
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    return starts


def _object(
    node: ast.Expr | ast.Assign, text: str, starts: list[int], flags: Mapping[str, str], words: Mapping[str, str]
) -> Iterator[CommandValue]:
    """A statement that gives an object the words of the command."""
    source = ast.unparse(node.value)
    name = ""
    if isinstance(node, ast.Expr) and _MERGES.search(source) and isinstance(node.value, ast.Call):
        if isinstance(node.value.func, ast.Attribute):
            name = ast.unparse(node.value.func.value)
    elif isinstance(node, ast.Assign) and (_PARSES.search(source) or _MERGES.search(source)):
        target = node.targets[0]
        # `model_args, = parser.parse_args_into_dataclasses()` has one object; of several nothing says whose a flag is.
        if isinstance(target, ast.Tuple) and len(target.elts) == 1:
            target = target.elts[0]
        name = ast.unparse(target)
    # Fields of a frozen dataclass cannot be set.
    if not name.isidentifier() or "frozen=True" in text:
        return
    assert node.end_lineno is not None
    place = starts[node.end_lineno] - 1
    for flag, word in words.items():
        value = word_value(flags.get(flag))
        if value is not None:
            yield CommandValue(word, value, place, f"\n{' ' * node.col_offset}{name}.{word} = {{}}")


def _function(
    node: ast.FunctionDef, tree: ast.Module, starts: list[int], flags: Mapping[str, str], words: Mapping[str, str]
) -> Iterator[CommandValue]:
    """The function that Hydra gives the configuration, or a command line its parameters."""
    decorators = [one.func if isinstance(one, ast.Call) else one for one in node.decorator_list]
    callers = [ast.unparse(one) for one in decorators]
    callers += _handed_to(node.name, tree)
    parameters = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    first = node.body[0]
    if ast.get_docstring(node) is not None and len(node.body) > 1:
        first = node.body[1]
    place, indent = starts[first.lineno - 1], " " * first.col_offset
    by_hydra = any(caller.endswith("hydra.main") for caller in callers)
    by_words = any(_COMMAND.search(caller) for caller in callers)
    for flag, word in words.items():
        value = word_value(flags.get(flag))
        if value is None:
            continue
        if by_hydra and parameters and "/" not in word:
            yield CommandValue(word, value, place, f"{indent}{parameters[0]}.{word} = {{}}\n", exists=True)
        elif by_words and word in parameters:
            yield CommandValue(word, value, place, f"{indent}{word} = {{}}\n")


def _handed_to(name: str, tree: ast.Module) -> list[str]:
    """The functions that are called with the function as argument: `fire.Fire(main)`."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [ast.unparse(call.func) for call in calls if _has_name(call.args, name)]


def _has_name(arguments: Iterable[ast.expr], name: str) -> bool:
    return any(isinstance(one, ast.Name) and one.id == name for one in arguments)
