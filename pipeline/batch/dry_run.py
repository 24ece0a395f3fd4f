"""`batch --dry-run`: what a batch would do, and what that takes. Writes nothing."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from ...stages.errors import PosedanceError
from ..animate.animate import Outline, count_driving_frames, outline_of
from ..animate.graph import STEPS, following, results_of, step_keys, wanted
from ..animate.tools import Tools
from ..config import BatchConfig
from ..cost import BENCH_FILE, MEASURED, seconds_of_a_window
from ..job.inputs import with_local_inputs
from ..job.job import Job, Key
from ..job.once import looking_once
from ..job.output import refuse_video
from ..job.published import PUBLISHED, Published, is_whole, read_published
from ..job.scratch import scratch_for
from ..job.storage import statements_below, url_of
from ..workers.shards import shard_of
from .manifest import Item
from .plan import find_items, look_at
from .stages import shared_folder
from .status import state_of

LATENT_BYTES = 4 * 4
"""Four channels in float32, for each pixel of the latents."""
CONTROL_BYTES = 20_000 / (576 * 1024)
"""A control frame as PNG, for each pixel (`stages.media.frames`)."""


@dataclass
class Work:
    """What the videos that are to be made take."""

    frames: int = 0
    windows: int = 0
    calls: int = 0
    """Guided predictions of a window: each step of each window."""
    disk: float = 0.0
    """Bytes of latents and control frames."""
    measured_calls: int = 0
    """Those of the size that `bench` measures on a GPU."""
    faults: list[str] = field(default_factory=list)
    """One line for each video that cannot be made."""

    def add(self, outline: Outline, num_frames: int, downscale: int) -> None:
        """Count one video."""
        settings, pixels = outline.settings, outline.size.width * outline.size.height
        calls = settings.steps * outline.windows
        self.frames += num_frames
        self.windows += outline.windows
        self.calls += calls
        self.disk += (1 + num_frames) * pixels * (LATENT_BYTES / downscale**2 + CONTROL_BYTES)
        if (outline.size.width, outline.size.height, settings.window_size) == MEASURED:
            self.measured_calls += calls


@looking_once()
def dry_run(config: BatchConfig) -> str:
    """The videos of a batch by their state, its steps, frames, windows, disk and GPU hours, as text."""
    refuse_video(config.output)
    url = url_of(config.output)
    root = config.output.resolve() if url is None else scratch_for(url)
    found, _ = find_items(config.model_copy(update={"output": root}))
    items = shard_of(found, config.shard)
    published_files = {} if url is None else statements_below(url)

    def look(item: Item) -> tuple[dict[str, Key], str]:
        place = url and f"{url}/{item.name}"
        files = published_files.get(item.name, {})
        published = read_published(place) if place and PUBLISHED in files else Published()
        own = step_keys(item.config, known=published.digest_of)
        there = place is not None and is_whole(place, published, results_of(own), files)
        return own, "done" if there else state_of(root, item.name, own).status

    looks = look_at(items, look, at_once=url is not None)
    keys = {item.name: own for item, (own, _) in looks}
    states = {item.name: state for item, (_, state) in looks}
    if config.force is not None:
        states = dict.fromkeys(states, "waiting")
    open_states = {"waiting", "quarantined"} if config.retry_quarantined else {"waiting"}
    todo = [item for item in items if states[item.name] in open_states][: config.limit]
    counts = Counter(states.values())
    work = measure([item for item in todo if not is_done(root, item, keys[item.name], "latents", config)])
    return "\n".join(
        [
            f"videos    {len(items)}: {counts['done']} done, {len(todo)} to make, "
            f"{counts['quarantined']} given up before",
            f"frames    {work.frames:,} to denoise in {work.windows:,} windows: "
            f"{work.calls:,} calls of the UNet",
            f"disk      {work.disk / 1e9:.2f} GB for latents and control frames, and the videos beside them; "
            f"{shutil.disk_usage(existing(root)).free / 1e9:.1f} GB are free",
            f"GPU hours {gpu_hours(work)}",
            *(f"cannot be made: {fault}" for fault in work.faults),
            f"{'step':<12}{'to make':>9}{'done':>9}",
            *(
                f"{step.name:<12}{len(names) - done:>9}{done:>9}"
                for step in STEPS.values()
                if any(step.name in own for own in keys.values())
                for names, done in [count_step(root, todo, keys, step.name, config)]
            ),
        ]
    )


def is_done(root: Path, item: Item, keys: Mapping[str, Key], name: str, config: BatchConfig) -> bool:
    """Whether a step of a video need not be made."""
    force = config.force
    again = set() if force is None else {step.name for step in following(force, item.config)}
    own = Job(item.config.output)
    if not STEPS[name].shared:
        return name not in wanted(own, keys, again)
    shared = Job(shared_folder(root, name, keys[name]))
    return name not in again and any(job.holds(name, keys[name]) for job in (own, shared))


def count_step(
    root: Path, items: Sequence[Item], keys: Mapping[str, Mapping[str, Key]], name: str, config: BatchConfig
) -> tuple[set[Key | str], int]:
    """The results of a step that these videos need, each shared one once, and how many of them are there."""
    shared = STEPS[name].shared
    results: dict[str, bool] = {}
    for item in items:
        if name not in keys[item.name]:
            continue
        result = keys[item.name][name] if shared else item.name
        results[result] = results.get(result, False) or is_done(root, item, keys[item.name], name, config)
    return set(results), sum(results.values())


def measure(items: Sequence[Item]) -> Work:
    """What it takes to denoise these videos; a driving video is probed once."""
    work = Work()
    lengths: dict[tuple[object, ...], int] = {}
    with closing(Tools()) as tools:
        for item in items:
            config = item.config
            clip = (config.driving, config.pose, config.start, config.duration, config.stride)
            try:
                if clip not in lengths:
                    lengths[clip] = count_driving_frames(with_local_inputs(config))
                generator = tools.any_generator(config)
                work.add(outline_of(generator, config, lengths[clip]), lengths[clip], generator.downscale)
            except PosedanceError as error:
                work.faults.append(f"{item.name}: {error}")
    return work


def gpu_hours(work: Work) -> str:
    """What the bench of this folder, if there is one, makes of it."""
    seconds = seconds_of_a_window(BENCH_FILE)
    if seconds is None:
        return f"unknown: `run.py bench --json {BENCH_FILE}` on the GPU measures a window"
    hours = f"{work.measured_calls * seconds / 3600:.2f}, by {seconds:.3f} s a window in {BENCH_FILE}"
    if others := work.calls - work.measured_calls:
        hours += f"; {others:,} calls for windows of another size than {MEASURED} are not counted"
    return hours


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())
