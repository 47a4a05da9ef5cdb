"""``python -m orgseg_training.cli``: the same as ``orgseg-train``."""

from orgseg_training.cli.app import main

if __name__ == "__main__":
    main()
