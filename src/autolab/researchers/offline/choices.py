"""What a setting may be, as the source lists it: choices of a flag, a `Literal`, the keys of a table of models."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from autolab.researchers.offline.source_setting import Scalar, SourceSetting

_LARGEST_STEP = 4
"""Of a table of models, how many times as large as the present one another choice may be."""


def with_choices(setting: SourceSetting, tables: Sequence[Mapping[str, int]]) -> SourceSetting:
    """The setting with the keys of the table that its value is looked up in, if nothing else says what it may be."""
    if setting.choices or not isinstance(setting.value, str):
        return setting
    for table in tables:
        if setting.value in table:
            largest = _LARGEST_STEP * table[setting.value]
            return replace(setting, choices=tuple(key for key, size in table.items() if size <= largest))
    return setting


def _size(node: ast.expr) -> int:
    """The product of the whole numbers of a table's entry: `dict(n_layer=12, n_embd=768)`. 1 if it has none."""
    values = [keyword.value for keyword in node.keywords] if isinstance(node, ast.Call) else []
    if isinstance(node, ast.Dict):
        values = node.values
    sizes = [one.value for one in values if isinstance(one, ast.Constant) and isinstance(one.value, int)]
    return math.prod(max(size, 1) for size in sizes)


def tables(tree: ast.Module) -> Iterator[dict[str, int]]:
    """Keys and sizes of each dictionary that is looked up by name: `{"sgd": SGD, "adam": Adam}[name]`."""
    looked_up = {ast.unparse(node.value) for node in ast.walk(tree) if isinstance(node, ast.Subscript)}
    for node in ast.walk(tree):
        named = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in looked_up
        if not isinstance(node, ast.Subscript | ast.Assign) or not (named or isinstance(node, ast.Subscript)):
            continue
        if isinstance(node.value, ast.Dict):
            keys = [text_of(key) for key in node.value.keys]
            if len(keys) > 1 and None not in keys:
                pairs = zip(keys, node.value.values, strict=True)
                yield {key: _size(entry) for key, entry in pairs if key is not None}


def flag_choices(keywords: dict[str | None, ast.expr], value: Scalar) -> tuple[str, ...]:
    """What a flag may be: its choices, or the list in its help that names the default."""
    listed = keywords.get("choices")
    if isinstance(listed, ast.List | ast.Tuple):
        return tuple(text for text in map(text_of, listed.elts) if text is not None)
    if not isinstance(value, str):
        return ()
    for inner in re.findall(r"[(\[{]([^)\]}]*)[)\]}]", text_of(keywords.get("help")) or ""):
        words = [word.strip(" '\"") for word in re.split(r"[,|]|\bor\b", inner)]
        if value in words and len(words) > 1 and all(re.fullmatch(r"[\w.-]+", word) for word in words):
            return tuple(words)
    return ()


def annotated_choices(statement: ast.stmt) -> tuple[str, ...]:
    """The choices of a field whose type is `Literal["a", "b"]`."""
    if not isinstance(statement, ast.AnnAssign) or "Literal[" not in ast.unparse(statement.annotation):
        return ()
    texts = [node.value for node in ast.walk(statement.annotation) if isinstance(node, ast.Constant)]
    return tuple(text for text in texts if isinstance(text, str))


def text_of(node: ast.expr | None) -> str | None:
    """The value of a literal text; None for everything else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
