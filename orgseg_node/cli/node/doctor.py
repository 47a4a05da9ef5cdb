"""``orgseg doctor``: check whether the node can run on this machine."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from orgseg_node.cli.console import COLORS, CONFIGURATION, ENVIRONMENT, FAILED, OK, out, print_json
from orgseg_node.cli.options import Json
from orgseg_node.errors import OrgsegError
from orgseg_node.shipped import bundle_folders

if TYPE_CHECKING:
    from orgseg_node.inference.bundles.bundle import ModelBundle
    from orgseg_node.node.config.node_config import NodeConfig
    from orgseg_node.node.store.database import Database

_MIN_FREE_GB = 5.0
_OLDEST_PYTHON = (3, 11)
_ANY = ("0.0.0.0", "::", "")  # noqa: S104  # compared with, not listened on

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The result of one check.

    Attributes
    ----------
    name : what was checked
    level : ``info`` is good, ``warning`` should be known, ``error`` must be corrected
    message : what was found
    exit_code : exit code of the command if the level is ``error``
    """

    name: str
    level: Level
    message: str
    exit_code: int = ENVIRONMENT


def doctor(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="Also check what the node with this configuration needs.", dir_okay=False
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Check Python, packages, GPU, disk, ports, bundles and destinations.

    The exit code is that of the worst error: 4 for the machine, 3 for the configuration, 1 for anything else.
    Warnings alone give 0.
    """
    checks = list(examine(config))
    if json:
        print_json([asdict(check) for check in checks])
    else:
        console = out()
        for check in checks:
            word = "ok" if check.level == "info" else check.level
            console.print(f"[{COLORS[check.level]}]{word:8}[/]{check.name}: {escape(check.message)}")
    errors = [check.exit_code for check in checks if check.level == "error"]
    raise typer.Exit(max(errors, default=OK))


def examine(config: Path | None) -> Iterator[Check]:
    """Do all checks in order."""
    yield _python()
    yield from _packages()
    yield _gpu()
    yield _sandbox()
    if config is None:
        yield from _bundles(bundle_folders())
        yield _disk(Path.cwd(), _MIN_FREE_GB)
        return
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # pydantic only when needed

    try:
        settings = load_config(config)
    except OrgsegError as error:
        yield _failed("configuration", error, CONFIGURATION)
        return
    yield Check(name="configuration", level="info", message=f"{config.name} is correct")
    from orgseg_node.node.routing.warnings import config_warnings  # noqa: PLC0415  # pydicom only when needed

    for warning in config_warnings(settings):
        yield Check(name="configuration", level="warning", message=warning)
    yield from _node(settings)


def _node(settings: NodeConfig) -> Iterator[Check]:
    """What a configured node needs: its bundles, disk, port and destinations."""
    from orgseg_node.inference.bundles.bundle import verify_bundle  # noqa: PLC0415  # only when needed
    from orgseg_node.node.delivery.sender import AnySender  # noqa: PLC0415  # network only when needed
    from orgseg_node.node.models.alias import find_named  # noqa: PLC0415  # only when needed

    for name in settings.inference.bundles:
        find = partial(find_named, settings, name)
        yield _try(f"bundle {name}", FAILED, "verified", partial(_verify, find, verify_bundle))
        mode = settings.inference.backend
        if mode != "exact":
            check = partial(_require_calibration, find, mode, settings.inference.device)
            yield _try(f"{mode} mode {name}", FAILED, "calibrated", check)
    yield _database(settings)
    yield from _tasks(settings)
    yield from _reviewers(settings)
    yield _disk(settings.node.data_dir, max(_MIN_FREE_GB, settings.receiver.min_free_mb / 1000))
    yield _port(settings)
    yield from _certificates(settings)
    for name, destination in settings.destinations.items():
        calling = settings.calling_ae_for(destination)
        ask = partial(AnySender().check, destination, calling, seg=settings.contours.seg)
        yield _try(f"destination {name}", FAILED, "answers", ask)


def _verify(find: Callable[[], ModelBundle], verify: Callable[[ModelBundle], None]) -> None:
    verify(find())


def _require_calibration(find: Callable[[], ModelBundle], backend: str, device: str) -> None:
    """Raise the error that the node would for a bundle that is to run fast or compiled."""
    from orgseg_node.inference.loading import require_calibrated  # noqa: PLC0415  # only when needed

    require_calibrated(find(), backend, device)


def _database(settings: NodeConfig) -> Check:
    """Whether the database answers; an SQLite file may not exist yet."""
    from orgseg_node.node.config.database import Server, describe  # noqa: PLC0415  # pydantic only when needed
    from orgseg_node.node.store.database import Database  # noqa: PLC0415

    place = settings.database_location
    if not isinstance(place, Server):
        if not place.exists():
            return Check(
                name="database", level="info", message=f"{describe(place)}; created when the node starts"
            )
        open_and_close = partial(_open_database, partial(Database, place, read_only=True))
        return _try("database", ENVIRONMENT, f"{describe(place)}, answers", open_and_close)
    from orgseg_node.node.store.drivers.postgres import durable  # noqa: PLC0415  # psycopg only when needed

    try:
        safe = durable(place)
    except OrgsegError as error:
        return _failed("database", error, ENVIRONMENT)
    if not safe:
        message = f"{describe(place)}: fsync is off; acknowledged images may be lost in a power failure"
        return Check(name="database", level="error", message=message)
    return Check(name="database", level="info", message=f"{describe(place)}, answers")


def _tasks(settings: NodeConfig) -> Iterator[Check]:
    """Periodic tasks of the running node that fail again and again."""
    from orgseg_node.node.config.database import Server  # noqa: PLC0415  # pydantic only when needed
    from orgseg_node.node.monitoring.failing_tasks import failing_tasks  # noqa: PLC0415
    from orgseg_node.node.store.clock import utc_now  # noqa: PLC0415
    from orgseg_node.node.store.database import Database  # noqa: PLC0415

    place = settings.database_location
    if not isinstance(place, Server) and not place.exists():
        return
    try:
        database = Database(place, read_only=True)
        try:
            found = failing_tasks(database, utc_now())
        finally:
            database.close()
    except OrgsegError:
        return  # the check of the database reports it; one of an earlier version has no such table
    for task in found:
        message = f"failed {task.times} times: {task.code} {task.detail}"
        yield Check(
            name=f"task {task.task} of {task.process}", level="error", message=message, exit_code=FAILED
        )


def _reviewers(settings: NodeConfig) -> Iterator[Check]:
    """Whether enough accounts may approve what waits for a person."""
    from orgseg_node.node.config.database import Server  # noqa: PLC0415  # pydantic only when needed
    from orgseg_node.node.store.database import Database  # noqa: PLC0415
    from orgseg_node.node.users.accounts import Accounts  # noqa: PLC0415  # argon2 only when needed
    from orgseg_node.node.users.reviewers import missing_reviewers  # noqa: PLC0415

    place = settings.database_location
    if not settings.pages.enabled or (not isinstance(place, Server) and not place.exists()):
        return
    try:
        with closing(Database(place, read_only=True)) as database:
            problem = missing_reviewers(settings, Accounts(database).all())
    except OrgsegError:
        return  # the check of the database reports it; one of an earlier version has no such table
    if problem:
        yield Check(name="review", level="warning", message=problem)


def _open_database(open_database: Callable[[], Database]) -> None:
    open_database().close()


def _port(settings: NodeConfig) -> Check:
    """Whether the port of the node is free, or the node itself answers on it."""
    from orgseg_node.node.config.node_config import Destination  # noqa: PLC0415  # pydantic only when needed
    from orgseg_node.node.dimse.storage_scu import DicomSender  # noqa: PLC0415  # network only when needed

    node = settings.node
    if not settings.tls.plain_open:
        return Check(name="port", level="info", message="closed; senders use the port with TLS")
    if node.port == 0:
        return Check(name="port", level="info", message="any free one")
    family = socket.AF_INET6 if ":" in node.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((node.host, node.port))
        except PermissionError:
            return Check(name="port", level="error", message=f"{node.port} is not allowed to this user")
        except OSError:
            taken = True
        else:
            taken = False
    if not taken:
        return Check(name="port", level="info", message=f"{node.port} is free")
    host = "127.0.0.1" if node.host in _ANY else node.host
    myself = Destination(ae_title=node.ae_title, host=host, port=node.port, timeout_s=5)
    peer = settings.peers[0].ae_title if settings.peers else node.ae_title
    running = Check(name="port", level="info", message=f"{node.port}: this node is running")
    check = _try("port", ENVIRONMENT, running.message, partial(DicomSender().echo, myself, peer))
    if check.level == "info":
        return check
    return Check(name="port", level="error", message=f"{node.port} is in use by another program")


def _certificates(settings: NodeConfig) -> Iterator[Check]:
    """Whether a certificate of the node has expired or will expire soon."""
    from orgseg_node.node.config.node_config import Destination  # noqa: PLC0415  # pydantic only when needed
    from orgseg_node.node.tls.context import WARN_BEFORE, certificate_end  # noqa: PLC0415  # network only when needed

    called = [one for one in settings.destinations.values() if isinstance(one, Destination)]
    shown = (settings.tls.identity, *(one.identity for one in called if one.tls))
    for path in dict.fromkeys(identity.certificate for identity in shown if identity is not None):
        left = certificate_end(path) - datetime.now(UTC)
        level: Level = "info" if left > WARN_BEFORE else "warning" if left > timedelta() else "error"
        message = f"ends in {left.days} days" if left > timedelta() else "has expired"
        yield Check(name=f"certificate {path.name}", level=level, message=message, exit_code=FAILED)


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    fit = sys.version_info[:2] >= _OLDEST_PYTHON
    return Check(name="python", level="info" if fit else "error", message=version)


def _packages() -> Iterator[Check]:
    """Whether all required packages are installed; none is imported."""
    try:
        required = importlib.metadata.requires("orgseg-node") or []
    except importlib.metadata.PackageNotFoundError:
        yield Check(name="packages", level="error", message="orgseg-node is not installed")
        return
    names = [re.split(r"[\s<>=!~;\[(]", line, maxsplit=1)[0] for line in required if "extra ==" not in line]
    missing = [name for name in names if _version_of(name) is None]
    if missing:
        yield Check(name="packages", level="error", message=f"not installed: {', '.join(missing)}")
    else:
        yield Check(name="packages", level="info", message=f"{len(names)} installed")
    yield Check(
        name="torch",
        level="info" if _version_of("torch") else "error",
        message=_version_of("torch") or "not installed",
    )


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _gpu() -> Check:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Check(name="gpu", level="info", message="no NVIDIA driver; the network runs on the CPU")
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return Check(name="gpu", level="warning", message="nvidia-smi is there but does not answer")
    gpus = "; ".join(answer.stdout.strip().splitlines())
    if "+cpu" in (_version_of("torch") or ""):
        message = f"{gpus}; but torch is the CPU build"
        return Check(name="gpu", level="warning", message=message)
    return Check(name="gpu", level="info", message=gpus)


def _sandbox() -> Check:
    """How checkpoints from outside are kept apart while they are converted."""
    from orgseg_node.inference.bundles.sandbox import Sandbox, find_sandbox  # noqa: PLC0415  # quick start

    found = find_sandbox()
    level: Level = "warning" if found == Sandbox.LIMITS else "info"
    return Check(
        name="import of models", level=level, message=f"checkpoints are converted {found.description}"
    )


def _disk(folder: Path, wanted_gb: float) -> Check:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free / 1e9
    level: Level = "info" if free >= wanted_gb else "error"
    return Check(name="disk", level=level, message=f"{free:.1f} GB free, {wanted_gb:g} GB wanted")


def _bundles(folders: tuple[Path, ...]) -> Iterator[Check]:
    from orgseg_node.inference.bundles.bundle import broken_bundles, list_bundles, verify_bundle  # noqa: PLC0415  # quick start

    for folder, error in broken_bundles(folders):
        yield _failed(f"bundle {folder.name}", error, FAILED)
    bundles = list_bundles(folders)
    if not bundles:
        yield Check(name="bundles", level="error", message="there is no model bundle")
    for bundle in bundles:
        name = f"bundle {bundle.manifest.name}"
        done = f"verified, {len(bundle.manifest.organs)} organs"
        yield _try(name, FAILED, done, partial(verify_bundle, bundle))


def _try(name: str, exit_code: int, done: str, action: Callable[[], object]) -> Check:
    try:
        action()
    except OrgsegError as error:
        return _failed(name, error, exit_code)
    return Check(name=name, level="info", message=done)


def _failed(name: str, error: OrgsegError, exit_code: int) -> Check:
    message = f"{error.code}: {error.sentence} Next step: {error.next_step}"
    return Check(name=name, level="error", message=message, exit_code=exit_code)
