"""Paints a face: eyes, brows, nose and mouth, from the 68 points of the head."""

import cv2
import numpy as np

from .character import PARTS, RGB, Outfit
from .drawing import Canvas

HEAD = PARTS.index("head")
FINE_HEAD = 44
"""Heads lower than this many pixels are painted enlarged and scaled down, or brows would fill the face."""
SHIFT = 4
"""OpenCV takes coordinates in sixteenths of a pixel."""


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(points * 2**SHIFT).astype(np.int32)


def _mix(colour: tuple[int, ...], factor: float) -> tuple[int, ...]:
    return tuple(int(min(255, channel * factor)) for channel in colour)


def _fill(image: np.ndarray, points: np.ndarray, colour: tuple[int, ...]) -> None:
    cv2.fillPoly(image, [_fixed(points)], colour, cv2.LINE_AA, SHIFT)


def _stroke(image: np.ndarray, points: np.ndarray, colour: tuple[int, ...], width: float) -> None:
    cv2.polylines(image, [_fixed(points)], False, colour, max(1, round(width)), cv2.LINE_AA, SHIFT)


def _towards_viewer(polygon: np.ndarray) -> bool:
    """Whether a feature of the face is seen from its front (its points run clockwise in the picture)."""
    (x, y), (nx, ny) = polygon.T, polygon[np.arange(1 - len(polygon), 1)].T
    return float(x @ ny - y @ nx) > 0.5


def _disc(image: np.ndarray, centre: np.ndarray, radius: float, colour: tuple[int, ...]) -> None:
    x, y = (int(value) for value in _fixed(centre))
    cv2.circle(image, (x, y), round(radius * 2**SHIFT), colour, -1, cv2.LINE_AA, SHIFT)


def _eye(image: np.ndarray, lids: np.ndarray, outfit: Outfit, size: float) -> None:
    """White, iris, pupil and glint within the lids [6, 2], and the upper lid's line."""
    if not _towards_viewer(lids):
        return
    centre = lids.mean(0)
    opening = np.zeros(image.shape[:2], np.uint8)
    _fill(opening, centre + 1.15 * (lids - centre), (255,))
    eye = np.full_like(image, 242)
    _disc(eye, centre, 0.034 * size, outfit.eyes)
    _disc(eye, centre, 0.017 * size, (16, 12, 12))
    _disc(eye, centre - 0.012 * size, 0.008 * size, (255, 255, 255))
    share = opening[..., None].astype(np.float32) / 255
    image[...] = image + share * (eye.astype(np.float32) - image)
    _stroke(image, lids[:4], (38, 26, 24), 0.014 * size)


def _cheeks(image: np.ndarray, face: np.ndarray, skin: RGB, size: float) -> None:
    blush = image.copy()
    red, (_, green, blue) = _mix(skin, 0.94)[0], _mix(skin, 0.78)
    for eye, mouth in ((36, 48), (45, 54)):
        _disc(blush, (face[eye] + face[mouth]) / 2, 0.08 * size, (red, green, blue))
    cv2.addWeighted(blush, 0.35, image, 0.65, 0, image)


def _nose(image: np.ndarray, face: np.ndarray, skin: RGB, size: float) -> None:
    """The shaded side, the light on the bridge, the lower edge and the nostrils."""
    tip = 0.6 * face[35] + 0.4 * face[33]
    _fill(image, np.stack([face[27], face[30], tip, 0.6 * face[28] + 0.4 * face[35]]), _mix(skin, 0.80))
    _stroke(image, face[28:31], _mix(skin, 1.14), 0.035 * size)
    _stroke(image, face[31:36], _mix(skin, 0.66), 0.018 * size)
    for nostril in (32, 34):
        _disc(image, face[nostril], 0.013 * size, _mix(skin, 0.45))


def _mouth(image: np.ndarray, face: np.ndarray, outfit: Outfit, size: float) -> None:
    """Lips, and teeth when the mouth is open."""
    if _towards_viewer(face[48:60]):
        _fill(image, face[48:60], outfit.lips)
        upper, lower = face[60:65], face[[60, 67, 66, 65, 64]]
        if lower[2, 1] - upper[2, 1] > 0.02 * size and _towards_viewer(face[60:68]):
            _fill(image, face[60:68], (96, 34, 36))
            _fill(image, np.concatenate([upper, (0.55 * upper + 0.45 * lower)[::-1]]), (244, 240, 234))
        _stroke(image, upper, _mix(outfit.lips, 0.6), 0.012 * size)
    chin_shadow = face[55:60] + np.array([0.0, 0.035 * size])
    _stroke(image, chin_shadow, _mix(outfit.skin, 0.86), 0.02 * size)


def _features(image: np.ndarray, face: np.ndarray, outfit: Outfit, size: float) -> None:
    """Paint on `image` [h, w, 3]; `face` [68, 2] in its pixels, `size` the head's height in its pixels."""
    _cheeks(image, face, outfit.skin, size)
    _nose(image, face, outfit.skin, size)
    brow = tuple(int(0.75 * hair + 0.12 * skin) for hair, skin in zip(outfit.hair, outfit.skin, strict=True))
    for brows, lids in ((face[17:22], face[36:42]), (face[22:27], face[42:48])):
        _eye(image, lids, outfit, size)
        if _towards_viewer(lids):
            _stroke(image, brows, brow, 0.028 * size)
    _mouth(image, face, outfit, size)


def draw_face(canvas: Canvas, outfit: Outfit, face: np.ndarray, size: float, rotation: np.ndarray) -> None:
    """Paint the features where the head shows. `face` [68, 3] projected, `size` the head's height in px."""
    if rotation[2, 2] < 0.1:  # the face looks away
        return
    low, high = face[:, :2].min(0) - 0.1 * size, face[:, :2].max(0) + 0.1 * size
    box = canvas.box(*low, *high)
    if box is None:
        return
    x0, y0, x1, y1 = box
    under = canvas.image[y0:y1, x0:x1]
    factor = max(1, int(np.ceil(FINE_HEAD / size)))
    fine = (
        cv2.resize(under, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
        if factor > 1
        else under.copy()
    )
    points = (face[:, :2] - [x0, y0] + 0.5) * factor - 0.5
    _features(fine, points, outfit, size * factor)
    if factor > 1:
        fine = cv2.resize(fine, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    shown = canvas.parts[y0:y1, x0:x1] == HEAD
    np.copyto(under, fine, where=shown[..., None])
