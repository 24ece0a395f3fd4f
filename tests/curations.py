"""What tests of the curation set up: small videos of drawn dancers, small curations, and what they made."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from posedance.datasets.puppets.render import make_character, make_motion, render
from posedance.pipeline.curate.config import CurateConfig
from posedance.pipeline.curate.table import read_table
from posedance.stages.media.encode import VideoWriter

FPS = Fraction(15)
SIZE = (288, 512)
LENGTH = 31
"""Frames of a clip: just longer than the shortest that is kept."""
OWN = {".work", "config.yaml", "events.jsonl", "report.html"}
"""What names the time or the folder of a run."""


def dance(number: int) -> list[np.ndarray]:
    """A drawn dancer of LENGTH frames."""
    character, motion = make_character(number), make_motion(number, FPS)
    return [render(character, motion, frame, *SIZE).image for frame in range(LENGTH)]


def write_video(path: Path, frames: list[np.ndarray]) -> None:
    """Write frames as a video."""
    with VideoWriter(path, frames[0].shape[1], frames[0].shape[0], FPS, preset="veryfast") as writer:
        for frame in frames:
            writer.write(np.ascontiguousarray(frame))


def config_of(sources: Path, output: Path, **changes: Any) -> CurateConfig:
    """A small curation in this process, which refuses the second clip of two.mp4: it hides a hand."""
    fields = {"executor": "local", "width": 144, "height": 256, "attempts": 1, "per_shard": 1, **changes}
    fields["thresholds"] = {"left_hand": {"at_least": 0.5}, **changes.get("thresholds", {})}
    return CurateConfig.model_validate({"sources": sources, "output": output, **fields})


def rows(output: Path) -> dict[tuple[str, int | None], dict[str, Any]]:
    """The rows of an output folder's table by source and first frame."""
    return {(row["source"], row["start_frame"]): row for row in read_table(output / "clips.parquet")}


def results(output: Path) -> dict[str, bytes]:
    """The files of an output folder that people get, without those that name the time or the folder."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and not OWN & set(path.relative_to(output).parts)
    }


def spoil(path: Path) -> None:
    """Give a file other bytes, of which its size and its time of change tell nothing."""
    about = path.stat()
    path.write_bytes(bytes(about.st_size))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
