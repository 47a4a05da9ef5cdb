"""What was measured outside of the node's database: results of its tests, and of commissioning."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from orgseg_node.commissioning.summary import FORMAT
from orgseg_node.errors import OptionInvalid

_CONTENT: Final = "commissioning.json"
_FILES: Final = (_CONTENT, "commissioning.html", "commissioning.pdf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Results that the dossier takes in.

    Attributes
    ----------
    tests : outcome of the tests by module; None if they were not run
    commissioning : files of the report of ``orgseg commission site``, by name; empty if there is none
    """

    tests: Mapping[str, Counter[str]] | None = None
    commissioning: Mapping[str, bytes] = field(default_factory=dict)

    def commissioned(self, sha256: str) -> str:
        """What the commissioning says of a bundle, as a sentence; empty if it is of other bundles.

        Parameters
        ----------
        sha256 : of the bundle
        """
        if not self.commissioning:
            return ""
        content: Mapping[str, Any] = json.loads(self.commissioning[_CONTENT])
        if sha256 not in {one["sha256"] for one in content["models"]}:
            return ""
        scans = content["scans"]
        return (
            f"{scans['measured']} scans of {scans['patients']} patients were contoured and compared, "
            f"{len(scans['refused'])} were refused; see `02-commissioning/commissioning.html`."
        )


def read_commissioning(folder: Path) -> dict[str, bytes]:
    """The files of a report of commissioning.

    Parameters
    ----------
    folder : into which ``orgseg commission site`` wrote

    Raises
    ------
    OptionInvalid
        If it holds none.
    """
    try:
        files = {name: (folder / name).read_bytes() for name in _FILES}
        known = json.loads(files[_CONTENT]).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        known = False
    if not known:
        raise OptionInvalid(f"{folder} holds no report of 'orgseg commission site'.")
    return files
