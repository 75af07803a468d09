"""Whether a new file may have a path: safe on every file system and in every shell, readable, and no secret.

The paths come from models and from commits of agents. A path is refused if anything could misread it, with one line
that names the way out. Sources: Microsoft, "Naming Files, Paths, and Namespaces"; Unicode TR 36 and the property
Default_Ignorable_Code_Point; git's `core.protectNTFS` and `core.protectHFS`. Standard library only.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

LONGEST_PATH, LONGEST_NAME, DEEPEST = 1_000, 230, 32
"""Bytes, bytes and folders; more does not fit everywhere. A file that is being written has a longer name for a while,
and 255 bytes are what file systems take."""
_WINDOWS = frozenset('<>:"|?*\\')
_SHELL = frozenset("`$;&~")
_ASCII_MARKS = frozenset("./\\:~-<>|?*\"%$`;&'")
_DEVICE = re.compile(r"(con|prn|aux|nul|clock\$|conin\$|conout\$|com[0-9]|lpt[0-9])[ .]*(\..*)?", re.DOTALL)
_ENCODED = re.compile(r"%[0-9a-f]{2}|%u[0-9a-f]{4}", re.IGNORECASE)
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
_LOOKALIKES = frozenset(
    "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"  # dashes and minus
    "\u2044\u2215\u29f8\u29f9\u2216"  # slashes and backslashes
    "\u2236\ua789\u3002\uff61\u06d4\u0701\u0702\ua4f8"  # colons and full stops
)
"""Characters that look like a dot, a dash, a slash or a colon and that no normal form turns into one."""
_MAY_HIDE = frozenset(
    (".gitkeep", ".keep", ".env.example", ".env.sample", ".env.template", ".editorconfig", ".dockerignore")
)
_SECRETS = frozenset(
    {
        *("_netrc", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "authorized_keys", "known_hosts", "credentials.json"),
        *("pip.conf", "pip.ini", "client_secret.json", "service_account.json"),
    }
)
_OWN = re.compile(
    r"\.env(?!\.(example|sample|template)$)(\..*)?|\.(ssh|gnupg|aws|azure|gcloud|kube|docker|netrc|pypirc|npmrc|yarnrc.*"
    r"|pgpass|my\.cnf|s3cfg|boto|kaggle|huggingface|condarc|curlrc|wgetrc|hgrc|hg|svn|bzr"
    r"|(ba|z|k|c|tc|da|mk)shrc|bash_.*|z(shenv|profile|login|logout)|profile|login|logout|inputrc|xinitrc|xprofile"
    r"|xsession.*|xresources|vault-token|terraformrc|cargo|gem|rhosts|shosts|htpasswd)",
    re.DOTALL,
)


def unsafe(path: str) -> str | None:
    """Why a path could lead out of the lab, on any system; None if it cannot. Checked for removals too."""
    is_absolute = path.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", path)
    if not path or is_absolute or ".." in path.replace("\\", "/").split("/"):
        return "path leaves the lab; use a relative path without .."
    return None


def not_plain(path: str) -> str | None:
    """Why a path does not name, as it is written, one file below a folder; None if it does.

    Stricter than `unsafe`, for paths that a model writes: one spelling a file, so that no path can be given twice
    without its being seen.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or str(pure) != path or not pure.parts:
        return "not a plain path below the worktree"
    if path != path.encode(errors="replace").decode():
        return "the name is not UTF-8; rename the file"
    if any(unicodedata.category(character) == "Cc" for character in path):
        return "the name holds a control character; rename the file"
    if len(path.encode()) > LONGEST_PATH or any(len(part.encode()) > LONGEST_NAME for part in pure.parts):
        return "too long for a file's name; choose a shorter path"
    return None


def secret(path: str) -> str | None:
    """Why a file is the user's own: keys, passwords, what a shell reads at its start. None if it is not."""
    for name in path.split("/"):
        # As the most tolerant file system reads it: Windows drops dots and spaces at the end, HFS invisible characters.
        plain = unicodedata.normalize("NFKC", _visible(name)).casefold().rstrip(" .")
        if plain in _SECRETS or _OWN.fullmatch(plain):
            return "keys, passwords and shell settings are the user's own; leave it out"
    return None


def unfit(path: str) -> str | None:
    """Why a new file should not have this path, and the way out; None if it may."""
    try:
        raw = path.encode()
    except UnicodeEncodeError:
        return "the name is not UTF-8; rename the file"
    if not path.isprintable() or _INVISIBLE.search(path):
        return "the name holds characters that cannot be seen; rename the file"
    parts = path.split("/")
    if len(raw) > LONGEST_PATH or any(len(part.encode()) > LONGEST_NAME for part in parts):
        return f"longer than {LONGEST_PATH} bytes, or a name in it longer than {LONGEST_NAME}; choose a shorter one"
    if len(parts) > DEEPEST:
        return f"lies more than {DEEPEST} folders deep; put it higher up"
    # Name by name: a folder's name is read by the same programs as a file's.
    for part in parts:
        problem = _unfit_name(part)
        if problem is not None:
            return problem
    return None


def _unfit_name(name: str) -> str | None:
    if name != name.strip(" ").rstrip("."):
        return "a name begins or ends with a space, or ends with a dot; rename the file"
    if not name:
        return "a name in it is empty; use single slashes"
    if name.startswith("-"):
        return "a name begins with a dash, which programs take for an option; rename the file"
    wrong = sorted((_WINDOWS | _SHELL) & set(name))
    if wrong:
        return f"a name holds {wrong[0]}, which shells or other systems read as something else; rename the file"
    if _ENCODED.search(name):
        return "a name holds a character that is encoded with %; write the character itself"
    if _looks_like_a_mark(name):
        return "a name holds a character that looks like a dot, dash, slash or colon and is none; rename the file"
    if _DEVICE.fullmatch(unicodedata.normalize("NFKC", name).casefold()):
        return "the name of a device on Windows; rename the file"
    if name.startswith(".") and name not in _MAY_HIDE:
        return "a hidden name, under which other programs keep their settings; choose one that can be seen"
    return None


def _looks_like_a_mark(name: str) -> bool:
    """Full width and small forms, which a normal form turns into ASCII marks, and those that only look like one."""
    for character in name:
        # No normal form turns these into the mark that they look like.
        if character in _LOOKALIKES:
            return True
        if not character.isascii() and not _ASCII_MARKS.isdisjoint(unicodedata.normalize("NFKC", character)):
            return True
    return False


def _visible(name: str) -> str:
    """A name without the characters that some file systems leave out of it."""
    return "".join(character for character in name if unicodedata.category(character) != "Cf")
