"""The bill of materials of an installation: what Python knows of the installed packages."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import io
from typing import Final

_COLUMNS: Final = ("name", "version", "licence", "sha256 of RECORD")


def installed_packages() -> str:
    """Every installed package as CSV, with the hash of its list of files, which has the hash of each file."""
    rows = {
        (str(one.metadata["Name"]), one.version, _licence(one), _record_sha256(one))
        for one in importlib.metadata.distributions()
        if one.metadata["Name"]
    }
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(sorted(rows))
    return table.getvalue()


def _licence(one: importlib.metadata.Distribution) -> str:
    known = one.metadata.json
    stated = str(known.get("license_expression") or known.get("license") or "")
    return stated.splitlines()[0][:60] if stated else "see its metadata"


def _record_sha256(one: importlib.metadata.Distribution) -> str:
    """The hash of the list; empty for a package that was not installed from a wheel."""
    record = one.read_text("RECORD")
    return hashlib.sha256(record.encode()).hexdigest() if record else ""
