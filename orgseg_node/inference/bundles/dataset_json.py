"""What ``dataset.json`` says of labels and input channels; what nnU-Net would mistake is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

BACKGROUND, IGNORE = "background", "ignore"

_MAX_LABEL: Final = 65_535
_CT: Final = ["CTNormalization"]
_KEYS: Final = ("channel_names", "modality")
_NEEDED: Final = ("name", *_KEYS, "labels", "regions_class_order", "numTraining", "file_ending")
_CT_WORD: Final = re.compile(
    r"(nc|ce|cb|kv|mv|de|pc|ld|hr|p|sim|rt|plan|planning|fan|fb|avg|3d|4d)?ct\d*|ct[apv]"
)
_OTHER_IMAGES: Final = frozenset(
    (
        "mr",
        "mri",
        "t1",
        "t2",
        "t1w",
        "t2w",
        "t1c",
        "t1ce",
        "flair",
        "adc",
        "dwi",
        "pet",
        "spect",
        "suv",
        "us",
        "oct",
    )
)


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
    dataset = dict(stored)
    remarks: list[str] = []
    labels = dataset.get("labels")
    if isinstance(labels, Mapping) and labels:
        dataset["labels"], remarks = _read_labels(labels)
        if not _regions(dataset["labels"]):  # nnU-Net ignores their order where there are none
            dataset.pop("regions_class_order", None)
    for key in _KEYS:
        if key in dataset:
            dataset[key] = _read_channels(dataset[key])
    if dataset.get(_KEYS[0]) == dataset.get(_KEYS[1]) or not dataset.get(_KEYS[1]):
        dataset.pop(_KEYS[1], None)
    if not any(dataset.get(key) for key in _KEYS) and list(normalisations) == _CT:
        dataset["channel_names"] = {"0": "CT"}
        remarks.append("dataset.json names no input channel; the plans normalise one as CT, so it is the CT.")
    return dataset, remarks


def _read_labels(stored: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The labels as NAME: whole number, and what was understood."""
    labels, remarks = dict(stored), []
    if _is_v1(labels):
        turned = {name: int(number) for number, name in labels.items()}
        if len(turned) != len(labels):
            return labels, []
        labels = turned
        remarks.append("Its labels are written as NUMBER: NAME, as in nnU-Net v1; they were turned round.")
    whole = {name: _whole(number) for name, number in labels.items()}
    if not _regions(labels) and any(labels[name] is not whole[name] for name in labels):
        labels = whole
        remarks.append(
            "The numbers of its labels are written as text, decimals or lists; they were read as numbers."
        )
    other = [name for name, number in labels.items() if number == 0 and name.strip().casefold() == BACKGROUND]
    if BACKGROUND not in labels and len(other) == 1:
        labels = {BACKGROUND if name == other[0] else name: number for name, number in labels.items()}
        remarks.append(f"Its label 0 is written '{other[0]}'; it was read as '{BACKGROUND}'.")
    return labels, remarks


def _whole(number: Any) -> Any:
    """A whole number that is written as text, as decimal or as list of one; anything else as it is."""
    value = number[0] if isinstance(number, list | tuple) and len(number) == 1 else number
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return int(value) if type(value) is float and value.is_integer() else value


def _read_channels(stored: Any) -> Any:
    """Channels as ``"0": NAME``: also a list, one name, or ``NAME: 0``."""
    if isinstance(stored, str):
        return {"0": stored}
    if isinstance(stored, list | tuple):
        return {str(number): name for number, name in enumerate(stored)}
    turned = isinstance(stored, Mapping) and all(
        not str(name).isdecimal() and str(number).isdecimal() for name, number in stored.items()
    )
    return {str(number): name for name, number in stored.items()} if turned else stored


def needed_keys(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """What nnU-Net needs of it to predict; lists of cases are left out: file names may identify patients."""
    return {key: dataset[key] for key in _NEEDED if key in dataset}


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
    if regions := _regions(labels):
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
        return f"Its label 0 must be '{BACKGROUND}' and is {_quoted(zero)}."
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


def is_other_image(dataset: Mapping[str, Any]) -> bool:
    """Whether the name of an input channel is that of another kind of image, and not that of a CT."""
    words = [_words(name) for name in (_channels(dataset) or {}).values()]
    return any(_OTHER_IMAGES & each and not _names_ct(each) for each in words)


def _channel_problem(dataset: Mapping[str, Any], normalisations: Sequence[Any]) -> str | None:
    channels = _channels(dataset)
    if channels is None:
        schemes = ", ".join(map(str, normalisations)) or "nothing"
        return f"dataset.json names no input channel (channel_names), and the plans normalise by {schemes}."
    both = {str(dataset[key]).casefold() for key in _KEYS if dataset.get(key)}
    if len(both) > 1:
        return "dataset.json names other input channels in channel_names than in modality."
    if len(channels) != 1:
        return f"It has {len(channels)} input channels; the node provides one, the CT."
    name = str(next(iter(channels.values())))
    words, by_ct = _words(name), list(normalisations) == _CT
    if by_ct and (_names_ct(words) or not words & _OTHER_IMAGES):
        return None
    if _names_ct(words) and not words & _OTHER_IMAGES:
        return None
    return f"Its input channel is {name!r}, not CT. Only if it is a CT, call it CT in dataset.json."


def _words(name: Any) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", str(name).casefold()))


def _names_ct(words: set[str]) -> bool:
    return any(map(_CT_WORD.fullmatch, words))


def _channels(dataset: Mapping[str, Any]) -> Mapping[str, Any] | None:
    channels = dataset.get("channel_names") or dataset.get("modality")
    return channels if isinstance(channels, Mapping) and channels else None


def _regions(labels: Mapping[str, Any]) -> list[str]:
    """The labels that are several numbers; nnU-Net reads a list of one as a number."""
    lists = [name for name, number in labels.items() if isinstance(number, list | tuple)]
    return lists if any(len(labels[name]) != 1 for name in lists) else []


def _is_v1(labels: Mapping[str, Any]) -> bool:
    return all(name.isdecimal() and isinstance(value, str) for name, value in labels.items())


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "missing"
