"""From an archive with awkward names to cases: what comes in, what is listed, and why."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import ConfigError, InputError
from orgseg_training.cli.app import app
from orgseg_training.curation.rejects import make_key, sign
from orgseg_training.datasets.case_store import Ingested
from orgseg_training.durable import read_json
from orgseg_training.errors import CaseUnknown, NamesInvalid, RejectsInvalid, RejectsUnsigned, TooFewPatients
from orgseg_training.site.ingest import IngestReport, ingest_lines, ingest_site, reject_cases
from orgseg_training.site.locking import lock_site
from orgseg_training.site.names import NameLine, add_names, read_names
from orgseg_training.site.settings import SiteSettings
from orgseg_training.site.site import Site
from orgseg_training.site.survey import survey_lines, survey_site
from tests.support.ct.phantom import PhantomOptions
from tests.unit.training.datasets.test_dicom_trees import rename, write_patient

_NO_RIGHTS = "The system could not read a file. It is a folder whose files cannot be listed."
_PHANTOM = {"slices": 16, "rows": 32, "columns": 32, "pixel_spacing_mm": (6.0, 6.0), "slice_spacing_mm": 4.5}
_GERMAN = {
    "Parotid_L": "PAROTIS LI",
    "Parotid_R": "Parotisre",
    "SpinalCord": "Myelon",
    "Brainstem": "Hirnstamm AI",
    "Bone_Mandible": "GSL",
}


def _patient(
    archive: Path, number: int, table: OrganTable, change: Callable[[Dataset], object] | None = None
) -> Path:
    options = PhantomOptions(study=f"s{number}", patient_id=f"H{1000 + number}", **_PHANTOM)  # type: ignore[arg-type]
    folder = archive / f"PAT{number}"
    write_patient(folder, table, options, change=change)
    return folder


@pytest.fixture(scope="module")
def archives(organ_table: OrganTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients: TG-263 names, German names, and exchanged sides; and an RTSTRUCT without its CT."""
    archive = tmp_path_factory.mktemp("site") / "archive"
    _patient(archive, 0, organ_table)
    _patient(archive, 1, organ_table, rename(_GERMAN))
    _patient(archive, 2, organ_table, rename({"Parotid_L": "Parotid_R", "Parotid_R": "Parotid_L"}))
    lone = _patient(archive, 3, organ_table)
    shutil.rmtree(lone / "ct")
    return archive


@pytest.fixture
def site(archives: Path, tmp_path: Path) -> Site:
    """A site of this archive, not surveyed yet."""
    return Site.create(tmp_path / "site", SiteSettings(archive=(archives,), min_patients=2))


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Takes the rights on a folder away, also from root."""
    forbidden: list[Path] = []
    scandir = os.scandir

    def guarded(path: Any) -> Any:
        if Path(path) in forbidden:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    return forbidden.append


def _decide(site: Site, *lines: str) -> None:
    """Take the # away from lines, as a person does."""
    text = site.names_file.read_text(encoding="utf-8")
    for line in lines:
        assert f"# {line}" in text, line
        text = text.replace(f"# {line}", line)
    site.names_file.write_text(text, encoding="utf-8")


def test_the_survey_says_what_names_mean_and_what_is_only_a_proposal(site: Site) -> None:
    found = survey_site(site)
    text = site.names_file.read_text(encoding="utf-8")
    for line in (
        '"PAROTIS LI" = "parotid_left"  # 1 patient,',
        '"Myelon" = "spinal_cord"  # 1 patient,',
        '# "Parotisre" = "parotid_right"  # 1 patient,',
        '# "Hirnstamm AI" = "brainstem"  # 1 patient,',
        '# "GSL" = "?"  # 1 patient,',
    ):
        assert f"\n{line}" in text, line
    assert "left in 1, right in 1" in text
    assert found.undecided == 3
    assert (len(found.usable), len(found.reasons)) == (3, 1)
    (key,) = found.reasons
    assert site.patients.patient_id(key) == "H1003"
    printed = "\n".join(survey_lines(found))
    assert f"{key}: The CT that this RTSTRUCT refers to is not here." in printed
    assert "H100" not in printed


def test_a_second_survey_changes_no_line_of_a_person(
    site: Site, organ_table: OrganTable, tmp_path: Path
) -> None:
    survey_site(site)
    _decide(site, '"GSL" = "?"')
    edited = site.names_file.read_text(encoding="utf-8").replace('"GSL" = "?"', '"gsl " = "larynx" # mine')
    site.names_file.write_text(edited, encoding="utf-8")
    assert survey_site(site).new_names == 0
    assert site.names_file.read_text(encoding="utf-8") == edited
    _patient(tmp_path / "more", 4, organ_table, rename({"Parotid_L": "Ohr"}))
    more = Site(root=site.root, settings=site.settings.model_copy(update={"archive": (tmp_path / "more",)}))
    assert survey_site(more).new_names == 1
    assert site.names_file.read_text(encoding="utf-8").startswith(edited.rstrip("\n"))


def test_ingest_uses_what_was_decided_and_lists_the_rest(site: Site) -> None:
    survey_site(site)
    report = ingest_site(site)
    assert (report.ingested.added, len(report.ingested.rejected)) == (3, 1)
    assert set(report.undecided) == {"GSL", "Hirnstamm AI", "Parotisre"}
    assert report.drawn["parotid_left"] == 2
    printed = "\n".join(ingest_lines(report))
    assert "parotid_left: parotid_right is not right of parotid_left" in printed
    assert "Hirnstamm AI (1)" in printed
    assert "name their organs in names.toml, and ingest again" in printed
    assert "H100" not in printed
    _decide(site, '"Parotisre" = "parotid_right"')
    again = ingest_site(site)
    assert (again.ingested.added, again.ingested.changed, again.ingested.kept) == (0, 1, 2)
    assert set(again.undecided) == {"GSL", "Hirnstamm AI"}
    assert again.drawn["parotid_right"] == 2


def test_one_fault_in_one_organ_costs_that_organ(site: Site) -> None:
    survey_site(site)
    ingest_site(site)
    exchanged = [case for case in site.cases() if "mandible" in case.drawn and "parotids" not in case.drawn]
    assert [sorted(case.drawn) for case in exchanged] == [["brainstem", "mandible", "spinal_cord"]]


def test_the_documented_order_ends_in_locked_cases(site: Site, tmp_path: Path) -> None:
    survey_site(site)
    ingest_site(site)
    key, *others = [case.key for case in site.cases()]
    site.rejects_file.write_text(
        f'[[reject]]\ncase = "{key}"\nreason = "wrong side"\nwho = "A"\nwhen = 2026-01-31\n'
    )
    with pytest.raises(RejectsUnsigned, match=r"rejects_key in site\.toml is empty"):
        ingest_site(site)
    public = make_key(tmp_path / "key.pem")
    sign(site.rejects_file, tmp_path / "key.pem", "A")
    signed = Site(root=site.root, settings=site.settings.model_copy(update={"rejects_key": public}))
    assert ingest_site(signed).rejected_by_person == (1, 0)
    assert [case.key for case in signed.cases()] == others
    with pytest.raises(TooFewPatients, match="1 cases are rejected by the signed list"):
        lock_site(signed, date(2026, 1, 31))
    site.rejects_file.write_text(site.rejects_file.read_text().replace(key, "site__unknown"))
    sign(site.rejects_file, tmp_path / "key.pem", "A")
    with pytest.raises(RejectsInvalid, match="site__unknown"):
        reject_cases(signed)


def test_the_commands_lead_from_one_to_the_next(archives: Path, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == 0, result.exception
        return result.output

    folder = str(tmp_path / "site")
    assert "site ingest" in run("site", "survey", str(archives), "--out", folder, "--name", "hn")
    assert "site qc" in run("site", "ingest", folder)
    refused = CliRunner().invoke(app, ["site", "lock", folder]).exception
    assert isinstance(refused, TooFewPatients)  # all three phantoms have the same voxels
    assert (
        "1 can be used, 6 are needed. 2 cases are copies of others. 1 scans cannot be used"
        in refused.sentence
    )
    assert f"site lock {folder}" in run("site", "qc", folder)
    key = Site.open(Path(folder)).cases()[0].key
    assert run("who", key, "--site", folder).strip() in {"H1000", "H1001", "H1002"}


def test_what_lies_beside_the_scans_is_listed_and_can_be_found(
    organ_table: OrganTable, tmp_path: Path, unreadable: Callable[[Path], None]
) -> None:
    archive = tmp_path / "archive"
    _patient(archive, 0, organ_table)
    _patient(archive, 1, organ_table)
    (archive / "PAT0" / "letter.txt").write_text("no DICOM")
    (archive / "PAT0" / "cut.dcm").touch()
    unreadable(archive / "PAT1")
    site = Site.create(tmp_path / "site", SiteSettings(archive=(archive,)))
    found = survey_site(site)
    printed = "\n".join(survey_lines(found))
    assert "Passed over: 1 x not a DICOM file." in printed
    assert len(found.usable) == 1
    keys = {why: key for key, why in found.reasons.items()}
    assert set(keys) == {"A file is incomplete. A file is empty.", _NO_RIGHTS}
    for why, path in (("A file is incomplete. A file is empty.", "PAT0/cut.dcm"), (_NO_RIGHTS, "PAT1")):
        result = CliRunner().invoke(app, ["who", keys[why], "--site", str(site.root)])
        assert result.output == f"{archive / path}\n"
    assert ingest_site(site).ingested.rejected.keys() == found.reasons.keys()
    unknown = CliRunner().invoke(app, ["who", "site__file-0", "--site", str(site.root)])
    assert isinstance(unknown.exception, CaseUnknown)


def test_missing_slices_of_a_ct_are_said(organ_table: OrganTable, tmp_path: Path) -> None:
    folder = _patient(tmp_path / "archive", 0, organ_table)
    images = sorted((folder / "ct").iterdir(), key=lambda path: float(dcmread(path).ImagePositionPatient[2]))
    images[8].unlink()
    site = Site.create(tmp_path / "site", SiteSettings(archive=(tmp_path / "archive",)))
    found = survey_site(site)
    (key,) = found.usable
    assert site.patients.patient_id(key) == "H1000"
    first, last = (float(dcmread(images[k]).ImagePositionPatient[2]) for k in (7, 9))
    said = f"  {key}: Slices are missing, 1 in all; the widest of these gaps (1) has {last - first:.1f} mm"
    printed = list(survey_lines(found))
    assert "Look at the CT of 1 of them:" in printed
    assert any(one.startswith(f"{said}, from position {first:.1f} to {last:.1f} mm.") for one in printed)
    assert "Slices are missing, 1 in all" in "\n".join(ingest_lines(ingest_site(site)))


def test_of_what_many_cases_have_the_lowest_and_the_highest_are_named() -> None:
    def part(number: int, length: float) -> tuple[str, tuple[Finding, ...]]:
        message = f"cord: drawn in part, {length:.0f} mm."
        finding = Finding(
            level=Level.INFO, code="ROI_DRAWN_IN_PART", message=message, organ="spinal_cord", value=length
        )
        return f"site__{number}", (finding,)

    report = IngestReport(
        ingested=Ingested(added=4, kept=0, changed=0, rejected={}, unused={}),
        undecided={},
        left_out={},
        notes=dict(part(number, length) for number, length in enumerate((152, 30, 192, 188))),
        drawn={},
        rejected_by_person=(0, 0),
    )
    *_, summary, lowest, highest = ingest_lines(report)
    assert "spinal_cord: ROI_DRAWN_IN_PART in 4 cases" in summary
    assert lowest == "    site__1: cord: drawn in part, 30 mm."
    assert highest == "    site__2: cord: drawn in part, 192 mm."


def test_a_mistyped_archive_leaves_nothing_and_can_be_corrected(archives: Path, tmp_path: Path) -> None:
    def survey(archive: Path) -> BaseException | None:
        words = ["site", "survey", str(archive), "--out", str(tmp_path / "site")]
        return CliRunner().invoke(app, words).exception

    assert isinstance(survey(tmp_path / "nowhere"), InputError)
    assert not (tmp_path / "site").exists()
    (tmp_path / "empty").mkdir()
    assert isinstance(survey(tmp_path / "empty"), InputError)
    assert survey(archives) is None
    assert isinstance(survey(tmp_path / "empty"), ConfigError)
    assert Site.open(tmp_path / "site").settings.archive == (archives.resolve(),)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('"A" = "larnyx"', "'larnyx' is no key"),
        ('"A" = "larynx"\n"a " = "liver"', "twice with different organs"),
        ('"A" = 5', "must be a key"),
        ('"A" = "larynx"\n"A" = "liver"', "A name is there twice"),
        ('"A" = ', "names.toml"),
        ("", "missing or empty"),
    ],
)
def test_a_list_of_names_with_a_mistake_is_refused(text: str, why: str, site: Site) -> None:
    site.names_file.write_text(text)
    with pytest.raises(NamesInvalid) as caught:
        ingest_site(site)
    assert why in caught.value.sentence
    assert not (site.root / "cases").exists()


@pytest.mark.parametrize(
    "name", ['Par "left"', "Lu\x7fng", "Niere\udcfc", "a\\b", "Leber\n2", "🫁", "#x = 1", ""]
)
def test_any_name_can_be_written_and_is_read_again(
    name: str, organ_table: OrganTable, tmp_path: Path
) -> None:
    file = tmp_path / "names.toml"
    for counts in (True, False):
        line = NameLine(name=name, organ="liver", counts=counts, remark="s\nx=1")
        assert add_names(file, {"title": [line]}) == 1
        assert add_names(file, {"title": [line]}) == 0
        names = read_names(file, organ_table)
        assert names.organ(name) == ("liver" if counts else None)
        assert names.is_decided(name) == counts
        file.unlink()


def test_a_site_has_organs_of_its_own(site: Site) -> None:
    site.organs_file.write_text(
        '[gsl]\nname = "GSL"\ncode = "4596009"\nmeaning = "Larynx"\ncolor = [1, 2, 3]\ndisplay = [1, 2, 3]\n'
    )
    survey_site(site)
    assert '"GSL" = "gsl"' in site.names_file.read_text()
    assert ingest_site(site).drawn["gsl"] == 1


def test_bad_input_is_listed_and_nothing_is_half_done(
    organ_table: OrganTable, archives: Path, tmp_path: Path
) -> None:
    def other_patient(dataset: Dataset) -> None:
        dataset.PatientID = "SOMEBODY"

    def other_frame(dataset: Dataset) -> None:
        for roi in dataset.StructureSetROISequence:
            roi.ReferencedFrameOfReferenceUID = "1.2.3"

    bad = tmp_path / "bad"
    _patient(bad, 5, organ_table, other_patient)
    _patient(bad, 6, organ_table, other_frame)
    cut = _patient(bad, 7, organ_table) / "plans" / "structures"
    cut.write_bytes(cut.read_bytes()[:-3000])
    site = Site.create(tmp_path / "site", SiteSettings(archive=(archives, bad)))
    found = survey_site(site)
    assert len(found.usable) == 4  # the frame shows when the contours are read
    report = ingest_site(site)
    reasons = " ".join(report.ingested.rejected.values())
    for words in ("of another patient", "frame of reference is another one", "No RTSTRUCT refers"):
        assert words in reasons
    assert len(site.cases()) == 3
    assert {folder.name for folder in (site.root / "cases").iterdir()} == {case.key for case in site.cases()}
    plan = dcmread(next((bad / "PAT6" / "plans").iterdir()))
    assert plan.PatientID not in (site.root / "rejected.json").read_text()
    assert read_json(site.root / "patients")
