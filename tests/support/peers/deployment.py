"""The files of ``deploy/``, read as what they are."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
SYSTEMD, COMPOSE, KUBERNETES = DEPLOY / "systemd", DEPLOY / "compose", DEPLOY / "kubernetes"
SERVICES = tuple(sorted(path.name for path in SYSTEMD.glob("*.service")))
CONFIGS = tuple(sorted(str(path.relative_to(DEPLOY)) for path in DEPLOY.rglob("*.toml")))


def lint(program: str, *arguments: object) -> str:
    """What a program that came with the tests' packages complains of; empty if of nothing."""
    found = Path(sys.executable).parent / program
    command = [str(found), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def unit(name: str) -> dict[str, list[str]]:
    """The settings of a systemd unit; each may stand several times."""
    found: dict[str, list[str]] = {}
    for line in (SYSTEMD / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "[")):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def compose() -> dict[str, Any]:
    """The compose file."""
    document: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text(encoding="utf-8"))
    return document


def manifests(*names: str) -> list[dict[str, Any]]:
    """The objects of some files of Kubernetes, or of all that the kustomization lists."""
    wanted = names or tuple(kustomization()["resources"])
    found = []
    for name in wanted:
        found += list(yaml.safe_load_all((KUBERNETES / name).read_text(encoding="utf-8")))
    return found


def kustomization() -> dict[str, Any]:
    """What is applied to a cluster."""
    document: dict[str, Any] = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text(encoding="utf-8"))
    return document


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and specification of each pod."""
    for each in manifests():
        if each["kind"] in {"Deployment", "StatefulSet"}:
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def named(kind: str, name: str) -> dict[str, Any]:
    """One object of the kustomization."""
    (found,) = [each for each in manifests() if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def config(name: str) -> dict[str, Any]:
    """A configuration of the node, as it stands in ``deploy/``."""
    return tomllib.loads((DEPLOY / name).read_text(encoding="utf-8"))
