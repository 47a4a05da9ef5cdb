"""Notices against real servers: STARTTLS with a login, unknown certificates, a webhook, Apprise channels."""

from __future__ import annotations

import contextlib
import json
import logging
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.monitoring.notifier import Notifier
from orgseg_node.node.store.model import JobState
from tests.integration.service.test_operations import Hook, _Mails
from tests.support.peers.certificates import Authority
from tests.support.peers.dcmtk import free_port
from tests.unit.node.monitoring.test_alerts import Bench

pytestmark = pytest.mark.peer


def notifier(bench: Bench, notices: dict[str, Any]) -> Notifier:
    values = {"receiver": {"accept_any_calling_ae": True}, "notices": {"min_interval_s": 0, **notices}}
    return Notifier(NodeConfig.model_validate(values), bench.store.database, clock=lambda: bench.now)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.store.move(bench.job("1.2"), JobState.FAILED, "It failed.", reason="JOB")
    assert bench.scan() == 1
    return bench


def _login(*arguments: Any) -> AuthResult:
    data = arguments[4]
    well = isinstance(data, LoginPassword) and (data.login, data.password) == (b"orgseg", b"open sesame")
    return AuthResult(success=well)


def test_mail_is_sent_by_starttls_with_a_login_and_only_with_a_trusted_certificate(
    tmp_path: Path, bench: Bench
) -> None:
    authority = Authority(tmp_path)
    other = Authority(tmp_path, "other-ca")
    pair = authority.sign("mail")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    (tmp_path / "password").write_text("open sesame\n")
    mails, port = _Mails(), free_port()
    controller = Controller(
        mails, hostname="127.0.0.1", port=port, tls_context=context, require_starttls=True,
        auth_required=True, authenticator=_login,
    )  # fmt: skip
    controller.start()
    email = {
        "host": "127.0.0.1", "port": port, "sender": "node@clinic.example", "user": "orgseg",
        "recipients": ["physics@clinic.example"], "password_file": str(tmp_path / "password"),
    }  # fmt: skip
    try:
        assert notifier(bench, {"email": {**email, "ca": str(other.certificate)}}).send() == 0
        assert mails.got == []
        bench.now += timedelta(seconds=31)
        assert notifier(bench, {"email": {**email, "ca": str(authority.certificate)}}).send() == 1
        assert notifier(bench, {"email": {**email, "ca": str(authority.certificate)}}).send() == 0
    finally:
        controller.stop()
    assert len(mails.got) == 1


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Hook]:
    """An HTTP server that keeps what is posted, with TLS if there is a context."""
    hook = Hook()
    if context is not None:
        hook.socket = context.wrap_socket(hook.socket, server_side=True)
    thread = threading.Thread(target=hook.serve_forever)
    thread.start()
    try:
        yield hook
    finally:
        hook.shutdown()
        thread.join()
        hook.server_close()


def send_after(bench: Bench, notices: dict[str, Any], pauses_s: tuple[int, ...]) -> list[int]:
    """Send after each pause; how many messages were sent each time."""
    sent = []
    for pause in pauses_s:
        bench.now += timedelta(seconds=pause)
        sent.append(notifier(bench, notices).send())
    return sent


def channel(folder: Path, url: str, **more: Any) -> dict[str, Any]:
    """The settings of one channel, its URL in a private file."""
    file = folder / "channel.url"
    file.write_text(url + "\n")
    file.chmod(0o600)
    return {"channels": [{"name": "physics", "url_file": str(file), **more}]}


def test_a_webhook_that_fails_is_tried_again_with_the_same_key_after_growing_pauses(bench: Bench) -> None:
    with serving() as hook:
        hook.fail = 2
        notices = {"webhook": {"url": f"http://127.0.0.1:{hook.server_address[1]}/"}}
        assert send_after(bench, notices, (0, 29, 1, 59, 1, 600)) == [0, 0, 0, 0, 1, 0]
    ((headers, _),) = hook.got
    assert len(headers["Idempotency-Key"]) == 32
    assert "X-Orgseg-Signature" not in headers


def test_a_channel_of_apprise_gets_the_text_and_is_tried_again_without_its_secret_in_the_log(
    tmp_path: Path, bench: Bench, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with serving() as hook:
        hook.fail = 1
        notices = channel(tmp_path, f"json://127.0.0.1:{hook.server_address[1]}/open-sesame")
        assert send_after(bench, notices, (0, 29, 1, 600)) == [0, 0, 1, 0]
    ((headers, body),) = hook.got
    assert headers["Content-Type"] == "application/json"
    found = json.loads(body)
    (notice,) = bench.notices()
    assert found["title"] == "ORGSEG: JOB_FAILED (1)"
    assert notice.subject in found["message"]
    assert found["type"] == "warning"
    printed = capfd.readouterr()
    assert "open-sesame" not in caplog.text + printed.out + printed.err
    assert "notice not sent" in printed.out + printed.err


def test_a_channel_verifies_the_certificate_of_its_server(tmp_path: Path, bench: Bench) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other-ca")
    pair = authority.sign("hook")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with serving(context) as hook:
        url = f"jsons://127.0.0.1:{hook.server_address[1]}/"
        assert notifier(bench, channel(tmp_path, url)).send() == 0
        bench.now += timedelta(seconds=31)
        assert notifier(bench, channel(tmp_path, url, ca=str(other.certificate))).send() == 0
        assert hook.got == []
        bench.now += timedelta(seconds=61)
        assert notifier(bench, channel(tmp_path, url, ca=str(authority.certificate))).send() == 1
    assert len(hook.got) == 1


def test_a_channel_whose_file_is_missing_does_not_block_the_others(tmp_path: Path, bench: Bench) -> None:
    with serving() as hook:
        url = f"json://127.0.0.1:{hook.server_address[1]}/"
        notices = channel(tmp_path, url)
        notices["channels"].insert(0, {"name": "gone", "url_file": str(tmp_path / "gone.url")})
        assert notifier(bench, notices).send() == 1
    assert len(hook.got) == 1
