"""The node's log: one line per event, as text or JSON, on stderr. It never holds patient data."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Final, TextIO

import structlog

_SILENCED: Final = ("pynetdicom", "pydicom")
"""Libraries whose messages may quote datasets: they are not logged."""


class _Bridge(logging.Handler):
    """Passes messages of a library on to the node's log."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        logger = structlog.get_logger(f"orgseg.{record.name.split('.')[0]}")
        logger.log(record.levelno, record.getMessage(), kind=kind)


def configure_logs(log_format: str, level: str) -> None:
    """Configure the log of this process.

    Parameters
    ----------
    log_format : ``text`` or ``json``
    level : ``debug``, ``info``, ``warning`` or ``error``
    """
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    silence_warning_texts()
    for name in _SILENCED:
        logging.getLogger(name).handlers = [logging.NullHandler()]
        logging.getLogger(name).propagate = False
    for name, least in (("dbos", logging.WARNING), ("apscheduler", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers = [_Bridge()]
        logger.setLevel(least)
        logger.propagate = False


def silence_warning_texts() -> None:
    """Log only the kind and origin of Python warnings: texts of pydicom quote values of datasets."""
    warnings.showwarning = _log_warning


def _log_warning(  # noqa: PLR0913, PLR0917 (as in the standard library)
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del message, lineno, file, line
    structlog.get_logger("orgseg.python").debug("warning", kind=category.__name__, module=Path(filename).stem)
