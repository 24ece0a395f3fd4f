"""The camera: points in space -> pixels."""

from dataclasses import dataclass, fields, replace

import numpy as np

from .character import Framing, Proportions
from .skeleton import Skeleton, turn

CAMERA_DISTANCE = 5.0
"""Distance of the camera in character heights: a hand stretched towards it grows by about a tenth."""
CAMERA_HEIGHT = 0.55


@dataclass(frozen=True, slots=True)
class Camera:
    """Weak perspective. Projects points [..., 3] to [..., 3]: x, y in pixels and z (nearness) in pixels."""

    scale: float  # pixels a character height
    centre: float  # x of the figure's axis, pixels
    horizon: float  # y of CAMERA_HEIGHT, pixels
    pitch: float

    def __call__(self, points: np.ndarray) -> np.ndarray:
        sp, cp = np.sin(self.pitch), np.cos(self.pitch)
        up = points[..., 1] - CAMERA_HEIGHT
        y, z = up * cp - points[..., 2] * sp, points[..., 2] * cp + up * sp
        near = self.scale * CAMERA_DISTANCE / (CAMERA_DISTANCE - z)
        projected = np.empty(points.shape)
        projected[..., 0] = self.centre + near * points[..., 0]
        projected[..., 1] = self.horizon - near * y
        projected[..., 2] = self.scale * z
        return projected


def seen_by(camera: Camera, bones: Skeleton) -> tuple[Skeleton, Skeleton]:
    """The bones with rotations in the camera's axes, and the same with all points projected."""
    tilt = turn(0.0, camera.pitch, 0.0)
    turns = {name: tilt @ getattr(bones, name) for name in ("pelvis_turn", "chest_turn", "head_turn")}
    names = [field.name for field in fields(Skeleton) if field.name not in turns]
    points = [getattr(bones, name) for name in names]
    flat = camera(np.concatenate([part.reshape(-1, 3) for part in points]))
    ends = np.cumsum([part.size // 3 for part in points])[:-1]
    projected = {
        name: values.reshape(part.shape)
        for name, part, values in zip(names, points, np.split(flat, ends), strict=True)
    }
    turned = replace(bones, **turns)
    return turned, replace(turned, **projected)


def camera(body: Proportions, framing: Framing, width: int, height: int) -> Camera:
    """The camera that shows this body at this framing in a width x height picture."""
    if framing.cut > 0:
        scale = (1 - framing.floor) * height / (1 - framing.cut)
        horizon = framing.floor * height + (1 - CAMERA_HEIGHT) * scale
        return Camera(scale, framing.centre * width, horizon, framing.pitch)
    scale = body.stature * framing.zoom * min(0.80 * height, 0.98 * width)
    standing = body.stature * min(0.80 * height, 0.98 * width)
    if framing.zoom <= 1.2:
        floor = framing.floor * height - max(0.0, 0.5 * (0.80 * height - standing) - 0.06 * height)
        horizon = floor - CAMERA_HEIGHT * scale
    else:  # closer: the crown stays a fifth of the picture below the top
        horizon = 0.2 * height + (1 - CAMERA_HEIGHT) * scale
    return Camera(scale, framing.centre * width, horizon, framing.pitch)
