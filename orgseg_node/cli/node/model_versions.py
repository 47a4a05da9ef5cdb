"""``orgseg models``, the commands for the versions of a node: promote, shadow, rollback, history, keygen."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from orgseg_node.cli.console import local_time, out, print_json
from orgseg_node.cli.options import By, Config, Json, Why, attribution, open_store
from orgseg_node.errors import OptionInvalid

if TYPE_CHECKING:
    from orgseg_node.node.models.agreement import OrganAgreement
    from orgseg_node.node.models.version_rows import ModelVersion

Bundle = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="Name of an installed bundle, such as head-neck@2.")
]
Family = Annotated[
    str,
    typer.Option("--family", help="Family of which it is a version; by default its name up to @."),
]


def keygen(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", dir_okay=False, help="File of the new private key.")
    ],
) -> None:
    """Make the key with which a person signs; it prints the public key.

    One key is enough for a person: it signs gate files, promotions and lists of rejects.
    """
    from orgseg_node.signing import make_key  # noqa: PLC0415  # quick start of other commands

    public = make_key(file)
    out().print(f"{public}")
    out().print(
        f"Keep {escape(str(file))} to yourself. Put the public key into \\[models.persons] of node.toml, and"
        " into rejects_key of site.toml if you also sign rejects."
    )


def promote(
    bundle: Bundle,
    config: Config,
    *,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", dir_okay=False, help="Your private key, of 'orgseg models keygen'; it must be given."
        ),
    ] = None,
    gate: Annotated[
        Path | None,
        typer.Option(
            "--gate", dir_okay=False, help="gate.json; not needed if the person before you has given it."
        ),
    ] = None,
    override: Annotated[
        bool,
        typer.Option(
            "--override", help="Promote it without a gate that passed; the history keeps who and why."
        ),
    ] = False,
    family: Family = "",
    why: Why = "",
) -> None:
    """Sign that a bundle becomes the live version of its family; the last signature makes it live.

    It needs a gate file that passed, signed by a person of [models.persons]. Jobs that exist keep
    their version.
    """
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.models.promotion import Promoter, Proposal  # noqa: PLC0415
    from orgseg_node.node.models.registry import ModelRegistry, family_of_bundle  # noqa: PLC0415

    if key is None:
        raise OptionInvalid(
            "--key FILE is missing: a promotion is signed with your private key. 'orgseg models keygen FILE' "
            "makes one; its public key goes into [models.persons] of node.toml."
        )
    if override and not why.strip():
        raise OptionInvalid("--override needs --why, which is kept in the history.")
    attribution("", why)  # one line, not too long
    settings = load_config(config)
    proposal_gate = None if gate is None else _read(gate)
    with closing(open_store(settings)) as store:
        proposal = Proposal(
            family=family_of_bundle(bundle, family),
            bundle=ModelRegistry(settings, store).installed(bundle),
            gate=proposal_gate,
            override=why.strip() if override else "",
        )
        done = Promoter(settings, store).sign(proposal, key)
    console = out()
    console.print(f"signed by {escape(', '.join(done.signers))} ({len(done.signers)} of {done.needed})")
    if done.is_live:
        console.print(f"[green]live[/] {escape(done.version.family)}: {escape(done.version.short)}")
        console.print(
            f"The next job of {escape(done.version.family)}@live uses it. Back: orgseg models rollback"
            f" {escape(done.version.family)}"
        )
    else:
        console.print("Not live yet: another person repeats the whole command with an own key in --key.")
    if note := _other_protocol(done.version.gate, settings.contours.protocol):
        console.print(f"[yellow]{escape(note)}[/]")


def _other_protocol(gate: str, own: str) -> str:
    """What a person should know if the gate tidied organs with another protocol than the node's."""
    from orgseg_node.contouring.protocol import load_protocol  # noqa: PLC0415
    from orgseg_node.errors import ProtocolInvalid  # noqa: PLC0415
    from orgseg_node.inference.bundles.gate_file import protocol_of_gate  # noqa: PLC0415

    judged = protocol_of_gate(gate)
    try:
        if not judged or judged["sha256"] == load_protocol(own).sha256:
            return ""
    except ProtocolInvalid:  # the promotion stands; 'orgseg doctor' reports the protocol
        return ""
    return (
        f"The gate tidied organs with the protocol {judged['name']}, and the node contours with {own}."
        " If they remove other pieces, judge with --protocol."
    )


def _read(path: Path) -> bytes:
    from orgseg_node.errors import GateNotRead  # noqa: PLC0415

    try:
        return path.read_bytes()
    except OSError as error:
        raise GateNotRead(f"{path}: {error.strerror}.") from error


def rollback(
    family: Annotated[str, typer.Argument(metavar="FAMILY", help="Family of models, such as head-neck.")],
    config: Config,
    by: By = "",
    why: Why = "",
) -> None:
    """Make the version live again that was live before; one person is enough.

    Jobs that wait with the withdrawn version are decided again with the other one.
    """
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.models.registry import ModelRegistry  # noqa: PLC0415

    settings = load_config(config)
    with closing(open_store(settings)) as store:
        done = ModelRegistry(settings, store).roll_back(family, attribution(by, why))
    console = out()
    console.print(f"[green]live[/] {escape(family)}: {escape(done.live.short)}")
    console.print(f"retired {escape(done.withdrawn.short)}")
    if done.decided_again:
        console.print(f"{len(done.decided_again)} waiting jobs are decided again with the live version.")
    if done.kept:
        console.print(
            f"[yellow]Running, failed or in review with the retired version:[/] {', '.join(done.kept)}."
            " 'orgseg series judge SERIES' has one contoured by the live version."
        )


def history(
    config: Config,
    family: Annotated[str, typer.Argument(metavar="[FAMILY]", help="Only this family of models.")] = "",
    json: Json = False,
) -> None:
    """Show the versions of models, their states, and who changed them when and why."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.models import version_rows  # noqa: PLC0415

    with closing(open_store(load_config(config), read_only=True)) as store:
        known = version_rows.versions(store.database, family)
        events = version_rows.history(store.database, family)
    if json:
        print_json({"versions": [_plain(one) for one in known], "events": [asdict(one) for one in events]})
        return
    table = Table("family", "bundle", "hash", "state", "since")
    for one in known:
        table.add_row(one.family, one.bundle, one.sha256[:12], one.state.value, local_time(one.updated_at))
    console = out()
    console.print(table)
    for event in events:
        line = f"  {local_time(event.at)} {event.subject} {event.change} {event.note}"
        console.print(escape(line))


def shadow(
    config: Config,
    bundle: Annotated[
        str, typer.Argument(metavar="[BUNDLE]", help="Bundle to run in the shadow; without it, the report.")
    ] = "",
    *,
    family: Family = "",
    stop: Annotated[bool, typer.Option("--stop", help="End the running in the shadow.")] = False,
    by: By = "",
    why: Why = "",
    json: Json = False,
) -> None:
    """Run a bundle after the live version, without sending anything, and report how far both agree.

    Each scan that the live version has contoured is contoured again while nothing else waits.
    """
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.models.agreement import report_agreement  # noqa: PLC0415
    from orgseg_node.node.models.registry import ModelRegistry, family_of_bundle  # noqa: PLC0415
    from orgseg_node.node.models.shadow_status import all_shadows  # noqa: PLC0415

    settings = load_config(config)
    changes = bool(bundle) or stop
    with closing(open_store(settings, read_only=not changes)) as store:
        registry = ModelRegistry(settings, store)
        if stop and not (bundle or family):
            raise OptionInvalid("--stop needs the name of the bundle, or --family.")
        if stop:
            ended = registry.end_shadow(family_of_bundle(bundle, family), attribution(by, why))
            out().print(f"{escape(ended.short)} is a candidate; it no longer runs.")
            return
        if bundle:
            name = family_of_bundle(bundle, family)
            begun = registry.begin_shadow(name, registry.installed(bundle), attribution(by, why))
            out().print(f"[green]shadow[/] {escape(name)}: {escape(begun.short)}")
        registry.versions(family)  # refuses a family that is not known
        reports = all_shadows(store.database, settings.models.shadow_cases, family)
    if json:
        print_json(
            {
                "shadows": [
                    {
                        **_plain(one.version),
                        "phase": one.phase.value,
                        "scans": one.compared,
                        "failed": one.failed,
                        "enough": one.compared >= one.wanted,
                        "organs": [asdict(row) for row in report_agreement(one.runs)],
                    }
                    for one in reports
                ]
            }
        )
        return
    if not reports:
        out().print("No version runs in the shadow.")
    for one in reports:
        out().print(escape(f"{one.version.family}: {one.version.short}: {one.summary}"))
        if one.compared:
            _print_organs(report_agreement(one.runs))


def _print_organs(rows: list[OrganAgreement]) -> None:
    table = Table("organ", "scans", "Dice", "lowest", "surface Dice", "lowest", "only live", "only shadow")
    for row in rows:
        numbers = (row.mean_dice, row.lowest_dice, row.mean_surface_dice, row.lowest_surface_dice)
        texts = ["-" if value is None else f"{value:.3f}" for value in numbers]
        table.add_row(row.organ, str(row.scans), *texts, str(row.only_live), str(row.only_shadow))
    out().print(table)


def _plain(version: ModelVersion) -> dict[str, Any]:
    found = asdict(version)
    found["gate"] = bool(version.gate)
    return {**found, "state": version.state.value}
