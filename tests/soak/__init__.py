"""The soak: ``python -m tests.soak``. Many small series through one node that must not grow."""
