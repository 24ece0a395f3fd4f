"""The stages of a batch: each a part of the graph of `animate`, on a worker that loads its models once.

A stage says whether it made anything: a step that is done already is not made again.

What several videos share is made once and kept in the batch's own `.work/shared`, by key: poses of a driving
video, poses of a reference image, and what the model makes of a config. The rest goes to each video's own
job folder, the same that `animate` would make.
"""

import shutil
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...stages.atomic import atomic_path
from ...stages.base import Stage
from ...stages.generate import Settings
from ...stages.pose.base import PoseEstimator
from ...stages.threads import limit_threads
from ...stages.types import Resources
from .. import models
from ..animate import graph, steps
from ..config import AnimateConfig, EstimatorConfig, write_yaml
from ..doctor import environment
from ..job.job import Job, Key, hold, open_job, write_text

if TYPE_CHECKING:
    from ...stages.svd.decoder import Decoder
    from ...stages.svd.generator import SvdGenerator

PATIENCE_S = 60.0
"""How long a step waits for the lock of a job folder: a killed worker's is freed in a moment."""


@dataclass(frozen=True, slots=True)
class Work:
    """One step of one video. `root` is the batch's folder, `config.output` the video's."""

    step: str
    root: Path
    config: AnimateConfig
    keys: dict[str, Key]
    """Key of each step, and of the video's `shape`."""

    @property
    def key(self) -> Key:
        return self.keys[self.step]


def shared_name(step: str, key: Key) -> str:
    """Name of the record, and stem of the file, of what videos share."""
    return f"{step}-{key[:16]}"


@contextmanager
def hold_shared(root: Path, name: str) -> Iterator[None]:
    """Nobody else makes the shared step of that name meanwhile, whatever batch or shard it is of."""
    locks = Job(root).work / "locks"
    locks.mkdir(exist_ok=True)
    with hold(root, locks / name, patience_s=float("inf")):
        yield


@contextmanager
def shared(work: Work) -> Iterator[tuple[Job, str, Path]]:
    """The batch as a job, the name of a shared step, and its file; nobody else makes it meanwhile."""
    name, job = shared_name(work.step, work.key), Job(work.root)
    store = job.work / "shared"
    store.mkdir(exist_ok=True)
    with hold_shared(work.root, name):
        yield job, name, store / f"{name}.npz"


@dataclass
class PoseStage:
    """Poses of driving videos and of reference images -> the batch's shared store."""

    resources: Resources
    _stack: ExitStack = field(default_factory=ExitStack, repr=False)
    _options: EstimatorConfig | None = None
    _estimator: PoseEstimator | None = None

    def setup(self) -> None:
        """Estimators are loaded when a video needs one: pose files need none."""

    def __call__(self, work: Work) -> bool:
        with shared(work) as (job, name, path):
            make = partial(graph.find_pose, work.step, work.config, path, self._open)
            return job.run(name, work.key, [path], make)

    def close(self) -> None:
        self._stack.close()
        self._options = None

    @contextmanager
    def _open(self, options: EstimatorConfig) -> Iterator[PoseEstimator]:
        """The estimator of the last video if it is the same; one that failed is not used again."""
        if self._estimator is None or options != self._options:
            self.close()
            self._estimator = self._stack.enter_context(steps.opened(options))
            self._options = options
        try:
            yield self._estimator
        except BaseException:
            self.close()
            raise


@dataclass
class DrawStage:
    """The video's own poses, out of the shared store, and its control frames."""

    resources: Resources

    def setup(self) -> None:
        """Nothing to load."""

    def __call__(self, work: Work) -> bool:
        with open_job(work.config.output, PATIENCE_S) as job:
            write_text(job.folder / "config.yaml", write_yaml(work.config))
            for step in ("reference", "poses"):
                (path,) = files = graph.files_of(job, step)
                job.run(step, work.keys[step], files, partial(take, work, step, path))
            return graph.draw(job, work.config, work.key, shape_for(work))

    def close(self) -> None:
        """Nothing to release."""


def take(work: Work, step: str, output: Path) -> steps.Facts:
    """Copy a file out of the shared store -> `output`, and what was recorded of it."""
    name, store = shared_name(step, work.keys[step]), Job(work.root)
    with atomic_path(output) as temporary:
        shutil.copyfile(store.work / "shared" / f"{name}.npz", temporary)
    return store.facts(name)


def shape_for(work: Work) -> graph.Shape:
    """The video's shape as step `shape` recorded it, with the video's own seed."""
    facts = Job(work.root).facts(shared_name("shape", work.keys["shape"]))
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in facts["settings"].items()
    }
    settings = replace(Settings(**values), seed=work.config.seed)
    return graph.Shape(facts["width"], facts["height"], facts["canvas"], settings)


MODEL_OPTIONS = {"model", "weights", "device", "memory_limit", "compile"}
"""Options with which a model is opened: where one differs, a worker opens it anew."""


@dataclass
class DenoiseStage:
    """Steps that need the model: `shape`, `latents`, and `result` where there is no stage `decode`.

    `config` names the model to begin with.
    """

    resources: Resources
    config: AnimateConfig
    _generator: "SvdGenerator | None" = None
    _model: Any = None

    def setup(self) -> None:
        self._open(self.config)

    def __call__(self, work: Work) -> bool:
        generator = self._open(work.config)
        if work.step == "shape":
            with shared(work) as (job, name, _):
                return job.run(name, work.key, [], partial(self._shape, generator, work.config))
        with open_job(work.config.output, PATIENCE_S) as job:
            if work.step == "latents":
                about = environment(graph.weights_of(work.config))
                write_text(job.folder / "environment.json", about)
                return graph.denoise(job, work.config, work.key, shape_for(work), generator)
            return graph.write_result(job, work.config, work.key, shape_for(work), generator.decode)

    def close(self) -> None:
        self._generator = None

    def _shape(self, generator: "SvdGenerator", config: AnimateConfig) -> dict[str, Any]:
        shape = graph.shape_of(generator, config)
        return {**asdict(shape), "notes": graph.notes_on(generator, shape.settings)}

    def _open(self, config: AnimateConfig) -> "SvdGenerator":
        """The generator of the last video if it is the same."""
        model = config.model_dump(include={*MODEL_OPTIONS, "lora", "lora_scale"})
        if self._generator is None or model != self._model:
            self._generator = None
            self._generator = models.open_generator(config, part_of_gpu(self.resources))
            limit_threads(self.resources.cpus)
            self._model = model
        return self._generator


@dataclass
class DecodeStage:
    """Step `result`, while others denoise: has the decoder of the model alone, at first that of `config`."""

    resources: Resources
    config: AnimateConfig
    _decoder: "Decoder | None" = None
    _model: Any = None

    def setup(self) -> None:
        self._open(self.config)

    def __call__(self, work: Work) -> bool:
        decoder = self._open(work.config)
        with open_job(work.config.output, PATIENCE_S) as job:
            return graph.write_result(job, work.config, work.key, shape_for(work), decoder.decode)

    def close(self) -> None:
        self._decoder = None

    def _open(self, config: AnimateConfig) -> "Decoder":
        """The decoder of the last video if it is the same."""
        model = config.model_dump(include=MODEL_OPTIONS)
        if self._decoder is None or model != self._model:
            self._decoder = None
            self._decoder = models.open_decoder(config, part_of_gpu(self.resources))
            limit_threads(self.resources.cpus)
            self._model = model
        return self._decoder


def part_of_gpu(resources: Resources) -> float:
    """The part of a GPU, and of its memory, that a worker may take."""
    return resources.gpus if 0 < resources.gpus < 1 else 1.0


@dataclass
class CompareStage:
    """The comparison video and the contact sheet."""

    resources: Resources

    def setup(self) -> None:
        """Nothing to load."""

    def __call__(self, work: Work) -> bool:
        with open_job(work.config.output, PATIENCE_S) as job:
            return graph.compare(job, work.config, work.key)

    def close(self) -> None:
        """Nothing to release."""


STAGE_OF = {
    "reference": "pose",
    "poses": "pose",
    "shape": "denoise",
    "control": "draw",
    "latents": "denoise",
    "result": "decode",
    "comparison": "compare",
}
"""Which stage makes a step."""


def stage_of(step: str, stages: Container[str]) -> str:
    """The stage that makes `step` where there are these; without `decode` it is the one that denoises."""
    stage = STAGE_OF[step]
    return stage if stage in stages else "denoise"


def make_stages(resources: Mapping[str, Resources], config: AnimateConfig) -> dict[str, Stage[Work, bool]]:
    """Stages by name, those of `resources`. `config` names the model that is loaded first."""
    makers: dict[str, Callable[[Resources], Stage[Work, bool]]] = {
        "pose": PoseStage,
        "draw": DrawStage,
        "denoise": partial(DenoiseStage, config=config),
        "decode": partial(DecodeStage, config=config),
        "compare": CompareStage,
    }
    return {stage: makers[stage](each) for stage, each in resources.items()}
