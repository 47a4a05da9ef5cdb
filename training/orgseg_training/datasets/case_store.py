"""The scans of an experiment in one form: a CT, a mask for each organ that was drawn, and organ states."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from orgseg_node.core.checks import Finding
from orgseg_node.core.volume import Volume
from orgseg_node.durable import atomic_folder
from orgseg_node.errors import InputError, StorageError
from orgseg_training.datasets.case import Mask, OrganState, SourceCase, states_of
from orgseg_training.datasets.nifti import read_labels, read_volume, write_image
from orgseg_training.datasets.stored_form import coarse_hash, reoriented, require_plausible
from orgseg_training.durable import read_json, write_json
from orgseg_training.errors import CurationChanged, ScanNotRead, scan_error, short_reason

_FINDINGS = TypeAdapter(tuple[Finding, ...])


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCase:
    """One scan in the store.

    Attributes
    ----------
    key : identifier among all scans
    database, patient, age_years, test, sex, scanner : see `SourceCase`
    states : state of each organ that was looked for; of other organs nothing is known
    voxels_sha256 : hash of the HU in canonical orientation
    coarse_sha256 : hash of the HU at 8 mm in steps of 50 HU; equal for copies stored in another way
    findings : what was unusual about its contours in the data set
    folder : folder of its files
    known_slices : first slice, and slice after the last one, of organs that were drawn only in part; in other
        slices it is not known whether the organ is there: never take them as background
    source_hash : hash of what the scan was made from, or empty
    """

    key: str
    database: str
    patient: str
    age_years: float | None
    test: bool
    states: Mapping[str, OrganState]
    voxels_sha256: str
    coarse_sha256: str
    folder: Path
    findings: tuple[Finding, ...] = ()
    known_slices: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    source_hash: str = ""
    sex: str = ""
    scanner: str = ""

    def state(self, organ: str) -> OrganState:
        """What is known of an organ in this scan."""
        return self.states.get(organ, OrganState.NOT_DRAWN)

    @property
    def drawn(self) -> frozenset[str]:
        """The organs that were contoured in it."""
        return frozenset(organ for organ, state in self.states.items() if state is OrganState.DRAWN)

    @property
    def outside(self) -> frozenset[str]:
        """The organs of which no part is in it."""
        return frozenset(organ for organ, state in self.states.items() if state is OrganState.OUTSIDE)

    @property
    def drawn_whole(self) -> frozenset[str]:
        """The organs that were contoured in the whole scan, not only in a part of it."""
        return self.drawn - self.known_slices.keys()

    def known(self, organ: str) -> slice:
        """The slices in which it is known where an organ is; all, unless it was drawn only in part."""
        return slice(*self.known_slices[organ]) if organ in self.known_slices else slice(None)

    def without(self, organs: Collection[str]) -> StoredCase:
        """The same scan with nothing known of some organs, whose contours were rejected."""
        remaining = {organ: state for organ, state in self.states.items() if organ not in organs}
        return replace(self, states=remaining)

    @property
    def image(self) -> Path:
        """The CT as NIfTI."""
        return self.folder / "ct.nii.gz"

    def volume(self) -> Volume:
        """The CT in HU. Raises StorageError if its file is damaged."""
        try:
            return read_volume(self.image)
        except InputError as error:
            raise StorageError(f"The CT of {self.key} cannot be read.") from error

    def mask(self, organ: str) -> Mask:
        """(K, J, I) bool of an organ that was drawn. Raises StorageError if it was not, or is damaged."""
        if self.state(organ) is not OrganState.DRAWN:
            raise StorageError(f"{organ} was not drawn in {self.key}.")
        try:
            return read_labels(self.folder / "masks" / f"{organ}.nii.gz") > 0
        except InputError as error:
            raise StorageError(f"{organ} of {self.key} cannot be read.") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """What was stored and what was not.

    Attributes
    ----------
    added, changed, kept : numbers of scans that are new, were stored again, and were kept
    rejected : why a scan cannot be used, by key
    unused : keys of the scans with a structure that is not used, by its name
    """

    added: int
    changed: int
    kept: int
    rejected: Mapping[str, str]
    unused: Mapping[str, tuple[str, ...]]

    @property
    def lines(self) -> tuple[str, ...]:
        """What was stored and what was not, for a person."""
        counts = f"{self.added} scans added, {self.changed} stored again, {self.kept} unchanged."
        unread = f"Structures that are not used, see unused.json: {len(self.unused)}." if self.unused else ""
        return tuple(
            line
            for line in (
                counts,
                *(f"  not used, {key}: {short_reason(why)}" for key, why in self.rejected.items()),
                unread,
            )
            if line
        )


class CaseStore:
    """The scans of an experiment on disk.

    Parameters
    ----------
    root : a folder of its own
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def ingest(self, cases: Iterable[SourceCase], *, again: bool = False, final: bool = False) -> Ingested:
        """Store scans; stored ones are kept unless they are damaged or what they are made from has changed.

        Whatever is wrong with a scan, the others are stored. Scans that cannot be used are listed in
        ``rejected.json``, structures that are not used in ``unused.json``, and findings about contours in
        ``findings.json``.

        Parameters
        ----------
        cases : the scans
        again : whether scans that failed for a reason that may pass, such as memory, are tried again
        final : whether something was decided with the stored scans, so that none of them may change

        Returns
        -------
        What was stored and what was not.

        Raises
        ------
        CurationChanged
            If the scans are final, and what one of them is made from has changed.
        StorageError
            If they cannot be written.
        """
        file = self.root / "rejected.json"
        rejected: dict[str, dict[str, str]] = read_json(file) if file.is_file() else {}
        known = dict(rejected)
        unused: defaultdict[str, list[str]] = defaultdict(list)
        counts: Counter[str] = Counter()
        listed = set()
        for case in cases:
            listed.add(case.key)
            for name in case.unused:
                unused[name].append(case.key)
            try:
                counts[self._ingest_one(case, rejected, again=again, final=final)] += 1
            except (StorageError, CurationChanged):
                raise
            except Exception as error:  # whatever is wrong with one scan, the others go on
                why = scan_error(error)
                if isinstance(why, StorageError):
                    raise why from error
                shutil.rmtree(self.root / "cases" / case.key, ignore_errors=True)
                rejected[case.key] = {"code": why.code, "why": why.sentence, "source": _source_of(case)}
        if rejected != known:
            write_json(file, rejected)
        if unused or (self.root / "unused.json").is_file():
            write_json(self.root / "unused.json", unused)
        self._list_findings()
        return Ingested(
            added=counts["added"],
            changed=counts["changed"],
            kept=counts["kept"],
            rejected={key: why["why"] for key, why in sorted(rejected.items()) if key in listed},
            unused={name: tuple(keys) for name, keys in sorted(unused.items())},
        )

    def _ingest_one(
        self, case: SourceCase, rejected: dict[str, dict[str, str]], *, again: bool, final: bool
    ) -> str:
        """Store a scan if that is necessary; returns ``kept``, ``added``, ``changed`` or ``rejected``."""
        source = _source_of(case)
        if self._is_whole(case.key):
            stored = self.ingested_case(case.key).source_hash
            unusable_now = final and not case.annotated  # its source may have been moved away since
            if not source or not stored or stored == source or unusable_now:
                rejected.pop(case.key, None)
                return "kept"
            if final:
                raise CurationChanged(f"What {case.key} is made from has changed.")
            self._add(case, source)
            return "changed"
        earlier = rejected.get(case.key)
        if earlier:
            has_changed = bool(source) and earlier.get("source", "") != source and not final
            if not has_changed and not (again and earlier["code"] == ScanNotRead.code):
                return "rejected"
        self._add(case, source)
        rejected.pop(case.key, None)
        return "added"

    @property
    def why_not_used(self) -> str:
        """How many scans and names of structures were not used, the most frequent reason, and the lists.

        Empty if everything was used.
        """
        sentences = []
        file = self.root / "rejected.json"
        reasons = (
            Counter(str(one["why"]) for one in read_json(file).values()) if file.is_file() else Counter()
        )
        if reasons:
            why, count = reasons.most_common(1)[0]
            times = f"{count} times" if count > 1 else "for example"
            sentences.append(f"{reasons.total()} scans cannot be used; {times}: {why} See {file}.")
        file = self.root / "unused.json"
        names = read_json(file) if file.is_file() else {}
        if names:
            sentences.append(f"{len(names)} names of structures are not used; see {file}.")
        return " ".join(sentences)

    def _is_whole(self, key: str) -> bool:
        """Whether a scan is stored; one whose files are missing or damaged is removed, to be stored again."""
        folder = self.root / "cases" / key
        if not folder.is_dir():
            return False
        try:
            case = self.ingested_case(key)
            files = [case.image, *(folder / "masks" / f"{organ}.nii.gz" for organ in case.drawn)]
        except StorageError:
            files = []
        if files and all(path.is_file() for path in files):
            return True
        shutil.rmtree(folder, ignore_errors=True)
        return False

    def _list_findings(self) -> None:
        found = {}
        for key in self.keys():
            with suppress(StorageError):  # a damaged one is reported by what needs it
                case = self.ingested_case(key)
                if case.findings:
                    found[key] = [finding.message for finding in case.findings]
        if found:
            write_json(self.root / "findings.json", found)

    def _add(self, case: SourceCase, source: str) -> None:
        contents = case.read()
        annotated = case.annotated - contents.unusable
        require_plausible(case, contents)
        contents = reoriented(contents)
        shutil.rmtree(self.root / "cases" / case.key, ignore_errors=True)
        with atomic_folder(self.root / "cases" / case.key) as folder:
            write_image(folder / "ct.nii.gz", contents.volume.hu, contents.volume.grid)
            (folder / "masks").mkdir()
            for organ, mask in contents.masks.items():
                if organ in annotated and mask.any():
                    file = folder / "masks" / f"{organ}.nii.gz"
                    write_image(file, mask.astype(np.uint8), contents.volume.grid)
            volume = contents.volume
            write_json(
                folder / "case.json",
                {
                    "database": case.database,
                    "patient": case.patient,
                    "age_years": case.age_years,
                    "test": case.test,
                    "states": states_of(annotated, contents.masks),
                    "voxels_sha256": hashlib.sha256(np.ascontiguousarray(volume.hu).tobytes()).hexdigest(),
                    "coarse_sha256": coarse_hash(volume),
                    "findings": [asdict(finding) for finding in contents.findings],
                    "known_slices": {k: v for k, v in contents.known_slices.items() if k in annotated},
                    "source_hash": source,
                    "sex": case.sex,
                    "scanner": case.scanner,
                },
            )

    @property
    def decisions(self) -> dict[str, Any]:
        """What is left out and why; nothing before that is decided. Raises StorageError."""
        file = self.root / "decisions.json"
        return read_json(file) if file.is_file() else {"cases": {}, "organs": {}, "pairs": [], "signer": ""}

    def save_decisions(self, decisions: Mapping[str, Any], *, final: bool) -> None:
        """Write down what is left out.

        Parameters
        ----------
        decisions : content of ``decisions.json``
        final : whether the splits were already locked with the earlier decisions

        Raises
        ------
        CurationChanged
            If they were, and something else would be left out now.
        """
        same = all(self.decisions[field] == decisions[field] for field in ("cases", "organs"))
        if final and not same:
            raise CurationChanged("decisions.json differs.")
        write_json(self.root / "decisions.json", decisions)

    def cases(self) -> tuple[StoredCase, ...]:
        """The scans that are not left out, in the order of their keys, without the organs left out."""
        decisions = self.decisions
        return tuple(
            case.without(decisions["organs"].get(case.key, ()))
            for case in self.ingested()
            if case.key not in decisions["cases"]
        )

    def keys(self) -> tuple[str, ...]:
        """Keys of all ingested scans, in order."""
        folder = self.root / "cases"
        if not folder.is_dir():
            return ()
        return tuple(sorted(file.name for file in folder.iterdir() if not file.name.startswith(".")))

    def ingested(self) -> tuple[StoredCase, ...]:
        """Every ingested scan with all its organs, by key. Raises StorageError if one is damaged."""
        return tuple(self.ingested_case(key) for key in self.keys())

    def case(self, key: str) -> StoredCase:
        """One scan, without organs that are left out. Raises StorageError if there is none of this key."""
        return self.ingested_case(key).without(self.decisions["organs"].get(key, ()))

    def ingested_case(self, key: str) -> StoredCase:
        """One scan with all its organs. Raises StorageError if there is none of this key or it is damaged."""
        folder = self.root / "cases" / key
        stored = read_json(folder / "case.json")
        try:
            states = {organ: OrganState(state) for organ, state in stored.pop("states").items()}
            findings = tuple(_FINDINGS.validate_python(stored.pop("findings", ())))
            known = {organ: (int(a), int(b)) for organ, (a, b) in stored.pop("known_slices", {}).items()}
            return StoredCase(
                key=key, folder=folder, states=states, findings=findings, known_slices=known, **stored
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StorageError(f"case.json of {key} has missing or wrong fields.") from error


def _source_of(case: SourceCase) -> str:
    return "" if case.source_hash is None else case.source_hash()
