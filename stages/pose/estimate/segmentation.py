"""Where people are in a picture, by the network in the wheel of mediapipe 0.10."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from .mediapipe_graph import without_noise

SEGMENTER = Path("modules", "selfie_segmentation", "selfie_segmentation.tflite")
"""MediaPipe Selfie Segmentation: it sees people at 256 x 256."""


def person_in(picture: np.ndarray) -> np.ndarray | None:
    """How likely each pixel is of a person, float32 [H, W]; None where this mediapipe carries no network.

    `picture` is uint8 RGB [H, W, 3].
    """
    package = find_spec("mediapipe")
    if package is None or not package.submodule_search_locations:
        return None
    if not Path(package.submodule_search_locations[0], SEGMENTER).is_file():
        return None
    from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

    with without_noise(), SelfieSegmentation(model_selection=0) as network:
        found: Any = network.process(np.ascontiguousarray(picture))
    return np.asarray(found.segmentation_mask, np.float32)
