"""``orgseg jobs list``: what needs a person first, descriptions only on a terminal, UIDs by any part."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orgseg_node.cli.node.job_list import command_end, print_list
from orgseg_node.node.operations.overview import Entry, Identity, identity_of, is_of, overview
from orgseg_node.node.store.model import DeliveryState, Instance, JobState, SeriesState
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.node.command_line import Answer, orgseg
from tests.support.node.job_bench import JobBench

NODE = """
[node]
data_dir = "data"
[[peers]]
ae_title = "CT"
[destinations.tps]
ae_title = "TPS"
host = "127.0.0.1"
port = 104
"""


class Listing:
    """A node's data folder, and the command line for it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.node = JobBench(folder / "data")
        self._config = folder / "node.toml"
        self._config.write_text(NODE)
        self._capsys = capsys

    def run(self, *words: str) -> Answer:
        return orgseg(self._capsys, *words, "--config", self._config)

    def entries(self, *words: str) -> list[list[str]]:
        """The lines of each job or series in the list."""
        found: list[list[str]] = []
        for line in self.run("jobs", "list", *words).out.splitlines():
            if " CT " in line and not line.startswith("    "):
                found.append([line])
            elif line.startswith("    ") and found:
                found[-1].append(line.strip())
        return found

    def lines(self, *words: str) -> list[str]:
        """The first line of each job or series in the list."""
        return [entry[0] for entry in self.entries(*words)]


def cells(line: str) -> list[str]:
    """The cells of a line of the list, without the mark."""
    return re.split(r"  +", line[2:])


@pytest.fixture
def listing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Listing:
    return Listing(tmp_path, capsys)


def conflict(node: JobBench, series: str) -> None:
    """Another image under a UID that the series already has."""
    node.store.accept(
        Instance(
            sop_uid=f"{series}.1", series_uid=series, sha256="b" * 64, size=1, path=f"inbox/{series}/b.dcm",
            transfer_syntax="1.2.840.10008.1.2", calling_ae="CT", received_at=node.now(),
        ),
        differs="other pixels",
    )  # fmt: skip


def late_images(node: JobBench, series: str) -> None:
    """Images that came after delivery: the series is held."""
    node.accept(f"{series}.9")
    one = node.store.one_series(series)
    note = "Run 'orgseg series force'."
    assert node.store.judge(one, SeriesState.HOLD, reason="LATE_IMAGES", note=note)


def test_a_series_that_had_a_job_and_needs_a_person_is_listed_first(listing: Listing) -> None:
    node = listing.node
    node.delivered("tps", series="1.2.1")
    late_images(node, "1.2.1")
    node.delivered("tps", series="1.2.2")
    conflict(node, "1.2.2")
    node.job("1.2.3")
    entries = listing.entries()
    assert [(entry[0][0], cells(entry[0])[:2]) for entry in entries[:2]] == [
        ("!", ["1.2.2", "CONFLICT"]),
        ("!", ["1.2.1", "HOLD"]),
    ]
    assert [line.split(" --config")[0] for line in entries[0][-2:]] == [
        "Next: orgseg series settle 1.2.2 --keep first",
        "Next: orgseg series settle 1.2.2 --keep last",
    ]
    assert entries[1][1].startswith("LATE_IMAGES")
    assert [line.split(" --config")[0] for line in entries[1][-2:]] == [
        "Next: orgseg series force 1.2.1",
        "Next: orgseg series judge 1.2.1",
    ]
    assert not any(entry[0].startswith("!") for entry in entries[2:])
    assert len(entries) == 5  # two series, three jobs


def test_failed_and_reviewed_jobs_come_first_with_what_to_do(listing: Listing) -> None:
    node = listing.node
    failed = node.job("1.2.1")
    node.store.move(failed.job_id, JobState.FAILED, "No disk.", reason="STORAGE")
    waiting = node.job("1.2.2")
    for state in ("PREPARING", "INFERRING", "WRITING", "CHECKING", "REVIEW"):
        node.store.move(waiting.job_id, JobState(state), "a rule asks for it")
    for number in range(3, 6):
        node.job(f"1.2.{number}")
    entries = listing.entries("--limit", "1")
    assert len(entries) == 3  # the limit never hides what needs a person
    for line, command in (
        (entries[0][-2], f"jobs approve {waiting.job_id}"),
        (entries[0][-1], f"jobs reject {waiting.job_id}"),
        (entries[1][-1], f"jobs retry {failed.job_id}"),
    ):
        assert line.startswith(f"Next: orgseg {command} --config ")
    assert "2 of 3 need a person (!)." in listing.run("jobs", "list", "--limit", "1").out


def test_a_delivery_that_fails_for_long_needs_a_person(listing: Listing) -> None:
    node = listing.node
    job = node.sending("tps")
    (delivery,) = node.store.claim(job.job_id, "tps")
    node.store.record_delivery(
        delivery, DeliveryState.RETRY_WAIT, status=None, note="no answer", next_at=node.now()
    )
    assert not overview(node.config, node.store, node.now())[0].needs_person
    later = node.now().replace(year=node.now().year + 1)
    (entry,) = overview(node.config, node.store, later)
    assert (entry.needs_person, entry.late, entry.destinations) == (True, ("tps",), ("tps",))


def test_sender_destination_and_images_are_shown(listing: Listing) -> None:
    job = listing.node.job()
    (line,) = listing.lines()
    assert cells(line)[:5] == [job.job_id, "QUEUED", "1", "CT", "tps"]
    (found,) = json.loads(listing.run("jobs", "list", "--json").out)["jobs"]
    assert (found["sender"], found["destinations"], found["needs_person"]) == ("CT", ["tps"], False)


NAME, NUMBER, TEXT = "Zwetschge^Eulalia", "ID-4711", "Neck of Eulalia"


@pytest.fixture
def two_patients(listing: Listing) -> Listing:
    """Two jobs; the images of the first name a patient."""
    options = PhantomOptions(
        slices=1, rows=8, columns=8, patient_name=NAME, patient_id=NUMBER,
        attributes={"StudyDescription": TEXT, "AccessionNumber": "A77"},
    )  # fmt: skip
    build_ct_series(listing.node.data / "ct", options)
    for series in ("1.2.1", "1.2.2"):
        listing.node.job(series)
    (file,) = (listing.node.data / "ct").iterdir()
    file.replace(listing.node.data / "inbox" / "1.2.1" / "1.2.1.1.dcm")
    return listing


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (("--patient", NUMBER.lower()), 1),
        (("--patient", "zwetsch"), 1),
        (("--patient", "ID-47"), 0),  # a patient ID is given whole
        (("--study", "A77"), 1),
        (("--study", "A7"), 0),
        (("--patient", NUMBER, "--study", "no"), 0),
        (("--since", "1h"), 2),
        (("--since", "2999-01-01"), 0),
        ((), 2),
    ],
)
def test_the_list_is_narrowed_by_patient_study_and_time(
    two_patients: Listing, words: tuple[str, ...], count: int
) -> None:
    assert len(two_patients.lines(*words)) == count


def test_no_patient_data_go_into_a_pipe_or_json(two_patients: Listing) -> None:
    for words in ((), ("--json",), ("--patient", NUMBER)):
        answer = two_patients.run("jobs", "list", *words)
        assert answer.status == 0
        for secret in ("Zwetschge", "Eulalia", "Neck"):
            assert secret not in answer.out + answer.err


def test_a_wrong_time_is_an_error_of_usage(listing: Listing) -> None:
    answer = listing.run("jobs", "list", "--since", "yesterday")
    assert (answer.status, answer.code) == (2, "USAGE")


def test_on_a_terminal_the_description_and_the_end_of_the_uid_are_shown(
    listing: Listing, capsys: pytest.CaptureFixture[str]
) -> None:
    uid, other = "1.2.840.113619.2.55.3.1001", "1.2.840.113619.2.55.3.2001"
    entries = []
    for series in (uid, other):
        listing.node.accept(f"{series}.1")
        entries.append(Entry(job=None, series=listing.node.store.one_series(series)))
    known = Identity(patient_id="", patient_name="", study_uid="", accession="", description=TEXT)
    print_list(entries, {}, {uid: known, other: None})
    shown = capsys.readouterr().out
    assert TEXT in shown
    assert uid not in shown
    ends = [cells(line)[0] for line in shown.splitlines() if " CT " in line]
    assert [listing.node.store.find_series(end).series_uid for end in ends] == [uid, other]


def test_damaged_images_belong_to_nobody(listing: Listing) -> None:
    listing.node.job("1.2.1")
    nobody = identity_of(listing.node.data, listing.node.store.instances_of("1.2.1"))
    assert nobody is None
    assert not is_of(nobody, patient="A")
    assert is_of(nobody)


@pytest.fixture
def in_india(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "IST-5:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_india")
def test_times_are_those_of_this_machine_with_their_zone(listing: Listing) -> None:
    job = listing.node.job("1.2.1")
    local = f"{job.created_at.astimezone():%Y-%m-%d %H:%M:%S} IST"
    assert job.created_at.utcoffset() != job.created_at.astimezone().utcoffset()
    assert local in listing.lines()[0]
    for words in (("jobs", "show", job.job_id), ("series", "list"), ("series", "show", "1.2.1")):
        assert "IST" in listing.run(*words).out


def test_a_uid_may_be_given_by_any_part_that_only_one_series_has(listing: Listing) -> None:
    node = listing.node
    for series in ("1.2.3", "1.2.3.77", "1.2.4.88"):
        node.accept(f"{series}.1")
    assert node.store.find_series("1.2.3").series_uid == "1.2.3"  # the whole UID of one, a part of another
    assert "1.2.4.88" in listing.run("series", "show", "4.8").out
    assert listing.run("series", "wait", "77").status == 0
    for part in ("1.2", "9", "1%", ""):
        assert listing.run("series", "show", part).code == "STORAGE_UNKNOWN_SERIES"
    job = node.job("1.2.5")
    assert job.job_id in listing.run("jobs", "show", job.job_id[-9:]).out


def test_dead_letters_say_where_objects_could_not_be_delivered(listing: Listing) -> None:
    node = listing.node
    job = node.sending("tps", "pacs")
    for place, state in (("tps", DeliveryState.STORED), ("pacs", DeliveryState.FAILED)):
        (delivery,) = node.store.claim(job.job_id, place)
        note = "NETWORK_UNREACHABLE: The peer does not respond." if place == "pacs" else ""
        node.store.record_delivery(delivery, state, status=None, note=note, next_at=node.now())
    shown = listing.run("jobs", "dead").out
    assert "1 objects could not be delivered to pacs" in shown
    assert "RTSTRUCT to pacs: failed. NETWORK_UNREACHABLE: The peer does not respond." in shown
    assert "tps" not in shown


def report(listing: Listing, job_id: str, **more: object) -> None:
    """A report.json with an organ as expected, an unusual one, one left out and one that is missing."""
    organs = [
        {"key": "cord", "name": "SpinalCord", "voxels": 9, "grade": None, "left_out": False},
        {"key": "parotid_left", "name": "Parotid_L", "voxels": 9, "grade": "unusual", "left_out": False},
        {"key": "larynx", "name": "Larynx", "voxels": 9, "grade": "implausible", "left_out": True},
        {"key": "brain", "name": "Brain", "voxels": 0, "grade": None, "left_out": False},
    ]
    missing = {"level": "warning", "code": "ORGAN_NOT_FOUND", "organ": "brain", "message": "Not found."}
    content = {"organs": organs, "findings": [missing], "anatomy": [], **more}
    place = listing.node.data / "jobs" / job_id / "out"
    place.mkdir(parents=True)
    (place / "report.json").write_text(json.dumps(content))


def test_organs_to_look_at_are_named(listing: Listing) -> None:
    job = listing.node.delivered("tps")
    report(listing, job.job_id)
    (entry,) = listing.entries()
    assert entry[-1] == (
        "Look at Parotid_L (unusual: look at it); Larynx (left out: implausible); Brain (ORGAN_NOT_FOUND)."
    )
    (found,) = json.loads(listing.run("jobs", "list", "--json").out)["jobs"]
    assert list(found["look_at"]) == ["Parotid_L", "Larynx", "Brain"]


def test_a_damaged_report_hides_no_job(listing: Listing) -> None:
    job = listing.node.delivered("tps")
    report(listing, job.job_id, organs=[{"name": "x"}])
    (entry,) = listing.entries()
    assert "report.json" in entry[-1]
    assert listing.run("jobs", "show", job.job_id).status == 0


def test_a_failing_delivery_says_when_it_is_tried_again(listing: Listing) -> None:
    node = listing.node
    job = node.sending("tps", "pacs")
    at = node.now().replace(microsecond=0)
    (delivery,) = node.store.claim(job.job_id, "tps")
    node.store.record_delivery(
        delivery, DeliveryState.RETRY_WAIT, status=None, note="The peer does not respond.", next_at=at
    )
    (entry,) = listing.entries()
    time_of_it = f"{at.astimezone():%Y-%m-%d %H:%M:%S %Z}"
    assert entry[-1] == f"To tps: attempt 1 failed, next try {time_of_it}. The peer does not respond."
    (found,) = json.loads(listing.run("jobs", "list", "--json").out)["jobs"]
    assert found["failing"][0]["destination"] == "tps"


@pytest.mark.parametrize("width", [40, 120])
def test_each_command_is_whole_on_its_own_line_also_on_a_narrow_terminal(
    listing: Listing, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    uid = "1.2.840.113619.2.55.3.2831868886.100.1700000000.467.100123456"
    listing.node.accept(f"{uid}.1")
    conflict(listing.node, uid)
    entries = overview(listing.node.config, listing.node.store, listing.node.now())
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_list(entries, {}, {}, command_end=" --config '/etc/my node.toml'")
    lines = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out).splitlines()
    for keep in ("first", "last"):
        assert f"    Next: orgseg series settle {uid} --keep {keep} --config '/etc/my node.toml'" in lines


def test_a_command_needs_no_configuration_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORGSEG_CONFIG", raising=False)
    assert command_end(Path("a b.toml")) == " --config 'a b.toml'"
    monkeypatch.setenv("ORGSEG_CONFIG", "a b.toml")
    assert command_end(Path("a b.toml")) == ""
