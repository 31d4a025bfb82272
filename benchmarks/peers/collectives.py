#!/usr/bin/env python3
"""All-reduces of ours, Gloo's and Open MPI's on the same emulated hosts, taking turns; scripts/compare_collectives.sh
starts it.

A way to reduce is `tcp:ALGORITHM` or `mpi:ALGORITHM` (ours, as acp-comm has it), `openmpi:own` (MPI_Allreduce as Open
MPI chooses its algorithm), `openmpi:N` (its algorithm number N) or `gloo`. Beside them iperf3 shows what TCP carries on the same links with
both directions at work.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

from compare import Refusal, busy_seconds, own_seconds, rate_bits, run_script

ROOT = Path(__file__).resolve().parent.parent.parent
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def number_of(size):
    """64, 1K, 100M: bytes."""
    try:
        return int(size[:-1]) * UNITS[size[-1]] if size[-1:] in UNITS else int(size)
    except ValueError:
        raise Refusal(f"sizes: {size}: as in 64, 1K or 100M") from None


class Bench:
    def __init__(self, options):
        self.options = options
        self.cluster = [str(ROOT / "scripts/cluster.sh"), "--prefix", options.prefix]

    def command(self, way, size):
        kind, _, rest = way.partition(":")
        iterations = self.iterations(size)
        run = self.cluster + ["run", "-n", self.options.ranks, "--timeout", self.options.timeout]
        if kind == "gloo" and not rest:
            own = [ROOT / ".venv-peers/bin/python", ROOT / "benchmarks/peers/gloo.py", size]
            return run + ["--direct", "--", *own, "--iterations", iterations]
        if kind == "openmpi" and (rest == "own" or rest.isdigit()):
            chosen = ["--mca", "coll_tuned_use_dynamic_rules", "1", "--mca", "coll_tuned_allreduce_algorithm", rest]
            program = Path(self.options.build) / "benchmarks/peers-mpi-allreduce"
            return run + (chosen if rest != "own" else []) + ["--", program, size, iterations, 3]
        if kind not in ("tcp", "mpi") or not rest:
            raise Refusal(f'ways: "{way}" is none of tcp:ALGORITHM, mpi:ALGORITHM, openmpi:own, openmpi:NUMBER, gloo')
        own = [Path(self.options.build) / "benchmarks/acp-comm", "--op", "all_reduce", "--placement", "in", "--quiet"]
        own += ["--min", size, "--max", size, "--iterations", iterations, "--warmup", 3, "--json", "-"]
        own += ["--backend", kind, "--algorithm", rest]
        return run + (["--direct"] if kind == "tcp" else []) + ["--", *own]

    def iterations(self, size):
        """About half a second of the link, 5 to 100."""
        seconds = max(1e-4, 2 * 8 * size / rate_bits(self.options.rate))
        return max(5, min(100, int(0.5 / seconds)))

    def measure(self, way, size):
        words = [str(word) for word in self.command(way, size)]
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode != 0 or not lines:
            raise Refusal(f"{way} failed with {done.returncode}: {' '.join(words)}\n{done.stderr[-2000:]}")
        if lines[-1].get("wrong"):
            raise Refusal(f"{way}: {lines[-1]['wrong']} wrong numbers: {' '.join(words)}")
        return lines[-1]["p50_us"]

    def iperf(self):
        """Bit/s in the slower direction while both are at work."""
        status = json.loads(subprocess.run(self.cluster + ["status", "--json"], check=True, capture_output=True).stdout)
        address = status["hosts"][0]["addr"]
        on = [*self.cluster, "exec"]
        server = subprocess.Popen(on + ["0", "--", "iperf3", "-s", "-1"], stdout=subprocess.DEVNULL)
        time.sleep(0.5)
        client = on + ["1", "--", "iperf3", "-c", address, "--bidir", "-t", "3", "--json"]
        done = subprocess.run(client, capture_output=True, text=True)
        server.wait(timeout=20)
        if done.returncode != 0:
            raise Refusal(f"iperf3 failed: {done.stdout[-500:]}{done.stderr[-500:]}")
        end = json.loads(done.stdout)["end"]
        return min(end["sum_received"]["bits_per_second"], end["sum_received_bidir_reverse"]["bits_per_second"])


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"ways": "tcp:auto tcp:ring gloo mpi:auto openmpi:own openmpi:4", "sizes": "1K 1M 10M",
                          "hosts": "4", "ranks": "1", "rate": "1gbit", "rounds": "3", "timeout": "200",
                          "build": str(ROOT / "build"), "prefix": f"c{os.getpid() % 100000}r"}.items():
        parser.add_argument(f"--{name}", default=os.environ.get(name) or default, help=f"default {default}")
    parser.add_argument("--dry", action="store_true", default=os.environ.get("dry", "0") not in ("", "0"))
    options = parser.parse_args()
    for name in "hosts", "ranks", "rounds":
        if not getattr(options, name).isdigit() or not 1 <= int(getattr(options, name)) <= 64:
            raise Refusal(f"{name}={getattr(options, name)}: a number from 1 to 64")
    rate_bits(options.rate)
    return options


def main():
    options = parse()
    bench = Bench(options)
    ways, sizes = options.ways.split(), [number_of(size) for size in options.sizes.split()]
    if options.dry:
        for way in ways:
            print(*bench.command(way, sizes[0]))
        return
    for way in ways:
        program = next(word for word in bench.command(way, 4) if isinstance(word, Path))
        if not program.exists():
            raise Refusal(f"{program} is not there: run scripts/build.sh and benchmarks/peers/setup.sh")
    subprocess.run(bench.cluster + ["up", options.hosts, options.rate], check=True, stdout=subprocess.DEVNULL)
    times, carried = {}, []
    busy, own, begin = busy_seconds(), own_seconds(), time.monotonic()
    try:
        for _ in range(int(options.rounds)):
            if int(options.hosts) > 1:
                carried.append(bench.iperf())
            for size in sizes:
                for way in ways:
                    times.setdefault((way, size), []).append(bench.measure(way, size))
    finally:
        subprocess.run(bench.cluster + ["down"], stdout=subprocess.DEVNULL)
    others = max(0, busy_seconds() - busy - (own_seconds() - own)) / (time.monotonic() - begin)
    world = int(options.hosts) * int(options.ranks)
    print(f"{options.hosts} hosts x {options.ranks}, {options.rate}, median of {options.rounds} rounds; others used {others:.2f} cores")
    if carried:
        print(f"iperf3, both directions at once: {statistics.median(carried) / 1e6:.1f} Mbit/s in each")
    print(f"{'bytes':>10} " + "".join(f"{way:>17}" for way in ways) + "   (us, and bus bandwidth by the link)")
    for size in sizes:
        cells = []
        for way in ways:
            micros = statistics.median(times[way, size])
            bus = 8 * size * 2 * (world - 1) / world / micros * 1e6 / rate_bits(options.rate)
            cells.append(f"{micros:>11.0f} {bus:5.3f}")
        print(f"{size:>10} " + "".join(cells), flush=True)


if __name__ == "__main__":
    run_script("compare_collectives.sh", main)
