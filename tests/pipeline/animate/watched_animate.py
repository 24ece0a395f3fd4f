"""`animate` with the options in the first argument (JSON), watched from inside; run by test_long_video.py.

Prints for each stage its (units done, units in all, resident bytes) as JSON.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from posedance.pipeline.animate import report, tools
from posedance.pipeline.animate.animate import animate
from posedance.pipeline.config import AnimateConfig
from posedance.pipeline.progress import observed
from posedance.stages.pose.base import Detections, detections

PAGE_BYTES = 4096


class Brightest:
    """A pose estimator that costs nothing: one figure, around the brightest place of each frame."""

    figure = np.random.default_rng(0).uniform(-12, 12, (133, 2))

    def missing(self) -> None:
        return None

    def setup(self) -> None:
        pass

    def start(self, *, static: bool = False) -> None:
        pass

    def __call__(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        return [self._detect(frame) for frame in frames]

    def _detect(self, frame: np.ndarray) -> Detections:
        height, width = frame.shape[:2]
        y, x = divmod(int(frame.sum(-1, dtype=int).argmax()), width)
        return detections([(self.figure + np.array([x, y]), np.ones(133))], width, height)

    def close(self) -> None:
        pass


def main() -> None:
    seen: dict[str, list[tuple[int, int | None, int]]] = {}

    def watch(stage: str, done: int, total: int | None) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        seen.setdefault(stage, []).append((done, total, pages * PAGE_BYTES))

    report.PANEL_HEIGHT = 64  # as large as the frames are: the encoder would take most of the time
    tools.estimator_of = lambda options: Brightest()  # MediaPipe would
    with observed(watch):
        animate(AnimateConfig(**json.loads(sys.argv[1])))
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main()
