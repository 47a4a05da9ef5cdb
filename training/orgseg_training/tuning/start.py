"""What a fine-tuned network starts from: a part of a bundle, its plans, and its organs."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from orgseg_node.errors import OptionInvalid
from orgseg_node.inference.bundles.bundle import ModelBundle, Part
from orgseg_training.nnunet.run import CONFIGURATION, PLANS, Dataset

_NOT_CONTINUED: Final = ("previous_stage", "next_stage", "inherits_from")


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A network of a bundle, and the organs of the network that is trained from it.

    Attributes
    ----------
    bundle : the bundle
    part : its network
    organs : of the new network; label number = position in this list, from 1
    tuned : organs that are trained on the site's contours, in the order they were named
    pretrained_channels : for each channel of the new network, background first, that of the old one; None for
        a new organ
    separate : whether the new network has the tuned organs only, and the old one stays for its others
    """

    bundle: ModelBundle
    part: Part
    organs: tuple[str, ...]
    tuned: tuple[str, ...]
    pretrained_channels: tuple[int | None, ...]
    separate: bool = False

    @property
    def new(self) -> tuple[str, ...]:
        """Organs that the network did not know."""
        channels = zip(self.organs, self.pretrained_channels[1:], strict=True)
        return tuple(organ for organ, channel in channels if channel is None)

    @property
    def kept(self) -> tuple[str, ...]:
        """Organs of the network that shall stay as they are; they follow the old network's own contours."""
        return tuple(organ for organ in self.organs if organ not in self.tuned)

    @property
    def other_parts(self) -> tuple[tuple[Part, dict[int, str]], ...]:
        """The networks of the bundle that stay, with the labels that they still contour; none without any."""
        return self.parts_left(())

    def parts_left(self, better: Collection[str]) -> tuple[tuple[Part, dict[int, str]], ...]:
        """The networks of the bundle that stay, if they also go on with some organs of the new network.

        Parameters
        ----------
        better : organs of the new network that the old ones contour better
        """
        found = []
        for part in self.bundle.manifest.parts:
            labels = {n: key for n, key in part.labels.items() if key not in self.organs or key in better}
            if labels:
                found.append((part, labels))
        return tuple(found)

    @property
    def only_kept(self) -> ModelBundle:
        """The old bundle with nothing but the organs that shall stay as they are."""
        labels = {number: key for number, key in self.part.labels.items() if key in self.kept}
        priorities = {key: value for key, value in self.part.priorities.items() if key in self.kept}
        part = replace(self.part, labels=labels, priorities=priorities)
        return replace(self.bundle, manifest=replace(self.bundle.manifest, parts=(part,)))

    def weights(self, fold: int) -> Path:
        """The weights that a fold starts from; with more folds than the bundle has, they take turns."""
        files = self.part.weights
        return self.bundle.path / files[fold % len(files)]


def choose_start(bundle: ModelBundle, tuned: Sequence[str], *, separate: bool = False) -> Start:
    """The network of a bundle that knows most of the organs; organs that it does not know are added to it.

    Parameters
    ----------
    bundle : to start from
    tuned : organs that are trained, keys of the organ table
    separate : the new network has these organs only; the old one stays, as it is, for its others

    Raises
    ------
    OptionInvalid
        If no organ is named, or one twice.
    """
    names = tuple(tuned)
    if not names or len(set(names)) != len(names):
        raise OptionInvalid("--organs: name each organ once, at least one.")
    part = max(
        bundle.manifest.parts,
        key=lambda one: (len(set(one.labels.values()) & set(names)), len(set(one.labels.values()))),
    )
    channels: dict[str, int | None] = {}
    for number, key in sorted(part.labels.items()):
        if key in names or not separate:
            channels.setdefault(key, number)
    channels |= {key: None for key in names if key not in channels}
    return Start(
        bundle=bundle,
        part=part,
        organs=tuple(channels),
        tuned=names,
        pretrained_channels=(0, *channels.values()),
        separate=separate,
    )


def alone(start: Start) -> Start:
    """The same start without any organ of the bundle that the new network does not have.

    Parameters
    ----------
    start : the old network and the organs of the new one
    """
    parts = []
    for part in start.bundle.manifest.parts:
        labels = {number: key for number, key in part.labels.items() if key in start.organs}
        if labels:
            priorities = {key: value for key, value in part.priorities.items() if key in start.organs}
            parts.append(replace(part, labels=labels, priorities=priorities))
    manifest = replace(start.bundle.manifest, parts=tuple(parts))
    return replace(start, bundle=replace(start.bundle, manifest=manifest))


def start_plans(start: Start, dataset: Dataset) -> dict[str, Any]:
    """The plans of the old network, with its one configuration, for the data set of the new one.

    Parameters
    ----------
    start : the old network
    dataset : of the new one
    """
    plans = json.loads((start.bundle.path / start.part.plans).read_text(encoding="utf-8"))
    configuration = _resolved(plans["configurations"], start.part.configuration)
    configuration = {key: value for key, value in configuration.items() if key not in _NOT_CONTINUED}
    configuration["data_identifier"] = f"{PLANS}_{CONFIGURATION}"
    plans = {key: value for key, value in plans.items() if not key.startswith("orgseg_")}
    return {
        **plans,
        "dataset_name": dataset.folder,
        "plans_name": PLANS,
        "image_reader_writer": "SimpleITKIO",  # the files are written with the axes that the network saw
        "configurations": {CONFIGURATION: configuration},
    }


def _resolved(configurations: Mapping[str, Any], name: str) -> dict[str, Any]:
    configuration = dict(configurations[name])
    parent = configuration.get("inherits_from")
    return configuration if parent is None else {**_resolved(configurations, parent), **configuration}
