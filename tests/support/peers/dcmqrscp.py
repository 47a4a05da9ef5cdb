"""DCMTK's dcmqrscp as a real archive: its index made by dcmqridx, its configuration by the test."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.peers.dcmtk import dcmtk, free_port

AE_TITLE = "DCMQR"
_CONFIG = """\
NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16

HostTable BEGIN
{hosts}
known = {names}
HostTable END

VendorTable BEGIN
VendorTable END

AETable BEGIN
{title} {storage} RW (100, 1024mb) known
AETable END
"""


@contextlib.contextmanager
def dcmqrscp(folder: Path, files: Sequence[Path], known: Mapping[str, int], *options: str) -> Iterator[int]:
    """An archive with these files; its port. It listens when the block begins.

    Parameters
    ----------
    folder : for its storage and its log
    files : what it holds
    known : AE titles it knows on this machine, with their ports
    options : further options
    """
    program, index = dcmtk("dcmqrscp"), dcmtk("dcmqridx")
    storage = folder / "storage"
    storage.mkdir(parents=True)
    subprocess.run([index, str(storage), *map(str, files)], check=True, timeout=60)
    port = free_port()
    hosts = "\n".join(f"h{n} = ({title}, localhost, {at})" for n, (title, at) in enumerate(known.items()))
    names = ", ".join(f"h{n}" for n in range(len(known)))
    settings = folder / "dcmqrscp.cfg"
    settings.write_text(
        _CONFIG.format(port=port, hosts=hosts, names=names, title=AE_TITLE, storage=storage), "ascii"
    )
    # it forks for each association, and a child may still be sending when all shall end
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-v", "-c", str(settings), *options], stdout=log, stderr=log, start_new_session=True
        )
    try:
        end = time.monotonic() + 10
        while True:
            assert process.poll() is None, (folder / "log").read_text(errors="replace")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert time.monotonic() < end, "dcmqrscp did not start"
            time.sleep(0.05)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
