"""Many seeds: makes the model of each, runs it in several ways, keeps what fails."""

from __future__ import annotations

import argparse
import multiprocessing
import re
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

import cases
from judge.engine import Engine, Options
from judge.verdict import Expectation, Verdict, judge
from models import dynamic, floats, qdq, qop, static
from models.net import Array, Model
from shrink import Case, shrink

#: Makers of models, each with a number that keeps its seeds apart from those of the others.
KINDS: dict[str, tuple[int, Callable[[np.random.Generator], Model]]] = {
    "float": (1, floats.make),
    "qdq": (2, qdq.make),
    "qop": (3, qop.make),
    "static": (4, static.make),
    "dynamic": (5, dynamic.make),
}
TIERS = ["scalar", "avx2", "avxvnni", "avx512vnni"]
#: Models drawn for a seed until ONNX Runtime runs one.
ATTEMPTS = 20
#: Different ways in which every model is run.
WAYS = 2


@dataclass
class Result:
    """What became of a seed."""

    seed: int
    failures: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    runs: int = 0


def draw(kind: str, seed: int) -> tuple[Model, Case, np.random.Generator]:
    """The model of a seed with inputs: the first of its attempts that ONNX Runtime runs."""
    number, make = KINDS[kind]
    last: Exception | None = None
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([seed, number, attempt])
        try:
            model = make(rng)
            feed = model.feed(rng, int(rng.choice([1, 2, 3, 8])) if model.symbolic else 1)
            expected = Expectation(model.proto, feed, seed)
            expected.check()
            if not model.agrees(expected.values):
                raise ValueError("other shapes than ONNX infers")
        except Exception as e:  # noqa: BLE001 - a draw that its judge cannot run is no model
            last = e
            continue
        return model, Case(model.proto, feed), rng
    raise RuntimeError(f"no model of {kind} seed {seed}: {last}")


def ways(model: onnx.ModelProto, quantized: bool, rng: np.random.Generator) -> list[Options]:
    """Options to run a model with: the default and others."""
    found = []
    for i in range(WAYS):
        flags: tuple[str, ...] = ()
        if quantized and (i or rng.random() < 0.2):
            types = sorted({n.op_type for n in model.graph.node if n.op_type not in ("Constant", "Identity")})
            some = [str(t) for t in rng.choice(types, size=min(2, len(types)), replace=False)]
            named = [n.name for n in model.graph.node if n.name] or ["*"]
            choices: list[tuple[str, ...]] = [
                ("--exact-qdq",),
                ("--precision", "fp32"),
                ("--guard", "none"),
                ("--keep-fp32", f"op:{some[0]}"),
                ("--keep-fp32", str(rng.choice(named))),
                ("--quantize-ops", ",".join(some)),
            ]
            if any(n.op_type.startswith("DynamicQuantize") for n in model.graph.node):
                # That takes the integers out, which neighbours do not.
                choices.remove(("--precision", "fp32"))
            flags = choices[int(rng.integers(len(choices)))]
        shared = bool(rng.random() < 0.4)
        cpu = str(rng.choice(TIERS)) if rng.random() < 0.3 else None
        batches = str(rng.choice(["1", "1,4", "2,8", "3"])) if shared and rng.random() < 0.3 else None
        found.append(Options(flags, cpu, int(rng.choice([1, 1, 2])), shared, batches))
    floats = not quantized or rng.random() < 0.3
    return [*found, Options(("--precision", "fp32") if floats else (), written=True)]


def examine(kind: str, seed: int, engine: Engine, keep: Path, make_small: bool) -> Result:
    """Runs the model of a seed."""
    _, case, rng = draw(kind, seed)
    expected = Expectation(case.model, case.feed, seed)
    result = Result(seed)
    for options in ways(case.model, expected.quantized, rng):
        verdict = judge(engine, expected, options)
        result.runs += 1
        if verdict.status == "refused":
            result.refusals.append(reason(verdict.words))
        elif verdict.failed and not result.failures:
            folder = keep / f"{kind}-{seed}"
            small = smaller(case, seed, engine, options, verdict) if make_small else case
            save(folder, small, case, seed, options, verdict)
            batch = next((a.shape[0] for a in case.feed.values() if a.ndim), 0)
            what = f"{kind} seed {seed}, batch {batch}: {verdict.status}: {verdict.words[:400]}"
            result.failures.append(f"{what}\n    {options}\n    {folder}: {ops_of(small.model)}")
    return result


def smaller(case: Case, seed: int, engine: Engine, options: Options, verdict: Verdict) -> Case:
    def fails(c: Case) -> bool:
        try:
            return judge(engine, Expectation(c.model, c.feed, seed), options).status == verdict.status
        except Exception:  # noqa: BLE001 - a cut that ONNX Runtime cannot run is no model
            return False

    return shrink(case, fails)


def save(folder: Path, small: Case, full: Case, seed: int, options: Options, verdict: Verdict) -> None:
    """The small model with its inputs and right outputs, and the model it came from."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, case in (("model", small), ("full", full)):
        onnx.save(case.model, folder / f"{name}.onnx")
        arrays: dict[str, Array] = Expectation(case.model, case.feed, seed).literal
        prefix = "" if case is small else "full_"
        np.savez(folder / f"{prefix}in.npz", **case.feed)  # type: ignore[arg-type]
        np.savez(folder / f"{prefix}expected.npz", **arrays)  # type: ignore[arg-type]
    (folder / "README").write_text(f"{options}\n{verdict.status}: {verdict.words}\n")


def ops_of(model: onnx.ModelProto) -> str:
    names = [n.op_type for n in model.graph.node]
    return " ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def reason(words: str) -> str:
    """A refusal without names, shapes and numbers, so that equal ones can be counted."""
    words = re.sub(r"^error: \S+: ", "", words)
    words = re.sub(r'node "[^"]*" ', "", words)
    words = re.sub(r'"[^"]*"|`[^`]*`', "..", words)
    return re.sub(r"\[[^\]]*\]|-?\d+(\.\d+)?(e-?\d+)?", "#", words)[:110]


@dataclass
class Worker:
    """What a process keeps between models."""

    engine: Engine
    keep: Path
    #: How many failing models it may still make small.
    left: int


WORKERS: list[Worker] = []


def begin(binary: Path, folder: Path, keep: Path, left: int) -> None:
    warnings.simplefilter("ignore")
    own = folder / multiprocessing.current_process().name.replace(":", "_")
    WORKERS.append(Worker(Engine(binary, own), keep, left))


def work(task: tuple[str, int]) -> Result:
    kind, seed = task
    worker = WORKERS[0]
    result = examine(kind, seed, worker.engine, worker.keep, worker.left > 0)
    worker.left -= bool(result.failures)
    return result


def run_kind(kind: str, args: argparse.Namespace, folder: Path) -> int:
    """All seeds of a kind; the number of wrong ones."""
    start = time.monotonic()
    seeds = range(args.seed, args.seed + args.count)
    wrong, runs, refusals, refused = 0, 0, Counter[str](), 0
    own = (args.qc.absolute(), folder, args.keep.absolute(), -(-args.shrink // args.jobs))
    with multiprocessing.get_context("spawn").Pool(args.jobs, begin, own) as pool:
        for result in pool.imap(work, ((kind, s) for s in seeds)):
            wrong += bool(result.failures)
            runs += result.runs
            refused += bool(result.refusals)
            refusals.update(set(result.refusals))
            for line in result.failures:
                print(line, flush=True)
    for text, count in refusals.most_common(8):
        print(f"  refused {count}: {text}")
    seconds = time.monotonic() - start
    print(f"{kind}: {args.count} models: {wrong} wrong, {refused} refused, {runs} runs in {seconds:.0f} s", flush=True)
    return wrong


def run(args: argparse.Namespace) -> int:
    """All kinds that were asked for; exit status."""
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="qc-oracle") as folder:
        for kind in args.kind:
            if kind == "cases":
                wrong += cases.run(args.qc.absolute())
            elif kind == "self":
                import self_check

                wrong += self_check.run(args.count)
            else:
                wrong += run_kind(kind, args, Path(folder))
    return 1 if wrong else 0
