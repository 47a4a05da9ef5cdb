"""A small locked site with two organs, and networks that find them by their HU, honestly or sabotaged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orgseg_node.contouring.protocol import load_protocol
from orgseg_node.core.body import Body
from orgseg_node.core.geometry import Grid
from orgseg_node.core.organs import load_organs
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.bundles.training_cases import TrainingCase, add_training_cases
from orgseg_node.inference.predictor import InferenceSettings, ModelIdentity, Prediction, ProgressCallback
from orgseg_node.shipped import shipped_config
from orgseg_training.datasets.case import Contents, SourceCase
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.evaluation.delivery import NODE_PROTOCOL
from orgseg_training.gate.runs import Runner
from orgseg_training.gate.session import GateSession
from orgseg_training.site.locking import lock_site
from orgseg_training.site.patients import patient_hash
from orgseg_training.site.settings import SiteSettings
from orgseg_training.site.site import Site
from tests.support.models.bundles import write_bundle

GRID = Grid(shape=(16, 40, 40), spacing_mm=(4.0, 4.0, 4.0), origin_mm=(-80.0, -80.0, 0.0))
HU = {"spleen": 90, "liver": 140}
_TODAY = date(2026, 1, 31)


def _masks(number: int) -> dict[str, NDArray[np.bool_]]:
    masks = {}
    for organ, column in (("spleen", 24), ("liver", 10)):
        mask = np.zeros(GRID.shape, dtype=np.bool_)
        mask[4:12, 12 + number % 5 : 20 + number % 3, column : column + 6 + number % 2] = True
        masks[organ] = mask
    return masks


def site_of(folder: Path, patients: int = 12, test_fraction: float = 0.5) -> Site:
    """A locked site; each patient has one scan with a spleen on the left and a liver on the right."""
    site = Site.create(folder, SiteSettings(test_fraction=test_fraction))

    def case(number: int) -> SourceCase:
        rng = np.random.default_rng(number)
        hu = np.full(GRID.shape, -1000, np.int16)
        coarse = np.kron(rng.normal(20, 60, (4, 10, 10)), np.ones((4, 4, 4)))  # every patient looks different
        inside = (slice(None), slice(4 + number % 3, 35), slice(5, 36 - number % 4))
        hu[inside] = coarse[inside] + rng.normal(0, 5, GRID.shape)[inside]
        hu[np.isin(hu, list(HU.values()))] += 1
        masks = _masks(number)
        for organ, mask in masks.items():
            hu[mask] = HU[organ]
        contents = Contents(volume=Volume(grid=GRID, hu=hu), masks=masks)
        return SourceCase(
            database="site",
            name=f"{number:03d}",
            patient=patient_hash(site.secret(), f"H{number}"),
            annotated=frozenset(HU),
            read=lambda: contents,
        )

    site.store.ingest(case(number) for number in range(patients))
    lock_site(site, _TODAY)
    return site


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """How networks draw: shifted by voxels for some organs, with swapped names, or with crumbs far away."""

    shift: Mapping[str, int] = field(default_factory=dict)
    swapped: bool = False
    crumbs: frozenset[str] = frozenset()


@dataclass(kw_only=True)
class Networks:
    """Opens predictors by the name of the bundle; counts how often each fold was run."""

    habits: Mapping[str, Habit] = field(default_factory=dict)
    runs: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def open(self, bundle: ModelBundle, _settings: InferenceSettings) -> _Network:
        """The predictor of one bundle."""
        return _Network(bundle=bundle, habit=self.habits.get(bundle.manifest.name, Habit()), of=self)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Network:
    bundle: ModelBundle
    habit: Habit
    of: Networks

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        return (self.bundle.identity,)

    def predict(self, volume: Volume, body: Body, on_progress: ProgressCallback) -> Prediction:
        """Find the organs by their HU."""
        on_progress(1.0, "found")
        (part,) = self.bundle.manifest.parts
        self.of.runs.append((self.bundle.manifest.name, part.folds))
        table = load_organs(shipped_config("organs.toml"))
        labels = np.zeros(volume.grid.shape, dtype=np.uint8)
        for number, key in part.labels.items():
            other = {"spleen": "liver", "liver": "spleen"}[key] if self.habit.swapped else key
            mask = np.equal(volume.hu, HU[other])
            labels[np.roll(mask, self.habit.shift.get(key, 0), axis=0)] = number
            if key in self.habit.crumbs:  # 12 ml
                labels[1:5, 32:35, 8:24] = number
        organs = {number: table[key] for number, key in part.labels.items()}
        label_map = LabelMap(grid=volume.grid, labels=labels, organs=organs)
        return Prediction(label_map=label_map, models=self.models, method="by HU", device="cpu")


def session_of(
    site: Site,
    folder: Path,
    networks: Networks,
    *,
    candidate: ModelBundle | None = None,
    claimed: Sequence[str] = (),
    protocol: str = NODE_PROTOCOL,
) -> GateSession:
    """A gate of the bundle ``live`` and a candidate, which is ``candidate`` unless another is given.

    Parameters
    ----------
    site : locked
    folder : for bundles
    networks : that are opened
    candidate, claimed : of the gate
    protocol : of the node, by its name or file
    """
    live = folder / "live"
    return GateSession(
        site=site,
        live=write_bundle(live, name="live"),
        candidate=candidate or write_bundle(folder / "candidate", name="candidate", tile_step_size=0.4),
        runner=Runner(
            folder=site.root / "gate" / "runs",
            organs=site.organs,
            settings=InferenceSettings(),
            open_networks=networks.open,
            protocol=load_protocol(protocol),
        ),
        organs=site.organs,
        claimed=claimed,
    )


def trained_on(bundle: ModelBundle, cases: Iterable[StoredCase], held_out: str | None) -> ModelBundle:
    """The bundle, with the scans it was trained on."""
    rows = tuple(
        TrainingCase(
            voxels_sha256=case.voxels_sha256,
            coarse_sha256=case.coarse_sha256,
            patient=case.patient,
            held_out=held_out,
        )
        for case in cases
    )
    return add_training_cases(bundle, {"parts/main": rows})
