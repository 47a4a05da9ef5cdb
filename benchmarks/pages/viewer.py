"""First picture, scrolling and memory of the viewer, in headless Chromium.

    python -m benchmarks.pages.viewer [--slices 300] [--size 512] [--cases 50]

A node's pages are served with one large contoured case, once with the table of slices that the node writes
with a job, and once without it, as for jobs of earlier versions. First picture: from asking for the page to
the slice with its contours on the screen, with an empty cache of the browser. Scrolling: a slice for each
frame of the screen, up and down, once all slices have arrived. Memory: of the page's heap and arrays after
1, 10, 25 and so many cases, which are opened one after the other; each time all slices have arrived, and
garbage was collected. Processor time depends little on what else
the machine does; seconds do.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.pages.big_case import make_ct, organs_of
from orgseg_node.web.case_content.images import MOST_IN_BLOCK, OpenCases
from orgseg_node.web.http_server import HttpServer
from tests.browser.conftest import Site, serve
from tests.support.web.contoured import contour_case
from tests.support.web.pages_bench import PagesBench

SCROLL = """async (frames) => {
  const { viewer } = document.getElementById("viewer");
  const times = [];
  let last = performance.now();
  for (let step = 0; step < frames; step += 1) {
    const from = performance.now();
    viewer.place.k = step % viewer.slices.count;
    viewer.drawNow();
    times.push(performance.now() - from);
    await new Promise((done) => requestAnimationFrame(done));
  }
  times.sort((a, b) => a - b);
  return [1000 * frames / (performance.now() - last), times[frames >> 1], times[Math.floor(frames * 0.95)]];
}"""


def open_case(browser: Browser, site: Site, name: str) -> tuple[Page, float]:
    """Open a case in a new window; seconds until its first picture."""
    page = browser.new_context(viewport={"width": 1366, "height": 820}, bypass_csp=True).new_page()
    site.log_in(page)
    begun = time.perf_counter()
    page.goto(f"{site.base}/cases/{site.jobs[name]}", wait_until="commit")
    page.wait_for_selector("#viewer[data-drawn]")
    return page, time.perf_counter() - begun


def measure(browser: Browser, folder: Path, options: argparse.Namespace, *, recorded: bool) -> None:
    """Print the numbers of one way.

    Parameters
    ----------
    browser : Chromium
    folder : new folder for the node's data
    options : sizes
    recorded : with the table of slices
    """
    bench = PagesBench(folder / "node", web={"port": 0})
    ct = make_ct(folder / "ct", options.slices, options.size)
    job = contour_case(bench.store, bench.jobs.data, ct, labels_of=organs_of, recorded=recorded)
    name = "with the table of slices" if recorded else "without it"
    begun = time.process_time()
    cases = OpenCases()
    opened = cases.open(bench.store, bench.jobs.data, job)
    open_s = time.process_time() - begun
    begun = time.process_time()
    sent = len(cases.planes(opened, 0, MOST_IN_BLOCK))
    slice_ms = 1000 * (time.process_time() - begun) / MOST_IN_BLOCK
    print(f"{name}: processor time of the node to open the case {open_s:.2f} s,", end=" ")
    print(f"for each slice {slice_ms:.1f} ms ({sent / MOST_IN_BLOCK / 1e6:.2f} MB)", flush=True)
    server = serve(bench)
    site = Site(bench=bench, port=server.port or 0, jobs={"big": job.job_id})
    firsts = []
    for _ in range(options.repeats):
        page, first_s = open_case(browser, site, "big")
        firsts.append(first_s)
        page.context.close()
        server.stop()
        server = _again(bench, site)
    page, first_s = open_case(browser, site, "big")
    firsts.append(first_s)
    page.wait_for_selector(f'#viewer[data-loaded="{options.slices}"]', timeout=120_000)
    per_s, median_ms, slow_ms = page.evaluate(SCROLL, 240)
    spread = f"{len(firsts)} times: {min(firsts):.2f} to {max(firsts):.2f}"
    load = os.getloadavg()[0]
    print(f"  first picture {statistics.median(firsts):.2f} s ({spread}), load {load:.1f}")
    print(f"  scrolling {per_s:.0f} slices/s; drawing {median_ms:.1f} ms, 95 % below {slow_ms:.1f} ms")
    if recorded:
        _memory(page, site, options.cases, options.slices)
    page.context.close()
    server.stop()


def _again(bench: PagesBench, site: Site) -> HttpServer:
    """The pages of a node that has just started: no case is open."""
    bench.new_pages()
    server = serve(bench)
    site.port = server.port or 0
    return server


def _memory(page: Page, site: Site, cases: int, slices: int) -> None:
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.enable")
    for number in range(1, cases + 1):
        page.goto(f"{site.base}/cases/{site.jobs['big']}")
        page.wait_for_selector("#viewer[data-drawn]")
        if number in {1, 10, 25, cases}:
            page.wait_for_selector(f'#viewer[data-loaded="{slices}"]', timeout=120_000)
            page.wait_for_timeout(600)  # the planes across the slices are drawn a little later
            session.send("HeapProfiler.collectGarbage")
            used = session.send("Runtime.getHeapUsage")
            heap, arrays = used["usedSize"] / 1e6, used["backingStorageSize"] / 1e6
            print(f"  after {number} cases: heap {heap:.1f} MB, arrays {arrays:.1f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="orgseg-pages-"))
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    print(f"{options.slices} slices of {options.size} x {options.size}, {os.cpu_count()} cores")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            for recorded in (True, False):
                measure(browser, folder / str(recorded), options, recorded=recorded)
            browser.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
