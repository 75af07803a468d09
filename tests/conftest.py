"""What every test shares: an environment that does not depend on the user who runs it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Shared machines make deadlines lie; the same examples every time make a failure repeatable.
settings.register_profile("autolab", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("autolab")


QUICK = "not process"
"""What stands in `-m` of `make quick`, which leaves out the tests that may start a process."""
MAY_START = ("process", "nightly", "crash_real")
"""Marks of tests that may start a process. Any other test that does fails, in every run, with the mark to add."""
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system"}
_started: list[str] = []
_watching = [False]


def pytest_configure(config: pytest.Config) -> None:
    platform.processor()  # starts `uname -p` once a process, for whichever library asks first
    _list_fonts()
    sys.addaudithook(_refuse)


def _list_fonts() -> None:
    """Let matplotlib list the fonts, which starts `fc-list`, where this user has drawn no figure yet."""
    import matplotlib

    if not list(Path(matplotlib.get_cachedir()).glob("fontlist-v*.json")):
        import matplotlib.font_manager


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Under `make quick` a file whose tests all start processes is not even imported."""
    if QUICK in config.option.markexpr and collection_path.suffix == ".py":
        return True if "\npytestmark = pytest.mark.process\n" in collection_path.read_text("utf-8") else None
    return None


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event in STARTS and _watching[0]:
        _started.append(f"{event} {arguments[:2]}")
        _fail()


def _fail() -> None:
    told = "mark it `@pytest.mark.process`, or its file `pytestmark = pytest.mark.process`: `make quick` starts none"
    pytest.fail(f"starts a process ({_started[0]:.200}); {told}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _watching[0] = not any(item.get_closest_marker(mark) for mark in MAY_START)
    _started.clear()
    try:
        return (yield)
    finally:
        _watching[0] = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    yield
    if _started:  # and the code under test kept the refusal to itself
        _fail()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    needed = item.get_closest_marker("root")
    if needed is not None and os.geteuid() != 0:
        pytest.skip(f"needs root: {needed.args[0]}")


@pytest.fixture(scope="session", autouse=True)
def _environment_of_nobody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Git without the user's configuration, no AUTOLAB_* or GIT_* from outside, one thread, plain output.

    And no fsync: nobody here looks at the disk after a power cut, and on a busy disk each costs a tenth of a second.
    """
    configuration = tmp_path_factory.mktemp("git") / "config"
    configuration.write_text(
        "[user]\n\tname = Test\n\temail = test@example.org\n[init]\n\tdefaultBranch = main\n"
        "[gc]\n\tauto = 0\n[core]\n\tfsync = none\n[commit]\n\tgpgSign = false\n[advice]\n\tdetachedHead = false\n",
        encoding="utf-8",
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AUTOLAB_", "GIT_"))]:
            patch.delenv(name)
        patch.setenv("GIT_CONFIG_GLOBAL", str(configuration))
        patch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
        patch.setenv("GIT_TERMINAL_PROMPT", "0")
        patch.setenv("LC_ALL", "C.UTF-8")
        patch.setenv("NO_COLOR", "1")
        patch.setenv("COLUMNS", "100")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        patch.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this repository."""
    return Path(__file__).resolve().parent.parent
