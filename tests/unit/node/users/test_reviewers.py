"""Whether enough persons may approve: the page of the node and the doctor say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.cli.node.doctor import _reviewers
from orgseg_node.node.users.accounts import Accounts
from orgseg_node.node.users.reviewers import missing_reviewers
from orgseg_node.node.users.roles import Role
from tests.support.web.pages_bench import PagesBench


@pytest.mark.parametrize(
    ("persons", "roles", "problem"),
    [
        (1, [], "none may"),
        (1, [{Role.VIEWER}, {Role.ADMINISTRATOR}], "none may"),
        (1, [{Role.REVIEWER}], ""),
        (2, [{Role.REVIEWER}, {Role.VIEWER}], "1 (p0) may"),
        (2, [{Role.REVIEWER}, {Role.PHYSICIST}], ""),
        (3, [{Role.REVIEWER, Role.PHYSICIST}, {Role.PHYSICIST}], "2 (p0, p1) may"),
    ],
)
def test_too_few_are_counted_by_their_roles(
    tmp_path: Path, persons: int, roles: list[set[Role]], problem: str
) -> None:
    bench = PagesBench(tmp_path, review={"persons": persons})
    config = bench.parts.config.config
    for number, some in enumerate(roles):
        bench.accounts.add(f"p{number}", some, "by test")
    said = missing_reviewers(config, bench.accounts.all())
    assert problem in said
    assert bool(said) == bool(problem)
    assert [one.message for one in _reviewers(config)] == ([said] if said else [])
    shown = bench.logged_in(Role.ADMINISTRATOR, name="boss").get("/node").text
    assert ("different persons have to approve" in shown) == bool(problem)


def test_without_the_pages_nobody_is_counted(tmp_path: Path) -> None:
    bench = PagesBench(tmp_path, pages={}, review={"persons": 2})
    config = bench.parts.config.config
    assert missing_reviewers(config, Accounts(bench.store.database).all()) == ""
    assert list(_reviewers(config)) == []
