"""The page shows all that a person must know, fits for any content, and is reproducible."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from orgseg_node.contouring.report_pdf import draw_page, render_report_pdf

VERSIONS = ("orgseg_node", "python", "torch", "nnunetv2", "pydicom", "highdicom", "numpy", "SimpleITK")


def _montage(rows: int = 136, columns: int = 248) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (rows, columns, 3), dtype=np.uint8)
    matplotlib.image.imsave(file, pixels, format="png")
    return file.getvalue()


def _organ(number: int, name: str = "") -> dict[str, Any]:
    spread = {"folds": 5, "mean_dice": 0.934, "volume_min_ml": 11.0, "volume_max_ml": 1234.5}
    return {
        "name": name or f"Organ_{number}",
        "voxels": 100 if number % 7 else 0,
        "volume_ml": number * 13.333 if number % 7 else 0.0,
        "disagreement": spread if number % 2 else None,
    }


def _finding(number: int, level: str = "") -> dict[str, Any]:
    return {
        "level": level or ("info", "warning", "error")[number % 3],
        "code": "ORGAN_AT_SCAN_END",
        "message": f"Organ {number} reaches the first slice and may go on beyond. " * (1 + number % 4),
    }


def _report(organs: int = 5, findings: int = 2, models: int = 1) -> dict[str, Any]:
    return {
        "job_id": "0123456789abcdef",
        "created": "2024-05-06T07:08:09+00:00",
        "organs": [_organ(number) for number in range(1, organs + 1)],
        "findings": [_finding(number) for number in range(findings)],
        "models": [{"name": f"m{n}", "version": "1.0", "sha256": "ab" * 32} for n in range(models)],
        "method": "streaming",
        "device": "cpu",
        "versions": dict.fromkeys(VERSIONS, "1.2.3"),
    }


def _lines(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def _text(figure: Figure) -> str:
    return "\n".join(_lines(figure))


def test_it_begins_with_not_reviewed() -> None:
    lines = _lines(draw_page(_report(), _montage()))
    assert lines[0] == "AUTOMATIC, NOT REVIEWED"
    assert "qualified person" in lines[1]
    assert "0123456789abcdef" in lines[2]
    assert "2024-05-06" in lines[2]


def test_organs_findings_models_and_versions_are_there() -> None:
    text = _text(draw_page(_report(organs=8), None))
    assert re.search(r"Organ_3 +40\.00 ml Dice 0\.93, 11\.0-1234\.5 ml", text)
    assert re.search(r"Organ_7 +not found", text)
    assert re.search(r"Organ_2 +26\.67 ml *(Organ|$)", text, re.MULTILINE)
    assert "WARNING Organ 1 reaches the first slice" in text
    assert f"m0 1.0 sha256 {'ab' * 32}" in text
    for name in VERSIONS:
        assert f"{name} 1.2.3" in text


def test_the_cohort_of_the_patient_is_there() -> None:
    cohort = {
        "age": "unknown",
        "effective_diameter_mm": 181.4,
        "ap_mm": 190.0,
        "lat_mm": 173.0,
        "cut_by_field_of_view": 0.4,
        "models": [{"name": "m0", "trained_on": None, "age_trained": None, "size_trained": None}],
    }
    text = _text(draw_page(_report() | {"cohort": cohort}, None))
    assert "Cohort: age unknown, effective diameter 181 mm" in text
    assert "cut by the field of view" in text
    assert "m0: does not say on which patients" in text


def test_the_absence_of_findings_is_stated() -> None:
    assert "Findings: none" in _lines(draw_page(_report(findings=0), None))


def test_the_patient_is_named_only_on_request() -> None:
    assert "Patient" not in _text(draw_page(_report(), None))
    assert "Patient: Doe^Jane" in _lines(draw_page(_report(), None, patient="Doe^Jane"))


def test_entries_that_do_not_fit_are_counted_and_the_worst_findings_stay() -> None:
    report = _report(organs=104, findings=0, models=9)
    report["findings"] = [_finding(n, "info") for n in range(60)] + [_finding(60, "error")]
    text = _text(draw_page(report, _montage()))
    shown = len(set(re.findall(r"Organ_\d+", text)))
    assert f"... and {104 - shown} more organs" in text
    listed = len(re.findall(r"^(?:ERROR|INFO) ", text, re.MULTILINE))
    assert f"... and {61 - listed} more findings" in text
    assert "ERROR   Organ 60" in text
    assert "... and 3 more models" in text


@pytest.mark.parametrize(
    ("organs", "findings", "models", "montage"),
    [
        (0, 0, 1, None),
        (1, 1, 1, _montage()),
        (2, 40, 1, _montage(900, 200)),
        (48, 7, 6, _montage()),
        (104, 61, 9, _montage()),
        (255, 300, 30, _montage(30, 900)),
    ],
)
def test_everything_is_on_the_page_and_nothing_overlaps(
    organs: int, findings: int, models: int, montage: bytes | None
) -> None:
    report = _report(organs, findings, models)
    report["organs"] += [_organ(1, "W" * 64)]
    figure = draw_page(report, montage, patient="W" * 300)
    renderer = FigureCanvasAgg(figure).get_renderer()
    sheet = figure.bbox
    boxes = [text.get_window_extent(renderer) for text in figure.texts if text.get_text()]
    boxes += [axes.get_window_extent(renderer) for axes in figure.axes]
    for number, box in enumerate(boxes):
        assert box.x0 >= sheet.x0
        assert box.x1 <= sheet.x1
        assert box.y0 >= sheet.y0
        assert box.y1 <= sheet.y1
        for other in boxes[:number]:
            shared = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert shared < 0.3 * min(box.height, other.height), "lines may touch, not cover each other"


def test_any_text_can_be_drawn() -> None:
    report = _report()
    report["organs"] = [_organ(1, "\u76ae\u819a $\\frac$"), _organ(2, "R\u00fcckenmark")]
    report["findings"][0]["message"] = "Line\nbreak and \u200b nothing"
    text = _text(draw_page(report, None))
    assert "?? $\\frac$" in text
    assert "R\u00fcckenmark" in text
    assert render_report_pdf(report, None).startswith(b"%PDF-")


def test_it_is_one_page_and_the_same_each_time() -> None:
    report, montage = _report(104, 61, 9), _montage()
    pdf = render_report_pdf(report, montage)
    assert pdf == render_report_pdf(report, montage)
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 1
    assert b"20240506" in pdf  # the day of the job, not of the clock
