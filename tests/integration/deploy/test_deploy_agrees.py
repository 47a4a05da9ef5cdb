"""What one file of ``deploy/`` names, the others have: commands, ports, AE titles, users, files, packages."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import typer.main

from orgseg_node import __version__
from orgseg_node.cli.app import build_app
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.store.database import schema_steps
from tests.support.node.command_line import orgseg
from tests.support.peers import deployment
from tests.support.peers.deployment import (
    COMPOSE,
    CONFIGS,
    DEPLOY,
    SERVICES,
    compose,
    config,
    named,
    pods,
    unit,
)

SPLIT = {"receiver": "orgseg-receiver.service", "worker": "orgseg-worker.service"}


def command_lines() -> dict[str, list[str]]:
    """The arguments of every call of ``orgseg`` in units, compose, manifests and image."""
    found = {}
    for name in SERVICES:
        for key in ("ExecStartPre", "ExecStart"):
            (line,) = unit(name)[key]
            program, *arguments = shlex.split(line)
            assert program == "/opt/orgseg/venv/bin/orgseg"
            found[f"{name} {key}"] = arguments
    for name, service in compose()["services"].items():
        if name in SPLIT:
            found[f"compose {name}"] = service["command"]
    for name, pod in pods():
        for container in pod["containers"]:
            if "args" in container:
                found[f"kubernetes {name}"] = container["args"]
    (line,) = re.findall(r"^CMD (\[.*\])$", containerfile(), re.MULTILINE)
    found["image"] = json.loads(line)
    return found


def containerfile() -> str:
    return (DEPLOY / "container/Containerfile").read_text(encoding="utf-8")


def knows_only() -> bool:
    """Whether this program can run receiver and worker by themselves."""
    return any("--only" in parameter.opts for parameter in command(["node", "run"])[0].params)


def command(arguments: list[str]) -> tuple[Any, list[str]]:
    """The command that arguments begin with, and those that are left for it."""
    found: Any = typer.main.get_command(build_app())
    while hasattr(found, "commands"):
        name, *arguments = arguments
        found = found.commands[name]
    return found, arguments


@pytest.mark.parametrize("name", CONFIGS)
def test_the_configurations_are_correct(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    """With sections this program knows, and the password in a file that is here."""
    document = {key: value for key, value in config(name).items() if key in NodeConfig.model_fields}
    if "database" in document:
        password = tmp_path / "password"
        password.write_text("secret", encoding="utf-8")
        document["database"]["password_file"] = str(password)
    (tmp_path / "node.toml").write_text(tomli_w.dumps(document), encoding="utf-8")
    answer = orgseg(capsys, "config", "check", tmp_path / "node.toml")
    assert answer.status == 0, answer.err


def test_every_section_of_the_configurations_is_known() -> None:
    unknown = {name for path in CONFIGS for name in config(path)} - NodeConfig.model_fields.keys()
    if unknown <= {"database", "web"} and not knows_only():
        pytest.skip("this program cannot be split into processes")
    assert not unknown


@pytest.mark.parametrize("place", list(command_lines()))
def test_the_command_line_knows_every_command(place: str) -> None:
    arguments = command_lines()[place]
    if "--only" in arguments and not knows_only():
        pytest.skip("this program cannot be split into processes")
    found, left = command(arguments)
    assert not found.make_context("orgseg", left).args


def test_a_split_node_is_started_as_receiver_and_worker_with_the_same_configuration() -> None:
    lines = command_lines()
    for part, name in SPLIT.items():
        service = lines[f"{name} ExecStart"]
        assert service == ["node", "run", "--config", f"/etc/orgseg/{part}.toml", "--only", part]
        assert lines[f"{name} ExecStartPre"] == ["config", "check", f"/etc/orgseg/{part}.toml"]
        assert lines[f"compose {part}"] == lines[f"kubernetes orgseg-{part}"]
        assert lines[f"compose {part}"][-2:] == ["--only", part]
    receiver, worker = config("systemd/receiver.toml"), config("systemd/worker.toml")
    assert receiver.pop("web")
    assert "web" not in worker, "the worker's unit allows no port"
    for document in (receiver, worker):
        document["database"].pop("password_file")
    assert receiver == worker


@pytest.mark.parametrize(("part", "name"), list(SPLIT.items()))
def test_a_unit_gives_its_process_what_its_configuration_names(part: str, name: str) -> None:
    service, document = unit(name), config(f"systemd/{part}.toml")
    (credential,) = service["LoadCredential"]
    wanted, source = credential.split(":")
    assert document["database"]["password_file"] == f"/run/credentials/{name}/{wanted}"
    assert Path(source).parent == Path("/etc/orgseg/secrets")
    assert service["User"] == [name.removesuffix(".service")]
    users = (deployment.SYSTEMD / "orgseg.sysusers.conf").read_text(encoding="utf-8")
    assert re.search(rf"^u {service['User'][0]} +-:{service['Group'][0]} ", users, re.MULTILINE)
    assert document["node"]["shared_with_group"] is True
    assert service["ReadWritePaths"] == [document["node"]["data_dir"]]


def test_only_the_receiver_may_listen() -> None:
    document = config("systemd/receiver.toml")
    allowed = unit("orgseg-receiver.service")["SocketBindAllow"]
    assert {f"tcp:{document['node']['port']}", f"tcp:{document['web']['port']}"} <= set(allowed)
    worker = unit("orgseg-worker.service")
    assert "SocketBindAllow" not in worker
    assert any("listen" in line.split() for line in worker["SystemCallFilter"] if line.startswith("~"))
    assert unit("orgseg-receiver.service")["PrivateDevices"] == ["yes"]
    assert all(device.startswith("char-nvidia") for device in worker["DeviceAllow"])


def test_compose_and_its_configurations_name_the_same_places() -> None:
    document, node = compose(), config("compose/node.toml")
    services, networks = document["services"], document["networks"]
    port = node["node"]["port"]
    assert services["receiver"]["ports"] == [f"{port}:{port}"]
    assert "ports" not in services["worker"]
    assert "ports" not in services["database"]
    subnet = networks["dicom-in"]["ipam"]["config"][0]["subnet"]
    assert all(peer["networks"] == [subnet] for peer in node["peers"])
    for name, place in node["destinations"].items():
        archive = json.loads((COMPOSE / f"orthanc-{name}.json").read_text(encoding="utf-8"))
        assert (place["host"], place["port"], place["ae_title"]) == (
            name,
            archive["DicomPort"],
            archive["DicomAet"],
        )
        assert "dicom-out" in services[name]["networks"]
    ((title, host, called),) = json.loads((COMPOSE / "orthanc-pacs.json").read_text("utf-8"))[
        "DicomModalities"
    ].values()
    assert (title, host, called) == (node["node"]["ae_title"], "receiver", port)
    assert archive_titles() <= {peer["ae_title"] for peer in node["peers"]}
    assert_database(node["database"], services["database"]["environment"], "database")
    assert node["database"]["password_file"] == f"/run/secrets/{services['worker']['secrets'][0]}"
    assert node["database"]["password_file"] == services["database"]["environment"]["POSTGRES_PASSWORD_FILE"]
    for part in SPLIT:
        assert f"127.0.0.1:{node['web']['port']}/healthz" in services[part]["healthcheck"]["test"][-1]
        targets = {volume.split(":")[1] for volume in services[part]["volumes"]}
        assert {node["node"]["data_dir"], command_lines()[f"compose {part}"][3]} <= targets
    assert networks["store"] == {"internal": True}
    assert services["database"]["networks"] == ["store"]


def archive_titles() -> set[str]:
    """Who sends to the node in compose."""
    return {json.loads((COMPOSE / "orthanc-pacs.json").read_text(encoding="utf-8"))["DicomAet"]}


def assert_database(section: dict[str, str], environment: dict[str, str], host: str) -> None:
    user, name = environment["POSTGRES_USER"], environment["POSTGRES_DB"]
    assert section["url"] == f"postgresql://{user}@{host}:5432/{name}"


def test_the_cluster_and_its_configuration_name_the_same_places() -> None:
    node = config("kubernetes/node.toml")
    database = named("StatefulSet", "orgseg-database")["spec"]["template"]["spec"]["containers"][0]
    environment = {entry["name"]: entry["value"] for entry in database["env"]}
    assert_database(node["database"], environment, "orgseg-database")
    assert node["database"]["password_file"] == environment["POSTGRES_PASSWORD_FILE"]
    secret = deployment.manifests("secret.template.yaml")[0]
    assert Path(node["database"]["password_file"]).name in secret["stringData"]
    for name, pod in pods():
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts.keys() == {volume["name"] for volume in pod["volumes"]} | (
            {"database"} if name == "orgseg-database" else set()
        )
        (held,) = [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
        assert held == secret["metadata"]["name"]
        assert named("ServiceAccount", pod["serviceAccountName"])
        if name != "orgseg-database":
            assert mounts["data"] == node["node"]["data_dir"]
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            assert ports["web"] == node["web"]["port"]
            assert ports.get("dicom", node["node"]["port"]) == node["node"]["port"]
    assert named("PersistentVolumeClaim", "orgseg-data")["spec"]["accessModes"] == ["ReadWriteMany"]


def test_every_selector_finds_something() -> None:
    labels = [
        each["spec"]["template"]["metadata"]["labels"]
        for each in deployment.manifests()
        if each["kind"] in {"Deployment", "StatefulSet"}
    ]
    for each in deployment.manifests():
        if each["kind"] == "Service":
            assert each["spec"]["selector"] in labels
        if each["kind"] == "NetworkPolicy":
            wanted = each["spec"]["podSelector"].get("matchLabels")
            assert wanted is None or wanted in labels
        if each["kind"] == "ScaledObject":
            assert named("Deployment", each["spec"]["scaleTargetRef"]["name"])


def test_the_queue_that_scales_workers_can_be_counted() -> None:
    (trigger,) = named("ScaledObject", "orgseg-worker")["spec"]["triggers"]
    with sqlite3.connect(":memory:") as database:
        for step in schema_steps("sqlite"):
            database.executescript(step.script)
        query = trigger["metadata"]["query"]
        assert "FROM orgseg.job" in query, "the node's own schema on PostgreSQL"
        assert database.execute(query.replace("orgseg.job", "job")).fetchone() == (0,)
    database.close()


def test_images_have_the_version_of_the_program() -> None:
    assert f"ARG VERSION={__version__}" in containerfile()
    assert compose()["services"]["worker"]["image"] == f"orgseg-node:{__version__}"
    assert {image["newTag"] for image in deployment.kustomization()["images"]} == {
        __version__,
        f"{__version__}-cuda",
    }


def test_the_pins_hold_every_package_that_is_needed() -> None:
    found = importlib.util.spec_from_file_location("pins", DEPLOY / "pins.py")
    assert found is not None
    assert found.loader is not None
    pins = importlib.util.module_from_spec(found)
    found.loader.exec_module(pins)
    lines = (DEPLOY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    missing = pins.needed().keys() - pinned.keys()
    assert not missing, "run: python deploy/pins.py > deploy/constraints.txt"
    for line in (DEPLOY / "constraints-cpu.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, version = line.split("==")
            assert pinned[name] == version


def test_every_recipe_that_installs_torch_names_the_index_that_has_it_without_cuda() -> None:
    index = "https://download.pytorch.org/whl/cpu"
    recipe = (DEPLOY / "README.md").read_text(encoding="utf-8")
    lines = [line for line in recipe.splitlines() if "pip install" in line and "constraints" in line]
    assert lines
    assert all(f"--extra-index-url {index}" in line for line in lines)
    for name in ("constraints-cpu.txt", "container/Containerfile", "offline/make-bundle.sh", "../README.md"):
        assert index in (DEPLOY / name).read_text(encoding="utf-8"), name
