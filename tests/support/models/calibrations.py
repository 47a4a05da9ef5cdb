"""Calibrations for bundles in tests."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle
from orgseg_node.inference.bundles.calibration import Calibration, OrganAgreement, Precision, ReferenceCt
from orgseg_node.inference.bundles.writing import replace_calibration


def a_calibration(keys: Iterable[str] = ("spleen", "liver"), /, **changes: Any) -> Calibration:
    """A good calibration of these organs with the OpenVINO that is installed, with changes."""
    good = Calibration(
        software="openvino",
        version=importlib.metadata.version("openvino"),
        precision=Precision.F32,
        date=dt.date(2026, 1, 31),
        references=(ReferenceCt(sha256="c" * 64, voxels=1000),),
        organs={key: OrganAgreement(dice=1.0, found_on=1, outside_ml=0.0) for key in keys},
    )
    return replace(good, **changes)


def calibrated(bundle: ModelBundle, folder: Path, **changes: Any) -> ModelBundle:
    """A copy of a bundle that says that it was calibrated."""
    shutil.copytree(bundle.path, folder)
    return replace_calibration(open_bundle(folder), a_calibration(bundle.manifest.organs, **changes))
