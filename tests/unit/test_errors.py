"""The error tree: every error can be shown to an operator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import orgseg_node.errors
from orgseg_node.errors import ConfigError, DiskFull, EnvironmentFault, NotDicom, OrgsegError, base


def tree(root: type[OrgsegError] = OrgsegError) -> Iterator[type[OrgsegError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


DOCS = Path(__file__).parents[2] / "docs"

# the training package has errors of its own, which are loaded or not as other tests go before
EVERY = sorted(
    {kind for kind in tree() if not kind.__module__.startswith("orgseg_training.")},
    key=lambda kind: kind.__name__,
)


def test_all_errors_live_in_one_room_and_are_had_from_its_door() -> None:
    assert {kind.__module__.rpartition(".")[0] for kind in EVERY} == {"orgseg_node.errors"}
    given = {name: getattr(orgseg_node.errors, name) for name in orgseg_node.errors.__all__}
    assert {kind.__name__ for kind in EVERY} == {
        name for name, what in given.items() if isinstance(what, type)
    }
    assert all(getattr(orgseg_node.errors, kind.__name__) is kind for kind in EVERY)


def test_codes_are_unique_so_that_one_code_means_one_thing() -> None:
    codes = [kind.code for kind in EVERY]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_an_error_has_a_code_a_sentence_and_a_next_step(kind: type[OrgsegError]) -> None:
    error = kind("Detail.")
    assert re.fullmatch(r"[A-Z][A-Z0-9_]*", error.code)
    assert re.fullmatch(r"[A-Z].*\. Detail\.", error.sentence)
    assert re.fullmatch(r"[A-Z].*\.", error.next_step)
    assert str(error) == f"[{error.code}] {error.sentence}"
    assert error.exit_status in {1, 2, 3, 4}


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_a_next_step_names_only_commands_that_exist(kind: type[OrgsegError]) -> None:
    promised = set(re.findall(r"'(orgseg(?:-train)? [a-z]+(?: [a-z]+)?)", kind.next_step))
    reference = (DOCS / "cli.md").read_text() + (DOCS / "orgseg-train.md").read_text()
    known = {name for line in reference.splitlines() for name in re.findall(r"^#+ (orgseg.*)$", line)}
    assert {name for name in promised if not any(one.startswith(name) for one in known)} == set()


def test_the_tree_drawn_at_the_top_names_every_error() -> None:
    drawn = (base.__doc__ or "").split("The first line")[0]
    missing = [kind.__name__ for kind in EVERY if not re.search(rf"\b{kind.__name__}\b", drawn)]
    assert missing == []


def test_a_sentence_without_detail_ends_after_the_sentence() -> None:
    assert NotDicom().sentence == "A file is not DICOM."


def test_exit_codes_are_those_of_the_command_line() -> None:
    assert (NotDicom.exit_status, ConfigError.exit_status, EnvironmentFault.exit_status) == (1, 3, 4)


def test_a_full_disk_may_be_tried_again_and_a_wrong_file_may_not() -> None:
    assert DiskFull.retryable
    assert not NotDicom.retryable
