"""Judges one series: its survey, the routing rules, its completeness, and what was delivered before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from orgseg_node.errors import (
    DatabaseUnreachable,
    ReadingStopped,
    SeriesUnreadable,
    SeveralParts,
    StorageError,
    SurveyDied,
    Unreadable,
)
from orgseg_node.errors.unexpected import place
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.intake.file_reader import SurveyedSeries, reading_error
from orgseg_node.node.intake.survey_cache import Surveys
from orgseg_node.node.routing.decision import ae_titles_of, decide, new_job, with_live_versions
from orgseg_node.node.routing.facts import facts_of
from orgseg_node.node.routing.verdict import (
    judge_broken,
    judge_completeness,
    judge_late_images,
    judge_series,
)
from orgseg_node.node.store.clock import Clock
from orgseg_node.node.store.model import Instance, NewJob, Notice, Series, SeriesState
from orgseg_node.node.store.routing_rows import SEVERAL_TITLES
from orgseg_node.node.store.series_attempts import SeriesAttempts
from orgseg_node.node.store.series_overrides import SeriesOverrides
from orgseg_node.node.store.source_answers import Answers
from orgseg_node.node.store.store import Store
from orgseg_node.node.store.transfer_rows import BrokenTransfer

_ATTEMPTS: Final = 5
"""So many times a series is tried whose files cannot be read."""

_MAY_PASS: Final = (SeriesUnreadable, SurveyDied, StorageError)

_log = structlog.get_logger("orgseg.inbox")


class SeriesJudge:
    """Judges series.

    Parameters
    ----------
    config : the configuration in force
    store : the node's database
    surveys : of the series
    overrides : what persons decided about series
    clock : source of the time
    """

    def __init__(
        self,
        config: CurrentConfig,
        store: Store,
        surveys: Surveys,
        overrides: SeriesOverrides,
        *,
        clock: Clock,
    ) -> None:
        self._current = config
        self._store = store
        self._surveys = surveys
        self._overrides = overrides
        self._clock = clock
        self._answers = Answers(store.database)
        self._attempts = SeriesAttempts(store.database)

    @property
    def _config(self) -> NodeConfig:
        return self._current.config

    def judge(self, series: Series, broken: BrokenTransfer | None, *, forced: bool = False) -> bool:
        """Survey one series and judge it; if that fails, the series is held with the error as the reason.

        Errors that may pass, such as a read error, are tried again several times before.

        Parameters
        ----------
        series : the series
        broken : how its sending was broken off; None if it ended in order
        forced : whether a person has decided that it is contoured as it is

        Returns
        -------
        Whether it was judged; not if it has no image, or one arrived in the meantime
        """
        before = self._attempts.of(series)
        if before is not None and before.next_at > self._clock() and not forced:
            return False
        try:
            done = self._judge(series, broken, forced=forced)
        except DatabaseUnreachable:
            raise  # it concerns every series
        except ReadingStopped:
            return False
        except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to this series
            return self._failed(series, error, forced=forced)
        if done:
            self._attempts.forget(series.series_uid)
        return done

    def survey_early(self, series: Series, instances: Sequence[Instance]) -> bool:
        """Survey a series that will soon be judged; if that ends the process, it is a failed attempt.

        Returns
        -------
        Whether it holds a volume that can be contoured
        """
        before = self._attempts.of(series)
        if before is not None and before.next_at > self._clock():
            return False
        try:
            return bool(self._survey(series, instances).inventory.accepted)
        except ReadingStopped:
            return False
        except SurveyDied as error:
            attempt = self._attempts.failed(series, self._clock())
            _log.error("survey failed", series=series.series_uid, why=error.detail, attempt=attempt)
            return False

    def _survey(self, series: Series, instances: Sequence[Instance]) -> SurveyedSeries:
        """The survey of a series, which is at risk while its files are read."""
        uid = series.series_uid
        if self._surveys.has(uid, instances):
            return self._surveys.of(uid, instances)
        self._surveys.await_ready()
        self._attempts.begin(series, self._clock())
        try:
            return self._surveys.of(uid, instances)
        finally:
            self._attempts.end(uid)

    def may_preload(self, series: Series) -> bool:
        """Whether a series may be preloaded for its job, see `SeriesAttempts.may_preload`."""
        return self._attempts.may_preload(series, self._clock())

    def node_started(self) -> None:
        """Count a failed attempt at each series that was being read when the whole node was killed.

        A series that had as many as a job may have is held; the others are tried again after a pause.
        """
        for uid, attempts in self._attempts.interrupted(self._clock()):
            error = SurveyDied("The last time, the node itself ended.")
            hold = attempts >= self._config.worker.deaths
            _log.error("survey interrupted", series=uid, attempt=attempts, held=hold)
            series = self._store.one_series(uid)
            if hold and series.state is SeriesState.RECEIVING:
                note = f"{error.sentence} {error.next_step}"
                self._store.judge(series, SeriesState.HOLD, reason=error.code, note=note)
                self._attempts.forget(uid)
                self._overrides.judged(uid)

    def _failed(self, series: Series, error: Exception, *, forced: bool) -> bool:
        """Count a failed attempt at a series, and hold it unless it is tried again; whether it was held."""
        uid = series.series_uid
        attempts = self._attempts.failed(series, self._clock())
        reason = reading_error(error)
        most = self._config.worker.deaths if isinstance(reason, SurveyDied) else _ATTEMPTS
        hold = forced or attempts >= most or not isinstance(reason, _MAY_PASS)
        _log.error(
            "series not judged", series=uid, code=reason.code, kind=type(error).__name__, place=place(error),
            attempt=attempts, held=hold,
        )  # fmt: skip
        if not hold:
            return False
        self._surveys.forget(uid)
        note = f"{reason.sentence} {reason.next_step}"
        held = self._store.judge(series, SeriesState.HOLD, reason=reason.code, note=note)
        if held:
            self._attempts.forget(uid)
            if forced:
                self._overrides.judged(uid)
        return held

    def _judge(self, series: Series, broken: BrokenTransfer | None, *, forced: bool) -> bool:
        instances = self._store.instances_of(series.series_uid)
        if not instances:
            return False
        paths: list[Path] = [self._config.node.data_dir / instance.path for instance in instances]
        surveyed = self._survey(series, instances)
        inventory = surveyed.inventory
        unread = next((one.error for one in inventory.refused if isinstance(one.error, Unreadable)), None)
        if unread is not None:
            self._surveys.forget(series.series_uid)
            raise SeriesUnreadable(unread.detail)
        facts = facts_of(inventory, paths, header=surveyed.header, **ae_titles_of(series))
        decision = decide(self._config, facts).decision
        verdict, protocol = judge_series(
            decision, inventory, forced=forced, volume=self._overrides.chosen(series)
        )
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
            decision = with_live_versions(decision, self._store.database)
            job = new_job(self._config, decision, protocol, series_uid=series.series_uid, content=content)
            again = forced or section.late == "contour"
            verdict, notices = judge_late_images(
                verdict, series, job, self._store.jobs_of(series.series_uid), again=again
            )
            job = replace(job, remark=verdict.remark) if verdict.state is SeriesState.READY else None
        if series.note.startswith(SEVERAL_TITLES):
            verdict = replace(verdict, note=f"{verdict.note} {series.note}")
        if verdict.reason == SeveralParts.code:
            volumes = [(one.part, len(one.slices)) for one in inventory.accepted]
            self._overrides.offer_volumes(series, volumes)
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
