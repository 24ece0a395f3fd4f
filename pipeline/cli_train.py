"""The commands `train`, `evaluate` and `convert`; loaded only when one of them is used.

What needs diffusers' pipelines of pictures is imported where it is used: they take seconds, and warn
everybody that torchvision is missing.
"""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from ..stages.errors import ConfigError
from .config import ConfigFile, resolve
from .evaluate.character import EvaluateCharacterConfig, evaluate_character
from .evaluate.claims.claims import ClaimsConfig, evaluate_claims
from .evaluate.claims.picture_config import PictureClaimsConfig
from .evaluate.curation import EvaluateCurationConfig, evaluate_curation
from .evaluate.model import EvaluateConfig, evaluate_model
from .evaluate.pose import EvaluatePoseConfig, evaluate_pose
from .evaluate.upscale import EvaluateUpscaleConfig, evaluate_upscale
from .job.job import hold_beside
from .teach.config import TeachConfig
from .train.config import TrainConfig
from .train.data import DataConfig, make_shards
from .train.encoder import EncoderConfig, train_encoder
from .train.image.config import ImageTrainConfig
from .train.larger import LargerConfig, train_larger
from .train.plan import plan
from .train.ray import train_on_ray
from .train.train import train
from .train.vae import VaeConfig, train_vae
from .train.words import WordsConfig, train_words

train_app = App(name="train", help="Train ControlNeXt, or one of the small networks around it.")
evaluate_app = App(name="evaluate", help="Measure a model or a pose estimator.")


@train_app.default
def controlnext(
    *,
    options: Annotated[TrainConfig, Parameter(name="*")] = TrainConfig(),  # noqa: B008 (immutable)
    config: Annotated[Path | None, Parameter(name="--config")] = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    workers: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    ray_address: str | None = None,
) -> None:
    """Train ControlNeXt, and as much of the UNet as wanted, on dancers or videos. A stopped run goes on.

    Parameters
    ----------
    config
        YAML file with any of these options; configs/train/ has those of the shipped model and of a full one.
    dry_run
        Print what learns, the data and the memory, and stop; needs no weights.
    workers
        Train in this many processes (GPUs), by Ray Train [default: this process, or accelerate's].
    ray_address
        Ray cluster of these workers: auto, or HOST:PORT [default: this machine alone].
    """
    resolved = resolve(TrainConfig, options, config)
    if dry_run:
        print(plan(resolved))
    elif workers is not None:
        print(train_on_ray(resolved, workers, ray_address))
    else:
        print(train(resolved))


@train_app.command
def shards(
    folder: Path,
    /,
    *,
    options: Annotated[DataConfig, Parameter(name="*")] = DataConfig(),  # noqa: B008 (immutable)
    config: ConfigFile = None,
    per_shard: Annotated[int, Parameter(validator=Number(gte=1))] = 100,
) -> int:
    """Write clips as tar files, for `train --data.shards FOLDER`: drawn dancers, or those of videos.

    Exit code 3 when some clips could not be read; they are listed.

    Parameters
    ----------
    folder
        New folder for the shards.
    per_shard
        Clips in one file.
    """
    return make_shards(resolve(DataConfig, options, config), folder, per_shard)


@train_app.command
def vae(
    *,
    options: Annotated[VaeConfig, Parameter(name="*")] = VaeConfig(),  # noqa: B008 (immutable)
    config: ConfigFile = None,
) -> None:
    """Train a small VAE on drawn dancers."""
    print(train_vae(resolve(VaeConfig, options, config)))


@train_app.command
def larger(
    *,
    options: Annotated[LargerConfig, Parameter(name="*")] = LargerConfig(),  # noqa: B008 (immutable)
    config: ConfigFile = None,
) -> None:
    """Take a small model over to pictures of twice the size: its UNet gets a finer level around it."""
    print(train_larger(resolve(LargerConfig, options, config)))


@train_app.command
def image_encoder(
    *,
    options: Annotated[EncoderConfig, Parameter(name="*")] = EncoderConfig(),  # noqa: B008 (immutable)
    config: ConfigFile = None,
) -> None:
    """Train a small image encoder on drawn dancers."""
    print(train_encoder(resolve(EncoderConfig, options, config)))


@train_app.command
def words(
    *,
    options: Annotated[WordsConfig, Parameter(name="*")] = WordsConfig(),  # noqa: B008 (immutable)
    config: ConfigFile = None,
) -> None:
    """Train a small text encoder on what drawn dancers are described by."""
    print(train_words(resolve(WordsConfig, options, config)))


@train_app.command
def image(
    *,
    options: Annotated[ImageTrainConfig, Parameter(name="*")] = ImageTrainConfig(),  # noqa: B008 (immutable)
    config: Annotated[Path | None, Parameter(name="--config")] = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    workers: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    ray_address: str | None = None,
) -> None:
    """Train ControlNeXt for pictures on SD1.5, SDXL or SD3. A stopped run goes on.

    Parameters
    ----------
    config
        YAML file with any of these options.
    dry_run
        Print what learns, the data and the memory, and stop; needs no weights.
    workers
        Train in this many processes (GPUs), by Ray Train [default: this process, or accelerate's].
    ray_address
        Ray cluster of these workers: auto, or HOST:PORT [default: this machine alone].
    """
    from .train.image.plan import plan_pictures
    from .train.image.train import train_pictures

    resolved = resolve(ImageTrainConfig, options, config)
    if dry_run:
        print(plan_pictures(resolved))
    elif workers is not None:
        print(train_on_ray(resolved, workers, ray_address))
    else:
        print(train_pictures(resolved))


@evaluate_app.command
def model(
    *,
    options: Annotated[EvaluateConfig, Parameter(name="*")] = EvaluateConfig(),  # noqa: B008 (immutable)
) -> None:
    """Let a model dance on characters and motions it has never seen, and compare with the true drawings."""
    evaluate_model(options)


@evaluate_app.command
def pose(
    *,
    options: Annotated[EvaluatePoseConfig, Parameter(name="*")] = EvaluatePoseConfig(),  # noqa: B008 (immutable)
) -> None:
    """Let the pose estimators that run here, or the one named, find people whose every keypoint is known.

    These are drawn dancers, measured as found and made steady; or, with --annotations and --images, people of
    real pictures.
    """
    evaluate_pose(options)


@evaluate_app.command
def result(folder: Path) -> None:
    """Find the dance again in a result: pose against the drawn one, hands, flicker, seams, colours.

    Writes evaluation.json into the job's folder. Of a batch, each video that is done is measured, and
    index.html and summary.json tell of it.

    Parameters
    ----------
    folder
        Folder of a job of animate, or of a batch.
    """
    from .evaluate.result import evaluate_result

    evaluate_result(folder)


@evaluate_app.command
def curation(
    *,
    options: Annotated[EvaluateCurationConfig, Parameter(name="*")] = EvaluateCurationConfig(),  # noqa: B008
) -> None:
    """Print precision and recall of every filter of `curate` on drawn videos, whose answers are known.

    Takes half an hour on two cores.
    """
    print(evaluate_curation(options))


@evaluate_app.command
def character(
    *,
    options: Annotated[EvaluateCharacterConfig, Parameter(name="*")] = EvaluateCharacterConfig(),  # noqa: B008
) -> None:
    """Let a painter paint dancers that it has never seen, and look for their poses and colours."""
    evaluate_character(options)


@evaluate_app.command
def upscale(
    *,
    options: Annotated[EvaluateUpscaleConfig, Parameter(name="*")] = EvaluateUpscaleConfig(),  # noqa: B008
) -> None:
    """Enlarge drawn dancers that were made small, and compare with the true ones, beside plain Lanczos."""
    evaluate_upscale(options)


@evaluate_app.command
def claims(
    *,
    options: Annotated[ClaimsConfig, Parameter(name="*")] = ClaimsConfig(),  # noqa: B008 (immutable)
) -> None:
    """Compare ControlNeXt with a ControlNet, and with itself without cross-normalization, on a small base.

    Takes long on a CPU. A stopped run goes on.
    """
    evaluate_claims(options)
    print(options.output / "claims.png")


@evaluate_app.command
def pictures(
    *,
    options: Annotated[PictureClaimsConfig, Parameter(name="*")] = PictureClaimsConfig(),  # noqa: B008 (immutable)
) -> None:
    """Compare ControlNeXt for pictures with a ControlNet: counted, timed, and how soon it learns.

    Takes minutes on a CPU. A stopped run goes on.
    """
    from .evaluate.claims.pictures import evaluate_pictures

    print(evaluate_pictures(options))


def teach(
    *,
    options: Annotated[TeachConfig, Parameter(name="*")] = TeachConfig(),  # noqa: B008 (immutable)
    config: ConfigFile = None,
) -> None:
    """Teach the shipped model a real dancer, from one video."""
    from .teach.teach import teach as learn

    print(learn(resolve(TeachConfig, options, config)))


def convert(
    folder: Path,
    /,
    *,
    base: str,
    controlnext: Path | None = None,
    unet: Path | None = None,
    mimicmotion: Path | None = None,
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16",
    unet_holds: Literal["weights", "increments"] | None = None,
    vae: str | None = None,
    base_config: str | None = None,
) -> None:
    """Turn published weight files into one folder that --model takes.

    Parameters
    ----------
    folder
        New folder to write.
    base
        Stable Video Diffusion in diffusers layout: a folder or a hub id. Or, for pictures, SD1.5, SDXL or
        SD3: a folder, a hub id, or a single file.
    controlnext
        ControlNeXt weights, .bin or .safetensors, or a folder of your own training; for pictures also a hub
        id, OWNER/NAME or OWNER/NAME/FILE.
    unet
        UNet weights published with them, .bin or .safetensors, with diffusers' or the original names, or a
        folder of your own training.
    mimicmotion
        MimicMotion's weights, in place of these two.
    dtype
        Precision of what is written.
    unet_holds
        For pictures: what the file of unet holds, where neither its name nor its numbers tell.
    vae
        For pictures: a VAE in place of the base's, such as madebyollin/sdxl-vae-fp16-fix.
    base_config
        For pictures: folder or hub id in diffusers layout whose configs a single file takes.
    """
    from ..stages.controlnext.convert import convert as write
    from ..stages.image.bases import is_for_pictures
    from ..stages.image.convert import convert_pictures

    if is_for_pictures(base):
        if controlnext is None or mimicmotion is not None:
            raise ConfigError(f"{base} is a base for pictures: give --controlnext, and no --mimicmotion")
        with hold_beside(folder):
            for source in convert_pictures(
                base,
                folder,
                controlnext=controlnext,
                unet=[] if unet is None else [unet],
                kind=unet_holds,
                vae=vae,
                config=base_config,
                dtype=dtype,
            ):
                print(source)
        print(folder)
        return
    if unet_holds is not None or vae is not None or base_config is not None:
        raise ConfigError(f"{base} is no base for pictures: leave out --unet-holds, --vae and --base-config")
    files = {"controlnext": controlnext, "unet": unet, "mimicmotion": mimicmotion}
    with hold_beside(folder):
        for source in write(base, folder, **files, dtype=dtype):
            print(source)
    print(folder)
