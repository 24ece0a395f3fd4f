"""Names of weights: from the original layout to ours and back, one to one."""

import re

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel

from posedance.stages.svd.files.names import is_original, original_name, to_diffusers

SVD_XT = {"block_out_channels": (320, 640, 1280, 1280), "num_attention_heads": (5, 10, 20, 20)}


@pytest.fixture(scope="module")
def keys():
    with torch.device("meta"):
        return list(UNetSpatioTemporalConditionModel(**SVD_XT).state_dict())


def test_golden_keys_of_svd_xt(golden, read_json, keys):
    recorded = read_json(golden / "unet_injection/unet_svd_xt_state_dict_keys.json")["state_dict"]
    assert list(recorded) == keys


def test_names_are_one_to_one(keys):
    assert len({original_name(key, keys, 2) for key in keys}) == len(keys) == 1428


@pytest.mark.parametrize(
    ("ours", "original"),
    [
        ("conv_in.bias", "input_blocks.0.0.bias"),
        ("add_embedding.linear_2.weight", "label_emb.0.2.weight"),
        ("down_blocks.0.resnets.0.spatial_res_block.conv1.weight", "input_blocks.1.0.in_layers.2.weight"),
        (
            "down_blocks.0.resnets.1.temporal_res_block.time_emb_proj.bias",
            "input_blocks.2.0.time_stack.emb_layers.1.bias",
        ),
        (
            "down_blocks.0.attentions.0.temporal_transformer_blocks.0.ff_in.net.0.proj.weight",
            "input_blocks.1.1.time_stack.0.ff_in.net.0.proj.weight",
        ),
        ("down_blocks.0.downsamplers.0.conv.weight", "input_blocks.3.0.op.weight"),
        ("down_blocks.3.resnets.1.time_mixer.mix_factor", "input_blocks.11.0.time_mixer.mix_factor"),
        ("mid_block.resnets.1.spatial_res_block.norm2.bias", "middle_block.2.out_layers.0.bias"),
        ("mid_block.attentions.0.time_pos_embed.linear_2.bias", "middle_block.1.time_pos_embed.2.bias"),
        ("up_blocks.0.upsamplers.0.conv.weight", "output_blocks.2.1.conv.weight"),
        ("up_blocks.1.upsamplers.0.conv.weight", "output_blocks.5.2.conv.weight"),
        (
            "up_blocks.3.resnets.0.spatial_res_block.conv_shortcut.weight",
            "output_blocks.9.0.skip_connection.weight",
        ),
        (
            "up_blocks.3.attentions.0.temporal_transformer_blocks.0.norm_in.weight",
            "output_blocks.9.1.time_stack.0.norm_in.weight",
        ),
        ("conv_norm_out.weight", "out.0.weight"),
    ],
)
def test_known_names(keys, ours, original):
    assert ours in keys
    assert original_name(ours, keys, 2) == original


def diffusers_name(original: str, layers: int = 2) -> str:
    """The other way, by the rules of diffusers' own `scripts/convert_svd_to_diffusers.py`."""
    for ours, theirs in {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }.items():
        if re.fullmatch(rf"{re.escape(theirs)}\.(weight|bias)", original):
            return original.replace(theirs, ours)
    if found := re.fullmatch(r"middle_block\.(\d)\.(.*)", original):
        part, rest = int(found[1]), found[2]
        block, is_attention, place = "mid_block", part == 1, 0 if part == 1 else part // 2
    else:
        found = re.fullmatch(r"(input|output)_blocks\.(\d+)\.(\d)\.(.*)", original)
        assert found, original
        side, i, part, rest = found[1], int(found[2]) - (found[1] == "input"), int(found[3]), found[4]
        block = f"{'down' if side == 'input' else 'up'}_blocks.{i // (layers + 1)}"
        place, is_attention = i % (layers + 1), part == 1
        if rest.startswith("op."):
            return f"{block}.downsamplers.0.conv.{rest.removeprefix('op.')}"
        if rest.startswith("conv."):
            return f"{block}.upsamplers.0.{rest}"
    if is_attention:
        rest = rest.replace("time_stack", "temporal_transformer_blocks")
        rest = re.sub(
            r"time_pos_embed\.([02])", lambda m: f"time_pos_embed.linear_{1 + int(m[1]) // 2}", rest
        )
        return f"{block}.attentions.{place}.{rest}"
    if rest.startswith("time_mixer"):
        return f"{block}.resnets.{place}.{rest}"
    kind = "temporal" if rest.startswith("time_stack.") else "spatial"
    rest = rest.removeprefix("time_stack.")
    for old, new in {
        "in_layers.0": "norm1",
        "in_layers.2": "conv1",
        "out_layers.0": "norm2",
        "out_layers.3": "conv2",
        "emb_layers.1": "time_emb_proj",
        "skip_connection": "conv_shortcut",
    }.items():
        rest = rest.replace(old, new)
    return f"{block}.resnets.{place}.{kind}_res_block.{rest}"


def test_the_rules_of_diffusers_lead_back(keys):
    assert [diffusers_name(original_name(key, keys, 2)) for key in keys] == keys


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_there_and_back(keys, prefix):
    state = {key: torch.tensor(i) for i, key in enumerate(keys)}
    original = {prefix + original_name(key, keys, 2): value for key, value in state.items()}
    assert is_original(original)
    assert not is_original(state)
    assert to_diffusers(original, keys, 2) == state


def test_unknown_keys_stay_visible(keys):
    assert to_diffusers({"first_stage_model.x": torch.tensor(0)}, keys, 2).keys() == {"first_stage_model.x"}
