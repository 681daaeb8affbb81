"""Runs a model by qc, compiled in the process of `qc run` or to a shared object first, or what qc writes of it by ONNX Runtime."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from judge import reference
from models.net import Array

#: Seconds after which a run counts as hanging; models here take milliseconds.
TIME_LIMIT = 60


@dataclass(frozen=True)
class Options:
    """What a model is run with."""

    flags: tuple[str, ...] = ()
    cpu: str | None = None
    threads: int = 1
    shared_object: bool = False
    #: Batches with code of their own in a shared object.
    batches: str | None = None
    #: Whether qc writes the model as ONNX, which ONNX Runtime runs.
    written: bool = False

    def commands(self) -> list[list[str]]:
        """The arguments of qc for `model.onnx` and `in.npz`, command by command."""
        if self.written:
            return [["quantize", "model.onnx", "-q", "-o", "written.onnx", *self.flags]]
        run = ["-q", "-i", "in.npz", "-o", "out.npz", "--threads", str(self.threads)]
        if not self.shared_object:
            return [["run", "model.onnx", *run, *self.flags]]
        more = ["--batch", self.batches] if self.batches else []
        compile_ = ["compile", "model.onnx", "-q", "-o", "model.so", *self.flags, "--target-cpu", "fat", *more]
        return [compile_, ["run", "model.so", *run]]

    def __str__(self) -> str:
        """The commands as a user would type them."""
        cap = [f"QC_CPU={self.cpu}"] if self.cpu else []
        return " && ".join(" ".join([*cap, "qc", *map(shlex.quote, c)]) for c in self.commands())


@dataclass
class Outcome:
    """`status` is `answer`, `refused`, `blamed` (a refusal that calls the model invalid) or `broken`."""

    status: str
    said: str = ""
    outputs: dict[str, Array] = field(default_factory=dict)


class Engine:
    """The binary of qc with a folder for its files."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self.binary = binary
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def command(self, options: Options, *args: str) -> tuple[int, str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("QC_")}
        if options.cpu:
            environment["QC_CPU"] = options.cpu
        try:
            done = subprocess.run(
                [str(self.binary), *args],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIME_LIMIT,
                env=environment,
                cwd=self.folder,
            )
        except subprocess.TimeoutExpired:
            return -1000, f"not finished after {TIME_LIMIT} s"
        return done.returncode, " ".join((done.stderr + "\n" + done.stdout).split())

    def run(self, model: bytes, feed: dict[str, Array], options: Options) -> Outcome:
        """One run of a model on arrays."""
        (self.folder / "model.onnx").write_bytes(model)
        np.savez(self.folder / "in.npz", **feed)  # type: ignore[arg-type]
        (self.folder / "out.npz").unlink(missing_ok=True)
        for command in options.commands():
            status, said = self.command(options, *command)
            if status:
                return refusal(status, said)
        if options.written:
            return self.run_written(feed, options)
        try:
            with np.load(self.folder / "out.npz") as arrays:
                own = [name for name in arrays.files if not name.endswith(".rows")]
                return Outcome("answer", said, {name: arrays[name] for name in own})
        except (OSError, ValueError) as e:
            return Outcome("broken", f"exit 0 without readable outputs: {e}")

    def run_written(self, feed: dict[str, Array], options: Options) -> Outcome:
        """What ONNX Runtime computes of the file, written again for one batch where it is for another one."""
        path = self.folder / "written.onnx"
        model = onnx.load(path)
        for port in model.graph.input:
            sizes = [d.dim_value or None for d in port.type.tensor_type.shape.dim]
            if sizes and sizes[0] not in (None, feed[port.name].shape[0]):
                more = ("--batch", str(feed[port.name].shape[0] // sizes[0]))
                status, said = self.command(options, *options.commands()[0], *more)
                if status:
                    return refusal(status, said)
                model = onnx.load(path)
                break
        try:
            onnx.checker.check_model(model, full_check=True)
            given = {port.name: feed[port.name] for port in model.graph.input}
            results = reference.run(model, given)
            # Truth values as qc itself gives them.
            return Outcome("answer", "", {k: v.astype(np.uint8) if v.dtype == bool else v for k, v in results.items()})
        except Exception as e:  # noqa: BLE001 - whatever is wrong with it, the file is qc's
            return Outcome("broken", f"what is written is no model: {e}")


def refusal(status: int, said: str) -> Outcome:
    """What an exit status other than 0 means."""
    if status == 3:
        return Outcome("blamed" if "not valid" in said else "refused", said)
    if status == 2 and ("batch" in said or "no op type" in said or "no node" in said):
        return Outcome("refused", said)
    what = f"signal {-status}" if status < 0 else f"exit status {status}"
    return Outcome("broken", f"{what}: {said}")
