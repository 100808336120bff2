"""Two UNets of another library, with two noise schedules, as one composition.

    pip install diffusers
    python examples/compose/unets.py

Networks of ``diffusers`` predict noise on the steps of a table. Here are two that were never
trained, one on the "linear" table and one on "squaredcos_cap_v2": each corrects, by a tenth, the
noise that is exact for images whose pixels are −1 or 1. So there is something to sample without a
download. They are experts of

    h_t = a_t / b_t^0.35

which both ends of time admit and the middle does not: between them the second table has so much
less noise than the first that no law is left. The certificate says so, the smallest bump repairs
it, and particles with weights sample what then exists. Images are 8 × 8; a run takes seconds.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from torch import Tensor

from genpath import TimeGrid
from genpath_compose.certificates import certify
from genpath_compose.foreign import ForeignExpert, noise_predictor
from genpath_compose.repairs import repair
from genpath_compose.sampling import sample

SHAPE = (1, 8, 8)
POWER = 0.35


def unet(seed: int) -> Any:
    """A small UNet with attention, in eval mode."""
    from diffusers import UNet2DModel

    torch.manual_seed(seed)
    network = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )
    return network.eval().requires_grad_(False)


def expert(seed: int, table: str, name: str) -> ForeignExpert:
    """A UNet with the signal powers of a table of its own library."""
    from diffusers import DDPMScheduler

    powers = DDPMScheduler(num_train_timesteps=1000, beta_schedule=table).alphas_cumprod

    def call(network: Any, x: Tensor, step: Tensor) -> Tensor:
        signal = powers[step][:, None, None, None]
        alpha, beta = (1 - signal).sqrt(), signal.sqrt()
        exact = (x - beta * torch.tanh(beta * x / alpha**2)) / alpha
        correction: Tensor = network(x, step).sample
        return exact + 0.1 * correction

    return noise_predictor(unet(seed), powers, SHAPE, call=call, rounding="nearest", name=name)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--particles", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.perf_counter()
    a, b = expert(0, "linear", "linear"), expert(1, "squaredcos_cap_v2", "cosine")
    composition = a / b**POWER
    print(f"{composition} on images {SHAPE}")

    certificate = certify(composition, t_end=0.99)
    print(f"certificate: {certificate.status}, {certificate.words()}")
    repaired = repair(composition, margin=0.05, t_end=0.99, shapes=("quadratic",))
    print(f"repair: {repaired.words()}")

    t, x = torch.full((4,), 0.5), torch.randn(4, *SHAPE)
    probe = torch.randn_like(x)
    found = a.fields(("velocity", "velocity_divergence", "score_divergence"), t, x, probe)
    signs = ", ".join(f"{d:.1f}" for d in found["velocity_divergence"].tolist())
    print(f"div v along probes, through fused attention: {signs}")

    grid = a.schedule.grid(options.steps).times
    result = sample(
        repaired.composition,
        options.particles,
        torch.Generator().manual_seed(0),
        grid=TimeGrid(tuple(time for time in grid if time <= 0.99)),
        sigma=0.3,
        divergence="hutchinson",
    )
    print(result.report())
    pixels = result.x
    near = float(((pixels.abs() - 1).abs() < 0.5).float().mean())
    print(f"pixels: mean {pixels.mean():.3f}, std {pixels.std():.3f}, {near:.0%} within .5 of ±1")
    print(f"{time.perf_counter() - begin:.1f} s")


if __name__ == "__main__":
    main()
