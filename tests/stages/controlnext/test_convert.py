"""Published files at small size, converted to one folder."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel

from posedance.stages.controlnext.convert import convert, digest_of
from posedance.stages.controlnext.model import ControlNeXt
from posedance.stages.errors import ConfigError, WeightsError
from posedance.stages.models import load_generator, save_generator
from posedance.stages.svd.files.tiny import tiny_random

KIJAI = "controlnext-svd_v2-{}.safetensors"


def of(published, unet="unet-fp16"):
    return {
        "base": str(published / "svd"),
        "controlnext": published / "controlnet.bin",
        "unet": published / KIJAI.format(unet),
    }


def test_folder_makes_the_video_that_the_files_make(published, tmp_path):
    convert(folder=tmp_path / "model", dtype="fp32", **of(published))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    latents = []
    for generator in (
        load_generator("svd-xt-1.1", **of(published)),
        load_generator(str(tmp_path / "model")),
    ):
        settings = replace(generator.settings(), steps=1)
        latents.append(generator.denoise(pixels[0], pixels[1:], settings))
    assert torch.equal(*latents)


def test_folder_is_complete_and_says_what_went_in(published, tmp_path):
    sources = convert(folder=tmp_path / "model", **of(published))
    names = {str(path.relative_to(tmp_path / "model")) for path in (tmp_path / "model").rglob("*.*")}
    weights = {f"{name}/diffusion_pytorch_model.safetensors" for name in ("unet", "vae", "controlnext")}
    assert names > weights | {"image_encoder/model.safetensors", "unet/config.json", "README.md"}
    assert not any(name.endswith((".bin", ".pth")) for name in names)
    card = (tmp_path / "model/README.md").read_text()
    for word in ("Apache-2.0", "restricts commercial use", "fp16", *(source.sha256 for source in sources)):
        assert word in card
    assert str(tmp_path) not in card and str(published) not in card, "no path of this machine"


def test_the_digest_of_an_index_covers_its_shards(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}))
    for name in ("1", "2"):
        (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
    before = digest_of(index)
    assert digest_of(tmp_path / "1.safetensors") == hashlib.sha256(b"1").hexdigest()
    (tmp_path / "2.safetensors").write_bytes(b"3")
    assert digest_of(index) != before


def test_single_networks_load_by_from_pretrained(published, tmp_path):
    convert(folder=tmp_path / "model", **of(published))
    ours = load_generator(str(tmp_path / "model"))
    unet = UNetSpatioTemporalConditionModel.from_pretrained(tmp_path / "model", subfolder="unet")
    control = ControlNeXt.from_pretrained(tmp_path / "model", subfolder="controlnext")
    for loaded, own in ((unet, ours.unet), (control, ours.controlnext)):
        assert all(torch.equal(value, own.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_original_names_give_the_same_unet(published, tmp_path):
    unets = []
    for name in ("unet-fp16", "unet-fp16_converted"):
        sources = convert(folder=tmp_path / name, **of(published, name))
        assert [source.renamed for source in sources] == [False, "converted" in name]
        assert sources[0].parameters == 3_526_400
        unets.append(load_generator(str(tmp_path / name)).unet.state_dict())
    assert all(torch.equal(value, unets[1][key]) for key, value in unets[0].items())


def test_networks_of_our_own_training_are_named_as_such(published, tmp_path):
    save_generator(replace(tiny_random(), controlnext=ControlNeXt(control_channels=32)), tmp_path / "own")
    files = of(published) | {"unet": tmp_path / "own", "controlnext": tmp_path / "own"}
    sources = convert(folder=tmp_path / "model", **files)
    assert [source.path.parent.name for source in sources] == ["controlnext", "unet"]
    assert (tmp_path / "model/README.md").read_text().count("of those who trained it") == 2


def test_version_1_is_refused_by_name_and_nothing_is_left(published, tmp_path):
    torch.save(ControlNeXt(control_channels=1280).state_dict(), tmp_path / "controlnet.bin")
    with pytest.raises(WeightsError, match="ControlNeXt-SVD v1"):
        convert(folder=tmp_path / "model", **of(published) | {"controlnext": tmp_path / "controlnet.bin"})
    assert [path.name for path in tmp_path.iterdir()] == ["controlnet.bin"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unet": None}, "give --controlnext and --unet, or --mimicmotion"),
        ({"mimicmotion": "MimicMotion_1-1.pth"}, "leave out controlnext and unet"),
        ({"dtype": "fp8"}, "unknown dtype 'fp8'"),
    ],
)
def test_requests_that_cannot_be_run(published, tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        convert(folder=tmp_path / "model", **of(published) | change)


def test_nothing_is_overwritten(published, tmp_path):
    (tmp_path / "there").touch()
    with pytest.raises(ConfigError, match="not empty"):
        convert(folder=tmp_path, **of(published))
    with pytest.raises(ConfigError, match="there is a file"):
        convert(folder=tmp_path / "there", **of(published))
