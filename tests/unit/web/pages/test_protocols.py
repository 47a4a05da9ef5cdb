"""The editor of protocols: what it changes, shows, saves and refuses."""

from __future__ import annotations

import errno
import hashlib
import html
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from orgseg_node.contouring.protocol import load_protocol
from orgseg_node.errors import JobRefuses
from orgseg_node.node.review.trying import ProtocolTrier, Tried
from orgseg_node.node.store.model import Event
from orgseg_node.node.users.roles import Role
from tests.support.web.contoured import contour_case
from tests.support.web.pages_bench import PagesBench

TEXT = """# ours, by the physicists
others = "keep"

[[structures]]
organ = "spinal_cord"
min_ml = 2  # small ones are false
"""
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "protocols" / "ours.toml"
    path.parent.mkdir()
    path.write_text(TEXT, encoding="utf-8")
    path.chmod(0o640)
    return path


@pytest.fixture
def bench(tmp_path: Path, file: Path) -> PagesBench:
    rule = [
        {
            "name": "heads",
            "when": {"slices": {"at_least": 1}},
            "action": "contour",
            "protocol": "head_and_neck",
        }
    ]
    return PagesBench(tmp_path / "node", contours={"protocol": str(file)}, rule=rule)


def address(browser: TestClient, title: str = "ours") -> str:
    found = re.search(rf'href="(/node/protocols/[0-9a-f]+)">{title}<', browser.get("/node/protocols").text)
    assert found is not None
    return found[1]


class Form:
    """The form of the editor as a browser sends it: every field as the page shows it, and what is typed."""

    def __init__(self, browser: TestClient, path: str) -> None:
        self.browser, self.path = browser, path
        self.status, self.text = 0, ""
        self._read(browser.get(path))

    def _read(self, answer: Any) -> None:
        self.status, self.text = answer.status_code, answer.text
        body = answer.text
        self.fields = {
            name: html.unescape(value)
            for name, value in re.findall(r'<input[^>]*? name="([^"]+)"[^>]*? value="([^"]*)"', body)
        }
        for name, options in re.findall(r'<select name="([^"]+)"[^>]*>(.*?)</select>', body, re.DOTALL):
            chosen = re.search(r'value="([^"]*)" selected', options)
            self.fields[name] = html.unescape(chosen[1]) if chosen else ""
        area = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", body, re.DOTALL)
        self.fields["text"] = html.unescape(area[1]) if area else ""

    def send(self, do: str, **typed: str) -> Form:
        """Press a button."""
        values = {name.replace("__", "."): value for name, value in typed.items()}
        answer = self.browser.post(self.path, data={**self.fields, **values, "do": do})
        if answer.status_code == 303:
            self.status = 303
        else:
            self._read(answer)
        return self


def events(bench: PagesBench) -> list[Event]:
    return bench.store.database.read(Event, "SELECT * FROM event WHERE kind = 'protocol' ORDER BY number")


def test_the_list_says_who_uses_which_protocol(bench: PagesBench) -> None:
    text = bench.logged_in(Role.ADMINISTRATOR).get("/node/protocols").text
    assert "rule heads" in text
    assert "where no rule names another" in text
    assert text.count("comes with the program") == 4


def test_a_field_changes_its_line_of_the_text_and_nothing_else(bench: PagesBench, file: Path) -> None:
    browser = bench.logged_in(Role.PHYSICIST)
    form = Form(browser, address(browser)).send("edit-0")
    assert form.fields["s.min_ml"] == "2"
    form.send("check", s__min_ml="0.5", s__implausible="hold", g__others="drop")
    assert form.status == 200
    expected = TEXT.replace('"keep"', '"drop"').replace("min_ml = 2 ", "min_ml = 0.5 ")
    assert form.fields["text"] == expected + 'implausible = "hold"\n'
    form.send("add", organ="heart")
    assert form.fields["text"].endswith('[[structures]]\norgan = "heart"\n')
    assert "heart" not in form.send("remove").fields["text"]
    assert file.read_text() == TEXT, "nothing is saved yet"


def test_wrong_input_is_named_beside_its_field_with_a_code(bench: PagesBench, file: Path) -> None:
    browser = bench.logged_in(Role.PHYSICIST)
    form = Form(browser, address(browser)).send("edit-0").send("check", s__min_ml="much")
    assert form.status == 422
    field = re.search(r'name="s\.min_ml"[^>]*aria-describedby="([^"]+)"', form.text)
    assert field is not None
    assert re.search(rf'id="{re.escape(field[1])}">structures\.1\.min_ml: [^<]*number[^<]*much', form.text)
    assert "CONFIG_PROTOCOL" in form.text
    for do in ("save", "try"):
        assert form.send(do).status == 422
    for text, said in (
        ("a = ", "not TOML"),
        ('[[structures]]\norgan = "hart"\n', "did you mean"),
        ("x = 1\n", "no such setting"),
    ):
        form.send("save", text=text)
        assert (form.status, said in html.unescape(form.text)) == (422, True), form.text
        assert form.fields["text"] == text + ("" if text.endswith("\n") else "\n"), "what was typed stays"
    for text in ("structures = 3\n", "structures = [1, 2]\n", "[structures]\na = 1\n"):
        assert form.send("edit-0", text=text).status == 422
    assert file.read_text() == TEXT
    assert events(bench) == []


def test_a_field_of_a_structure_that_was_moved_in_the_text_is_not_written_into_another(
    bench: PagesBench, file: Path
) -> None:
    browser = bench.logged_in(Role.PHYSICIST)
    form = Form(browser, address(browser)).send("edit-0")
    moved = '[[structures]]\norgan = "heart"\n' + TEXT.partition("\n\n")[2]
    form.send("check", text=moved, s__min_ml="9")
    assert form.status == 422
    assert "moved in the text" in form.text
    assert form.fields["text"] == moved


def test_saving_writes_the_file_and_the_history_and_holds_for_the_next_jobs_only(
    bench: PagesBench, file: Path, ct: Path
) -> None:
    job = bench.jobs.job("1.2.3")
    with bench.store.database.write() as tx:
        tx.run(
            "UPDATE job SET protocol_json = ? WHERE job_id = ?",
            (json.dumps(load_protocol(str(file)).as_json), job.job_id),
        )
    kept = bench.store.job(job.job_id).protocol_json
    browser = bench.logged_in(Role.PHYSICIST)
    form = Form(browser, address(browser)).send("edit-0")
    assert form.send("save", s__min_ml="0.5", why="too strict").status == 303
    assert file.read_text() == TEXT.replace("min_ml = 2 ", "min_ml = 0.5 ")
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(file.parent.iterdir()) == [file]
    (event,) = events(bench)
    assert (event.subject, event.change) == ("ours", "saved")
    assert event.note.startswith("spinal_cord.min_ml 2.0 -> 0.5; sha256:")
    assert event.note.endswith("not tried on a case; by anna, on the pages: too strict")
    assert "saved: protocol ours" in bench.events_of("anna")
    assert bench.store.job(job.job_id).protocol_json == kept
    assert load_protocol(bench.parts.config.config.contours.protocol).organs[0].min_ml == 0.5
    before, after = (hashlib.sha256(text.encode()).hexdigest() for text in (TEXT, file.read_text()))
    texts = bench.jobs.data / "protocols"
    assert (texts / f"{before[:16]}.toml").read_text() == TEXT
    assert (texts / f"{after[:16]}.toml").read_text() == file.read_text()
    assert "ours" in browser.get("/history?kind=protocol").text


def test_the_second_of_two_persons_does_not_overwrite_the_first(bench: PagesBench, file: Path) -> None:
    anna, bert = bench.logged_in(Role.PHYSICIST), bench.logged_in(Role.ADMINISTRATOR, name="bert")
    one, other = Form(anna, address(anna)), Form(bert, address(bert))
    assert one.send("save", g__others="drop").status == 303
    saved = file.read_text()
    other.send("save", g__implausible="hold")
    assert other.status == 409
    assert "CONFIG_PROTOCOL_CHANGED" in other.text
    assert 'implausible = "hold"' in other.fields["text"], "what bert typed stays"
    assert file.read_text() == saved
    other.send("save")
    assert other.status == 409, "once more does not help"
    assert Form(bert, address(bert)).send("save", g__implausible="hold").status == 303
    assert 'others = "drop"' in file.read_text()


def test_a_protocol_that_cannot_be_written_says_so_and_can_be_tried_all_the_same(
    bench: PagesBench, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = bench.logged_in(Role.PHYSICIST)
    shipped = Form(browser, address(browser, "head_and_neck"))
    assert "CONFIG_PROTOCOL_READ_ONLY" in shipped.text
    assert "comes with the program" in shipped.text
    assert 'value="save"' not in shipped.text
    assert shipped.send("save", g__others="drop").status == 422
    assert 'value="save"' in Form(browser, address(browser)).text

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    form = Form(browser, address(browser))
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert form.send("save", g__others="drop").status == 422
    assert "may not write into the folder" in form.text
    assert "Read-only file system" in form.text
    assert file.read_text() == TEXT
    assert events(bench) == []
    monkeypatch.undo()
    file.unlink()
    assert browser.get(address(browser)).status_code >= 400


def test_names_in_a_protocol_stay_text(bench: PagesBench, file: Path) -> None:
    file.write_text(
        f'description = "{EVIL}"\n[[structures]]\norgan = "heart"\nname = "{EVIL}"\n', encoding="utf-8"
    )
    browser = bench.logged_in(Role.PHYSICIST)
    form = Form(browser, address(browser)).send("edit-0", text=f"# </textarea>{EVIL}\n" + file.read_text())
    assert EVIL not in form.text
    assert form.fields["g.description"] == EVIL
    form.send("save", text=f'{EVIL} = 1\n[[structures]]\norgan = "{EVIL}"\n')
    assert EVIL not in form.text
    assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son[a-z]+=|javascript:", form.text)


@pytest.mark.parametrize(
    "key", ["..%2F..%2Fetc%2Fpasswd", "ours.toml", "0" * 16, "%00", "ours", "%2Fetc%2Fpasswd"]
)
def test_an_address_is_never_a_path(bench: PagesBench, key: str) -> None:
    browser = bench.logged_in(Role.PHYSICIST)
    answer = browser.get(f"/node/protocols/{key}")
    assert answer.status_code in {404, 422, 500}
    assert "root:" not in answer.text
    token = Form(browser, address(browser)).fields["csrf"]
    answer = browser.post(
        f"/node/protocols/{key}", data={"csrf": token, "text": "", "do": "save", "opened": ""}
    )
    assert answer.status_code in {404, 422, 500}


def test_without_the_secret_or_the_role_nothing_is_saved(bench: PagesBench, file: Path) -> None:
    browser = bench.logged_in(Role.PHYSICIST)
    path = address(browser)
    form = Form(browser, path)
    assert form.send("save", csrf="x", g__others="drop").status == 403
    for role in (Role.VIEWER, Role.REVIEWER):
        other = bench.logged_in(role, name=role.value)
        assert other.get(path).status_code == 403
        assert bench.command(other, path, text=TEXT, do="save").status_code == 403
    assert browser.post(path, content=b"text=" + b"a" * 500_000).status_code == 413
    assert browser.post(path, content=b"&".join(b"a=1" for _ in range(200))).status_code == 413
    assert file.read_text() == TEXT


def _tried(bench: PagesBench, job_id: str) -> Tried:
    look = {"name": EVIL, "color": [1, 2, 3], "type": "ORGAN", "ml": 3.25, "flag": ""}
    new = {
        "key": "derived prv",
        "change": "added",
        "before": None,
        "after": look,
        "dice": None,
        "why": "",
        "worst": [[2, 9.0]],
    }
    cord = {**look, "name": "SpinalCord"}
    changed = {"key": "spinal_cord", "change": "changed", "before": cord, "after": {**cord, "ml": 2.0},
               "dice": 0.75, "why": "", "worst": []}  # fmt: skip
    finding = {"level": "warning", "code": "ORGAN_TIDIED", "message": EVIL}
    document = {
        "structures": [new, changed], "new": [finding], "gone": [], "held": True,
        "absent": {"heart": "not found"}, "not_searched": [], "drifted": ["Brainstem"],
        "models_missing": False,
        "lines": [
            {"key": "derived prv", "slices": [2], "counts": [3]},
            {"key": "spinal_cord", "slices": [], "counts": []},
        ],
    }  # fmt: skip
    return Tried(job=bench.store.job(job_id), document=document, points=b"\0" * 24)


def test_a_trial_shows_its_effect_and_its_lines_to_who_may_see_patients(
    bench: PagesBench, ct: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = contour_case(bench.store, bench.jobs.data, ct)
    monkeypatch.setattr(ProtocolTrier, "cases", lambda _: [job])
    monkeypatch.setattr(ProtocolTrier, "try_on", lambda _, job_id, __: _tried(bench, job_id))
    browser = bench.logged_in(Role.PHYSICIST)
    form = Form(browser, address(browser))
    assert "Phantom" in form.text, "the physicist sees whose case it is"
    assert form.send("try").status == 422, "a case has to be chosen"
    form.send("try", job=job.job_id, g__others="drop")
    assert form.status == 200
    assert EVIL not in form.text
    for said in ("would be held", "0.750", "3.2", "2.0", "not found", "Brainstem", 'id="viewer"'):
        assert said in form.text
    assert file.read_text() == TEXT
    assert f"saw: protocol ours tried on job {job.job_id}" in bench.events_of("anna")
    found = re.search(r'data-second-at="(/trials/[^"]+)"', form.text)
    assert found is not None
    lines = browser.get(found[1]).json()["organs"]
    assert [one["drawn"] for one in lines] == [None, 2], "the cord is the third delivered ROI"
    assert lines[0]["color"] == [1, 2, 3]
    assert browser.get(f"{found[1]}/points").content == b"\0" * 24
    assert bench.logged_in(Role.PHYSICIST, name="carl").get(found[1]).status_code == 404
    form.send("save")
    assert f"tried on job {job.job_id}; by anna" in events(bench)[0].note

    other = bench.logged_in(Role.ADMINISTRATOR, name="bert")
    form = Form(other, address(other))
    assert "Phantom" not in form.text
    form.send("try", job=job.job_id)
    assert "0.750" in form.text
    assert 'id="viewer"' not in form.text
    assert "Phantom" not in form.text


def test_a_case_that_cannot_be_used_is_an_error_on_the_page(
    bench: PagesBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Tried:
        raise JobRefuses("Choose a case that was contoured later.")

    monkeypatch.setattr(ProtocolTrier, "try_on", refuse)
    job = bench.in_review()
    browser = bench.logged_in(Role.PHYSICIST)
    form = Form(browser, address(browser)).send("try", job=job.job_id, text=TEXT + "# typed\n")
    assert form.status == 422
    assert "contoured later" in form.text
    assert form.fields["text"] == TEXT + "# typed\n"
