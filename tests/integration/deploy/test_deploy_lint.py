"""What no engine runs here is at least read by the linters and schemas of its own world."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.peers.deployment import COMPOSE, DEPLOY, KUBERNETES, ROOT, SERVICES, SYSTEMD, lint, pods

EXPOSURE = {"orgseg-node.service": 2.0, "orgseg-receiver.service": 1.5, "orgseg-worker.service": 2.0}
"""The most that systemd-analyze security may find, of 10; a plain service has 9.6."""

CUSTOM = {"kustomization.yaml", "scaling-keda.yaml"}  # no kinds of Kubernetes itself
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)*")


def systemd(tool: str) -> str:
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"{tool} is not installed")
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root folder with the units and a program where they look for it."""
    units = tmp_path / "etc/systemd/system"
    program = tmp_path / "opt/orgseg/venv/bin/orgseg"
    shutil.copytree(SYSTEMD, units)
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    for name in ("sysinit", "basic", "shutdown", "multi-user", "network-online", "local-fs", "remote-fs"):
        (units / f"{name}.target").write_text(f"[Unit]\nDescription={name}\n", encoding="utf-8")
    return tmp_path


@pytest.mark.peer
@pytest.mark.parametrize("name", [*SERVICES, "orgseg.target"])
def test_systemd_takes_the_units(root: Path, name: str) -> None:
    command = [systemd("systemd-analyze"), "verify", "--man=no", f"--root={root}", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    about = [line for line in (done.stdout + done.stderr).splitlines() if "orgseg" in line]
    assert not about


@pytest.mark.peer
@pytest.mark.parametrize("name", SERVICES)
def test_the_units_are_hardened(name: str) -> None:
    tool = systemd("systemd-analyze")
    threshold = f"--threshold={round(EXPOSURE[name] * 10)}"
    command = [tool, "security", "--no-pager", "--offline=true", threshold, str(SYSTEMD / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


@pytest.mark.peer
def test_users_and_folders_are_made(tmp_path: Path) -> None:
    for kind in ("sysusers", "tmpfiles"):
        folder = tmp_path / f"usr/lib/{kind}.d"
        folder.mkdir(parents=True)
        shutil.copy(SYSTEMD / f"orgseg.{kind}.conf", folder / "orgseg.conf")
    (tmp_path / "etc").mkdir()
    subprocess.run([systemd("systemd-sysusers"), f"--root={tmp_path}"], check=True, capture_output=True)
    users = [line.split(":") for line in (tmp_path / "etc/passwd").read_text("utf-8").splitlines()]
    assert {user[0] for user in users} == {"orgseg", "orgseg-receiver", "orgseg-worker"}
    assert len({user[2] for user in users}) == 3, "each has a number of its own"
    assert len({user[3] for user in users}) == 1, "all are of one group"
    made = [systemd("systemd-tmpfiles"), "--create", f"--root={tmp_path}", "orgseg.conf"]
    done = subprocess.run(made, capture_output=True, text=True, check=False)
    data = tmp_path / "var/lib/orgseg"
    if not data.exists():
        pytest.skip(f"folders cannot be made here: {done.stderr.strip()[:200]}")
    assert data.stat().st_mode & 0o7777 == 0o2770
    assert (tmp_path / "etc/orgseg/secrets").stat().st_mode & 0o777 == 0o700


def test_hadolint_takes_the_container_file() -> None:
    assert not lint("hadolint", DEPLOY / "container/Containerfile")


def test_shellcheck_takes_the_scripts() -> None:
    scripts = sorted(DEPLOY.rglob("*.sh"))
    assert len(scripts) >= 3
    assert not lint("shellcheck", *scripts)


def test_the_compose_files_are_of_the_compose_specification() -> None:
    files = sorted(COMPOSE.glob("compose*.yaml"))
    assert len(files) == 2
    assert not lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files)


def test_kubernetes_knows_every_field_of_the_manifests() -> None:
    files = [path for path in sorted(KUBERNETES.rglob("*.yaml")) if path.name not in CUSTOM]
    assert len(files) >= 8
    for version in ("1.31", "1.34"):
        assert not lint("kubernetes-validate", "--strict", "-k", version, *files)


@pytest.mark.peer
def test_kustomize_puts_the_manifests_together() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        [kubectl, "kustomize", str(KUBERNETES)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "image: registry.example/orgseg-node:0.1.0-cuda" in done.stdout
    assert "REPLACE-ME" not in done.stdout
    (name,) = set(re.findall(r"name: (orgseg-config-\w+)", done.stdout))
    assert done.stdout.count(name) == 3, "of itself, of the receiver and of the worker"


def test_orthanc_takes_its_configurations() -> None:
    for name in ("orthanc-pacs.json", "orthanc-tps.json"):
        settings = json.loads((COMPOSE / name).read_text(encoding="utf-8"))
        assert settings["AuthenticationEnabled"], "its pages are for those with a password"


@pytest.mark.parametrize(("name", "pod"), list(pods()))
def test_pods_fulfil_the_restricted_standard(name: str, pod: dict[str, dict[str, object]]) -> None:
    """The restricted profile of the Pod Security Standards, which the namespace enforces."""
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod["automountServiceAccountToken"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    allowed = {"persistentVolumeClaim", "configMap", "secret", "emptyDir"}
    assert all(volume.keys() - {"name"} <= allowed for volume in pod["volumes"]), name
    for container in pod["containers"]:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert {"startupProbe", "livenessProbe"} <= container.keys()


def test_every_image_is_of_one_version() -> None:
    texts = [
        path.read_text("utf-8") for path in (*DEPLOY.rglob("*.yaml"), DEPLOY / "container/Containerfile")
    ]
    images = [image for text in texts for image in re.findall(r"(?:image: |^FROM )(\S+)", text, re.MULTILINE)]
    placed = {"orgseg-node", "orgseg-node-cuda"}  # by the kustomization, which gives the version
    assert len(images) >= 8
    assert [image for image in images if image not in placed and not PINNED.fullmatch(image)] == []


def test_no_secret_is_part_of_the_tree() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "deploy"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    assert [name for name in tracked if "/secrets/" in name and not name.endswith(".gitignore")] == []
