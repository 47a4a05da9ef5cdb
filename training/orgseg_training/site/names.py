"""``names.toml``: the organ of each ROI name, proposed by the survey and decided by a person."""

from __future__ import annotations

import json
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orgseg_node.core.organs import OrganTable
from orgseg_node.durable import write_durably
from orgseg_training.errors import NamesInvalid

_LISTED: Final = re.compile(r'^\s*#\s*("(?:[^"\\]|\\.)*")\s*=')
_HEAD: Final = """\
# The organ of each ROI name in the archive: a key of the organ table, or "" to leave the ROI out.
# Lines with a # in front do not count: take it away from those that you agree with, and add what is missing.
# Afterwards: orgseg-train site ingest. The survey adds names that are new, and never changes a line.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameLine:
    """A line of the file.

    Attributes
    ----------
    name : of the ROI
    organ : key of the organ table; empty to leave it out
    counts : whether the line counts, or is only a proposal
    remark : what was seen of the ROIs of this name
    """

    name: str
    organ: str
    counts: bool
    remark: str

    @property
    def text(self) -> str:
        """The line."""
        mark = "" if self.counts else "# "
        organ = self.organ or ("" if self.counts else "?")
        remark = " ".join("".join(c if c.isprintable() else " " for c in self.remark).split())
        return f"{mark}{_quoted(self.name)} = {_quoted(organ)}  # {remark}"


@dataclass(frozen=True, slots=True)
class SiteNames:
    """The organ of each name that a person has decided on.

    Attributes
    ----------
    organs : by name without regard to case and blanks; empty to leave the ROI out
    """

    organs: Mapping[str, str]

    def organ(self, name: str, /) -> str | None:
        """The organ of a name; None if it is left out, or not decided."""
        return self.organs.get(_spelled(name)) or None

    def is_decided(self, name: str) -> bool:
        """Whether a person has decided what a name means, or that it is left out."""
        return _spelled(name) in self.organs


def read_names(path: Path, table: OrganTable) -> SiteNames:
    """Read the file; no names if it is not there.

    Raises
    ------
    NamesInvalid
        With every problem: no TOML, an unknown organ, or two spellings of a name with different organs.
    """
    if not path.exists():
        return SiteNames({})
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = str(error).replace("Cannot overwrite a value", "A name is there twice")
        raise NamesInvalid(f"{path.name}: {why}.") from error
    organs: dict[str, str] = {}
    problems = []
    for name, organ in document.items():
        if not isinstance(organ, str):
            problems.append(f"  {name!r} must be a key of the organ table in quotes")
        elif organ and organ not in table:
            problems.append(f"  {name!r}: {organ!r} is no key of the organ table")
        elif organs.setdefault(_spelled(name), organ) != organ:
            problems.append(f"  {name!r} is there twice with different organs")
    if problems:
        raise NamesInvalid(f"{path.name}: {len(problems)} problems\n" + "\n".join(problems))
    return SiteNames(organs)


def add_names(path: Path, sections: Mapping[str, Iterable[NameLine]]) -> int:
    """Add lines for names that the file does not have yet; what is there stays as it is.

    Parameters
    ----------
    path : the file
    sections : new lines by the title of their section

    Returns
    -------
    The number of lines that were added.

    Raises
    ------
    NamesInvalid
        If the file is no TOML.
    DiskFull, NotDurable
        If it cannot be written.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else _HEAD
    try:
        known = {_spelled(name) for name in tomllib.loads(text)}
    except tomllib.TOMLDecodeError as error:
        raise NamesInvalid(f"{path.name}: {error}.") from error
    listed = [_LISTED.match(line) for line in text.split("\n")]
    known |= {_spelled(json.loads(found[1])) for found in listed if found}
    added = 0
    for title, lines in sections.items():
        new = [line for line in lines if _spelled(line.name) not in known]
        if new:
            text = text.rstrip("\n") + f"\n\n# {title}\n" + "\n".join(line.text for line in new) + "\n"
            known |= {_spelled(line.name) for line in new}
            added += len(new)
    if added or not path.exists():
        write_durably(path, text.encode())
    return added


def _quoted(text: str) -> str:
    """Text as TOML can hold it, whatever bytes it was decoded from."""
    return json.dumps(_valid(text), ensure_ascii=False).replace("\x7f", "\\u007f")


def _spelled(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", _valid(name)).split()).casefold()


def _valid(text: str) -> str:
    """Text without lone surrogates, which stand for bytes that could not be decoded."""
    return text.encode("utf-8", "replace").decode("utf-8")
