"""One bundle of the networks of several, where one network is best for some organs and another for others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from orgseg_node.durable import write_durably
from orgseg_node.inference.bundles.bundle import ModelBundle, file_sha256
from orgseg_node.inference.bundles.references import REFERENCE
from orgseg_node.inference.bundles.training_cases import add_training_cases, training_cases
from orgseg_node.inference.bundles.writing import (
    BundleDraft,
    CopiedPart,
    export_trained,
    replace_manifest,
)
from orgseg_training.errors import TrainingSettingsInvalid
from orgseg_training.settings_file import Name, Settings
from orgseg_training.tuning.data_sets import BundleSettings, DataSetsFile


class Source(Settings):
    """A bundle of which networks are taken.

    Attributes
    ----------
    name : by which the command line names its folder
    organs : that its networks contour in the new bundle
    """

    name: Name
    organs: Annotated[tuple[str, ...], Field(min_length=1)]


class CompositionFile(DataSetsFile):
    """A bundle made of networks of other bundles; the test scans of the data sets measure it.

    Attributes
    ----------
    sources : the bundles
    reference : the bundle that the reference anatomy is taken from, one of the sources or another; the first
        source if it is not named
    licence, intended_use : of the bundle
    bundle : what it and its model card say
    """

    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    reference: str = ""
    licence: str
    intended_use: str
    bundle: BundleSettings

    @model_validator(mode="after")
    def _check(self) -> CompositionFile:
        organs = [organ for source in self.sources for organ in source.organs]
        if twice := sorted({organ for organ in organs if organs.count(organ) > 1}):
            raise ValueError(f"sources: {', '.join(twice)}: named twice")
        if len({source.name for source in self.sources}) < len(self.sources):
            raise ValueError("sources: a name is given twice")
        return self


def compose(
    file: CompositionFile, bundles: Mapping[str, ModelBundle], target: Path, *, card: str
) -> ModelBundle:
    """Write a bundle of networks that are copied as they are.

    Parameters
    ----------
    file : says which networks contour which organs
    bundles : the bundles by the names of their sources
    target : folder of the bundle, which must not exist
    card : the model card

    Raises
    ------
    TrainingSettingsInvalid
        If a bundle is not given, lacks an organ, or prepares a CT in another way than the first one.
    BundleExists
        If the target exists.
    """
    chosen = [part for source in file.sources for part in _parts(source, bundles)]
    first = chosen[0].bundle.manifest
    for each in chosen:
        other = each.bundle.manifest
        if (other.preprocessing, other.mirroring, other.tile_step_size) != (
            first.preprocessing,
            first.mirroring,
            first.tile_step_size,
        ):
            raise TrainingSettingsInvalid(f"{other.name} and {first.name} prepare or tile a CT differently.")
    draft = BundleDraft(
        name=file.bundle.name,
        version=file.bundle.version,
        title=file.bundle.title,
        trained_on=file.bundle.trained_on,
        intended_use=file.intended_use,
        licence=file.licence,
        card=card,
        preprocessing=first.preprocessing,
        mirroring=first.mirroring,
        tile_step_size=first.tile_step_size,
    )
    referred = _named(file.reference or file.sources[0].name, bundles)
    bundle = export_trained([], draft, target, copied=chosen)
    if REFERENCE in referred.manifest.files:
        reference = bundle.path / REFERENCE
        write_durably(reference, (referred.path / REFERENCE).read_bytes(), mode=0o644)
        files = {**bundle.manifest.files, REFERENCE: file_sha256(reference)}
        bundle = replace_manifest(bundle, replace(bundle.manifest, files=files))
    known = {
        new.folder: training_cases(old.bundle)[old.part.folder]
        for new, old in zip(bundle.manifest.parts, chosen, strict=True)
        if old.part.folder in training_cases(old.bundle)
    }
    return add_training_cases(bundle, known) if known else bundle


def _parts(source: Source, bundles: Mapping[str, ModelBundle]) -> Sequence[CopiedPart]:
    bundle = _named(source.name, bundles)
    if missing := sorted(set(source.organs) - set(bundle.manifest.organs)):
        raise TrainingSettingsInvalid(f"sources.{source.name}: the bundle has no {', '.join(missing)}.")
    found = []
    for part in bundle.manifest.parts:
        labels = {number: organ for number, organ in part.labels.items() if organ in source.organs}
        if labels:
            found.append(CopiedPart(bundle=bundle, part=part, labels=labels))
    return found


def _named(name: str, bundles: Mapping[str, ModelBundle]) -> ModelBundle:
    if name not in bundles:
        raise TrainingSettingsInvalid(f"--source {name}=FOLDER is missing.")
    return bundles[name]
