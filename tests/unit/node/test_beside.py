"""Files made in a fork are those that would have been made here; what goes wrong there is made good here."""

from __future__ import annotations

import os
from typing import Any

import pytest

from orgseg_node.node.beside import Beside


def test_the_files_come_from_another_process() -> None:
    files = Beside(lambda: {"pid": str(os.getpid()).encode(), "large": b"x" * 5_000_000}).files()
    assert len(files["large"]) == 5_000_000
    assert int(files["pid"]) != os.getpid()


@pytest.mark.parametrize("after", [0, 1], ids=["at once", "in the middle"])
def test_a_process_that_dies_costs_time_only(after: int) -> None:
    here = os.getpid()

    class Dying(dict[str, bytes]):
        def items(self) -> Any:  # type: ignore[override]
            for number, item in enumerate(super().items()):
                if number >= after and os.getpid() != here:
                    os._exit(9)
                yield item

    files = Beside(lambda: Dying(a=b"1", b=b"2")).files()
    assert {name: files[name] for name in files} == {"a": b"1", "b": b"2"}


def test_an_error_is_raised_where_the_files_are_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> dict[str, bytes]:
        raise ValueError("no picture")

    drawing = Beside(fails)
    with pytest.raises(ValueError, match="no picture"):
        drawing.files()
    capfd.readouterr()


def test_on_one_core_they_are_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert int(Beside(lambda: {"pid": str(os.getpid()).encode()}).files()["pid"]) == os.getpid()
