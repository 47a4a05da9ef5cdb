"""Groups of scans that belong together: of one patient, or copies of one acquisition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from orgseg_training.datasets.case_store import StoredCase


def groups_of(
    cases: Iterable[StoredCase], *, copies: bool = True, links: Iterable[tuple[str, str]] = ()
) -> list[tuple[StoredCase, ...]]:
    """Scans of one patient, or (with ``copies``) with the same voxels, or linked.

    Parameters
    ----------
    cases : scans
    copies : whether scans with the same hashes belong together
    links : further pairs of keys that belong together

    Returns
    -------
    Groups in the order of their first key.
    """
    by_key = {case.key: case for case in sorted(cases, key=lambda case: case.key)}
    found = list(links)
    seen: dict[tuple[str, str], str] = {}
    for case in by_key.values():
        features = [("patient", f"{case.database}/{case.patient}")]
        if copies:
            features += [("voxels", case.voxels_sha256), ("coarse", case.coarse_sha256)]
        found += [(seen.setdefault(feature, case.key), case.key) for feature in features]
    return [tuple(by_key[key] for key in group) for group in groups_by_links(by_key, found)]


def groups_by_links(keys: Iterable[str], links: Iterable[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Groups of keys that are linked directly or through others, in the order of their first key."""
    leader = {key: key for key in sorted(keys)}

    def find(key: str) -> str:
        while leader[key] != key:
            key = leader[key]
        return key

    for one, other in links:
        first, second = find(one), find(other)
        leader[max(first, second)] = min(first, second)
    groups: dict[str, list[str]] = defaultdict(list)
    for key in leader:
        groups[find(key)].append(key)
    return [tuple(groups[key]) for key in sorted(groups)]
