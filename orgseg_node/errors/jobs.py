"""Jobs of the running node."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


class JobError(OrgsegError):
    """A job of the node did not finish."""

    code = "JOB"
    next_step = "See the job's log in the data folder; the series is kept and the job can be run again."


class WorkerDied(JobError):
    """The process that contours died."""

    code = "JOB_WORKER_DIED"
    retryable = True


class TimeLimit(JobError):
    """The job took longer than the time limit."""

    code = "JOB_TIME_LIMIT"
    next_step = "Raise inference.time_limit_s in node.toml, or use a faster device."


class JobStopped(JobError):
    """The job was cancelled, or a later revision of the series replaced it."""

    code = "JOB_STOPPED"


class DeadLetter(JobError):
    """The process that contours died again and again over this job."""

    code = "JOB_POISON"
    next_step = (
        "See the job's log and the system's (it may have ended the process for want of memory); then run "
        "'orgseg jobs retry'."
    )


class JobRefuses(JobError):
    """What was asked for cannot be done with the job as it is."""

    code = "JOB_REFUSES"
    next_step = "See its state with 'orgseg jobs show'."


class SeriesRefuses(JobError):
    """What was asked for cannot be done with the series as it is."""

    code = "SERIES_REFUSES"
    next_step = "See its state with 'orgseg series show'."


class IncompleteSeries(JobError):
    """The source has more images of the series than have come."""

    code = "INCOMPLETE"
    next_step = "Send the missing images, or contour what is there with 'orgseg series force'."


class LateImages(JobError):
    """Images came after contours of the series had been delivered."""

    code = "LATE_IMAGES"
    next_step = "Contour the series as it is now with 'orgseg series force', or leave it."


class HeldByRule(JobError):
    """A routing rule holds the series."""

    code = "RULE_HOLD"
    next_step = "See 'orgseg rules test' with the series; change the rules if it should be contoured."


class RuleUndecided(JobError):
    """A routing rule asks for an AE title that is not known, because the files were found on the disk."""

    code = "RULE_UNDECIDED"
    next_step = "Send the series again under the AE title that is meant."
