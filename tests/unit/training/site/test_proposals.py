"""A name is known by the dictionary, or only proposed; both are held against the anatomy."""

from __future__ import annotations

import pytest

from orgseg_node.core.organs import OrganTable
from orgseg_training.site.proposals import Confidence, meaning_of
from orgseg_training.site.roi_survey import NameSurvey, SeenRoi


def _survey(
    name: str, left_mm: tuple[float, ...] = (0.0,), ml: float = 25.0, kind: str = "ORGAN"
) -> NameSurvey:
    rois = [
        SeenRoi(name=name, patient=f"P{n}", type=kind, volume_ml=ml, left_mm=x) for n, x in enumerate(left_mm)
    ]
    return NameSurvey(name=name, rois=rois)


@pytest.mark.parametrize(
    ("name", "left_mm", "ml", "organ", "confidence", "remark"),
    [
        ("PAROTIS LI", (55.0, 60.0), 25.0, "parotid_left", Confidence.KNOWN, ""),
        ("PAROTIS LI", (55.0, -60.0), 25.0, "parotid_left", Confidence.KNOWN, ""),
        (
            "PAROTIS LI",
            (-55.0, -60.0),
            25.0,
            "parotid_left",
            Confidence.PROPOSED,
            "on the right in 2 of 2",
        ),
        ("Larynx", (0.0,), 4000.0, "larynx", Confidence.PROPOSED, "4000 ml, larynx has 2 to 130"),
        ("Parotis", (55.0, 60.0), 25.0, "parotid_left", Confidence.PROPOSED, "lies on the left"),
        ("Parotis", (55.0, -60.0), 25.0, "", Confidence.UNKNOWN, ""),
        ("parotisre", (-55.0,), 25.0, "parotid_right", Confidence.PROPOSED, "in one word"),
        ("parotisre", (55.0,), 25.0, "", Confidence.UNKNOWN, "lies on the left"),
        ("Parotid_L_1", (55.0,), 25.0, "parotid_left", Confidence.PROPOSED, "says more than the organ"),
        ("Parotid_R AI", (-55.0,), 25.0, "parotid_right", Confidence.PROPOSED, "says more than the organ"),
        ("Parrotid L", (55.0,), 25.0, "parotid_left", Confidence.PROPOSED, "similar to parotid"),
        ("Parrotid L", (-55.0,), 25.0, "", Confidence.UNKNOWN, "lies on the right"),
        ("Mandibel", (0.0,), 60.0, "mandible", Confidence.PROPOSED, "similar to mandib"),
        ("Mandibel", (0.0,), 9000.0, "", Confidence.UNKNOWN, "9000 ml"),
        ("Brainstem_PRV03", (0.0,), 30.0, "", Confidence.NO_ORGAN, "margin or help"),
        ("help larynx", (0.0,), 30.0, "", Confidence.NO_ORGAN, "margin or help"),
        ("BODY", (0.0,), 13000.0, "", Confidence.NO_ORGAN, "outline"),
        ("qwrt", (0.0,), 30.0, "", Confidence.UNKNOWN, ""),
    ],
)
def test_a_name_is_known_proposed_or_unknown(
    name: str,
    left_mm: tuple[float, ...],
    ml: float,
    organ: str,
    confidence: Confidence,
    remark: str,
    organ_table: OrganTable,
) -> None:
    found = meaning_of(_survey(name, left_mm, ml), organ_table)
    assert (found.organ, found.confidence) == (organ, confidence)
    assert remark in found.remark
    assert found.line.counts == (confidence in {Confidence.KNOWN, Confidence.NO_ORGAN})


@pytest.mark.parametrize("kind", ["PTV", "GTV", "SUPPORT", "BOLUS"])
def test_targets_and_devices_are_no_organs_whatever_they_are_called(
    kind: str, organ_table: OrganTable
) -> None:
    found = meaning_of(_survey("Larynx", kind=kind), organ_table)
    assert (found.organ, found.confidence) == ("", Confidence.NO_ORGAN)
