"""Judges one series: its survey, the routing rules, its completeness, and what was delivered before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import structlog

from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.intake.survey_cache import Surveys
from orgseg_node.node.routing.decision import ae_titles_of, decide, new_job
from orgseg_node.node.routing.facts import facts_of
from orgseg_node.node.routing.verdict import (
    judge_broken,
    judge_completeness,
    judge_late_images,
    judge_series,
)
from orgseg_node.node.store.model import NewJob, Notice, Series, SeriesState
from orgseg_node.node.store.routing_rows import SEVERAL_TITLES
from orgseg_node.node.store.series_overrides import SeriesOverrides
from orgseg_node.node.store.source_answers import Answers
from orgseg_node.node.store.store import Store
from orgseg_node.node.store.transfer_rows import BrokenTransfer

_log = structlog.get_logger("orgseg.inbox")


class SeriesJudge:
    """Judges series.

    Parameters
    ----------
    config : the configuration in force
    store : the node's database
    surveys : of the series
    overrides : what persons decided about series
    """

    def __init__(
        self, config: CurrentConfig, store: Store, surveys: Surveys, overrides: SeriesOverrides
    ) -> None:
        self._current = config
        self._store = store
        self._surveys = surveys
        self._overrides = overrides
        self._answers = Answers(store.database)

    @property
    def _config(self) -> NodeConfig:
        return self._current.config

    def judge(self, series: Series, broken: BrokenTransfer | None, *, forced: bool = False) -> bool:
        """Survey one series and judge it.

        Parameters
        ----------
        series : the series
        broken : how its sending was broken off; None if it ended in order
        forced : whether a person has decided that it is contoured as it is

        Returns
        -------
        Whether it was judged; not if it has no image, or one arrived in the meantime
        """
        instances = self._store.instances_of(series.series_uid)
        if not instances:
            return False
        paths: list[Path] = [self._config.node.data_dir / instance.path for instance in instances]
        inventory = self._surveys.of(series.series_uid, instances)
        decision = decide(self._config, facts_of(inventory, paths, **ae_titles_of(series))).decision
        verdict, protocol = judge_series(decision, inventory, forced=forced)
        section = self._config.completeness
        known = self._answers.of(series) if section.expect == "ask" or broken is not None else None
        verdict = judge_completeness(verdict, known, forced=forced)
        if broken is not None:
            hold = section.broken == "hold"
            verdict = judge_broken(verdict, broken, inventory, known, hold=hold, forced=forced)
        job: NewJob | None = None
        notices: tuple[Notice, ...] = ()
        if verdict.content_sha256 and protocol is not None:
            content = (verdict.content_sha256, verdict.slices)
            job = new_job(self._config, decision, protocol, series_uid=series.series_uid, content=content)
            again = forced or section.late == "contour"
            verdict, notices = judge_late_images(
                verdict, series, job, self._store.jobs_of(series.series_uid), again=again
            )
            job = replace(job, remark=verdict.remark) if verdict.state is SeriesState.READY else None
        if series.note.startswith(SEVERAL_TITLES):
            verdict = replace(verdict, note=f"{verdict.note} {series.note}")
        done = self._store.judge(
            series, verdict.state, reason=verdict.reason, note=verdict.note, job=job, notices=notices
        )
        if done:
            self._surveys.forget(series.series_uid)
            if forced:
                self._overrides.judged(series.series_uid)
            _log.info(
                "series judged",
                series=series.series_uid,
                state=verdict.state.value,
                reason=verdict.reason,
                rule=decision.rule,
                instances=len(instances),
                job=job.job_id if job else None,
                broken_off=broken is not None,
                forced=forced,
            )
        return done
