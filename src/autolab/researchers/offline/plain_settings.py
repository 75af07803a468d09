"""Settings in what is no Python: YAML (and JSON), C, shell scripts and Makefiles.

YAML is parsed, the others are read with regular expressions. What these cannot see: macros that compute, values that a
second file overrules, and conditions around a line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from autolab.researchers.offline.knob_kinds import normal_name
from autolab.researchers.offline.reached_files import Reached, ReachedFile
from autolab.researchers.offline.source_setting import NUMBER, Scalar, SourceSetting, parse_number

if TYPE_CHECKING:
    from yaml.nodes import Node, ScalarNode

_EVALUATION = re.compile(r"(?<![a-z])(?:val|valid|eval|test)(?![a-su-z])")
_C_NUMBER = NUMBER + r"[fFlLuU]?"


def plain_settings(reached: Reached, python_names: Counter[str]) -> list[SourceSetting]:
    """`python_names`: how often the Python code reads each name."""
    found: list[SourceSetting] = []
    for file in reached.of("yaml"):
        found += _yaml(file, python_names, reached)
    sources = reached.of("c")
    for source in sources:
        found += _c(source, sources, reached)
    aliases = {letters: name for source in sources for letters, name, _ in _handlers(_code(source.text))}
    for file in [*reached.of("shell"), *reached.of("make")]:
        found += _shell(file, aliases, python_names)
    return found


# YAML


def _yaml(file: ReachedFile, names: Counter[str], reached: Reached) -> Iterator[SourceSetting]:
    import yaml

    try:
        root = yaml.compose(file.text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return
    if root is None:
        return
    # A class from a library takes its arguments from here, so their names stand nowhere in the code.
    for path, node, made in _scalars(root, (), False):
        full = ".".join(part for part in (file.prefix.replace("/", "."), *path) if part)
        group, _, name = full.rpartition(".")
        value = _yaml_value(node.value) if node.style is None else None
        flags = {normal_name(full), normal_name(name)} & reached.flags.keys()
        if value is None or flags or not (made or names[name] > 0):
            continue
        if name in ("factor", "gamma") and not re.search(r"_target_:[^\n]*lr_scheduler", file.text):
            continue
        start, end = node.start_mark.index, node.end_mark.index
        comment = file.text[end:].split("\n", 1)[0].partition("#")[2].strip()
        text = file.text[start:end]
        yield SourceSetting(file.path, "yaml", name, value, start, end, file.rank, text, group, hint=comment)


def _scalars(node: Node, path: tuple[str, ...], made: bool) -> Iterator[tuple[tuple[str, ...], ScalarNode, bool]]:
    """Each scalar below a mapping with its keys, and whether a mapping around it names a class to be made of it."""
    from yaml.nodes import MappingNode, ScalarNode

    if not isinstance(node, MappingNode):
        return
    pairs = [(key.value, value) for key, value in node.value if isinstance(key, ScalarNode)]
    made = made or any(key == "_target_" for key, _ in pairs)
    for key, value in pairs:
        if isinstance(value, ScalarNode):
            yield (*path, key), value, made
        else:
            yield from _scalars(value, (*path, key), made)


def _yaml_value(text: str) -> Scalar | None:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return parse_number(text)


# C


def _code(text: str) -> str:
    """The source with blanks for its comments, so that places stay."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.DOTALL)


def _handlers(code: str) -> Iterator[tuple[str, str, re.Match[str]]]:
    """Flag, variable and place of each line that reads a number of the command line."""
    inner = r"(?:[^;()]|\([^;()]*\))*"
    reading = rf"(?:ato[a-z]+|strto[a-z]+)\s*\({inner}\)"
    # The second form is how an earlier edit left the line.
    call = rf"(?P<call>{reading}|\(\(void\){reading},[^;]*\))"
    number = rf"(?P<name>[A-Za-z_]\w*)\s*=\s*{call}\s*;"
    forms = (
        r"\[1\]\s*==\s*'(?P<one>\w)'(?:[^{};]*\[2\]\s*==\s*'(?P<two>\w)')?[^{};]*\)\s*\{?\s*" + number,
        r"case\s*'(?P<one>\w)'\s*:\s*\{?\s*" + number,
        r"strcmp\s*\([^;{}]*\"(?P<one>--?[\w-]+)\"[^;{}]*\{?\s*" + number,
    )
    for form in forms:
        for match in re.finditer(form, code):
            letters = match["one"] + (match.groupdict().get("two") or "")
            yield normal_name(letters), match["name"], match


def _c(file: ReachedFile, sources: Sequence[ReachedFile], reached: Reached) -> Iterator[SourceSetting]:
    code = _code(file.text)
    everything = "\n".join(_code(source.text) for source in sources)
    handlers = {name: (letters, match) for letters, name, match in _handlers(code)}
    main = re.search(r"\bmain\s*\(", code)
    begin = main.start() if main else len(code)
    for setting in _declared(file, code, begin):
        name = setting.name
        if len(re.findall(rf"\b{name}\b", everything)) < 2 or _is_evaluated(name, code):
            continue
        letters, match = handlers.get(name, ("", None))
        overruled = match is not None and match["call"].startswith("((void)")
        if match is None or not (overruled or letters in reached.flags):
            yield setting
            continue
        told = _told_in_place(setting, match, reached.flags.get(letters, ""))
        if told is not None:
            yield told
    if main is not None:
        yield from _arguments(file, code, begin, everything)


def _told_in_place(setting: SourceSetting, match: re.Match[str], word: str) -> SourceSetting | None:
    """A flag that the command gives: the code reads it as before and takes the edit's value."""
    call = match["call"]
    start, end = match.span("call")
    literal = re.fullmatch(rf"\(\(void\).*,\s*({_C_NUMBER})\)", call, re.DOTALL)
    if literal:
        value = parse_number(literal[1])
        start, end = start + literal.start(1), start + literal.end(1)
        template, text = "{}", literal[1]
    else:
        value, template, text = parse_number(word), f"((void){call}, {{}})", setting.text
    if value is None:
        return None
    value = float(value) if isinstance(setting.value, float) else value
    return replace(setting, value=value, start=start, end=end, template=template, text=text)


def _declared(file: ReachedFile, code: str, begin: int) -> Iterator[SourceSetting]:
    """`#define NAME 4` and `float name = 0.1f;`, outside of functions or in main."""
    define = rf"(?m)^[ \t]*#[ \t]*define[ \t]+(?P<name>[A-Za-z_]\w*)[ \t]+\(?(?P<value>{_C_NUMBER})\)?[ \t]*$"
    variable = (
        r"(?m)^[ \t]*(?:(?:static|const|constexpr|unsigned|volatile)[ \t]+)*(?:float|double|int|long|size_t|bool)[ \t]+"
        rf"(?P<name>[A-Za-z_]\w*)[ \t]*=[ \t]*(?P<value>{_C_NUMBER}|true|false)[ \t]*;"
    )
    for match in [*re.finditer(define, code), *re.finditer(variable, code)]:
        inside = code[: match.start()].count("{") > code[: match.start()].count("}")
        if inside and match.start() < begin:
            continue
        text = match["value"]
        value: Scalar | None = text == "true" if text in ("true", "false") else parse_number(text)
        # 1f is no number of C, but 1e-4f is one, and is never whole.
        if isinstance(value, int) and not isinstance(value, bool) and text[-1:] in "fF":
            value = float(value)
        comment = re.match(r"[^\n]*?//([^\n]*)", file.text[match.end("value") :])
        hint = comment[1].strip() if comment else ""
        if value is not None:
            start, end = match.span("value")
            yield SourceSetting(file.path, "c", match["name"], value, start, end, file.rank, text, hint=hint)


def _is_evaluated(name: str, code: str) -> bool:
    """Whether the evaluation reads the same variable: a batch that both share, say."""
    lines = [line for line in code.split("\n") if re.search(rf"\b{name}\b", line)]
    return any(_EVALUATION.search(line.lower()) for line in lines)


def _arguments(file: ReachedFile, code: str, begin: int, everything: str) -> Iterator[SourceSetting]:
    """Numbers that main gives to a function of the repository, under the names of its parameters."""
    for call in re.finditer(r"\b([A-Za-z_]\w*)\s*\(((?:[^;(){}]|\([^;(){}]*\))*)\)\s*;", code[begin:]):
        arguments = _split(call[2])
        if not any(re.fullmatch(_C_NUMBER, text.strip()) for text in arguments):
            continue
        definition = re.search(rf"\b{call[1]}\s*\(([^(){{}};]*)\)\s*\{{", everything)
        parameters = definition[1].split(",") if definition else []
        if len(parameters) != len(arguments):
            continue
        place = begin + call.start(2)
        for parameter, argument in zip(parameters, arguments, strict=True):
            name = re.findall(r"\w+", parameter)[-1:]
            value = parse_number(argument)
            if name and value is not None:
                text = argument.strip()
                start = place + len(argument) - len(argument.lstrip())
                value = float(value) if re.search(r"\b(?:float|double)\b", parameter) else value
                end = start + len(text)
                yield SourceSetting(file.path, "c", name[0], value, start, end, file.rank, text, call[1])
            place += len(argument) + 1


def _split(arguments: str) -> list[str]:
    """The arguments of a call, at the commas outside of parentheses."""
    parts, depth = [""], 0
    for character in arguments:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


# shells and make


def _shell(file: ReachedFile, aliases: dict[str, str], names: Counter[str]) -> Iterator[SourceSetting]:
    """Variables that the script uses, and flags that its commands give; of a Makefile, those of the target."""
    number = rf"(?P<value>[\"']?{NUMBER}[\"']?)"
    for match in re.finditer(
        rf"(?m)^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_]\w*)[ \t]*[:?]?=[ \t]*{number}[ \t]*(?:#.*)?$", file.text
    ):
        used = rf"\$[({{]?{match['name']}\b"
        if re.search(used, file.text) or names[match["name"]] > 0:
            yield from _shell_setting(file, match, match["name"])
    begin, end = _recipe(file)
    for match in re.finditer(rf"(?<=\s)(?P<name>-{{1,2}}[A-Za-z][\w-]*)[ =]{number}(?=\s|$)", file.text[begin:end]):
        if file.text[: begin + match.start()].rpartition("\n")[2].lstrip().startswith("#"):
            continue
        name = match["name"].lstrip("-")
        yield from _shell_setting(file, match, aliases.get(normal_name(name), name.replace("-", "_")), begin)


def _shell_setting(file: ReachedFile, match: re.Match[str], name: str, begin: int = 0) -> Iterator[SourceSetting]:
    value = parse_number(match["value"])
    if value is not None:
        start, end = begin + match.start("value"), begin + match.end("value")
        yield SourceSetting(file.path, "shell", name, value, start, end, file.rank, match["value"])


def _recipe(file: ReachedFile) -> tuple[int, int]:
    """Where the commands stand: the whole script, or the recipe of the target."""
    if file.language == "shell":
        return 0, len(file.text)
    rule = re.search(rf"(?m)^{re.escape(file.target)}[ \t]*:(?!=)[^\n]*\n((?:\t[^\n]*\n?)*)", file.text)
    return rule.span(1) if rule else (0, 0)
