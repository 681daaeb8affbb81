"""A Python virtual environment with the packages of `requirements.txt`, made once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"


class Unavailable(Exception):
    """This machine cannot make the environment: no venv module, or no package registry."""


def folder() -> Path:
    """Where the environment is: in cargo's target folder."""
    target = os.environ.get("CARGO_TARGET_DIR") or HERE.parent.parent / "target"
    return Path(target) / "oracle-venv"


def python(where: Path) -> Path:
    """The interpreter of the environment, which is made if it is not there or has other packages."""
    stamp = where / "requirements.sha256"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    where.parent.mkdir(parents=True, exist_ok=True)
    with open(where.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            command(sys.executable, "-m", "venv", "--clear", str(where))
            command(str(where / "bin/python"), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS))
            stamp.write_text(wanted)
    return where / "bin/python"


def command(*args: str) -> None:
    try:
        done = subprocess.run(args, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise Unavailable(str(e)) from e
    if done.returncode:
        raise Unavailable(" ".join((done.stdout + done.stderr).split())[-300:])
