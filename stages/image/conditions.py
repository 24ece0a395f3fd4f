"""Condition pictures: edges, pose, mask, depth and the low-resolution picture, and how a module reads them.

All pictures are uint8 RGB [H, W, 3]. A condition has the size of the picture that it is made of.
"""

from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import ConfigError, PoseError
from ..media.picture import read_picture
from ..pose.base import PoseEstimator
from ..pose.estimate.segmentation import person_in
from ..pose.follow.track import estimate_picture
from ..pose.render import CANVAS_SHORT_SIDE, draw_control_frames
from ..types import PoseSequence

Kind = Literal["canny", "pose", "mask", "depth", "low-resolution"]

LOW, HIGH = 0.67, 1.33
"""The published thresholds of edges, times the median of the gray picture."""
EDGE_REACH = 2.0
"""Pixels within which two edges are the same."""
PERSON = 0.5
"""How sure the segmentation has to be of a pixel that the mask shows."""
MULTIPLE = 8
"""Sides of what a module reads are multiples of this."""
LEAST_SCORE = 0.3
"""The least score of a person whose pose is drawn, as `animate` has it."""


def canny(picture: np.ndarray, low: int = 0, high: int = 0) -> np.ndarray:
    """Edges, white on black, as published; 0 stands for 0.67 and 1.33 times the median, at most 255."""
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    median = float(np.median(gray))
    edges = cv2.Canny(gray, low or int(LOW * median), high or int(min(255, HIGH * median)))
    return np.repeat(edges[..., None], 3, axis=2)


def is_edges(picture: np.ndarray) -> bool:
    """Whether a picture is white on black and nothing else, as `canny` draws edges."""
    return bool(np.isin(picture, (0, 255)).all() and (picture == picture[..., :1]).all())


def edges_agree(found: np.ndarray, asked: np.ndarray, reach: float = EDGE_REACH) -> float:
    """How well the edges of two pictures agree, 0 to 1: F1 of the shares of each that are near the other's.

    Edges are what is brighter than half; near is within `reach` pixels. 0 where either has none.
    """
    drawn = [picture[..., 0] > 127 for picture in (found, asked)]
    if not all(each.any() for each in drawn):
        return 0.0
    away = [cv2.distanceTransform(np.uint8(~each), cv2.DIST_L2, 5) for each in drawn]  # pyright: ignore[reportArgumentType, reportCallIssue]
    near = [float((away[1 - i][drawn[i]] <= reach).mean()) for i in (0, 1)]
    return 2 * near[0] * near[1] / max(sum(near), 1e-9)


def pose(
    picture: np.ndarray | None = None,
    estimator: PoseEstimator | None = None,
    *,
    poses: PoseSequence | None = None,
    size: tuple[int, int] | None = None,
    canvas: int = CANVAS_SHORT_SIDE,
) -> np.ndarray:
    """The drawn pose of the largest person of a picture, or of the first frame of `poses`.

    `estimator` is set up. `size` is (width, height), by default that of the picture or of the poses.
    `canvas` is the short side that is drawn at, see `draw_control_frames`. Raises PoseError where nobody
    is found.
    """
    if poses is None:
        if picture is None or estimator is None:
            raise ConfigError("a pose condition needs poses, or a picture and an estimator that finds them")
        poses, _ = estimate_picture(picture, estimator, min_score=LEAST_SCORE, name="the picture")
    width, height = size or poses.size
    return next(iter(draw_control_frames(poses, width, height, canvas)))


def mask(picture: np.ndarray) -> np.ndarray:
    """The person, white on black, by MediaPipe's segmentation. PoseError where mediapipe has no models."""
    found = person_in(picture)
    if found is None:
        raise PoseError(
            "this mediapipe carries no segmentation: install mediapipe==0.10.21 (Python 3.12 or earlier), or "
            "give the mask as a picture"
        )
    return np.repeat(np.where(found > PERSON, 255, 0).astype(np.uint8)[..., None], 3, axis=2)


def colour_depth(near: np.ndarray) -> np.ndarray:
    """Depth as the published modules saw it: the viridis colour map, near dark violet, far yellow.

    `near` [H, W], any range: larger is nearer, as depth estimators have it.
    """
    near = near.astype(np.float64)
    span = max(float(np.ptp(near)), 1e-12)
    far = np.rint(255 * (1 - (near - near.min()) / span)).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(far, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)


def depth_from_file(path: Path) -> np.ndarray:
    """A depth picture: coloured as it is; a gray one, in which bright is near, through `colour_depth`."""
    picture = read_picture(path)
    gray = np.ptp(picture, axis=2).max() == 0
    return colour_depth(picture[..., 0]) if gray else picture


def depth(picture: np.ndarray, model: Path) -> np.ndarray:
    """Estimated depth, coloured, by a `depth-estimation` model of transformers in a folder.

    ConfigError where the folder holds none.
    """
    from transformers import pipeline

    try:
        estimate: Any = pipeline("depth-estimation", model=str(model))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines() or [repr(error)]
        raise ConfigError(f"{model} is no depth-estimation model of transformers: {reason[0]}") from error
    near = estimate(Image.fromarray(picture))["predicted_depth"].squeeze().float().numpy()
    height, width = picture.shape[:2]
    return colour_depth(cv2.resize(near, (width, height), interpolation=cv2.INTER_CUBIC))


def low_resolution(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """A small picture enlarged to the wanted size by Lanczos: the condition of super-resolution."""
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def make(
    kind: Kind,
    picture: np.ndarray,
    width: int,
    height: int,
    *,
    estimator: PoseEstimator | None = None,
    depth_file: Path | None = None,
    depth_model: Path | None = None,
) -> Tensor:
    """The condition of one kind that is found in a picture, as a module reads it, for a picture of this size.

    `estimator`, set up, finds the pose. Depth is read from `depth_file`, see `depth_from_file`, or estimated
    by `depth_model`, a folder, see `depth`; ConfigError without either.
    """
    if kind == "low-resolution":
        return to_tensor(low_resolution(picture, width, height))
    if kind == "pose":
        return to_tensor(pose(picture, estimator, size=(width, height)))
    if kind == "depth":
        if depth_file is not None:
            return to_tensor(depth_from_file(depth_file), width, height)
        if depth_model is None:
            raise ConfigError(
                "depth needs depth_file, a picture of it, or depth_model, the folder of a model for it"
            )
        return to_tensor(depth(picture, depth_model), width, height)
    if kind not in ("canny", "mask"):
        raise ConfigError(f"no condition {kind!r}: use one of {', '.join(get_args(Kind))}")
    return to_tensor(canny(picture) if kind == "canny" else mask(picture), width, height)


def to_tensor(condition: np.ndarray, width: int | None = None, height: int | None = None) -> Tensor:
    """A condition as a module reads it: float32 [1, 3, H, W] in 0..1, resized as the published script does.

    Without a size it keeps its own; sides are cut down to multiples of 8.
    """
    picture = Image.fromarray(condition)
    if width is not None and height is not None:
        picture = picture.resize((width, height))
    sides = [side - side % MULTIPLE for side in picture.size]
    if min(sides) == 0:
        raise ConfigError(f"the condition is {picture.width}x{picture.height}: 8x8 pixels are the least")
    if sides != list(picture.size):
        picture = picture.resize((sides[0], sides[1]), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture, np.float32)).permute(2, 0, 1)[None].contiguous() / 255
