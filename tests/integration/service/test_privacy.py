"""Whatever the node says of a patient anywhere but in DICOM objects: nothing.

A whole node receives, holds, refuses, fails, delivers, tells, exports and is asked by its commands, with
patients whose names, numbers, dates and descriptions are words that occur nowhere else, in several character
sets. Then everything it said is searched for them.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from contextlib import closing
from email.message import Message
from pathlib import Path

import pydicom
import pytest
from aiosmtpd.controller import Controller
from pydicom.uid import generate_uid

from orgseg_node.node.store.model import JobState, SeriesState
from orgseg_node.node.store.store import DATABASE
from tests.integration.service.test_operations import Hook, _Mails, get, web_port
from tests.support.node.command_line import orgseg
from tests.support.node.leaks import LEAKS
from tests.support.node.node_process import running_node, wait_for
from tests.support.peers.dcmtk import free_port, storescp, storescu

pytestmark = [pytest.mark.peer, *LEAKS]

TO_NODE = ("-aec", "ORGSEG")
NAMES = {
    "ISO_IR 100": "Zürñmärk^Qüzèlla",
    "ISO_IR 192": "Ωμέγαμαρκ^Ξέρξης",
    "ISO_IR 144": "Жмаркин^Щукарь",
    "GB18030": "魏標記^乾龜",
}
WORDS = {
    "PatientID": "ZQPID7731",
    "PatientBirthDate": "19370411",
    "AccessionNumber": "ZQACC8842",
    "StudyDescription": "ZQstudydescr",
    "SeriesDescription": "ZQseriesdescr",
    "ReferringPhysicianName": "ZQreferrer^Anna",
    "InstitutionName": "ZQinstitution",
    "StudyID": "ZQSTID99",
    "PatientComments": "ZQcomment",
    "ProtocolName": "ZQprotocol",
}


def marks() -> list[bytes]:
    """Every marked word and part of a name, as bytes in every encoding in which it could be written."""
    texts = list(WORDS.values())
    for charset, name in NAMES.items():
        texts += [name, *name.split("^")]
        texts += [json.dumps(part)[1:-1] for part in name.split("^")]
        del charset
    encodings = ("utf-8", "latin-1", "iso8859-5", "iso8859-7", "gb18030", "utf-16-le")
    found = set()
    for text in texts:
        for encoding in encodings:
            try:
                found.add(text.encode(encoding))
            except UnicodeEncodeError:
                continue
    return sorted(found | {b"ZQreferrer", b"1937-04-11", b"11.04.1937"})


def patient(folder: Path, ct: Path, charset: str) -> list[Path]:
    """The phantom as a series of its own of a marked patient."""
    folder.mkdir()
    series, study, files = generate_uid(), generate_uid(), []
    for number, path in enumerate(sorted(ct.iterdir())):
        dataset = pydicom.dcmread(path)
        dataset.SpecificCharacterSet = charset
        dataset.PatientName = NAMES[charset]
        for keyword, word in WORDS.items():
            setattr(dataset, keyword, word)
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = series, study
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        files.append(folder / f"{number:03}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def leaks(said: dict[str, bytes]) -> list[str]:
    return [f"{where}: {mark!r}" for where, content in said.items() for mark in marks() if mark in content]


def rows(folder: Path) -> bytes:
    """Every row of every table of the node's database."""
    with closing(sqlite3.connect(folder / DATABASE)) as file:
        names = [name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables = [file.execute(f"SELECT * FROM {name}") for name in names]  # noqa: S608 (its own names)
        return "\n".join(str(row) for table in tables for row in table).encode()


def test_the_search_finds_what_it_looks_for(tmp_path: Path, ct_folder: Path) -> None:
    for charset in NAMES:
        files = patient(tmp_path / charset.replace(" ", ""), ct_folder, charset)
        assert len(leaks({"file": files[0].read_bytes()})) > len(WORDS), charset
    assert leaks({"json": json.dumps({"x": NAMES["ISO_IR 144"]}).encode()})


@pytest.mark.endurance
def test_nothing_the_node_says_tells_who_the_patient_is(  # noqa: PLR0915 (one story)
    tmp_path: Path, ct_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hook, mails, mail_port, tps_port = Hook(), _Mails(), free_port(), free_port()
    serving = threading.Thread(target=hook.serve_forever)
    serving.start()
    controller = Controller(mails, hostname="127.0.0.1", port=mail_port)
    controller.start()
    more = f"""
[web]
port = 0
[notices]
min_interval_s = 0
[notices.email]
host = "127.0.0.1"
port = {mail_port}
security = "none"
sender = "node@clinic.example"
recipients = ["physics@clinic.example"]
[notices.webhook]
url = "http://127.0.0.1:{hook.server_address[1]}/"
[destinations.gone]
ae_title = "GONE"
host = "127.0.0.1"
port = {free_port()}
"""
    series = {charset: patient(tmp_path / f"p{n}", ct_folder, charset) for n, charset in enumerate(NAMES)}
    delivered, held, conflict, failed = series.values()
    said: dict[str, bytes] = {}
    try:
        with (
            storescp(tmp_path / "tps", tps_port, "-aet", "TPS"),
            running_node(tmp_path, tps_port, inference=more, log_level="debug", warm=True) as node,
        ):
            config = node.folder / "node.toml"
            assert storescu(node.port, delivered, *TO_NODE).returncode == 0
            assert storescu(node.port, [*held[:5], *held[9:]], *TO_NODE).returncode == 0
            assert storescu(node.port, conflict[:12], *TO_NODE).returncode == 0
            other = pydicom.dcmread(conflict[0])
            other.PatientComments = "ZQcomment, and another"
            other.ImagePositionPatient = [0, 0, 999]  # another image: other attributes alone are no conflict
            other.save_as(conflict[0])
            assert storescu(node.port, conflict[:1], *TO_NODE).returncode == 0
            for path in failed:  # images that hold no pixels: the survey or the child gives up
                dataset = pydicom.dcmread(path)
                dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]
                dataset.save_as(path)
            assert storescu(node.port, failed, *TO_NODE).returncode == 0
            junk = pydicom.dcmread(delivered[0])
            with pytest.warns(UserWarning, match="UI"):
                junk.SeriesInstanceUID = "ZQPID7731"
            junk.save_as(tmp_path / "junk.dcm")
            storescu(node.port, [tmp_path / "junk.dcm"], *TO_NODE)
            storescu(node.port, delivered[:1], "-aec", "NOBODY")

            def settled() -> bool:
                with closing(node.store()) as store:
                    states = [s.state for s in store.series()]
                    jobs = {j.state for j in store.jobs()}
                done = jobs and jobs <= {JobState.SENDING, JobState.DONE, JobState.FAILED, JobState.REVIEW}
                return SeriesState.RECEIVING not in states and bool(done) and len(states) == 4

            wait_for(settled, 300, "every series is settled")
            wait_for(lambda: hook.got and mails.got, 30, "the notice arrived")
            http = web_port(node)
            for path in ("metrics", "readyz", "healthz"):
                said[path] = get(http, f"/{path}")[1].encode()
            for command in (
                ("jobs", "list"), ("jobs", "list", "--json"), ("node", "status"), ("audit", "export"),
                ("audit", "verify"), ("purge", "--dry-run"), ("backup", "create", tmp_path / "kept"),
            ):  # fmt: skip
                answer = orgseg(capsys, *command, "--config", config)
                assert answer.status == 0, answer.err
                said[" ".join(map(str, command[:2]))] = (answer.out + answer.err).encode()
            with closing(node.store()) as store:
                for job in store.jobs():
                    answer = orgseg(capsys, "jobs", "show", job.job_id, "--config", config)
                    said[f"job {job.job_id}"] = (answer.out + answer.err).encode()
                states = {s.state for s in store.series()}
            assert {SeriesState.READY, SeriesState.HOLD, SeriesState.CONFLICT} <= states
            assert node.stop() == 0
    finally:
        hook.shutdown()
        serving.join()
        hook.server_close()
        controller.stop()
    said["log"] = (tmp_path / "log").read_bytes()
    said["rows"] = rows(node.data)
    said["mails"] = b"".join(mail.as_bytes() for mail in mails.got if isinstance(mail, Message))
    said["webhook"] = b"".join(body for _, body in hook.got)
    for path in [*node.data.rglob("*"), *(tmp_path / "kept").rglob("*")]:
        name = str(path.relative_to(tmp_path))
        said.setdefault("names", b"")
        said["names"] += name.encode() + b"\n"
        if path.suffix in {".log", ".json"}:
            said[name] = path.read_bytes()
    silent = [where for where, content in said.items() if not (content or where.endswith("child.log"))]
    assert silent == []
    assert len(said["log"].splitlines()) > 20
    assert leaks(said) == []
    shutil.rmtree(tmp_path / "kept")
