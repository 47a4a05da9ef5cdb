"""A person who promotes versions, takes them back, and has them run in the shadow, until killed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

from orgseg_node.core.organs import load_organs
from orgseg_node.errors import OrgsegError
from orgseg_node.node.config.database import Server
from orgseg_node.node.models.version_rows import live_version
from orgseg_node.node.store.model import ModelState
from orgseg_node.shipped import shipped_config
from tests.support.node.model_bench import FAMILY
from tests.support.node.shadow_bench import Shadowed

ACKS = "commands"
"""What was acknowledged to the person, one line for each command."""

UNEXPECTED = "unexpected"
"""Errors without a code of their own."""


def operate(folder: Path, seed: int, server: Server | None = None) -> None:
    """Give commands until killed.

    Parameters
    ----------
    folder : of `Shadowed`, which exists
    seed : of the random choice of commands
    server : a PostgreSQL server instead of the SQLite file
    """
    bench = Shadowed(folder, load_organs(shipped_config("organs.toml")), server)
    chance = random.Random(seed)
    commands: list[Callable[[], str]] = [
        lambda: _promote(bench, chance, whole=True),
        lambda: _promote(bench, chance, whole=False),
        lambda: _roll_back(bench),
        lambda: _shade(bench, chance),
        lambda: _run_shadow(bench),
    ]
    while True:
        try:
            done = chance.choices(commands, (6, 2, 5, 3, 2))[0]()
        except OrgsegError as error:
            done = f"refused {error.code}"
        except Exception as error:
            with (folder / UNEXPECTED).open("a", encoding="utf-8") as stream:
                stream.write(f"{type(error).__name__}: {error}\n")
            raise
        with (folder / ACKS).open("a", encoding="utf-8") as stream:
            stream.write(f"{done}\n")
            stream.flush()
            os.fsync(stream.fileno())


def _promote(bench: Shadowed, chance: random.Random, *, whole: bool) -> str:
    """Two persons sign a promotion, or only one does."""
    live = live_version(bench.store.database, FAMILY).bundle[-1]
    wanted = chance.choice([version for version in "123" if version != live])
    gate = bench.gate(wanted, live)
    bench.sign(0, bench.proposal(wanted, gate))
    if not whole:
        return f"signed {wanted}"
    done = bench.sign(1, bench.proposal(wanted, gate))
    return f"promoted {wanted}" if done.is_live else f"signed {wanted}"


def _roll_back(bench: Shadowed) -> str:
    return f"rolled back to {bench.registry.roll_back(FAMILY, 'by A').live.bundle[-1]}"


def _shade(bench: Shadowed, chance: random.Random) -> str:
    live = live_version(bench.store.database, FAMILY).bundle[-1]
    wanted = chance.choice([version for version in "123" if version != live])
    return f"shadow {bench.registry.begin_shadow(FAMILY, bench.installed(wanted), 'by A').bundle[-1]}"


def _run_shadow(bench: Shadowed) -> str:
    shadows = [v for v in bench.registry.versions(FAMILY) if v.state is ModelState.SHADOW]
    if not shadows:
        return "no shadow"
    live = live_version(bench.store.database, FAMILY)
    bench.runner("works").run(shadows[0], live, bench.job)
    return "ran in the shadow"
