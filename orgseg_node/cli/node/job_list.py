"""The list that ``orgseg jobs list`` prints."""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orgseg_node.cli.console import ListedItem, local_time, out, print_items
from orgseg_node.errors import OptionInvalid

if TYPE_CHECKING:
    from orgseg_node.node.operations.overview import Entry, Identity
    from orgseg_node.node.store.model import Delivery


_COLUMNS: Final = ("job or series", "state", "images", "sender", "destination", "changed")


def print_list(
    entries: Sequence[Entry],
    flags: Mapping[str, Mapping[str, str]],
    identities: Mapping[str, Identity | None] | None,
    *,
    command_end: str = "",
) -> None:
    """Print the list; with descriptions, and the ends of UIDs that only one series has, on a terminal.

    Parameters
    ----------
    entries : in their order
    flags : why a person should look at an organ, by its name, for each job by its number
    identities : by Series Instance UID; None where the output may be kept, and patient data must not be in it
    command_end : the end of each command
    """
    uids = {one.series.series_uid for one in entries}
    known = identities or {}
    print_items(
        _COLUMNS,
        [
            ListedItem(
                cells=_row(one, uids, shorten=identities is not None),
                below=_below(one, flags, known.get(one.series.series_uid)),
                commands=[f"{command}{command_end}" for command in one.commands],
                is_marked=one.needs_person,
            )
            for one in entries
        ],
    )
    waiting = sum(one.needs_person for one in entries)
    out().print(f"{waiting} of {len(entries)} need a person (!).")


def _row(one: Entry, uids: Collection[str], *, shorten: bool) -> tuple[str, ...]:
    """The cells of an entry, in the order of the columns."""
    is_running = one.job is not None and bool(one.job.stage)
    state = f"{one.state} {one.job.progress:.0%}" if one.job is not None and is_running else one.state
    return (
        _unique_end(one.subject, uids) if shorten and one.job is None else one.subject,
        state,
        str(one.series.instances if one.job is None else one.job.slices),
        one.series.calling_ae,
        ", ".join(one.destinations) or "-",
        local_time(one.changed_at),
    )


def _below(one: Entry, flags: Mapping[str, Mapping[str, str]], known: Identity | None) -> list[str]:
    """The lines below an entry: description, note, organs to look at, deliveries that failed."""
    lines = [known.description if known is not None else "", one.note]
    organs = flags.get(one.job.job_id, {}) if one.job is not None else {}
    if organs:
        lines.append(f"Look at {'; '.join(f'{name} ({text})' for name, text in organs.items())}.")
    lines += [
        f"To {each.destination}: attempt {each.attempts} failed, "
        f"next try {local_time(each.next_attempt_at)}. {each.note}".rstrip()
        for each in one.failing
    ]
    return [line for line in lines if line]


def command_end(config: Path) -> str:
    """What a command needs to find the configuration: nothing if the environment names the same file."""
    if os.environ.get("ORGSEG_CONFIG") == str(config):
        return ""
    return f" --config {shlex.quote(str(config))}"


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


def document(entries: Iterable[Entry], flags: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The list as JSON values, without patient data.

    Parameters
    ----------
    entries : in their order
    flags : why a person should look at an organ, by its name, for each job by its number
    """
    jobs, series = [], []
    for one in entries:
        more = {
            "needs_person": one.needs_person,
            "sender": one.series.calling_ae,
            "commands": list(one.commands),
        }
        if one.job is None:
            series.append({**asdict(one.series), "state": one.state, **more})
            continue
        more |= {
            "destinations": one.destinations,
            "look_at": dict(flags.get(one.job.job_id, {})),
            "failing": [asdict(each) for each in one.failing],
        }
        jobs.append({**asdict(one.job), "state": one.state, **more})
    return {"jobs": jobs, "series": series}
