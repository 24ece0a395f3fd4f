"""What people look at: the comparison video, contact sheets, and poses drawn on the driving video."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import chain, repeat, tee
from pathlib import Path

import numpy as np

from ...stages.media.audio import AudioSource
from ...stages.media.encode import VideoWriter, side_by_side
from ...stages.media.frames import StoredFrames
from ...stages.media.picture import contact_sheet, place, read_picture, write_png
from ...stages.media.placement import Placement
from ...stages.media.read_ahead import batches_ahead
from ...stages.media.video import Clip, probe, read_frames
from ...stages.pose.files import load_poses
from ...stages.pose.render import draw_overlay
from ..config import EncodeConfig
from ..progress import stage

PANEL_HEIGHT = 512
"""Pixels of a panel of the comparison video from top to bottom."""
SHEET_MOMENTS = 8
"""Moments that a contact sheet shows, evenly spread from the first frame to the last."""
SHEET_HEIGHT = 288
"""Pixels of a moment on the contact sheet from top to bottom."""
SHEET_COLUMNS = 2
READ_AHEAD, READ_AHEAD_BYTES = 4, 32 * 2**20
"""Frames of the driving video that are read while others are drawn on, and the bytes that they may take."""
OVERLAY_PRESET = "superfast"
"""x264's preset of overlay.mp4 where none but the default is asked for: it is looked at once. With `medium`
its encoding was half of what the overlay takes; so it takes a quarter of that."""


def write_comparison(
    driving: tuple[Path, Clip] | None,
    control: Path,
    reference: Path,
    placement: Placement,
    results: Mapping[str, Path],
    folder: Path,
    audio: AudioSource | None,
    encode: EncodeConfig,
) -> None:
    """Write comparison.mp4 and contact_sheet.png: driving | pose | reference | the results by their labels.

    `control` is the frame store with the reference's pose first; `placement` is where the reference lies in
    its frames, of which the result is the part that it fills. Without a driving video that panel is left out.
    Frames are streamed.
    """
    info = probe(results["result"])
    drawn = StoredFrames(control)
    left, top, right, bottom = placement.inside
    still = place(read_picture(reference), placement)[top:bottom, left:right]
    panels: dict[str, Iterator[np.ndarray]] = {
        "pose": (drawn[i : i + 1][0][top:bottom, left:right] for i in range(1, len(drawn))),
        "reference": repeat(still),
        **{label: read_frames(path, Clip()) for label, path in results.items()},
    }
    if driving is not None:
        panels = {"driving": read_frames(*driving), **panels}
    names = (folder / "comparison.mp4", folder / "contact_sheet.png")
    write_panels(panels, info.num_frames, info.fps, *names, audio, encode)


def write_overlay(
    driving: Path, clip: Clip, poses: Path, folder: Path, audio: AudioSource | None, encode: EncodeConfig
) -> None:
    """Write overlay.mp4 and contact_sheet.png: the driving video, and the poses drawn on it.

    Frames are read once, by a thread, and drawn on in the size of their panel.
    """
    found = load_poses(poses)
    batches = batches_ahead(read_frames(driving, clip), READ_AHEAD, READ_AHEAD_BYTES)
    frames, below = tee(side_by_side([frame], PANEL_HEIGHT) for batch in batches for frame in batch)
    drawn = (
        draw_overlay(frame, points * (np.array(frame.shape[1::-1]) / found.size), scores)
        for frame, points, scores in zip(below, found.keypoints, found.scores, strict=False)
    )
    panels = {"driving": frames, "pose": drawn}
    names = (folder / "overlay.mp4", folder / "contact_sheet.png")
    default = encode.preset == EncodeConfig.model_fields["preset"].default
    preset = OVERLAY_PRESET if default else encode.preset
    write_panels(panels, len(found), found.fps, *names, audio, encode, preset)


def write_panels(
    panels: Mapping[str, Iterator[np.ndarray]],
    num_frames: int,
    fps: Fraction,
    video: Path,
    sheet: Path,
    audio: AudioSource | None,
    encode: EncodeConfig,
    preset: str | None = None,
) -> None:
    """Panels side by side, labelled with their names, as a video; some moments of it as a `sheet`, a PNG.

    `preset` is x264's, where it is another than that of `encode`.
    """
    labels = list(panels)
    moments = set(np.linspace(0, num_frames - 1, SHEET_MOMENTS).round().astype(int).tolist())
    tiles: list[np.ndarray] = []
    times: list[str] = []
    rows = enumerate(zip(*panels.values(), strict=False))
    first = next(rows)
    height, width = side_by_side(first[1], PANEL_HEIGHT).shape[:2]
    with (
        stage(video.stem, num_frames) as advance,
        VideoWriter(
            video, width, height, fps, audio, crf=encode.crf, preset=preset or encode.preset
        ) as writer,
    ):
        for index, row in chain([first], rows):
            writer.write(side_by_side(row, PANEL_HEIGHT, labels))
            if index in moments:
                tiles.append(side_by_side(row, SHEET_HEIGHT))
                times.append(f"{float(index / fps):.2f} s")
            advance(1)
    write_png(sheet, contact_sheet(tiles, SHEET_COLUMNS, times))
