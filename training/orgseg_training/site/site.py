"""A site's folder: its settings, names, organs, cases, and the lock of training and test cases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orgseg_node.core.organs import OrganTable
from orgseg_node.durable import make_folder
from orgseg_training.datasets.case_store import CaseStore, StoredCase
from orgseg_training.datasets.organ_table import OWN_ORGANS, organs_of_folder
from orgseg_training.errors import NoSite, NotLocked, SiteExists
from orgseg_training.site.lock import Lock, read_lock, require_unchanged
from orgseg_training.site.patients import PatientMap, make_secret, read_secret
from orgseg_training.site.settings import SiteSettings, read_settings, write_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A site's data set.

    ::

        site.toml      settings
        names.toml     organ of each ROI name, edited by a person
        organs.toml    organs of the site's own, in the form of the organ table (optional)
        cases/         scans, one folder each; rejected.json and unused.json beside it
        qc/            pictures and findings of quality control
        lock.json      training and test cases, with hashes of their files
        ledger         keyed hashes of all patients that were ever locked, for training or for the test
        patients       Patient ID of each case, readable only by its owner
        secret         key of the hashes, readable only by its owner

    Attributes
    ----------
    root : the folder
    settings : content of ``site.toml``
    """

    root: Path
    settings: SiteSettings

    @classmethod
    def create(cls, root: Path, settings: SiteSettings) -> Site:
        """Make the folder of a new site.

        Raises
        ------
        SiteExists
            If it is the folder of a site already.
        DiskFull, NotDurable
            If it cannot be written.
        """
        root = root.resolve()
        site = cls(root=root, settings=settings)
        if site.settings_file.exists():
            raise SiteExists(f"{root}.")
        make_folder(root)
        make_secret(site.secret_file)
        write_settings(site.settings_file, settings)  # last: only a complete site can be opened
        return site

    @classmethod
    def open(cls, root: Path) -> Site:
        """The site in a folder.

        Raises
        ------
        NoSite
            If it is not the folder of a site.
        SiteSettingsInvalid
            If ``site.toml`` is invalid.
        """
        root = root.resolve()
        if not (root / "site.toml").is_file():
            raise NoSite(f"{root}.")
        return cls(root=root, settings=read_settings(root / "site.toml"))

    @property
    def settings_file(self) -> Path:
        """The settings."""
        return self.root / "site.toml"

    @property
    def names_file(self) -> Path:
        """The organ of each ROI name."""
        return self.root / "names.toml"

    @property
    def organs_file(self) -> Path:
        """Organs of the site's own."""
        return self.root / OWN_ORGANS

    @property
    def lock_file(self) -> Path:
        """The lock."""
        return self.root / "lock.json"

    @property
    def ledger_file(self) -> Path:
        """The ledger of patients."""
        return self.root / "ledger"

    @property
    def secret_file(self) -> Path:
        """The key of the patients' hashes."""
        return self.root / "secret"

    @property
    def quality_folder(self) -> Path:
        """Results of quality control."""
        return self.root / "qc"

    @property
    def rejects_file(self) -> Path:
        """The signed list of rejected cases and organs."""
        return self.root / "rejects.toml"

    @property
    def store(self) -> CaseStore:
        """The cases on disk."""
        return CaseStore(self.root)

    @property
    def patients(self) -> PatientMap:
        """The Patient ID of each case."""
        return PatientMap(self.root / "patients")

    @property
    def organs(self) -> OrganTable:
        """The organ table: the shipped one with the site's own organs. Raises TrainingSettingsInvalid."""
        return organs_of_folder(self.root)

    def secret(self) -> bytes:
        """The key of the patients' hashes. Raises StorageError."""
        return read_secret(self.secret_file)

    def cases(self) -> tuple[StoredCase, ...]:
        """The cases that are not rejected, by key. Raises StorageError."""
        return self.store.cases()

    def lock(self) -> Lock:
        """The lock.

        Raises
        ------
        NotLocked
            If the site is not locked.
        LockDamaged
            If the file was changed or is damaged.
        """
        if not self.lock_file.is_file():
            raise NotLocked(f"{self.root}.")
        return read_lock(self.lock_file)

    def training_keys(self) -> tuple[str, ...]:
        """Keys of the cases for training and validation. Raises NotLocked, LockDamaged or LockChanged."""
        return tuple(self._locked().training)

    def locked_test_keys(self) -> tuple[str, ...]:
        """Keys of the cases that are only for the test. Raises NotLocked, LockDamaged or LockChanged."""
        return tuple(self._locked().test)

    def _locked(self) -> Lock:
        lock = self.lock()
        require_unchanged(lock, self.cases())
        return lock
