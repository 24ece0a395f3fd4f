"""The commands of `run.py`. Each is a few lines: read the options, call one function, print where things are.

A mistake of the user ends in one line and exit code 2; Ctrl-C says how to go on and exits with 130.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number
from pydantic import ValidationError

from ..stages.allocator import keep_freed_memory
from ..stages.errors import PosedanceError
from ..stages.threads import heed_usable_cpus
from .character.config import CharacterConfig
from .config import AnimateConfig, BatchConfig, ConfigFile, JsonFile, PoseConfig, StepName, explain, resolve
from .job.masking import masked
from .job.system_errors import told
from .progress import show_log
from .upscale.config import UpscaleConfig
from .web.config import WebConfig

app = App(
    name="run.py",
    help="A driving video and one picture of a character in; the character dancing that dance out.",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,
    help_epilogue="Start with `run.py animate`: with no options it makes a demo in out/.\n\n"
    "Exit codes: 0 done, 2 a mistake that one line tells, 3 some videos or clips given up, 130 stopped. The "
    "same command again goes on where it was.",
)


LONGEST_LINE = 4000
"""Characters of an error that are shown: what is wrong stands at its beginning."""
TRAINING = "posedance.pipeline.cli_train"
app.command(f"{TRAINING}:train_app", name="train", help="Train ControlNeXt, or a small network around it.")
app.command(
    "posedance.pipeline.cli_curate:curate_app", name="curate", help="Make training shards of raw videos."
)
app.command(
    f"{TRAINING}:teach",
    name="teach",
    help="Teach the shipped model a real dancer, from one video.\n\n"
    "Then `animate --model OUTPUT`, with a frame of the video as --reference, lets them dance what others "
    "dance, in the clothes and the room of the video. Poses are found, the video is cut into clips, a VAE's "
    "decoder learns the dancer's looks, and the network learns them in motion. Works on a CPU: 30 minutes on "
    "two idle cores; a stopped run goes on. It ends with the PSNR on frames that it never saw, before and "
    "after.",
)
app.command(f"{TRAINING}:evaluate_app", name="evaluate", help="Measure a model or a pose estimator.")
app.command(f"{TRAINING}:convert", name="convert", help="Turn published weights into one folder for --model.")


@app.command
def animate(
    *,
    options: Annotated[AnimateConfig, Parameter(name="*")] = AnimateConfig(),  # noqa: B008 (immutable)
    config: Annotated[Path | None, Parameter(name="--config")] = None,
    like: Path | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    workers: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    ray_address: str | None = None,
    verify: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Make a video of the character doing the dance. With no options: a demo with drawn dancers.

    Parameters
    ----------
    config
        YAML file with any of these options; config.yaml in a job folder repeats that job.
    like
        A result.mp4 or its folder, whose settings are taken where you name no others: all but the inputs.
    dry_run
        Print frames, windows, steps and memory, and stop.
    workers
        Spread the windows of a long video, and the frames to enlarge, over this many workers (GPUs), by Ray
        [default: this process].
    ray_address
        Ray cluster of these workers: auto, or HOST:PORT [default: this machine alone].
    verify
        Read what was made before and make again what is damaged, not only what has another size or time.
    """
    from .animate.animate import animate, plan
    from .animate.like import fitting
    from .animate.recorded import read_settings
    from .job.storage import url_of

    resolved = resolve(AnimateConfig, options, config)
    if like is not None:
        resolved = resolve(AnimateConfig, options, config, fitting(read_settings(like), resolved))
    if dry_run:
        show(plan(resolved))
    else:
        for path in animate(resolved, workers, ray_address, verify):
            show(str(url_of(path) or path))


@app.command
def pose(
    *,
    options: Annotated[PoseConfig, Parameter(name="*")] = PoseConfig(),  # noqa: B008 (immutable)
    config: ConfigFile = None,
) -> None:
    """Find the poses of a driving video: writes poses.npz, poses.json and a video that shows them.

    With --reference, also the skeleton fitted to the character, and animatic.mp4: the character itself, cut
    out and bent along it, in seconds, before a model is paid for. Ends with what was found, in figures, and
    whether that is good enough for `animate`.
    """
    from .animate.pose import pose as find_poses
    from .animate.pose import verdict

    resolved = resolve(PoseConfig, options, config)
    for path in find_poses(resolved):
        print(path)
    if told := verdict(resolved):
        print(told)


@app.command
def character(
    *,
    options: Annotated[CharacterConfig, Parameter(name="*")] = CharacterConfig(),  # noqa: B008 (immutable)
    config: ConfigFile = None,
) -> None:
    """Make a reference image in a pose of the dance, from a prompt or from a picture of somebody.

    Several seeds side by side in sheet.png; that with the pose nearest to the asked one is reference.png.
    """
    from .character.character import character as make_character

    for path in make_character(resolve(CharacterConfig, options, config)):
        print(path)


@app.command
def upscale(
    *,
    options: Annotated[UpscaleConfig, Parameter(name="*")] = UpscaleConfig(),  # noqa: B008 (immutable)
    config: Annotated[Path | None, Parameter(name="--config")] = None,
    workers: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    ray_address: str | None = None,
) -> None:
    """Enlarge a video, each frame painted under control of its low-resolution self. A stopped run goes on.

    Parameters
    ----------
    config
        YAML file with any of these options.
    workers
        Spread the frames over this many workers (GPUs), by Ray [default: this process].
    ray_address
        Ray cluster of these workers: auto, or HOST:PORT [default: this machine alone].
    """
    from .upscale.upscale import upscale as enlarge

    print(enlarge(resolve(UpscaleConfig, options, config), workers, ray_address))


@app.command
def batch(
    *,
    options: Annotated[BatchConfig, Parameter(name="*")] = BatchConfig(),  # noqa: B008 (immutable)
    config: ConfigFile = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Make many videos: the rows of a manifest, or every driving video with every reference image.

    Exit code 0 when all are done, 3 when some were given up, 2 for a request that cannot be run.

    Parameters
    ----------
    dry_run
        Print videos, steps to make and those done, frames, disk and GPU hours, and stop.
    """
    resolved = resolve(BatchConfig, options, config)
    if dry_run:
        from .batch.dry_run import dry_run as outline

        show(outline(resolved))
        return 0
    from .batch.batch import batch as make_all

    return make_all(resolved)


@app.command
def status(folder: Path, *, json: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Show how far a batch or a curation is, running or not, from any terminal.

    Parameters
    ----------
    folder
        Its output folder.
    json
        Print all of it as JSON, of a batch.
    """
    from json import dumps

    from .batch.status import report
    from .batch.status import status as look
    from .curate.status import is_curation
    from .curate.status import status as look_at_curation

    if json:
        show(dumps(report(folder), indent=1))
    else:
        show(look_at_curation(folder) if is_curation(folder) else look(folder))


@app.command
def cancel(folder: Path, name: str) -> None:
    """Give up one video of a batch, running or not, from any terminal; the others go on.

    Parameters
    ----------
    folder
        Output folder of the batch.
    name
        Name of the video: its folder in that.
    """
    from .batch.cancel import cancel as give_up

    show(give_up(folder, name))


@app.command
def web(
    *,
    options: Annotated[WebConfig, Parameter(name="*")] = WebConfig(),  # noqa: B008 (immutable)
) -> None:
    """Serve a page on which all of this is done by hand: animate, watch, compare, judge. Ctrl-C ends it."""
    from .web.server import web as serve

    serve(options)


@app.command
def bench(*, json: JsonFile = None) -> None:
    """Measure what is gained over the published way and print the ratios. Leave the machine idle meanwhile.

    Parameters
    ----------
    json
        File that gets the same numbers.
    """
    from .evaluate.bench.bench import bench as measure

    print(measure(json))


@app.command
def cost(
    *,
    window_seconds: Annotated[float, Parameter(validator=Number(gt=0))],
    frame_seconds: Annotated[float, Parameter(validator=Number(gte=0))] = 0.0,
    minutes: Annotated[float, Parameter(validator=Number(gt=0))] = 1.0,
    fps: Annotated[int, Parameter(validator=Number(gte=1))] = 15,
    workers: Annotated[int, Parameter(validator=Number(gte=1))] = 1,
    steps: Annotated[int, Parameter(validator=Number(gte=1))] = 25,
    window_size: int = 24,
    window_overlap: int = 6,
) -> None:
    """Print the GPU hours of a video, from how long one window takes on your GPU.

    Parameters
    ----------
    window_seconds
        Seconds of one guided window at one step: `run.py bench` measures them where there is a GPU.
    frame_seconds
        Seconds to decode one frame.
    minutes
        Length of the video.
    fps
        Its frames a second: half of the driving video's with the default stride.
    workers
        GPUs that share the video.
    steps
        Denoising steps.
    window_size
        Frames in a window.
    window_overlap
        Frames that neighbouring windows share.
    """
    from fractions import Fraction

    from .cost import cost as count

    sizes = (steps, window_size, window_overlap)
    print(count(Fraction(minutes), Fraction(fps), window_seconds, frame_seconds, workers, *sizes))


@app.command
def replay(folder: Path, step: StepName) -> None:
    """Make one step of a job again from its saved inputs, to see what it does.

    Parameters
    ----------
    folder
        Job folder, of animate or inside a batch.
    step
        Which of its steps.
    """
    from .animate.replay import replay as run_again

    for path in run_again(folder, step):
        print(path)


@app.command
def doctor() -> None:
    """Show versions, devices, and which pose estimators and models work here, or why not."""
    from .doctor import report

    print(report())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code: 0 done, 2 a mistake to mend, 130 stopped by the user.

    A batch that gave up some videos returns 3; what nobody reads any more (`| head`), 141 as for SIGPIPE.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    show_log()
    keep_freed_memory()
    heed_usable_cpus()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads sleep: shared cores stay usable
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except PosedanceError as error:
        return complain(str(error))
    except CycloptsError as error:
        cause = error.__cause__
        return complain(
            explain(cause) if isinstance(cause, ValidationError) else " ".join(str(error).split())
        )
    except BrokenPipeError:
        return unread()
    except OSError as error:
        if error.errno is None:  # not of the system
            raise
        return complain(told(error))
    except KeyboardInterrupt:
        print("\nstopped: run the same command again to go on from here", file=sys.stderr)
        return 130
    return code if isinstance(code, int) else 0


def unread() -> int:
    """Say nothing more where nobody reads it, at the end of the process either; returns exit code 141."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    return 128 + signal.SIGPIPE


def show(text: str) -> None:
    """Print what a command tells, on standard output, without the credentials of URLs."""
    print(masked(text))


def complain(line: str) -> int:
    """Print the one line that tells what to mend, of a very long one the beginning; returns exit code 2."""
    line = line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}..."
    print(f"error: {masked(line)}", file=sys.stderr)
    return 2
