"""Notices against real servers: STARTTLS with a login, an unknown certificate, a webhook that fails first."""

from __future__ import annotations

import ssl
import threading
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


def test_mail_goes_out_by_starttls_with_a_login_and_to_nobody_without_a_known_certificate(
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


def test_a_webhook_that_fails_is_tried_again_with_the_same_number_after_a_growing_pause(bench: Bench) -> None:
    hook = Hook()
    hook.fail = 2
    serving = threading.Thread(target=hook.serve_forever)
    serving.start()
    try:
        notices = {"webhook": {"url": f"http://127.0.0.1:{hook.server_address[1]}/"}}
        sent = []
        for pause in (0, 29, 1, 59, 1, 600):
            bench.now += timedelta(seconds=pause)
            sent.append(notifier(bench, notices).send())
        assert sent == [0, 0, 0, 0, 1, 0]
    finally:
        hook.shutdown()
        serving.join()
        hook.server_close()
    ((headers, _),) = hook.got
    assert len(headers["Idempotency-Key"]) == 32
    assert "X-Orgseg-Signature" not in headers
