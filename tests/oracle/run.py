#!/usr/bin/env python3
"""Compares qc with ONNX Runtime on random models, or on the shared cases.

    python3 tests/oracle/run.py --qc target/release/qc --kind float --count 300 --seed 0

The packages it needs go into an environment of their own. Exit status: 0 when no model is wrong, 1 when one is,
4 when this machine cannot make the environment.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import environment

KINDS = ["float", "qdq", "qop", "static", "dynamic", "cases", "self"]
#: Set in the process that runs inside the environment.
INSIDE = "QC_ORACLE_INSIDE"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qc", type=Path, required=True, help="the binary of qc")
    parser.add_argument("--kind", choices=KINDS, nargs="+", default=["float", "qdq", "qop", "static", "dynamic"])
    parser.add_argument("--count", type=int, default=100, help="models of each kind")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="models at the same time")
    parser.add_argument(
        "--keep", type=Path, help="folder for failing models; `oracle` in cargo's target folder by default"
    )
    parser.add_argument("--shrink", type=int, default=10, help="how many failing models of a kind are made small")
    parser.add_argument("--venv", type=Path, default=environment.folder(), help="where the packages are")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    if not args.qc.is_file():
        print(f"{args.qc} does not exist; `cargo build --release -p qc` makes target/release/qc")
        return 2
    if os.environ.get(INSIDE) != str(args.venv):
        try:
            python = environment.python(args.venv.absolute())
        except environment.Unavailable as e:
            print(f"no environment with ONNX Runtime: {e}")
            return 4
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        os.execve(python, [str(python), *sys.argv], os.environ | {INSIDE: str(args.venv)} | threads)
    import campaign

    args.keep = args.keep or args.venv.parent / "oracle"
    return campaign.run(args)


if __name__ == "__main__":
    sys.exit(main())
