"""What a protocol would do with a case, as a table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from orgseg_node.cli.console import out, print_message


def print_trial(document: Mapping[str, Any]) -> None:
    """Print a trial, see `contouring.revision.trial.trial_document`."""
    console = out()
    table = Table(
        "structure", "change", "ml before", "ml after", "Dice", "flag, reason", box=None, pad_edge=False
    )
    for row in document["structures"]:
        before, after = row["before"], row["after"]
        shown = dict.fromkeys(one["name"] for one in (before, after) if one)
        flag = (after or before)["flag"] or row["why"]
        dice = "" if row["dice"] is None else f"{row['dice']:.3f}"
        table.add_row(escape(" → ".join(shown)), row["change"], _ml(before), _ml(after), dice, escape(flag))
    console.print(table)
    for key, why in document["absent"].items():
        console.print(f"{escape(key)}: {escape(why)}")
    for sign, findings in (("new", document["new"]), ("gone", document["gone"])):
        for one in findings:
            console.print(f"{sign}: {one['level']} {one['code']}: {escape(one['message'])}")
    if document["not_searched"]:
        names = ", ".join(document["not_searched"])
        print_message(f"The networks were not asked for {names} in this case; a new case would have them.")
    if document["drifted"]:
        names = ", ".join(document["drifted"])
        print_message(f"Not only by the protocol: today its old one gives another {names}, too.")
    if document["models_missing"]:
        print_message("A model of this case is not here any more; organs are judged without its reference.")
    if document["held"]:
        print_message("The case would be held until a person decides.")


def _ml(look: Mapping[str, Any] | None) -> str:
    return "" if look is None else f"{look['ml']:.1f}"
