"""A person who promotes versions, takes them back, and has them run in the shadow, until killed.

``python -m`` this module ``FOLDER SEED NODE.toml``: beside a running node, with a pause between two commands.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from orgseg_node.core.organs import load_organs
from orgseg_node.errors import OrgsegError
from orgseg_node.node.config.database import Server
from orgseg_node.node.config.load import load_config
from orgseg_node.node.models.version_rows import live_version
from orgseg_node.node.store.model import ModelState
from orgseg_node.shipped import shipped_config
from tests.support.node.model_bench import FAMILY, ModelBench
from tests.support.node.shadow_bench import Shadowed

ACKS = "commands"
"""What was acknowledged to the person, one line for each command."""

UNEXPECTED = "unexpected"
"""Errors without a code of their own."""


def operate(folder: Path, seed: int, server: Server | None = None) -> None:
    """Give commands until killed, and run the version in the shadow as well.

    Parameters
    ----------
    folder : of `Shadowed`, which exists
    seed : of the random choice of commands
    server : a PostgreSQL server instead of the SQLite file
    """
    bench = Shadowed(folder, load_organs(shipped_config("organs.toml")), server)
    _give_commands(bench, folder, random.Random(seed), (lambda: _run_shadow(bench),), pause_s=0.0)


def _give_commands(
    bench: ModelBench,
    folder: Path,
    chance: random.Random,
    more: tuple[Callable[[], str], ...],
    *,
    pause_s: float,
) -> None:
    commands: list[Callable[[], str]] = [
        lambda: _promote(bench, chance, whole=True),
        lambda: _promote(bench, chance, whole=False),
        lambda: _roll_back(bench),
        lambda: _shade(bench, chance),
        *more,
    ]
    weights = (6, 2, 5, 3, 2)[: len(commands)]
    while True:
        time.sleep(chance.uniform(0, pause_s))
        try:
            done = chance.choices(commands, weights)[0]()
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


def _promote(bench: ModelBench, chance: random.Random, *, whole: bool) -> str:
    """Two persons sign a promotion, or only one does."""
    live = live_version(bench.store.database, FAMILY).bundle[-1]
    wanted = chance.choice([version for version in "123" if version != live])
    gate = bench.gate(wanted, live)
    bench.sign(0, bench.proposal(wanted, gate))
    if not whole:
        return f"signed {wanted}"
    done = bench.sign(1, bench.proposal(wanted, gate))
    return f"promoted {wanted}" if done.is_live else f"signed {wanted}"


def _roll_back(bench: ModelBench) -> str:
    return f"rolled back to {bench.registry.roll_back(FAMILY, 'by A').live.bundle[-1]}"


def _shade(bench: ModelBench, chance: random.Random) -> str:
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


if __name__ == "__main__":
    place = load_config(Path(sys.argv[3])).database_location
    _give_commands(
        ModelBench(Path(sys.argv[1]), server=place if isinstance(place, Server) else None),
        Path(sys.argv[1]),
        random.Random(f"{sys.argv[2]} {os.getpid()}"),
        (),
        pause_s=2.0,
    )
