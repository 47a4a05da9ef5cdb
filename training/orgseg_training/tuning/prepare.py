"""The scans of a fine-tuning as nnU-Net's raw data, prepared as the node prepares a CT for a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orgseg_node.core.body import cut_to_body, find_body
from orgseg_node.core.geometry import Grid
from orgseg_node.core.organs import OrganTable
from orgseg_node.durable import make_folder
from orgseg_node.errors import BodyNotFound
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.orientation import reorientation_to
from orgseg_node.inference.predictor import InferenceSettings, Predictor
from orgseg_training.datasets.case import Mask, OrganState
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.datasets.nifti import write_image
from orgseg_training.durable import read_json, write_json
from orgseg_training.nnunet.run import Machine
from orgseg_training.tuning.labels import UnknownSets, label_image, overlap_order
from orgseg_training.tuning.start import Start


@dataclass(frozen=True, slots=True, kw_only=True)
class RawData:
    """What was written.

    Attributes
    ----------
    base_labels : label of plain background of each scan, by key
    unknown_sets : organ numbers of each label above those of the organs
    left_out : reason for each scan that could not be used, by key
    """

    base_labels: Mapping[str, int]
    unknown_sets: Sequence[Sequence[int]]
    left_out: Mapping[str, str]


class RawWriter:
    """Writes nnU-Net's raw data set of a fine-tuning; scans that are written already are kept.

    Parameters
    ----------
    start : the old network and the organs of the new one
    table : the organ table
    machine : what the old network runs on, for organs that are kept
    folder : of nnU-Net's raw data set
    """

    def __init__(self, start: Start, table: OrganTable, machine: Machine, folder: Path) -> None:
        self._start = start
        self._table = table
        self._machine = machine
        self._folder = folder
        self._predictor: Predictor | None = None

    def write(self, cases: Sequence[StoredCase], on_case: Callable[[int], None]) -> RawData:
        """Write all scans.

        Parameters
        ----------
        cases : the scans
        on_case : called with the number of scans that are done

        Raises
        ------
        DiskFull, StorageError
            If a scan cannot be read or written.
        """
        for name in ("imagesTr", "labelsTr"):
            make_folder(self._folder / name)
        notes = self._folder / "labels.json"
        noted = read_json(notes) if notes.is_file() else {"base": {}, "sets": [], "left_out": {}}
        sets = UnknownSets(len(self._start.organs), noted["sets"])
        order = self._precedence(cases)
        for number, case in enumerate(sorted(cases, key=lambda case: case.key), 1):
            if case.key not in noted["base"] and case.key not in noted["left_out"]:
                try:
                    noted["base"][case.key] = self._write_case(case, order, sets)
                except BodyNotFound as error:
                    noted["left_out"][case.key] = error.sentence
                noted["sets"] = sets.sets
                write_json(notes, noted)
            on_case(number)
        self._predictor = None
        write_json(
            self._folder / "dataset.json",
            {
                "channel_names": {"0": "CT"},
                "labels": {"background": 0} | {organ: n for n, organ in enumerate(self._start.organs, 1)},
                "numTraining": len(noted["base"]),
                "file_ending": ".nii.gz",
            },
        )
        return RawData(base_labels=noted["base"], unknown_sets=noted["sets"], left_out=noted["left_out"])

    def _precedence(self, cases: Sequence[StoredCase]) -> list[int]:
        """Organ numbers, drawn before kept ones, and among the drawn ones the smaller organ first."""
        tuned = [n for n, organ in enumerate(self._start.organs, 1) if organ in self._start.tuned]
        sizes: dict[int, list[float]] = {number: [] for number in tuned}
        for case in cases:
            for number in tuned:
                organ = self._start.organs[number - 1]
                if organ in case.drawn:
                    mask = case.mask(organ)
                    sizes[number].append(float(np.count_nonzero(mask)))
        kept = [n for n in range(1, len(self._start.organs) + 1) if n not in tuned]
        return [*overlap_order(sizes), *kept]

    def _write_case(self, case: StoredCase, order: Sequence[int], sets: UnknownSets) -> int:
        preprocessing = self._start.bundle.manifest.preprocessing
        volume = case.volume()
        body = find_body(volume)
        cropped, box = cut_to_body(
            volume, body, preprocessing.body_margin_mm, outside_to_air=preprocessing.outside_to_air
        )
        drawn: dict[int, Mask] = {}
        unknown: dict[int, Mask | None] = {}
        for number, organ in enumerate(self._start.organs, 1):
            if organ in self._start.kept:
                continue
            state = case.state(organ)
            if state is OrganState.DRAWN:
                drawn[number] = case.mask(organ)
                if organ in case.known_slices:
                    beyond = np.ones(volume.grid.shape, np.bool_)
                    beyond[case.known(organ)] = False
                    unknown[number] = beyond
            elif state is OrganState.NOT_DRAWN:
                unknown[number] = None
        drawn |= dict(self._kept_masks(volume, body))
        labels, base = label_image(volume.grid.shape, drawn, order, unknown, sets)
        turn = reorientation_to(cropped.grid, preprocessing.orientation)
        grid = _plain(turn.apply_to_grid(cropped.grid))
        image: Any = np.ascontiguousarray(turn.apply(cropped.hu))
        write_image(self._folder / "imagesTr" / f"{case.key}_0000.nii.gz", image, grid)
        turned = np.ascontiguousarray(turn.apply(labels[box.slices]))
        write_image(self._folder / "labelsTr" / f"{case.key}.nii.gz", turned, grid)
        return base

    def _kept_masks(self, volume: Any, body: Any) -> Iterator[tuple[int, Mask]]:
        """What the old network finds of the organs that shall stay as they are."""
        if not self._start.kept:
            return
        if self._predictor is None:
            settings = InferenceSettings(device=self._machine.device, threads=self._machine.threads)
            self._predictor = load_predictor(self._start.only_kept, self._table, settings)
        found = self._predictor.predict(volume, body, lambda _done, _doing: None).label_map
        numbers = {organ.key: number for number, organ in found.organs.items()}
        for organ in self._start.kept:
            yield self._start.organs.index(organ) + 1, np.equal(found.labels, numbers[organ])


def _plain(grid: Grid) -> Grid:
    """The same voxels with the axes of the file: nnU-Net sees an array and its spacing only."""
    return Grid(shape=grid.shape, spacing_mm=grid.spacing_mm, origin_mm=(0.0, 0.0, 0.0))
