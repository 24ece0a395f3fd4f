"""What steps work with: a pose estimator and a model, opened when a step first needs one and kept.

The model is that of the video, its decoder, or one that paints pictures: of a GPU's memory one has it all.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from ...stages.image.models import Task
from ...stages.pose.base import PoseEstimator
from ...stages.pose.estimators import make_estimator
from ...stages.threads import limit_threads
from ...stages.types import Resources
from ..character.options import PaintingConfig
from ..character.painter import Painter, open_painter
from ..config import AnimateConfig, EstimatorConfig
from ..models import open_decoder, open_generator, put_lora
from ..upscale.enlarge import Paint

if TYPE_CHECKING:
    from torch import Tensor

    from ...stages.svd.decoder import Decoder
    from ...stages.svd.generator import SvdGenerator

DECODER_OPTIONS = {"model", "weights", "device", "precision", "memory_limit", "compile"}
"""Options with which a decoder is opened: where one differs, it is opened anew."""
LORA_OPTIONS = {"lora", "lora_scale"}
"""Options of the weights that are added to it, and changed without opening it anew."""


def opens_estimator(config: AnimateConfig) -> tuple[str, ...]:
    """What a step that finds poses opens, if it does: as names that compare."""
    return (config.estimator.model_dump_json(),)


def opens_model(config: AnimateConfig) -> tuple[str, ...]:
    """What a step opens that works with the model whatever its LoRA weights."""
    return (config.model_dump_json(include=DECODER_OPTIONS),)


def opens_lora(config: AnimateConfig) -> tuple[str, ...]:
    """What a step opens that works with the model and its LoRA weights."""
    return (*opens_model(config), config.model_dump_json(include=LORA_OPTIONS))


PAINTER_OPTIONS = {*PaintingConfig.model_fields, "condition"}
"""Options with which a model that paints pictures is opened."""


def opens_character(config: AnimateConfig) -> tuple[str, ...]:
    """What a step opens that paints the character, and finds poses in what it painted."""
    painter = painter_name(config.character, "character", config.device, config.precision)
    return (painter, *opens_estimator(config))


def opens_upscaler(config: AnimateConfig) -> tuple[str, ...]:
    """What a step opens that enlarges frames, if it paints them."""
    if config.upscaler.method == "lanczos":
        return ()
    return (painter_name(config.upscaler, "upscale", config.device, config.precision),)


def painter_name(options: PaintingConfig, task: Task, device: str, precision: str | None) -> str:
    """What tells two models that paint pictures apart."""
    return f"{task} {device} {precision} {options.model_dump_json(include=PAINTER_OPTIONS)}"


def estimator_of(options: EstimatorConfig) -> PoseEstimator:
    """The pose estimator that a config asks for, not yet set up."""
    return make_estimator(options.name, model=options.model, detector=options.detector, device=options.device)


@contextmanager
def opened(options: EstimatorConfig) -> Iterator[PoseEstimator]:
    """The pose estimator that a config asks for, set up, and closed at the end."""
    with closing(estimator_of(options)) as estimator:
        estimator.setup()
        yield estimator


class Tools:
    """One estimator and one model, those that were asked for last: the next video mostly asks for the same.

    `resources` is what a worker of a batch has. `denoise` takes the place of `Generator.denoise`: it gets the
    generator and the file of control frames before the same arguments (`spread.py`). `paint` takes the place
    of enlarging frames in this process (`upscale/spread.py`).
    """

    def __init__(
        self,
        resources: Resources | None = None,
        denoise: "Callable[..., Tensor] | None" = None,
        paint: Paint | None = None,
    ) -> None:
        self.denoise = denoise
        self.paint = paint
        self._cpus = None if resources is None else resources.cpus
        gpus = 1.0 if resources is None else resources.gpus
        self._gpu_part = gpus if 0 < gpus < 1 else 1.0
        self._estimator: PoseEstimator | None = None
        self._estimator_options: EstimatorConfig | None = None
        self._model: SvdGenerator | Decoder | Painter | None = None
        self._model_options: dict[str, Any] = {}
        self._lora_options: dict[str, Any] = {}

    @contextmanager
    def estimator(self, options: EstimatorConfig) -> Iterator[PoseEstimator]:
        """The pose estimator of these options, set up. One that failed is not used again."""
        if self._estimator is None or options != self._estimator_options:
            self._close_estimator()
            estimator = estimator_of(options)
            estimator.setup()
            self._estimator, self._estimator_options = estimator, options
        try:
            yield self._estimator
        except BaseException:
            self._close_estimator()
            raise

    def any_generator(self, config: AnimateConfig) -> "SvdGenerator":
        """The generator that the config asks for, with any LoRA weights: for what they do not decide."""
        from ...stages.svd.generator import SvdGenerator

        if isinstance(self._model, SvdGenerator) and self._is_of_model(config):
            return self._model
        return self.generator(config.model_copy(update={"lora": None, "lora_scale": 1.0}))

    def generator(self, config: AnimateConfig) -> "SvdGenerator":
        """The generator that the config asks for, with its LoRA weights."""
        from ...stages.svd.generator import SvdGenerator

        lora = config.model_dump(include=LORA_OPTIONS)
        if not isinstance(self._model, SvdGenerator) or not self._is_of_model(config):
            self._model = None
            self._model = open_generator(config, self._gpu_part)
            self._opened(config)
        elif lora != self._lora_options:
            generator, self._model = self._model, None  # not to be used again where it fails
            put_lora(generator, config)
            self._model, self._lora_options = generator, lora
        return self._model

    def decoder(self, config: AnimateConfig) -> "SvdGenerator | Decoder":
        """What decodes the model's latents: its generator where that is open, else its decoder alone."""
        if self._model is None or isinstance(self._model, Painter) or not self._is_of_model(config):
            self._model = None
            decoder = self._model = open_decoder(config, self._gpu_part)
            self._opened(config)
            return decoder
        return self._model

    def painter(self, options: PaintingConfig, task: Task, device: str, precision: str | None) -> Painter:
        """What paints pictures of this task with these options: the base and the control module."""
        name = painter_name(options, task, device, precision)
        if not isinstance(self._model, Painter) or self._model.name != name:
            self._model = None
            self._model = open_painter(name, options, task, device, precision)
            self._limit_threads()
        return self._model

    def close(self) -> None:
        """Release estimator and model."""
        self._close_estimator()
        self._model = None

    def _is_of_model(self, config: AnimateConfig) -> bool:
        return config.model_dump(include=DECODER_OPTIONS) == self._model_options

    def _opened(self, config: AnimateConfig) -> None:
        self._model_options = config.model_dump(include=DECODER_OPTIONS)
        self._lora_options = config.model_dump(include=LORA_OPTIONS)
        self._limit_threads()

    def _limit_threads(self) -> None:
        if self._cpus is not None:
            limit_threads(self._cpus)

    def _close_estimator(self) -> None:
        estimator, self._estimator = self._estimator, None
        if estimator is not None:
            estimator.close()
