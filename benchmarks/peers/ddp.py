#!/usr/bin/env python3
"""One rank of PyTorch DistributedDataParallel over Gloo, as torchrun or netns-cluster starts it; for compare.py.

Trains a model of this folder on random data with SGD and prints one JSON line from rank 0: the median step in
milliseconds, and what the network device sent in a step, headers included. With --hook alone nothing is reduced and
every rank prints its own.
"""

import argparse
import json
import os
import statistics
import sys
import time

HOOKS = ["none", "fp16", "bf16", "powersgd", "batched-powersgd", "alone"]


def register(ddp, hook, rank):
    """PyTorch's own communication hooks, with their defaults but for the first compressed step."""
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

    if hook == "fp16":
        ddp.register_comm_hook(None, default_hooks.fp16_compress_hook)
    elif hook == "bf16":
        ddp.register_comm_hook(None, default_hooks.bf16_compress_hook)
    elif hook != "none":
        state = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=rank, start_powerSGD_iter=2)
        batched = hook == "batched-powersgd"
        ddp.register_comm_hook(state, powerSGD_hook.batched_powerSGD_hook if batched else powerSGD_hook.powerSGD_hook)


def sent_bytes():
    """Of the devices but loopback, as this network namespace counts them."""
    with open("/proc/self/net/dev") as file:
        lines = [line.split(":") for line in file if ":" in line]
    return sum(int(counts.split()[8]) for name, counts in lines if name.strip() != "lo")


def train(options):
    import torch
    from torch import nn

    import compute

    compute.load_families()
    entry = compute.PEERS[options.model]
    torch.set_num_threads(1)
    torch.manual_seed(1)
    work = entry.build(options.batch_size)
    work.module.train()

    class Loss(nn.Module):  # DDP wants to be called itself, once a step
        def __init__(self):
            super().__init__()
            self.net = work.module

        def forward(self):
            return work.loss()

    loss_of = Loss()
    if options.hook != "alone":
        torch.distributed.init_process_group("gloo")
        # Our side keeps batch-norm buffers local, too; views spare a copy of every gradient.
        loss_of = nn.parallel.DistributedDataParallel(loss_of, broadcast_buffers=False, gradient_as_bucket_view=True)
        register(loss_of, options.hook, options.rank)
    parameters = list(work.module.parameters())
    optimizer = torch.optim.SGD(parameters, lr=compute.LEARNING_RATE, momentum=compute.MOMENTUM)
    times, before = [], 0
    for step in range(options.warmup + options.steps):
        if step == options.warmup:
            before = sent_bytes()
        begin = time.perf_counter()
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        loss.item()
        times.append((time.perf_counter() - begin) * 1e3)
    result = {
        "median_ms": statistics.median(times[options.warmup :]),
        "wire_bytes": (sent_bytes() - before) / options.steps,
        "parameters": sum(p.numel() for p in parameters),
        "torch": torch.__version__,
    }
    if options.hook == "alone" or int(os.environ.get("RANK", 0)) == 0:
        print(json.dumps(result), flush=True)
    if options.hook != "alone":
        torch.distributed.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="as vision.py and language.py call it")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--hook", choices=HOOKS, default="none")
    parser.add_argument("--rank", type=int, default=4, help="of PowerSGD (default 4)")
    parser.add_argument("--steps", type=int, default=5, help="measured steps (default 5)")
    parser.add_argument("--warmup", type=int, default=4, help="steps before them; PowerSGD needs 3 (default 4)")
    options = parser.parse_args()
    if min(options.steps, options.rank, options.batch_size) < 1 or options.warmup < 0:
        parser.error("--steps, --rank and --batch-size must be at least 1, --warmup at least 0")
    if options.hook.endswith("powersgd") and options.warmup < 3:
        parser.error("--warmup must be at least 3 with PowerSGD, whose first two steps are dense")
    try:
        train(options)
    except ModuleNotFoundError as error:
        sys.exit(f"ddp.py: {error}; run benchmarks/peers/setup.sh, then .venv-peers/bin/python {sys.argv[0]}")
    except KeyError as error:
        sys.exit(f"ddp.py: unknown model {error}")


if __name__ == "__main__":
    main()
