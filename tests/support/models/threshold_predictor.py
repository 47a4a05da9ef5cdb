"""A predictor without a network: it finds the phantom's organs by their Hounsfield units.

It implements the `Predictor` protocol honestly: it looks at the volume it is given, inside the body it is
given, and knows nothing of how the phantom was made except the tissue's HU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orgseg_node.core.body import Body
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.inference.predictor import ModelIdentity, Prediction, ProgressCallback

WINDOWS_HU = {  # organ key: lowest and highest HU
    "brainstem": (38.0, 60.0),
    "spinal_cord": (33.0, 37.0),
    "parotid_left": (0.0, 15.0),
    "parotid_right": (0.0, 15.0),
    "mandible": (750.0, 1200.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdPredictor:
    """Labels voxels by HU; left and right by the side of the body's middle in LPS.

    Attributes
    ----------
    organs : the organ table
    also_looked_for : keys of organs it never finds
    sides_swapped : calls left right, as a model trained with mirroring might
    """

    organs: OrganTable
    also_looked_for: tuple[str, ...] = ()
    sides_swapped: bool = False

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        """One model: the thresholds."""
        use = "Tests of the node on its phantom."
        return (ModelIdentity(name="threshold", version="1", sha256="ab" * 32, intended_use=use),)

    def predict(self, volume: Volume, body: Body, on_progress: ProgressCallback) -> Prediction:
        """Label every voxel inside the body by its HU."""
        labels = np.zeros(volume.grid.shape, np.uint8)
        x = np.empty(labels.shape, np.float32)
        rows_and_columns = np.indices((1, *labels.shape[1:])).reshape(3, -1).T
        for k in range(labels.shape[0]):  # all at once would take gigabytes for a large series
            x[k] = volume.grid.to_lps(rows_and_columns + np.array([k, 0, 0]))[:, 0].reshape(x[k].shape)
        left = x > x[body.mask].mean(dtype=np.float64)
        if self.sides_swapped:
            left = ~left
        for number, (key, (low, high)) in enumerate(WINDOWS_HU.items(), start=1):
            found = body.mask & (volume.hu >= low) & (volume.hu <= high)
            side = self.organs[key].side
            if side is not None:
                found &= left if side == "left" else ~left
            labels[found] = number
            on_progress(number / len(WINDOWS_HU), key)
        keys = (*WINDOWS_HU, *self.also_looked_for)
        return Prediction(
            label_map=LabelMap(
                grid=volume.grid, labels=labels, organs={n: self.organs[key] for n, key in enumerate(keys, 1)}
            ),
            models=self.models,
            method="whole",
            device="cpu",
            timings_s={"threshold": 0.0},
        )
