"""What of ``deploy/`` runs without a container engine is run: services on bare ports, the offline bundle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.peers.deployment import DEPLOY

pytestmark = [pytest.mark.slow, pytest.mark.peer]


def run(*command: object, seconds: float, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
        env=os.environ | more,
    )


@pytest.mark.timeout(1500)
def test_a_ct_goes_from_the_pacs_through_the_node_to_the_tps(tmp_path: Path) -> None:
    if not (shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")):
        pytest.skip("Orthanc is not installed")
    command = [sys.executable, DEPLOY / "bare/run.py", "--database", "sqlite", "--out", tmp_path / "run"]
    done = run(*command, "--limit-s", 1200, seconds=1400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "structures at the TPS" in done.stdout


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An offline bundle for this machine. It needs a package index, and is skipped where there is none."""
    folder = tmp_path_factory.mktemp("offline") / "bundle"
    index = os.environ.get("TORCH_INDEX", "")
    made = run(
        DEPLOY / "offline/make-bundle.sh",
        folder,
        "cpu",
        seconds=1200,
        PYTHON=sys.executable,
        TORCH_INDEX=index,
    )
    if "No matching distribution" in made.stderr or "ConnectionError" in made.stderr:
        pytest.skip("the package index does not have what a bundle needs")
    assert made.returncode == 0, made.stdout + made.stderr
    return folder


@pytest.mark.timeout(1500)
def test_a_bundle_installs_a_node_without_network(bundle: Path, tmp_path: Path) -> None:
    """Pip is configured to look at no index, and at no proxy that is there, so what is missing is missing."""
    offline = {"PIP_NO_INDEX": "1", "HTTPS_PROXY": "http://127.0.0.1:9", "PYTHONPATH": ""}
    there = {"DESTDIR": str(tmp_path), "PYTHON": sys.executable, **offline}
    done = run(bundle / "install.sh", seconds=900, **there)
    assert done.returncode == 0, done.stdout + done.stderr
    program = tmp_path / "opt/orgseg/venv/bin/orgseg"
    doctor = run(program, "doctor", seconds=300, PYTHONPATH="")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    checked = run(program, "config", "check", tmp_path / "etc/orgseg/node.toml", seconds=120, PYTHONPATH="")
    assert checked.returncode == 0, checked.stderr
    again = run(bundle / "install.sh", seconds=900, **there)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (tmp_path / "opt/orgseg/venv-before/bin/orgseg").exists(), "an upgrade keeps what was before"


@pytest.mark.timeout(1500)
def test_a_damaged_bundle_installs_nothing(bundle: Path, tmp_path: Path) -> None:
    changed = tmp_path / "bundle"
    shutil.copytree(bundle, changed, copy_function=os.link)
    there = {"DESTDIR": str(tmp_path / "root"), "PYTHON": sys.executable}
    extra = changed / "wheels/extra-1-py3-none-any.whl"
    extra.write_bytes(b"not listed")
    more = run(changed / "install.sh", seconds=300, **there)
    extra.unlink()
    wrong = run(changed / "install.sh", "0" * 64, seconds=300, **there)
    config = changed / "node.toml"
    config.unlink()
    config.write_text("# changed\n", encoding="utf-8")
    damaged = run(changed / "install.sh", seconds=300, **there)
    for refused, reason in (
        (more, "files that are not in SHA256SUMS"),
        (wrong, "not the expected one"),
        (damaged, "damaged or changed"),
    ):
        assert refused.returncode == 1
        assert reason in refused.stderr
        assert "nothing was installed" in refused.stderr
    assert not (tmp_path / "root").exists()
