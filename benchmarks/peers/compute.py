#!/usr/bin/env python3
"""Compute alone, one thread: our models against the same ones in PyTorch's Python.

Both sides do forward, backward and an SGD step on one random batch (ours: build/benchmarks/peers-compute), in
processes of their own that take turns; a figure is the median of a side's runs, each of which is the median of
its steps. `ratio` is Python's time by ours. Beside them stands acp-train's whole step on one rank, with its
data loader and its gradient hooks.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FAMILIES = ["vision", "language"]  # one file each, where it is there; they register their models with @peer
LEARNING_RATE, MOMENTUM = 0.001, 0.9


@dataclass
class Work:
    """A model of this side and what it trains on."""

    module: Any  # torch.nn.Module
    loss: Callable[[], Any]  # the training loss of one batch, a scalar tensor


@dataclass
class Peer:
    name: str
    model: str  # what acp-train calls it
    batch_size: int
    weight_decay: float
    arguments: tuple  # more arguments for acp-train
    build: Callable[[int], Work]  # from the batch size


PEERS: dict[str, Peer] = {}


def peer(name, *, model, batch_size, weight_decay=0.0, arguments=()):
    """Registers a function from the batch size to Work; SGD with momentum 0.9 steps on both sides."""

    def register(build):
        PEERS[name] = Peer(name, model, batch_size, weight_decay, tuple(arguments), build)
        return build

    return register


def load_families():
    for family in FAMILIES:
        if (HERE / f"{family}.py").exists():
            importlib.import_module(family)


def run_here(entry, steps, warmup):
    """Trains the Python side in this process: milliseconds a step, and the model's size."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    work = entry.build(entry.batch_size)
    work.module.train()
    parameters = list(work.module.parameters())
    optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=entry.weight_decay)
    times = []
    for _ in range(warmup + steps):
        begin = time.perf_counter()
        optimizer.zero_grad()
        loss = work.loss()
        loss.backward()
        optimizer.step()
        loss.item()
        times.append((time.perf_counter() - begin) * 1e3)
    return {"median": statistics.median(times[warmup:]), "parameters": sum(p.numel() for p in parameters)}


def environment():
    variables = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    for name in ("RANK", "WORLD_SIZE", "ACP_BACKEND", "ACP_TRACE"):
        variables.pop(name, None)
    return variables


def run(command):
    command = [str(word) for word in command]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"compute.py: this failed: {' '.join(command)}\n{done.stderr}")
    return done.stdout


def run_python(entry, steps, warmup):
    command = [sys.executable, __file__, "--here", entry.name, "--steps", steps, "--warmup", warmup]
    return json.loads(run(command))


def run_cpp(program, entry, steps, warmup):
    command = [program, "--model", entry.model, "--batch-size", entry.batch_size, "--steps", steps]
    command += ["--warmup", warmup, "--lr", LEARNING_RATE, "--momentum", MOMENTUM]
    return json.loads(run(command + ["--weight-decay", entry.weight_decay]))


def run_train(program, entry, steps, warmup):
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [program, "--model", entry.model, "--data", "synthetic", "--batch-size", entry.batch_size]
        command += ["--optimizer", "sgd", "--lr", LEARNING_RATE, "--momentum", MOMENTUM]
        command += ["--weight-decay", entry.weight_decay, "--lr-schedule", "constant", "--iterations", steps]
        command += ["--warmup", warmup, "--compressor", "none", "--no-eval", "--quiet", "--json", file.name]
        run(command + list(entry.arguments))
        return {"median": json.loads(Path(file.name).read_text())["step_ms"]["median"]}


def compare(programs, entry, steps, warmup, rounds):
    python, cpp, train = [], [], []
    for _ in range(rounds):
        python.append(run_python(entry, steps, warmup))
        cpp.append(run_cpp(programs / "peers-compute", entry, steps, warmup))
        train.append(run_train(programs / "acp-train", entry, steps, warmup))
    if cpp[0]["parameters"] != python[0]["parameters"]:
        sys.exit(
            f"compute.py: {entry.name} has {python[0]['parameters']} parameters in Python and "
            f"{cpp[0]['parameters']} in C++: not the same model"
        )
    row = {"model": entry.model, "batch_size": entry.batch_size, "parameters": cpp[0]["parameters"]}
    for name, runs in ("python_ms", python), ("cpp_ms", cpp), ("train_ms", train):
        row[name] = statistics.median(each["median"] for each in runs)
    row["ratio"] = row["python_ms"] / row["cpp_ms"]
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="which; all that are known without any")
    parser.add_argument("--steps", type=int, default=20, help="measured steps of a run (default 20)")
    parser.add_argument("--warmup", type=int, default=5, help="steps before them (default 5)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each side (default 5)")
    parser.add_argument("--build", default=str(ROOT / "build"), help="build folder (default build)")
    parser.add_argument("--json", metavar="FILE", help="append one line per model")
    parser.add_argument("--here", metavar="MODEL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        load_families()
    except ModuleNotFoundError as error:
        sys.exit(f"compute.py: {error}; run benchmarks/peers/setup.sh, then .venv-peers/bin/python {sys.argv[0]}")
    names = [options.here] if options.here else options.models or list(PEERS)
    for name in names:
        if name not in PEERS:
            parser.error(f"unknown model {name}; known: {', '.join(PEERS)}")
    if min(options.steps, options.rounds) < 1 or options.warmup < 0:
        parser.error("--steps and --rounds must be at least 1, --warmup at least 0")
    if options.here:
        print(json.dumps(run_here(PEERS[options.here], options.steps, options.warmup)))
        return
    programs = Path(options.build) / "benchmarks"
    for program in "peers-compute", "acp-train":
        if not (programs / program).exists():
            parser.error(f"{programs / program} is not there: run scripts/build.sh -- benchmarks/{program}")

    print(f"{'model':<36} {'batch':>5} {'parameters':>12} {'Python ms':>10} {'C++ ms':>9} {'ratio':>6} {'acp-train ms':>13}")
    for name in names:
        row = compare(programs, PEERS[name], options.steps, options.warmup, options.rounds)
        print(
            f"{row['model']:<36} {row['batch_size']:>5} {row['parameters']:>12,} {row['python_ms']:>10.2f} "
            f"{row['cpp_ms']:>9.2f} {row['ratio']:>6.3f} {row['train_ms']:>13.2f}",
            flush=True,
        )
        if options.json:
            with open(options.json, "a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    sys.modules["compute"] = sys.modules["__main__"]  # the families import this file's registry
    main()
