"""Refuse a commit message whose first line is too long, empty or not a plain imperative sentence.

``python -m tools.commit_subject FILE``, as the hook ``commit-msg`` calls it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

LONGEST: Final = 72


def subject_problems(message: str) -> list[str]:
    """What is wrong with the first line of a commit message; empty if nothing is."""
    subject = message.splitlines()[0] if message.strip() else ""
    problems = []
    if not subject.strip():
        problems.append("the subject is empty")
    if len(subject) > LONGEST:
        problems.append(f"the subject has {len(subject)} characters, at most {LONGEST} are allowed")
    if subject.endswith("."):
        problems.append("the subject ends in a full stop")
    if subject[:1].islower():
        problems.append("the subject begins with a small letter")
    if subject.lower().startswith(("wip", "fixup!", "squash!")):
        problems.append("the subject is that of unfinished work")
    return problems


def main() -> int:
    """Check the file named on the command line; 1 if its subject has a problem."""
    problems = subject_problems(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for problem in problems:
        print(f"commit message: {problem}")
    return bool(problems)


if __name__ == "__main__":
    raise SystemExit(main())
