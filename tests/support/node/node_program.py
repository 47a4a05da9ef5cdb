"""A node under test as a program: ``python -m tests.support.node.node_program NODE.toml SECONDS [CHILD...]``.

It is the real node; only the child that contours is `node_child`, taking SECONDS per job, or
another module with its arguments.
"""

from __future__ import annotations

import sys
from pathlib import Path

from orgseg_node.errors import OrgsegError
from orgseg_node.node.config.load import load_config
from orgseg_node.node.service import run_node
from orgseg_node.web.http_server import HttpServer
from orgseg_node.web.pages.routes import Pages

if __name__ == "__main__":
    pages = Pages()
    try:
        run_node(
            load_config(Path(sys.argv[1])),
            child_command=(
                sys.executable,
                "-m",
                *(sys.argv[3:] or ("tests.support.node.node_child", sys.argv[2])),
            ),
            tick_s=0.2,
            path=Path(sys.argv[1]),
            entry_points=(HttpServer(pages.routes, before_stop=pages.close),),
        )
    except OrgsegError as error:
        print(error, file=sys.stderr)  # noqa: T201 (a program speaks)
        sys.exit(error.exit_status)
