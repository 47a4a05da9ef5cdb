"""Inference that is stopped, or refused because memory is short, leaves everything as it was."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from scipy.ndimage import gaussian_filter

from orgseg_node.core.body import Body
from orgseg_node.core.geometry import Box, Grid
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import Volume
from orgseg_node.errors import BudgetTooSmall, JobStopped
from orgseg_node.inference.backends.context import describe_time_left
from orgseg_node.inference.backends.streaming import StreamingPredictor
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.bundles.writing import BundleDraft, PartDraft, export_trained
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import InferenceSettings
from tests.support.models.tiny_nnunet import TinyModel, write_tiny
from tests.support.processes.once import once

pytestmark = pytest.mark.endurance


class Disturbance(Exception):
    """What no code expects."""


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    """Two networks, the first an ensemble of two folds; both see the same working volume."""
    return once("stopped", _bundle)


def _bundle(folder: Path) -> ModelBundle:
    first = write_tiny(folder, TinyModel(folds=(0, 1)))
    second = write_tiny(folder, TinyModel(labels={"heart": 1}, dataset_name="Dataset902_Heart", seed=3))
    texts = dict.fromkeys(("title", "intended_use", "trained_on", "licence", "card"), "tests only")
    return export_trained(
        [
            PartDraft(folder=first, label_map={1: "spleen", 2: "liver"}),
            PartDraft(folder=second, label_map={1: "heart"}),
        ],
        BundleDraft(name="tiny", version="1", **texts),  # type: ignore[arg-type]  # the texts only
        folder / "tiny",
        trusted=False,
    )


def predictor_of(bundle: ModelBundle, table: OrganTable, **changes: int) -> StreamingPredictor:
    predictor = load_predictor(bundle, table, InferenceSettings(device="cpu", threads=1, **changes))
    assert isinstance(predictor, StreamingPredictor), "the node streams unless configured otherwise"
    return predictor


@pytest.fixture(scope="module")
def case() -> tuple[Volume, Body]:
    """A CT of smooth noise of which all is patient."""
    grid = Grid(shape=(24, 30, 32), spacing_mm=(3.0, 2.5, 2.5), origin_mm=(0.0, 0.0, 0.0))
    noise = gaussian_filter(np.random.default_rng(2).normal(size=grid.shape), 2)
    mask = np.ones(grid.shape, dtype=bool)
    body = Body(mask=mask, box=Box.around(mask), effective_diameter_mm=70.0, findings=())
    return Volume(grid=grid, hu=(noise * 3000).astype(np.int16)), body


@pytest.fixture
def two_threads() -> Iterator[int]:
    """As many threads as torch has before and must have after, unlike the predictor, which takes one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(before)


@pytest.mark.parametrize("error", [JobStopped("Enough."), KeyboardInterrupt(), Disturbance()], ids=repr)
@pytest.mark.parametrize("part", ["first tile", "first network", "second network"])
def test_whatever_the_listener_raises_stops_it_at_once_and_it_can_run_again(
    error: BaseException,
    part: str,
    bundle: ModelBundle,
    organ_table: OrganTable,
    case: tuple[Volume, Body],
    two_threads: int,
) -> None:
    stdout, running = sys.stdout, threading.active_count()
    predictor = predictor_of(bundle, organ_table)
    undisturbed: list[float] = []
    expected = predictor.predict(*case, lambda done, _: undisturbed.append(done)).label_map.labels
    assert np.unique(expected).size == 4
    stop_at = {
        "first tile": 1,
        "first network": sum(done < 0.4 for done in undisturbed),
        "second network": sum(done < 0.8 for done in undisturbed),
    }[part]
    progress: list[float] = []

    def stop(done: float, _: str) -> None:
        progress.append(done)
        if len(progress) >= stop_at:
            raise error

    with pytest.raises(type(error)) as raised:
        predictor.predict(*case, stop)
    assert raised.value is error
    assert len(progress) == stop_at, "not a single tile was computed afterwards"
    assert (torch.get_num_threads(), sys.stdout, threading.active_count()) == (two_threads, stdout, running)
    again = predictor.predict(*case, lambda *_: None)
    assert np.array_equal(again.label_map.labels, expected)
    assert {row.organ for row in again.disagreement} == {"spleen", "liver"}


def test_progress_tells_what_is_done_and_how_long_it_takes_yet(
    bundle: ModelBundle, organ_table: OrganTable, case: tuple[Volume, Body]
) -> None:
    texts: list[str] = []
    predictor_of(bundle, organ_table).predict(*case, lambda _, text: texts.append(text))
    assert all(re.fullmatch(r"tiny( \S+(, about \d+ (s|min) left)?)?", text) for text in texts), texts


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, ""),
        (0.4, ""),
        (1.2, ", about 1 s left"),
        (89.0, ", about 89 s left"),
        (90.0, ", about 2 min left"),
        (3600.0, ", about 60 min left"),
        (9000.0, ", about 2.5 h left"),
    ],
)
def test_the_time_left_is_told_in_the_unit_one_would_use(seconds: float, said: str) -> None:
    assert describe_time_left(seconds) == said


def test_too_small_a_memory_budget_is_refused_before_the_first_tile(
    bundle: ModelBundle, organ_table: OrganTable, case: tuple[Volume, Body]
) -> None:
    held_mb = psutil.Process().memory_info().rss >> 20
    progress: list[float] = []
    with pytest.raises(BudgetTooSmall) as raised:
        predictor_of(bundle, organ_table, memory_budget_mb=held_mb).predict(
            *case, lambda done, _: progress.append(done)
        )
    assert not progress
    assert not raised.value.retryable, "the budget is no larger the next time"
    said = re.search(r"needs about (\d+) MB of main memory; (\d+) MB are allowed", raised.value.sentence)
    assert said is not None, raised.value.sentence
    needed, allowed = map(int, said.groups())
    assert (needed > held_mb, allowed) == (True, held_mb)
    generous = predictor_of(bundle, organ_table, memory_budget_mb=needed + 2000)
    assert generous.predict(*case, lambda *_: None).label_map.labels.any(), "with more than that it runs"
    assert "memory_budget_mb" in raised.value.next_step
