"""The shared cases: small models with stored right answers, judged by their own script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: Kinds of cases that say whether answers are right: clamps, batches, infinities, sums, valid models, accounts.
KINDS = "abcdeh"


def folder() -> Path:
    """`cases` in the folder `QC_SHARED`, or in `shared` beside the repository."""
    beside = Path(__file__).resolve().parents[3] / "shared"
    return Path(os.environ.get("QC_SHARED") or beside) / "cases"


def run(binary: Path) -> int:
    """The number of wrong kinds of cases: 0 where all pass or the folder does not exist."""
    script = folder() / "run.py"
    if not script.is_file():
        print("SKIPPED 1: the cases are not on this machine (QC_SHARED)")
        return 0
    environment = os.environ | {"QC_BIN": str(binary)}
    done = subprocess.run([sys.executable, str(script), KINDS], env=environment, capture_output=True, text=True)
    print(done.stdout + done.stderr, end="", flush=True)
    return int(done.returncode != 0)
