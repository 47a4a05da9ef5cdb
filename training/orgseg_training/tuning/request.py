"""What is asked of a fine-tuning, and its folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orgseg_node.errors import OptionInvalid
from orgseg_training.curation.measurements import content_hash
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.durable import read_json, write_json
from orgseg_training.errors import TrainingSettingsInvalid, TuningExists
from orgseg_training.nnunet.run import Dataset, NnunetFolders
from orgseg_training.nnunet.sides import other_sides
from orgseg_training.tuning.recipe import Recipe
from orgseg_training.tuning.start import Start

_NAME = re.compile(r"(?=.{3,64}$)[A-Za-z0-9][A-Za-z0-9._+-]*@[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleTexts:
    """What a bundle says of itself; see `Manifest`."""

    title: str
    intended_use: str
    trained_on: str
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneRequest:
    """What is asked of a fine-tuning.

    Attributes
    ----------
    site : name of the site's data set
    name : of the new bundle, ``FAMILY@VERSION``
    start : the old network and the organs of the new one
    recipe : the schedule
    folds : number of networks, averaged in use; with several, every patient validates once, unless the scans
        that validate are named: then the networks differ by their random choices only
    seed : of every random choice
    minutes : limit of the training of each network; None for no limit
    accept_low : write the bundle even if an organ is hardly found
    validation : keys of the scans that validate; empty for a fifth of the patients, chosen at random
    stay : organs that were trained and stay with the old networks all the same, which contour them better
    texts : what the bundle says of itself; None for what follows from the site and the old bundle
    """

    site: str
    name: str
    start: Start
    recipe: Recipe
    folds: int = 1
    seed: int = 1
    minutes: float | None = None
    accept_low: bool = False
    validation: tuple[str, ...] = ()
    stay: tuple[str, ...] = ()
    texts: BundleTexts | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise OptionInvalid(
                f"--name {self.name}: write FAMILY@VERSION, such as head-neck@2; letters, digits or . _ + -."
            )
        if self.recipe.mirrored and other_sides(self.start.organs) is None:
            raise TrainingSettingsInvalid(
                "mirrored: the network has a left or right organ without the other side."
            )
        missing = sorted(set(self.stay) - set(self.start.bundle.manifest.organs))
        if missing:
            raise TrainingSettingsInvalid(f"stay: the bundle to start from has no {', '.join(missing)}.")

    @property
    def version(self) -> str:
        """The part of the name after the @."""
        return self.name.partition("@")[2]

    def document(self, cases: Iterable[StoredCase]) -> dict[str, Any]:
        """What decides the result, for a folder that is continued."""
        separate = {"separate": True} if self.start.separate else {}
        recipe = {name: value for name, value in asdict(self.recipe).items() if value}
        validation = {"validation": sorted(self.validation)} if self.validation else {}
        return {
            "site": self.site,
            "name": self.name,
            "start": {"name": self.start.bundle.manifest.name, "sha256": self.start.bundle.sha256},
            "organs": {"tuned": list(self.start.tuned), "kept": list(self.start.kept), **separate},
            "recipe": recipe,
            **validation,
            "folds": self.folds,
            "seed": self.seed,
            "minutes": self.minutes,
            "cases": {case.key: content_hash(case) for case in sorted(cases, key=lambda case: case.key)},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneFolder:
    """The folder of a fine-tuning.

    ::

        request.json      what was asked
        nnunet/           nnU-Net's three folders
        folds/fold_N/     a bundle of each network alone
        scores/fold_N/    scores of each scan
        scores.parquet    old and new bundle on the validation scans
        result.json       folds, scores and hash of the new bundle
        report.html       the same for people
        train.log         output of nnU-Net
        progress.jsonl    progress
    """

    root: Path

    @property
    def nnunet(self) -> NnunetFolders:
        """nnU-Net's folders."""
        return NnunetFolders(root=self.root / "nnunet")

    @property
    def dataset(self) -> Dataset:
        """The nnU-Net data set."""
        return Dataset(number=1, name="tune", trainer="tune")

    @property
    def log(self) -> Path:
        """Output of nnU-Net."""
        return self.root / "train.log"

    @property
    def progress(self) -> Path:
        """Progress, as lines of JSON."""
        return self.root / "progress.jsonl"

    @property
    def scores(self) -> Path:
        """Scores of the validation scans."""
        return self.root / "scores.parquet"

    def scan_scores(self, fold: int) -> Path:
        """Scores of each validation scan of a fold, so that scoring continues after an interruption."""
        return self.root / "scores" / f"fold_{fold}"

    @property
    def result(self) -> Path:
        """The result, for programs; see `read_result`."""
        return self.root / "result.json"

    @property
    def report(self) -> Path:
        """The result, for people."""
        return self.root / "report.html"

    def fold_bundle(self, fold: int) -> Path:
        """The bundle of one network alone, for scans that it was not trained on."""
        return self.root / "folds" / f"fold_{fold}"

    def require_same(self, document: Mapping[str, Any]) -> None:
        """Write what is asked, or refuse to continue something else.

        Raises
        ------
        TuningExists
            If the folder is of another fine-tuning, or the scans changed.
        """
        file = self.root / "request.json"
        if file.is_file():
            old = read_json(file)
            changed = sorted(key for key in {*old, *document} if old.get(key) != document.get(key))
            if changed:
                raise TuningExists(f"{self.root} was begun with other {', '.join(changed)}.")
        else:
            write_json(file, document)
