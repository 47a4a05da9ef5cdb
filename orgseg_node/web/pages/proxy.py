"""Who a reverse proxy says that a person is; everybody else who says it is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.requests import Request

from orgseg_node.errors import RoleMissing, UnknownUser, UserInvalid
from orgseg_node.node.config.pages import ProxySection
from orgseg_node.node.users.accounts import Account, Accounts
from orgseg_node.node.users.roles import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxiedPerson:
    """What the proxy says of a person.

    Attributes
    ----------
    name : of the account
    roles : of the groups of the person; None if roles are those of the account
    """

    name: str
    roles: frozenset[Role] | None


def is_spoofed(proxy: ProxySection | None, request: Request) -> bool:
    """Whether a request says who the person is without coming from the proxy, or says it several times."""
    if proxy is None:
        return False
    names = [name for name in (proxy.header, proxy.groups_header) if name]
    counts = [len(request.headers.getlist(name)) for name in names]
    if not any(counts):
        return False
    return not _is_from(proxy, request) or max(counts) > 1


def proxied_person(proxy: ProxySection | None, request: Request) -> ProxiedPerson | None:
    """Who the proxy says that the person is; None if it says nothing, or the request is not from it."""
    if proxy is None or not _is_from(proxy, request):
        return None
    name = request.headers.get(proxy.header, "").strip()
    if not name:
        return None
    if not proxy.groups_header:
        return ProxiedPerson(name=name, roles=None)
    groups = {one.strip() for one in re.split("[,|]", request.headers.get(proxy.groups_header, ""))}
    roles = frozenset(Role(role) for group in groups for role in proxy.roles.get(group, ()))
    return ProxiedPerson(name=name, roles=roles)


def account_of(accounts: Accounts, person: ProxiedPerson) -> Account:
    """The account of a person; made, or given the roles of the groups, where groups have roles.

    Raises
    ------
    UnknownUser
        If there is none, and groups have no roles.
    RoleMissing
        If none of the person's groups has a role.
    UserInvalid
        If the name cannot be the name of an account.
    """
    if person.roles is None:
        return accounts.one(person.name)
    if not person.roles:
        raise RoleMissing("None of the groups that the proxy states has a role.")
    note = "by the groups that the proxy states"
    try:
        found = accounts.one(person.name)
    except UnknownUser:
        return accounts.add(person.name, person.roles, note)
    if found.roles == person.roles:
        return found
    return accounts.set_roles(person.name, person.roles, note)


def is_same_person(person: ProxiedPerson | None, account: Account) -> bool:
    """Whether the proxy still says that the person is the one of an account, with the same roles."""
    if person is None or person.name != account.name:
        return False
    return person.roles is None or person.roles == account.roles


REFUSALS = (UnknownUser, RoleMissing, UserInvalid)
"""Why a person whom the proxy knows is not let in."""


def _is_from(proxy: ProxySection, request: Request) -> bool:
    return request.client is not None and proxy.is_proxy(request.client.host)
