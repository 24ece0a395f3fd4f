"""A model taken over to pictures of twice the size starts where the smaller one was."""

from math import log
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from posedance.pipeline.train.data import readable
from posedance.pipeline.train.grow import QUIETER, deepened_controlnext, finer_unet, told_half
from posedance.pipeline.train.larger import LargerConfig, train_larger
from posedance.pipeline.train.log import read_log
from posedance.pipeline.train.model import (
    ControlNeXtConfig,
    ModelConfig,
    UnetConfig,
    load_parts,
    new_controlnext,
    new_unet,
    save_model,
)
from posedance.pipeline.train.vae import VaeConfig, VaeTask, missed_averages, posterior
from posedance.stages.errors import ConfigError
from posedance.stages.models import load_generator
from posedance.stages.pixels import to_signed

SMALL = {"width": 48, "height": 64, "canvas": 64, "frames": 1, "clips": 1, "workers": 0}
UNET = UnetConfig(widths=(32,), attention=(True,), head=16, layers=1, norm_groups=1)
CONTROL = ControlNeXtConfig(
    stem=8, in_channels=(8,), out_channels=(16,), groups=(1,), stem_groups=1, mid_groups=1, time=16
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_finer_unet_says_of_averages_what_the_known_one_says() -> None:
    torch.manual_seed(0)
    known: Any = new_unet(UNET, 4, 8).eval()
    with torch.no_grad():  # the last convolution alone looks half as far: let it look nowhere
        beside = torch.ones(3, 3, dtype=torch.bool)
        beside[1, 1] = False
        known.conv_out.weight[:, :, beside] = 0.0
    finer = finer_unet(known)
    coarse = F.interpolate(random(4, 8, 4, 6), (8, 12), mode="bilinear")
    fine = F.interpolate(coarse, scale_factor=2)
    rest = {
        "encoder_hidden_states": random(1, 1, 8),
        "added_time_ids": torch.tensor([[6.0, 127.0, 0.0]]),
        "return_dict": False,
    }
    with torch.no_grad():
        louder = torch.cat([coarse[:, :4] * QUIETER, coarse[:, 4:]], 1)
        wanted = known(louder[None], torch.tensor(0.5 - 0.25 * log(2)), **rest)[0][0]
        said = finer(fine[None], torch.tensor(0.5), **rest)[0][0]
    assert finer.config["block_out_channels"] == (32, 32)
    torch.testing.assert_close(said, F.interpolate(wanted, scale_factor=2))
    with pytest.raises(ConfigError, match="the UNet has 2 levels"):
        finer_unet(finer)
    with pytest.raises(ConfigError, match="has 32 channels: it takes 64 to be made finer"):
        finer_unet(new_unet(UNET, 8, 8))


def test_an_embedding_told_half_says_what_it_said_of_half_the_noise() -> None:
    module = new_controlnext(CONTROL, 16)
    with torch.no_grad():
        said = module.embed_time(0.25 * log(3.0), 1)
        told_half(module.time_embedding, module.time_proj)
        torch.testing.assert_close(module.embed_time(0.25 * log(6.0), 1), said)


def test_a_model_is_taken_to_larger_pictures(tmp_path: Path) -> None:
    shipped = load_generator("demo")
    vae, encoder = (tmp_path / "parts" / name for name in ("vae", "image_encoder"))
    shipped.vae.save_pretrained(vae)
    shipped.image_encoder.save_pretrained(encoder)
    (tmp_path / "parts" / "posedance.json").write_text('{"norm_groups": {"vae": 1}}')
    unet = UNET.model_copy(update={"widths": (64,)})
    made = {"vae": vae, "image_encoder": encoder, "unet": unet, "controlnext": CONTROL}
    torch.manual_seed(0)
    base = tmp_path / "base"
    save_model(base, load_parts(ModelConfig.model_validate(made)), ModelConfig(), "", "", {})
    model = {"base": base, "vae": vae, "width": 48, "height": 64, "strength": 1.0, "noise_aug": 0.0}
    loop = {"steps": 12, "learning_rate": 1e-3, "warmup": 1, "ema": 0.0, "log_every": 1}
    given = {"output": tmp_path, "model": model, "frames": 2, "data": SMALL, "loop": loop}
    larger: Any = load_generator(str(train_larger(LargerConfig.model_validate(given))))
    assert (larger.defaults.width, len(larger.controlnext.down_res)) == (48, 2)
    assert larger.unet.config["block_out_channels"] == [64, 64]
    missed = [entry["missed"] for entry in read_log(tmp_path) if "missed" in entry]
    assert len(missed) == 12 and missed[-1] < 0.8 * missed[0] < 1
    with pytest.raises(ConfigError, match=r"name model\.base, the smaller model, and model\.vae"):
        train_larger(LargerConfig.model_validate({"model": {"base": base}}))


def test_a_vae_like_another_learns_latents_that_average_to_its(tmp_path: Path) -> None:
    config = VaeConfig.model_validate({"widths": (32, 64, 64), "latent_channels": 8, "data": SMALL})
    known = VaeTask(config).vae.eval()
    known.save_pretrained(tmp_path / "vae")
    (tmp_path / "posedance.json").write_text('{"norm_groups": {"vae": 1}}')
    task = VaeTask(config.model_copy(update={"like": tmp_path / "vae"}))
    (clip,) = readable(config.data.training(), 1)
    pictures = to_signed(clip.frames)
    with torch.no_grad():
        halves = posterior(known, F.interpolate(pictures, scale_factor=0.5, mode="area")).mode()
        assert missed_averages(known, F.interpolate(halves, scale_factor=2), pictures) < 1e-9
        before = float(missed_averages(known, posterior(task.vae, pictures).mode(), pictures))
    optimizer = torch.optim.Adam([p for _, p in task.trainable()], 1e-4)
    for step in range(12):
        optimizer.zero_grad()
        task.loss(step, 0, [clip])[0].backward()
        optimizer.step()
    with torch.no_grad():
        assert missed_averages(known, posterior(task.vae, pictures).mode(), pictures) < 0.8 * before
    with pytest.raises(ValueError, match="like and decoder_of are both where a VAE starts"):
        VaeConfig(like=tmp_path, decoder_of=tmp_path)


def test_a_deepened_controlnext_is_the_old_one_on_averages_of_its_stem() -> None:
    torch.manual_seed(0)
    module = new_controlnext(CONTROL, 16).eval()
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
