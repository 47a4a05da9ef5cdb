"""Receives images by DICOMweb, STOW-RS (PS3.18 10.5), into the same inbox as C-STORE.

The body is split into parts while it arrives; each part is durably stored before it is reported as stored.
Senders are identified by a bearer token; without a valid token the body is not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orgseg_node.dicom.reading import part10
from orgseg_node.errors import ConfigError, InputError, NotMultipart, OrgsegError, StorageError, TooLarge
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.config.stow import owner_of, read_tokens
from orgseg_node.node.dimse.c_store import (
    CANNOT_UNDERSTAND,
    NOT_MATCHING,
    OUT_OF_RESOURCES,
    Intake,
    accepted_syntaxes,
    c_store_status,
)
from orgseg_node.node.store.model import Incoming
from orgseg_node.web.multipart import Part, PartReader, boundary_of
from orgseg_node.web.stow_answer import Outcome, answer, status_of

_DICOM: Final = "application/dicom"
_JSON: Final = "application/dicom+json"
_ACCEPTED: Final = (_JSON, "application/json", "application/*", "*/*")
_BEARER: Final = "bearer "
_MB: Final = 1_000_000
_CLOSE: Final = {"Connection": "close"}

# PS3.18 Table 10.5.3-2 and PS3.4 B.2.3
CLASS_NOT_SUPPORTED: Final = 0x0122
SYNTAX_NOT_SUPPORTED: Final = 0xC122

_log = structlog.get_logger("orgseg.stow")


@dataclass(slots=True, kw_only=True)
class _Arriving:
    """The part that arrives now; `began_s` is in the time of the event loop."""

    began_s: float


def stow_routes(inbox: Intake, config: NodeConfig) -> list[Route]:
    """The routes of the service; none if the configuration names no file of tokens.

    Parameters
    ----------
    inbox : stores instances
    config : tokens, peers and limits
    """
    if config.stow.tokens is None:
        return []
    service = StowService(inbox, config)
    path = config.stow.path
    return [
        Route(f"{path}/studies", service.store, methods=["POST"]),
        Route(f"{path}/studies/{{study}}", service.store, methods=["POST"]),
    ]


class StowService:
    """The service of the routes.

    Parameters
    ----------
    inbox : stores instances
    config : tokens, peers and limits
    """

    def __init__(self, inbox: Intake, config: NodeConfig) -> None:
        self._inbox = inbox
        self._config = config
        self._slots = asyncio.Semaphore(config.stow.at_once)

    async def store(self, request: Request) -> Response:
        """Answer one request."""
        peer, refusal = self._caller(request)
        if refusal is not None:
            return refusal
        accepted = request.headers.get("accept", "*/*").lower()
        if not any(kind.split(";")[0].strip() in _ACCEPTED for kind in accepted.split(",")):
            return _plain(406, f"The answer is {_JSON}.")
        boundary = boundary_of(request.headers.get("content-type", ""), _DICOM)
        if boundary is None:
            return _plain(415, f"The body must be multipart/related with parts {_DICOM}.")
        study = str(request.path_params.get("study", ""))
        if study and not part10.valid_uid(study):
            return _plain(400, "The study is not a UID.")
        if self._slots.locked():
            return _plain(503, "Too many requests at once.", {"Retry-After": "10"})
        async with self._slots:
            return await self._store_parts(request, boundary, peer, study)

    def _caller(self, request: Request) -> tuple[str, Response | None]:
        """The peer to which the token belongs, or the response that refuses it."""
        header = request.headers.get("authorization", "")
        path = self._config.stow.tokens
        try:
            tokens = read_tokens(path) if path is not None else ()
        except ConfigError as error:
            _log.error("tokens cannot be read", code=error.code)
            return "", _plain(503, "The service is not ready.", {"Retry-After": "60"})
        is_bearer = header[: len(_BEARER)].lower() == _BEARER
        owner = owner_of(header[len(_BEARER) :].strip(), tokens) if is_bearer else None
        address = request.client.host if request.client is not None else ""
        if owner is None:
            _log.warning("stow refused", address=address, reason="token unknown")
            return "", _plain(401, "A token is needed.", {"WWW-Authenticate": 'Bearer realm="stow"'})
        peer = next((one for one in self._config.peers if one.ae_title == owner), None)
        known = peer.admits(address) if peer is not None else self._config.receiver.accept_any_calling_ae
        if not known:
            _log.warning("stow refused", address=address, peer=owner, reason="peer or network not listed")
            return "", _plain(403, "This peer may not send from here.")
        return owner, None

    async def _store_parts(self, request: Request, boundary: str, peer: str, study: str) -> Response:
        """Store the parts as they arrive; after an error, the response lists what was stored until then."""
        outcomes: list[Outcome] = []
        status = None
        in_order = False
        number = id(request)
        loop = asyncio.get_running_loop()
        # one thread for each request: its database connection is closed at the end
        with_disk = ThreadPoolExecutor(1)
        reader = None
        try:
            folder = self._inbox.receiving_folder
            reader = PartReader(boundary, self._config.stow.max_part_mb * _MB, folder)
            arriving = _Arriving(began_s=loop.time())
            async for chunk in self._chunks(request, arriving):
                parts = reader.feed(chunk)
                for part in parts:
                    outcomes.append(  # noqa: PERF401  # parts that are stored are reported, even if a later one fails
                        await loop.run_in_executor(with_disk, self._store_part, part, peer, study, number)
                    )
                if parts:
                    arriving.began_s = loop.time()
            reader.finish()
            in_order = True
        except TooLarge:
            status = 413
        except (NotMultipart, ClientDisconnect):
            status = 400
        except TimeoutError:
            status = 408
        finally:
            if reader is not None:
                reader.discard()
            cause = "the request was not complete"
            with_disk.submit(self._inbox.association_ended, number, released=in_order, cause=cause)
            with_disk.shutdown(wait=False)
        status = status or status_of(outcomes)
        stored = sum(one.reason is None for one in outcomes)
        _log.info("stow", peer=peer, stored=stored, failed=len(outcomes) - stored, status=status)
        headers = {"Retry-After": "60"} if status == 503 else None
        if not in_order:  # the rest of the body is not read
            headers = (headers or {}) | _CLOSE
        return JSONResponse(answer(outcomes), status, headers, media_type=_JSON)

    async def _chunks(self, request: Request, part: _Arriving) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises TooLarge, TimeoutError or ClientDisconnect."""
        stow = self._config.stow
        loop = asyncio.get_running_loop()
        total = 0
        stream = request.stream()
        while True:
            try:
                left_s = part.began_s + stow.part_timeout_s - loop.time()
                async with asyncio.timeout(max(0.0, min(stow.idle_timeout_s, left_s))):
                    chunk = await anext(stream)
            except StopAsyncIteration:
                return
            total += len(chunk)
            if total > self._config.stow.max_total_mb * _MB:
                raise TooLarge(f"The request has more than {self._config.stow.max_total_mb} MB.")
            yield chunk

    def _store_part(self, part: Part, peer: str, study: str, number: int) -> Outcome:
        """Store one part, and delete what was received of it if it is not stored; the outcome."""
        try:
            return self._outcome(part, peer, study, number)
        except (OSError, StorageError) as error:  # it could not be written while it arrived, or be read
            _log.warning("instance not accepted", kind=type(error).__name__, peer=peer)
            return Outcome(reason=OUT_OF_RESOURCES)
        finally:
            part.content.discard()

    def _outcome(self, part: Part, peer: str, study: str, number: int) -> Outcome:
        try:
            if part.media_type != _DICOM:
                raise NotMultipart("A part is not DICOM.")
            encoded, syntax = part10.content_of(part.content.encoded)
            header = part10.read_header(encoded, syntax)
        except InputError as error:
            _log.warning("instance refused", code=error.code, peer=peer)
            return Outcome(reason=CANNOT_UNDERSTAND)
        reason = self._reason(header, syntax, peer, study)
        if reason is None:
            incoming = Incoming(
                sop_class_uid=header.sop_class_uid,
                sop_uid=header.sop_uid,
                transfer_syntax=syntax,
                calling_ae=peer,
                association=number,
                encoded=encoded,
            )
            reason = self._accept(incoming)
        return Outcome(sop_class_uid=header.sop_class_uid, sop_uid=header.sop_uid, reason=reason)

    def _reason(self, header: part10.Header, syntax: str, peer: str, study: str) -> int | None:
        """Why an instance is not stored; the same classes and syntaxes are accepted as by C-STORE."""
        syntaxes = accepted_syntaxes(self._config, peer, header.sop_class_uid)
        if not syntaxes:
            return CLASS_NOT_SUPPORTED
        if syntax not in syntaxes:
            return SYNTAX_NOT_SUPPORTED
        return NOT_MATCHING if study and header.study_uid != study else None

    def _accept(self, incoming: Incoming) -> int | None:
        """Store an instance durably; the failure reason, or None."""
        try:
            self._inbox.accept(incoming)
        except OrgsegError as error:
            _log.warning("instance not accepted", code=error.code, peer=incoming.calling_ae)
            return c_store_status(error)
        except Exception as error:  # noqa: BLE001 (on any doubt the sender must keep the image)
            _log.error("instance not accepted", code="UNEXPECTED", kind=type(error).__name__)
            return OUT_OF_RESOURCES
        return None


def _plain(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """An answer without reading the body: the connection is closed."""
    return Response(f"{text}\n", status, (headers or {}) | _CLOSE, "text/plain")
