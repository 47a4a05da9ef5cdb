"""The configuration file: what is accepted, and that all problems are reported at once."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

import pytest

from orgseg_node.errors import ConfigError, UnknownDestination
from orgseg_node.inference.predictor import Backend, Device, InferenceSettings, Method
from orgseg_node.node.config.load import load_config
from orgseg_node.node.config.node_config import DeliverySection, InferenceSection, NodeConfig, Peer
from orgseg_node.shipped import shipped_config

PEER = '[[peers]]\nae_title = "CT"\n'
TPS = '[destinations.tps]\nae_title = "TPS"\nhost = "10.0.0.1"\nport = 104\n'


def load(tmp_path: Path, text: str) -> NodeConfig:
    file = tmp_path / "node.toml"
    file.write_text(text, encoding="utf-8")
    return load_config(file)


def problems(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert caught.value.exit_status == 3
    return caught.value.detail


def test_the_shipped_template_is_valid_and_shows_the_defaults() -> None:
    config = load_config(shipped_config("node.toml"))
    bare = NodeConfig.model_validate({"peers": [{"ae_title": "CT"}]})
    for section in ("receiver", "rules", "inference", "delivery", "retention"):
        assert getattr(config, section) == getattr(bare, section)
    assert config.node.model_dump(exclude={"data_dir"}) == bare.node.model_dump(exclude={"data_dir"})


def test_relative_folders_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load(
        tmp_path, PEER + '[node]\ndata_dir = "here"\n[inference]\nbundle_folders = ["models", "/abs"]\n'
    )
    assert config.node.data_dir == tmp_path / "here"
    assert config.bundle_paths[:3] == (tmp_path / "models", Path("/abs"), tmp_path / "here" / "bundles")


def test_all_problems_are_reported_at_once_with_suggestions(tmp_path: Path) -> None:
    listed = problems(
        tmp_path,
        PEER + PEER + TPS + TPS.replace("tps]", "copy]") + '[node]\nae_titel = "X"\nport = 70000\n'
        '[reciever]\nquiet_seconds = 5\n[destinations.half]\nae_title = "H"\n[inference]\ndevice = "gpu"\n',
    )  # fmt: skip
    for line in (
        "node.ae_titel: there is no such setting; did you mean 'ae_title'?",
        "node.port: input should be less than or equal to 65535, not 70000",
        "reciever: there is no such setting; did you mean 'receiver'?",
        "destinations.half.host: is missing",
        "destinations.half.port: is missing",
        "inference.device: input should be 'auto', 'cpu' or 'cuda', not 'gpu'",
        "peers: 'CT' is listed twice",
        "destinations.copy: the same AE title, host and port as 'tps'",
    ):
        assert line in listed


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "peers: list at least one sender"),
        (PEER.replace("CT", "A" * 17), "peers.1.ae_title: an AE title has 1 to 16"),
        (PEER.replace("CT", " CT"), "peers.1.ae_title"),
        (PEER + 'networks = ["10.0.0.1/8"]', "peers.1.networks.1: not a network"),
        (PEER + "[inference]\nbundles = []", "inference: bundles: name at least one"),
        (PEER + '[inference]\nbundles = ["a", "a"]', "inference.bundles: named twice: a"),
        (PEER + "[inference]\noverlap_mm = 400\nchunk_mm = 300", "inference: overlap_mm must be smaller"),
        (PEER + "[inference]\nmemory_budget_mb = 0", "inference.memory_budget_mb: input should be greater"),
        (
            PEER + '[inference]\nskip_outside_body = "maybe"',
            "inference.skip_outside_body: input should be a valid",
        ),
        (PEER + "[inference]\nthreads = 0", "inference.threads: input should be greater than or equal to 1"),
        (PEER + '[inference]\nmethod = "half"', "inference.method: input should be 'streaming', 'whole' or"),
        (
            PEER + '[inference]\nbackend = "faster"',
            "inference.backend: input should be 'exact', 'fast' or 'compiled'",
        ),
        (PEER + "[inference]\nmemory_budget = 1", "did you mean 'memory_budget_mb'?"),
        (PEER + TPS + "objects = []", "destinations.tps.objects: name each object once"),
        (PEER + TPS + 'objects = ["SEG", "SEG"]', "destinations.tps.objects: name each object once"),
        (PEER + TPS.replace("tps", "'a b'"), "destinations.a b: a name has up to 32"),
        (
            PEER + TPS.replace("TPS", "ORGSEG").replace("104", "11112"),
            "destinations.tps: this is the node itself",
        ),
        (PEER + "peers_ = 1", "peers.1.peers_: there is no such setting"),
        (
            PEER + 'source = "pasc"\n[sources.pacs]\nae_title = "P"\nhost = "h"\nport = 104',
            "did you mean 'pacs'?",
        ),
        (PEER + 'source = "pacs"', "peers.1.source: there is no source 'pacs'"),
        (PEER + '[completeness]\nexpct = "ask"', "did you mean 'expect'?"),
        (PEER + '[completeness]\nlate = "never"', "completeness.late: input should be 'hold' or 'contour'"),
        (PEER + "[worker]\ndeaths = 0", "worker.deaths: input should be greater than or equal to 1"),
        ("peers = 3", "peers"),
    ],
)
def test_each_problem_is_described(tmp_path: Path, text: str, line: str) -> None:
    assert line in problems(tmp_path, text)


def test_contradictions_of_inference_are_reported_once_with_all_others(tmp_path: Path) -> None:
    wrong = 'backend = "fast"\nmethod = "whole"\ndevice = "cuda"\noverlap_mm = 400\n'
    lines = [
        "inference: overlap_mm must be smaller than chunk_mm",
        "inference: backend 'fast' needs method 'streaming'",
        "inference: backend 'fast' runs on the CPU: device must be 'auto' or 'cpu'",
    ]
    for also in ("", "threads = 0\n"):
        listed = problems(tmp_path, "[inference]\n" + wrong + also)
        assert [listed.count(line) for line in lines] == [1, 1, 1]
        assert ("inference.threads" in listed) == bool(also)
    assert "peers: list at least one sender" in listed


def test_the_settings_of_a_node_are_those_of_the_networks_with_the_same_defaults_and_choices() -> None:
    assert set(InferenceSection().settings()) == {each.name for each in fields(InferenceSettings)}
    assert InferenceSettings(**InferenceSection().settings()) == InferenceSettings()
    for name, kind in (("method", Method), ("backend", Backend), ("device", Device)):
        assert set(get_args(InferenceSection.model_fields[name].annotation)) == set(kind)


def test_the_node_accepts_exactly_the_settings_that_the_networks_accept() -> None:
    choices: dict[str, list[Any]] = {
        "method": list(Method),
        "backend": list(Backend),
        "device": list(Device),
        "overlap_mm": [50.0, 300.0],
        "memory_budget_mb": [None, 0, 8000],
        "threads": [None, 0],
    }
    for values in itertools.product(*choices.values()):
        asked = dict(zip(choices, values, strict=True))
        assert _accepted(InferenceSection, asked) == _accepted(InferenceSettings, asked), asked


def _accepted(kind: type[InferenceSection | InferenceSettings], values: dict[str, Any]) -> bool:
    try:
        kind(**values)
    except (ValueError, ConfigError):
        return False
    return True


def test_every_setting_of_inference_reaches_the_networks_unchanged(tmp_path: Path) -> None:
    written = {
        "method": "streaming",
        "backend": "fast",
        "device": "cpu",
        "threads": 3,
        "memory_budget_mb": 4000,
        "skip_outside_body": False,
        "guided": False,
        "chunk_mm": 150.0,
        "overlap_mm": 20.0,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in written.items()]
    settings = load(tmp_path, PEER + "[inference]\n" + "\n".join(lines)).inference.settings()
    assert json.loads(json.dumps(settings)) == written
    assert asdict(InferenceSettings(**settings)) == written


def test_a_missing_file_and_invalid_toml_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "absent.toml")
    assert "is not TOML" in problems(tmp_path, "[node")


def test_a_configuration_cannot_be_changed(tmp_path: Path) -> None:
    config = load(tmp_path, PEER)
    with pytest.raises(ValueError, match="frozen"):
        config.node.port = 1  # type: ignore[misc]


def test_a_destination_is_found_by_name_or_a_similar_one_is_suggested(tmp_path: Path) -> None:
    config = load(tmp_path, PEER + TPS)
    assert config.destination("tps").ae_title == "TPS"
    assert config.calling_ae_for(config.destination("tps")) == "ORGSEG"
    with pytest.raises(UnknownDestination, match="did you mean 'tps'"):
        config.destination("tp")


@pytest.mark.parametrize(
    ("networks", "address", "admitted"),
    [
        ((), "8.8.8.8", True),
        (("10.0.0.0/8",), "10.1.2.3", True),
        (("10.0.0.0/8",), "11.1.2.3", False),
        (("10.0.0.0/8",), "::ffff:10.1.2.3", True),
        (("fd00::/8",), "fd00::1", True),
        (("10.0.0.0/8",), "nonsense", False),
    ],
)
def test_a_peer_is_admitted_from_its_networks_only(
    networks: tuple[str, ...],
    address: str,
    admitted: bool,  # noqa: FBT001
) -> None:
    assert Peer(ae_title="CT", networks=networks).admits(address) is admitted


def test_waits_double_up_to_the_longest() -> None:
    delivery = DeliverySection(retry_first_s=10, retry_longest_s=60)
    assert [delivery.wait_s(n) for n in (1, 2, 3, 4, 400)] == [10, 20, 40, 60, 60]
