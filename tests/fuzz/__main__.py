"""``python -m tests.fuzz [--minutes N] [--seed N] [READER...]``: other inputs each time; failures stay."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.fuzz.readers import readers
from tests.fuzz.run import attempt, inputs, keep


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("reader", nargs="*")
    asked = parser.parse_args()
    seed = random.randrange(1 << 32) if asked.seed is None else asked.seed
    with tempfile.TemporaryDirectory() as folder:
        chosen = [r for r in readers(Path(folder)) if not asked.reader or r.name in asked.reader]
    failures = 0
    for reader in chosen:
        chance = random.Random(f"{seed} {reader.name}")
        ends = time.monotonic() + 60 * asked.minutes / len(chosen)
        count, met = 0, set()
        for data in inputs(reader, chance):
            if time.monotonic() > ends:
                break
            count += 1
            try:
                attempt(reader, data)
            except Exception as error:
                frame = traceback.extract_tb(error.__traceback__)[-1]
                where = (type(error), frame.filename, frame.lineno)
                if where not in met:  # one input for each fault
                    met.add(where)
                    print(f"{reader.name}: {keep(reader, data)}")
                    traceback.print_exc()
        failures += len(met)
        print(f"{reader.name}: {count} inputs, {len(met)} failures (--seed {seed})", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
