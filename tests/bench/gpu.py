"""A guided window of the full-size model at one step, on one GPU: the published way, stock diffusers, ours.

    python tests/bench/gpu.py --json gpu.json         # svd-xt-1.1's sizes, random weights: made for one H100
    python tests/bench/gpu.py --tiny --device cpu     # the same rows at toy size: shows that it runs, no more

Ours gets one lever after the other, then the pieces that save memory, then the approximations over a whole
denoising loop. Each row has the median time of a pass, how far its prediction is from the published way's of
the same precision, the peak of allocated memory, and executed FLOP over the device's peak (MFU). Rows that
fail, or for which `--minutes` are not enough, say so. It has not been run on a GPU yet.
"""

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn.attention import sdpa_kernel

from posedance.pipeline.evaluate.bench.bench import machine
from posedance.pipeline.evaluate.bench.svd import (
    APPROXIMATIONS,
    forward_tflop,
    full_generator,
)
from posedance.stages.generate import Settings
from posedance.stages.svd.denoiser import unconditional
from posedance.stages.svd.files.tiny import tiny_random
from posedance.stages.svd.generator import SvdGenerator
from posedance.stages.svd.guidance import guide
from posedance.stages.svd.levers.collapse import collapse
from posedance.stages.svd.levers.fast import (
    attention_backends,
    attention_shapes,
    compile_regions,
    convolve_channels_last,
    flatten_convolutions,
)
from posedance.stages.svd.levers.feed_forward import chunk_feed_forward
from posedance.stages.svd.published import step_windows
from posedance.stages.svd.sampling import ControlCache, Sampler
from posedance.stages.svd.schedule import can_align, euler_step

H100_TFLOPS = 989.4
"""Dense bfloat16 peak of an H100 SXM, by its data sheet."""
PUBLISHED_32, PUBLISHED_16 = "published, float32", "published, bfloat16, eager"
STOCK = "stock diffusers UNet, bfloat16, compiled, no control"
LEVERS = (
    "ours: control once, for one half",
    "+ cross-attention over one token collapsed",
    "+ temporal convolutions in two dimensions",
    "+ channels last",
    "+ attention kernel of the device",
    "+ blocks compiled",
)
NO_CONTROL = "all levers, no control"
LEAN = "all levers, feed-forward in 4 parts"


@dataclass
class Row:
    """One way of predicting; seconds are the median of a pass."""

    name: str
    seconds: float | None = None
    peak_gib: float | None = None
    max_rel_diff: float | None = None
    mfu: float | None = None
    note: str = ""


@dataclass
class Bench:
    """What all rows share."""

    generator: SvdGenerator
    settings: Settings
    pixels: np.ndarray
    latents: torch.Tensor
    repeats: int
    deadline: float
    peak_tflops: float
    expected: torch.Tensor | None = None

    @property
    def device(self) -> torch.device:
        return self.generator.device

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def row(
        self, name: str, call: Callable[[], torch.Tensor], tflop: float | None, repeats: int | None = None
    ) -> Row:
        """Warm up once, time `repeats` calls, compare with `expected`."""
        row = Row(name)
        if time.monotonic() > self.deadline:
            row.note = "left out: no time"
            return row
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        times = []
        try:
            result = call()
            for _ in range(self.repeats if repeats is None else repeats):
                self.synchronize()
                started = time.perf_counter()
                call()
                self.synchronize()
                times.append(time.perf_counter() - started)
        except RuntimeError as error:  # no memory, no compiler, no kernel
            row.note = f"failed: {' '.join(str(error).split())[:120]}"
            return row
        row.seconds = statistics.median(times)
        if self.device.type == "cuda":
            row.peak_gib = torch.cuda.max_memory_allocated(self.device) / 2**30
        if self.expected is not None and result.shape == self.expected.shape:
            scale = self.expected.abs().max()
            row.max_rel_diff = ((result - self.expected).abs().max() / scale).item()
        if tflop is not None:
            row.mfu = tflop / row.seconds / self.peak_tflops
        return row

    @contextmanager
    def sampler(self) -> Iterator[Sampler]:
        """The networks as diffusers has them, with the control module attached."""
        published = replace(self.settings, schedule="published")
        with self.generator.sampler(self.pixels[0], self.pixels, published) as sampler, torch.no_grad():
            yield sampler

    def tflop(self, *, collapsed: bool) -> float:
        """Of the UNet in a guided pass; the control module's own is not counted."""
        frames, height, width = self.pixels.shape[:3]
        config = {k: v for k, v in self.generator.unet.config.items() if not k.startswith("_")}
        return 2 * forward_tflop(width, height, frames, config=config, collapsed=collapsed)


def rivals(bench: Bench) -> Iterator[Row]:
    """The published order of work in both precisions, and diffusers' UNet compiled."""
    generator, published = bench.generator, bench.tflop(collapsed=False)

    def pass_of(sampler: Sampler) -> torch.Tensor:
        return next(step_windows(sampler, 0, bench.latents))

    for name, dtype, repeats in ((PUBLISHED_32, torch.float32, 1), (PUBLISHED_16, torch.bfloat16, None)):
        for network in generator.named_networks().values():
            torch.nn.Module.to(network, dtype=dtype)
        with bench.sampler() as sampler:
            bench.expected = None
            yield bench.row(name, lambda s=sampler: pass_of(s), published, repeats)
            if dtype == torch.bfloat16:
                bench.expected = pass_of(sampler)


def stock(bench: Bench) -> Row:
    """diffusers' own UNet under torch.compile, both guidance halves, without any control."""
    unet, frames = bench.generator.unet, len(bench.pixels)
    height, width = bench.latents.shape[-2:]

    def empty(*shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=unet.dtype, device=bench.device)

    inputs = (
        empty(2, frames, unet.config["in_channels"], height, width),
        torch.ones((), device=bench.device),
        empty(2, 1, unet.config["cross_attention_dim"]),
        torch.ones(2, 3, device=bench.device),
    )
    compiled = torch.compile(unet, dynamic=False)
    with torch.no_grad():
        row = bench.row(STOCK, lambda: compiled(*inputs, return_dict=False)[0], bench.tflop(collapsed=False))
    row.max_rel_diff = None  # another question, another answer
    torch.compiler.reset()
    return row


def ours(bench: Bench, compiling: bool) -> Iterator[Row]:
    """Our order of work, lever by lever; then without control, and in small pieces."""
    unet, controlnext = bench.generator.unet, bench.generator.controlnext
    plain, collapsed = bench.tflop(collapsed=False), bench.tflop(collapsed=True)
    with bench.sampler() as sampler, ExitStack() as stack:
        plan = bench.generator.plan_memory(len(bench.pixels), *bench.pixels.shape[2:0:-1], bench.settings)
        control = ControlCache(controlnext, bench.pixels, plan.keep_control_bytes, plan.control_chunk)
        with torch.no_grad():
            control(1, sampler.sigmas[1].to(bench.device), sampler.windows[0].control)

        def ours_pass() -> torch.Tensor:
            sampler.control = copy(control)  # of another step: it keeps what does not depend on time
            v = sampler.predict(0, 0, bench.latents)
            return euler_step(bench.latents, v, sampler.sigmas[0], sampler.sigmas[1])

        yield bench.row(LEVERS[0], ours_pass, plain)
        stack.callback(collapse(unet).detach)
        yield bench.row(LEVERS[1], ours_pass, collapsed)
        stack.callback(flatten_convolutions(unet).detach)
        yield bench.row(LEVERS[2], ours_pass, collapsed)
        for network in (unet, controlnext):
            convolve_channels_last(network)
        yield bench.row(LEVERS[3], ours_pass, collapsed)
        shapes = attention_shapes(unet, len(bench.pixels), *bench.latents.shape[-2:])
        backends = attention_backends(bench.device, unet.dtype, shapes)
        stack.enter_context(sdpa_kernel(backends, set_priority=True))
        row = bench.row(LEVERS[4], ours_pass, collapsed)
        row.note = row.note or f"in this order: {', '.join(backend.name for backend in backends)}"
        yield row
        if compiling:
            sampler.compiled = compile_regions(unet)
            stack.callback(sampler.compiled.detach)
            yield bench.row(LEVERS[5], ours_pass, collapsed)

        def without_control() -> torch.Tensor:
            guidance = sampler.guidance.scale(0, len(bench.pixels))
            assert guidance is not None
            noisy, sigma = bench.latents[None].to(bench.device), sampler.sigmas[:1].to(bench.device)
            cond, uncond = (
                sampler.denoiser(noisy, sigma, known, None)[0].cpu()
                for known in (sampler.conditioning, unconditional(sampler.conditioning))
            )
            return guide(uncond, cond, guidance)

        row = bench.row(NO_CONTROL, without_control, collapsed)
        row.max_rel_diff = None
        yield row
        stack.callback(chunk_feed_forward(unet, 4).detach)
        yield bench.row(LEAN, ours_pass, collapsed)


def approximations(bench: Bench, compiling: bool) -> Iterator[Row]:
    """Whole denoising loops of one window: exact, and with each approximate lever."""
    generator = bench.generator
    generator.compile = compiling
    settings = bench.settings

    def loop(chosen: Settings) -> torch.Tensor:
        return generator.denoise(bench.pixels[0], bench.pixels, chosen)

    bench.expected = None
    yield bench.row(f"exact, {settings.steps} steps", lambda: loop(settings), None, 1)
    bench.expected = loop(settings)
    for name, changes in APPROXIMATIONS.items():
        if "align_your_steps" in changes and not can_align(generator.scheduler):
            continue
        yield bench.row(name, lambda c=changes: loop(replace(settings, **c)), None, 1)


def ratios(rows: Sequence[Row]) -> dict[str, float]:
    """The bars: how many times faster or leaner the last lever's row is than each of the others."""
    by_name = {row.name: row for row in rows}
    best = next((by_name[n] for n in reversed(LEVERS) if n in by_name and by_name[n].seconds), None)
    found: dict[str, float] = {}
    if best is None or best.seconds is None:
        return found
    for key, name in (("shipped", PUBLISHED_32), ("same_precision", PUBLISHED_16), ("stock", STOCK)):
        row = by_name.get(name)
        if row is not None and row.seconds is not None:
            found[f"{key}_ratio"] = row.seconds / best.seconds
            if key == "shipped" and row.peak_gib and best.peak_gib:
                found["memory_ratio"] = row.peak_gib / best.peak_gib
    bare = by_name.get(NO_CONTROL)
    if bare is not None and bare.seconds is not None:
        found["control_overhead"] = best.seconds / bare.seconds
    if best.mfu is not None:
        found["mfu"] = best.mfu
    return found


def table(rows: Sequence[Row]) -> str:
    """One line for each row."""
    lines = [f"{'':<52}{'s':>9}{'peak GiB':>10}{'rel. diff':>11}{'MFU':>7}"]
    for r in rows:
        cells = (
            "" if r.seconds is None else f"{r.seconds:.3f}",
            "" if r.peak_gib is None else f"{r.peak_gib:.1f}",
            "" if r.max_rel_diff is None else f"{r.max_rel_diff:.1e}",
            "" if r.mfu is None else f"{r.mfu:.3f}",
        )
        widths = (9, 10, 11, 7)
        padded = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        lines.append(f"{r.name:<52}{padded}  {r.note}".rstrip())
    return "\n".join(lines)


def commit() -> str:
    """The commit that is measured."""
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return run.stdout.strip()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="toy size")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="default: not with --tiny")
    parser.add_argument("--minutes", type=float, default=20, help="rows after that are left out")
    parser.add_argument("--peak-tflops", type=float, default=H100_TFLOPS, help="of the device, in bfloat16")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    compiling = not options.tiny if options.compile is None else options.compile
    device = torch.device(options.device)
    if options.tiny:
        generator, (width, height, frames), steps, repeats = tiny_random(), (32, 32, 3), 2, 1
        generator.device = device
    else:
        generator, (width, height, frames), steps, repeats = full_generator(device), (576, 1024, 24), 25, 5
    pixels = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), np.uint8)
    settings = replace(
        generator.settings(), steps=steps, window_size=frames, window_overlap=0, guidance_scale=3.0
    )
    latents = generator.initial_latents(frames, width, height, settings)
    deadline = time.monotonic() + 60 * options.minutes
    bench = Bench(generator, settings, pixels, latents, repeats, deadline, options.peak_tflops)
    rows: list[Row] = []

    def keep(found: Iterator[Row]) -> None:
        for row in found:
            rows.append(row)
            print(table([row]).splitlines()[1], flush=True)  # noqa: T201

    keep(rivals(bench))
    if compiling:
        keep(iter([stock(bench)]))
    keep(ours(bench, compiling))
    keep(approximations(bench, compiling))
    report = {
        "commit": commit(),
        "machine": machine(),
        "size": [width, height, frames],
        "rows": [asdict(row) for row in rows],
        "ratios": ratios(rows),
    }
    print(f"\n{table(rows)}\n")  # noqa: T201
    print("\n".join(f"{key}: {value:.2f}" for key, value in ratios(rows).items()))  # noqa: T201
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
