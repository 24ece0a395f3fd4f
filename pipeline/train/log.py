"""What a training writes while it runs: numbers as JSON lines and tensorboard's curves, clips as videos."""

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ...datasets.clips import BadRecord
from ...stages.media.encode import VideoWriter

logger = logging.getLogger(__name__)

LOG = "log.jsonl"
"""The numbers of a run, in its folder."""


def read_log(folder: Path) -> list[dict[str, float]]:
    """The entries of a run's log; a line that a power cut left half is passed over."""
    entries = []
    for line in (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries


class Log:
    """`log.jsonl`, one line of JSON for each entry, the same numbers in `tensorboard/`, and `validation/`.

    Only the main process writes, but for what it could not read: each process adds that to `left_out.jsonl`.
    """

    def __init__(self, folder: Path, start: int, main: bool) -> None:
        self.folder = folder
        self.board: Any = None
        self.named: set[str] = set()
        if main:
            from torch.utils.tensorboard import SummaryWriter  # heavy, and only a training needs it

            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1 if start else None)
            self.lines = (folder / LOG).open("a", encoding="utf-8")
            if self.lines.tell() and not (folder / LOG).read_bytes().endswith(b"\n"):
                self.lines.write("\n")  # after the half line that a power cut left

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add one entry of numbers."""
        if self.board is None:
            return
        self.lines.write(json.dumps({"step": step, **values}) + "\n")
        self.lines.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def left_out(self, records: Sequence[BadRecord], step: int) -> None:
        """Say what could not be read, each once, and add it to `left_out.jsonl`."""
        for record in records:
            if record.name not in self.named:
                self.named.add(record.name)
                logger.warning(f"step {step} goes without {record}")
            line = json.dumps({"step": step, "name": record.name, "reason": record.reason})
            with (self.folder / "left_out.jsonl").open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def add_image(self, name: str, image: Tensor, step: int) -> None:
        """Show a picture [3, H, W] in 0..1 in tensorboard."""
        if self.board is not None:
            self.board.add_image(name, image, step)

    def add_video(self, name: str, frames: np.ndarray, fps: Fraction, step: int) -> None:
        """Show a video uint8 [F, H, W, 3] in tensorboard, and write it as `validation/NAME-STEP.mp4`."""
        if self.board is None:
            return
        from tensorboard.compat.proto import summary_pb2

        proto: Any = summary_pb2
        _, height, width, _ = frames.shape
        picture = proto.Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=as_gif(frames, fps)
        )
        self.board.file_writer.add_summary(
            proto.Summary(value=[proto.Summary.Value(tag=name, image=picture)]), step
        )
        path = self.folder / "validation" / f"{name}-{step:07d}.mp4"
        path.parent.mkdir(exist_ok=True)
        with VideoWriter(path, width, height, fps) as writer:
            for frame in frames:
                writer.write(frame)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        if self.board is not None:
            self.board.close()
            self.lines.close()


def as_gif(frames: np.ndarray, fps: Fraction) -> bytes:
    """An endless GIF of uint8 [F, H, W, 3]: tensorboard plays it in place of a picture."""
    first, *rest = (Image.fromarray(frame) for frame in frames)
    data = BytesIO()
    first.save(data, "GIF", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)
    return data.getvalue()


class Means:
    """Running means of numbers by name, until they are taken."""

    def __init__(self) -> None:
        self._values: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._values[name].append(value)

    def take(self) -> dict[str, float]:
        means = {name: float(np.mean(values)) for name, values in self._values.items()}
        self._values.clear()
        return means
