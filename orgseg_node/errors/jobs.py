"""Jobs of the running node."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


class JobError(OrgsegError):
    """A job of the node did not finish."""

    code = "JOB"
    next_step = "Read the job's log in the data folder; the series is kept and the job can be run again."


class WorkerDied(JobError):
    """The contouring process ended unexpectedly."""

    code = "JOB_WORKER_DIED"
    retryable = True


class UnexpectedFailure(JobError):
    """The program failed over this job in a way that it does not know."""

    code = "JOB_UNEXPECTED"
    next_step = (
        "Report this type and place to whoever maintains the node; 'orgseg jobs retry' tries it again."
    )


class SystemCallFailed(JobError):
    """The operating system could not do what a job needed."""

    code = "JOB_SYSTEM"
    retryable = True
    next_step = "Check the disk and the system's log, then run 'orgseg jobs retry'."


class TimeLimit(JobError):
    """The job took longer than the time limit."""

    code = "JOB_TIME_LIMIT"
    next_step = (
        "Raise inference.time_limit_s in node.toml or use a faster device, then run 'orgseg jobs retry'."
    )


class JobStopped(JobError):
    """The job was cancelled, or a later revision of the series replaced it."""

    code = "JOB_STOPPED"


class DeadLetter(JobError):
    """The contouring process ended unexpectedly several times while it ran this job."""

    code = "JOB_POISON"
    next_step = (
        "Read the job's log and the system log (the system ends processes if memory runs out); then run "
        "'orgseg jobs retry'."
    )


class JobRefuses(JobError):
    """This command is not possible in the present state of the job."""

    code = "JOB_REFUSES"
    next_step = "Run 'orgseg jobs show' for its state."


class ObjectsNotMade(JobError):
    """The objects could not be made anew; those before remain, and nothing is sent."""

    code = "JOB_OBJECTS_NOT_MADE"
    next_step = "Solve what is named above and repeat the command, or reject the job."


class TrialFailed(JobError):
    """The protocol could not be tried on this case; the case is as it was."""

    code = "JOB_TRIAL_FAILED"
    next_step = "Solve what is named above, or choose another case."


class ResultMissing(JobError):
    """The job has no result yet, or none was made."""

    code = "JOB_NO_RESULT"
    next_step = "Run 'orgseg jobs show' for its state; the checks are explained once it was contoured."


class ResultDeleted(JobError):
    """The files of the job were deleted after the retention time."""

    code = "JOB_RESULT_DELETED"
    next_step = "Read the report in the structured report or PDF that was sent, or send the series again."


class ResultUnreadable(JobError):
    """The report of the result cannot be read."""

    code = "JOB_RESULT_UNREADABLE"
    next_step = "Check the disk; then run 'orgseg jobs retry' or send the series again, to make a new result."


class SeriesRefuses(JobError):
    """This command is not possible in the present state of the series."""

    code = "SERIES_REFUSES"
    next_step = "Run 'orgseg series show' for its state."


class SeriesUnexpected(JobError):
    """The series could not be judged: the program failed over it in a way that it does not know."""

    code = "SERIES_UNEXPECTED"
    next_step = (
        "Report this type and place to the person who maintains the node; "
        "'orgseg series judge' tries it again."
    )


class SeriesUnreadable(JobError):
    """Files of the series could not be read, several times."""

    code = "SERIES_UNREADABLE"
    next_step = "Check the disk and the system log, then run 'orgseg series judge'."


class SurveyDied(JobError):
    """The process that reads the headers of the series ended, or took too long, several times."""

    code = "SERIES_SURVEY_DIED"
    next_step = (
        "Check the series with 'orgseg info'; if it is sound, raise receiver.survey_memory_mb or "
        "receiver.survey_limit_s and run 'orgseg series judge'."
    )


class ReadingStopped(JobError):
    """The node stopped while it read the headers of the series."""

    code = "SERIES_READING_STOPPED"
    retryable = True
    next_step = "Start the node again; it reads the series again."


class IncompleteSeries(JobError):
    """The source has more images of the series than were received."""

    code = "INCOMPLETE"
    next_step = "Send the missing images, or contour the received ones with 'orgseg series force'."


class SendingBroken(JobError):
    """The sending of the series was broken off, and no later association ended in order."""

    code = "SENDING_BROKEN"
    next_step = "Send the series again, or contour what is there with 'orgseg series force'."


class LateImages(JobError):
    """Images were received after contours of the series had been delivered."""

    code = "LATE_IMAGES"
    next_step = "Run 'orgseg series force' to contour the present series; what was sent before stays there."


class HeldByRule(JobError):
    """A routing rule holds the series."""

    code = "RULE_HOLD"
    next_step = (
        "Contour it with 'orgseg series force'; or change the rules ('orgseg rules test' explains them), "
        "reload them, and run 'orgseg series judge'."
    )


class RuleUndecided(JobError):
    """A routing rule needs an AE title that is not known, because the files were found on the disk."""

    code = "RULE_UNDECIDED"
    next_step = "Send the series again to the intended AE title, or contour it with 'orgseg series force'."


class ReplayFailed(JobError):
    """The job could not be made again."""

    code = "JOB_REPLAY"
    next_step = "Install the models that it was made with, or see what 'orgseg jobs show' says of it."
