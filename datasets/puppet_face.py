"""Paints a face: eyes, brows, nose and mouth, from the 68 points of the head."""

import cv2
import numpy as np

from .puppet_character import PARTS, Outfit
from .puppet_drawing import Canvas

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


def _eye(image: np.ndarray, lids: np.ndarray, outfit: Outfit, size: float) -> None:
    if not _towards_viewer(lids):
        return
    centre = lids.mean(0)
    white = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(white, [_fixed(centre + 1.15 * (lids - centre))], (255,), cv2.LINE_AA, SHIFT)
    eye = np.full_like(image, 242)
    middle = tuple(int(v) for v in _fixed(centre))
    for radius, colour in ((0.034, outfit.eyes), (0.017, (16, 12, 12))):
        cv2.circle(eye, middle, round(radius * size * 2**SHIFT), colour, -1, cv2.LINE_AA, SHIFT)
    glint = tuple(int(v) for v in _fixed(centre - 0.012 * size))
    cv2.circle(eye, glint, round(0.008 * size * 2**SHIFT), (255, 255, 255), -1, cv2.LINE_AA, SHIFT)
    share = white[..., None].astype(np.float32) / 255
    image[...] = (image + share * (eye.astype(np.float32) - image)).astype(np.uint8)
    _stroke(image, lids[:4], (38, 26, 24), 0.014 * size)


def _features(image: np.ndarray, face: np.ndarray, outfit: Outfit, size: float) -> None:
    """Paint on `image` [h, w, 3]; `face` [68, 2] in its pixels, `size` the head's height in its pixels."""
    skin, dark = outfit.skin, _mix(outfit.skin, 0.66)
    for sign, corner in ((1, 48), (-1, 54)):  # cheeks
        cheek = 0.5 * face[corner] + 0.5 * face[[36, 45][sign < 0]]
        overlay = image.copy()
        cv2.circle(
            overlay,
            tuple(int(v) for v in cheek),
            max(1, round(0.08 * size)),
            (*_mix(skin, 0.94)[:1], *_mix(skin, 0.78)[1:]),
            -1,
            cv2.LINE_AA,
        )
        cv2.addWeighted(overlay, 0.35, image, 0.65, 0, image)
    side = np.stack([face[27], face[30], face[35] * 0.6 + face[33] * 0.4, face[28] * 0.6 + face[35] * 0.4])
    _fill(image, side, _mix(skin, 0.80))
    _stroke(image, np.stack([face[28], face[29], face[30]]), _mix(skin, 1.14), 0.035 * size)
    _stroke(image, face[31:36], dark, 0.018 * size)
    for nostril in (32, 34):
        cv2.circle(
            image,
            tuple(int(v) for v in _fixed(face[nostril])),
            round(0.013 * size * 16),
            _mix(skin, 0.45),
            -1,
            cv2.LINE_AA,
            SHIFT,
        )
    _eye(image, face[36:42], outfit, size)
    _eye(image, face[42:48], outfit, size)
    brow = tuple(int(0.75 * h + 0.12 * s) for h, s in zip(outfit.hair, skin, strict=True))
    for brows, lids in ((face[17:22], face[36:42]), (face[22:27], face[42:48])):
        if _towards_viewer(lids):
            _stroke(image, brows, brow, 0.028 * size)
    if _towards_viewer(face[48:60]):
        _fill(image, face[48:60], outfit.lips)
        if face[66, 1] - face[62, 1] > 0.02 * size and _towards_viewer(face[60:68]):
            _fill(image, face[60:68], (96, 34, 36))
            teeth = np.concatenate(
                [face[60:65], face[60:65][::-1] * 0.55 + face[[60, 67, 66, 65, 64]][::-1] * 0.45]
            )
            _fill(image, teeth, (244, 240, 234))
        _stroke(image, face[60:65], _mix(outfit.lips, 0.6), 0.012 * size)
    _stroke(image, face[[59, 58, 57, 56, 55]] + [0, 0.035 * size], _mix(skin, 0.86), 0.02 * size)


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
