"""What ``dataset.json`` says of labels and input channels; what nnU-Net would mistake is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

BACKGROUND, IGNORE = "background", "ignore"

_MAX_LABEL: Final = 65_535
_CT: Final = ["CTNormalization"]
_OTHER_IMAGES: Final = frozenset(("mr", "mri", "t1", "t2", "t1w", "t2w", "flair", "adc", "dwi", "pet", "us"))


def read_dataset(
    stored: Mapping[str, Any], normalisations: Sequence[Any]
) -> tuple[dict[str, Any], list[str]]:
    """The data set description as nnU-Net v2 writes it, where an unusual one has only one meaning.

    Parameters
    ----------
    stored : content of ``dataset.json`` as it was found
    normalisations : of the input channels, from the plans

    Returns
    -------
    the description, and one sentence for each thing that was understood in place of what is written
    """
    dataset, remarks = dict(stored), []
    labels = dataset.get("labels")
    if isinstance(labels, Mapping) and labels and _is_v1(labels):
        dataset["labels"] = {name: int(number) for number, name in labels.items()}
        if len(dataset["labels"]) == len(labels):
            remarks.append(
                "Its labels are written as NUMBER: NAME, as in nnU-Net v1; they were turned round."
            )
        else:
            dataset["labels"] = dict(labels)
    if _channels(dataset) is None and list(normalisations) == _CT:
        dataset["channel_names"] = {"0": "CT"}
        remarks.append("dataset.json names no input channel; the plans normalise one as CT, so it is the CT.")
    return dataset, remarks


def dataset_problem(dataset: Mapping[str, Any], normalisations: Sequence[Any]) -> str | None:
    """Why the node cannot run a model of this data set, in one sentence; None if it can.

    Parameters
    ----------
    dataset : content of ``dataset.json``
    normalisations : of the input channels, from the plans
    """
    return _channel_problem(dataset, normalisations) or label_problem(dataset)


def label_problem(dataset: Mapping[str, Any]) -> str | None:
    """Why the labels of a data set cannot be run, in one sentence; None if they can."""
    problems = (_kind_problem, _number_problem)
    return next(filter(None, (problem(dataset) for problem in problems)), None)


def _kind_problem(dataset: Mapping[str, Any]) -> str | None:
    """Why the labels are not names with one whole number each."""
    labels = dataset["labels"]
    regions = [name for name, number in labels.items() if isinstance(number, list | tuple)]
    if regions or dataset.get("regions_class_order"):
        return f"Its labels are regions ({', '.join(regions)}); train with plain labels, one number each."
    if _is_v1(labels):
        return "Its labels are written as NUMBER: NAME, as in nnU-Net v1, and a name occurs twice."
    wrong = [n for n, number in labels.items() if type(number) is not int or not 0 <= number <= _MAX_LABEL]
    if wrong:
        return f"Labels {', '.join(wrong)} have no whole number from 0 to {_MAX_LABEL}."
    return None


def _number_problem(dataset: Mapping[str, Any]) -> str | None:
    """Why the numbers of the labels are not those of the outputs of the network."""
    labels = dataset["labels"]
    zero = [name for name, number in labels.items() if number == 0]
    if labels.get(BACKGROUND) != 0:
        return f"Its label 0 is not '{BACKGROUND}' but {_quoted(zero)}."
    shared = {n: [name for name, m in labels.items() if m == n] for n in labels.values()}
    for number, names in sorted(shared.items()):
        if len(names) > 1:
            return f"Its label {number} has {len(names)} names, {_quoted(names)}; only one can be right."
    numbers = sorted(shared)
    if numbers != list(range(len(numbers))):
        gap = next(n for n in range(len(numbers)) if numbers[n] != n)
        return (
            f"Its label numbers are not consecutive: there is no label {gap}, but a label {numbers[gap]}. "
            "nnU-Net numbers the outputs of the network 0, 1, 2, so organs would be exchanged or lost."
        )
    if IGNORE in labels and labels[IGNORE] != numbers[-1]:
        return (
            f"Its label '{IGNORE}' is {labels[IGNORE]}; nnU-Net needs it as the last number, {numbers[-1]}."
        )
    return None


def channel_remark(dataset: Mapping[str, Any]) -> str | None:
    """What to say of a channel that is taken as CT under another name; None if it is called CT."""
    name = str(next(iter((_channels(dataset) or {"0": "CT"}).values())))
    if name.casefold() == "ct":
        return None
    return f"Its input channel is called '{name}'; in use it is given the planning CT."


def _channel_problem(dataset: Mapping[str, Any], normalisations: Sequence[Any]) -> str | None:
    channels = _channels(dataset)
    if channels is None:
        schemes = ", ".join(map(str, normalisations)) or "nothing"
        return f"dataset.json names no input channel (channel_names), and the plans normalise by {schemes}."
    if len(channels) != 1:
        return f"It has {len(channels)} input channels; the node provides one, the CT."
    name = str(next(iter(channels.values())))
    words = set(re.findall(r"[a-z]+\d*[a-z]*", name.casefold().replace("_", " ")))
    if words & {"ct", "cbct"}:
        return None
    if list(normalisations) != _CT or words & _OTHER_IMAGES:
        return f"Its input channel is {name!r}, not CT."
    return None


def _channels(dataset: Mapping[str, Any]) -> Mapping[str, Any] | None:
    channels = dataset.get("channel_names") or dataset.get("modality")
    return channels if isinstance(channels, Mapping) and channels else None


def _is_v1(labels: Mapping[str, Any]) -> bool:
    return all(name.isdecimal() and isinstance(value, str) for name, value in labels.items())


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "not named"
