"""The node's configuration: one TOML file, read at the start and at each reload.

`load.load_config` reads and checks the file.
"""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from orgseg_node.contouring.object_roles import CT, alone_role
from orgseg_node.errors import (
    UnknownDestination,
    UnknownSource,
)
from orgseg_node.node.config.alerts import (
    NoticesSection,
    WatchSection,
    WebSection,
    watch_contradictions,
)
from orgseg_node.node.config.completeness import CompletenessSection, unknown_sources
from orgseg_node.node.config.database import DatabaseSection, Server
from orgseg_node.node.config.destinations import (
    NAME,
    ROLES,
    AnyDestination,
    WebDestination,
    destination_contradictions,
)
from orgseg_node.node.config.destinations import Destination as Destination  # noqa: PLC0414  # part of what is read
from orgseg_node.node.config.inference import InferenceSection as InferenceSection  # noqa: PLC0414  # part of what is read
from orgseg_node.node.config.inference import inference_contradictions
from orgseg_node.node.config.models import ModelsSection, model_contradictions
from orgseg_node.node.config.pages import PagesSection, pages_contradictions
from orgseg_node.node.config.peers import FeedbackSection, PeerRules, title_contradictions
from orgseg_node.node.config.rules import (
    Rule,
    RulesSection,
    rule_contradictions,
)
from orgseg_node.node.config.section import AeTitle, Section, tables
from orgseg_node.node.config.stow import StowSection
from orgseg_node.node.config.tls import (
    PeerTls,
    TlsSection,
    tls_contradictions,
)
from orgseg_node.node.config.worker import WorkerSection
from orgseg_node.shipped import bundle_folders


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise ValueError(f"not a network such as 10.1.2.0/24: {error}") from error


class NodeSection(Section):
    """AE title, address, data folder and log of the node.

    Attributes
    ----------
    ae_title, also_called : its AE title, and further titles it accepts
    host, port : where it listens for DICOM; port 0 takes any free port
    data_dir : folder of received series, results and the database
    shared_with_group : whether files are readable and writable for the group of the node's user, as processes
        of different users need it; without it only for the user
    log_format, log_level : form and least severity of log lines
    """

    ae_title: AeTitle = "ORGSEG"
    also_called: tuple[AeTitle, ...] = ()
    host: str = "0.0.0.0"  # noqa: S104 (a DICOM node is there to be reached; peers are listed by name)
    port: Annotated[int, Field(ge=0, le=65535)] = 11112
    data_dir: Path = Path("orgseg-data")
    shared_with_group: bool = False
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class ReceiverSection(Section):
    """How series are received.

    Attributes
    ----------
    quiet_seconds : a series is complete if no image arrived for this time
    min_free_mb : with less free disk space, images are refused
    max_associations : how many associations may be open at once, and how many connections of one address may
        wait for their association request
    idle_timeout_s, request_timeout_s, message_timeout_s : time limits of a connection, of the association
        request, and of the rest of a message
    max_pdu : largest PDU that is negotiated, in bytes
    max_instance_mb : largest image that is accepted
    accept_any_calling_ae : whether senders that are not listed in ``peers`` are accepted
    other_classes : what is done with storage classes that are no CT (RTSTRUCT, RTPLAN, RTDOSE, PET, MR,
        secondary captures ...): ``set_aside`` stores them, shows their series as IGNORED and deletes them
        after the retention time; ``refuse`` rejects them, after which some archives send no CT either
    survey_memory_mb : the process that reads the headers of received files is ended when it uses more
    survey_limit_s : longest time for reading the headers of a series, in seconds; a tenth of a second is
        added for each image
    """

    quiet_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 20.0
    min_free_mb: Annotated[int, Field(ge=0)] = 2000
    max_associations: Annotated[int, Field(ge=1, le=200)] = 20
    idle_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    request_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    message_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    max_pdu: Annotated[int, Field(ge=4096, le=1 << 20)] = 1 << 18
    max_instance_mb: Annotated[int, Field(ge=1, le=100_000)] = 1000
    accept_any_calling_ae: bool = False
    other_classes: Literal["refuse", "set_aside"] = "set_aside"
    survey_memory_mb: Annotated[int, Field(ge=200, le=100_000)] = 700
    survey_limit_s: Annotated[float, Field(gt=0, le=3600)] = 60.0


class Peer(PeerRules):
    """A sender that the node accepts.

    Attributes
    ----------
    ae_title : its AE title
    networks : networks it may call from; any when empty
    source : name of the source that holds the images it sends
    feedback : whether structure sets that it sends are compared with what the node delivered
    """

    ae_title: AeTitle
    networks: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    source: str | None = None
    feedback: bool = False

    def admits(self, address: str) -> bool:
        """Whether this peer may call from an IP address; from any address if no networks are given."""
        if not self.networks:
            return True
        try:
            host = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
            host = host.ipv4_mapped
        return any(host in ipaddress.ip_network(network) for network in self.networks)


MAX_PDU: Final = 0x40000
"""Largest PDU, in bytes, accepted from a source: a CT slice then arrives in two or three."""


class Source(PeerTls):
    """A PACS from which series can be retrieved.

    Attributes
    ----------
    ae_title : its AE title
    calling_ae_title : AE title that the node uses there; its own when None
    method : how series are retrieved: the source sends them to the node (C-MOVE), or over the same
        association (C-GET) and are then stored in the node
    move_to : AE title under which the source knows the node; its own when None
    timeout_s : how long to wait for each answer
    """

    ae_title: AeTitle
    calling_ae_title: AeTitle | None = None
    method: Literal["get", "move"] = "move"
    move_to: AeTitle | None = None
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0

    @property
    def description(self) -> str:
        """The source in messages."""
        return f"{self.ae_title} at {self.host}:{self.port}"


class ContoursSection(Section):
    """What is made from the labels of the networks.

    Attributes
    ----------
    protocol : name of a protocol that comes with the node, or path of a file
    seg : kind of the DICOM Segmentation
    """

    protocol: Annotated[str, Field(min_length=1)] = "default"
    seg: Literal["binary", "labelmap"] = "binary"


class DeliverySection(Section):
    """How often a delivery that failed is tried again.

    Attributes
    ----------
    retry_first_s : pause after the first failure; it doubles with each further one
    retry_longest_s : longest pause
    give_up_after_h : a delivery that fails for this time is failed
    """

    retry_first_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    retry_longest_s: Annotated[float, Field(gt=0, le=86400)] = 600.0
    give_up_after_h: Annotated[float, Field(gt=0, le=24 * 30)] = 72.0

    def wait_s(self, attempts: int) -> float:
        """Pause in seconds after a number of failed attempts."""
        return min(self.retry_longest_s, self.retry_first_s * 2.0 ** min(max(attempts - 1, 0), 30))


class RetentionSection(Section):
    """How long the files of a delivered job are kept.

    Attributes
    ----------
    days : 0 for ever
    """

    days: Annotated[float, Field(ge=0)] = 30.0


class ReviewSection(Section):
    """Who has to look at a job in REVIEW before it is sent.

    Attributes
    ----------
    persons : how many different persons have to approve it; 2 for four eyes
    """

    persons: Annotated[int, Field(ge=1, le=4)] = 1


class NodeConfig(Section):
    """The whole configuration of a node."""

    node: NodeSection = NodeSection()
    database: DatabaseSection = DatabaseSection()
    worker: WorkerSection = WorkerSection()
    receiver: ReceiverSection = ReceiverSection()
    tls: TlsSection = TlsSection()
    peers: tuple[Peer, ...] = ()
    rules: RulesSection = RulesSection()
    rule: tuple[Rule, ...] = ()
    inference: InferenceSection = InferenceSection()
    models: ModelsSection = ModelsSection()
    contours: ContoursSection = ContoursSection()
    destinations: dict[str, AnyDestination] = Field(default_factory=dict)
    sources: dict[str, Source] = Field(default_factory=dict)
    stow: StowSection = StowSection()
    delivery: DeliverySection = DeliverySection()
    retention: RetentionSection = RetentionSection()
    completeness: CompletenessSection = CompletenessSection()
    web: WebSection = WebSection()
    pages: PagesSection = PagesSection()
    review: ReviewSection = ReviewSection()
    watch: WatchSection = WatchSection()
    notices: NoticesSection = NoticesSection()
    feedback: FeedbackSection = FeedbackSection()

    @model_validator(mode="after")
    def _check(self) -> NodeConfig:
        problems = contradictions(self.model_dump())
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def destination(self, name: str) -> Destination | WebDestination:
        """The destination of this name. Raises UnknownDestination."""
        if name not in self.destinations:
            near = difflib.get_close_matches(name, self.destinations, n=1)
            raise UnknownDestination(f"{name!r}{f'; did you mean {near[0]!r}?' if near else ''}")
        return self.destinations[name]

    def source(self, name: str) -> Source:
        """The source of this name. Raises UnknownSource."""
        if name not in self.sources:
            near = difflib.get_close_matches(name, self.sources, n=1)
            raise UnknownSource(f"{name!r}{f'; did you mean {near[0]!r}?' if near else ''}")
        return self.sources[name]

    @property
    def database_location(self) -> Path | Server:
        """The node's database. Raises ConfigError if its password cannot be read."""
        return self.database.location(self.node.data_dir)

    @property
    def database_place(self) -> Path | Server:
        """The node's database without its password, for messages."""
        return self.database.place(self.node.data_dir)

    @property
    def bundle_paths(self) -> tuple[Path, ...]:
        """Folders in which model bundles are searched, in this order."""
        return (*self.inference.bundle_folders, self.node.data_dir / "bundles", *bundle_folders())

    @property
    def ae_titles(self) -> tuple[str, ...]:
        """The AE titles that the node accepts."""
        return (self.node.ae_title, *self.node.also_called)

    def roles_for(self, names: Iterable[str]) -> tuple[str, ...]:
        """The roles of what a job makes: RTSTRUCT and SEG, and those that these destinations need.

        What a destination does not accept goes to its alternate, which may get nothing else.
        """
        found = [self.destinations[name] for name in names if name in self.destinations]
        wanted = [role for one in found for role in one.roles if role != CT]
        diverted = [alone_role(role) for one in found if one.alternate for role in one.roles if role != CT]
        return tuple(dict.fromkeys((*ROLES, *wanted, *diverted)))

    @property
    def completeness_sources(self) -> tuple[str, ...]:
        """The sources that are asked whether a series is complete.

        With ``expect = "none"`` they are asked only about series whose sending was broken off.
        """
        return tuple(sorted({peer.source for peer in self.peers if peer.source is not None}))

    def calling_ae_for(self, peer: Destination | WebDestination | Source) -> str:
        """The AE title the node uses towards a destination or source."""
        own = None if isinstance(peer, WebDestination) else peer.calling_ae_title
        return own or self.node.ae_title

    @property
    def alternates(self) -> frozenset[str]:
        """Destinations that only get objects that another one did not accept."""
        return frozenset(one.alternate for one in self.destinations.values() if one.alternate is not None)

    @property
    def committing(self) -> frozenset[str]:
        """Destinations that are asked for storage commitment."""
        found = self.destinations.items()
        return frozenset(name for name, one in found if isinstance(one, Destination) and one.commitment)


def contradictions(data: dict[str, Any]) -> list[str]:
    """List contradictions between settings; also runs on a configuration with invalid fields."""
    problems = []
    sections = dict(tables(data))
    titles = [peer.get("ae_title") for _, peer in tables(data.get("peers"))]
    repeated = sorted({str(title) for title in titles if title is not None and titles.count(title) > 1})
    problems += [f"peers: {title!r} is listed twice" for title in repeated]
    if not titles and not sections.get("receiver", {}).get("accept_any_calling_ae"):
        problems.append("peers: list at least one sender, or set receiver.accept_any_calling_ae = true")
    for name, _ in tables(data.get("sources")):
        if not NAME.fullmatch(name):
            problems.append(f"sources.{name}: a name has up to 32 letters, digits, '-' or '_'")
    problems += destination_contradictions(data)
    found = inference_contradictions(sections.get("inference", {}))
    problems += [f"inference: {problem}" for problem in found] + watch_contradictions(data)
    problems += unknown_sources(data) + tls_contradictions(data)
    problems += model_contradictions(sections.get("models", {})) + pages_contradictions(data)
    return problems + title_contradictions(data) + rule_contradictions(data)
