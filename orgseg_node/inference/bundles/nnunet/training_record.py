"""What a checkpoint remembers of its training, against the plans and labels in the folder beside it.

nnU-Net stores plans, configuration and ``dataset.json`` in every checkpoint, and predicts with the files of
the folder. Files of another training have the same shape, so the weights fit them: organs would be
exchanged, or the CT be given to the network in other voxels or values than it learned.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from orgseg_node.inference.bundles.dataset_json import BACKGROUND, IGNORE, is_other_image, read_dataset
from orgseg_node.inference.bundles.fields import is_number

_REQUIRED: Final = (
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "preprocessor_name",
    "architecture",
    "UNet_class_name",
    "conv_kernel_sizes",
    "pool_op_kernel_sizes",
)
"""Values of a configuration that must be those of the training."""
_NOTED: Final = ("patch_size", "resampling_fn_data", "resampling_fn_probabilities")
"""Values that change the result little and that people change on purpose, as for speed."""
_REORIENTING: Final = "NibabelIOWithReorient"
_STATISTICS: Final = ("mean", "std", "percentile_00_5", "percentile_99_5")
_NEGLIGIBLE: Final = 0.01
"""Difference of intensities, in standard deviations of the training, that is only said."""
_INTENSITIES: Final = (
    "foreground_intensity_properties_per_channel",
    "foreground_intensity_properties_by_modality",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """What a checkpoint says of its own training; see `read_record`.

    Attributes
    ----------
    problem : why the files in the folder are not those of the training, in one sentence; empty if they are
    remarks : sentences about differences that do not matter much
    renamed : name in the training of each label number that the folder calls otherwise
    """

    problem: str = ""
    remarks: tuple[str, ...] = ()
    renamed: Mapping[int, str] = field(default_factory=dict)


def read_record(
    checkpoint: Mapping[str, Any], plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str
) -> TrainingRecord:
    """Compare what a checkpoint remembers with the files in its folder; what it does not say is not compared.

    Parameters
    ----------
    checkpoint : as it was loaded
    plans : content of ``plans.json``
    dataset : content of ``dataset.json``, as `read_dataset` returned it
    configuration : that is run, such as ``3d_fullres``
    """
    arguments = checkpoint.get("init_args")
    arguments = arguments if isinstance(arguments, Mapping) else {}
    trained = arguments.get("configuration")
    if isinstance(trained, str) and trained != configuration:
        return TrainingRecord(
            problem=f"The checkpoint was trained as {trained}, the folder says {configuration}."
        )
    old_plans, old_dataset = arguments.get("plans"), arguments.get("dataset_json")
    remarks: list[str] = []
    if isinstance(old_plans, Mapping):
        problem = _plans_problem(old_plans, plans, configuration, remarks)
        if problem:
            return TrainingRecord(problem=problem)
    if not isinstance(old_dataset, Mapping) or not isinstance(old_dataset.get("labels"), Mapping):
        return TrainingRecord(remarks=tuple(remarks))
    old, _ = read_dataset(_as_json(old_dataset), ())
    problem = _labels_problem(_labels(old), _labels(dataset))
    if not problem and len(_labels(old)) != len(_labels(dataset)):
        problem = f"The checkpoint has {len(_labels(old))} labels, dataset.json {len(_labels(dataset))}."
    if is_other_image(old) and not is_other_image(dataset):
        problem = problem or "The checkpoint was not trained on CT, as dataset.json says."
    return TrainingRecord(
        problem=problem,
        remarks=tuple(remarks),
        renamed={
            number: name
            for name, number in _labels(old).items()
            if _plain(name) not in {_plain(one) for one, n in _labels(dataset).items() if n == number}
        },
    )


def _plans_problem(
    old: Mapping[str, Any], new: Mapping[str, Any], configuration: str, remarks: list[str]
) -> str:
    """Which values are not those of the training.

    Parameters
    ----------
    old, new : plans in the checkpoint, and in the folder
    configuration : that is run
    remarks : to which differences are added that do not matter much
    """
    before, after = _resolved(old, configuration), _resolved(new, configuration)
    different = [key for key in _REQUIRED if _differs(before, after, key)]
    if _differs(old, new, "transpose_forward"):
        different.append("transpose_forward")
    by_ct = "CTNormalization" in (after.get("normalization_schemes") or ())
    intensities = [_intensities(old), _intensities(new)]
    if by_ct and None not in intensities and not _close(*intensities):
        different.append("intensities")
    readers = [plans.get("image_reader_writer") for plans in (old, new)]
    if None not in readers and readers[0] != readers[1] and _REORIENTING in readers:
        different.append("image_reader_writer, which decides the orientation")
    if different:
        return f"plans.json is not that of the training of the checkpoint, in: {', '.join(different)}."
    noted = [key for key in _NOTED if _differs(before, after, key)]
    noted += ["image_reader_writer"] if _differs(old, new, "image_reader_writer") else []
    noted += ["intensities"] if by_ct and None not in intensities and not _same(*intensities) else []
    if noted:
        remarks.append(f"plans.json was changed after the training: {', '.join(noted)}.")
    return ""


def _resolved(plans: Mapping[str, Any], configuration: str) -> dict[str, Any]:
    """One configuration with what it inherits, as far as it is written."""
    rows: Any = plans.get("configurations")
    found: dict[str, Any] = {}
    name: Any = configuration
    for _ in range(len(rows) if isinstance(rows, Mapping) else 0):
        row = rows.get(name)
        if not isinstance(row, Mapping):
            break
        found = {**row, **found}
        name = row.get("inherits_from")
    return found


def _differs(old: Mapping[str, Any], new: Mapping[str, Any], key: str) -> bool:
    """Whether both have a value, and not the same one."""
    return key in old and key in new and _normal(old[key]) != _normal(new[key])


def _normal(value: Any) -> Any:
    """A value as JSON returns it, where tuples are lists; of a class its name, since modules have moved."""
    return _class_names(_as_json(value))


def _as_json(value: Any) -> Any:
    """A value as JSON returns it; a checkpoint may hold numbers and arrays of NumPy."""
    return json.loads(
        json.dumps(value, default=lambda one: one.tolist() if hasattr(one, "tolist") else str(one))
    )


def _class_names(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _class_names(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_class_names(one) for one in value]
    return value.rsplit(".", maxsplit=1)[-1] if isinstance(value, str) else value


def _intensities(plans: Mapping[str, Any]) -> Any:
    channels: Any = next((plans[key] for key in _INTENSITIES if isinstance(plans.get(key), Mapping)), {})
    first = channels.get("0", channels.get(0))
    return _normal([first.get(name) for name in _STATISTICS]) if isinstance(first, Mapping) else None


def _same(one: Sequence[Any], other: Sequence[Any], atol: float = 0.0) -> bool:
    """Whether they are the same but for rounding, as to float32, and a difference that is allowed."""
    pairs = list(zip(one, other, strict=True))
    return all(
        a == b or (is_number(a) and is_number(b) and math.isclose(a, b, rel_tol=1e-6, abs_tol=atol))
        for a, b in pairs
    )


def _close(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether intensities differ by so little that a network does not notice.

    Folds trained before and after nnU-Net measured the intensities anew differ in this way.
    """
    deviation = one[_STATISTICS.index("std")]
    return _same(one, other, _NEGLIGIBLE * deviation if is_number(deviation) else 0.0)


def _labels(dataset: Mapping[str, Any]) -> dict[str, int]:
    """Number of each label that is a whole number, without background and the ignore label."""
    rows = dataset["labels"].items()
    return {str(n): i for n, i in rows if type(i) is int and n not in (BACKGROUND, IGNORE)}


def _labels_problem(old: Mapping[str, int], new: Mapping[str, int]) -> str:
    before = {_plain(name): (name, number) for name, number in old.items()}
    moved = [
        f"{name} was {before[_plain(name)][1]} and is {number}"
        for name, number in new.items()
        if _plain(name) in before and _plain(name) not in {_plain(n) for n, i in old.items() if i == number}
    ]
    if not moved:
        return ""
    return f"dataset.json numbers labels otherwise than the training of the checkpoint: {'; '.join(moved)}."


def _plain(name: str) -> str:
    """A name without case, spaces and signs, in which people write the same name differently."""
    return "".join(c for c in name.casefold() if c.isalnum())
