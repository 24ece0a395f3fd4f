"""LoRA weights on a UNet: the product is added in every naming, and taken away without a trace."""

import json
from typing import Any

import pytest
import torch
from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin
from diffusers.loaders.peft import PeftAdapterMixin
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import load_file, save_file

from posedance.stages.errors import ConfigError, WeightsError
from posedance.stages.models import save_generator
from posedance.stages.svd.files.lora import has_lora, load_lora, unload_lora
from posedance.stages.svd.files.tiny import tiny_random
from posedance.stages.svd.levers.collapse import collapse

LINEAR = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
VALUE = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v"
CONV = "down_blocks.0.resnets.0.spatial_res_block.conv1"


@pytest.fixture
def generator():
    return tiny_random()


def pairs(unet, names=(LINEAR, VALUE, CONV), rank=2):
    """Random A and B of each layer."""
    generator = torch.Generator().manual_seed(0)
    result = {}
    for name in names:
        weight = unet.get_submodule(name).weight
        down = torch.randn(rank, *weight.shape[1:], generator=generator) / 4
        up = torch.randn(len(weight), rank, *[1] * (weight.ndim - 2), generator=generator) / 4
        result[name] = (down, up)
    return result


def write(path, layers, down=".lora_A.weight", up=".lora_B.weight", prefix="", extra=None):
    state = {f"{prefix}{name}{down}": a for name, (a, _) in layers.items()}
    state |= {f"{prefix}{name}{up}": b for name, (_, b) in layers.items()}
    save_file(state | (extra or {}), path)
    return path


def merged(unet, layers, factor):
    """Another UNet of the same weights plus factor B A, written out."""
    other = tiny_random().unet
    other.load_state_dict(unet.state_dict())
    for name, (down, up) in layers.items():
        layer = other.get_submodule(name)
        layer.weight.data += factor * (up.flatten(1) @ down.flatten(1)).reshape(layer.weight.shape)
    return other


@torch.no_grad()
def run(unet):
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(1, 3, 8, 8, 8, generator=generator)
    token = torch.randn(1, 1, 32, generator=generator)
    return unet(sample, torch.tensor(0.5), token, torch.tensor([[6.0, 128.0, 0.0]])).sample


@pytest.mark.parametrize(
    "naming",
    [{}, {"prefix": "unet."}, {"down": ".lora.down.weight", "up": ".lora.up.weight"}],
)
def test_the_product_is_added_with_the_scale(generator, tmp_path, naming):
    unet = generator.unet
    layers = pairs(unet)
    expected, plain = run(merged(unet, layers, 0.5)), run(unet)
    assert load_lora(unet, write(tmp_path / "a.safetensors", layers, **naming), scale=0.5) == 3
    assert torch.allclose(run(unet), expected, atol=1e-5)
    assert not torch.allclose(run(unet), plain, atol=1e-3)


def test_alpha_over_rank_is_a_factor_of_each_layer(generator, tmp_path):
    unet = generator.unet
    layers = pairs(unet, (LINEAR,), rank=4)
    expected = run(merged(unet, layers, 3 / 4))
    path = write(tmp_path / "a.safetensors", layers, extra={f"{LINEAR}.alpha": torch.tensor(3.0)})
    load_lora(unet, path)
    assert torch.allclose(run(unet), expected, atol=1e-5)


class Layers(torch.nn.Module):
    """Three layers of a network, as LoRA weights know them."""

    def __init__(self):
        super().__init__()
        self.attn1 = torch.nn.ModuleDict({"to_q": torch.nn.Linear(8, 8)})
        self.attn2 = torch.nn.ModuleDict({"to_v": torch.nn.Linear(8, 8)})
        self.conv1 = torch.nn.Conv2d(8, 8, 3)


NAMES = ("attn1.to_q", "attn2.to_v", "conv1")


def scales(network, adapter="lora"):
    return [network.get_submodule(name).scaling[adapter] for name in NAMES]


@pytest.mark.parametrize(
    ("options", "factors"),
    [
        ({"r": 4, "lora_alpha": 16}, [4, 4, 4]),
        (
            {"r": 4, "lora_alpha": 6, "alpha_pattern": {NAMES[1]: 2}, "rank_pattern": {NAMES[2]: 2}},
            [1.5, 0.5, 3],
        ),
        ({"r": 4, "lora_alpha": 4, "alpha_pattern": {"to_v": 12}}, [1, 3, 1]),
        ({"r": 4, "lora_alpha": 8, "use_rslora": True}, [4, 4, 4]),
    ],
)
@pytest.mark.parametrize("saved_by", ["diffusers", "diffusers' pipelines", "peft"])
def test_alpha_counts_where_tools_save_it(tmp_path, options, factors, saved_by):
    theirs: Any = Layers()
    config = LoraConfig(target_modules=list(NAMES), init_lora_weights=False, **options)
    inject_adapter_in_model(config, theirs, "default")
    path = tmp_path / "pytorch_lora_weights.safetensors"
    state: Any = get_peft_model_state_dict(theirs, adapter_name="default")
    if saved_by == "peft":
        path = tmp_path / "adapter_model.safetensors"
        save_file({f"base_model.model.{key}": value for key, value in state.items()}, path)
        config.save_pretrained(tmp_path)
    elif saved_by == "diffusers":
        theirs.peft_config = {"default": config}
        PeftAdapterMixin.save_lora_adapter(theirs, tmp_path)
    else:
        told = {key: list(each) if isinstance(each, set) else each for key, each in config.to_dict().items()}
        StableDiffusionLoraLoaderMixin.save_lora_weights(
            tmp_path,
            unet_lora_layers=state,
            unet_lora_adapter_metadata=told,
            text_encoder_lora_adapter_metadata={"lora_alpha": 99},
        )
    ours = Layers()
    assert load_lora(ours, path) == 3
    assert scales(ours) == scales(theirs, "default") == pytest.approx(factors)
    for name in NAMES:
        own: Any = ours.get_submodule(name)
        other: Any = theirs.get_submodule(name)
        assert torch.equal(own.get_delta_weight("lora"), other.get_delta_weight("default"))


def test_tensors_of_alpha_win_over_the_header(tmp_path):
    layers = pairs(Layers(), NAMES, rank=4)
    path = write(tmp_path / "a.safetensors", layers, extra={f"{NAMES[0]}.alpha": torch.tensor(3.0)})
    save_file(load_file(path), path, {"lora_adapter_metadata": json.dumps({"lora_alpha": 8})})
    network = Layers()
    load_lora(network, path)
    assert scales(network) == [0.75, 2, 2]


def test_peft_weights_without_their_config_are_told(tmp_path, caplog):
    path = write(tmp_path / "a.safetensors", pairs(Layers(), NAMES), prefix="base_model.model.")
    assert load_lora(Layers(), path) == 3
    assert caplog.messages == [
        f"{path} lies without the adapter_config.json that tells the alpha of peft's LoRA weights: taken as "
        "their rank"
    ]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("{", "does not tell the alpha of LoRA weights in JSON"),
        ("[4]", "does not tell the alpha of LoRA weights by name"),
        ('{"lora_alpha": "four"}', "tells the alpha of LoRA weights wrongly"),
        ('{"lora_alpha": 4, "alpha_pattern": 4}', "tells the alpha of LoRA weights wrongly"),
        ('{"lora_alpha": 4, "alpha_pattern": {"(": 4}}', "tells the alpha of LoRA weights wrongly"),
        ('{"lora_alpha": NaN}', "is no number"),
    ],
)
def test_an_alpha_that_cannot_be_read_is_one_line(tmp_path, told, message):
    path = write(tmp_path / "a.safetensors", pairs(Layers(), NAMES))
    save_file(load_file(path), path, {"lora_adapter_metadata": told})
    with pytest.raises(WeightsError, match=message):
        load_lora(Layers(), path)


def test_unloading_leaves_the_unet_as_it_was(generator, tmp_path):
    unet = generator.unet
    plain, keys, modules = run(unet), list(unet.state_dict()), dict(unet.named_modules())
    path = write(tmp_path / "a.safetensors", pairs(unet))
    for _ in range(2):
        load_lora(unet, path)
        assert has_lora(unet)
        unload_lora(unet)
    unload_lora(unet)
    assert not has_lora(unet)
    assert list(unet.state_dict()) == keys
    assert dict(unet.named_modules()) == modules
    assert torch.equal(run(unet), plain)
    save_generator(generator, tmp_path / "model")


def test_collapsed_attention_sees_the_weights(generator, tmp_path):
    unet = generator.unet
    load_lora(unet, write(tmp_path / "a.safetensors", pairs(unet)))
    expected = run(unet)
    handle = collapse(unet)
    assert torch.allclose(run(unet), expected, atol=1e-5)
    handle.detach()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"down_blocks.9.to_q.lora_A.weight": torch.zeros(2, 2)},
            "lora_A.weight is of no layer",
        ),
        ({"lora_te_text_model.lora_down.weight": torch.zeros(2, 2)}, "is of no layer"),
        ({f"{VALUE}.lora_A.weight": torch.zeros(2, 32)}, f"{VALUE} is incomplete"),
        ({f"{LINEAR}.lora_A.weight": torch.zeros(2, 5)}, f"{LINEAR} is of another shape"),
        ({f"{LINEAR}.lora_A.weight": torch.zeros(3, 32)}, f"{LINEAR} is of another shape"),
    ],
)
def test_every_key_is_accounted_for(generator, tmp_path, change, message):
    path = write(tmp_path / "a.safetensors", pairs(generator.unet, (LINEAR,)), extra=change)
    with pytest.raises(WeightsError, match=message):
        load_lora(generator.unet, path)
    assert not has_lora(generator.unet)


def test_one_at_a_time(generator, tmp_path):
    path = write(tmp_path / "a.safetensors", pairs(generator.unet))
    load_lora(generator.unet, path)
    with pytest.raises(ConfigError, match="unload them"):
        load_lora(generator.unet, path)


def test_weights_take_the_dtype_of_the_unet(generator, tmp_path):
    unet = generator.to("cpu", torch.bfloat16).unet
    load_lora(unet, write(tmp_path / "a.safetensors", pairs(unet)))
    assert {parameter.dtype for parameter in unet.parameters()} == {torch.bfloat16}
    generator.to("cpu", torch.float32)
    assert run(unet).isfinite().all()
