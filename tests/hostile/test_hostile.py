"""Hostile programs, judged by what happened on the host: without containment, at each level, and with a layer out.

`RACE_ROUNDS` and `HOSTILE_ROUNDS` in the environment say how often races and all others run at level `full`.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from lab_kit import HELPS, make_lab, script

from autolab.sandbox import box

from .catalogue import EVERY, PROGRAMS, by_family
from .judges import began, harm
from .program import Program
from .runs import boxed, raw
from .table import rows
from .world import World

RACE_ROUNDS = int(os.environ.get("RACE_ROUNDS", "3"))
HOSTILE_ROUNDS = int(os.environ.get("HOSTILE_ROUNDS", "1"))
LAYERS = (
    "mounts",
    "pid",
    "ipc",
    "net",
    "uid",
    "capabilities",
    "seccomp",
    "memory",
    "processes",
    "disk",
    "landlock",
    "covers",
)


def each(programs: list[Program] | tuple[Program, ...]) -> list[object]:
    """Those of root alone are marked: of the others, what shows the same to every user is not run by root again."""
    only = {program.name: [pytest.mark.as_root] if program.root else [] for program in programs}
    return [pytest.param(program, id=program.name, marks=only[program.name]) for program in programs]


def seen_boxed(program: Program, level: str, *without: str) -> dict[str, str]:
    if level == "full" and shutil.which("bwrap", path=box.PROGRAMS) is None:
        pytest.fail("level full needs bubblewrap, which is not here: apt-get install bubblewrap", pytrace=False)
    with World() as world:
        run = boxed(world, program, level, without)
        assert began(run, program) or run.refused, f"it did not start: {run.exit and run.exit.message}: {run.errors()}"
        return harm(world, run, program)


def controls() -> list[object]:
    """The first program of each family; the others bite nightly."""
    first = {programs[0].name for programs in by_family().values()}
    nightly = {program.name: [] if program.name in first else [pytest.mark.nightly] for program in PROGRAMS}
    found = [
        (program, [*nightly[program.name], *([pytest.mark.as_root] if program.root else [])]) for program in PROGRAMS
    ]
    return [pytest.param(program, id=program.name, marks=marks) for program, marks in found]


@pytest.mark.process
@pytest.mark.parametrize("program", controls())
def test_bites_without_the_sandbox(program: Program) -> None:
    for _ in range(10 if program.race else 1):  # one lost race does not make a program harmless
        with World() as world:
            run = raw(world, program)
            found = harm(world, run, program)
            said = run.errors()
        if set(program.judges) <= found.keys():
            return
    raise AssertionError(f"{program.judges} saw nothing: {found}\n{said}")


@pytest.mark.as_root
@pytest.mark.process
@pytest.mark.parametrize("program", each(PROGRAMS))
def test_is_contained_at_full(program: Program) -> None:
    for _ in range(RACE_ROUNDS if program.race else HOSTILE_ROUNDS):
        assert seen_boxed(program, "full") == {}


@pytest.mark.process
@pytest.mark.parametrize("program", each(PROGRAMS))
def test_partial_is_what_the_table_says(program: Program) -> None:
    """With the user who runs Autolab, as it is for everybody but root: a user of its own stops some more."""
    found = seen_boxed(program, "partial", "uid")
    assert (not found) is program.partial, found


def with_layers() -> list[object]:
    found = [(layer, program) for program in PROGRAMS for layer in program.layers]
    return [pytest.param(layer, program, id=f"{layer}-{program.name}") for layer, program in sorted(found, key=str)]


@pytest.mark.as_root
@pytest.mark.process
@pytest.mark.parametrize(("layer", "program"), with_layers())
def test_a_missing_layer_lets_it_bite(layer: str, program: Program) -> None:
    """`uid+mounts`: the user of its own is left out too, and is shown not to be what held it; else both hold it."""
    level, _, names = layer.rpartition(":")
    *others, name = names.split("+")
    if others:
        assert seen_boxed(program, level or "full", *others) == {}
    found = seen_boxed(program, level or "full", *others, name)
    assert set(program.judges) & found.keys(), found


@pytest.mark.as_root
def test_every_layer_has_a_program_that_needs_it() -> None:
    """As an ordinary user nobody can be anybody else, and there are no capabilities to take away."""
    applicable = set(LAYERS) if os.geteuid() == 0 else set(LAYERS) - {"uid", "capabilities"}
    found = {layer.rpartition(":")[2].rpartition("+")[2] for program in PROGRAMS for layer in program.layers}
    assert found == applicable


BOMB = Program(
    "endless_bomb",
    "forks",
    "forks without end",
    "while True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n",
    (),
    limit_s=4,
    box={"processes": 64, "memory_bytes": 1 << 30},
)


@pytest.mark.as_root
@pytest.mark.process
def test_status_answers_within_a_second_during_a_bomb(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, script(HELPS))
    worlds: list[World] = []
    enough = threading.Event()

    def bombs() -> None:
        """One after the other: where a watcher counts the processes, each is ended early."""
        while not enough.is_set():
            with World() as world:
                worlds.append(world)
                assert harm(world, boxed(world, BOMB, "full"), BOMB) == {}

    thread = threading.Thread(target=bombs)
    thread.start()
    try:
        while not any((world.train / "began").exists() for world in list(worlds)):
            assert thread.is_alive()
            time.sleep(0.01)
        took = []
        for _ in range(3):
            started = time.monotonic()
            answer = kit.autolab("status")
            took.append(time.monotonic() - started)
            assert answer.code == 0, answer.err
        assert thread.is_alive()
    finally:
        enough.set()
        thread.join()
    assert max(took) < 1.0, took


def test_every_program_is_one_of_its_own() -> None:
    assert len({program.name for program in EVERY}) == len({program.code for program in EVERY}) == len(EVERY) >= 120


def test_the_documentation_shows_the_table_of_what_partial_does_not_stop() -> None:
    page = (Path(__file__).parents[2] / "docs" / "containment.md").read_text()
    for row in rows():
        assert f"| {' | '.join(row)} |" in page
    assert f"These are {len(rows())} of {len(EVERY)} programs" in page
