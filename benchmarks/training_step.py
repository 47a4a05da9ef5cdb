"""One training step on a CPU in both precisions and memory layouts: why the short trainer uses channels last.

Prints the fastest of several steps in seconds for each network width, and the ratio of the layouts.
Run: ``python benchmarks/training_step.py [--threads N] [--repeats N]``
"""

from __future__ import annotations

import argparse
import time

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet

PATCH = (2, 1, 32, 40, 40)
WIDTHS = ([8, 16, 32, 64], [12, 24, 48, 96], [16, 32, 64, 128])


def step_seconds(features: list[int], layout: torch.memory_format, *, bf16: bool, repeats: int) -> float:
    """Forward, backward and update of nnU-Net's plain network.

    Parameters
    ----------
    features : channels of each stage of the network
    layout : memory layout of weights and batch
    bf16 : whether to use bfloat16 autocast
    repeats : number of steps

    Returns
    -------
    seconds of the fastest step
    """
    stages = len(features)
    network = PlainConvUNet(
        1, stages, features, torch.nn.Conv3d, 3, [1] + [2] * (stages - 1), 2, 2, 2,
        conv_bias=True, norm_op=torch.nn.InstanceNorm3d, norm_op_kwargs={"affine": True, "eps": 1e-5},
        nonlin=torch.nn.LeakyReLU, nonlin_kwargs={"inplace": True}, deep_supervision=True,
    ).to(memory_format=layout)  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters())
    batch = torch.randn(PATCH).to(memory_format=layout)
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            outputs = network(batch)
        sum(output.float().square().mean() for output in outputs).backward()
        optimizer.step()
        best = min(best, time.perf_counter() - started)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("features              precision  channels first  channels last  last / first")
    for features in WIDTHS:
        for bf16 in (True, False):
            first, last = (
                step_seconds(features, layout, bf16=bf16, repeats=options.repeats)
                for layout in (torch.contiguous_format, torch.channels_last_3d)
            )
            name = "bfloat16" if bf16 else "float32"
            print(f"{features!s:<22}{name:<11}{first:>14.3f}{last:>15.3f}{last / first:>14.2f}")


if __name__ == "__main__":
    main()
