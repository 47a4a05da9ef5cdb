"""The dossier claims nothing without the measurement or test behind it, and marks what it does not know."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from orgseg_node.errors import OptionInvalid
from orgseg_node.inference.bundles.bundle import find_bundle
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dossier.blanks import MARK
from orgseg_node.node.dossier.evidence import Evidence, read_commissioning
from orgseg_node.node.dossier.pages import dossier_pages, write_dossier
from orgseg_node.node.dossier.risks import NOT_RUN, load_risks, read_results, risk_page
from orgseg_node.node.store.database import Database
from orgseg_node.shipped import shipped_bundles
from tests.unit.node.feedback.test_charts_of_node import Department

ROOT = Path(__file__).resolve().parents[4]
JUNIT = """<testsuites><testsuite>
<testcase classname="tests.unit.core.scan.test_sides" name="a"/>
<testcase classname="tests.unit.core.scan.test_sides" name="b"><failure/></testcase>
<testcase classname="tests.unit.core.naming.test_names" name="c"><skipped/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def pages(tmp_path: Path) -> dict[str, bytes]:
    department = Department(tmp_path)
    department.cases(30)
    config = NodeConfig.model_validate(
        {
            "node": {"data_dir": tmp_path},
            "receiver": {"accept_any_calling_ae": True},
            "inference": {"bundles": ["starter-hn", "nowhere"]},
        }
    )
    made = dossier_pages(config, department.database, Evidence(), "2026-11-29")
    department.database.close()
    return made


def test_every_risk_names_tests_that_exist() -> None:
    risks = load_risks()
    assert len(risks) >= 10
    assert [risk.hazard for risk in risks if not risk.tests] == [], "a control without a test"
    named = [ROOT / test for risk in risks for test in risk.tests]
    lacking = [str(path) for path in named if not any(map(_has_tests, _modules(path)))]
    assert lacking == []


def _has_tests(module: Path) -> bool:
    return re.search(r"^ *def test_", module.read_text(encoding="utf-8"), re.MULTILINE) is not None


def _modules(path: Path) -> list[Path]:
    return sorted(path.rglob("test_*.py")) if path.is_dir() else [path] if path.is_file() else []


def test_a_control_is_proven_only_by_tests_that_passed(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_text(JUNIT, encoding="utf-8")
    page = risk_page(load_risks(), read_results(path))
    assert "`tests/unit/core/scan`: 1 failed, 1 passed;" in page
    assert "`tests/unit/core/naming`: 1 skipped |" in page
    assert page.count(NOT_RUN) > 5
    assert "1 tests passed, 1 failed, 1 were skipped" in page
    assert "so none is" in risk_page(load_risks(), None)
    path.write_text("no xml", encoding="utf-8")
    with pytest.raises(OptionInvalid):
        read_results(path)


def test_it_has_every_paper_and_counts_its_blanks(pages: dict[str, bytes], tmp_path: Path) -> None:
    assert {
        "00-index.md", "01-model-cards/starter-hn.md", "03-feedback.md", "04-risks.md", "05-versions.md",
        "05-packages.csv", "05-conformance.md", "05-configuration.json", "06-declaration.md",
    } <= pages.keys()  # fmt: skip
    assert any(name.startswith("03-charts/") and pages[name].startswith(b"\x89PNG") for name in pages)
    texts = {name: page.decode() for name, page in pages.items() if name.endswith(".md")}
    total = sum(text.count(MARK) for name, text in texts.items() if name != "00-index.md")
    assert f"{total} blanks" in texts["00-index.md"]
    packages = {row["name"]: row for row in csv.DictReader(pages["05-packages.csv"].decode().splitlines())}
    assert packages["numpy"]["version"] == np.__version__
    assert len(packages["numpy"]["sha256 of RECORD"]) == 64
    assert "Conformance Statement" in pages["05-conformance.md"].decode()
    write_dossier(pages, tmp_path / "out")
    assert (tmp_path / "out" / "06-declaration.md").is_file()


def test_what_is_not_known_is_said(pages: dict[str, bytes]) -> None:
    assert "No gate file" in pages["01-model-cards/starter-hn.md"].decode()
    assert "nowhere: BUNDLE_UNKNOWN" in pages["05-versions.md"].decode()
    assert "30 structure sets came back: 30 COUNTED" in pages["03-feedback.md"].decode()


def test_a_commissioning_fills_the_card_of_the_model_that_it_is_of(tmp_path: Path) -> None:
    folder = tmp_path / "commissioning"
    folder.mkdir()
    with pytest.raises(OptionInvalid, match="holds no report"):
        read_commissioning(folder)
    bundle = find_bundle("starter-hn", (shipped_bundles(),))
    config = NodeConfig.model_validate(
        {
            "node": {"data_dir": tmp_path},
            "receiver": {"accept_any_calling_ae": True},
            "inference": {"bundles": ["starter-hn"]},
        }
    )
    for sha256, sentence in ((bundle.sha256, "12 scans of 10 patients"), ("0" * 64, MARK)):
        content = {
            "format": "orgseg-commissioning/1", "models": [{"sha256": sha256}],
            "scans": {"measured": 12, "patients": 10, "refused": []},
        }  # fmt: skip
        (folder / "commissioning.json").write_text(json.dumps(content), encoding="utf-8")
        for name in ("commissioning.html", "commissioning.pdf"):
            (folder / name).write_bytes(b"report")
        database = Database(tmp_path / "node.sqlite")
        made = dossier_pages(config, database, Evidence(commissioning=read_commissioning(folder)), "today")
        database.close()
        card = made["01-model-cards/starter-hn.md"].decode()
        assert sentence in card.partition("Own commissioning")[2].partition("Who looked")[0]
        assert made["02-commissioning/commissioning.html"] == b"report"
        assert "02-commissioning/commissioning.html" in made["00-index.md"].decode()
