"""The reference anatomy of a bundle, ``reference.json``: written, and made from cases."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from orgseg_node.core.anatomy.fitting import MeasuredPatient, fit_reference, measure_patient
from orgseg_node.core.anatomy.reference import AnatomyReference
from orgseg_node.core.anatomy.working_grid import WorkingGrid
from orgseg_node.core.body import find_body
from orgseg_node.core.body.size import measure_size
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.scan.reference import ScanReference, TrainingScan, learn_scan_reference
from orgseg_node.core.volume import LabelMap, Mask, Volume
from orgseg_node.durable import write_durably
from orgseg_node.errors import BodyNotFound, InputError
from orgseg_node.inference.bundles.bundle import ModelBundle, file_sha256, open_bundle
from orgseg_node.inference.bundles.manifest import MANIFEST, parse_manifest, render_manifest
from orgseg_node.inference.bundles.references import REFERENCE


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnatomyCase:
    """A patient with contours.

    Attributes
    ----------
    volume : CT in HU
    masks : (K, J, I) bool by key of the organ, of the organs that were drawn
    age_years : None if not known
    """

    volume: Volume
    masks: Mapping[str, Mask]
    age_years: float | None = None


def render_anatomy(reference: AnatomyReference) -> bytes:
    """The reference as JSON, the same bytes for the same content."""
    return (json.dumps(reference.as_dict(), separators=(",", ":"), sort_keys=True) + "\n").encode()


def replace_anatomy(bundle: ModelBundle, reference: AnatomyReference) -> ModelBundle:
    """Write a reference anatomy into a bundle; if it is interrupted, `verify_bundle` reports the bundle.

    Parameters
    ----------
    bundle : that finds the organs
    reference : of these organs

    Returns
    -------
    the changed bundle, which has another hash

    Raises
    ------
    DiskFull, StorageError
        If the folder of the bundle cannot be written.
    """
    write_durably(bundle.path / REFERENCE, render_anatomy(reference), mode=0o644)
    files = {**bundle.manifest.files, REFERENCE: file_sha256(bundle.path / REFERENCE)}
    content = render_manifest(replace(bundle.manifest, files=files))
    parse_manifest(content)  # a check only: raises if the new manifest cannot be parsed
    write_durably(bundle.path / MANIFEST, content, mode=0o644)
    return open_bundle(bundle.path)


def learn_anatomy(
    cases: Iterable[AnatomyCase],
    source: str,
    table: OrganTable,
    on_case: Callable[[int], None] = lambda _: None,
    known: ScanReference | None = None,
) -> AnatomyReference:
    """The reference anatomy of cases, with what their scans look like.

    Parameters
    ----------
    cases : patients with clinical contours; those without a patient in the image are left out
    source : where they come from and under which licence, in one sentence
    table : the organ table
    on_case : called with the number of cases that are done
    known : what the scans of the bundle that this one was made from look like, if there is one

    Raises
    ------
    InputError
        If there are too few cases.
    """
    patients: list[MeasuredPatient] = []
    scans: list[TrainingScan] = []
    for number, case in enumerate(cases, start=1):
        try:
            body = find_body(case.volume).mask
        except BodyNotFound:
            continue
        scan = WorkingGrid(case.volume.grid, case.volume.hu, body)
        size = measure_size(case.volume, body)
        patients.append(measure_patient(scan, case.masks, case.age_years, size.effective_diameter_mm))
        scans.append(TrainingScan.of(case.volume, body, _label_map(case, table)))
        on_case(number)
    learned = learn_scan_reference(scans, known)
    try:
        return fit_reference(patients, source, None if learned is None else learned.as_dict())
    except ValueError as error:
        raise InputError(f"There is no reference anatomy of {len(patients)} cases: {error}.") from error


def _label_map(case: AnatomyCase, table: OrganTable) -> LabelMap:
    labels = np.zeros(case.volume.grid.shape, dtype=np.uint8)
    organs = {number: table[key] for number, key in enumerate(sorted(case.masks), start=1)}
    for number, organ in organs.items():
        labels[case.masks[organ.key]] = number
    return LabelMap(grid=case.volume.grid, labels=labels, organs=organs)
