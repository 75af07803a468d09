"""Programs that look for the labels in all that a trial is given: its environment, links, /proc, added folders.

Each has a lab whose environment lies in it, made by what the program names as its `place`. What a box of that
environment reads is asked of the engine (`interpreter.places`), and the launch's own look comes before (`leaks`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autolab.trials import interpreter, leaks

from .program import Program
from .world import World

REACH = "labels within reach"
HIDDEN = ("data/eval", "eval.py", ".autolab", "experiments")
FINDER = """\
import sys
MAPPING = {{"own": {package!r}}}
class _EditableFinder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None
sys.meta_path.append(_EditableFinder)
"""


@dataclass(frozen=True)
class Ground:
    """A lab with an environment in it. `start` begins a program's command."""

    root: Path
    site: Path
    outside: Path
    start: tuple[str, ...]

    @property
    def labels(self) -> Path:
        return self.root / "data" / "eval" / "labels.npy"


def make(world: World, place: str) -> tuple[Ground, tuple[str, ...]]:
    """The lab that a program finds, and the paths that a user has added to `reads`; the program is told of both."""
    root, outside = world.root / "lab", world.root / "elsewhere"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = root / "venv" / "lib" / version / "site-packages"
    python = root / "venv" / "bin" / "python"
    for folder in (
        site,
        python.parent,
        root / "src" / "own",
        root / "data" / "eval",
        root / ".git" / "autolab",
        outside,
    ):
        folder.mkdir(parents=True)
    (root / "venv" / "pyvenv.cfg").write_text(f"home = {os.path.dirname(os.path.realpath(sys.executable))}\n")
    python.symlink_to(os.path.realpath(sys.executable))
    (root / "src" / "own" / "__init__.py").touch()
    ground = Ground(root, site, outside, (str(python), "-B"))
    ground.labels.write_bytes(world.token.encode() * 40)
    reads = PLACES[place](ground)
    for folder, _, files in os.walk(world.root / "lab"):
        os.chmod(folder, 0o755)
        for name in files:
            if not os.path.islink(path := os.path.join(folder, name)):
                os.chmod(path, 0o755)
    outside.chmod(0o755)
    world.facts |= {"lab": str(root), "site": str(site), "truth": str(ground.labels), "elsewhere": str(outside)}
    return ground, reads


def launch(ground: Ground, reads: tuple[str, ...]) -> interpreter.Places:
    """What the engine binds for this lab. LabError where it refuses to launch."""
    found = interpreter.places(Path(ground.start[0]), ground.root)
    leaks.refuse_reads(ground.root, ground.root / ".git" / "autolab", {"train.reads": reads}, HIDDEN)
    places = [leaks.SearchedPlace(path, "what is bound", "take it away") for path in (*found.reads, *reads)]
    leaks.refuse_copies({"labels": ground.labels}, places, found.covers, ground.root, keep=False)
    return found


# places


def _nothing(ground: Ground) -> tuple[str, ...]:
    return ()


def _package(ground: Ground) -> tuple[str, ...]:
    """Autolab is installed in the trials' environment, with the lab that this one was copied from."""
    template = ground.site / "autolab" / "templates" / "digits"
    template.mkdir(parents=True)
    (ground.site / "autolab" / "errors.py").touch()
    (template / "labels.npy").write_bytes(ground.labels.read_bytes())
    (template / f"{ground.labels.read_bytes()[:24].decode()}.name").touch()
    return ()


def _path_line(ground: Ground) -> tuple[str, ...]:
    (ground.site / "own.pth").write_text(f"{ground.root}/src\n")
    return ()


def _root_line(ground: Ground) -> tuple[str, ...]:
    (ground.site / "own.pth").write_text(f"{ground.root}\n")
    return ()


def _finder(ground: Ground) -> tuple[str, ...]:
    (ground.site / "own.pth").write_text("import _own_finder\n")
    (ground.site / "_own_finder.py").write_text(FINDER.format(package=f"{ground.root}/src/own"))
    return ()


def _folder_link(ground: Ground) -> tuple[str, ...]:
    (ground.site / "own_data").symlink_to(ground.root / "data")
    return ()


def _file_link(ground: Ground) -> tuple[str, ...]:
    (ground.site / "own.bin").symlink_to(ground.labels)
    return ()


def _hard_link(ground: Ground) -> tuple[str, ...]:
    os.link(ground.labels, ground.site / "own.bin")
    return ()


def _copy(ground: Ground) -> tuple[str, ...]:
    (ground.outside / "deep").mkdir()
    (ground.outside / "deep" / "own.bin").write_bytes(ground.labels.read_bytes())
    return (str(ground.outside),)


def _outside(ground: Ground) -> tuple[str, ...]:
    """Another project, installed editable, that has a copy."""
    (ground.site / "other.pth").write_text(f"{ground.outside}\n")
    (ground.outside / "own.bin").write_bytes(ground.labels.read_bytes())
    return ()


def _whole_lab(ground: Ground) -> tuple[str, ...]:
    return (str(ground.root),)


def _above_the_lab(ground: Ground) -> tuple[str, ...]:
    return (str(ground.root.parent),)


def _link_to_the_split(ground: Ground) -> tuple[str, ...]:
    (ground.outside / "pictures").symlink_to(ground.root / "data" / "eval")
    return (str(ground.outside / "pictures"),)


def _all_of_proc(ground: Ground) -> tuple[str, ...]:
    return ("/proc/self/root",)


PLACES: dict[str, Callable[[Ground], tuple[str, ...]]] = {
    place.__name__.lstrip("_"): place
    for place in (
        *(_nothing, _package, _path_line, _root_line, _finder, _folder_link, _file_link, _hard_link, _copy, _outside),
        *(_whole_lab, _above_the_lab, _link_to_the_split, _all_of_proc),
    )
}


def _program(name: str, harm: str, code: str, place: str = "nothing", **more: object) -> Program:
    return Program(name, REACH, harm, code, ("secret_read",), place=place, **more)  # type: ignore[arg-type]


PROGRAMS = [
    _program(
        "labels_of_the_package",
        "opens the labels of the lab that Autolab's own package ships",
        "loot(open(F['site'] + '/autolab/templates/digits/labels.npy', 'rb').read())\n",
        "package",
        layers=("covers", "partial:covers"),
    ),
    _program(
        "names_of_the_package",
        "lists the files of the lab that Autolab's own package ships",
        "loot(repr(os.listdir(F['site'] + '/autolab/templates/digits')))\n",
        "package",
        partial=False,
    ),
    _program(
        "labels_by_a_path_line",
        "goes from the line of an editable install, on sys.path, to the labels",
        """
for path in sys.path + [F['lab'] + '/src']:
    if os.path.exists(path + '/../data/eval/labels.npy'):
        loot(open(path + '/../data/eval/labels.npy', 'rb').read())
""",
        "path_line",
    ),
    _program(
        "labels_on_the_path",
        "finds the lab's root itself on sys.path, as a flat layout installs it",
        "for path in sys.path + [F['lab']]:\n    if os.path.exists(path + '/data/eval/labels.npy'):\n"
        "        loot(open(path + '/data/eval/labels.npy', 'rb').read())\n",
        "root_line",
    ),
    _program(
        "labels_by_a_finder",
        "reads in an editable finder's table where the lab lies, and goes to the labels",
        "import _own_finder\nloot(open(_own_finder.MAPPING['own'] + '/../../data/eval/labels.npy', 'rb').read())\n",
        "finder",
    ),
    _program(
        "labels_by_a_linked_folder",
        "follows a link in the environment that leads to the lab's data",
        "loot(open(F['site'] + '/own_data/eval/labels.npy', 'rb').read())\n",
        "folder_link",
    ),
    _program(
        "labels_by_a_linked_file",
        "follows a link in the environment that leads to the labels",
        "loot(open(F['site'] + '/own.bin', 'rb').read() + b'')\n",
        "file_link",
    ),
    _program(
        "labels_by_a_second_name",
        "opens a hard link to the labels in the environment",
        "with open(F['site'] + '/own.bin', 'rb') as file:\n    loot(file.read())\n",
        "hard_link",
    ),
    _program(
        "labels_in_an_added_folder",
        "finds a copy of the labels deep in a folder that the user added to reads",
        "for folder, _, names in os.walk(F['elsewhere']):\n"
        "    [loot(open(folder + '/' + name, 'rb').read()) for name in names]\n",
        "copy",
    ),
    _program(
        "labels_of_another_project",
        "finds a copy of the labels in another project that is installed editable",
        "loot(open(F['elsewhere'] + '/own.bin', 'rb').read())\n",
        "outside",
    ),
    _program(
        "labels_of_an_added_lab",
        "opens the labels where the user added the lab to reads",
        "loot(open(F['lab'] + '/data/eval/labels.npy', 'rb').read())\n",
        "whole_lab",
    ),
    _program(
        "labels_below_an_added_folder",
        "opens the labels where the user added a folder above the lab to reads",
        "loot(open(os.path.dirname(F['lab']) + '/lab/data/eval/labels.npy', 'rb').read())\n",
        "above_the_lab",
    ),
    _program(
        "labels_behind_an_added_link",
        "opens the labels through a link that the user added to reads",
        "loot(open(F['elsewhere'] + '/pictures/labels.npy', 'rb').read())\n",
        "link_to_the_split",
    ),
    _program(
        "labels_by_an_added_root",
        "opens the labels below a process's root that the user added to reads",
        "loot(open('/proc/self/root' + F['truth'], 'rb').read() + b'added')\n",
        "all_of_proc",
    ),
    _program(
        "labels_by_own_root",
        "opens the labels below its own root in /proc",
        "loot(open('/proc/self/root' + F['truth'], 'rb').read())\n",
        layers=("uid+mounts", "partial:landlock"),
    ),
    _program(
        "labels_by_the_parents_root",
        "opens the labels below its parent's root in /proc, and that of every process that it sees",
        """
for name in [str(os.getppid())] + [name for name in os.listdir('/proc') if name.isdigit()]:
    try:
        loot(open('/proc/' + name + '/root' + F['truth'], 'rb').read())
        break
    except OSError:
        pass
""",
    ),
    _program(
        "labels_by_the_first_root",
        "opens the labels below the root of the first process, or of one outside",
        """
for name in ('1', F['me']):
    try:
        loot(open(f"/proc/{name}/root{F['truth']}", 'rb').read())
        break
    except OSError:
        pass
""",
    ),
]
