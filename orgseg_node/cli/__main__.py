"""``python -m orgseg_node.cli``: the same as ``orgseg``."""

from orgseg_node.cli.app import main

if __name__ == "__main__":
    main()
