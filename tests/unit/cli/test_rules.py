"""``orgseg rules`` and ``orgseg config check``: they describe rules and print no patient data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pydicom
import pytest

from orgseg_node.dicom.reading import part10
from orgseg_node.node.config.load import load_config
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.store.model import Incoming
from orgseg_node.node.store.store import Store
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.node.command_line import Answer, orgseg

Capsys = pytest.CaptureFixture[str]

NODE = """
[node]
also_called = ["ORGSEG_HN"]
data_dir = "data"
[receiver]
min_free_mb = 0
[[peers]]
ae_title = "CT"
[destinations.tps]
ae_title = "TPS"
host = "127.0.0.1"
port = 104
"""
RULES = """
[[rule]]
name = "few"
action = "ignore"
when.slices = { less_than = 4 }
[[rule]]
name = "child"
action = "hold"
when.age = { less_than = 18 }
[[rule]]
name = "phantom"
when.PatientName = { like = "QA*" }
[[rule]]
name = "born"
when.PatientBirthDate = { less_than = 1901-01-01 }
[[rule]]
name = "hn"
when.called_ae = "ORGSEG_HN"
protocol = "head_and_neck"
priority = "urgent"
review = true
[[rule]]
name = "trial"
when.StudyDescription = "a trial"
destinations = []
"""
NAME, BORN, NUMBER, FREE_TEXT = "Zwetschge^Eulalia", "19310203", "ID-4711-X", "for Eulalia"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "rules.toml").write_text(RULES)
    path = tmp_path / "node.toml"
    path.write_text(NODE + '[rules]\nfile = "rules.toml"\n')
    return path


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    attributes = {"PatientBirthDate": BORN, "StudyDate": "20260101", "StudyDescription": FREE_TEXT}
    options = PhantomOptions(
        slices=5, rows=16, columns=16, patient_name=NAME, patient_id=NUMBER, attributes=attributes
    )
    build_ct_series(tmp_path / "ct", options)
    return tmp_path / "ct"


def tried(capsys: Capsys, target: object, config: Path, *more: str) -> tuple[dict[str, Any], Answer]:
    answer = orgseg(capsys, "rules", "test", target, "--config", config, "--json", *more)
    (series,) = json.loads(answer.out)["series"]
    return series, answer


def test_the_matching_rule_and_the_reasons_against_earlier_ones_are_shown(
    capsys: Capsys, config: Path, ct: Path
) -> None:
    series, answer = tried(capsys, ct, config, "--called", "ORGSEG_HN", "--calling", "CT")
    assert (answer.status, answer.err) == (0, "")
    assert (series["rule"], series["action"], series["state"]) == ("hn", "contour", "READY")
    assert (series["protocol"], series["priority"], series["review"]) == ("head_and_neck", 10, True)
    assert (series["bundles"], series["destinations"]) == (["starter-hn"], ["tps"])
    assert [(m["rule"], m["condition"], m["expected"], m["seen"]) for m in series["not_fitting"]] == [
        ("few", "slices", "less than 4", "5"),
        ("child", "age", "less than 18", "90 years or more"),
        ("phantom", "PatientName", "(patient data)", "(patient data)"),
        ("born", "PatientBirthDate", "(patient data)", "(patient data)"),
    ]


def test_the_default_called_ae_title_is_that_of_the_node(capsys: Capsys, config: Path, ct: Path) -> None:
    series, _ = tried(capsys, ct, config)
    assert series["rule"] == "default"
    assert series["not_fitting"][-2]["seen"] == "ORGSEG"


def test_a_single_file_can_be_tested(capsys: Capsys, config: Path, ct: Path) -> None:
    series, answer = tried(capsys, min(ct.iterdir()), config)
    assert (answer.status, series["rule"], series["state"]) == (0, "few", "IGNORED")


def test_a_rule_that_needs_an_unknown_sender_is_undecided(capsys: Capsys, config: Path, ct: Path) -> None:
    rules = '[[rule]]\nname = "ct"\nwhen.calling_ae = "CT"\n'
    (config.parent / "rules.toml").write_text(rules)
    series, _ = tried(capsys, ct, config)
    assert (series["rule"], series["action"], series["reason"]) == ("ct", "hold", "RULE_UNDECIDED")
    assert series["not_fitting"][0]["seen"] == "not known"
    assert "--calling" in series["note"]
    assert "Send the series again" not in series["note"]
    assert tried(capsys, ct, config, "--calling", "CT")[0]["action"] == "contour"


def test_no_patient_data_are_printed(capsys: Capsys, config: Path, ct: Path) -> None:
    printed = [
        orgseg(capsys, "rules", "test", ct, "--config", config, *more)
        for more in ((), ("--json",), ("--values",), ("--json", "--values"), ("--called", "ORGSEG_HN"))
    ]
    for answer in printed:
        text = (answer.out + answer.err).casefold()
        assert "default" in text or "hn" in text
        for word in ("zwetschge", BORN, "1931", NUMBER.casefold()):
            assert word not in text
    assert all("eulalia" not in printed[n].out.casefold() for n in (0, 1, 4)), (
        "free text is shown on request only"
    )
    assert FREE_TEXT in printed[2].out


def test_the_ae_titles_of_a_series_in_the_node_are_known(capsys: Capsys, config: Path, ct: Path) -> None:
    settings = load_config(config)
    store = Store(settings.node.data_dir)
    inbox = Inbox(settings, store)
    for path in ct.iterdir():
        dataset = pydicom.dcmread(path)
        encoded, syntax = part10.split_part10(path.read_bytes())
        inbox.accept(
            Incoming(
                sop_class_uid=dataset.SOPClassUID, sop_uid=dataset.SOPInstanceUID, transfer_syntax=syntax,
                calling_ae="CT", association=1, encoded=encoded, called_ae="ORGSEG_HN",
            )
        )  # fmt: skip
    store.close()
    series, answer = tried(capsys, dataset.SeriesInstanceUID, config)
    assert (answer.status, series["rule"], series["images"]) == (0, "hn", 5)


@pytest.mark.parametrize(
    ("target", "code", "status"),
    [("nowhere", "INPUT_EMPTY", 1), ("1.2.3", "STORAGE_NO_NODE", 1)],
)
def test_a_target_without_a_series_has_a_code(
    capsys: Capsys, config: Path, target: str, code: str, status: int
) -> None:
    answer = orgseg(capsys, "rules", "test", target, "--config", config)
    assert (answer.code, answer.status) == (code, status)


def test_list_shows_the_rules_in_their_order(capsys: Capsys, config: Path) -> None:
    answer = orgseg(capsys, "rules", "list", "--config", config)
    names = [line.split()[1] for line in answer.out.splitlines() if line[:1].isdigit()]
    assert names == ["few", "child", "phantom", "born", "hn", "trial"]
    assert "default" in answer.out
    assert "1901" not in answer.out
    listed = json.loads(orgseg(capsys, "rules", "list", "--config", config, "--json").out)
    assert listed["otherwise"] == "contour"
    assert listed["rules"][0] == {"rule": "few", "action": "ignore", "when": {"slices": "less than 4"}}
    assert listed["rules"][4]["priority"] == 10


def test_config_check_checks_the_names_in_the_rules(capsys: Capsys, config: Path) -> None:
    answer = orgseg(capsys, "config", "check", config)
    assert answer.status == 0
    assert "rules: 6, otherwise: contour" in answer.out
    (config.parent / "own.toml").write_text('[[structures]]\norgan = "livr"\n')
    rules = (
        '[[rule]]\nname = "a"\nwhen.slices = 1\nprotocol = "thoracs"\nbundles = ["nobody", "starter-hn"]\n'
        '[[rule]]\nname = "b"\nprotocol = "own.toml"\n'
    )
    (config.parent / "rules.toml").write_text(rules)
    answer = orgseg(capsys, "config", "check", config)
    assert (answer.code, answer.status) == ("CONFIG", 3)
    for line in (
        "rule 'a': protocol: There is no protocol 'thoracs'; did you mean 'thorax'?",
        "rule 'a': bundles: There is no model bundle of this name.",
        "rule 'b': protocol: 'livr' is no organ; did you mean 'liver'?",
    ):
        assert line in answer.err
    assert answer.err.count("rule 'a': bundles:") == 1
