"""Forced patches that give every organ the same chance, however rarely it is drawn.

nnU-Net takes any scan, then one of the organs that are drawn there: an organ drawn in a third of the scans
gets a third of the patches of one that is drawn in all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader


class BalancedLoader(nnUNetDataLoader):  # type: ignore[misc]
    """For a forced patch it takes any organ, then any scan in which that organ is drawn.

    Parameters
    ----------
    drawn : the organ numbers that are drawn in each scan, by key
    undrawn : scans in which no organ was drawn, because they show another region
    undrawn_share : part of the other patches that are taken from them; 0 to take them as often as any scan
    """

    def __init__(
        self,
        *args: Any,
        drawn: Mapping[str, Sequence[int]],
        undrawn: Sequence[str] = (),
        undrawn_share: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        keys = set(self.indices)
        organs = sorted({number for key in keys for number in drawn.get(key, ())})
        self._scans = {
            number: sorted(key for key in keys if number in drawn.get(key, ())) for number in organs
        }
        self._undrawn, self._others = sorted(keys & set(undrawn)), sorted(keys - set(undrawn))
        self._undrawn_share = undrawn_share if self._undrawn and self._others else 0.0
        self._organs: list[int | None] = []
        self._organ: int | None = None
        self.get_do_oversample = self._force  # nnU-Net asks it for each patch of a batch, before `get_bbox`

    def get_indices(self) -> list[str]:
        """The scans of a batch."""
        keys = list(super().get_indices())
        self._organs = [None] * len(keys)
        for place in range(len(keys)):
            if self._scans and self._oversample_last_XX_percent(place):
                organ = int(np.random.choice(list(self._scans)))  # noqa: NPY002 - as nnU-Net
                keys[place] = str(np.random.choice(self._scans[organ]))  # noqa: NPY002 - as nnU-Net
                self._organs[place] = organ
            elif self._undrawn_share:
                is_undrawn = np.random.random() < self._undrawn_share  # noqa: NPY002 - as nnU-Net
                scans = self._undrawn if is_undrawn else self._others
                keys[place] = str(np.random.choice(scans))  # noqa: NPY002 - as nnU-Net
        return keys

    def _force(self, place: int) -> bool:
        self._organ = self._organs[place]
        return self._organ is not None

    def get_bbox(
        self,
        data_shape: Any,
        force_fg: bool,  # noqa: FBT001  # the signature of nnU-Net
        class_locations: Mapping[int, Any] | None,
        overwrite_class: int | None = None,
        verbose: bool = False,  # noqa: FBT001, FBT002  # the signature of nnU-Net
    ) -> Any:
        """Where a patch is taken: around a voxel of the organ, if it is a forced one.

        Parameters
        ----------
        data_shape : of the scan
        force_fg : whether the patch is a forced one
        class_locations : voxels of each organ
        overwrite_class, verbose : see nnU-Net
        """
        if force_fg and class_locations is not None and self._organ in class_locations:
            overwrite_class = self._organ
        return super().get_bbox(data_shape, force_fg, class_locations, overwrite_class, verbose)
