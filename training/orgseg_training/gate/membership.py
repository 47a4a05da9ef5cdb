"""Which scans a bundle was trained on, and with which of its networks the others may be judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.bundles.training_cases import TrainingCase, TrainingCases, training_cases
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.errors import GateLeak

_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What a bundle was trained on.

    Attributes
    ----------
    bundle : the bundle
    cases : scans of each part; empty if the bundle does not say it
    """

    bundle: ModelBundle
    cases: TrainingCases

    @classmethod
    def of(cls, bundle: ModelBundle) -> Membership:
        """What a bundle says of itself. Raises BundleInvalid."""
        return cls(bundle=bundle, cases=training_cases(bundle))

    @property
    def is_known(self) -> bool:
        """Whether the bundle says what it was trained on."""
        return bool(self.cases)

    def has_seen(self, case: StoredCase) -> bool:
        """Whether a network was trained or validated on a scan, a copy of it, or another of the patient."""
        return any(_is_related(case, one) for one in self._all())

    def folds_for(self, case: StoredCase) -> Mapping[str, str] | None:
        """The fold of each part that was not trained on a scan, by the folder of the part.

        Empty if all networks may be used; None if there is a part of which every network was trained on it.
        """
        folds = {}
        for part in self.bundle.manifest.parts:
            seen = [one for one in self.cases.get(part.folder, ()) if _is_related(case, one)]
            held_out = {one.held_out for one in seen}
            if not seen:
                continue
            if len(held_out) != 1:
                return None
            (fold,) = held_out
            if fold is None or fold not in part.folds:
                return None
            folds[part.folder] = fold
        return folds

    def _all(self) -> Iterable[TrainingCase]:
        return (one for cases in self.cases.values() for one in cases)


def unchanged_organs(live: ModelBundle, candidate: ModelBundle) -> frozenset[str]:
    """The organs that the very same networks draw in both bundles: same weights, plans and preparation."""
    ours, theirs = live.manifest, candidate.manifest
    if (ours.preprocessing, ours.mirroring, ours.tile_step_size) != (
        theirs.preprocessing,
        theirs.mirroring,
        theirs.tile_step_size,
    ):
        return frozenset()
    found, other = _networks(live), _networks(candidate)
    return frozenset(organ for organ in found if organ in other and found[organ] == other[organ])


def _networks(bundle: ModelBundle) -> dict[str, list[tuple[object, ...]]]:
    """What draws each organ: hashes of the files of its networks, and its label."""
    found: dict[str, list[tuple[object, ...]]] = {}
    files = bundle.manifest.files
    for part in bundle.manifest.parts:
        hashes = tuple(files[name] for name in (part.plans, part.dataset, *part.weights))
        for label, organ in part.labels.items():
            network = (hashes, label, part.configuration, part.folds, part.mirror_axes)
            found.setdefault(organ, []).append(network)
    return found


def refuse_leaks(membership: Membership, locked: Sequence[StoredCase]) -> None:
    """Refuse a candidate that has seen patients that are locked for the test.

    Parameters
    ----------
    membership : of the candidate
    locked : the scans that are locked

    Raises
    ------
    GateLeak
        With the number of scans, and the first of them.
    """
    leaked = [case.key for case in locked if membership.has_seen(case)]
    if leaked:
        more = f" and {len(leaked) - _NAMED} more" if len(leaked) > _NAMED else ""
        raise GateLeak(f"{len(leaked)} of {len(locked)} locked scans: {', '.join(leaked[:_NAMED])}{more}.")


def _is_related(case: StoredCase, one: TrainingCase) -> bool:
    return _is_same(case, one) or _is_same_patient(case, one)


def _is_same(case: StoredCase, one: TrainingCase) -> bool:
    return case.voxels_sha256 == one.voxels_sha256 or case.coarse_sha256 == one.coarse_sha256


def _is_same_patient(case: StoredCase, one: TrainingCase) -> bool:
    return bool(one.patient) and case.patient == one.patient
