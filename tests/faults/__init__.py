"""The fault table: ``python -m tests.faults``. Faults, what is expected, what was seen."""
