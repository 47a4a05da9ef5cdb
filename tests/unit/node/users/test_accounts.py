"""Accounts, lock-out, sessions and roles of the pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orgseg_node.errors import PasswordRefused, UnknownUser, UserInvalid
from orgseg_node.node.store.audit import Audit
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.model import Event
from orgseg_node.node.users.accounts import TICKET_MINUTES, Accounts
from orgseg_node.node.users.lockout import ALLOWED, ALLOWED_OF_ADDRESS, Lockout
from orgseg_node.node.users.passwords import check_password
from orgseg_node.node.users.roles import PERMITTED, Action, Role, is_permitted
from orgseg_node.node.users.sessions import Sessions

PASSWORD = "seven quiet otters"  # noqa: S105  # of accounts in tests
BY = "by test"


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, tzinfo=UTC)
        self.seconds = 0.0

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "db" / "node.sqlite")
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest) -> Iterator[Database]:
    if request.param == "sqlite":
        yield request.getfixturevalue("database")
        return
    opened = Database(request.getfixturevalue("postgres").new_database())
    yield opened
    opened.close()


def test_a_password_opens_its_account_only_and_is_not_stored(database: Database) -> None:
    accounts = Accounts(database)
    accounts.add("anna", {Role.VIEWER}, BY, PASSWORD)
    accounts.add("bert", {Role.REVIEWER, Role.PHYSICIST}, BY, "another long password")
    found = accounts.authenticate("anna", PASSWORD)
    assert found is not None
    assert found.roles == {Role.VIEWER}
    assert accounts.authenticate("bert", PASSWORD) is None
    assert accounts.authenticate("anna", PASSWORD.upper()) is None
    assert accounts.authenticate("nobody", PASSWORD) is None
    with database.write() as tx:
        ((stored,),) = tx.rows("SELECT password_hash FROM user_account WHERE name = 'anna'")
    assert stored.startswith("$argon2id$")
    assert PASSWORD not in stored


def test_without_a_password_no_password_opens_an_account(database: Database) -> None:
    accounts = Accounts(database)
    accounts.add("guest", {Role.VIEWER}, BY)
    assert accounts.authenticate("guest", "") is None
    assert accounts.authenticate("guest", "no account has this password") is None


@pytest.mark.parametrize(
    "password", ["short", "aaaaaaaaaaaaaaaa", "Anna-and-the-sea", "abcabcabcabcabc", "x" * 201, ""]
)
def test_a_password_that_is_easily_guessed_is_refused(password: str) -> None:
    with pytest.raises(PasswordRefused):
        check_password(password, "anna")


@pytest.mark.parametrize("name", ["", " anna", "a b", "a" * 65, "<script>", "anna\n", "-anna"])
def test_a_name_that_could_be_mistaken_is_refused(database: Database, name: str) -> None:
    with pytest.raises(UserInvalid):
        Accounts(database).add(name, {Role.VIEWER}, BY)


def test_one_person_has_one_account_and_at_least_one_role(database: Database) -> None:
    accounts = Accounts(database)
    accounts.add("anna", {Role.VIEWER}, BY)
    with pytest.raises(UserInvalid, match="already"):
        accounts.add("Anna", {Role.VIEWER}, BY)
    with pytest.raises(UserInvalid, match="role"):
        accounts.set_roles("anna", set(), BY)


def test_a_one_time_address_works_once_and_for_some_minutes(either: Database) -> None:
    clock = Clock()
    accounts = Accounts(either, clock=clock)
    accounts.add("anna", {Role.VIEWER}, BY)
    ticket, other = accounts.make_ticket("anna", BY), accounts.make_ticket("anna", BY)
    assert accounts.use_ticket(ticket + "x") is None
    found = accounts.use_ticket(ticket)
    assert found is not None
    assert found.name == "anna"
    assert accounts.use_ticket(ticket) is None
    clock.now += timedelta(minutes=TICKET_MINUTES, seconds=1)
    assert accounts.use_ticket(other) is None


def test_a_change_ends_sessions_and_open_one_time_addresses(either: Database) -> None:
    accounts = Accounts(either)
    before = accounts.add("anna", {Role.VIEWER}, BY)
    ticket = accounts.make_ticket("anna", BY)
    after = accounts.set_roles("anna", {Role.PHYSICIST}, BY)
    assert after.revision == before.revision + 1
    assert accounts.use_ticket(ticket) is None
    accounts.remove("anna", BY)
    with pytest.raises(UnknownUser):
        accounts.one("anna")


def test_every_change_is_in_the_sealed_history_without_a_secret(either: Database) -> None:
    accounts = Accounts(either)
    accounts.add("anna", {Role.VIEWER}, BY, PASSWORD)
    accounts.set_roles("anna", {Role.VIEWER, Role.PHYSICIST}, BY)
    accounts.set_password("anna", "a new long password", BY)
    ticket = accounts.make_ticket("anna", BY)
    accounts.remove("anna", BY)
    events = either.read(Event, "SELECT * FROM event WHERE kind = 'user' ORDER BY number")
    assert [event.change for event in events] == ["added", "roles", "password", "one-time address", "removed"]
    assert events[1].note == f"viewer,physicist; {BY}"
    text = " ".join(event.note for event in events)
    assert not any(secret in text for secret in (PASSWORD, "a new long password", ticket))
    audit = Audit(either)
    assert audit.seal() >= len(events)
    audit.verify()


def test_a_name_waits_after_wrong_passwords_and_longer_each_time() -> None:
    clock = Clock()
    lockout = Lockout(clock.monotonic)
    waits = [lockout.attempt("anna", "10.0.0.1") for _ in range(ALLOWED)]
    assert waits == [False] * (ALLOWED - 1) + [True]
    first = lockout.wait_s("anna", "10.0.0.9")
    assert first > 0, "from wherever"
    assert lockout.wait_s("ANNA", "10.0.0.9") == first, "capitals are no other name"
    assert lockout.wait_s("bert", "10.0.0.1") == 0
    clock.seconds += first
    assert lockout.wait_s("anna", "10.0.0.1") == 0
    assert lockout.attempt("anna", "10.0.0.1")
    assert lockout.wait_s("anna", "10.0.0.1") == 2 * first
    lockout.succeeded("anna", "10.0.0.1")
    assert lockout.wait_s("anna", "10.0.0.1") == 0


def test_an_address_that_tries_many_names_waits_too() -> None:
    lockout = Lockout(Clock().monotonic)
    for number in range(ALLOWED_OF_ADDRESS):
        assert lockout.wait_s(f"name{number}", "10.0.0.1") == 0
        lockout.attempt(f"name{number}", "10.0.0.1")
    assert lockout.wait_s("another", "10.0.0.1") > 0
    assert lockout.wait_s("another", "10.0.0.2") == 0


def test_a_session_ends_when_nobody_does_anything_and_after_its_longest_time(tmp_path: Path) -> None:
    clock = Clock()
    with closing(Database(tmp_path / "db" / "node.sqlite")) as database:
        account = Accounts(database).add("anna", {Role.VIEWER}, BY)
    sessions = Sessions(100.0, 250.0, clock.monotonic)
    token = sessions.begin(account)
    assert sessions.find("") is None
    assert sessions.find(token + "x") is None
    clock.seconds = 90
    assert sessions.find(token) is not None
    clock.seconds = 180
    assert sessions.find(token, is_person=False) is not None
    clock.seconds = 191
    assert sessions.find(token) is None, "a page that refreshes itself keeps no session open"
    again = sessions.begin(account)
    for clock.seconds in (250, 340, 430):
        assert sessions.find(again) is not None
    clock.seconds = 445
    assert sessions.find(again) is None, "after its longest time"


def test_one_person_has_a_bounded_number_of_sessions(tmp_path: Path) -> None:
    clock = Clock()
    with closing(Database(tmp_path / "db" / "node.sqlite")) as database:
        account = Accounts(database).add("anna", {Role.VIEWER}, BY)
    sessions = Sessions(1e9, 1e9, clock.monotonic)
    tokens = []
    for clock.seconds in range(12):
        tokens.append(sessions.begin(account))
    assert [sessions.find(token) is not None for token in tokens] == [False] * 2 + [True] * 10


def test_every_action_is_somebodys_and_an_administrator_sees_no_patient() -> None:
    assert set(PERMITTED) == set(Action)
    assert all(PERMITTED.values())
    assert not is_permitted({Role.ADMINISTRATOR}, Action.SEE_PATIENTS)
    assert not is_permitted({Role.VIEWER}, Action.REVIEW)
    assert not is_permitted({Role.REVIEWER}, Action.DECIDE_SERIES)
    assert is_permitted({Role.ADMINISTRATOR, Role.REVIEWER}, Action.REVIEW)
    assert not any(is_permitted(set(), action) for action in Action)
