"""What came back becomes a source of a site's data set, which says which contours nobody edited."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.core.organs import OrganTable
from orgseg_node.node.feedback.training_source import write_training_source
from orgseg_training.site.ingest import ingest_lines, ingest_site
from orgseg_training.site.settings import SiteSettings
from orgseg_training.site.site import Site
from orgseg_training.site.survey import survey_site
from tests.support.node.feedback_bench import FeedbackBench, shifted


@pytest.fixture(scope="module")
def returned(tmp_path_factory: pytest.TempPathFactory, organ_table: OrganTable) -> FeedbackBench:
    """A node to which a structure set came back in which a person moved the brainstem, and nothing else."""
    bench = FeedbackBench(tmp_path_factory.mktemp("node"), organ_table)
    bench.come_back(shifted("Brainstem", x_mm=8.0))
    return bench


def ingested(source: Path, folder: Path) -> tuple[dict[str, int], str]:
    """In how many cases each organ is drawn, and what the command prints."""
    site = Site.create(folder, SiteSettings(archive=(source,), min_patients=2))
    survey_site(site)
    report = ingest_site(site)
    return dict(report.drawn), "\n".join(ingest_lines(report))


def test_only_what_a_person_edited_comes_in(returned: FeedbackBench, tmp_path: Path) -> None:
    write_training_source(returned.store, returned.data, tmp_path / "source")
    drawn, printed = ingested(tmp_path / "source", tmp_path / "site")
    assert drawn == {"brainstem": 1}
    assert "nobody edited" not in printed


def test_what_nobody_edited_comes_in_only_with_a_word_about_it(
    returned: FeedbackBench, tmp_path: Path
) -> None:
    write_training_source(returned.store, returned.data, tmp_path / "source", with_unchanged=True)
    drawn, printed = ingested(tmp_path / "source", tmp_path / "site")
    assert {"brainstem", "spinal_cord", "mandible"} <= drawn.keys()
    said = {line.split(": ")[1] for line in printed.splitlines() if "nobody edited it" in line}
    assert "brainstem" not in said
    assert {"spinal_cord", "mandible", "parotid_left", "parotid_right"} == said
