"""What a person must know of an imported network: nothing that was decided or left out stays unsaid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from orgseg_node.inference.bundles.dataset_json import channel_remark
from orgseg_node.inference.bundles.manifest import CANONICAL
from orgseg_node.inference.bundles.trained import CHECKPOINTS, TrainedModel
from orgseg_node.inference.bundles.writing import WrittenPart

POSTPROCESSING: Final = ("postprocessing.pkl", "postprocessing.json")
_SIDES: Final = ("_left", "_right")
_MOST_LABELS: Final = 30  # all vertebrae
_MOST_PAIRS: Final = 10


def import_remarks(written: WrittenPart, orientation: str, *, mirroring: bool) -> list[str]:
    """Sentences about one network, for the console and the model card.

    Parameters
    ----------
    written : the network in its new bundle
    orientation : of the training arrays, such as ``LPS``
    mirroring : average over mirrored copies in use

    Returns
    -------
    one sentence for each thing that is unusual; empty for an ordinary network
    """
    model, part = written.model, written.part
    found = [*model.remarks, *_about_folds(written)]
    channel = channel_remark(model.dataset)
    found += [channel] if channel else []
    found += _renamed(written)
    found += _joined(model.labels, part.labels)
    found += dict.fromkeys(sentence for result in written.results for sentence in result.remarks)
    if reason := written.results[0].not_streamable:
        found.append(f'The streaming engine cannot run it, only method = "whole" can: {reason}')
    if _left_right_axis(model.plans.get("transpose_forward") or (0, 1, 2), orientation) in part.mirror_axes:
        found += _about_mirroring(part.labels, mirroring=mirroring)
    stored = sorted({p.name for name in POSTPROCESSING for p in model.folder.rglob(name)})
    if stored:
        found.append(
            f"nnU-Net stored a postprocessing ({', '.join(stored)}), which is not applied; a protocol can "
            "keep the largest piece of an organ."
        )
    return found


def orientation_remarks(models: Sequence[TrainedModel], stated: str | None, name: str) -> list[str]:
    """That the orientation of the training is assumed, and how to find it out; empty if it is known.

    Parameters
    ----------
    models : to import
    stated : orientation that the user stated
    name : of the new bundle
    """
    if stated is not None or any(model.orientation != CANONICAL for model in models):
        return []
    sentence = (
        f"Its files do not tell the orientation of the training; {CANONICAL} is assumed. Find it out with "
        f"'orgseg models orientation {name} CT_DIR --keep', or state it with --orientation."
    )
    return [sentence]


def _about_folds(written: WrittenPart) -> list[str]:
    found = []
    final = CHECKPOINTS[0]
    best = [fold for fold, path in written.checkpoints.items() if path.name != final]
    if best:
        found.append(f"No {final} in fold {', '.join(best)}; {CHECKPOINTS[1]} was taken.")
    left_out = [fold for fold in written.model.checkpoints if fold not in written.checkpoints]
    left_out += [fold for fold in written.model.unfinished if fold not in written.checkpoints]
    if left_out:
        used = ", ".join(written.checkpoints)
        found.append(f"Fold {', '.join(left_out)} is left out; averaged is fold {used}.")
    return found


def _renamed(written: WrittenPart) -> list[str]:
    names, organs = written.model.labels, written.part.labels
    renamed = {n: old for result in written.results for n, old in result.renamed.items() if n in organs}
    pairs = [f"{old} is {names[n]}" for n, old in sorted(renamed.items())]
    if not pairs:
        return []
    few = _listed(pairs, _MOST_PAIRS)
    return [f"dataset.json names labels otherwise than the training of the checkpoint: {few}."]


def _joined(names: Mapping[int, str], organs: Mapping[int, str]) -> list[str]:
    by_organ: dict[str, list[str]] = {}
    for number, key in organs.items():
        by_organ.setdefault(key, []).append(names[number])
    return [
        f"{len(labels)} labels become one organ, {key}: {_listed(labels, _MOST_LABELS)}."
        for key, labels in by_organ.items()
        if len(labels) > 1
    ]


def _left_right_axis(transpose: Sequence[int], orientation: str) -> int:
    """The axis of the network that runs between left and right."""
    letter = next(n for n, one in enumerate(orientation) if one in "LR")
    return [int(axis) for axis in transpose].index(2 - letter)  # the letters are of columns, rows, slices


def _about_mirroring(organs: Mapping[int, str], *, mirroring: bool) -> list[str]:
    sided = list(dict.fromkeys(key for key in organs.values() if key.endswith(_SIDES)))
    if not sided:
        return []
    few = _listed(sided, 3)
    use = ", and in use it averages over mirrored copies" if mirroring else ""
    sentence = (
        f"It tells left from right ({few}), but was trained on copies mirrored between left and right{use}: "
        "it may exchange the sides. Look at both sides; train with nnUNetTrainer_onlyMirror01 to end this."
    )
    return [sentence]


def _listed(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
