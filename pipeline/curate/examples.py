"""Two functions to begin with: `configs/curate/plugins.yaml` names them, docs/curation.md says more.

Neither knows anything of dancing or beauty. In their places belong an aesthetic predictor and a captioner.
"""

import numpy as np


def colourfulness(pictures: np.ndarray) -> float:
    """How colourful pictures uint8 RGB [N, H, W, 3] are: 0 grey, 15 slightly, 45 quite, 109 extremely.

    Equation (7) of Hasler and Süsstrunk, "Measuring colourfulness in natural images" (2003).
    """
    red, green, blue = np.moveaxis(pictures.astype(np.float32), -1, 0)
    across, along = (
        (red - green).reshape(len(pictures), -1),
        ((red + green) / 2 - blue).reshape(len(pictures), -1),
    )
    spread = np.hypot(across.std(1), along.std(1))
    mean = np.hypot(across.mean(1), along.mean(1))
    return float((spread + 0.3 * mean).mean())


def describe(pictures: np.ndarray) -> str:
    """A caption of pictures uint8 RGB [N, H, W, 3], by brightness and colour alone."""
    light = "dark" if pictures.mean() < 85 else "bright" if pictures.mean() > 170 else "evenly lit"
    colour = "colourful" if colourfulness(pictures) > 45 else "muted"
    return f"a person dancing in a {light}, {colour} scene"
