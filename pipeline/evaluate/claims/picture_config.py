"""What is compared for pictures: `run.py evaluate pictures`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ...config import JsonFile
from ...config_base import Config, Hidden
from ...train.image.config import ImageTrainConfig, PictureDataConfig
from ...train.loop_config import LoopConfig
from ...train.model import ControlNeXtConfig

SHARES = (0.1, 0.2, 0.4, 1.0)
"""When loss and pose error are taken, as shares of the steps: at 100, 200, 400 and 1000 of 1000."""


class PictureClaimsConfig(Config):
    """What is compared."""

    output: Path = Path("out/claims-pictures")
    """Folder for checkpoints and logs; a stopped run goes on from there."""
    steps: Annotated[int, Field(multiple_of=10, ge=10)] = 1000
    """Steps that each way of control learns; it is measured at 10, 20, 40 and 100 % of them."""
    base_steps: Annotated[int, Field(ge=1)] = 1000
    """Steps that the base learns before, without control."""
    learn: Literal["none", "to_out", "all"] = "all"
    """Which of the base's parameters learn on with the control, in both ways alike."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides initial weights, data and noise."""
    batch: Annotated[int, Field(ge=1)] = 4
    """Pictures in a batch."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """AdamW's, for the base and for both ways of control."""
    held_out: Annotated[int, Field(ge=2)] = 8
    """Characters that are measured, each with one motion."""
    moments: Annotated[int, Field(ge=2)] = 8
    """Frames of each that are measured."""
    rounds: Annotated[int, Field(ge=1), Hidden] = 7
    """Each timing is the median of this many."""
    latents: Annotated[int, Field(multiple_of=8, ge=8), Hidden] = 48
    """Side of the latents of a timed step."""
    width: Annotated[int, Field(multiple_of=16, ge=32), Hidden] = 48
    """Width in pixels."""
    height: Annotated[int, Field(multiple_of=16, ge=32), Hidden] = 80
    """Height in pixels."""
    pictures: Annotated[int, Field(ge=1), Hidden] = 800
    """Drawn dancers to learn from."""
    widths: Annotated[tuple[int, int], Hidden] = (32, 64)
    """Channels of the base's levels."""
    controlnext: Annotated[ControlNeXtConfig, Hidden] = ControlNeXtConfig(
        stem=16,
        in_channels=(32,),
        out_channels=(32,),
        groups=(1,),
        stem_groups=1,
        mid_groups=1,
        time=64,
        padding=1,
    )
    """The light module."""
    json_file: JsonFile = None
    """File that gets the figures."""

    @property
    def measured_at(self) -> list[int]:
        """Steps at which loss and pose error are taken."""
        return [round(self.steps * share) for share in SHARES]

    @property
    def canvas(self) -> int:
        """Short side at which poses are drawn."""
        return 6 * self.width

    def training(self, method: str, base: bool) -> ImageTrainConfig:
        """How one way of control, or the base, is trained."""
        steps = self.base_steps if base else self.steps
        return ImageTrainConfig(
            output=self.output / method,
            base="the base of this comparison",
            new=self.controlnext,
            learn="all" if base else self.learn,
            module_rate=1.0,
            figure=4.0,
            prompt_dropout=0.0,
            batch=self.batch,
            save="whole",
            data=PictureDataConfig(
                width=self.width,
                height=self.height,
                condition="pose",
                canvas=self.canvas,
                pictures=self.pictures,
                keep=True,
                seed=self.seed,
                workers=0,
            ),
            loop=LoopConfig(
                steps=steps,
                seed=self.seed,
                learning_rate=self.learning_rate,
                warmup=20,
                betas=(0.9, 0.99),
                weight_decay=0.001,
                ema=0.99,
                validate_every=steps if base else max(1, self.steps // 10),
            ),
        )
