"""What comes to the door: a name and some bytes, or a name and the reason why it stays outside.

Names are written by strangers.  They are cleaned for display and grouping, and are never used as paths.
"""

from __future__ import annotations

import re
import unicodedata
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from adlib.contract import Sentence, say
from adlib.images import SUFFIXES

_DEEPEST, _LONGEST = 10, 80  # folders in a name, characters in each of its parts
_HIDDEN = frozenset({"thumbs.db", "desktop.ini", "__macosx", "$recycle.bin"})
# What reading a damaged zip may raise: Python's zipfile lets the errors of what it calls through.
UNREADABLE = (OSError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error)
_NO_PART = re.compile(r"\.{0,2}|[A-Za-z]:")  # nothing, here, up, or a drive


@dataclass(frozen=True)
class Item:
    """One file.  name: "folder/file.png", cleaned, for display and grouping only.  data: its bytes, or where it lies."""

    name: str
    data: bytes | Path


@dataclass(frozen=True)
class Refused:
    """One file that was not taken.  name: as in Item.  reason: a sentence for a person."""

    name: str
    reason: Sentence


def clean_name(name: str) -> str:
    """A name that can be shown: one kind of slash, no way up or out, no control characters, not endless.

    Everything else of the name is kept, in whatever script.

    >>> clean_name("..\\\\..\\\\etc/傷/a.png")
    'etc/傷/a.png'
    """
    slashed = unicodedata.normalize("NFC", name[-20_000:]).replace("\\", "/")
    parts = [part.strip() for part in slashed.split("/") if not _NO_PART.fullmatch(part.strip())]
    parts = [_short("".join(c if c.isprintable() else "\ufffd" for c in part)) for part in parts]
    return "/".join(parts[-_DEEPEST:]) or "unnamed"


def folder_of(name: str) -> str:
    """The part of a name before its last slash; "" without one."""
    return name.rpartition("/")[0]


def stem_of(name: str) -> str:
    """The file's own name without its ending.  By hand: it is asked for some hundred thousand times."""
    own = name.rpartition("/")[2]
    return own.rpartition(".")[0] or own


def suffix_of(name: str) -> str:
    """In small letters and with the dot; "" without one."""
    return PurePosixPath(name.replace("\\", "/")).suffix.lower()


def is_hidden(name: str) -> bool:
    """What systems leave behind in folders: nobody misses it, so it is left out in silence."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return any(part.lower() in _HIDDEN or part.startswith(".") for part in parts)


def is_picture(name: str) -> bool:
    return suffix_of(name) in SUFFIXES


def wrong_type(name: str) -> Refused:
    """The refusal of a file that is no picture by its name."""
    shown = clean_name(name)
    if not (kind := suffix_of(shown)):
        return Refused(shown, say("Its name has no ending that says what it is, such as .png or .jpg."))
    return Refused(shown, say("Files of type {kind} are not read. Save the picture as PNG or JPEG.", kind=kind))


def _short(part: str) -> str:
    """The beginning and the file type stay."""
    if len(part) <= _LONGEST:
        return part
    suffix = PurePosixPath(part).suffix
    suffix = suffix if len(suffix) <= 8 else ""
    return part[: _LONGEST - len(suffix) - 1] + "…" + suffix
