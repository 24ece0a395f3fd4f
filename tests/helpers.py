"""What tests of several folders set up: small inputs, commands as processes, what a job folder holds."""

import json
import multiprocessing
import subprocess
import sys
import time
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posedance.datasets.puppets.render import make_character, make_motion, reference_pose, render
from posedance.pipeline.config import BatchConfig
from posedance.stages.media.picture import write_png
from posedance.stages.pose.files import save_poses
from posedance.stages.types import PoseSequence

FPS = Fraction(15)
SIZE = (144, 256)
DRIVER = "import sys; from posedance.pipeline.cli import main; sys.exit(main(words))"


def add_dance(folder: Path, name: str, number: int, count: int = 4) -> None:
    """Put some frames of dance `number` into a folder: NAME.npz."""
    frames = [render(make_character(5), make_motion(number, FPS), frame, *SIZE) for frame in range(count)]
    keypoints, scores = np.stack([f.keypoints for f in frames]), np.stack([f.scores for f in frames])
    save_poses(folder / f"{name}.npz", PoseSequence(keypoints, scores, SIZE, FPS))


def add_picture(folder: Path, name: str, number: int) -> None:
    """Put a drawn character and its keypoints into a folder: NAME.png and NAME.npz."""
    still = render(make_character(number), reference_pose(number), 0, *SIZE)
    write_png(folder / f"{name}.png", still.image)
    own = PoseSequence(still.keypoints[None], still.scores[None], SIZE, Fraction(1))
    save_poses(folder / f"{name}.npz", own)


def small_batch(manifest: Path, output: Path, **changes: Any) -> BatchConfig:
    """A batch of the tiny model, in this process."""
    fields = {"model": "tiny-random", "steps": 2, "executor": "local", "attempts": 2, **changes}
    return BatchConfig(manifest=manifest, output=output, **fields)


def listed(output: Path) -> list[list[str]]:
    """What the index.html of a batch lists: [name, state, the result's file or why there is none]."""
    page = (output / "index.html").read_text()
    return json.loads(page.split('type="application/json">')[1].split("</script>")[0])


def command(name: str, options: dict[str, Any]) -> list[str]:
    """A command of posedance in a process of its own: words for subprocess."""
    words = [str(word) for option in options.items() for word in option]
    return [sys.executable, "-m", "posedance.pipeline", name, *words]


def started(words: list[str]) -> Any:
    """A command in a process of its own that starts in a moment: all modules are loaded before.

    Its exit code is that of the command.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["posedance.pipeline.batch.batch", "posedance.stages.svd.generator", "ray"]
    )
    run = context.Process(target=exec, args=(DRIVER, {"words": words}))
    run.start()
    return run


def wait_for(run: Any, path: Path) -> None:
    """Until `path` is there; a run, of subprocess or multiprocessing, that ends before is an error."""

    def ended() -> bool:
        return (run.poll() if isinstance(run, subprocess.Popen) else run.exitcode) is not None

    while not ended() and not path.exists():
        time.sleep(0.005)
    assert not ended(), "the run ended before its fault"


def made_at(output: Path) -> dict[str, int]:
    """When each step of a job was committed, in nanoseconds."""
    return {path.stem: path.stat().st_mtime_ns for path in (output / ".work" / "records").iterdir()}


def recipe_tensor(seed: int, component: str, key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """One tensor of the recorded weights; the recipe is in the golden data's README."""
    state = np.random.RandomState(zlib.crc32(f"{seed}/{component}/{key}".encode()))
    values = state.standard_normal(shape)
    if len(shape) >= 2:
        values = 1.5 * values / np.sqrt(np.prod(shape[1:]))
    elif key.endswith(".weight"):
        values = 1 + 0.1 * values
    elif not key.endswith("mix_factor"):
        values = 0.1 * values
    return torch.from_numpy(np.asarray(values, np.float32))
