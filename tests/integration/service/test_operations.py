"""A running node as its operators see it: health, metrics, notices, reload, audit, backup and restore."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MailHandler

from orgseg_node.node.store.model import JobState, SeriesState
from tests.support.node.command_line import orgseg
from tests.support.node.leaks import LEAKS
from tests.support.node.node_process import NodeProcess, running_node, wait_for
from tests.support.peers.dcmtk import free_port, storescp, storescu

pytestmark = [pytest.mark.endurance, pytest.mark.peer, *LEAKS]

TO_NODE = ("-aec", "ORGSEG")


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def web_port(node: NodeProcess) -> int:
    def http_port() -> int:
        return next((e["port"] for e in reversed(node.events()) if e["event"] == "http listening"), 0)

    return wait_for(http_port, 30, "http listens")


def values(metrics: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in metrics.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def change(node: NodeProcess, old: str, new: str) -> None:
    file = node.folder / "node.toml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


class Hook(ThreadingHTTPServer):
    """A real HTTP server that keeps what is posted; it fails as often as the test says."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.fail = 0
        super().__init__(("127.0.0.1", 0), _Post)


class _Post(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        failed, self.server.fail = self.server.fail > 0, self.server.fail - 1
        if not failed:
            self.server.got.append((dict(self.headers), body))
        self.send_response(503 if failed else 204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class _Mails(MailHandler):
    def __init__(self) -> None:
        super().__init__()
        self.got: list[Any] = []

    def handle_message(self, message: Any) -> None:
        self.got.append(message)


@pytest.fixture
def mails() -> Iterator[tuple[int, list[Any]]]:
    handler, port = _Mails(), free_port()
    controller = Controller(handler, hostname="127.0.0.1", port=port)
    controller.start()
    yield port, handler.got
    controller.stop()


def test_health_readiness_and_metrics_of_a_node_that_delivered(tmp_path: Path, ct_folder: Path) -> None:
    port = free_port()
    with (
        storescp(tmp_path / "tps", port, "-aet", "TPS"),
        running_node(tmp_path, port, inference="[web]\nport = 0\n[watch]\necho_minutes = 0.01") as node,
    ):
        http = web_port(node)
        assert get(http, "/healthz") == (200, '{"ok":true,"problems":[]}')
        assert get(http, "/readyz") == (200, '{"ok":true,"problems":[]}')
        assert get(http, "/docs")[0] == 404
        assert storescu(node.port, sorted(ct_folder.iterdir()), *TO_NODE).returncode == 0
        assert storescu(node.port, sorted(ct_folder.iterdir())[:1], "-aec", "OTHER").returncode != 0
        node.job_in(JobState.DONE)
        seen = wait_for(
            lambda: (
                v
                if (v := values(get(http, "/metrics")[1])).get(
                    'orgseg_destination_answered_timestamp_seconds{destination="tps"}'
                )
                else None
            ),
            20,
            "the destination answered C-ECHO",
        )
        assert seen['orgseg_received_instances_total{peer="STORESCU"}'] == 24
        assert seen['orgseg_refused_associations_total{reason="CALLED_UNKNOWN"}'] == 1
        assert seen['orgseg_jobs{state="DONE"}'] == 1
        assert seen['orgseg_jobs{state="FAILED"}'] == 0
        assert seen['orgseg_series{state="READY"}'] == 1
        assert seen['orgseg_deliveries{destination="tps",state="STORED"}'] == 2
        assert seen["orgseg_infer_seconds_count"] == 1
        assert seen['orgseg_send_seconds_count{destination="tps"}'] == 2
        assert seen["orgseg_accept_seconds_count"] == 24
        assert seen["orgseg_disk_free_bytes"] > 0
        change(node, "min_free_mb = 1\n", "min_free_mb = 100000000\n")
        assert node.reload() == 0
        assert get(http, "/readyz") == (503, '{"ok":false,"problems":["disk below watermark"]}')
        assert get(http, "/healthz")[0] == 200
        assert node.stop() == 0


def test_a_reload_is_whole_or_not_at_all(
    tmp_path: Path, ct_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    with storescp(tmp_path / "tps", port, "-aet", "TPS") as tps, running_node(tmp_path, port) as node:
        first = orgseg(capsys, "node", "status", "--config", node.folder / "node.toml", "--json")
        before = json.loads(first.out)
        assert (before["running"], before["revision_in_force"]) == (True, before["revision_of_file"])

        change(node, 'ae_title = "STORESCU"', 'ae_title = "STORESCU"\nnetwork = 1')
        assert node.reload() == 3
        change(node, "\nnetwork = 1", "")
        change(node, 'ae_title = "ORGSEG"', 'ae_title = "OTHER"')
        answer = orgseg(capsys, "node", "reload", "--config", node.folder / "node.toml")
        assert (answer.status, answer.code) == (1, "OPERATION_RELOAD")
        refused = next(e for e in node.events() if e["event"] == "configuration not changed")
        assert "node.ae_title" in refused["why"]
        assert storescu(node.port, sorted(ct_folder.iterdir()), *TO_NODE).returncode == 0, "the old one stays"
        node.job_in(JobState.DONE)

        change(node, 'ae_title = "OTHER"', 'ae_title = "ORGSEG"')
        change(node, 'ae_title = "STORESCU"', 'ae_title = "ANOTHER"')
        more = f'[destinations.more]\nae_title = "MORE"\nhost = "127.0.0.1"\nport = {port}\n'
        change(node, "[destinations.tps]", f"{more}[destinations.tps]")
        assert node.reload() == 0
        now = json.loads(
            orgseg(capsys, "node", "status", "--config", node.folder / "node.toml", "--json").out
        )
        assert now["revision_in_force"] == now["revision_of_file"] != before["revision_in_force"]
        files = sorted(ct_folder.iterdir())
        assert storescu(node.port, files, *TO_NODE).returncode != 0, "that sender is none any more"
        assert storescu(node.port, files, *TO_NODE, "-aet", "ANOTHER").returncode == 0
        assert len(list(tps.iterdir())) == 2
        assert node.stop() == 0
        gone = orgseg(capsys, "node", "reload", "--config", node.folder / "node.toml")
        assert (gone.status, gone.code) == (1, "OPERATION_NOT_RUNNING")


def test_notices_reach_mail_server_and_webhook_once_over_failures_and_kills(
    tmp_path: Path, ct_folder: Path, hook: Hook, mails: tuple[int, list[Any]]
) -> None:
    mail_port, got = mails
    (tmp_path / "secret").write_text("between us\n")
    more = f"""
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
secret_file = "secret"
"""
    files = sorted(ct_folder.iterdir())
    with running_node(tmp_path, free_port(), inference=more) as node:
        assert storescu(node.port, [*files[:9], *files[11:]], *TO_NODE).returncode == 0
        wait_for(lambda: sum(e["event"] == "notices sent" for e in node.events()) == 2, 30, "both were told")
        node.kill()
        node.start()
        with contextlib.closing(node.store()) as store:
            (series,) = store.series()
        assert series.state is SeriesState.HOLD
        assert storescu(node.port, files[9:10], *TO_NODE).returncode == 0  # one is still missing: held again
        wait_for(lambda: len(hook.got) >= 2 and len(got) >= 2, 30, "the second notice arrived")
        assert node.stop() == 0
    assert len(got) == len(hook.got) == 2
    headers, body = hook.got[0]
    text = headers["X-Orgseg-Timestamp"].encode() + b"." + body
    expected = hmac.new(b"between us", text, hashlib.sha256).hexdigest()
    assert headers["X-Orgseg-Signature"] == f"sha256={expected}"
    (notice,) = json.loads(body)["notices"]
    assert (notice["code"], notice["subject"]) == (
        "SERIES_HELD",
        f"series {series.series_uid}: INPUT_MISSING_SLICES",
    )
    assert "SERIES_HELD" in got[0]["Subject"]


def test_a_node_starts_from_its_backup_and_finishes_what_it_had_accepted(
    tmp_path: Path, ct_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(ct_folder.iterdir())
    port = free_port()
    backup = tmp_path / "backup"
    with running_node(tmp_path, port, seconds=60, quiet_s=4) as node:
        config = node.folder / "node.toml"
        assert storescu(node.port, files[:12], *TO_NODE).returncode == 0
        sending = threading.Thread(target=storescu, args=(node.port, files[12:], *TO_NODE))
        sending.start()
        answer = orgseg(capsys, "backup", "create", tmp_path / "early", "--config", config)
        assert answer.status == 0, answer.err
        sending.join()
        node.job_in(JobState.INFERRING)
        answer = orgseg(capsys, "backup", "create", backup, "--config", config)
        assert answer.status == 0, answer.err
        again = orgseg(capsys, "backup", "create", backup, "--config", config)
        assert (again.status, again.code) == (1, "OPERATION_BACKUP")
        node.kill()
    assert orgseg(capsys, "audit", "verify", "--config", config).status == 0
    shutil.rmtree(node.data)
    assert orgseg(capsys, "backup", "verify", backup).status == 0
    assert orgseg(capsys, "backup", "verify", tmp_path / "early").status == 0
    assert orgseg(capsys, "backup", "restore", backup, "--data-dir", node.data).status == 0
    assert orgseg(capsys, "backup", "restore", backup, "--data-dir", node.data).code == "OPERATION_BACKUP"
    with storescp(tmp_path / "tps", port, "-aet", "TPS") as tps:
        node.seconds = 0.0
        node.start()
        try:
            node.job_in(JobState.DONE, seconds=60)
            assert node.stop() == 0
        finally:
            if node._process is not None and node._process.poll() is None:
                node.kill()
        assert len(list(tps.iterdir())) == 2
    victim = next(backup.rglob("*.dcm"))
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + b"x")
    assert orgseg(capsys, "backup", "verify", backup).code == "OPERATION_BACKUP_INVALID"
    new = orgseg(capsys, "backup", "restore", backup, "--data-dir", tmp_path / "new")
    assert (new.code, (tmp_path / "new").exists()) == ("OPERATION_BACKUP_INVALID", False)
    victim.unlink()
    assert "missing" in orgseg(capsys, "backup", "verify", backup).err


def test_nothing_undelivered_is_deleted_however_full_the_disk_is(
    tmp_path: Path, ct_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = "[retention]\ndays = 0.000001"
    with running_node(tmp_path, free_port(), inference=more) as node:
        assert storescu(node.port, sorted(ct_folder.iterdir()), *TO_NODE).returncode == 0
        node.job_in(JobState.SENDING)
        change(node, "min_free_mb = 1\n", "min_free_mb = 100000000\n")
        assert node.reload() == 0
        refused = storescu(node.port, sorted(ct_folder.iterdir())[:1], *TO_NODE)
        assert "OutOfResources" in refused.stdout + refused.stderr, "0xA700"
        answer = orgseg(capsys, "purge", "--dry-run", "--config", node.folder / "node.toml", "--json")
        assert json.loads(answer.out)["jobs"] == {}
        assert len(list((node.data / "inbox").rglob("*.dcm"))) == 24
        assert node.stop() == 0
