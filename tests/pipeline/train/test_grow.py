"""A model taken over to pictures of twice the size starts where the smaller one was."""

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from posedance.pipeline.train.data import readable
from posedance.pipeline.train.grow import deepened_controlnext
from posedance.pipeline.train.larger import LargerConfig, train_larger
from posedance.pipeline.train.log import read_log
from posedance.pipeline.train.model import ControlNeXtConfig, new_controlnext
from posedance.pipeline.train.vae import VaeConfig, VaeTask, missed_latents
from posedance.stages.errors import ConfigError
from posedance.stages.models import load_generator
from posedance.stages.pixels import to_signed


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


SMALL = {"width": 48, "height": 64, "canvas": 64, "frames": 1, "clips": 8, "workers": 0}
SHIPPED = Path(str(resources.files("posedance.stages") / "demo"))


def small_vae(**options: Any) -> VaeTask:
    return VaeTask(
        VaeConfig.model_validate({"widths": (32, 64, 64), "latent_channels": 8, "data": SMALL} | options)
    )


def test_an_enlarged_vae_has_the_latents_of_pictures_half_as_large_and_decodes_them(tmp_path: Path) -> None:
    known = small_vae().vae.eval()
    known.register_to_config(scaling_factor=0.7)
    known.save_pretrained(tmp_path / "vae")
    (tmp_path / "posedance.json").write_text('{"norm_groups": {"vae": 1}}')
    task = small_vae(like=tmp_path / "vae", data=SMALL | {"width": 96, "height": 128})
    grown: Any = task.vae
    assert (grown.config["block_out_channels"], grown.config["scaling_factor"]) == ((32, 32, 64, 64), 0.7)
    (clip,) = readable(task.config.data.training(), 1)
    pictures = to_signed(clip.frames)
    with torch.no_grad():
        latents = grown.encode(pictures, return_dict=False)[0].mode()
        missed = float(missed_latents(known, latents, pictures))
        shifted = float(missed_latents(known, latents, pictures.roll(2, 3)))
        larger = task.reconstruct(pictures)
        smaller = known.decode(latents, num_frames=2, return_dict=False)[0]
    assert latents.shape == (2, 8, 16, 12) and missed < 0.02 < shifted
    halved = nn.functional.interpolate(larger, scale_factor=0.5, mode="area")
    assert (halved - smaller).square().mean() < 0.002 * smaller.square().mean()
    loss, logs = task.loss(0, 0, [clip])
    loss.backward()
    assert logs["latents_missed"] < 0.02 and grown.encoder.conv_in.weight.grad.any()


def test_a_model_is_taken_to_larger_pictures_with_its_unet_as_it_was(tmp_path: Path) -> None:
    model = {
        "base": SHIPPED,
        "vae": SHIPPED / "vae",
        "width": 48,
        "height": 64,
        "strength": 1.0,
        "noise_aug": 0.0,
    }
    loop = {"steps": 4, "learning_rate": 3e-3, "warmup": 1, "ema": 0.0, "log_every": 1}
    given = {"output": tmp_path, "model": model, "frames": 2, "data": SMALL | {"clips": 1}, "loop": loop}
    config = LargerConfig.model_validate(given)
    made: Any = load_generator(str(train_larger(config)))
    shipped: Any = load_generator("demo")
    assert (made.defaults.width, len(made.controlnext.down_res)) == (48, 2)
    assert all(
        torch.equal(value, shipped.unet.state_dict()[key]) for key, value in made.unet.state_dict().items()
    )
    missed = [entry["missed"] for entry in read_log(tmp_path) if "missed" in entry]
    assert len(missed) == 4 and missed[-1] < missed[0] < 1
    with pytest.raises(ConfigError, match=r"name model\.base, the smaller model, and model\.vae"):
        train_larger(LargerConfig.model_validate({"model": {"base": SHIPPED}}))


def test_a_deepened_controlnext_is_the_old_one_on_averages_of_its_stem() -> None:
    torch.manual_seed(0)
    config = ControlNeXtConfig(
        stem=8, in_channels=(8,), out_channels=(16,), groups=(1,), stem_groups=1, mid_groups=1, time=16
    )
    module = new_controlnext(config, 16).eval()
    grown = deepened_controlnext(module)
    frames = random(1, 2, 3, 32, 48).sigmoid()
    kernel = torch.outer(*[torch.tensor([0.25, 0.5, 0.25])] * 2)
    with torch.no_grad():
        stem = module.embedding(rearrange(frames, "b f c h w -> (b f) c h w"))
        averages = nn.functional.conv2d(stem, kernel.expand(8, 1, 3, 3), stride=2, padding=1, groups=8)
        module.embedding = nn.Identity()
        wanted = module(averages[None], 0.3)
    assert grown.config["in_channels"] == (8, 8)
    torch.testing.assert_close(grown(frames, 0.3), wanted)
