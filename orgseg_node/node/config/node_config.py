"""The node's configuration: one TOML file, read once, never changed while the node runs.

`load_config` reports every problem at once, each with the name of the setting and, for a misspelt name,
the one that was probably meant.
"""

from __future__ import annotations

import difflib
import ipaddress
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from orgseg_node.errors import (
    ConfigError,
    UnknownDestination,
    UnknownSource,
)
from orgseg_node.node.config.alerts import (
    NoticesSection,
    WatchSection,
    WebSection,
    resolve_web,
    watch_contradictions,
    watch_file_problems,
)
from orgseg_node.node.config.completeness import CompletenessSection, unknown_sources
from orgseg_node.node.config.database import DatabaseSection, Server, WorkerSection, database_problems
from orgseg_node.node.config.destinations import (
    NAME,
    ROLES,
    AnyDestination,
    WebDestination,
    destination_contradictions,
    destination_file_problems,
    resolve_destination,
    setting_path,
)
from orgseg_node.node.config.destinations import Destination as Destination  # noqa: PLC0414  # part of what is read
from orgseg_node.node.config.inference import InferenceSection as InferenceSection  # noqa: PLC0414  # part of what is read
from orgseg_node.node.config.inference import inference_contradictions
from orgseg_node.node.config.peers import REMOVED_OF_PEERS, PeerRules, title_contradictions
from orgseg_node.node.config.rules import (
    Rule,
    RulesSection,
    merge_rules_file,
    resolve_rules,
    rule_contradictions,
)
from orgseg_node.node.config.section import AeTitle, Section, tables
from orgseg_node.node.config.stow import StowSection, stow_problems
from orgseg_node.node.config.tls import (
    PeerTls,
    TlsSection,
    resolve_peer,
    tls_contradictions,
    tls_file_problems,
)
from orgseg_node.shipped import bundle_folders


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise ValueError(f"not a network such as 10.1.2.0/24: {error}") from error


class NodeSection(Section):
    """Who the node is: AE title, address, data folder and log.

    Attributes
    ----------
    shared_with_group : whether what the node writes is for the group of its user too, as several processes of
        different users need it; without it, for its own user alone
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
    """How series are taken in."""

    quiet_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 20.0
    min_free_mb: Annotated[int, Field(ge=0)] = 2000
    max_associations: Annotated[int, Field(ge=1, le=200)] = 20
    idle_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    request_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    message_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    max_pdu: Annotated[int, Field(ge=4096, le=1 << 20)] = 1 << 18
    max_instance_mb: Annotated[int, Field(ge=1, le=100_000)] = 1000
    accept_any_calling_ae: bool = False


class Peer(PeerRules):
    """Who may send to the node.

    Attributes
    ----------
    networks : from where; anywhere when empty
    source : where the images it sends can be asked for
    """

    ae_title: AeTitle
    networks: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    source: str | None = None

    def admits(self, address: str) -> bool:
        """Whether a caller at this IP address may be this peer; without networks, at any address."""
        if not self.networks:
            return True
        try:
            host = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
            host = host.ipv4_mapped
        return any(host in ipaddress.ip_network(network) for network in self.networks)


class Source(PeerTls):
    """Where series can be asked for: a PACS.

    Attributes
    ----------
    calling_ae_title : how the node calls itself there; its own AE title when None
    method : how a pull brings images to the node: the source sends them (C-MOVE), or they are fetched over
        the same association (C-GET) and handed on
    move_to : AE title under which the source knows the node; its own AE title when None
    timeout_s : how long the source may be silent
    """

    ae_title: AeTitle
    calling_ae_title: AeTitle | None = None
    method: Literal["get", "move"] = "move"
    move_to: AeTitle | None = None
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0


class ContoursSection(Section):
    """What is made of what the networks find.

    Attributes
    ----------
    protocol : name of a protocol that comes with the node, or path of a file
    seg : how the DICOM Segmentation holds the organs
    """

    protocol: Annotated[str, Field(min_length=1)] = "default"
    seg: Literal["binary", "labelmap"] = "binary"


class DeliverySection(Section):
    """How long a destination that does not answer is tried."""

    retry_first_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    retry_longest_s: Annotated[float, Field(gt=0, le=86400)] = 600.0
    give_up_after_h: Annotated[float, Field(gt=0, le=24 * 30)] = 72.0

    def wait_s(self, attempts: int) -> float:
        """Seconds to wait after so many failed attempts: doubling, up to the longest wait."""
        return min(self.retry_longest_s, self.retry_first_s * 2.0 ** min(max(attempts - 1, 0), 30))


class RetentionSection(Section):
    """How long the files of a delivered job are kept; 0 keeps them for ever."""

    days: Annotated[float, Field(ge=0)] = 30.0


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
    contours: ContoursSection = ContoursSection()
    destinations: dict[str, AnyDestination] = Field(default_factory=dict)
    sources: dict[str, Source] = Field(default_factory=dict)
    stow: StowSection = StowSection()
    delivery: DeliverySection = DeliverySection()
    retention: RetentionSection = RetentionSection()
    completeness: CompletenessSection = CompletenessSection()
    web: WebSection = WebSection()
    watch: WatchSection = WatchSection()
    notices: NoticesSection = NoticesSection()

    @model_validator(mode="after")
    def _check(self) -> NodeConfig:
        problems = _contradictions(self.model_dump())
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
    def database_place(self) -> Path | Server:
        """The node's database. Raises ConfigError if it cannot be named."""
        return self.database.place(self.node.data_dir)

    @property
    def bundle_paths(self) -> tuple[Path, ...]:
        """Where model bundles are looked for, before those that come with the node."""
        return (*self.inference.bundle_folders, self.node.data_dir / "bundles", *bundle_folders())

    @property
    def ae_titles(self) -> tuple[str, ...]:
        """The AE titles under which the node may be called."""
        return (self.node.ae_title, *self.node.also_called)

    def roles_for(self, names: Iterable[str]) -> tuple[str, ...]:
        """The roles of all objects of a job: RTSTRUCT and SEG, and what these destinations want besides."""
        places = (self.destinations[name] for name in names if name in self.destinations)
        return tuple(dict.fromkeys((*ROLES, *(role for place in places for role in place.roles))))

    @property
    def completeness_sources(self) -> tuple[str, ...]:
        """The sources that are asked whether series are whole."""
        asked = {peer.source for peer in self.peers if peer.source is not None}
        return tuple(sorted(asked)) if self.completeness.expect == "ask" else ()

    def calling_ae_for(self, peer: Destination | WebDestination | Source) -> str:
        """The AE title the node uses towards a destination or source."""
        own = None if isinstance(peer, WebDestination) else peer.calling_ae_title
        return own or self.node.ae_title

    @property
    def alternates(self) -> frozenset[str]:
        """Destinations that get something only in another's stead."""
        return frozenset(one.alternate for one in self.destinations.values() if one.alternate is not None)

    @property
    def committing(self) -> frozenset[str]:
        """Destinations that shall confirm that they keep what they were sent."""
        places = self.destinations.items()
        return frozenset(name for name, one in places if isinstance(one, Destination) and one.commitment)


def load_config(path: Path) -> NodeConfig:
    """Read and check the configuration file.

    Parameters
    ----------
    path : a TOML file; relative folders in it are relative to the file

    Raises
    ------
    ConfigError
        With one line for each problem.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from error
    base = path.resolve().parent
    lines = merge_rules_file(data, base) + tls_file_problems(data, base)
    lines += destination_file_problems(data, base) + stow_problems(data, base)
    lines += database_problems(data, base) + watch_file_problems(data, base)
    try:
        config = NodeConfig.model_validate(data)
    except ValidationError as error:
        lines = [line for item in error.errors() for line in _problem_lines(dict(item))] + lines
        lines += [line for line in _contradictions(data) if line not in lines]
        raise ConfigError(_message(path, lines)) from error
    if lines:
        raise ConfigError(_message(path, lines))
    return _resolved(config, base)


def _message(path: Path, lines: list[str]) -> str:
    return f"{path}:\n" + "\n".join(f"  {line}" for line in lines)


def _resolved(config: NodeConfig, base: Path) -> NodeConfig:
    """The same with files and folders relative to a folder."""
    node = config.node.model_copy(update={"data_dir": base / config.node.data_dir.expanduser()})
    folders = tuple(base / folder.expanduser() for folder in config.inference.bundle_folders)
    inference = config.inference.model_copy(update={"bundle_folders": folders})
    contours = config.contours
    if contours.protocol.endswith(".toml"):
        own = str(base / Path(contours.protocol).expanduser())
        contours = contours.model_copy(update={"protocol": own})
    tls = config.tls.resolved(base)
    destinations = {name: resolve_destination(one, tls, base) for name, one in config.destinations.items()}
    sources = {name: resolve_peer(one, tls, base) for name, one in config.sources.items()}
    update: dict[str, Any] = {"node": node, "inference": inference, "contours": contours, "sources": sources}
    update |= {"stow": config.stow.resolved(base), "tls": tls, "destinations": destinations}
    update |= {"web": resolve_web(config.web, base), "notices": config.notices.resolved(base)}
    update |= {"database": config.database.resolved(base)}
    update |= {"rule": resolve_rules(config.rule, config.rules, base)}
    return config.model_copy(update=update)


def _contradictions(data: dict[str, Any]) -> list[str]:
    """What is wrong between settings; bears a file in which single settings are wrong as well."""
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
    return problems + title_contradictions(data) + rule_contradictions(data)


def _problem_lines(item: dict[str, Any]) -> list[str]:
    """One problem as pydantic tells it, in words a physicist understands."""
    place = setting_path(tuple(item["loc"]))
    name = ".".join(str(part + 1) if isinstance(part, int) else part for part in place)
    if item["type"] == "extra_forbidden":
        if place[:1] == ("peers",) and place[-1] in REMOVED_OF_PEERS:
            return [f"{name}: {REMOVED_OF_PEERS[place[-1]]}"]
        near = difflib.get_close_matches(str(place[-1]), _known_settings(tuple(item["loc"])), n=1)
        return [f"{name}: there is no such setting{f'; did you mean {near[0]!r}?' if near else ''}"]
    if item["type"] == "missing":
        return [f"{name}: is missing"]
    if item["type"] == "value_error":
        message = str(item["ctx"]["error"])
        return [f"{name}: {line}" if name else line for line in message.splitlines()]
    return [f"{name}: {item['msg'][0].lower()}{item['msg'][1:]}, not {item['input']!r}"]


def _known_settings(place: tuple[Any, ...]) -> list[str]:
    """The names that would be allowed where an unknown name stands."""
    sections: dict[str, type[BaseModel]] = {
        "node": NodeSection,
        "database": DatabaseSection,
        "worker": WorkerSection,
        "receiver": ReceiverSection,
        "tls": TlsSection,
        "peers": Peer,
        "rules": RulesSection,
        "rule": Rule,
        "inference": InferenceSection,
        "contours": ContoursSection,
        "destinations": Destination,
        "sources": Source,
        "stow": StowSection,
        "delivery": DeliverySection,
        "retention": RetentionSection,
        "completeness": CompletenessSection,
        "web": WebSection,
        "watch": WatchSection,
        "notices": NoticesSection,
    }
    model = NodeConfig if len(place) == 1 else sections.get(str(place[0]), NodeConfig)
    if model is Destination and place[2] == "web":
        model = WebDestination
    return list(model.model_fields)


MAX_PDU: Final = 0x40000
"""Bytes of the largest PDU taken from a source: a CT slice arrives in two or three."""
