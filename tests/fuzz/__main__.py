"""Damages files of every kind that is read, many times, and says how each was answered.

    python -m tests.fuzz --count=2000 --output=fuzzing.json

Each kind is read in a process of its own, so that its memory is known and a crash is a figure. A
copy that takes longer than `--limit` seconds, a traceback, an answer of several lines, a file that
is written and code that is run are faults; the exit code is 1 if there are any.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MOST_MEGABYTES = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="damaged copies of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=int, default=20, help="seconds for one copy")
    parser.add_argument("--kinds", default="", help="kinds that begin so, such as 'photo: png'")
    parser.add_argument("--output", help="JSON file of the results")
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.kind:
        return _one(given)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from tests.fuzz.readers import READERS

    results = {}
    for kind in [kind for kind in READERS if kind.startswith(given.kinds)]:
        command = [sys.executable, "-m", "tests.fuzz", f"--kind={kind}", f"--count={given.count}"]
        command += [f"--seed={given.seed}", f"--limit={given.limit}"]
        start = time.monotonic()
        ended = subprocess.run(command, capture_output=True, text=True)
        lines = ended.stdout.splitlines()
        if ended.returncode or not lines:
            said = ended.stderr.splitlines()
            last = max((i for i, line in enumerate(said) if line.startswith("copy")), default=0)
            why = " | ".join(line.strip() for line in said[last : last + 6])
            results[kind] = {"faults": [f"the process ended with {ended.returncode}: {why}"]}
        else:
            results[kind] = json.loads(lines[-1])
        results[kind]["seconds"] = round(time.monotonic() - start, 1)
        print(kind, json.dumps(results[kind]), flush=True)
        if given.output:
            Path(given.output).write_text(json.dumps(results, indent=1) + "\n")
    faults = sum(len(result["faults"]) for result in results.values())
    print(f"{len(results)} kinds, {given.count} damaged copies of each, {faults} faults")
    return 1 if faults else 0


def _one(given: argparse.Namespace) -> int:
    from tests.data import annotated
    from tests.fuzz import harness

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    watch, before = harness.Watch(), harness.peak_megabytes()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "files"
        folder.mkdir()
        os.chdir(folder)
        if given.kind.startswith("labels"):
            annotated.write(folder, {"one.png": annotated.blank()})
        result = harness.answers(
            given.kind, given.count, given.seed, folder, watch, limit=given.limit
        )
    peak = harness.peak_megabytes()
    if peak > MOST_MEGABYTES:
        result["faults"].append(f"{peak:.0f} MB of memory")
    result |= {"peak_megabytes": round(peak), "megabytes_before": round(before)}
    print(json.dumps(result | {"slowest": round(result["slowest"], 3)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
