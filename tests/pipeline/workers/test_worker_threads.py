"""A worker's process has as many threads as its stage has cores: counted from outside, by the kernel."""

import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest
from helpers import add_picture

from posedance.datasets.puppets.render import make_character, make_motion, render
from posedance.pipeline.job.job import make_folder
from posedance.stages.media.encode import VideoWriter
from posedance.stages.pose.estimators import why_unusable

WORKER = """
import sys
from pathlib import Path
from posedance.pipeline.batch.stages import StepStage, Work
from posedance.pipeline.config import AnimateConfig
from posedance.pipeline.animate.graph import step_keys
from posedance.pipeline.workers.ray_worker import Worker
from posedance.stages.types import Resources

cpus, root = float(sys.argv[1]), Path(sys.argv[2])
config = AnimateConfig(driving=root / "dance.mp4", reference=root / "ref.png", output=root / "out")
stage = StepStage(Resources(cpus))
worker = Worker(stage, root / "beat.json")
outcomes = [worker.setup(), worker.run("poses", Work("poses", root, config, step_keys(config)))]
stage.close()
sys.exit([outcome.verdict for outcome in outcomes] != ["done", "done"])
"""
SIZE, FPS = (144, 256), Fraction(15)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted on Linux")
def test_decoding_and_finding_poses_take_the_cores_of_the_stage(
    tmp_path: Path,
) -> None:
    if reason := why_unusable("mediapipe"):
        pytest.skip(reason)

    def most(cpus: int) -> int:
        """Threads of a worker of so many cores at its height."""
        root = tmp_path / str(cpus)
        make_folder(root)
        add_picture(root, "ref", 6)
        with VideoWriter(root / "dance.mp4", *SIZE, FPS) as writer:
            for frame in range(12):
                writer.write(render(make_character(5), make_motion(1, FPS), frame, *SIZE).image)
        run = subprocess.Popen([sys.executable, "-c", WORKER, str(cpus), root], stderr=subprocess.DEVNULL)
        counts = [0]
        while run.poll() is None:
            counts.append(len(list(Path(f"/proc/{run.pid}/task").iterdir())))
            time.sleep(0.005)
        assert run.returncode == 0
        return max(counts)

    one, two, six = most(1), most(2), most(6)
    assert 0 <= two - one - (1 + 1) <= 1, "one more of FFmpeg's, and one beside that which finds bodies"
    assert 0 <= six - two - (4 + 1) <= 1, "four more of FFmpeg's, and one more beside it: the last"
