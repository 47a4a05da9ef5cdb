"""Images received per second while browsers watch the first page, and while none does, in one run.

    python -m benchmarks.pages.watchers [--slices 200] [--browsers 10] [--repeats 3]

A node runs in a process of its own. DCMTK's storescu sends the same synthetic CT slices to it, as in
`benchmarks/receive.py`, in turns without and with so many windows of headless Chromium on the page Today,
which fetches its changes by itself. Chromium runs at the lowest priority, since in a hospital it runs
on other machines. The processor time of the node's process is printed, too: it depends little on what else
runs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from benchmarks.receive import free_port, make_slices, send
from orgseg_node.node.store.store import Store
from orgseg_node.node.users.accounts import Accounts
from orgseg_node.node.users.roles import Role

CONFIG = """
[node]
host = "127.0.0.1"
port = {port}
data_dir = "{data}"
[receiver]
accept_any_calling_ae = true
min_free_mb = 0
quiet_seconds = 3600
[web]
port = {web}
[pages]
enabled = true
"""


@contextlib.contextmanager
def node(folder: Path) -> Iterator[tuple[psutil.Process, int, int]]:
    """A running node: its process, its DICOM port and its web port."""
    folder.mkdir(parents=True)
    port, web = free_port(), free_port()
    config = folder / "node.toml"
    config.write_text(CONFIG.format(port=port, web=web, data=folder / "data"), encoding="utf-8")
    program = [sys.executable, "-m", "orgseg_node.cli", "node", "run", "--config", str(config)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(program, stdout=log, stderr=log)
    try:
        for _ in range(1200):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{web}/healthz", timeout=5).close()
                break
            time.sleep(0.1)
        yield psutil.Process(process.pid), port, web
    finally:
        process.terminate()
        process.wait()


def watch(browser: Browser, data: Path, web: int, count: int) -> list[BrowserContext]:
    """Open so many windows on the first page, each of a person of its own.

    Parameters
    ----------
    browser : Chromium
    data : the node's data folder
    web : port of the pages
    count : number of windows
    """
    windows = []
    with closing(Store(data)) as store:
        accounts = Accounts(store.database)
        for number in range(count):
            name = f"person{number}"
            accounts.add(name, {Role.VIEWER}, "by the benchmark")
            page = browser.new_context().new_page()
            page.goto(f"http://127.0.0.1:{web}/login?once={accounts.make_ticket(name, 'by the benchmark')}")
            page.get_by_role("button").first.click()
            page.wait_for_selector("#lamp[data-on]")
            windows.append(page.context)
    return windows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--senders", type=int, default=2)
    parser.add_argument("--browsers", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    os.environ["TCP_NODELAY"] = "1"
    work = Path(tempfile.mkdtemp(prefix="orgseg-watchers-"))
    chromium = work / "chromium"
    chromium.write_text(f'#!/bin/sh\nexec nice -n 19 {shutil.which("chromium")} "$@"\n')
    chromium.chmod(0o755)
    rates: dict[int, list[float]] = {0: [], options.browsers: []}
    used: dict[int, list[float]] = {0: [], options.browsers: []}
    busy: dict[int, list[float]] = {0: [], options.browsers: []}
    try:
        paths = make_slices(work / "ct", options.slices, options.size)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
            for repeat in range(options.repeats):
                for count, found in rates.items():
                    folder = work / f"{repeat}-{count}"
                    with node(folder) as (process, port, web):
                        windows = watch(browser, folder / "data", web, count)
                        before = sum(process.cpu_times()[:2])
                        seconds = send(port, paths, options.senders)
                        node_s = sum(process.cpu_times()[:2]) - before
                        used[count].append(1000 * node_s / len(paths))
                        busy[count].append(1000 * node_s / seconds)
                        found.append(len(paths) / seconds)
                        for window in windows:
                            window.close()
                    shutil.rmtree(folder, ignore_errors=True)
            browser.close()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"{options.slices} slices of {options.size} x {options.size}, {options.senders} senders")
    for count, found in rates.items():
        spread = ", ".join(f"{rate:.0f}" for rate in found)
        print(f"  {count:2d} browsers: {statistics.median(found):6.1f} images/s ({spread});", end=" ")
        print(f"processor time of the node {statistics.median(used[count]):.1f} ms for each image,", end=" ")
        print(f"{statistics.median(busy[count]):.0f} ms in each second")
    print(f"load of the machine: {os.getloadavg()[0]:.1f}, cores: {os.cpu_count()}")


if __name__ == "__main__":
    main()
