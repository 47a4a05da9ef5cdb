"""The list that ``orgseg jobs list`` prints."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from orgseg_node.cli.console import local_time, out
from orgseg_node.errors import OptionInvalid

if TYPE_CHECKING:
    from orgseg_node.node.operations.overview import Entry, Identity
    from orgseg_node.node.store.model import Delivery


def print_list(entries: Sequence[Entry], identities: Mapping[str, Identity | None] | None) -> None:
    """Print the list; with descriptions, and the ends of UIDs that only one series has, on a terminal.

    Parameters
    ----------
    entries : in their order
    identities : by Series Instance UID; None where the output may be kept, and patient data must not be in it
    """
    console = out()
    described = ("description",) if identities is not None else ()
    table = Table(
        "", "job or series", "state", "images", "sender", "destination", *described, "changed", "note"
    )
    uids = {one.series.series_uid for one in entries}
    for one in entries:
        known = identities.get(one.series.series_uid) if identities is not None else None
        subject = one.subject if identities is None or one.job else _unique_end(one.subject, uids)
        state = one.state
        if one.job is not None and one.job.stage:
            state = f"{state} {one.job.progress:.0%}"
        table.add_row(
            "[red]![/]" if one.needs_person else "",
            subject,
            state,
            str(one.series.instances if one.job is None else one.job.slices),
            escape(one.series.calling_ae),
            escape(", ".join(one.destinations)),
            *((escape(known.description if known else ""),) if identities is not None else ()),
            local_time(one.changed_at),
            escape(one.note),
        )
    console.print(table)
    waiting = sum(one.needs_person for one in entries)
    console.print(f"{waiting} of {len(entries)} need a person (!).")


def _unique_end(uid: str, uids: Collection[str]) -> str:
    """The end of a UID, of at least 12 characters, that no other of these UIDs contains."""
    return next(
        (uid[-count:] for count in range(12, len(uid)) if sum(uid[-count:] in one for one in uids) == 1), uid
    )


def start_of(text: str, now: datetime) -> datetime | None:
    """The time that an option gives as a duration or as a local time. Raises OptionInvalid."""
    if not text:
        return None
    duration = re.fullmatch(r"(\d{1,5})([hd])", text.strip())
    if duration is not None:
        return now - timedelta(hours=int(duration[1]) * (1 if duration[2] == "h" else 24))
    try:
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        raise OptionInvalid("--since is 12h, 3d, or a date with or without a time.") from None


def delivery_lines(deliveries: Iterable[Delivery]) -> list[str]:
    """A line for each delivery of a job; one for all images of its CT to a destination."""
    lines: list[str] = []
    images: dict[str, list[Delivery]] = {}
    for one in deliveries:
        if one.is_image:
            images.setdefault(one.destination, []).append(one)
        else:
            lines.append(f"{one.role} to {one.destination}: {one.outcome}. {one.note}".rstrip())
    for name, several in images.items():
        counts = Counter(one.outcome for one in several)
        notes = dict.fromkeys(one.note for one in several if one.note)
        text = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        lines.append(f"CT to {name}: {len(several)} images, {text}. {next(iter(notes), '')}".rstrip())
    return lines


def document(entries: Iterable[Entry]) -> dict[str, Any]:
    """The list as JSON values, without patient data."""
    jobs, series = [], []
    for one in entries:
        more = {"needs_person": one.needs_person, "sender": one.series.calling_ae}
        if one.job is None:
            series.append({**asdict(one.series), "state": one.state, **more})
        else:
            jobs.append({**asdict(one.job), "state": one.state, **more, "destinations": one.destinations})
    return {"jobs": jobs, "series": series}
