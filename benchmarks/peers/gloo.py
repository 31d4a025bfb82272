#!/usr/bin/env python3
"""One rank of Gloo's all-reduce, as torchrun or netns-cluster starts it; for collectives.py.

Sums float32 in place and prints a JSON line for each size from rank 0: the slowest rank's median in microseconds.
"""

import argparse
import json
import statistics
import sys
import time


def measure(sizes, iterations, warmup):
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    for size in sizes:
        x, times = torch.ones(max(1, size // 4)), []
        for _ in range(warmup + iterations):
            distributed.barrier()
            begin = time.perf_counter()
            distributed.all_reduce(x)
            times.append((time.perf_counter() - begin) * 1e6)
            x.fill_(1)
        slowest = torch.tensor([statistics.median(times[warmup:])], dtype=torch.float64)
        distributed.all_reduce(slowest, distributed.ReduceOp.MAX)
        if distributed.get_rank() == 0:
            print(json.dumps({"bytes": size, "p50_us": slowest.item()}), flush=True)
    distributed.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", type=int, nargs="+", help="bytes")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    options = parser.parse_args()
    if min(options.sizes) < 4 or options.iterations < 1 or options.warmup < 0:
        parser.error("sizes are at least 4 bytes, --iterations at least 1, --warmup at least 0")
    try:
        measure(options.sizes, options.iterations, options.warmup)
    except ModuleNotFoundError as error:
        sys.exit(f"gloo.py: {error}; run benchmarks/peers/setup.sh, then .venv-peers/bin/python {sys.argv[0]}")


if __name__ == "__main__":
    main()
