"""Promotion, shadow and rollback: what is allowed, who has to sign, and what the history keeps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orgseg_node.errors import (
    BundleHashMismatch,
    BundleReplaced,
    DiskFull,
    GateDamaged,
    GateForeign,
    GateNotPassed,
    GateOfOtherModels,
    GateUnsigned,
    IllegalTransition,
    ModelError,
    NoEarlierVersion,
    NoLiveVersion,
    NotProven,
    OrgsegError,
    SignerUnknown,
    SigningKeyUnusable,
    UnknownVersion,
)
from orgseg_node.inference.bundles.gate_file import model_entry, render_gate
from orgseg_node.node.models.alias import family_of, find_named, follow_aliases
from orgseg_node.node.models.promotion import Promoter
from orgseg_node.node.models.registry import family_of_bundle
from orgseg_node.node.models.version_rows import history
from orgseg_node.node.store.audit import Audit
from orgseg_node.node.store.model import ModelState
from orgseg_node.signing import make_key
from tests.support.node.model_bench import FAMILY, PERSONS, ModelBench
from tests.support.small_disk import fill, small_disk


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[ModelBench]:
    made = ModelBench(tmp_path)
    made.make_first_live()
    yield made
    made.store.close()


def test_two_different_persons_make_a_version_live(bench: ModelBench) -> None:
    gate = bench.gate("2", "1")
    first = bench.sign(0, bench.proposal("2", gate))
    assert (first.is_live, first.signers, first.needed) == (False, (PERSONS[0],), 2)
    again = bench.sign(0, bench.proposal("2", gate))
    assert not again.is_live, "the same person twice is one person"
    assert bench.live() == [f"{FAMILY}@1"]
    second = bench.sign(1, bench.proposal("2"))  # the gate file is kept with the candidate
    assert second.is_live
    assert bench.live() == [f"{FAMILY}@2"]


def test_one_signature_is_enough_where_the_clinic_says_so(tmp_path: Path) -> None:
    bench = ModelBench(tmp_path, models={"signatures": 1})
    assert bench.sign(0, bench.proposal("1", override="commissioned")).is_live


def test_signatures_count_for_one_promotion_only(bench: ModelBench) -> None:
    bench.promote("2", "1")
    bench.registry.roll_back(FAMILY, "by A")
    half = bench.sign(2, bench.proposal("2", bench.gate("2", "1")))
    assert (half.is_live, half.signers) == (False, (PERSONS[2],))


def test_a_signature_for_another_gate_does_not_count(bench: ModelBench) -> None:
    bench.sign(0, bench.proposal("2", bench.gate("2", "1")))
    other = bench.gate("2", "1", key=bench.keys[PERSONS[0]])
    assert bench.sign(1, bench.proposal("2", other)).signers == (PERSONS[1],)
    assert bench.live() == [f"{FAMILY}@1"]


def _unsigned(bench: ModelBench) -> bytes:
    content = {"live": model_entry(bench.bundles["1"].identity), "reasons": [], "verdict": "PASS"}
    return render_gate({**content, "candidate": model_entry(bench.bundles["2"].identity)}, None)


def _foreign(bench: ModelBench) -> bytes:
    make_key(bench.folder / "foreign.pem")
    return bench.gate("2", "1", key=bench.folder / "foreign.pem")


def _changed(bench: ModelBench) -> bytes:
    document = json.loads(bench.gate("2", "1", "FAIL"))
    return json.dumps(document | {"verdict": "PASS"}).encode()


def _incomplete(bench: ModelBench) -> bytes:
    return render_gate({"verdict": "PASS", "reasons": []}, bench.keys[PERSONS[2]])


GATES: dict[str, tuple[Callable[[ModelBench], bytes], type[OrgsegError]]] = {
    "unsigned": (_unsigned, GateUnsigned),
    "foreign": (_foreign, GateForeign),
    "changed": (_changed, GateDamaged),
    "incomplete": (_incomplete, GateDamaged),
    "cut off": (lambda bench: bench.gate("2", "1")[:-40], GateDamaged),
    "empty": (lambda _: b"", GateDamaged),
    "binary": (lambda _: b"\xff\x00", GateDamaged),
    "a list": (lambda _: b"[]", GateDamaged),
    "failed": (lambda bench: bench.gate("2", "1", "FAIL"), GateNotPassed),
    "inconclusive": (lambda bench: bench.gate("2", "1", "INCONCLUSIVE"), GateNotPassed),
    "of another candidate": (lambda bench: bench.gate("3", "1"), GateOfOtherModels),
    "against another live version": (lambda bench: bench.gate("2", "3"), GateOfOtherModels),
}


@pytest.mark.parametrize("name", GATES)
def test_a_gate_that_proves_nothing_changes_nothing(bench: ModelBench, name: str) -> None:
    make, error = GATES[name]
    before = len(history(bench.store.database))
    with pytest.raises(error):
        bench.sign(0, bench.proposal("2", make(bench)))
    assert bench.live() == [f"{FAMILY}@1"]
    assert len(history(bench.store.database)) == before


def test_without_gate_and_without_override_nothing_is_promoted(bench: ModelBench) -> None:
    with pytest.raises(NotProven):
        bench.sign(0, bench.proposal("2"))


def test_the_first_version_needs_an_override(tmp_path: Path) -> None:
    bench = ModelBench(tmp_path)
    with pytest.raises(NoLiveVersion, match="--override"):
        bench.sign(0, bench.proposal("2", bench.gate("2", "1")))


def test_an_override_is_named_and_signed_and_stays_in_the_sealed_history(bench: ModelBench) -> None:
    failed = bench.gate("2", "1", "FAIL")
    bench.sign(0, bench.proposal("2", failed, override="the cord is better, the larynx is not used"))
    bench.sign(1, bench.proposal("2", failed, override="agreed with A."))
    assert bench.live() == [f"{FAMILY}@2"]
    audit = Audit(bench.store.database)
    audit.seal()
    audit.verify()
    text = " ".join(event.note for event in history(bench.store.database, FAMILY))
    for part in (*PERSONS[:2], "the larynx is not used", "FAIL", bench.bundles["2"].sha256[:12]):
        assert part in text


def test_a_bundle_that_changed_after_the_gate_is_refused(bench: ModelBench) -> None:
    gate = bench.gate("2", "1")
    weights = bench.bundles["2"].path / "parts/main/fold_0.safetensors"
    weights.write_text("others")
    with pytest.raises(BundleHashMismatch):
        bench.proposal("2", gate)
    shutil.rmtree(bench.bundles["2"].path)
    shutil.copytree(bench.bundles["3"].path, bench.bundles["2"].path)
    manifest = bench.bundles["2"].path / "manifest.toml"
    manifest.write_text(manifest.read_text().replace("head-neck@3", "head-neck@2"))
    with pytest.raises(GateOfOtherModels):
        bench.sign(0, bench.proposal("2", gate))
    assert bench.live() == [f"{FAMILY}@1"]


def test_a_bundle_that_changes_between_two_signatures_is_not_promoted(bench: ModelBench) -> None:
    bench.sign(0, bench.proposal("2", bench.gate("2", "1")))
    manifest = bench.bundles["2"].path / "manifest.toml"
    manifest.write_text(manifest.read_text().replace("A bundle of paper", "Another one"))
    with pytest.raises(NotProven):
        bench.sign(1, bench.proposal("2"))


def test_only_known_persons_sign(bench: ModelBench, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger.pem")
    promoter = Promoter(bench.config, bench.store)
    with pytest.raises(SignerUnknown):
        promoter.sign(bench.proposal("2", bench.gate("2", "1")), tmp_path / "stranger.pem")
    with pytest.raises(SigningKeyUnusable):
        promoter.sign(bench.proposal("2", bench.gate("2", "1")), tmp_path / "nothing.pem")
    with pytest.raises(SigningKeyUnusable, match="is there already"):
        make_key(tmp_path / "stranger.pem")


def test_a_key_that_was_taken_out_of_the_configuration_no_longer_counts(bench: ModelBench) -> None:
    gate = bench.gate("2", "1")
    bench.sign(0, bench.proposal("2", gate))
    persons = {name: key for name, key in bench.config.models.persons.items() if name != PERSONS[0]}
    section = bench.config.models.model_copy(update={"persons": persons})
    config = bench.config.model_copy(update={"models": section})
    done = Promoter(config, bench.store).sign(bench.proposal("2"), bench.keys[PERSONS[1]])
    assert (done.is_live, done.signers) == (False, (PERSONS[1],))


def test_what_is_live_is_not_promoted_again(bench: ModelBench) -> None:
    with pytest.raises(ModelError, match="live already"):
        bench.sign(0, bench.proposal("1", override="again"))


def test_a_full_disk_in_a_promotion_changes_nothing(bench: ModelBench) -> None:
    bench.sign(0, bench.proposal("2", bench.gate("2", "1")))
    before = len(history(bench.store.database))
    with bench.store.database.write() as tx:  # from now on SQLite says "database or disk is full"
        ((pages,),) = tx.rows("PRAGMA page_count")
        tx.rows(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DiskFull):
        bench.sign(1, bench.proposal("2", bench.gate("2", "1") + b" " * 4_000_000))
    assert bench.live() == [f"{FAMILY}@1"]
    assert len(history(bench.store.database)) == before


def test_a_promotion_on_a_full_disk_is_refused_and_succeeds_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8 << 10) as disk:
        bench = ModelBench(disk)
        bench.make_first_live()
        gate = bench.gate("2", "1")
        bench.sign(0, bench.proposal("2", gate))
        before = history(bench.store.database)
        filler = fill(disk)
        for act in (
            lambda: bench.sign(1, bench.proposal("2")),
            lambda: bench.registry.begin_shadow(FAMILY, bench.installed("3"), "by A"),
        ):
            with pytest.raises(DiskFull):
                act()
            assert bench.live() == [f"{FAMILY}@1"]
            assert history(bench.store.database) == before
        filler.unlink()
        assert bench.sign(1, bench.proposal("2")).is_live
        filler = fill(disk)
        with pytest.raises(DiskFull):
            bench.registry.roll_back(FAMILY, "by A: too small")
        assert bench.live() == [f"{FAMILY}@2"]
        filler.unlink()
        assert bench.registry.roll_back(FAMILY, "by A: too small").live.bundle == f"{FAMILY}@1"
        bench.store.close()


class TestRollback:
    """Back to the version before, in one transaction."""

    def test_it_goes_back_step_by_step(self, bench: ModelBench) -> None:
        bench.promote("2", "1")
        bench.promote("3", "2")
        assert bench.registry.roll_back(FAMILY, "by A: too small").live.bundle == f"{FAMILY}@2"
        assert bench.live() == [f"{FAMILY}@2"]
        assert bench.registry.roll_back(FAMILY, "by A").live.bundle == f"{FAMILY}@1"
        with pytest.raises(NoEarlierVersion):
            bench.registry.roll_back(FAMILY, "by A")
        assert bench.live() == [f"{FAMILY}@1"]

    def test_it_needs_the_earlier_bundle_as_it_was(self, bench: ModelBench) -> None:
        bench.promote("2", "1")
        manifest = bench.bundles["1"].path / "manifest.toml"
        text = manifest.read_text()
        manifest.write_text(text.replace("A bundle of paper", "Another one"))
        with pytest.raises(BundleReplaced):
            bench.registry.roll_back(FAMILY, "by A")
        assert bench.live() == [f"{FAMILY}@2"]
        manifest.write_text(text)
        bench.registry.roll_back(FAMILY, "by A")
        assert bench.live() == [f"{FAMILY}@1"]

    def test_a_version_that_was_rolled_back_may_come_again_with_a_gate(self, bench: ModelBench) -> None:
        bench.promote("2", "1")
        bench.registry.roll_back(FAMILY, "by A")
        assert bench.promote("2", "1").is_live


class TestShadow:
    """A version beside the live one."""

    def test_a_version_goes_into_the_shadow_and_from_there_to_live(self, bench: ModelBench) -> None:
        shadow = bench.registry.begin_shadow(FAMILY, bench.installed("2"), "by A")
        assert shadow.state is ModelState.SHADOW
        assert bench.promote("2", "1").is_live

    def test_there_is_one_shadow_at_a_time(self, bench: ModelBench) -> None:
        bench.registry.begin_shadow(FAMILY, bench.installed("2"), "by A")
        bench.registry.begin_shadow(FAMILY, bench.installed("3"), "by A")
        states = {v.bundle: v.state for v in bench.registry.versions(FAMILY)}
        assert states[f"{FAMILY}@2"] is ModelState.CANDIDATE
        assert states[f"{FAMILY}@3"] is ModelState.SHADOW
        assert bench.registry.end_shadow(FAMILY, "by A").state is ModelState.CANDIDATE
        with pytest.raises(UnknownVersion):
            bench.registry.end_shadow(FAMILY, "by A")

    def test_the_live_version_is_not_its_own_shadow(self, bench: ModelBench) -> None:
        with pytest.raises(ModelError):
            bench.registry.begin_shadow(FAMILY, bench.installed("1"), "by A")

    def test_without_a_live_version_there_is_no_shadow(self, tmp_path: Path) -> None:
        fresh = ModelBench(tmp_path)
        with pytest.raises(NoLiveVersion):
            fresh.registry.begin_shadow(FAMILY, fresh.installed("2"), "by A")


def test_the_database_refuses_a_second_live_version(bench: ModelBench) -> None:
    bench.sign(0, bench.proposal("2", bench.gate("2", "1")))
    statement = "UPDATE model_version SET state = 'LIVE' WHERE bundle = 'head-neck@2'"
    with pytest.raises(IllegalTransition), bench.store.database.write() as tx:
        tx.run(statement)


def test_an_alias_stands_for_the_live_version_with_its_hash(bench: ModelBench) -> None:
    names = ("starter-hn", f"{FAMILY}@live")
    one, two = follow_aliases(names, bench.store.database)
    assert (one.name, one.sha256) == ("starter-hn", "")
    assert (two.name, two.sha256) == (f"{FAMILY}@1", bench.bundles["1"].sha256)
    bench.promote("2", "1")
    assert follow_aliases(names, bench.store.database)[1].name == f"{FAMILY}@2"
    assert find_named(bench.config, f"{FAMILY}@live").manifest.name == f"{FAMILY}@2"
    with pytest.raises(NoLiveVersion):
        follow_aliases(("pelvis@live",), bench.store.database)


def test_names_of_bundles_and_aliases_are_never_confused() -> None:
    assert family_of("head-neck@live") == "head-neck"
    assert [family_of(name) for name in ("head-neck@2", "starter-hn", "@live", "live")] == [None] * 4
    assert family_of_bundle("head-neck@2", "") == "head-neck"
    assert family_of_bundle("starter-hn", "head-neck") == "head-neck"
    assert family_of_bundle("starter-hn", "") == "starter-hn"
