"""Reading TOML files of settings: what they have in common, and one message with every problem of a file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orgseg_node.errors import OrgsegError
from orgseg_training.errors import TrainingSettingsInvalid

Positive = Annotated[int, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,39}$")]


class Settings(BaseModel):
    """A table of a file; names that it does not know are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


_Kind = TypeVar("_Kind", bound=BaseModel)


def read_settings_file(
    path: Path, kind: type[_Kind], error: type[OrgsegError] = TrainingSettingsInvalid
) -> _Kind:
    """Read a file of settings.

    Parameters
    ----------
    path : a TOML file
    kind : what it must hold
    error : what is raised if it cannot be read or does not hold it, with every problem
    """
    try:
        return kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise error(f"{path.name}: {fault}.") from fault
    except ValidationError as fault:
        lines = [f"  {'.'.join(str(p) for p in e['loc'])} {e['msg'].lower()}" for e in fault.errors()]
        raise error(f"{path.name}: {len(lines)} problems\n" + "\n".join(lines)) from fault
