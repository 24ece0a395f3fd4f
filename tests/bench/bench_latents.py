"""What the latents lose where they wait in fewer bytes than float32, between steps or when they are finished.

    python tests/bench/bench_latents.py            # the demo's 4 steps: 5 minutes of a CPU core

For the models demo and tiny-random, whose noise levels are those of Stable Video Diffusion: each way against
float32, as the largest relative difference of the latents and as PSNR of the decoded frames. The last row is
for comparison: networks in bfloat16, as on a GPU, with latents in float32.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from posedance.datasets.puppets.render import make_character, make_motion, reference_pose, render
from posedance.stages.generate import Settings
from posedance.stages.models import load_generator
from posedance.stages.pose.render import draw_control_frames
from posedance.stages.quality import psnr
from posedance.stages.svd.generator import SvdGenerator
from posedance.stages.types import PoseSequence

FRAMES = 14
KINDS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def inputs(generator: SvdGenerator) -> tuple[np.ndarray, np.ndarray]:
    """A drawn character, uint8 [H, W, 3], and the control frames of a dance, uint8 [N, H, W, 3]."""
    width, height = generator.defaults.width, generator.defaults.height
    character, motion = make_character(5), make_motion(1, Fraction(15))
    still = render(character, reference_pose(5), 0, width, height)
    shown = [still, *(render(character, motion, frame, width, height) for frame in range(FRAMES))]
    keypoints, scores = (np.stack([getattr(s, name) for s in shown]) for name in ("keypoints", "scores"))
    poses = PoseSequence(keypoints, scores, (width, height), Fraction(15))
    canvas = generator.defaults.control_canvas
    return still.image, np.stack(list(draw_control_frames(poses, width, height, canvas)))


def rounded_between(kind: torch.dtype, sigmas: Tensor, unit: bool) -> Callable[[int, Tensor], None]:
    """A callback that rounds the latents after each step; with `unit`, scaled to unit deviation."""

    def keep(step: int, latents: Tensor) -> None:
        scale = (sigmas[step] ** 2 + 1).sqrt() if unit else torch.ones(())
        latents.copy_((latents / scale).to(kind).float() * scale)

    return keep


def compare(generator: SvdGenerator, settings: Settings) -> list[str]:
    """One line for each way."""
    reference, control = inputs(generator)

    def make(on_step: Callable[[int, Tensor], None] | None = None) -> Tensor:
        return generator.denoise(reference, control, settings, on_step=on_step)

    def frames(latents: Tensor) -> np.ndarray:
        return np.stack(list(generator.decode(latents, settings)))

    exact = make()
    shown = frames(exact)
    ways: dict[str, Tensor] = {}
    for name, kind in KINDS.items():
        for unit in (False, True):
            keep = rounded_between(kind, generator.sigmas(settings), unit)
            ways[f"{name} between steps{', unit deviation' if unit else ''}"] = make(keep)
        ways[f"{name} when finished"] = exact.to(kind).float()
    lines = [line(name, latents, exact, frames(latents), shown) for name, latents in ways.items()]
    generator.to("cpu", torch.bfloat16)
    latents = make()
    lines.append(line("networks in bfloat16", latents, exact, frames(latents), shown))
    generator.to("cpu", torch.float32)
    return lines


def line(name: str, latents: Tensor, exact: Tensor, made: np.ndarray, shown: np.ndarray) -> str:
    difference = ((latents - exact).abs().max() / exact.abs().max()).item()
    same = np.array_equal(made, shown)
    return f"  {name:<40}{difference:>10.1e}{'same pixels' if same else f'{psnr(made, shown):8.1f} dB':>14}"


def main() -> None:
    for name in ("demo", "tiny-random"):
        generator = load_generator(name)
        for steps in (4, 25):
            settings = replace(generator.settings(), steps=steps)
            print(f"{name}, {steps} steps, guidance {settings.guidance_scale:g}", flush=True)  # noqa: T201
            print("\n".join(compare(generator, settings)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
