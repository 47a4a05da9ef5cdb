"""``orgseg users``: persons who may log in to the pages, and their roles."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from orgseg_node.cli.console import local_time, out, print_json
from orgseg_node.cli.options import By, Config, Json, Why, attribution, open_store
from orgseg_node.errors import OptionInvalid

if TYPE_CHECKING:
    from orgseg_node.node.store.store import Store
    from orgseg_node.node.users.roles import Role

app = typer.Typer(
    name="users", help="Show and change who may log in to the pages of the node.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="With which the person logs in.")]
_ROLES = "viewer, reviewer, physicist or administrator; several are separated by commas."


@app.command("list")
def list_users(config: Config, json: Json = False) -> None:
    """List the accounts, with their roles."""
    from orgseg_node.node.users.accounts import Accounts  # noqa: PLC0415  # quick start of other commands

    with closing(_store(config, read_only=True)) as store:
        found = Accounts(store.database).all()
    if json:
        print_json({"users": [{**asdict(one), "roles": sorted(one.roles)} for one in found]})
        return
    table = Table("name", "roles", "password", "changed")
    for one in found:
        has = "yes" if one.has_password else "no"
        table.add_row(one.name, ", ".join(sorted(one.roles)), has, local_time(one.updated_at))
    out().print(table)


@app.command()
def add(
    name: Name,
    config: Config,
    *,
    roles: Annotated[str, typer.Option("--roles", metavar="ROLES", help=_ROLES)] = "viewer",
    no_password: Annotated[
        bool,
        typer.Option("--no-password", help="Without a password; 'orgseg users link' opens it."),
    ] = False,
    by: By = "",
    why: Why = "",
) -> None:
    """Make an account; the password is asked for, or read from the first line of stdin."""
    from orgseg_node.node.users.accounts import Accounts  # noqa: PLC0415  # quick start of other commands

    wanted = _roles(roles)
    with closing(_store(config)) as store:
        password = "" if no_password else _new_password()
        done = Accounts(store.database).add(name, wanted, attribution(by, why), password)
    out().print(f"{done.name} may log in as {', '.join(sorted(done.roles))}.")


@app.command("roles")
def set_roles(
    name: Name,
    roles: Annotated[str, typer.Argument(metavar="ROLES", help=f"All roles from now on: {_ROLES}")],
    config: Config,
    by: By = "",
    why: Why = "",
) -> None:
    """Give an account other roles; its sessions end."""
    from orgseg_node.node.users.accounts import Accounts  # noqa: PLC0415  # quick start of other commands

    wanted = _roles(roles)
    with closing(_store(config)) as store:
        done = Accounts(store.database).set_roles(name, wanted, attribution(by, why))
    out().print(f"{done.name} is {', '.join(sorted(done.roles))}.")


@app.command()
def passwd(name: Name, config: Config, by: By = "", why: Why = "") -> None:
    """Set the password of an account; its sessions end."""
    from orgseg_node.node.users.accounts import Accounts  # noqa: PLC0415  # quick start of other commands

    with closing(_store(config)) as store:
        accounts = Accounts(store.database)
        accounts.one(name)
        accounts.set_password(name, _new_password(), attribution(by, why))
    out().print(f"{name} has a new password.")


@app.command()
def remove(name: Name, config: Config, by: By = "", why: Why = "") -> None:
    """Delete an account; its sessions end, what it did stays in the history."""
    from orgseg_node.node.users.accounts import Accounts  # noqa: PLC0415  # quick start of other commands

    with closing(_store(config)) as store:
        Accounts(store.database).remove(name, attribution(by, why))
    out().print(f"{name} may no longer log in.")


@app.command()
def link(name: Name, config: Config, by: By = "", why: Why = "") -> None:
    """Print an address with which a person can log in once, within 15 minutes."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.users.accounts import Accounts  # noqa: PLC0415

    web = load_config(config).web
    if not web.port:
        raise OptionInvalid("[web] port is not set, so there is no address.")
    with closing(_store(config)) as store:
        secret = Accounts(store.database).make_ticket(name, attribution(by, why))
    scheme = "https" if web.certificate else "http"
    host = f"[{web.host}]" if ":" in web.host else web.host
    sys.stdout.write(f"{scheme}://{host}:{web.port}/login?once={secret}\n")


def _roles(text: str) -> frozenset[Role]:
    from orgseg_node.node.users.roles import Role  # noqa: PLC0415  # quick start of other commands

    names = [part.strip().lower() for part in text.split(",") if part.strip()]
    known = {role.value for role in Role}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise OptionInvalid(f"A role is one of {', '.join(sorted(known))}.")
    return frozenset(Role(name) for name in names)


def _new_password() -> str:
    """A password, typed twice on a terminal, or the first line of stdin."""
    if sys.stdin.isatty():
        return str(typer.prompt("New password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


def _store(config: Path, *, read_only: bool = False) -> Store:
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands

    return open_store(load_config(config), read_only=read_only)
