"""One network for each organ against one for all, with the same budget of training and the same start.

Both strategies go on from the networks of one bundle, on the same scans, with the schedule of one file
for `orgseg-train tune`: strategy 2 trains one network for all steps of the file, strategy 1 one network
for each organ, each for an equal part of them, so that on a quiet machine both train equally long; a step
of a smaller network takes less. Preparing scans and measuring are not counted. Prints the steps and the
time of a step, then for every organ the mean Dice of both on the scans that were held out, the mean
difference, and p of Wilcoxon's signed-rank test after Holm. Organs are measured as the networks leave
them, those of strategy 1 one by one, so that none of them takes a voxel from another one.

Run: ``python -m benchmarks.strategies FILE OUT --database openkbp=FOLDER``, for instance with
``training/config/experiments/starter-tune.toml``. It continues where it was interrupted; OUT/joint may be the
folder of ``orgseg-train tune`` with the same file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import tomli_w

from benchmarks.bundles import compare_scores
from orgseg_training.evaluation.results import read_cases
from orgseg_training.nnunet.sides import other_sides

_JOINT: Final = "joint"


def main() -> None:
    """Train both, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="a file of orgseg-train tune")
    parser.add_argument("out", type=Path, help="working folder")
    parser.add_argument("--start", default="", help="bundle to start from, in place of that of the file")
    parser.add_argument("--database", action="append", default=[], help="NAME=FOLDER")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    settings = tomllib.loads(options.file.read_text(encoding="utf-8"))
    settings["bundle"].pop("stay", None)
    organs: list[str] = settings["organs"]
    passed = [f"--threads={options.threads}", *(f"--database={each}" for each in options.database)]
    passed += [f"--from={options.start}"] if options.start else []
    folders = {_JOINT: options.out / _JOINT} | {organ: options.out / organ for organ in organs}
    for name, folder in folders.items():
        train(settings if name == _JOINT else of_one_organ(settings, name, len(organs)), folder, passed)
    joint = read_cases(folders[_JOINT] / "held_out.parquet")
    single = [score for organ in organs for score in read_cases(folders[organ] / "held_out.parquet")]
    for strategy, names in (("strategy 1", organs), ("strategy 2", [_JOINT])):
        done = [steps_done(folders[name]) for name in names]
        print(f"{strategy}: {', '.join(f'{steps} steps of {seconds:.2f} s' for steps, seconds in done)}")
    print(f"{'Dice':<16}{'n':>4}{'1':>9}{'2':>9}{'2 - 1':>16}{'p (Holm)':>10}")
    for line in compare_scores(single, joint, "dsc"):
        print(line)


def of_one_organ(settings: Mapping[str, Any], organ: str, organs: int) -> dict[str, Any]:
    """The file for the network of one organ.

    Parameters
    ----------
    settings : of the network of all organs
    organ : key of the organ table; the scans of an organ that has another side cannot be mirrored
    organs : number of organs that share the steps
    """
    mirrored = settings["training"].get("mirrored", False) and other_sides([organ]) is not None
    steps = round(settings["training"]["steps_per_block"] / organs)
    return {
        **settings,
        "organs": [organ],
        "training": {**settings["training"], "mirrored": mirrored, "steps_per_block": steps},
        "bundle": {**settings["bundle"], "name": f"only-{organ.replace('_', '-')}", "alone": True},
    }


def train(settings: Mapping[str, Any], folder: Path, passed: Sequence[str]) -> None:
    """Train and measure, or go on with it; what is finished is kept.

    Parameters
    ----------
    settings : file of ``orgseg-train tune``
    folder : working folder
    passed : other options of the command
    """
    if (folder / "models" / settings["bundle"]["name"]).is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tune.toml"
    file.write_text(tomli_w.dumps(dict(settings)), encoding="utf-8")
    command = [sys.executable, "-m", "orgseg_training.cli", "tune", f"--config={file}", f"--out={folder}"]
    subprocess.run([*command, "--accept-low", *passed], check=True)


def steps_done(folder: Path) -> tuple[int, float]:
    """The number of steps of a training, and the mean of the times of a step that it measured, in seconds.

    Parameters
    ----------
    folder : working folder of the training
    """
    lines = (folder / "tune" / "progress.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    steps = max(int(event["done"]) for event in events if event["event"] == "step")
    return steps, fmean(event["seconds_per_step"] for event in events if event["event"] == "timed")


if __name__ == "__main__":
    main()
