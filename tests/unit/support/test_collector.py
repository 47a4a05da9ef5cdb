"""Python's garbage collector does not search what lives as long as the run of the tests does."""

from __future__ import annotations

import gc
import sys


def test_modules_and_collected_tests_are_not_searched() -> None:
    assert gc.isenabled()
    assert gc.get_freeze_count() > len(gc.get_objects())
    assert not any(each is sys.modules["pytest"].__dict__ for each in gc.get_objects())
