"""`bench`: what is gained over the published way, as ratios, both sides measured in turns in one run.

Nothing here is a result of its own: the ratios depend on the machine, which should be idle. What each exact
lever was expected to gain, and what it gained on two shared CPU cores (one thread, processor time, medians,
the UNet with 320 channels in its first level at 64x64, 8 frames; encoding by the wall clock). On a GPU none
has been measured; `tests/bench/gpu.py` does that.

| lever | expected | here | rel. difference |
|---|---|---|---|
| all of the order of work, whole loop | 1.16 to 1.29 | 1.19 | 4e-6 |
| control once per frame and step, its constant part once | 2.6 to 3.0 of the module | 2.64 | 2e-6 |
| cross-attention over one token collapsed | 1.04, 76.75 -> 73.88 TFLOP | 1.06 a call, 73.878 counted | 0 |
| temporal convolutions in two dimensions | a layout | 1.04 a call, 1.35 of decoding | 1e-6 |
| feed-forward in 4 parts, for memory | 1.0, a third less memory | 1.00, 9.25 -> 6.12 GB counted | 0 |
| convolutions channels last | GPU: part of 1.4 | 1.01, so not used on a CPU | 3e-6 |
| blocks compiled | GPU: most of 1.4 | 1.05, after 21 s for a tiny model | 2e-6 |
| attention kernel by device | GPU: 1.3 to 1.5 of attention | a CPU has one | |
| control frames drawn directly | 1.5 and more | 8.7 | 0 |
| one encode, while decoding | 5 and more, waited for | 12.1 | lossy |
| decoding beside the next denoising | GPU: 1.03 by FLOP, and the encoding | off on a CPU | 0 |
| one step after averaging, not one for each window | smaller messages | in the first row | 8e-8 |

Left out: the temporal blend folded into the convolution before it (torch.compile fuses it), FlashAttention 3
(a package of its own), linear layers in 8 bits, people detected at every n-th frame only (rtmlib's
estimators), and a small decoder for previews (latents as colours need no download).
"""

import logging
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ....datasets.puppets.render import make_character, make_motion, render
from ....stages.media.encode import VideoWriter
from ....stages.media.video import Clip, read_frames
from ....stages.models import load_generator, why_unusable
from ....stages.threads import usable_cpus
from ...animate.settings import settings_of
from ...config import AnimateConfig, EncodeConfig
from ...cost import MEASURED, ONE_WINDOW
from ...doctor import devices, versions
from ..figures import write_figures
from .compare import Comparison
from .drawing import compare_drawing

if TYPE_CHECKING:
    from ....stages.svd.generator import SvdGenerator

logger = logging.getLogger(__name__)

Comparisons = dict[str, Comparison]

DECODE_S = 0.1
"""Seconds between frames that leave the VAE's decoder, assumed: at 576x1024 it has 7 TFLOP a frame to do."""

SCHEDULE, CONTROL, DRAW, ENCODE = "denoising loop", "control module", "drawing", "encoding, waited for"


def bench(json_file: Path | None = None) -> str:
    """Measure everything and return the table; also write it to `json_file` if one is named."""
    from . import svd as measure

    comparisons: dict[str, Comparison] = {}

    def compared(name: str, compare: Callable[[], Comparison]) -> None:
        logger.info(f"bench: {name}")
        comparisons[name] = compare()

    with one_thread():
        compared(SCHEDULE, measure.compare_schedules)
        compared(CONTROL, measure.compare_control)
    compared(DRAW, compare_drawing)
    frames = dancing_frames(48)
    compared(ENCODE, lambda: compare_encoding(frames))
    compared("encoding, processor time", lambda: compare_encoding(frames, 0, time.process_time))
    logger.info("bench: one forward pass, counted")
    tflop = measure.forward_tflop()
    generators = {"random weights": measure.small_generator()}
    if not why_unusable("demo"):
        generators["demo"] = load_generator("demo")
    approximations: dict[str, Comparison] = {}
    for name, generator in generators.items():
        logger.info(f"bench: approximations, {name}")
        levers = measure.compare_approximations(generator) | preset_rows(generator) | preview_row(generator)
        approximations |= {f"{lever}, {name}": comparison for lever, comparison in levers.items()}
    on_gpu = gpu_rows()

    report = {
        "schedule_ratio": comparisons[SCHEDULE].ratio,
        "control_ratio": comparisons[CONTROL].ratio,
        "max_rel_diff": max(comparisons[name].max_rel_diff for name in (SCHEDULE, CONTROL)),
        "forward_tflop": tflop,
        "draw_ratio": comparisons[DRAW].ratio,
        "encode_ratio": comparisons[ENCODE].ratio,
        "exact": as_json(comparisons),
        "approximate": as_json(approximations),
        "gpu": as_json(on_gpu),
        "machine": machine(),
    }
    write_figures(json_file, report)
    lines = table({**comparisons, **on_gpu}, "published s")
    lines.append(f"{'one forward of the UNet, 24 frames, counted':<48}{tflop:>12.2f} TFLOP")
    lines += ["", *table(approximations, "exact s")]
    return "\n".join(lines)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: processor time also counts threads that wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def preset_rows(generator: "SvdGenerator", steps: int = 25, guidance_scale: float = 3.0) -> Comparisons:
    """Each preset against `default`, with the model's own steps, or as many as SVD's where it has none."""
    from .svd import compare_settings

    if generator.name == "tiny-random":
        defaults = replace(generator.defaults, steps=steps, guidance_scale=guidance_scale)
        generator = replace(generator, defaults=defaults)
    exact = settings_of(generator, AnimateConfig())
    return {
        f"preset {preset}": compare_settings(
            generator, exact, settings_of(generator, AnimateConfig(preset=preset))
        )
        for preset in ("preview", "best")
    }


def preview_row(generator: "SvdGenerator", num_frames: int = 9) -> Comparisons:
    """Pictures of latents without the decoder."""
    from .svd import compare_preview

    size = generator.defaults.width, generator.defaults.height
    pictures = np.stack(dancing_frames(num_frames, *size))
    return {"latents as colours, not decoded": compare_preview(generator, pictures)}


def table(comparisons: dict[str, Comparison], published: str) -> list[str]:
    """One line for each comparison, under a heading."""
    lines = [f"{'':<48}{published:>12}{'ours s':>10}{'ratio':>8}{'max rel. diff':>15}"]
    for name, c in comparisons.items():
        numbers = f"{c.published_s:>12.3f}{c.ours_s:>10.3f}{c.ratio:>8.2f}{c.max_rel_diff:>15.1e}"
        lines.append(f"{name:<48}{numbers}")
    return lines


def as_json(comparisons: dict[str, Comparison]) -> dict[str, dict[str, float]]:
    """Times, ratio and difference by name."""
    return {name: asdict(c) | {"ratio": c.ratio} for name, c in comparisons.items()}


def machine() -> dict[str, Any]:
    """What a reader must know of where it was measured."""
    import torch

    threads = {"processors": usable_cpus(), "threads": torch.get_num_threads()}
    return {"system": platform.platform(), "devices": devices(), "versions": versions()} | threads


def dancing_frames(num_frames: int, width: int = 576, height: int = 1024) -> list[np.ndarray]:
    """A drawn dancer, uint8 [height, width, 3] each."""
    character, motion = make_character(0), make_motion(0, Fraction(15))
    return [render(character, motion, frame, width, height).image for frame in range(num_frames)]


def compare_encoding(
    frames: list[np.ndarray], decode_s: float = DECODE_S, clock: Callable[[], float] = time.perf_counter
) -> Comparison:
    """Encoding frames that leave a decoder one by one, `decode_s` apart: what it adds to the decoding.

    The published way collects all frames and then encodes them twice with x264's preset slow; ours encodes
    them once, with our defaults, as they come.
    """
    height, width = frames[0].shape[:2]
    ours = EncodeConfig()

    def write(path: Path, crf: int, preset: str, pace: float) -> float:
        started, slept = clock(), 0.0
        with VideoWriter(path, width, height, Fraction(15), crf=crf, preset=preset) as writer:
            for frame in frames:
                if pace:
                    before = clock()
                    time.sleep(pace)
                    slept += clock() - before
                writer.write(frame)
        return clock() - started - slept

    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("published.mp4", "again.mp4", "ours.mp4")]
        published_s = sum(write(file, ours.crf, "slow", 0) for file in files[:2])
        ours_s = write(files[2], ours.crf, ours.preset, decode_s)
        pairs = zip(read_frames(files[0], Clip()), read_frames(files[2], Clip()), strict=True)
        difference = max(int(np.abs(a.astype(int) - b).max()) for a, b in pairs) / 255
    return Comparison(published_s, ours_s, difference)


def gpu_rows() -> dict[str, Comparison]:
    """One guided window of the full networks, with random bfloat16 weights, where there is a GPU."""
    import torch

    if not torch.cuda.is_available():
        return {}
    from .svd import compare_windows, full_generator

    logger.info("bench: the full networks on the GPU")
    return {ONE_WINDOW: compare_windows(full_generator(), *MEASURED)}
