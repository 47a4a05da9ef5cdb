"""What the commit hook lets through."""

from __future__ import annotations

import pytest

from tools.commit_subject import subject_problems


@pytest.mark.parametrize("subject", ["Hold a series whose association broke", "A" * 72])
def test_a_plain_subject_passes(subject: str) -> None:
    assert subject_problems(f"{subject}\n\nWhy.") == []


@pytest.mark.parametrize(
    "message", ["", "A" * 73, "Mend it.", "mend it", "WIP: mend it", "Fixup! Mend it", "fixup! Mend it"]
)
def test_others_are_refused(message: str) -> None:
    assert subject_problems(message)
