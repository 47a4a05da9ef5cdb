"""``site.toml``: what a person decides about a site's data set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, field_validator

from orgseg_node.durable import write_durably
from orgseg_training.errors import SiteSettingsInvalid
from orgseg_training.settings_file import read_settings_file

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,39}$")]


class SiteSettings(BaseModel):
    """Settings of a site's data set.

    Attributes
    ----------
    name : of the data set; the first part of the key of every case
    archive : folders with DICOM CT, RTSTRUCT and RTPLAN, searched with all their subfolders
    label : regular expression; where several RTSTRUCTs belong to a CT, those whose Structure Set Label
        matches it are preferred; empty for no such rule
    automatic : whether contours that a program made and nobody approved count as drawn
    any_export : whether an RTSTRUCT that refers only to a CT that is not here belongs to the CT of the same
        patient in its frame of reference, which is another export of it
    rejects_key : public key of the person who signs ``rejects.toml``; empty if there is no such list
    test_fraction : of the patients that are locked for the test
    min_patients : fewer usable patients cannot be locked
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = "site"
    archive: tuple[Path, ...] = ()
    label: str = ""
    automatic: bool = False
    any_export: bool = False
    rejects_key: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.25
    min_patients: Annotated[int, Field(ge=2)] = 6

    @field_validator("label")
    @classmethod
    def _check_label(cls, label: str) -> str:
        try:
            re.compile(label)
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        return label


def read_settings(path: Path) -> SiteSettings:
    """Read ``site.toml``; folders of the archive are relative to the file.

    Raises
    ------
    SiteSettingsInvalid
        With every problem of the file.
    """
    settings = read_settings_file(path, SiteSettings, SiteSettingsInvalid)
    base = path.resolve().parent
    archive = tuple(base / folder.expanduser() for folder in settings.archive)
    return settings.model_copy(update={"archive": archive})


def write_settings(path: Path, settings: SiteSettings) -> None:
    """Write ``site.toml`` with an explanation of each setting. Raises DiskFull or NotDurable."""
    lines = ["# Settings of this data set; see docs/retraining.md."]
    for name, value in settings.model_dump(mode="json").items():
        lines += [f"# {_EXPLAINED[name]}", tomli_w.dumps({name: value}).strip()]
    write_durably(path, ("\n".join(lines) + "\n").encode())


_EXPLAINED = {
    "name": "First part of the key of every case.",
    "archive": "Folders with DICOM CT, RTSTRUCT and RTPLAN.",
    "label": "Several RTSTRUCTs of a CT: prefer those whose label matches this regular expression.",
    "automatic": "Whether contours that a program made and nobody approved count as drawn.",
    "any_export": "Whether an RTSTRUCT also fits another export of its CT (same patient and frame).",
    "rejects_key": "Public key of the person who signs rejects.toml (orgseg-train rejects keygen).",
    "test_fraction": "Fraction of the patients that are locked for the test.",
    "min_patients": "Fewer usable patients cannot be locked.",
}
