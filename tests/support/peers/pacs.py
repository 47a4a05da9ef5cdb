"""What archives hold in the tests of queries and pulls, and who receives from them."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import JPEGLSLossless

from orgseg_node.node.config.node_config import NodeConfig, NodeSection, ReceiverSection
from orgseg_node.node.dimse.archive_scp import STORAGE_CLASSES, FolderArchive
from orgseg_node.node.dimse.storage_scp import Receiver
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.peers.orthanc import Orthanc

LOTTA = "\u00c5str\u00f6m^Lotta"
NAMES = ("strom", "str\u00f6m", "Lotta", "Other^Patient")
SLICES = 5
SMALL = {"slices": SLICES, "rows": 32, "columns": 32}


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the archives hold: two series of one patient, one study of another, compressed."""

    files: tuple[Path, ...]
    first: Dataset
    second: Dataset
    other: Dataset


def _series(folder: Path, name: str, **options: Any) -> list[Path]:
    return build_ct_series(folder / name, PhantomOptions(**SMALL, **options))


def hold(folder: Path) -> Held:
    """Write what the archives hold."""
    lotta: dict[str, Any] = {
        "patient_name": LOTTA,
        "patient_id": "PAT-1",
        "character_set": "ISO_IR 100",
        "study": "lotta",
        "attributes": {"AccessionNumber": "ACC-1", "StudyDate": "20260105"},
    }
    first = _series(folder, "first", series="first", **lotta)
    second = _series(folder, "second", series="second", **lotta)
    other = _series(
        folder,
        "other",
        patient_name="Other^Patient",
        patient_id="PAT-2",
        study="other",
        series="other",
        transfer_syntax=JPEGLSLossless,
        attributes={"AccessionNumber": "ACC-2", "StudyDate": "20260210"},
    )
    heads = [dcmread(paths[0], stop_before_pixels=True) for paths in (first, second, other)]
    return Held(files=(*first, *second, *other), first=heads[0], second=heads[1], other=heads[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A node with a folder for what it receives, and the archive it may ask."""

    node_port: int
    kept: Path
    title: str
    port: int

    def config(self, folder: Path, **more: object) -> Path:
        """A configuration that names the archive as source pacs."""
        return _config(folder, self.title, self.port, node_port=self.node_port, **more)


def _config(folder: Path, title: str, port: int, *, node_port: int = 11112, **more: object) -> Path:
    lines = [f"{name} = {json.dumps(value)}" for name, value in {"timeout_s": 5, **more}.items()]
    path = folder / "node.toml"
    path.write_text(
        f'[node]\nhost = "127.0.0.1"\nport = {node_port}\n[[peers]]\nae_title = "{title}"\n'
        f'[sources.pacs]\nae_title = "{title}"\nhost = "127.0.0.1"\nport = {port}\n' + "\n".join(lines)
    )
    return path


@contextlib.contextmanager
def listening_at(kept: Path, port: int) -> Iterator[None]:
    """A receiver called ORGSEG that keeps what it is sent."""
    config = NodeConfig(
        node=NodeSection(ae_title="ORGSEG", host="127.0.0.1", port=port, data_dir=kept),
        receiver=ReceiverSection(accept_any_calling_ae=True),
    )
    receiver = Receiver(config, FolderArchive(kept), storage=STORAGE_CLASSES)
    receiver.start()
    try:
        yield
    finally:
        receiver.stop()


def introduce(running: Orthanc, title: str, port: int) -> None:
    """Make an AE known to Orthanc."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{running.http_port}/modalities/{title}",
        data=json.dumps({"AET": title, "Host": "127.0.0.1", "Port": port}).encode(),
        method="PUT",
    )
    with urllib.request.urlopen(request, timeout=10):  # noqa: S310
        pass
