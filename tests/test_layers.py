"""Imports run downward only; what must start fast or alone imports little. `LAYERS` is the one place for the order."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "autolab"

# From the top down, a room (a folder or a file of src/autolab) may import from any floor below it, and from its own
# floor as long as no cycle comes of it. docs/architecture.md quotes this table.
LAYERS = """
__main__
cli mcp
loop compare
adoption
reports
researchers trials
verifiers
ideas stats executors
lab
sandbox
files
errors
text
""".strip()
FLOORS = 12
"""Floors of rooms at most; `__main__` only starts the first."""
TOP_LEVEL_FILES = {"__init__", "__main__", "errors", "files", "text"}

# The supervisor and the runner are started under `python -I -S` and outlive the engine; crash points are passed by all.
STANDARD_LIBRARY_ONLY = (
    *("errors", "files", "text", "executors.supervisor", "lab.crash_points", "lab.redaction"),
    *("sandbox", "trials.site_paths", "adoption.import_probe"),
)
# Their values are JSON, YAML or a user's own class: data from outside, whose form is not known before it is read.
READERS_OF_OUTSIDE_DATA = {
    *("cli.status.read", "cli.status.text", "lab.ledger.seal", "lab.ledger.Ledger.append", "lab.redaction.clean_value"),
    *(
        "lab.schemas.record.Record.value",
        "lab.schemas.events.Event.value",
        "reports.registry.registry_records",
        "text.has_surrogates",
    ),
    *("researchers.llm.services.Model.dollars", "researchers.own_class.OwnResearcher"),
    *("sandbox.box.enclose", "sandbox.process_tree.end_children"),
    *("sandbox.workdir.write_json",),
    *("trials.site_paths.tables", "trials.site_paths.answer", "trials.site_paths.redirect"),
}
# `autolab --help` and `autolab status` answer before these could be loaded.
HEAVY = {"pydantic", "tyro", "yaml", "numpy", "scipy", "matplotlib", "torch", "rich", "markdown_it", "jinja2"}
HEAVY |= {"pydantic_ai", "openai", "anthropic", "httpx2", "genai_prices", "mcp", "mcp_types", "optuna"}


PROTOCOLS = {"base"}
"""What a room with several implementations calls the file of its Protocol."""
CORE = ("loop", "trials", "reports", "verifiers", "stats", "ideas")
LOADER = "researchers.researcher_names"
RESEARCHER_PARTS = ("researchers.base", "researchers.prompts", "researchers.excerpts", "researchers.assembler")
"""What the core may import of the room of researchers, beside its loader and the room's own docstring."""
PYDANTIC_AI = "pydantic-ai-slim[openai,anthropic]"
PYDANTIC_AI_BRINGS = {"pydantic-ai", "openai", "anthropic"}
MCP_BRINGS = {"mcp-types"}


def sources(package: Path) -> dict[str, Path]:
    """Dotted module name without the package's own -> file; templates are labs of their own and left out."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        if parts[0] != "templates" and parts != ("__init__",):
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(path: Path) -> list[tuple[int, str]]:
    """Every import of a file, wherever it stands, as (line, dotted name); `from a import b` gives a.b."""
    found = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            found += [(node.lineno, f"{prefix}.{alias.name}") for alias in node.names]
    return found


def edges(package: Path) -> list[tuple[str, str, str]]:
    """(module, imported module, "file:line") for each import inside the package; a relative one is refused."""
    modules = sources(package)
    found = []
    for module, path in modules.items():
        for line, name in imported(path):
            place = f"{path.relative_to(package.parent)}:{line}"
            assert not name.startswith("."), f"{place}: relative import; write `from {package.name}... import`"
            if not name.startswith(f"{package.name}."):
                continue
            inner = name.removeprefix(f"{package.name}.")
            while inner and inner not in modules:
                inner = inner.rpartition(".")[0]
            if inner:
                found.append((module, inner, place))
    return found


def upward(package: Path, layers: str) -> list[str]:
    """One line for each import that goes up, and for each unit of the package without a place in `layers`."""
    level = {unit: number for number, line in enumerate(layers.splitlines()) for unit in line.split()}
    units = sorted({module.partition(".")[0] for module in sources(package)})
    problems = [f"{unit}: has no place in LAYERS" for unit in units if unit not in level]
    for module, other, place in edges(package):
        above, below = module.partition(".")[0], other.partition(".")[0]
        if level.get(above, 0) > level.get(below, len(level)):
            problems.append(f"{place}: {above} imports {below}, which lies above it")
    return problems


def cycle(package: Path) -> list[str]:
    """The modules of one import cycle, empty if there is none. A package's own `__init__` counts as one module.

    An import of a module runs the packages that it lies in, too, but for those that the importer lies in itself.
    """
    modules, graph = sources(package), dict[str, set[str]]()
    for module, other, _ in edges(package):
        parts = other.split(".")
        packages = {".".join(parts[:depth]) for depth in range(1, len(parts))} & modules.keys()
        run = {other} | {outer for outer in packages if not in_list(module, (outer,))}
        graph.setdefault(module, set()).update(run - {module})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def loaded_by(*arguments: str, cwd: Path) -> set[str]:
    """Top-level modules that `python <arguments>` imports; it must end with 0."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}


def write_tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_no_module_imports_upward() -> None:
    assert upward(PACKAGE, LAYERS) == []


def researchers_of_the_core(package: Path) -> list[str]:
    """Each import with which a room of the core, or what it may import of the researchers, reaches for one of them."""
    problems = []
    for module, other, place in edges(package):
        shared = in_list(module, RESEARCHER_PARTS)
        allowed = in_list(other, RESEARCHER_PARTS) or (other == "researchers") or (other == LOADER and not shared)
        if (in_list(module, CORE) or shared) and in_list(other, ("researchers",)) and not allowed:
            problems.append(f"{place}: {module} imports {other}")
    return problems


def test_the_core_imports_no_researcher() -> None:
    assert researchers_of_the_core(PACKAGE) == []


def test_an_import_of_a_researcher_by_the_core_is_found(tmp_path: Path) -> None:
    bodies = {
        "loop/request.py": f"from p.{LOADER} import load_researcher\nfrom p.researchers.offline.changes import x\n",
        "researchers/base.py": "",
        "researchers/assembler/written.py": "import p.researchers.llm\nfrom p.researchers.base import Task\n",
    }
    empty = ("researchers", "researchers/offline", "researchers/llm", "researchers/assembler", "loop")
    folders = {f"{name}/__init__.py": "" for name in empty}
    folders |= {"researchers/offline/changes.py": "", "researchers/researcher_names.py": ""}
    assert researchers_of_the_core(write_tree(tmp_path / "p", folders | bodies)) == [
        "p/loop/request.py:2: loop.request imports researchers.offline.changes",
        "p/researchers/assembler/written.py:1: researchers.assembler.written imports researchers.llm",
    ]


def test_no_import_cycle() -> None:
    assert cycle(PACKAGE) == []


def test_table_names_only_what_exists_and_each_once() -> None:
    named = LAYERS.split()
    exist = {module.partition(".")[0] for module in sources(PACKAGE)}
    assert sorted(named) == sorted(exist)


def test_upward_import_is_found(tmp_path: Path) -> None:
    package = write_tree(tmp_path / "p", {"low.py": "def f():\n    from p import high\n", "high/__init__.py": ""})
    assert upward(package, "high\nlow") == ["p/low.py:2: low imports high, which lies above it"]
    assert upward(package, "low\nhigh") == []


def test_unplaced_unit_is_found(tmp_path: Path) -> None:
    assert upward(write_tree(tmp_path / "p", {"new.py": ""}), "low") == ["new: has no place in LAYERS"]


def test_sideways_cycle_is_found(tmp_path: Path) -> None:
    package = write_tree(tmp_path / "p", {"a.py": "import p.b\n", "b.py": "from p.c import x\n", "c.py": ""})
    assert cycle(package) == []
    write_tree(package, {"c.py": "from p import a\n"})
    assert {"a", "b", "c"} <= set(cycle(package))


def test_cycle_through_a_package_that_an_import_runs_is_found(tmp_path: Path) -> None:
    files = {"q/__init__.py": "from p.r import x\n", "q/y.py": "", "r.py": "from p.q.y import z\n"}
    assert {"q", "r"} <= set(cycle(write_tree(tmp_path / "p", files)))


def in_list(module: str, names: tuple[str, ...]) -> bool:
    """Whether a module, or a name imported from it, is one of `names` or lies in one of these rooms."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


@pytest.mark.parametrize("module", sorted(m for m in sources(PACKAGE) if in_list(m, STANDARD_LIBRARY_ONLY)))
def test_imports_the_standard_library_only(module: str) -> None:
    outside = [
        (line, name)
        for line, name in imported(sources(PACKAGE)[module])
        if name.partition(".")[0] not in sys.stdlib_module_names
        and not in_list(name.removeprefix("autolab."), STANDARD_LIBRARY_ONLY)
    ]
    assert outside == []


def test_every_name_of_the_standard_library_list_exists() -> None:
    assert [name for name in STANDARD_LIBRARY_ONLY if not any(in_list(m, (name,)) for m in sources(PACKAGE))] == []


def test_the_top_level_holds_rooms_and_few_files() -> None:
    files = {path.stem for path in PACKAGE.glob("*.py")}
    assert files == TOP_LEVEL_FILES and len(files) <= 6
    assert len(LAYERS.splitlines()) - 1 <= FLOORS


def test_no_two_modules_and_no_two_classes_have_one_name() -> None:
    modules, classes = Counter[str](), Counter[str]()
    for module, path in sources(PACKAGE).items():
        leaf = module.rpartition(".")[2]
        modules[leaf] += leaf not in PROTOCOLS and path.name != "__init__.py"
        classes.update(node.name for node in ast.walk(parsed(path)) if isinstance(node, ast.ClassDef))
    assert [name for name, count in (modules + classes).items() if count > 1] == []


def test_no_module_is_renamed_on_import_and_none_hides_what_it_lacks() -> None:
    problems = []
    for path in sources(PACKAGE).values():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("autolab"):
                problems += [f"{path}:{node.lineno}: {alias.name}" for alias in node.names if alias.asname]
            if isinstance(node, ast.FunctionDef) and node.name == "__getattr__":
                problems.append(f"{path}:{node.lineno}: __getattr__")
    assert problems == []


def functions_with_any(tree: ast.Module) -> Iterator[str]:
    """Public functions and methods (a class for its `__init__`) whose parameters or result are annotated with Any."""
    for node in tree.body:
        owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for inner in node.body if isinstance(node, ast.ClassDef) else [node]:
            if not isinstance(inner, ast.FunctionDef) or owner.startswith("_"):
                continue
            if inner.name.startswith("_") and inner.name != "__init__":
                continue
            arguments = [*inner.args.posonlyargs, *inner.args.args, *inner.args.kwonlyargs]
            arguments += [one for one in (inner.args.vararg, inner.args.kwarg) if one is not None]
            notes = [one.annotation for one in arguments if one.annotation is not None] + [inner.returns]
            names = {part.id for note in notes if note for part in ast.walk(note) if isinstance(part, ast.Name)}
            if "Any" in names:
                yield owner.rstrip(".") if inner.name == "__init__" else f"{owner}{inner.name}"


def test_no_public_signature_has_any_but_those_of_readers_of_outside_data() -> None:
    named = ((module, functions_with_any(parsed(path))) for module, path in sources(PACKAGE).items())
    assert {f"{module}.{name}" for module, names in named for name in names} == READERS_OF_OUTSIDE_DATA
    bad = "def f(x: dict[str, Any]) -> None: ...\nclass C:\n    def __init__(self, x: Any): ...\n"
    assert list(functions_with_any(ast.parse(bad))) == ["f", "C"]


@pytest.mark.process
def test_help_and_the_command_line_itself_load_nothing_heavy(tmp_path: Path) -> None:
    assert loaded_by("-c", "import autolab.cli.command_line", cwd=tmp_path) & HEAVY == set()
    assert loaded_by("-m", "autolab", "--help", cwd=tmp_path) & HEAVY == set()


@pytest.mark.process
def test_status_of_a_lab_loads_nothing_heavy(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    subprocess.run([sys.executable, "-m", "autolab", "init", str(lab)], check=True, capture_output=True)
    assert loaded_by("-m", "autolab", "status", cwd=lab) & HEAVY == set()


@pytest.mark.process
def test_heavy_imports_are_seen(tmp_path: Path) -> None:
    assert loaded_by("-c", "import yaml", cwd=tmp_path) & HEAVY == {"yaml"}


def test_every_third_party_import_is_declared_and_every_dependency_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["llm"]]
    named += [*project["optional-dependencies"]["mcp"], *project["optional-dependencies"]["search"]]
    declared = {name.split(">")[0].split("=")[0].lower() for name in named} - {PYDANTIC_AI} | PYDANTIC_AI_BRINGS
    declared |= MCP_BRINGS
    tops = {name.partition(".")[0] for path in sources(PACKAGE).values() for _, name in imported(path)}
    used = {name for name in tops if name not in sys.stdlib_module_names and name != "autolab"}
    packages = {"yaml": "pyyaml", "markdown_it": "markdown-it-py"}
    assert {packages.get(name, name.lower().replace("_", "-")) for name in used} == declared


def test_architecture_page_quotes_the_table() -> None:
    page = ROOT / "docs" / "architecture.md"
    assert LAYERS in page.read_text(encoding="utf-8")
