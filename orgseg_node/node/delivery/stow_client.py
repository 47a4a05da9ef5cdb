"""Sends objects by DICOMweb, STOW-RS (PS3.18 10.5), and checks whether the service answers.

Each object has a request of its own, over one connection: so the response belongs to one object, and an
object that the service cannot read does not affect the others. Files are sent as they are on the disk.
"""

from __future__ import annotations

import json
import secrets
import ssl
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pydicom
from pydicom.errors import InvalidDicomError

from orgseg_node.errors import (
    ConfigError,
    NetworkError,
    NoAnswer,
    NotAuthorised,
    NotDicom,
    OrgsegError,
    StoreRefused,
    Unreachable,
)
from orgseg_node.node.config.destinations import WebDestination
from orgseg_node.node.config.secrets import read_secret
from orgseg_node.node.dimse.storage_scu import DUPLICATE, SendOutcome, Stored
from orgseg_node.node.tls.context import CIPHERS, https_context
from orgseg_node.node.tls.faults import tls_error

_CONNECT_S: Final = 10.0
_CHUNK: Final = 1 << 20
_MAX_RESPONSE: Final = 1 << 20
_JSON: Final = "application/dicom+json"

# attributes of the response in DICOM JSON (PS3.18 10.5.3.2, PS3.18 F)
_FAILED: Final = "00081198"
_REFERENCED: Final = "00081199"
_SOP_INSTANCE: Final = "00081155"
_FAILURE_REASON: Final = "00081197"
_WARNING_REASON: Final = "00081196"

_RETRY_STATUSES: Final = (408, 425, 429)
"""HTTP statuses after which the same request may succeed later."""


class StowClient:
    """Sends by DICOMweb (STOW-RS)."""

    def echo(self, destination: WebDestination, calling_ae: str) -> None:
        """Check whether a service answers, by a query with at most one match.

        DICOMweb has no echo. Any answer counts, also that of a service without queries.

        Raises
        ------
        Unreachable, TlsFailed, PeerCertificateRefused
            If it does not answer.
        NotAuthorised
            If it does not accept the token or password.
        """
        del calling_ae
        with _client(destination) as client, _coded_errors(destination):
            _require_service(client.get(f"{destination.url}/studies", params={"limit": "1"}), destination)

    def send(self, destination: WebDestination, calling_ae: str, path: Path) -> Stored:
        """Store one object.

        Parameters
        ----------
        destination : where it is stored
        calling_ae : not sent; the service knows the node by its token or password
        path : a DICOM part 10 file

        Raises
        ------
        Unreachable, TlsFailed, PeerCertificateRefused
            If nothing answers, or the service is not ready.
        NotAuthorised
            If the service does not accept the token or password.
        StoreRefused
            If it does not accept the object.
        NotDicom
            If the file cannot be read.
        """
        (outcome,) = self.send_each(destination, calling_ae, [path])
        if isinstance(outcome, OrgsegError):
            raise outcome
        return outcome

    def send_each(
        self, destination: WebDestination, calling_ae: str, paths: Sequence[Path]
    ) -> Iterator[SendOutcome]:
        """Store objects one after the other over one connection, and return the outcome of each.

        Parameters
        ----------
        destination : where they are stored
        calling_ae : not sent; the service knows the node by its token or password
        paths : DICOM part 10 files
        """
        del calling_ae
        try:
            opened = _client(destination)
        except OrgsegError as error:
            yield from (error for _ in paths)
            return
        with opened as client:
            for path in paths:
                try:
                    yield _store(client, destination, path)
                except OrgsegError as error:
                    yield error


def _client(destination: WebDestination) -> httpx.Client:
    """A client of a service. Raises NotAuthorised if the secret cannot be read, and Unreachable."""
    headers = {"Accept": _JSON}
    auth = None
    try:
        if destination.token_file is not None:
            headers["Authorization"] = f"Bearer {read_secret(destination.token_file)}"
        elif destination.user is not None and destination.password_file is not None:
            auth = httpx.BasicAuth(destination.user, read_secret(destination.password_file))
    except ConfigError as error:
        raise NotAuthorised(f"{destination.description}: {error.detail}") from error
    timeout = httpx.Timeout(destination.timeout_s, connect=min(_CONNECT_S, destination.timeout_s))
    # neither proxies nor passwords from the environment: the configuration alone decides what is sent where
    return httpx.Client(
        headers=headers, auth=auth, timeout=timeout, verify=_context(destination), trust_env=False
    )


def _context(destination: WebDestination) -> ssl.SSLContext:
    """The TLS context, which always verifies. Raises Unreachable if the CA file cannot be read."""
    try:
        context = https_context(destination.ca_file)
    except OSError as error:
        raise Unreachable(f"{destination.description}: {destination.ca_file} cannot be used.") from error
    context.set_ciphers(CIPHERS)
    return context


@contextmanager
def _coded_errors(destination: WebDestination) -> Iterator[None]:
    """Turn errors of the HTTP client into errors with codes."""
    try:
        yield
    except httpx.HTTPError as error:
        raise _coded_error(error, destination) from error


def _coded_error(error: httpx.HTTPError, destination: WebDestination) -> NetworkError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return tls_error(cause, destination.description)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ConnectError):
        return Unreachable(f"{destination.description} does not answer.")
    if isinstance(error, httpx.ReadTimeout):
        limit = f"no answer within {destination.timeout_s:g} s"
        return NoAnswer(f"{destination.description}: {limit}; it may have stored the object.")
    return Unreachable(
        f"{destination.description} closed the connection, or was silent for {destination.timeout_s:g} s."
    )


def _store(client: httpx.Client, destination: WebDestination, path: Path) -> Stored:
    """Send one file and read the response."""
    sop_uid = _sop_uid(path)
    boundary = f"orgseg-{secrets.token_hex(16)}"
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Content-Length": str(len(head) + path.stat().st_size + len(tail)),
    }
    with (
        _coded_errors(destination),
        closing(_body(head, path, tail)) as body,
        client.stream("POST", f"{destination.url}/studies", content=body, headers=headers) as response,
    ):
        return _outcome(response, _limited_content(response), sop_uid, destination)


def _sop_uid(path: Path) -> str:
    try:
        return str(
            pydicom.dcmread(path, specific_tags=["SOPInstanceUID"], stop_before_pixels=True).SOPInstanceUID
        )
    except (InvalidDicomError, OSError, EOFError, AttributeError) as error:
        raise NotDicom(f"{path.name}.") from error


def _body(head: bytes, path: Path, tail: bytes) -> Generator[bytes, None, None]:
    """The body of a request; to be closed, since the file stays open when the connection breaks."""
    yield head
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
    yield tail


def _limited_content(response: httpx.Response) -> bytes:
    """The content of a response, up to a limit."""
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > _MAX_RESPONSE:
            break
    return bytes(content[:_MAX_RESPONSE])


def _require_service(response: httpx.Response, destination: WebDestination) -> None:
    """Raise NotAuthorised or Unreachable for a status that does not concern the object itself."""
    status = response.status_code
    if status in (401, 403, 407):
        raise NotAuthorised(f"{destination.description} answered {status}.")
    if status >= 500 or status in _RETRY_STATUSES:
        raise Unreachable(f"{destination.description} answered {status}.")


def _outcome(response: httpx.Response, content: bytes, sop_uid: str, destination: WebDestination) -> Stored:
    """The outcome for an object: its own entry in the response decides, then the status of the request."""
    _require_service(response, destination)
    status = response.status_code
    found = _parsed(content)
    failed = _entry(found, _FAILED, sop_uid)
    if failed is not None:
        reason = _number(failed, _FAILURE_REASON)
        if reason == DUPLICATE:
            return Stored(sop_uid=sop_uid, status=reason, note="it was stored before (0x0111)")
        code = "" if reason is None else f" with 0x{reason:04X}"
        raise StoreRefused(f"{destination.description} refused it{code}.", status=reason)
    stored = _entry(found, _REFERENCED, sop_uid)
    if stored is not None and status in (200, 202):
        warning = _number(stored, _WARNING_REASON)
        note = "" if warning is None else f"stored with the warning 0x{warning:04X}"
        return Stored(sop_uid=sop_uid, status=warning or 0, note=note)
    if status == 200:
        # PS3.18 10.5.3.1: all instances were stored; some services return no list
        return Stored(sop_uid=sop_uid, status=0, note="stored; the service returned no list")
    raise StoreRefused(f"{destination.description} answered {status}.")


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    if isinstance(found, list) and len(found) == 1:
        found = found[0]  # some services wrap it in a list
    return found if isinstance(found, dict) else {}


def _entry(found: dict[str, Any], sequence: str, sop_uid: str) -> dict[str, Any] | None:
    """The item about an object in one of the two sequences."""
    for item in _values(found, sequence):
        if isinstance(item, dict) and sop_uid in _values(item, _SOP_INSTANCE):
            return item
    return None


def _values(item: dict[str, Any], tag: str) -> list[Any]:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _number(item: dict[str, Any], tag: str) -> int | None:
    values = _values(item, tag)
    return values[0] if values and isinstance(values[0], int) and 0 <= values[0] <= 0xFFFF else None
