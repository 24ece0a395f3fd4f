"""How long enlarging takes on a CPU, told before it is begun."""

from ..character.painter import settled
from .options import UpscaleOptions

TILE_S = 0.5
"""Seconds for a tile of 128 pixels of the shipped model, in one step, on two cores: a rough figure, for who
would wait for hours (measured: 1.2 s of processor time where others wanted the cores too)."""


def about_enlarging(
    options: UpscaleOptions, factor: int, size: tuple[int, int], frames: int, device: str
) -> str:
    """A note on the time for so many frames of `size` (width, height); empty on a GPU or by another model."""
    import torch

    from ...stages.image.upscale import tiles

    on_gpu = torch.cuda.is_available() if device == "auto" else device != "cpu"
    if on_gpu or options.method != "controlnext" or options.base is not None:
        return ""
    asked = settled(options, "upscale")
    assert asked.tile and asked.overlap is not None
    count = len(tiles(factor * size[1], factor * size[0], asked.tile, min(asked.overlap, asked.tile // 2)))
    minutes = frames * count * TILE_S / 60
    time = f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.0f} hours"
    return (
        f"enlarging {frames} frames, {count} tiles each, takes about {time} on two cores of a CPU; "
        "--upscaler.method lanczos takes seconds"
    )
