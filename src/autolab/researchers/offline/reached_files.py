"""Which files of a repository the training command reaches, by reading alone: nothing is imported or run.

It follows scripts, `-m` modules, imports from the repository, configuration files that are named in the command or in
the code, Hydra's defaults, C sources of a program with includes, shell scripts, and the recipe of a make target. It
does not see what a program finds at run time: modules from a registry, files from a folder that is listed, plug-ins.
"""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from autolab.researchers.offline.knob_kinds import normal_name

Read = Callable[[str], str | None]

MOST_FILES = 200
"""A repository that reaches more is read in part."""
_CONFIGURATION = (".yaml", ".yml", ".json")
_C = (".c", ".cu", ".cpp", ".cc", ".h", ".cuh", ".hpp")
_FLAG = re.compile(r"^(?:--?|\+{1,2})?([A-Za-z_][\w./-]*)=(.*)$")


@dataclass(frozen=True)
class ReachedFile:
    """A file with its language (python, yaml, c, shell, make). `rank`: where two set one name, the lower is in force.

    `target`: of a Makefile, the target whose recipe is run. `prefix`: of a Hydra file, the section that it fills.
    """

    path: str
    language: str
    rank: float
    text: str
    target: str = ""
    prefix: str = ""


@dataclass
class Reached:
    """The files, nearest to the command first, and what the command itself sets.

    `flags`: normal name of each flag or variable with its value. A candidate cannot change these.
    `words`: normal name of each flag with its name as the program knows it, such as `model.n_layer`.
    """

    files: list[ReachedFile] = field(default_factory=list)
    flags: dict[str, str] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)

    def of(self, language: str) -> list[ReachedFile]:
        return [file for file in self.files if file.language == language]


def reach(command: str, read: Read, folder: str = "") -> Reached:
    """What `command`, run in a folder of it, reaches of the repository that `read` reads."""
    walk = _CommandWalk(read, folder)
    walk.whole(command)
    return walk.reached


class _CommandWalk:
    def __init__(self, read: Read, folder: str = "") -> None:
        self.reached = Reached()
        self._read_file = read
        self._texts: dict[str, str | None] = {}
        self._folder = folder
        self._import_folders = ["", "src"]

    def _read(self, path: str) -> str | None:
        if path not in self._texts:
            self._texts[path] = self._read_file(path)
        return self._texts[path]

    def _add(self, path: str, language: str, rank: float, target: str = "", prefix: str = "") -> bool:
        """Whether the file exists and is new; then what it reaches is added too."""
        known = any(file.path == path and file.target == target for file in self.reached.files)
        text = None if known or len(self.reached.files) >= MOST_FILES else self._read(path)
        if text is None:
            return False
        self.reached.files.append(ReachedFile(path, language, rank, text, target, prefix))
        return True

    # commands

    def whole(self, line: str) -> None:
        """The lab's own command. No shell runs it, so `&&` is often within a word in quotes: that of `sh -c`."""
        try:
            words = shlex.split(line)
        except ValueError:
            words = line.split()
        if any(word in ("&&", "||", ";", "|") for word in words):
            self.command(line, 1.0, frozen=True)
        else:
            self._part(words, 1.0, True)

    def command(self, line: str, rank: float, *, frozen: bool) -> None:
        """`frozen`: the words are the lab's own, so what they set is set for every candidate."""
        for physical in re.sub(r"\\\n", " ", line).split("\n"):
            for words in _simple_commands(physical):
                self._part(words, rank, frozen)

    def _part(self, words: list[str], rank: float, frozen: bool) -> None:
        if words[:1] == ["env"]:
            words = words[1:]
        while words and re.match(r"[A-Za-z_]\w*=", words[0]):
            if frozen:
                name, value = words[0].split("=", 1)
                self.reached.flags[normal_name(name)] = value
                if name == "PYTHONPATH":
                    self._import_folders = [*value.split(":"), *self._import_folders]
            words = words[1:]
        if words[:1] == ["cd"] and len(words) > 1:
            self._folder = _plain(f"{self._folder}/{words[1]}")
            return
        if words[:2] == ["env", "-C"] and len(words) > 3:
            self._folder, words = _plain(f"{self._folder}/{words[2]}"), words[3:]
        programs = 0
        for index, word in enumerate(words):
            after = words[index + 1] if index + 1 < len(words) else ""
            # The first file is the program, and those behind it are told to it, so they overrule what it says.
            if " " in word and words[index - 1] == "-c":
                self.command(word, rank, frozen=frozen)
            reached = self._file(word, after, rank if programs == 0 else rank - 0.5)
            if not reached and index == 0:
                reached = self._program(word, words[1:], rank)
            programs += reached
        if frozen:
            self._flags(words)

    def _flags(self, words: list[str]) -> None:
        for index, word in enumerate(words):
            after = words[index + 1] if index + 1 < len(words) else ""
            match = _FLAG.match(word)
            if match:
                self._flag(match[1], match[2])
            elif word.startswith("-") and word.strip("-"):
                self._flag(word.lstrip("-"), "" if _is_flag(after) else after)

    def _flag(self, name: str, value: str) -> None:
        self.reached.flags[normal_name(name)] = value
        word = name.replace("-", "_")
        if all(part.isidentifier() for part in word.split(".")):
            self.reached.words[normal_name(name)] = word

    def _file(self, word: str, after: str, rank: float) -> bool:
        """Add the file that a word of a command names."""
        if word == "-m":
            module = after.replace(".", "/")
            ends = (".py", "/__main__.py")
            names = [_plain(f"{folder}/{module}{end}") for folder in self._import_folders for end in ends]
            return any(self._script(name, rank) for name in names)
        match = _FLAG.match(word)
        path = self._in_folder(match[2] if match else word)
        suffix = PurePosixPath(path).suffix
        if suffix == ".py":
            return self._script(path, rank)
        if suffix in _CONFIGURATION:
            return self._add(path, "yaml", rank)
        if suffix == ".sh":
            return self._shell(path, rank)
        if suffix in _C:
            return self._c(path, rank)
        return False

    def _in_folder(self, path: str) -> str:
        return _plain(f"{self._folder}/{path}")

    def _script(self, path: str, rank: float) -> bool:
        path = self._in_folder(path) if self._read(path) is None else _plain(path)
        if not self._add(path, "python", rank):
            return False
        self._python(path, rank)
        return True

    def _program(self, word: str, arguments: list[str], rank: float) -> bool:
        """A program that is built from the repository, or make."""
        if word == "make":
            targets = [argument for argument in arguments if re.fullmatch(r"[\w./-]+", argument)]
            targets = [target for target in targets if not target.startswith("-")]
            return any([self._make(target, rank) for target in targets or [""]])
        if word.startswith("{") or "/" not in word:
            return False
        return self._built(_plain(f"{self._folder}/{word}"), rank)

    def _built(self, path: str, rank: float) -> bool:
        folder, name = PurePosixPath(path).parent, PurePosixPath(path).name
        sources = [f"{name}{suffix}" for suffix in (".c", ".cu", ".cpp", ".cc")]
        if name.endswith("cu"):
            # train_gpt2cu is built from train_gpt2.cu.
            sources.append(f"{name[:-2]}.cu")
        for place in (folder, folder / "src", folder.parent, folder.parent / "src"):
            for source in sources:
                if self._c(_plain(f"{place}/{source}"), rank):
                    return True
        return False

    def _make(self, target: str, rank: float) -> bool:
        path = self._in_folder("Makefile")
        text = self._read(path)
        if text is None:
            return False
        if not target:
            first = re.search(r"(?m)^([A-Za-z][\w./-]*)[ \t]*:(?!=)", text)
            target = first[1] if first else ""
        if not self._add(path, "make", rank - 2, target):
            return False
        rule = re.search(rf"(?m)^{re.escape(target)}[ \t]*:(?!=)([^\n]*)\n((?:\t[^\n]*\n?)*)", text)
        if rule is None:
            return self._built(self._in_folder(target), rank)
        for word in rule[1].split():
            if PurePosixPath(word).suffix in _C:
                self._c(self._in_folder(word), rank)
            elif re.search(rf"(?m)^{re.escape(word)}[ \t]*:(?!=)", text):
                self._make(word, rank)
        for line in rule[2].replace("\\\n", " ").split("\n"):
            self.command(line.strip().lstrip("@-"), rank, frozen=False)
        return True

    def _shell(self, path: str, rank: float) -> bool:
        if not self._add(path, "shell", rank - 2):
            return False
        self.command(self._read(path) or "", rank, frozen=False)
        return True

    def _c(self, path: str, rank: float) -> bool:
        if any(file.path == path for file in self.reached.files):
            return True
        if not self._add(path, "c", rank):
            return False
        for include in re.findall(r'(?m)^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', self._read(path) or ""):
            for place in (PurePosixPath(path).parent, PurePosixPath("include"), PurePosixPath()):
                if self._c(_plain(f"{place}/{include}"), rank + 1):
                    break
        return True

    # Python

    def _python(self, path: str, rank: float) -> None:
        tree = parsed(self._read(path) or "")
        if tree is None:
            return
        if rank <= 1:
            self._hydra(path, tree, rank)
        for module in _imported(tree):
            for place in self._module(path, module):
                if self._add(place, "python", rank + 1):
                    self._python(place, rank + 1)
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and re.fullmatch(r"[\w./-]{1,200}", node.value)
            ):
                self._named_file(path, node.value, rank)

    def _named_file(self, path: str, name: str, rank: float) -> None:
        suffix = PurePosixPath(name).suffix
        if suffix not in (".py", *_CONFIGURATION):
            return
        for place in (self._in_folder(name), _plain(f"{PurePosixPath(path).parent}/{name}")):
            if suffix == ".py" and self._add(place, "python", rank + 1):
                self._python(place, rank + 1)
            elif suffix != ".py":
                self._add(place, "yaml", rank - 0.5)

    def _module(self, path: str, module: tuple[int, str]) -> Iterator[str]:
        """The files that an import of `module` may mean."""
        level, name = module
        parts = name.replace(".", "/")
        if level:
            folder = PurePosixPath(path)
            for _ in range(level):
                folder = folder.parent
            places = [str(folder)]
        else:
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names:
                return
            places = list(dict.fromkeys([str(PurePosixPath(path).parent), self._folder, *self._import_folders]))
        for place in places:
            for end in (".py", "/__init__.py"):
                yield _plain(f"{place}/{parts}{end}")

    def _hydra(self, path: str, tree: ast.Module, rank: float) -> None:
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith("hydra.main"):
                continue
            given = {one.arg: one.value.value for one in node.keywords if isinstance(one.value, ast.Constant)}
            folder, name = given.get("config_path"), given.get("config_name")
            if isinstance(folder, str) and isinstance(name, str):
                root = _plain(f"{PurePosixPath(path).parent}/{folder}")
                self._hydra_file(root, name.removesuffix(".yaml"), "", rank + 1)

    def _hydra_file(self, root: str, name: str, prefix: str, rank: float) -> None:
        path = f"{root}/{name}.yaml"
        # A later file overrules an earlier one.
        rank -= len(self.reached.files) / 10_000
        if not self._add(path, "yaml", rank, prefix=prefix):
            return
        text = self._read(path) or ""
        for group, choice in _hydra_defaults(text):
            chosen = self.reached.flags.get(normal_name(group), choice)
            self._hydra_file(root, f"{group}/{chosen}", "" if "@package _global_" in text and prefix else group, rank)
        for target in re.findall(r"_target_:[ \t]*([\w.]+)", text):
            module = target.rpartition(".")[0]
            for place in self._module("", (0, module)):
                if self._add(place, "python", rank + 1):
                    self._python(place, rank + 1)


def _plain(path: str) -> str:
    """A path from the root of the repository, without `.` and `..`."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in ("", ".", ".."):
            parts.append(part)
    return "/".join(parts)


def _simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each command of a line. An operator in quotes is part of an argument: `sh -c 'make && ./x'`."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&")
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        for token in lexer:
            if set(token) <= set(";|&"):
                yield words
                words = []
            else:
                words.append(token)
    except ValueError:
        # A quote that does not end on this line.
        words = line.split()
    yield words


def _is_flag(word: str) -> bool:
    return not word or (word.startswith("-") and not re.match(r"-[\d.]", word))


def parsed(text: str) -> ast.Module | None:
    """The syntax tree; None for what is no Python of this version."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Level and dotted name of each module that is imported; `from a import b` may import module a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module:
                yield node.level, module
            for alias in node.names:
                yield node.level, f"{module}.{alias.name}".strip(".")


def _hydra_defaults(text: str) -> Iterator[tuple[str, str]]:
    """Group and choice of each entry of a Hydra file's defaults."""
    block = re.search(r"(?m)^defaults:[ \t]*\n((?:[ \t]*(?:-|#)[^\n]*\n|[ \t]*\n)*)", text + "\n")
    for line in (block[1] if block else "").split("\n"):
        entry = re.match(
            r"[ \t]*-[ \t]*(?:optional[ \t]+|override[ \t]+)?/?([\w/]+)(?:@[\w.]+)?[ \t]*:[ \t]*([\w./-]+)", line
        )
        if entry and entry[2] != "null":
            yield entry[1], entry[2].removesuffix(".yaml")
