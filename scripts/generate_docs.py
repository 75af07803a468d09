"""Writes docs/cli.md from every command's own --help, docs/files.md from the schemas, the tree in docs/architecture.md.

    python scripts/generate_docs.py [--check]

`--check` writes nothing: it ends with 1 and names each page that differs from what would be written.
The page of a command is what `autolab <command> --help` prints at 100 columns, so it cannot disagree with the program.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = "100"
MADE = "<!-- Made by `make docs` (scripts/generate_docs.py): edit the source it names, not this page. -->"


def help_text(command: tuple[str, ...]) -> str:
    """What `autolab <command> --help` prints; SystemExit names the command that does not print it."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    environment |= {"COLUMNS": COLUMNS, "NO_COLOR": "1", "TERM": "dumb", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "autolab", *command, "--help"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise SystemExit(
            f"generate_docs: `autolab {' '.join([*command, '--help'])}` ended with {done.returncode}: {last}"
        )
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())


def cli_page(commands: Iterable[str], help_of: Callable[[tuple[str, ...]], str] = help_text) -> str:
    """One section a command, in the order of `commands`, after the top level's own help."""
    calls: list[tuple[str, ...]] = [(), *((name,) for name in commands)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        texts = list(pool.map(help_of, calls))
    parts = ["# Command line", MADE, "Source: `src/autolab/cli/`."]
    for call, text in zip(calls, texts, strict=True):
        parts += [f"## `{' '.join(['autolab', *call])}`", f"```text\n{text}\n```"]
    return "\n\n".join(parts) + "\n"


def type_text(schema: Mapping[str, Any]) -> str:
    """A schema as a reader says it: "list of [Arm](#arm)", "number > 0, or null"."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name == "JsonValue":
            return "any JSON value"
        return f"[{name}](#{name.lower()})"
    if options := schema.get("anyOf", schema.get("oneOf")):
        return ", or ".join(type_text(option) for option in options)
    if "const" in schema or "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(type_text(item) for item in schema['prefixItems'])}]"
        return f"list of {type_text(schema.get('items', {}))}"
    if kind == "object":
        value = schema.get("additionalProperties")
        return f"map of name to {type_text(value if isinstance(value, dict) else {})}"
    return f"{kind}{limits(schema)}" if kind else "any JSON value"


def limits(schema: Mapping[str, Any]) -> str:
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    bounds = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    # A bar would end the table's cell, and so would one inside the code span.
    pattern = [f"matching `{schema['pattern']}`".replace("|", "\\|")] if "pattern" in schema else []
    return "".join(f" {part}" if index == 0 else f", {part}" for index, part in enumerate(bounds + pattern))


def default_text(field: Mapping[str, Any], required: bool) -> str:
    if required:
        return "**required**"
    if "default" not in field:
        return "made new each time"
    text = json.dumps(field["default"], ensure_ascii=False).replace("|", "\\|")
    return f"`{text}`" if len(text) <= 60 else "as that section's defaults"


def body(schema: Mapping[str, Any]) -> list[str]:
    """Description, then values (of an enumeration) or the table of fields."""
    parts = [schema["description"]] if "description" in schema else []
    if "enum" in schema:
        return [*parts, f"One of {type_text(schema)}."]
    required = set(schema.get("required", ()))
    rows = ["| field | type | default |", "| --- | --- | --- |"]
    for name, field in schema.get("properties", {}).items():
        note = f": {field['description']}" if "description" in field else ""
        rows.append(f"| `{name}` | {type_text(field)}{note} | {default_text(field, name in required)} |")
    return [*parts, "\n".join(rows)]


def files_page(schemas: Mapping[str, Any]) -> str:
    """One section a document (a pydantic model, its path in the ClassVar `FILE`), then their parts, by name."""
    parts = ["# Files", MADE, "Source: `src/autolab/lab/schemas/`. A key that is not named here is refused."]
    parts.append("A lab holds the JSON schema of each document as `.autolab/schemas/<name>.schema.json`.")
    documents = {model.__name__ for model in schemas.values()}
    shared: dict[str, Any] = {}
    for name, model in schemas.items():
        schema = model.model_json_schema(by_alias=True)
        for part, definition in schema.pop("$defs", {}).items():
            if shared.setdefault(part, definition) != definition:
                raise SystemExit(
                    f"generate_docs: two different models are called {part}: rename one in autolab.lab.schemas"
                )
        parts += [f"## {model.__name__}", f"`{model.FILE}` · schema `{name}`", *body(schema)]
    parts += ["## Parts", "What the documents above are made of."]
    for part in sorted(shared.keys() - documents - {"JsonValue"}):
        parts += [f"### {part}", *body(shared[part])]
    return "\n\n".join(parts) + "\n"


TREE_BEGINS, TREE_ENDS = "<!-- tree: made by `make docs` from the first line of each file -->", "<!-- end of tree -->"
ROOMS = (
    *("cli", "mcp", "loop", "compare", "adoption", "reports", "researchers", "trials", "verifiers"),
    *("ideas", "stats", "executors", "lab", "sandbox"),
)
"""In the order of the floors. What is not among them stands at the end."""


def tree(package: Path) -> str:
    """A line a room and a file: what it is, by the first sentence of its docstring."""
    rows: list[tuple[str, str]] = []
    for room in ROOMS:
        folders = [package / room, *sorted(path.parent for path in (package / room).rglob("*/__init__.py"))]
        for folder in folders:
            depth = len(folder.relative_to(package).parts)
            rows.append(("  " * (depth - 1) + f"{folder.name}/", first_sentence(folder / "__init__.py")))
            files = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
            rows += [("  " * depth + path.name, first_sentence(path)) for path in files]
    rows += [(path.name, first_sentence(path)) for path in sorted(package.glob("[!_]*.py"))]
    rows.append(("templates/", "labs that `init` copies, in layers: digits, cifar10, shakespeare, empty"))
    return "\n".join(f"{name:<23} {text}" for name, text in rows)


def first_sentence(path: Path) -> str:
    """SystemExit names a file without a docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    if not text:
        raise SystemExit(f"generate_docs: {path}: has no docstring")
    line = text.partition("\n")[0].rstrip(".")
    return line.partition(". ")[0]


def architecture_page(text: str, package: Path) -> str:
    """The page with its tree written anew."""
    before, begins, rest = text.partition(TREE_BEGINS)
    _, ends, after = rest.partition(TREE_ENDS)
    if not (begins and ends):
        raise SystemExit(f"generate_docs: docs/architecture.md: has no {TREE_BEGINS} … {TREE_ENDS}")
    return f"{before}{begins}\n\n```\n{tree(package)}\n```\n\n{ends}{after}"


def pages() -> dict[Path, str]:
    from autolab.cli.command_line import COMMANDS
    from autolab.lab.schemas import SCHEMAS

    architecture = ROOT / "docs/architecture.md"
    return {
        ROOT / "docs/cli.md": cli_page(COMMANDS),
        ROOT / "docs/files.md": files_page(SCHEMAS),
        architecture: architecture_page(architecture.read_text(encoding="utf-8"), ROOT / "src/autolab"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Write docs/cli.md and docs/files.md, or check that they are current.")
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 if a page is stale")
    check = parser.parse_args().check
    stale = 0
    for path, text in pages().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        name = path.relative_to(ROOT)
        if check:
            print(f"{name} is not what `make docs` writes: run it and commit the page", file=sys.stderr)
            stale = 1
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    return stale


if __name__ == "__main__":
    sys.exit(main())
