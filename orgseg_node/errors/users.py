"""Accounts of the pages."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


class UserError(OrgsegError):
    """The command on an account was refused."""

    code = "USER"
    next_step = "Run 'orgseg users list' for the accounts and their roles."


class UnknownUser(UserError):
    """There is no such account."""

    code = "USER_UNKNOWN"


class UserInvalid(UserError):
    """The account cannot be made or changed like this."""

    code = "USER_INVALID"


class PasswordRefused(UserError):
    """The password is easily guessed."""

    code = "USER_PASSWORD"
    next_step = "Choose a longer one, such as four words that have nothing to do with each other."


class RoleMissing(UserError):
    """The roles of this account do not allow this."""

    code = "USER_ROLE"
    next_step = "Ask an administrator of the node, who can change the roles with 'orgseg users roles'."
