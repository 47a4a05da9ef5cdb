"""A message with notices as text for a person: subject and body."""

from __future__ import annotations

from orgseg_node.node.monitoring.alerts import SENTENCES, NoticeCode
from orgseg_node.node.monitoring.outbox import Message


def subject_of(node: str, message: Message) -> str:
    """The subject: the node, each code and how often it occurs.

    Parameters
    ----------
    node : AE title of the node
    message : what is sent
    """
    return f"{node}: " + ", ".join(
        f"{code} ({len(subjects)})" for code, subjects in _subjects(message).items()
    )


def text_of(node: str, message: Message, *, longest: int | None = None) -> str:
    """The body: for each code its sentence, and the jobs or series it is about.

    Parameters
    ----------
    node : AE title of the node
    message : what is sent
    longest : the most jobs or series that are listed for each code; all when None
    """
    lines = [f"The DICOM node {node} has problems that need a person."]
    for code, subjects in _subjects(message).items():
        lines += ["", f"{code} ({len(subjects)}): {SENTENCES[NoticeCode(code)]}"]
        lines += [f"  {subject}" for subject in subjects[:longest]]
        if longest is not None and len(subjects) > longest:
            lines.append(f"  and {len(subjects) - longest} more")
    return "\n".join(lines) + "\n"


def _subjects(message: Message) -> dict[str, list[str]]:
    """When each notice was raised and what it is about, by code."""
    subjects: dict[str, list[str]] = {}
    for notice in message.notices:
        subjects.setdefault(notice.code, []).append(f"{notice.raised:%Y-%m-%d %H:%M} UTC  {notice.subject}")
    return subjects
