"""The services of deploy/compose on bare ports of this machine: no containers, the same configuration files.

Orthanc as PACS, Orthanc as TPS, PostgreSQL (a throw-away cluster), the receiver and the worker are started
as processes of their own. A CT is stored in the PACS, which sends it on by itself; the run ends when the
TPS holds the structure set of that very CT. With ``--database sqlite`` the node is one process without
PostgreSQL. Needs the programs that ``deploy/install-peers.sh`` installs, and orgseg in the environment of
the Python that runs it.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tomli_w

COMPOSE: Final = Path(__file__).resolve().parents[1] / "compose"
ORGSEG: Final = [sys.executable, "-m", "orgseg_node.cli"]
USER: Final = "postgres"  # PostgreSQL refuses to run as root
START_S: Final = 60.0


class Failed(Exception):
    """The run cannot go on; the sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """A free port for everything that listens."""

    node: int
    web: tuple[int, int]
    pacs: int
    pacs_http: int
    tps: int
    tps_http: int
    database: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An Orthanc that runs here, asked by REST with the password of its configuration."""

    http: int
    settings: dict[str, Any]

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """What it answers, as JSON."""
        data = None if body is None else json.dumps(body).encode()
        ((name, password),) = self.settings["RegisteredUsers"].items()
        token = base64.b64encode(f"{name}:{password}".encode()).decode()
        url = f"http://127.0.0.1:{self.http}{path}"
        request = urllib.request.Request(url, data, {"Authorization": f"Basic {token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            self.ask("/system")
        except OSError:
            return False
        return True

    def series(self, modality: str) -> list[str]:
        """Its own names of the series of a modality."""
        found: list[str] = self.ask("/tools/find", {"Level": "Series", "Query": {"Modality": modality}})
        return found


def main() -> int:
    """Run it once; 0 if the contours arrived."""
    options = _options()
    folder = Path(options.out or tempfile.mkdtemp(prefix="orgseg-bare-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _run(folder, options)
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        _say(f"FAILED: {error}")
        _say(f"Logs are in {folder}")
        return 1
    if not (options.keep or options.out):
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="postgresql")
    parser.add_argument(
        "--ct", type=Path, help="folder of a CT series; without it, the demonstration patient"
    )
    parser.add_argument("--out", type=Path, help="folder for data and logs, which are kept; must be empty")
    parser.add_argument("--keep", action="store_true", help="keep data and logs in a temporary folder")
    parser.add_argument("--limit-s", type=float, default=900.0, help="how long the contours may take")
    return parser.parse_args()


def _run(folder: Path, options: argparse.Namespace) -> None:
    ct = options.ct or _demonstration()
    ports = Ports(**_free_ports())
    pacs = _archive(folder, "pacs", ports.pacs, ports.pacs_http, ports.node)
    tps = _archive(folder, "tps", ports.tps, ports.tps_http, ports.node)
    configs = _configurations(folder, ports, options.database)
    with contextlib.ExitStack() as stack:
        for name, archive in (("pacs", pacs), ("tps", tps)):
            process = stack.enter_context(_process(folder, name, [_orthanc(), str(folder / f"{name}.json")]))
            _await(archive.answers, START_S, f"{name} answers", process)
        if options.database == "postgresql":
            stack.enter_context(_postgresql(folder, ports.database))
        for part, config in configs.items():
            only = [] if part == "node" else ["--only", part]
            command = [*ORGSEG, "node", "run", "--config", str(config), *only]
            process = stack.enter_context(_process(folder, part, command))
            if part != "worker":
                _await(lambda: _listens(ports.node), START_S, f"{part} listens", process)
            _say(f"{part} runs as process {process.pid}")
        begun = time.monotonic()
        here = f"PACS@127.0.0.1:{ports.pacs}"
        subprocess.run([*ORGSEG, "send", here, str(ct), "--calling-ae", "CT_SCANNER"], check=True)
        _await(lambda: tps.series("RTSTRUCT"), options.limit_s, "the TPS holds a structure set", process)
        _await(lambda: pacs.series("SEG"), 60.0, "the PACS holds the segmentation", process)
        _tell(tps, pacs, time.monotonic() - begun)


def _tell(tps: Archive, pacs: Archive, seconds: float) -> None:
    """Say what arrived, after a look at whose it is.

    Raises
    ------
    Failed
        If it is not of the CT that the PACS holds, or did not arrive once.
    """
    (structures,) = tps.series("RTSTRUCT")
    instances = tps.ask(f"/series/{structures}")["Instances"]
    if len(instances) != 1:
        raise Failed(f"{len(instances)} structure sets arrived.")
    tags = tps.ask(f"/instances/{instances[0]}/tags?simplify")
    frame = tags["ReferencedFrameOfReferenceSequence"][0]
    referenced = frame["RTReferencedStudySequence"][0]["RTReferencedSeriesSequence"][0]["SeriesInstanceUID"]
    (sent,) = [pacs.ask(f"/series/{one}")["MainDicomTags"]["SeriesInstanceUID"] for one in pacs.series("CT")]
    if referenced != sent:
        raise Failed("The structure set refers to another series.")
    _say(
        f"{len(tags['StructureSetROISequence'])} structures at the TPS {seconds:.0f} s after the CT was sent"
    )


# ---------------------------------------------------------------------- configuration


def _configurations(folder: Path, ports: Ports, database: str) -> dict[str, Path]:
    """The configuration of compose with the places of this machine, one file for each process."""
    parts = ["node"] if database == "sqlite" else ["receiver", "worker"]
    found = {}
    for number, part in enumerate(parts):
        document = tomllib.loads((COMPOSE / "node.toml").read_text(encoding="utf-8"))
        document["node"] |= {"host": "127.0.0.1", "port": ports.node, "data_dir": str(folder / "data")}
        document["receiver"] |= {"quiet_seconds": 1.0, "min_free_mb": 500}
        document["web"] = {"host": "127.0.0.1", "port": ports.web[number]}
        for peer in document["peers"]:
            peer["networks"] = ["127.0.0.0/8"]
        for place in document["destinations"].values():
            place |= {"host": "127.0.0.1", "port": {"tps": ports.tps, "pacs": ports.pacs}[place["host"]]}
        if database == "sqlite":
            del document["database"]
        else:
            password = folder / "database-password"
            if not password.exists():
                password.touch(mode=0o600)
                password.write_text(secrets.token_hex(24), encoding="utf-8")
            url = f"postgresql://{USER}@127.0.0.1:{ports.database}/postgres"
            document["database"] = {"url": url, "password_file": str(password)}
        found[part] = folder / f"{part}.toml"
        found[part].write_text(tomli_w.dumps(_known(document)), encoding="utf-8")
    return found


def _known(document: dict[str, Any]) -> dict[str, Any]:
    """The sections that the installed node knows: one without a web port is run without it."""
    from orgseg_node.node.config.node_config import NodeConfig  # noqa: PLC0415  # only once options are read

    return {name: section for name, section in document.items() if name in NodeConfig.model_fields}


def _archive(folder: Path, name: str, dicom: int, http: int, node: int) -> Archive:
    """The configuration of an Orthanc of compose with the places of this machine."""
    settings = json.loads((COMPOSE / f"orthanc-{name}.json").read_text(encoding="utf-8"))
    storage = str(folder / f"{name}-storage")
    settings |= {"DicomPort": dicom, "HttpPort": http, "StableAge": 2, "RemoteAccessAllowed": False}
    settings |= {"StorageDirectory": storage, "IndexDirectory": storage}
    if "LuaScripts" in settings:
        settings["LuaScripts"] = [str(COMPOSE / Path(script).name) for script in settings["LuaScripts"]]
        settings["DicomModalities"] = {
            key: [title, "127.0.0.1", node] for key, (title, _, _) in settings["DicomModalities"].items()
        }
    (folder / f"{name}.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    return Archive(http=http, settings=settings)


def _demonstration() -> Path:
    from orgseg_node.cli.ct.demo_patient import demo_ct  # noqa: PLC0415  # only once options are read

    return demo_ct()


# ---------------------------------------------------------------------- processes


@contextlib.contextmanager
def _postgresql(folder: Path, port: int) -> Iterator[None]:
    """A cluster of its own that is gone after the block, with the password of the folder."""
    programs = _postgresql_programs()
    home = Path(tempfile.mkdtemp(prefix="orgseg-pg-"))
    password = home / "password"
    shutil.copy(folder / "database-password", password)
    owner: dict[str, Any] = {}
    if os.geteuid() == 0:
        entry = pwd.getpwnam(USER)
        owner = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        for path in (home, password):
            os.chown(path, entry.pw_uid, entry.pw_gid)
    try:
        data = str(home / "data")
        make = [f"{programs}/initdb", "-D", data, "-U", USER, "--auth=scram-sha-256", f"--pwfile={password}"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=home, **owner)
        command = [f"{programs}/postgres", "-D", data, "-p", str(port), "-k", str(home), "-h", "127.0.0.1"]
        with _process(folder, "postgresql", command, cwd=home, **owner) as process:
            _await(lambda: _listens(port), START_S, "PostgreSQL listens", process)
            yield
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _postgresql_programs() -> Path:
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not places:
        raise Failed("PostgreSQL is not installed.")
    return places[-1]


def _orthanc() -> str:
    found = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise Failed("Orthanc is not installed.")
    return found


@contextlib.contextmanager
def _process(folder: Path, name: str, command: list[str], **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process with its log in the folder; ended in order after the block, or else killed."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **more)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(what: Callable[[], object], seconds: float, name: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + seconds
    while not what():
        if process.poll() is not None:
            raise Failed(f"A process ended with {process.returncode} before {name}.")
        if time.monotonic() > end:
            raise Failed(f"Not within {seconds:.0f} s: {name}.")
        time.sleep(0.2)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_ports() -> dict[str, Any]:
    """A free port for each field of `Ports`; all are held until all are found."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(8)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = [int(probe.getsockname()[1]) for probe in probes]
    names = ("node", "pacs", "pacs_http", "tps", "tps_http", "database")
    return {"web": (ports[6], ports[7]), **dict(zip(names, ports, strict=False))}


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
