"""Enlarge frames under control of their low-resolution selves, tile by tile.

So that nothing flickers, each place of the picture has its own noise, the same in every frame. A tile is
painted from its Lanczos-enlarged self; neighbouring tiles overlap and are blended by ramps; and the whole is
corrected so that it is the frame again when it is made small.
"""

from typing import Any

import cv2
import numpy as np

from ..controlnext.model import ControlNeXt
from ..errors import ConfigError
from .conditions import low_resolution, to_tensor
from .paint import PaintSettings, paint

MULTIPLE = 16
"""Sides of tiles are multiples of this: two latents, a token of SD3."""


def upscale_frame(
    pipeline: Any,
    module: ControlNeXt,
    frame: np.ndarray,
    factor: int,
    settings: PaintSettings,
    seed: int,
    tile: int,
    overlap: int,
) -> np.ndarray:
    """A frame uint8 RGB [H, W, 3], `factor` times as large in both directions.

    `tile` and `overlap` are in pixels of the result, the first a multiple of 16. The noise of tile n follows
    from (seed, n) alone. ConfigError for tiles that the model cannot see at once.
    """
    height, width = frame.shape[0] * factor, frame.shape[1] * factor
    enlarged = low_resolution(frame, width, height)
    whole = padded(enlarged)
    check_tile(pipeline, min(tile, max(whole.shape[:2])))
    total = np.zeros(whole.shape, np.float64)
    weight = np.zeros((*whole.shape[:2], 1), np.float64)
    for number, (rows, columns) in enumerate(tiles(whole.shape[0], whole.shape[1], tile, overlap)):
        begun = np.ascontiguousarray(whole[rows, columns])
        place = int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> np.uint64(1))
        made = paint(pipeline, module, to_tensor(begun), settings, place, begun)
        ramp = (
            ramps(rows, whole.shape[0], overlap)[:, None] * ramps(columns, whole.shape[1], overlap)[None]
        )[..., None]
        total[rows, columns] += made * ramp
        weight[rows, columns] += ramp
    made = (total / weight)[:height, :width]
    return consistent(made, frame)


def check_tile(pipeline: Any, tile: int) -> None:
    """ConfigError where a transformer's table of positions is smaller than a tile."""
    transformer = getattr(pipeline, "transformer", None)
    if transformer is None or not transformer.config.get("pos_embed_max_size"):
        return
    token = transformer.config["patch_size"] * pipeline.vae_scale_factor
    largest = transformer.config["pos_embed_max_size"] * token
    if tile > largest:
        raise ConfigError(f"tile {tile}: this model sees at most {largest} pixels at once, make it smaller")


def padded(picture: np.ndarray) -> np.ndarray:
    """The picture with sides that are multiples of 16, continued by its own edges."""
    goal = [-(-side // MULTIPLE) * MULTIPLE for side in picture.shape[:2]]
    bottom, right = (want - side for want, side in zip(goal, picture.shape[:2], strict=True))
    return cv2.copyMakeBorder(picture, 0, bottom, 0, right, cv2.BORDER_REPLICATE)


def tiles(height: int, width: int, tile: int, overlap: int) -> list[tuple[slice, slice]]:
    """Rows and columns of the tiles of a picture, left to right, then down."""
    return [
        (rows, columns) for rows in spans(height, tile, overlap) for columns in spans(width, tile, overlap)
    ]


def spans(length: int, tile: int, overlap: int) -> list[slice]:
    """Evenly spread spans of one side, each `tile` long, overlapping by `overlap` at least; one if short."""
    if length <= tile:
        return [slice(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    starts = np.rint(np.linspace(0, length - tile, count)).astype(int)
    return [slice(int(start), int(start) + tile) for start in starts]


def ramps(span: slice, length: int, overlap: int) -> np.ndarray:
    """How much each pixel of a span counts: less towards its ends, but not at the picture's edges."""
    size = span.stop - span.start
    place = np.arange(size) + 0.5
    rise = np.ones(size) if span.start == 0 else np.minimum(place / max(overlap, 1), 1)
    fall = np.ones(size) if span.stop == length else np.minimum((size - place) / max(overlap, 1), 1)
    return np.minimum(rise, fall)


def consistent(made: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """`made`, float [H, W, 3] in 0..255, corrected so that it is `frame`, uint8, when it is made small.

    One step of iterative back-projection, Irani and Peleg 1991. What a low-resolution pixel knows is kept:
    colours cannot drift, and a VAE's losses count only in what is finer.
    """
    height, width = frame.shape[:2]
    missing = frame - cv2.resize(made, (width, height), interpolation=cv2.INTER_AREA)
    added = cv2.resize(missing, (made.shape[1], made.shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.clip(np.rint(made + added), 0, 255).astype(np.uint8)
