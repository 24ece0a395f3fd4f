"""What a model makes of a config: the size of the video, and how it is sampled."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...stages.generate import RECIPE_DECODE_CHUNKS, Defaults, Settings, Sized, check_size
from ...stages.models import CUTOUT
from ..config import AnimateConfig

if TYPE_CHECKING:
    from ...stages.svd.generator import SvdGenerator


@dataclass(frozen=True, slots=True)
class Preset:
    """Factors on the model's own number of steps and window overlap, and approximate levers."""

    steps: float
    overlap: float
    align_your_steps: bool = False
    """Whether models that start at SVD's noise level take the levels made for few steps."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)


PRESETS = {
    "preview": Preset(0.4, 0.5, align_your_steps=True, guidance_interval=(0.0, 0.8)),
    "default": Preset(1, 1),
    "best": Preset(1.6, 1.5),
}
"""What `--preset` does: time is proportional to steps, and grows with overlap. None caches deep features:
at few steps neighbours differ too much, and with `--workers` a window's features may be elsewhere."""
CONSISTENCY_STEPS = 4
"""Of consistency sampling by default, as published with AnimateLCM-SVD; presets scale it."""


@dataclass(frozen=True, slots=True)
class Size:
    """Pixels of the video, and of the short side at which its control frames are drawn."""

    width: int
    height: int
    canvas: int


PAPER_DEFAULTS = Defaults(576, 1024, None, 0, 0, 1.0, control_canvas=576)
"""Of the model `cutout`: the size of the published models, and no windows, steps or guidance."""


@dataclass(frozen=True, slots=True)
class Paper:
    """The sizes of the model `cutout`: any that is even, by default PAPER_DEFAULTS."""

    name: str = CUTOUT
    defaults: Defaults = PAPER_DEFAULTS
    size_multiple: int = 2


def is_cutout(config: AnimateConfig) -> bool:
    """Whether the character is to dance as a figure of paper, without a network."""
    return config.model == CUTOUT


def has_network(config: AnimateConfig) -> bool:
    """Whether a network paints the frames."""
    return not is_cutout(config)


def size_of(generator: Sized, width: int | None, height: int | None) -> Size:
    """The size of a video of the asked width and height, by default the model's own.

    Raises ConfigError for a size that the model cannot make.
    """
    defaults = generator.defaults
    size = Size(width or defaults.width, height or defaults.height, defaults.control_canvas)
    check_size(generator, size.width, size.height)
    return size


def settings_of(generator: "SvdGenerator", config: AnimateConfig) -> Settings:
    """The model's own settings, scaled by the preset, replaced by what the config names."""
    from ...stages.svd.schedule import can_align

    defaults, approximate = generator.settings(config.window.size), config.approximate
    preset, window = PRESETS[config.preset], config.window
    aligned = approximate.align_your_steps
    if approximate.consistency:
        defaults = replace(defaults, steps=CONSISTENCY_STEPS, guidance_scale=1.0)
    overlap = min(round(defaults.window_overlap * preset.overlap), defaults.window_size // 2)
    guidance = config.guidance_scale
    plan = window.plan or defaults.window_plan
    return replace(
        defaults,
        seed=config.seed,
        steps=config.steps or max(1, round(defaults.steps * preset.steps)),
        guidance_scale=defaults.guidance_scale if guidance is None else guidance,
        window_overlap=overlap if window.overlap is None else window.overlap,
        window_plan=plan,
        decode_chunk=RECIPE_DECODE_CHUNKS.get(plan, defaults.decode_chunk),
        align_your_steps=preset.align_your_steps
        and can_align(generator.scheduler)
        and not approximate.consistency
        if aligned is None
        else aligned,
        consistency=approximate.consistency,
        guidance_interval=approximate.guidance_interval or preset.guidance_interval,
        cache_interval=approximate.cache_interval,
    )


def notes_on(generator: "SvdGenerator", settings: Settings) -> list[str]:
    """What a user should know of settings that a model was not made for."""
    trained = generator.defaults.window_size
    if trained is None or settings.window_size == trained:
        return []
    return [
        f"windows of {settings.window_size} frames: {generator.name} was trained with {trained}, "
        "and others may flicker or lose the character"
    ]
