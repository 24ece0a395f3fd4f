"""What decides a training of ControlNeXt for pictures."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ....datasets.clips import HELD_OUT
from ....datasets.pictures import FolderPictures, Pictures, PictureSpec, PuppetPictures, TablePictures
from ....stages.errors import ConfigError
from ....stages.image.conditions import Kind
from ....stages.image.families import SD3_BLOCK
from ...config_base import Config
from ..loop_config import LoopConfig
from ..model import ControlNeXtConfig

HELD_OUT_PICTURES = 8
"""At most this many pictures of files are held out."""


class PictureDataConfig(Config):
    """Pictures with conditions to learn from: dancers drawn on the fly, or files."""

    width: Annotated[int, Field(ge=16, multiple_of=16)] = 512
    """Width in pixels."""
    height: Annotated[int, Field(ge=16, multiple_of=16)] = 512
    """Height in pixels."""
    condition: Kind = "pose"
    """What the module learns to follow; canny, mask and low-resolution need no condition pictures."""
    canvas: Annotated[int, Field(ge=8)] = 2160
    """Short side at which drawn dancers' poses are drawn."""
    factor: Annotated[float | None, Field(gt=1)] = None
    """How much larger a picture is than its low-resolution self [default: any from 2 to 4]."""
    faults: bool = True
    """Whether low-resolution pictures have a file's faults; without, they are plain averages."""
    pictures: Annotated[int, Field(ge=1)] = 10000
    """Drawn dancers."""
    keep: bool = False
    """Keep drawn dancers in memory, where a training sees each many times."""
    folder: Path | None = None
    """Folder of pictures, NAME.png with NAME.condition.png and its prompt NAME.txt beside it, instead."""
    dataset: Path | None = None
    """Folder of a Hugging Face data set (parquet or arrow; image, conditioning_image, text), instead."""
    seed: int = 0
    """Decides drawn dancers, and how low-resolution pictures are made."""
    workers: Annotated[int, Field(ge=0)] = 1
    """Processes that read or draw ahead."""

    @model_validator(mode="after")
    def _one_source(self) -> "PictureDataConfig":
        if self.folder is not None and self.dataset is not None:
            raise ValueError("data.folder and data.dataset exclude each other: give one")
        return self

    def spec(self) -> PictureSpec:
        return PictureSpec(self.width, self.height, self.condition, self.canvas, self.factor, self.faults)

    def drawn(self) -> bool:
        """Whether pictures are dancers drawn on the fly."""
        return self.folder is None and self.dataset is None

    def training(self) -> Pictures:
        """The pictures to learn from."""
        if self.drawn():
            return PuppetPictures(self.spec(), self.pictures, self.seed, keep=self.keep)
        from torch.utils.data import Subset

        files = self.files()
        return Subset(files, range(len(files) - held_out_of(len(files))))

    def held_out(self, count: int) -> Pictures:
        """At most `count` pictures that `training` does not have."""
        if self.drawn():
            return PuppetPictures(self.spec(), count, self.seed, first=HELD_OUT)
        from torch.utils.data import Subset

        files = self.files()
        first = len(files) - held_out_of(len(files))
        return Subset(files, range(first, min(first + count, len(files))))

    def files(self) -> FolderPictures | TablePictures:
        """All pictures of the files. ConfigError where they are too few."""
        if self.folder is not None:
            found = FolderPictures(self.folder, self.spec(), self.seed)
        else:
            assert self.dataset is not None
            found = TablePictures(self.dataset, self.spec(), self.seed)
        if len(found) < 2:
            raise ConfigError(
                f"{len(found)} pictures are too few: one to learn from and one held out at least"
            )
        return found


def held_out_of(count: int) -> int:
    """How many of the last pictures are kept for validation: a tenth, at least one."""
    return min(HELD_OUT_PICTURES, max(1, count // 10))


class ImageTrainConfig(Config):
    """Everything that decides a training of ControlNeXt for pictures."""

    output: Path = Path("out/train-image")
    """Folder for checkpoints, logs, and `model/`."""
    base: str = "sd15"
    """sd15, sdxl or sd3 for the original on the hub; or a folder, another hub id, a single file."""
    base_config: str | None = None
    """Folder or hub id in diffusers layout whose configs a single file takes."""
    words: Path | None = None
    """Of small-sd15: the folder that `train words` wrote."""
    controlnext: Path | None = None
    """Control module to go on from: a file, or a folder of a training. A new one without."""
    new: ControlNeXtConfig | None = None
    """Sizes of a new module, where not the published ones."""
    learn: str | None = None
    """Regular expression of the names of the network's parameters that learn [default: the published: to_out;
    of SDXL attn2.*to_out; of SD3 .attn.to_out.]; "none" for the module alone, "all" for all."""
    module_rate: Annotated[float, Field(gt=0)] = 10.0
    """How many times the learning rate the module takes, as published."""
    scale: Annotated[float, Field(gt=0)] = 1.0
    """How strongly the control joins: 1 for dense conditions; published canny learned with 0.35."""
    block: Annotated[int, Field(ge=-1)] = SD3_BLOCK
    """Of SD3: the joint block after which the control joins."""
    begin: Annotated[float | None, Field(gt=0, lt=1)] = None
    """Of SD3: learn to enlarge in one step, from the condition picture with this share of noise."""
    crop: Annotated[int | None, Field(ge=16, multiple_of=4)] = None
    """With begin: side of the squares that are learned from, in pixels; most where most is to be learned."""
    crops: Annotated[int, Field(ge=1)] = 4
    """How many of them each picture of a batch gives."""
    figure: Annotated[float, Field(ge=1)] = 1.0
    """How many times more places near what the condition shows count: for poses and masks."""
    prompt_dropout: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of samples that lose their prompt, for guidance."""
    batch: Annotated[int, Field(ge=1)] = 4
    """Pictures in a batch."""
    save: Literal["whole", "subset", "increments"] = "increments"
    """What `model/` holds of the network: all of it, what learned, or what that gained over the base."""
    gradient_checkpointing: bool = False
    """Less memory for more time."""
    data: PictureDataConfig = PictureDataConfig()
    loop: LoopConfig = LoopConfig()

    @model_validator(mode="after")
    def _one_module(self) -> "ImageTrainConfig":
        if self.controlnext is not None and self.new is not None:
            raise ValueError("controlnext and new exclude each other: go on from a module, or make one")
        return self
