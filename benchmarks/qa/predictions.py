"""Results of a bundle on patients of the benchmark, kept in a folder, since networks are slow on a CPU.

A kept result belongs to the networks of the bundle and to the image, not to the reference anatomy: with
another reference it is still valid. After a change of the inference the folder must be removed by hand.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.qa.faults import Labels, Patient
from orgseg_node.core.body import Body, find_body
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import InferenceSettings, Predictor
from orgseg_training.datasets.openkbp import LABELS

_FOLDER: Final = Path("build/qa")
_PARTS: Final = "parts/"


@dataclass(slots=True, kw_only=True)
class KeptPredictions:
    """The organs that a bundle finds, computed once.

    Attributes
    ----------
    bundle : finds the organs
    table : the organ table
    folder : of the kept results
    """

    bundle: ModelBundle
    table: OrganTable
    folder: Path = field(default_factory=lambda: Path(os.environ.get("ORGSEG_QA_CACHE", _FOLDER)))
    _predictor: Predictor | None = None

    def of(self, patient: Patient) -> tuple[LabelMap, float]:
        """The organs of a patient, on the grid of the image, and the CPU seconds that finding them took."""
        body = find_body(Volume(grid=patient.grid, hu=patient.hu))
        path = self.folder / f"{patient.name}-{self._key(patient)}.npz"
        if path.is_file():
            with np.load(path) as kept:
                labels: Labels = kept["labels"]
                seconds = float(kept["seconds"])
        else:
            begun = time.process_time()
            labels = self._found(patient, body)
            seconds = time.process_time() - begun
            self.folder.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            with part.open("wb") as stream:
                np.savez_compressed(stream, labels=labels, seconds=seconds)
            part.replace(path)
        organs = {number: self.table[key] for key, number in LABELS.items() if key in self._keys()}
        return LabelMap(grid=patient.grid, labels=labels, organs=organs), seconds

    def _found(self, patient: Patient, body: Body) -> Labels:
        if self._predictor is None:
            self._predictor = load_predictor(self.bundle, self.table, InferenceSettings(device="cpu"))
        volume = Volume(grid=patient.grid, hu=patient.hu)
        result = self._predictor.predict(volume, body, lambda _part, _what: None).label_map
        table = np.zeros(256, dtype=np.uint8)
        for number, organ in result.organs.items():
            table[number] = LABELS[organ.key]
        return table[result.labels]

    def _key(self, patient: Patient) -> str:
        digest = hashlib.sha256(np.ascontiguousarray(patient.hu).tobytes())
        for name, sha256 in sorted(self.bundle.manifest.files.items()):
            if name.startswith(_PARTS):
                digest.update(sha256.encode())
        return digest.hexdigest()[:16]

    def _keys(self) -> frozenset[str]:
        return frozenset(key for part in self.bundle.manifest.parts for key in part.labels.values())
