"""The data of an adopted repository: what `--data` names, what was fetched, what the first run was seen to need."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from autolab.adoption.repository import Repository
from autolab.errors import UsageError
from autolab.lab.git import common_dir
from autolab.lab.schemas.data_entry import DataEntry
from autolab.trials import fetched_data

CACHE_VARIABLES = {
    "HF_HOME": "~/.cache/huggingface",
    "HF_HUB_CACHE": "~/.cache/huggingface/hub",
    "HF_DATASETS_CACHE": "~/.cache/huggingface/datasets",
    "TORCH_HOME": "~/.cache/torch",
    "KERAS_HOME": "~/.keras",
    "XDG_CACHE_HOME": "~/.cache",
}
"""Variables that move a library's cache; trials do not have them, so that the library looks in its usual place."""
PIECES = 16
"""Files of a folder that are bound one by one at most."""
PREPARES = ("prepare", "download", "get_", "fetch", "make_", "setup")
"""How programs that make data are called: no training imports them."""

Value = str | list[str | dict[str, object]]


def given(repository: Repository, texts: Sequence[str]) -> list[DataEntry]:
    """The entries that `--data PATH` and `--data PATH=AT` name. UsageError: a path does not exist or cannot be used."""
    return [_entry(repository, text) for text in texts]


def _entry(repository: Repository, text: str) -> DataEntry:
    path, at = text, ""
    here = repository.root / repository.folder
    # A name may hold an equals sign.
    if "=" in text and not (here / os.path.expanduser(text)).exists():
        path, _, at = text.rpartition("=")
    source = Path(os.path.normpath(here / os.path.expanduser(path)))
    if not path or not source.exists():
        raise UsageError(f"--data: {path or text}: no such file or folder, in {here} or absolute")
    if source == repository.root:
        raise UsageError(f"--data: {path}: is the repository itself; name a folder in it")
    name = os.path.normpath(os.path.join(repository.folder, path))
    if source.is_relative_to(repository.root):
        name = str(source.relative_to(repository.root))
    elif not at:
        name = _below_home(path, source)
    usual = _usual_place(source)
    try:
        return DataEntry(path=name, at=at or (usual if usual != name else None))
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise UsageError(f"--data: {reason}") from None


def _below_home(path: str, source: Path) -> str:
    """A path in the home as `~/…`, which a shell has replaced; the program finds it by its absolute path too."""
    home = os.path.expanduser("~")
    if path.startswith("/") and source.is_relative_to(home) and str(source) != home:
        return f"~/{source.relative_to(home)}"
    return os.path.normpath(path)


def _usual_place(source: Path) -> str | None:
    """Where a library looks for its cache if no variable of the user's says otherwise; None for other data."""
    for variable, place in CACHE_VARIABLES.items():
        moved = os.environ.get(variable)
        if moved and os.path.realpath(moved) == os.path.realpath(source):
            return place
    # A cache in the home, by its absolute path.
    home = Path(os.path.expanduser("~"))
    for place in CACHE_VARIABLES.values():
        usual = Path(os.path.expanduser(place))
        if source.is_relative_to(usual):
            return f"~/{source.relative_to(home)}"
    return None


def fetched(repository: Repository) -> Iterator[tuple[DataEntry, str]]:
    """What `autolab fetch` brought, and a word on its origin."""
    for entry, record in fetched_data.entries(common_dir(repository.root)):
        yield entry, f"autolab fetch -- {record.command}"


def value_of(entries: Iterable[DataEntry]) -> Value:
    """The value of `data` in config.yaml: one path as it is, else a list."""
    values: list[str | dict[str, object]] = []
    for entry in entries:
        if entry.at is None and not entry.writable:
            values.append(entry.path)
            continue
        fields: dict[str, object] = {"path": entry.path}
        if entry.at is not None:
            fields["at"] = entry.at
        if entry.writable:
            fields["writable"] = True
        values.append(fields)
    first = values[0]
    return first if len(values) == 1 and isinstance(first, str) else values


def to_bind(repository: Repository, path: str) -> list[DataEntry]:
    """What to bind for a file of the checkout that git does not hold: its folder, or files of a folder with code in it.

    A bound folder takes the place of the commit's, and a candidate could not change code in it.
    """
    folder = str(PurePosixPath(path).parent)
    if folder != "." and not _holds_code(repository, folder):
        return [DataEntry(path=folder)]
    pieces = []
    for child in sorted((repository.root / folder).iterdir()):
        name = str(child.relative_to(repository.root))
        # At the top lie environments and results too.
        is_alike = folder != "." and not child.name.startswith((".", "__pycache__"))
        if (is_alike or name == path) and not repository.holds(name):
            pieces.append(name)
    if path not in pieces or len(pieces) > PIECES:
        pieces = [path]
    return [DataEntry(path=piece) for piece in pieces]


def _holds_code(repository: Repository, folder: str) -> bool:
    for path in repository.git.files(repository.head):
        place = PurePosixPath(path)
        if place.is_relative_to(folder) and place.suffix == ".py" and not place.name.startswith(PREPARES):
            return True
    return False


def merged(known: Sequence[DataEntry], wanted: Sequence[DataEntry]) -> list[DataEntry]:
    """The known entries with those wanted that are not among them; one that is to be writable becomes so."""
    entries = list(known)
    for entry in wanted:
        same = [position for position, other in enumerate(entries) if other.place == entry.place]
        if same:
            other = entries[same[0]]
            entries[same[0]] = other.model_copy(update={"writable": other.writable or entry.writable})
        elif not any(_covers(other, entry) for other in entries):
            entries.append(entry)
    return entries


def _covers(entry: DataEntry, other: DataEntry) -> bool:
    """Whether the first shows the second already: both lie in one folder of the repository."""
    is_in_place = not entry.lies_outside and entry.place == os.path.normpath(entry.path)
    return is_in_place and PurePosixPath(other.place).is_relative_to(entry.place)
