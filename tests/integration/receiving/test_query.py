"""``orgseg query`` and ``orgseg pull`` against Orthanc, DCMTK's dcmqrscp, and sources that misbehave."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from tests.support.node.command_line import Answer, orgseg
from tests.support.node.leaks import LEAKS
from tests.support.node.node_process import running_node, wait_for
from tests.support.peers import dcmqrscp as qr
from tests.support.peers import orthanc as archive
from tests.support.peers.certificates import Authority
from tests.support.peers.dcmtk import free_port
from tests.support.peers.pacs import LOTTA, NAMES, SLICES, Held, Place, hold, introduce, listening_at

pytestmark = [pytest.mark.endurance, *LEAKS]


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Held:
    return hold(tmp_path_factory.mktemp("held"))


@pytest.fixture(scope="module", params=["orthanc", "dcmqrscp"])
def _archive(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, held: Held
) -> Iterator[tuple[str, int, Callable[[int], None], int]]:
    """Title and port of an archive, how to tell it where the node is, and where it thinks so at first."""
    folder = tmp_path_factory.mktemp(request.param)
    node_port = free_port()
    if request.param == "dcmqrscp":
        options = ("+xt", "-xt")  # takes and proposes JPEG-LS besides uncompressed
        with qr.dcmqrscp(folder, held.files, {"ORGSEG": node_port}, *options) as port:
            yield qr.AE_TITLE, port, lambda _: None, node_port
        return
    with archive.orthanc(folder) as running:
        for path in held.files:
            running.upload(path.read_bytes())
        yield archive.AE_TITLE, running.dicom_port, lambda at: introduce(running, "ORGSEG", at), node_port


@pytest.fixture
def place(_archive: tuple[str, int, Callable[[int], None], int], tmp_path: Path) -> Place:
    title, port, introduce, node_port = _archive
    introduce(node_port)
    return Place(node_port=node_port, kept=tmp_path / "kept", title=title, port=port)


def _rows(answer: Answer, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(answer.out)[name]
    return found


# ---------------------------------------------------------------------- queries


@pytest.mark.peer
@pytest.mark.parametrize(
    ("keys", "accessions"),
    [
        ((), {"ACC-1", "ACC-2"}),
        (("--patient", "PAT-1"), {"ACC-1"}),
        (("--patient", "PAT-*"), {"ACC-1", "ACC-2"}),
        (("--accession", "ACC-2"), {"ACC-2"}),
        (("--date", "20260101-20260131"), {"ACC-1"}),
        (("--date", "20260106-"), {"ACC-2"}),
        (("--date", "-20260105"), {"ACC-1"}),
        (("--date", "20260210"), {"ACC-2"}),
        (("--patient", "PAT-1", "--date", "20260101-"), {"ACC-1"}),
    ],
)
def test_studies_are_found_by_every_key(
    capsys: pytest.CaptureFixture[str],
    place: Place,
    tmp_path: Path,
    keys: Sequence[str],
    accessions: set[str],
) -> None:
    answer = orgseg(capsys, "query", "pacs", *keys, "--config", place.config(tmp_path), "--json")
    assert answer.status == 0, answer.err
    assert {study["accession"] for study in _rows(answer, "studies")} == accessions


@pytest.mark.peer
def test_uids_and_modality_find_too_and_counts_are_those_of_the_archive(
    capsys: pytest.CaptureFixture[str], place: Place, held: Held, tmp_path: Path
) -> None:
    config = place.config(tmp_path)
    study = held.first.StudyInstanceUID
    answer = orgseg(capsys, "query", "pacs", "--study", study, "--config", config, "--json")
    assert [row["study_uid"] for row in _rows(answer, "studies")] == [study]
    by_level = orgseg(
        capsys,
        *("query", "pacs", "--patient", "PAT-1", "--modality", "CT", "--level", "series"),
        *("--config", config, "--json"),
    )
    rows = _rows(by_level, "series")
    assert {one["series_uid"] for one in rows} == {
        held.first.SeriesInstanceUID,
        held.second.SeriesInstanceUID,
    }
    assert {one["instances"] for one in rows} <= {SLICES, None}
    both = ("--study", study, "--series", held.second.SeriesInstanceUID)
    named = orgseg(capsys, "query", "pacs", *both, "--config", config, "--json")
    assert [one["series_uid"] for one in _rows(named, "series")] == [held.second.SeriesInstanceUID]
    nothing = orgseg(
        capsys, "query", "pacs", "--modality", "MR", "--level", "series", "--config", config, "--json"
    )
    assert (nothing.status, nothing.code) == (1, "NETWORK_NOTHING_MATCHES")


@pytest.mark.peer
def test_a_series_is_found_without_its_study(
    capsys: pytest.CaptureFixture[str], place: Place, held: Held, tmp_path: Path
) -> None:
    series = held.second.SeriesInstanceUID
    answer = orgseg(capsys, "query", "pacs", "--series", series, "--config", place.config(tmp_path), "--json")
    assert [one["series_uid"] for one in _rows(answer, "series")] == [series]


@pytest.mark.peer
def test_a_name_is_shown_to_who_asked_and_logged_nowhere(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    place: Place,
    tmp_path: Path,
) -> None:
    answer = orgseg(capsys, "query", "pacs", "--patient", "PAT-1", "--config", place.config(tmp_path))
    assert LOTTA in answer.out
    logged = answer.err + "".join(record.getMessage() for record in caplog.records)
    assert [secret for secret in (*NAMES, "PAT-1", "ACC-1") if secret in logged] == []


@pytest.mark.peer
def test_more_than_the_limit_is_cancelled_and_said(
    capsys: pytest.CaptureFixture[str], place: Place, tmp_path: Path
) -> None:
    answer = orgseg(capsys, "query", "pacs", "--limit", "1", "--config", place.config(tmp_path), "--json")
    assert answer.status == 0
    assert len(_rows(answer, "studies")) == 1
    assert json.loads(answer.out)["has_more"]
    assert "more than 1" in answer.err


@pytest.mark.peer
@pytest.mark.parametrize("command", [("query",), ("pull", "--out", "OUT")])
def test_a_uid_that_is_not_there_is_told_with_code_and_sentence(
    capsys: pytest.CaptureFixture[str], place: Place, tmp_path: Path, command: Sequence[str]
) -> None:
    name, *more = (str(tmp_path / "out") if part == "OUT" else part for part in command)
    answer = orgseg(capsys, name, "pacs", "--study", "1.2.3", *more, "--config", place.config(tmp_path))
    assert (answer.status, answer.code) == (1, "NETWORK_NOTHING_MATCHES")
    assert "has no matching images" in answer.err
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------- pulls


def _same(kept: Path, files: Sequence[Path]) -> None:
    """The files of a folder hold, dataset for dataset, what was stored, in the same syntax."""
    stored = {str(one.SOPInstanceUID): one for one in map(dcmread, files)}
    assert {path.stem for path in kept.glob("*.dcm")} == stored.keys()
    for path in kept.glob("*.dcm"):
        came = dcmread(path)
        assert came.file_meta.TransferSyntaxUID == stored[path.stem].file_meta.TransferSyntaxUID
        assert came.PixelData == stored[path.stem].PixelData
        assert came == stored[path.stem]


@pytest.mark.peer
@pytest.mark.parametrize(
    ("keys", "which"),
    [
        (("--patient", "PAT-1"), (0, 1)),
        (("--patient", "PAT-1", "--modality", "CT", "--date", "20260105"), (0, 1)),
        (("--study", "FIRST"), (0, 1)),
        (("--study", "FIRST", "--series", "SECOND"), (1,)),
    ],
)
def test_a_pull_into_a_folder_brings_what_is_stored_as_it_is_stored(
    capsys: pytest.CaptureFixture[str],
    place: Place,
    held: Held,
    tmp_path: Path,
    keys: Sequence[str],
    which: Sequence[int],
) -> None:
    names = {"FIRST": held.first.StudyInstanceUID, "SECOND": held.second.SeriesInstanceUID}
    asked = [names.get(key, key) for key in keys]
    out = tmp_path / "out"
    answer = orgseg(
        capsys, "pull", "pacs", *asked, "--out", out, "--config", place.config(tmp_path), "--json"
    )
    assert answer.status == 0, answer.err
    files = [path for n in which for path in held.files[n * SLICES : (n + 1) * SLICES]]
    assert json.loads(answer.out) == {
        "series": len(which),
        "instances": len(files),
        "remarks": 0,
        "to": str(out),
    }
    _same(out, files)


@pytest.mark.peer
@pytest.mark.parametrize("method", ["move", "get"])
def test_a_pull_without_a_folder_brings_the_images_to_the_node(
    capsys: pytest.CaptureFixture[str],
    place: Place,
    held: Held,
    tmp_path: Path,
    method: str,
) -> None:
    with listening_at(place.kept, place.node_port):
        answer = orgseg(
            capsys,
            *("pull", "pacs", "--accession", "ACC-1"),
            *("--config", place.config(tmp_path, method=method)),
        )
    assert answer.status == 0, answer.err
    assert f"pulled {2 * SLICES} images of 2 series to ORGSEG" in answer.out
    _same(place.kept, held.files[: 2 * SLICES])


@pytest.mark.peer
@pytest.mark.parametrize("way", ["folder", "move", "get"])
def test_compressed_images_come_as_stored_or_the_failure_is_told(
    capsys: pytest.CaptureFixture[str], place: Place, held: Held, tmp_path: Path, way: str
) -> None:
    """DCMTK sends over the first context of a class, and cannot decompress what does not fit there."""
    folder = ("--out", place.kept) if way == "folder" else ()
    config = place.config(tmp_path, method="move" if way == "move" else "get")
    with contextlib.ExitStack() as stack:
        if way != "folder":
            stack.enter_context(listening_at(place.kept, place.node_port))
        answer = orgseg(capsys, "pull", "pacs", "--accession", "ACC-2", *folder, "--config", config)
    if place.title == qr.AE_TITLE:
        code = "NETWORK_MOVE_REFUSED" if way == "move" else "NETWORK_PULL_INCOMPLETE"
        assert (answer.status, answer.code) == (1, code)
        assert f"Received 0 images, missing {SLICES}: 0xA702" in answer.err
        return
    assert answer.status == 0, answer.err
    _same(place.kept, held.files[2 * SLICES :])


# ---------------------------------------------------------------------- refusals


@pytest.mark.peer
@pytest.mark.parametrize(
    "keys",
    [
        (),
        ("--modality", "CT"),
        ("--date", "20260101-"),
        ("--patient", "*"),
        ("--patient", "PAT-?"),
        ("--accession", "ACC*"),
        ("--patient", "  "),
    ],
)
def test_a_pull_that_names_nothing_brings_nothing(
    capsys: pytest.CaptureFixture[str], place: Place, tmp_path: Path, keys: Sequence[str]
) -> None:
    out = tmp_path / "out"
    answer = orgseg(capsys, "pull", "pacs", *keys, "--out", out, "--config", place.config(tmp_path))
    assert (answer.status, answer.code) == (1, "NETWORK_PULL_TOO_WIDE")
    assert not out.exists()


@pytest.mark.peer
def test_a_pull_of_more_series_than_the_limit_brings_nothing(
    capsys: pytest.CaptureFixture[str], place: Place, tmp_path: Path
) -> None:
    out, config = tmp_path / "out", place.config(tmp_path)
    wanted = ("pull", "pacs", "--patient", "PAT-1", "--out", out, "--config", config, "--limit")
    answer = orgseg(capsys, *wanted, 1)
    assert (answer.status, answer.code) == (1, "NETWORK_PULL_TOO_WIDE")
    assert "more than 1 series" in answer.err
    assert not out.exists()
    assert orgseg(capsys, *wanted, 2).status == 0


@pytest.mark.peer
def test_a_receiver_the_source_does_not_know_is_told(
    capsys: pytest.CaptureFixture[str], place: Place, tmp_path: Path
) -> None:
    config = place.config(tmp_path, move_to="NOBODY")
    answer = orgseg(capsys, "pull", "pacs", "--patient", "PAT-1", "--config", config)
    assert (answer.status, answer.code) == (1, "NETWORK_MOVE_REFUSED")
    assert {"DCMQR": "0xA801, it does not know", "ARCHIVE": "0xC000"}[place.title] in answer.err
    assert ", for NOBODY" in answer.err


@pytest.mark.peer
def test_a_receiver_that_is_not_there_is_told(
    capsys: pytest.CaptureFixture[str], place: Place, tmp_path: Path
) -> None:
    answer = orgseg(capsys, "pull", "pacs", "--patient", "PAT-1", "--config", place.config(tmp_path))
    assert (answer.status, answer.code) == (1, "NETWORK_MOVE_REFUSED")
    assert {"DCMQR": "0xA702", "ARCHIVE": "0xC000"}[place.title] in answer.err
    assert "does not reach it" in " ".join(answer.err.split())


@pytest.mark.peer
@pytest.mark.parametrize("command", ["query", "pull"])
def test_a_caller_the_source_does_not_know_is_refused(
    capsys: pytest.CaptureFixture[str], place: Place, tmp_path: Path, command: str
) -> None:
    config = place.config(tmp_path, calling_ae_title="STRANGER")
    answer = orgseg(capsys, command, "pacs", "--patient", "PAT-1", "--config", config)
    # Orthanc takes the association and then hangs up on the request
    code = {"DCMQR": "NETWORK_REJECTED", "ARCHIVE": "NETWORK_UNREACHABLE"}[place.title]
    assert (answer.status, answer.code) == (1, code)
    assert "AE title" in answer.err


@pytest.mark.peer
def test_a_running_node_makes_a_job_of_what_it_pulled(
    capsys: pytest.CaptureFixture[str], held: Held, tmp_path: Path
) -> None:
    with archive.orthanc(tmp_path / "orthanc") as pacs:
        for path in held.files:
            pacs.upload(path.read_bytes())
        more = (
            f'[[peers]]\nae_title = "{archive.AE_TITLE}"\n[sources.pacs]\nae_title = "{archive.AE_TITLE}"\n'
        )
        more += f'host = "127.0.0.1"\nport = {pacs.dicom_port}'
        (tmp_path / "node").mkdir()
        with running_node(tmp_path / "node", free_port(), inference=more) as node:
            introduce(pacs, "ORGSEG", node.port)
            config = node.folder / "node.toml"
            answer = orgseg(
                capsys, "pull", "pacs", "--series", held.first.SeriesInstanceUID, "--config", config
            )
            assert answer.status == 0, answer.err

            def taken() -> str:
                with contextlib.closing(node.store()) as store:
                    return next((one.state.value for one in store.series() if one.instances == SLICES), "")

            assert wait_for(taken, 20, "the series is there")
            log = (node.folder / "log").read_text(encoding="utf-8")
    assert [secret for secret in (*NAMES, "PAT-1", "ACC-1") if secret in log + answer.err] == []


# ---------------------------------------------------------------------- TLS


@pytest.mark.peer
def test_queries_and_pulls_go_by_tls_to_an_archive_whose_certificate_is_trusted(
    capsys: pytest.CaptureFixture[str], held: Held, tmp_path: Path
) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger-ca")
    theirs, ours = authority.sign("pacs"), authority.sign("node")
    settings = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(theirs.certificate),
        "DicomTlsPrivateKey": str(theirs.key),
        "DicomTlsTrustedCertificates": str(authority.certificate),
    }
    shown = {"tls": True, "tls_certificate": str(ours.certificate), "tls_key": str(ours.key)}
    with archive.orthanc(tmp_path / "archive", **settings) as running:
        for path in held.files:
            running.upload(path.read_bytes())
        node_port = free_port()
        introduce(running, "ORGSEG", node_port)
        place = Place(
            node_port=node_port, kept=tmp_path / "kept", title=archive.AE_TITLE, port=running.dicom_port
        )
        trusting = place.config(tmp_path, tls_ca=str(authority.certificate), **shown)
        found = orgseg(capsys, "query", "pacs", "--patient", "PAT-1", "--config", trusting, "--json")
        study = held.first.StudyInstanceUID
        pulled = orgseg(
            capsys, "pull", "pacs", "--study", study, "--out", tmp_path / "out", "--config", trusting
        )
        distrusting = place.config(tmp_path, tls_ca=str(stranger.certificate), **shown)
        refused = orgseg(capsys, "query", "pacs", "--patient", "PAT-1", "--config", distrusting)
    assert found.status == 0, found.err
    assert [one["accession"] for one in _rows(found, "studies")] == ["ACC-1"]
    assert pulled.status == 0, pulled.err
    assert len(list((tmp_path / "out").rglob("*.dcm"))) > 0
    assert (refused.status, refused.code) == (1, "NETWORK_TLS_PEER_CERTIFICATE")
