"""The dossier claims nothing without the measurement or test behind it, and marks what it does not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.errors import OptionInvalid
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dossier.blanks import MARK
from orgseg_node.node.dossier.pages import dossier_pages, write_dossier
from orgseg_node.node.dossier.risks import NOT_RUN, load_risks, read_results, risk_page
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
    made = dossier_pages(config, department.database, None, "2026-11-29")
    department.database.close()
    return made


def test_every_risk_names_tests_that_exist() -> None:
    risks = load_risks()
    assert len(risks) >= 10
    lacking = [test for risk in risks for test in risk.tests if not (ROOT / test).exists()]
    assert lacking == []


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
        "05-packages.csv", "05-configuration.json", "06-declaration.md",
    } <= pages.keys()  # fmt: skip
    assert any(name.startswith("03-charts/") and pages[name].startswith(b"\x89PNG") for name in pages)
    texts = {name: page.decode() for name, page in pages.items() if name.endswith(".md")}
    total = sum(text.count(MARK) for name, text in texts.items() if name != "00-index.md")
    assert f"{total} blanks" in texts["00-index.md"]
    assert "numpy," in pages["05-packages.csv"].decode()
    write_dossier(pages, tmp_path / "out")
    assert (tmp_path / "out" / "06-declaration.md").is_file()


def test_what_is_not_known_is_said(pages: dict[str, bytes]) -> None:
    assert "No gate file" in pages["01-model-cards/starter-hn.md"].decode()
    assert "nowhere: BUNDLE_UNKNOWN" in pages["05-versions.md"].decode()
    assert "30 structure sets came back: 30 COUNTED" in pages["03-feedback.md"].decode()
