"""Keeps `pytest` at a lab's root out of the folders whose files trials and candidates wrote.

Each of these folders gets a `conftest.py` of Autolab's own. The lab's configuration of pytest is the user's, and
another `norecursedirs` would take the place of theirs. Templates have a `pytest.ini` too.
"""

from __future__ import annotations

from pathlib import Path

from autolab import files

FOLDERS = ("experiments", "5_worktrees")
NAME = "conftest.py"
TEXT = '''"""Autolab's own: pytest at the lab's root collects nothing here, where trials and candidates write."""

import sys

collect_ignore_glob = ["*"]
written_by_autolab = True


def pytest_plugin_registered(plugin, manager):
    """`from conftest import ...` in the lab's own tests goes on to mean the lab's own conftest.py."""
    if plugin is not sys.modules.get(__name__) or getattr(plugin, "__file__", None) != __file__:
        return
    alike = [one for _, one in manager.list_name_plugin() if getattr(one, "__name__", "") == __name__]
    own = [one for one in alike if not hasattr(one, "written_by_autolab")]
    if own:
        sys.modules[__name__] = own[-1]  # the one that was imported last
'''


def write(root: Path) -> None:
    """Write the files that are missing or were changed. Raises OSError."""
    for folder in FOLDERS:
        path = root / folder / NAME
        if not _stands(path):
            files.write_whole(path, TEXT, mode=0o644)


def missing(root: Path) -> list[str]:
    """The files, relative to `root`, that are missing in a folder that is there, or were changed."""
    return [f"{folder}/{NAME}" for folder in FOLDERS if (root / folder).is_dir() and not _stands(root / folder / NAME)]


def _stands(path: Path) -> bool:
    # A link could be to a file that a trial changes later.
    try:
        return not path.is_symlink() and path.read_text(encoding="utf-8") == TEXT
    except (OSError, UnicodeDecodeError):
        return False
