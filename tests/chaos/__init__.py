"""The kill test: ``python -m tests.chaos``. Everything real, everything killed, nothing lost."""
