"""A decoded frame as people see it: RGB with square pixels, upright, in the colours that the file means."""

import math
from fractions import Fraction

import numpy as np
from av.filter.graph import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc, Interpolation, VideoReformatter

UNSPECIFIED, BT709, BT601, BT2020 = 2, 1, 6, 9
"""Colour codes of ITU-T H.273 (matrix coefficients, and for BT709 and BT2020 primaries too)."""
HD_WIDTH, SD_HEIGHT = 1280, 576
"""A video that names no matrix has BT.709 from this width on or above this height, else BT.601: what mpv and
other players take it for."""
HDR_TRANSFERS = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)

LARGEST_PIXEL_ASPECT = 4
"""Pixels are at most so many times as wide as high, or as high as wide: real formats stay below 3 (half-width
PAL for 16:9), and the nonsense found in files lies far above."""

UNNAMED_SIDE_DATA = range(28, 48)
"""Codes of AVFrameSideDataType that PyAV has no name for, with room for those to come."""


def pixel_aspect(given: Fraction | None) -> Fraction:
    """Width of a pixel over its height as a file gives it; 1 where it gives none, or nonsense."""
    if not given or not Fraction(1, LARGEST_PIXEL_ASPECT) <= given <= LARGEST_PIXEL_ASPECT:
        return Fraction(1)
    return given


def square_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Width and height in square pixels: the side that is too short grows, so that no detail is lost."""
    if aspect >= 1:
        return math.floor(width * aspect + Fraction(1, 2)), height
    return width, math.floor(height / aspect + Fraction(1, 2))


def to_rgb(frame: VideoFrame, size: tuple[int, int], reformatter: VideoReformatter) -> np.ndarray:
    """uint8 [H, W, 3] RGB, upright, of a decoded frame scaled to `size` (width, height) if it differs.

    The file's matrix and range are heeded; HDR (PQ, HLG) is brought to SDR with reference white (203 cd/m2)
    as white. One `reformatter` should serve all frames of a file: its tables for HDR take seconds to fill.
    """
    if frame.colorspace == UNSPECIFIED and not frame.format.is_rgb:
        frame.colorspace = BT709 if frame.width >= HD_WIDTH or frame.height > SD_HEIGHT else BT601
    transfer, primaries = None, None
    if frame.color_trc in HDR_TRANSFERS:
        transfer, primaries = ColorTrc.IEC61966_2_1, ColorPrimaries.BT709
        if frame.color_primaries == UNSPECIFIED:
            frame.color_primaries = BT2020
    rgb = reformatter.reformat(
        frame,
        *size,
        format="rgb24",
        interpolation=None if size == (frame.width, frame.height) else Interpolation.BICUBIC,
        dst_color_trc=transfer,
        dst_color_primaries=primaries,
        threads=1,
    )
    return np.array(upright(rgb.to_ndarray(), frame), order="C")


def upright(image: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """Apply the display matrix: a view of `image` turned and mirrored as the container asks.

    Row-vector convention of ISO 14496-12, 8.2.2: x' = a x + c y, y' = b x + d y with y down.
    """
    matrix = display_matrix(frame)
    if matrix is None:
        return image
    a, b, _, c, d = np.frombuffer(matrix, "<i4")[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return image.swapaxes(0, 1)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]


def display_matrix(frame: VideoFrame) -> bytes | None:
    """The display matrix of a frame, nine int32; None where it has none.

    PyAV lists side data of all kinds or, where it has no name for one, none of them: spatial video (MV-HEVC),
    EXIF in Motion JPEG. Such kinds are taken off first.
    """
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        data = _without_unnamed_side_data(frame).side_data.get("DISPLAYMATRIX")
    return None if data is None else bytes(data)


def _without_unnamed_side_data(frame: VideoFrame) -> VideoFrame:
    graph = Graph()
    assert frame.time_base is not None
    nodes = [
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        ),
        *(graph.add("sidedata", f"mode=delete:type={code}") for code in UNNAMED_SIDE_DATA),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    graph.vpush(frame)
    return graph.vpull()
