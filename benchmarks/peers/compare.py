#!/usr/bin/env python3
"""Steps of ours and of PyTorch DDP on the same emulated hosts, taking turns; scripts/compare_peers.sh starts it.

A variant is one way to train: `alone` (every rank computes and none talks), `torch-alone` (the same in Python), `ddp`
and `ddp:HOOK` (fp16, bf16, powersgd, batched-powersgd), and `acp:SPEC[@FUSION]` (a compressor as acp-train takes it,
with --fusion-mb FUSION). A round runs each variant once; each run is one line in the JSON file.
"""

import argparse
import json
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# Ethernet frames that TCP fills at MTU 1500, with time stamps: 1448 of 1514 bytes are ours.
FRAME, PAYLOAD = 1514, 1448


@dataclass
class Model:
    acp: str  # as acp-train calls it
    peer: str  # as vision.py and language.py do
    batch_size: int
    steps: int
    repeats: int = 7


MODELS = {
    "resnet18": Model("resnet18-cifar:image=32,classes=10", "resnet18-cifar", 16, 5),
    "lstm": Model("lstm-lm:layers=2,hidden=650,vocab=10000,seq=35", "lstm-lm", 10, 5),
    "resnet50": Model("resnet50:image=96,classes=1000", "resnet50", 4, 5),
    "bert": Model("bert-base:head=pretrain,vocab=30528,seq=64", "bert-base", 2, 3, 3),
    # For a look at the script itself.
    "mnist": Model("mnist", "", 8, 3, 1),
}


class Refusal(Exception):
    pass


def busy_seconds():
    """Of all processes of the machine."""
    with open("/proc/stat") as file:
        user, nice, system = map(int, file.readline().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    """Of this process and of those that it has waited for."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)


def rate_bits(rate):
    """1gbit, 100mbit, 250000kbit: bits a second."""
    found = re.fullmatch(r"([0-9.]+)([kmg]?)bit", rate.lower())
    if not found:
        raise Refusal(f"rate={rate}: as in 1gbit, 100mbit or 250000kbit, or auto")
    return float(found[1]) * {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}[found[2]]


class Bench:
    def __init__(self, options):
        self.options = options
        self.cluster = [str(ROOT / "scripts/cluster.sh"), "--prefix", options.prefix]
        self.train = Path(options.build) / "benchmarks/acp-train"
        self.python = ROOT / ".venv-peers/bin/python"
        self.rate = None

    def command(self, model, variant):
        """The ranks' own command, and the options of `cluster.sh run` before it."""
        name, _, rest = variant.partition(":")
        steps = ["--warmup", self.options.warmup]
        if name in ("ddp", "torch-alone"):
            if not model.peer:
                raise Refusal(f"{variant}: PyTorch's side has no such model")
            hook = "alone" if name == "torch-alone" else rest or "none"
            own = [self.python, ROOT / "benchmarks/peers/ddp.py", model.peer, "--hook", hook]
            return own + ["--batch-size", model.batch_size, "--steps", self.steps(model)] + steps
        if name not in ("acp", "alone") or (name == "acp") != bool(rest):
            raise Refusal(f'variants: "{variant}" is none of alone, torch-alone, ddp, ddp:HOOK, acp:SPEC[@FUSION]')
        compressor, _, fusion = rest.partition("@")
        own = [self.train, "--model", model.acp, "--data", "synthetic", "--batch-size", model.batch_size]
        own += ["--optimizer", "sgd", "--lr", 0.001, "--momentum", 0.9, "--weight-decay", 0, "--clip", 0]
        own += ["--lr-schedule", "constant", "--no-eval", "--quiet", "--json", "-", "--iterations", self.steps(model)]
        own += ["--compressor", compressor or "none", "--fusion-mb", fusion or self.options.fusion]
        return own + ["--backend", "local" if name == "alone" else self.options.backend] + steps

    def steps(self, model):
        return self.options.steps or model.steps

    def settings(self, name):
        """What runs that are compared with each other have alike, but for the link."""
        options, model = self.options, MODELS[name]
        return {"model": name, "hosts": options.hosts, "batch_size": model.batch_size, "steps": self.steps(model),
                "warmup": options.warmup, "backend": options.backend, "fusion": options.fusion}

    def repeats(self, model):
        return self.options.repeats or model.repeats

    def launch(self, model, variant):
        direct = variant.startswith("ddp") or variant.endswith("alone") or self.options.backend == "tcp"
        words = self.cluster + ["run", "--hosts", self.options.hosts, "--timeout", self.options.timeout]
        words += ["--direct"] if direct else []
        return [str(word) for word in [*words, "--", *self.command(model, variant)]]

    def measure(self, name, variant):
        """One run: a dictionary for the JSON file."""
        model = MODELS[name]
        words = self.launch(model, variant)
        busy, own, begin = busy_seconds(), own_seconds(), time.monotonic()
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        wall = time.monotonic() - begin
        others = busy_seconds() - busy - (own_seconds() - own)
        if done.returncode != 0:
            raise Refusal(f"{name}, {variant} failed with {done.returncode}: {' '.join(words)}\n{done.stderr[-2000:]}")
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if not lines:
            raise Refusal(f"{name}, {variant} printed no result: {' '.join(words)}")
        result = {"variant": variant, "rate": self.rate}
        result.update(self.settings(name), others_cores=max(0, others / wall))
        if variant.startswith("ddp") or variant == "torch-alone":
            result["step_ms"] = max(line["median_ms"] for line in lines)
            result["wire_bytes"] = lines[0]["wire_bytes"]
        else:
            result["step_ms"] = max(line["step_ms"]["median"] for line in lines)
            result["wire_bytes"] = lines[0]["bytes_sent_per_step"] * FRAME / PAYLOAD
            for key in "compute", "exposed_comm", "encode", "decode":
                result[key] = lines[0]["step_ms"][key]
            result["fusion_mb"] = lines[0].get("fusion_mb")
        if variant.endswith("alone"):
            result["wire_bytes"] = 0
        return result

    def set_rate(self, rate):
        subprocess.run(self.cluster + ["rate", rate], check=True)
        self.rate = rate

    def choose_rate(self, name):
        """The link on which S-SGD in float32 takes 5 times as long as its computing alone."""
        self.set_rate("1gbit")
        alone = self.measure(name, "alone")["step_ms"] / 1e3
        wire = 8 * self.measure(name, "acp:none")["wire_bytes"]
        seconds = 5 * alone  # on the wire; what precedes the first message comes on top
        for _ in range(2):
            self.set_rate(f"{max(1, round(wire / seconds / 1e3))}kbit")
            before = self.measure(name, "acp:none")["step_ms"] / 1e3 - seconds
            seconds = 5 * alone - before
            if seconds <= 0:
                raise Refusal(f"rate=auto: a step of {name} takes {before:.3f} s beside its time on the wire, more than "
                              f"5 times its computing ({alone:.3f} s): there is no such link on this machine")
        self.set_rate(f"{max(1, round(wire / seconds / 1e3))}kbit")


def read_runs(path):
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def title(run, world):
    return f"{run['model']}, {world} hosts, {run['rate']}, batch {run['batch_size']}"


def table(runs):
    """The lines of one model's table."""
    by_variant = {}
    for run in runs:
        by_variant.setdefault(run["variant"], []).append(run)
    step = {variant: statistics.median(run["step_ms"] for run in each) for variant, each in by_variant.items()}
    wire = {variant: statistics.median(run["wire_bytes"] for run in each) for variant, each in by_variant.items()}
    first = runs[0]
    samples = 1e3 * first["batch_size"] * first["hosts"]
    alone = step.get("alone")
    hooks = [step[variant] for variant in step if variant.startswith("ddp:")]
    lines = [f"{'variant':<26} {'runs':>4} {'ms/step':>9} {'samples/s':>10} {'MB sent':>8} {'of bound':>8} {'/ S-SGD':>8} "
             f"{'/ hook':>7} {'others':>6}"]
    for variant, ms in step.items():
        bound = max(alone, 1e3 * 8 * wire[variant] / rate_bits(first["rate"])) / ms if alone else None
        dense = step["acp:none"] / ms if "acp:none" in step else None
        hook = min(hooks) / ms if hooks else None
        ratios = ["-" if value is None else f"{value:.2f}" for value in (bound, dense, hook)]
        others = statistics.mean(run["others_cores"] for run in by_variant[variant])
        lines.append(f"{variant:<26} {len(by_variant[variant]):>4} {ms:>9.1f} {samples / ms:>10.2f} "
                     f"{wire[variant] / 1e6:>8.2f} {ratios[0]:>8} {ratios[1]:>8} {ratios[2]:>7} {others:>6.2f}")
    return lines


def against_best(runs, variant):
    """`variant`'s step by that of the fastest other one, and which it is."""
    steps = {}
    for run in runs:
        steps.setdefault(run["variant"], []).append(run["step_ms"])
    steps = {name: statistics.median(each) for name, each in steps.items()}
    own = steps.pop(variant, None)
    if own is None or not steps:
        return f"{variant}: nothing to compare it with"
    best = min(steps, key=steps.get)
    size = next(run["fusion_mb"] for run in runs if run["variant"] == variant)
    size = "one bucket" if size is None else f"{size:.3g} MB"
    return f"{variant} ({size}): {own / steps[best]:.3f} of the step of {best}"


def print_tables(runs, best):
    print("of bound: max(compute alone, bytes on the wire / link) by the step; / S-SGD, / hook: the step of acp:none and of\n"
          "the fastest DDP hook by this one; others: cores that other processes used meanwhile")
    groups = {}
    for run in runs:
        groups.setdefault((run["model"], run["hosts"], run["rate"], run["batch_size"]), []).append(run)
    for each in groups.values():
        print("\n" + title(each[0], each[0]["hosts"]))
        print("\n".join(table(each)), flush=True)
        if best:
            print(against_best(each, best))


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def add(name, default, kind=str):
        """An option that the variable of the same name gives, too."""
        given = os.environ.get(name) or default
        try:
            parser.add_argument(f"--{name}", type=kind, default=kind(given), help=f"default {default or 'none'}")
        except ValueError:
            raise Refusal(f"{name}={given}: must be a whole number") from None

    add("models", "resnet18 lstm resnet50 bert")
    add("variants", "")
    add("hosts", 2, int)
    add("rate", "1gbit")
    add("steps", 0, int)
    add("warmup", 4, int)
    add("repeats", 0, int)
    add("fusion", "25")
    add("backend", "tcp")
    add("budget", 0, int)
    add("timeout", 300, int)
    add("build", str(ROOT / "build"))
    add("json", str(ROOT / "results/peers.json"))
    add("prefix", f"p{os.getpid() % 100000}r")
    parser.add_argument("--dry", action="store_true", default=os.environ.get("dry", "0") not in ("", "0"))
    parser.add_argument("--best", metavar="VARIANT", help="also print this variant's step by the fastest other's")
    parser.add_argument("--table", action="store_true", help="only print what the JSON file has")
    options = parser.parse_args()
    regime = options.rate == "auto"
    options.variants = (options.variants or (
        "alone acp:none acp:bf16 acp:powersgd:rank=4 acp:acpsgd:rank=4" if regime else
        "alone ddp ddp:fp16 ddp:bf16 ddp:powersgd acp:none acp:bf16 acp:powersgd:rank=4 acp:acpsgd:rank=4")).split()
    options.models = options.models.split()
    for name in options.models:
        if name not in MODELS:
            raise Refusal(f'models: unknown "{name}"; known: {" ".join(MODELS)}')
    if not regime:
        rate_bits(options.rate)
    if not 1 <= options.hosts <= 64:
        raise Refusal(f"hosts={options.hosts}: 1 to 64")
    if min(options.steps, options.repeats, options.budget, options.warmup) < 0:
        raise Refusal("steps, repeats, warmup and budget are whole numbers from 0")
    return options


def run_all(bench):
    """Every model's rounds, as far as the file lacks them and the budget reaches."""
    options, path = bench.options, Path(bench.options.json)
    end = time.monotonic() + (options.budget or float("inf"))
    for name in options.models:
        asked = options.rate
        if asked == "auto":
            known = [run["rate"] for run in read_runs(path) if run["model"] == name and run["hosts"] == options.hosts
                     and run.get("regime")]
            if known:
                bench.set_rate(known[-1])
            else:
                bench.choose_rate(name)
        elif asked != bench.rate:
            bench.set_rate(asked)
        for turn in range(bench.repeats(MODELS[name])):
            for variant in options.variants:
                like = bench.settings(name) | {"variant": variant, "rate": bench.rate}
                there = sum(all(run.get(key) == like[key] for key in like) for run in read_runs(path))
                if there > turn:
                    continue
                if time.monotonic() > end:
                    print(f"compare_peers.sh: {options.budget} s are over; the same command goes on from here")
                    return
                try:
                    result = bench.measure(name, variant)
                except Refusal as error:
                    if not variant.startswith("ddp"):
                        raise
                    # Its PowerSGD hooks sum from callbacks whose order Gloo does not keep, and now and then fail.
                    print(f"compare_peers.sh: left out: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
                    continue
                result["regime"] = asked == "auto"
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a") as file:
                    file.write(json.dumps(result) + "\n")


def main():
    options = parse()
    bench = Bench(options)
    path = Path(options.json)
    # Whatever is to be refused is refused before anything runs.
    runs = [(MODELS[name], variant) for name in options.models for variant in options.variants]
    programs = {Path(bench.command(*each)[0]) for each in runs}
    if options.dry:
        for each in runs:
            print(f"{bench.repeats(each[0])} x", " ".join(bench.launch(*each)))
        return
    if not options.table:
        for program in programs:
            if not program.exists():
                raise Refusal(f"{program} is not there: run scripts/build.sh and benchmarks/peers/setup.sh")
        first = "1gbit" if options.rate == "auto" else options.rate
        subprocess.run(bench.cluster + ["up", str(options.hosts), first], check=True, stdout=subprocess.DEVNULL)
        bench.rate = first
        try:
            run_all(bench)
        finally:
            subprocess.run(bench.cluster + ["down"], stdout=subprocess.DEVNULL)

    def asked(run):
        return (run["model"] in options.models and run["variant"] in options.variants
                and bench.settings(run["model"]).items() <= run.items()
                and (run["regime"] if options.rate == "auto" else run["rate"] == options.rate))

    wanted = [run for run in read_runs(path) if asked(run)]
    print_tables(wanted, options.best)


def run_script(name, body):
    """`body` with one line for what is wrong; the cluster is taken down whatever ends it."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        body()
    except Refusal as error:
        sys.stderr.write(f"{name}: {error}\n")
        sys.exit(2)
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"{name}: {' '.join(map(str, error.cmd))} ended with {error.returncode}\n")
        sys.exit(1)


if __name__ == "__main__":
    run_script("compare_peers.sh", main)
