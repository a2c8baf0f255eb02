"""``python -m tests.soak --seed 7 --minutes 60``: needs docker-registry; prints what happened."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.soak.soak import Soak
from tests.support.docker_registry import DockerRegistry


def main() -> None:
    parser = argparse.ArgumentParser(description="Everything at once for a while.")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--minutes", type=float, default=60.0)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="pusher-soak-") as name:
        folder = Path(name)
        (folder / "registry").mkdir()
        with DockerRegistry(folder / "registry", secret="soak") as registry:
            soak = Soak(folder, registry, options.seed)
            soak.run(options.minutes * 60, patience=300)
        print("\n".join(f"{count:6}  {what}" for what, count in sorted(soak.figures.items())))


if __name__ == "__main__":
    main()
