"""What a batch saves: the same videos by `batch`, and by a loop over `animate` that starts each from nothing.

    export OMP_WAIT_POLICY=PASSIVE                                  # as the command line sets it
    python tests/bench/bench_batch.py                               # 10 dances x 20 characters
    python tests/bench/bench_batch.py --dances 3 --characters 5     # less

Dances are drawn videos of 2 seconds, the model is tiny-random. The loop runs in one process, and nothing that
one video made is kept for the next. Prints both times and their ratio, how often poses were found, and the
memory of the batch's driver when a quarter of the videos was done and at its end.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path

from posedance.datasets.puppets.render import make_character, make_motion, reference_pose, render
from posedance.pipeline.animate.animate import animate
from posedance.pipeline.batch.batch import batch
from posedance.pipeline.config import AnimateConfig, BatchConfig
from posedance.stages.media.encode import VideoWriter
from posedance.stages.media.picture import write_png

FPS, SECONDS, SIZE = Fraction(30), 2, (288, 512)


def write_inputs(folder: Path, dances: int, characters: int) -> None:
    """Folders `dances` and `characters`."""
    for name in ("dances", "characters"):
        (folder / name).mkdir()
    for number in range(dances):
        character, motion = make_character(1000 + number), make_motion(number, FPS)
        with VideoWriter(folder / "dances" / f"{number}.mp4", *SIZE, FPS) as writer:
            for frame in range(int(FPS) * SECONDS):
                writer.write(render(character, motion, frame, *SIZE).image)
    for number in range(characters):
        still = render(make_character(number), reference_pose(number), 0, *SIZE)
        write_png(folder / "characters" / f"{number}.png", still.image)


def resident_mb() -> float:
    """Memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def watch(output: Path, jobs: int, samples: list[tuple[int, float]], ended: threading.Event) -> None:
    """(videos done, memory of this process) twice a second."""
    while not ended.wait(0.5):
        samples.append((len(list(output.glob("*/.work/records/comparison.json"))), resident_mb()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dances", type=int, default=10)
    parser.add_argument("--characters", type=int, default=20)
    options = parser.parse_args()
    jobs = options.dances * options.characters
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, options.dances, options.characters)
        dances, characters = folder / "dances", folder / "characters"

        samples: list[tuple[int, float]] = []
        ended, output = threading.Event(), folder / "batch"
        thread = threading.Thread(target=watch, args=(output, jobs, samples, ended))
        thread.start()
        began = time.perf_counter()
        code = batch(BatchConfig(driving=dances, reference=characters, output=output, model="tiny-random"))
        batch_s = time.perf_counter() - began
        ended.set()
        thread.join()
        steps = json.loads((output / "summary.json").read_text())["steps"]

        began = time.perf_counter()
        for dance in sorted(dances.iterdir()):
            for character in sorted(characters.iterdir()):
                alone = folder / "loop" / f"{dance.stem}--{character.stem}"
                alone.parent.mkdir(exist_ok=True)
                animate(AnimateConfig(driving=dance, reference=character, output=alone, model="tiny-random"))
        loop_s = time.perf_counter() - began
    quarter = next(memory for done, memory in samples if done >= jobs / 4)
    sys.stdout.write(
        f"{jobs} videos, exit code {code}\n"
        f"loop {loop_s:.1f} s, batch {batch_s:.1f} s: ratio {loop_s / batch_s:.2f}\n"
        f"poses found {steps['poses']['done']} times, of pictures {steps['reference']['done']} times\n"
        f"driver {quarter:.0f} MB at a quarter of the videos, {samples[-1][1]:.0f} MB at the end\n"
    )


if __name__ == "__main__":
    main()
