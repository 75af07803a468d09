"""A notebook as a training program: nbconvert makes a script of it in the trial's copy, and IPython runs that.

So it prints while it runs, as every program does, its magics work, and an error ends it with a status above 0. Executed
by nbconvert it would say everything at its end, within the JSON of its outputs.
"""

from __future__ import annotations

import json
import posixpath
import shlex
from collections.abc import Sequence

from autolab.adoption.repository import Repository
from autolab.errors import UsageError

ENDING = ".ipynb"
SCRIPT = "autolab_notebook"
"""The script that is made beside the notebook."""
_RUNNERS = ("jupyter", "jupyter-nbconvert", "jupyter-execute", "papermill", "ipython")


def notebook_words(repository: Repository, words: Sequence[str] | None) -> list[str]:
    """The command that runs the notebook which `words` name; empty if they name none.

    Without words, the one notebook of a repository that has no train.py. UsageError: it is not committed, there are
    several, or another program would run it.
    """
    if words is None:
        return _only_notebook(repository)
    notebooks = [word for word in words if word.endswith(ENDING)]
    if not notebooks:
        return []
    path = posixpath.normpath(notebooks[0])
    if len(words) > 1:
        if posixpath.basename(words[0]) in _RUNNERS or "nbconvert" in words:
            raise UsageError(f"--train-command: name the notebook alone, so that its numbers are read: {path}")
        return []
    if not repository.holds(posixpath.join(repository.folder, path)):
        raise UsageError(f"--train-command: {path}: not in the last commit; name a committed notebook")
    return _command(path)


def _only_notebook(repository: Repository) -> list[str]:
    own = f"{repository.folder}/" if repository.folder else ""
    paths = []
    for path in repository.git.files(repository.head):
        if path.startswith(own) and path.endswith(ENDING):
            paths.append(path.removeprefix(own))
    if not paths or repository.holds(f"{own}train.py"):
        return []
    if len(paths) > 1:
        names = ", ".join(paths[:3])
        raise UsageError(
            f"--train-command: the repository has no train.py and {len(paths)} notebooks; name one: {names}"
        )
    return _command(paths[0])


def _command(path: str) -> list[str]:
    folder, name = posixpath.split(path)
    # As Jupyter does, it runs in its own folder.
    there = f"cd {shlex.quote(folder)} && " if folder else ""
    convert = f"python3 -m nbconvert --to python --log-level ERROR --output {SCRIPT} {shlex.quote(name)}"
    return ["sh", "-c", f"{there}{convert} && exec python3 -m IPython --colors NoColor {SCRIPT}.py"]


def code_of(notebook: str) -> str:
    """The code of a notebook's cells; empty if the text is no notebook."""
    try:
        document = json.loads(notebook)
        cells = document.get("cells", ())
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ""
    return "\n".join(sources)
