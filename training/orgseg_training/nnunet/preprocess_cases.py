"""Preprocessing of scans with plans that exist already, one scan after the other; finished ones are kept."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from orgseg_training.durable import read_json
from orgseg_training.nnunet.progress import ProgressWriter
from orgseg_training.nnunet.run import CONFIGURATION, PLANS

_PARTS = (".b2nd", "_seg.b2nd", ".pkl")  # nnU-Net lists a scan by its .pkl, so this one comes last


def preprocess_cases(raw: Path, preprocessed: Path, progress: Path) -> None:
    """Preprocess every scan of a raw data set.

    Parameters
    ----------
    raw : nnU-Net's folder of the raw data set
    preprocessed : its folder of the preprocessed one, with plans and ``dataset.json``
    progress : file to which progress is appended
    """
    plans = PlansManager(read_json(preprocessed / f"{PLANS}.json"))
    dataset = read_json(preprocessed / "dataset.json")
    configuration = plans.get_configuration(CONFIGURATION)
    preprocessor = configuration.preprocessor_class(verbose=False)
    target = preprocessed / configuration.data_identifier
    target.mkdir(parents=True, exist_ok=True)
    writer = ProgressWriter(progress)
    labels = sorted((raw / "labelsTr").glob("*.nii.gz"))
    for number, label in enumerate(labels, 1):
        key = label.name.removesuffix(".nii.gz")
        if not (target / f"{key}.pkl").is_file():
            with tempfile.TemporaryDirectory(dir=preprocessed) as work:
                image = str(raw / "imagesTr" / f"{key}_0000.nii.gz")
                place = str(Path(work) / key)
                preprocessor.run_case_save(place, [image], str(label), plans, configuration, dataset)
                for part in _PARTS:
                    shutil.move(place + part, target / f"{key}{part}")
        writer.event("preprocessed", done=number, total=len(labels))
