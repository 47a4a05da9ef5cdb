"""Whether a scan is contoured at all, which part of it, and which organs: decided before the network runs.

A scan that shows another region of the body than the model was trained on, or whose header contradicts the
anatomy, is held. Of several models, those whose region the scan does not show contribute nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from orgseg_node.core.body import Body
from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.geometry import Box
from orgseg_node.core.scan.grid import scan_grid
from orgseg_node.core.scan.judgement import REGION_NOT_TRAINED, ScanJudgement, judge_kind, judge_scan
from orgseg_node.core.scan.kind import LEAST_ML
from orgseg_node.core.scan.reference import Range, ScanReference
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.errors import scan_error
from orgseg_node.inference.predictor import ModelIdentity, Prediction, Predictor, ProgressCallback

_ALONG: Final = 0.9  # cosine from which the slices are counted as axial


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRules:
    """What a scan is compared with, and what follows.

    Attributes
    ----------
    references : the training scans of models, by the SHA-256 of the bundle; a model without them is run on
        every scan
    released : a person has decided that the scan is contoured anyway
    """

    references: Mapping[str, ScanReference] = field(default_factory=dict)
    released: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanDecision:
    """What the network is run on.

    Attributes
    ----------
    findings : for people
    range_mm : lowest and highest z in mm of the part that is contoured; None for the whole scan
    absent : keys of organs that are not contoured, because they cannot be in the scan
    elsewhere : names of the models whose region the scan does not show
    """

    findings: tuple[Finding, ...] = ()
    range_mm: Range | None = None
    absent: frozenset[str] = frozenset()
    elsewhere: frozenset[str] = frozenset()


def check_scan(volume: Volume, body: Body, models: Sequence[ModelIdentity], rules: ScanRules) -> ScanDecision:
    """Decide whether, where and for which organs a scan is contoured.

    Parameters
    ----------
    volume : CT in HU
    body : the patient in it
    models : that are to be run
    rules : what the scan is compared with

    Raises
    ------
    ScanDoubtful
        If the scan must not be contoured without a person's decision.
    """
    references = {m.name: rules.references[m.sha256] for m in models if m.sha256 in rules.references}
    if not references and body.mask.sum() * volume.grid.voxel_ml < LEAST_ML:
        return ScanDecision()
    scan = scan_grid(volume, body.mask)
    if not references:
        return ScanDecision(findings=judge_kind(scan).findings)
    judged = {name: judge_scan(scan, reference, name) for name, reference in references.items()}
    if rules.released:
        return ScanDecision(
            findings=_unique([f for one in judged.values() for f in one.findings], released=True)
        )
    elsewhere = {name for name, one in judged.items() if _only_region(one)}
    reasons = [f for name, one in judged.items() if name not in elsewhere for f in one.reasons]
    if len(elsewhere) == len(models):
        reasons += [f for name in elsewhere for f in judged[name].reasons]
    if reasons:
        raise scan_error(reasons[0].code, " ".join(dict.fromkeys(f.message for f in reasons)))
    absent: set[str] = set()
    for name, one in judged.items():
        absent |= set(references[name].organs_mm) if name in elsewhere else one.absent
    return ScanDecision(
        findings=_unique([f for one in judged.values() for f in one.findings]),
        range_mm=_union(
            [judged[name].range_mm for name in judged.keys() - elsewhere], len(models) - len(judged)
        ),
        absent=frozenset(absent),
        elsewhere=frozenset(elsewhere),
    )


def predict_part(
    predictor: Predictor, decision: ScanDecision, scan: tuple[Volume, Body], on_progress: ProgressCallback
) -> Prediction:
    """Run the network on the part of a scan that is contoured, without the organs that cannot be in it.

    Parameters
    ----------
    predictor : finds the organs
    decision : see `check_scan`
    scan : CT in HU, and the patient in it
    on_progress : called during the work; may raise to stop

    Returns
    -------
    The result on the grid of the whole scan.
    """
    volume, body = scan
    part = None if decision.range_mm is None else planes_between(volume, decision.range_mm)
    if part is None:
        prediction = predictor.predict(volume, body, on_progress)
    else:
        mask = body.mask[part.slices]
        prediction = predictor.predict(
            volume.crop(part), replace(body, mask=mask, box=Box.around(mask)), on_progress
        )
        labels = np.zeros(volume.grid.shape, dtype=np.uint8)
        labels[part.slices] = prediction.label_map.labels
        prediction = replace(
            prediction, label_map=replace(prediction.label_map, grid=volume.grid, labels=labels)
        )
    return replace(prediction, label_map=_without(prediction.label_map, decision.absent))


def _only_region(judgement: ScanJudgement) -> bool:
    """Whether a scan is held for no other reason than that it shows another region."""
    return bool(judgement.reasons) and all(f.code == REGION_NOT_TRAINED for f in judgement.reasons)


def _unique(findings: Sequence[Finding], *, released: bool = False) -> tuple[Finding, ...]:
    """Each finding once; none is an error any more."""
    prefix = "Contoured by a person's decision. " if released else ""
    lowered = [
        replace(f, level=Level.WARNING, message=f"{prefix}{f.message}") if f.level is Level.ERROR else f
        for f in findings
    ]
    return tuple(dict.fromkeys(lowered))


def _union(ranges: Sequence[Range | None], unknown: int) -> Range | None:
    """The smallest range that contains all; None, the whole scan, if one is not limited or not known."""
    known = [each for each in ranges if each is not None]
    if unknown or not known or len(known) < len(ranges):
        return None
    return min(low for low, _ in known), max(high for _, high in known)


def planes_between(volume: Volume, range_mm: Range) -> Box | None:
    """The slices between two heights; None if the slices are not axial, or none is there."""
    grid = volume.grid
    along = grid.axes[0][2]
    if abs(along) < _ALONG:
        return None
    heights = grid.origin_mm[2] + along * grid.spacing_mm[0] * np.arange(grid.shape[0])
    inside = np.flatnonzero((heights >= range_mm[0]) & (heights <= range_mm[1]))
    if inside.size == 0:
        return None
    first, last = int(inside[0]), int(inside[-1])
    return Box(start=(first, 0, 0), stop=(last + 1, grid.shape[1], grid.shape[2]))


def _without(label_map: LabelMap, absent: frozenset[str]) -> LabelMap:
    """The label map without these organs; they stay in its table, as organs that were not found."""
    removed = [label for label, organ in label_map.organs.items() if organ.key in absent]
    if not removed:
        return label_map
    table = np.arange(256, dtype=np.uint8)
    table[removed] = 0
    return replace(label_map, labels=table[label_map.labels])
