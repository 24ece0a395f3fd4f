import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel

from posedance.stages.svd.names import is_original, original_name, to_diffusers

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


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_there_and_back(keys, prefix):
    state = {key: torch.tensor(i) for i, key in enumerate(keys)}
    original = {prefix + original_name(key, keys, 2): value for key, value in state.items()}
    assert is_original(original)
    assert not is_original(state)
    assert to_diffusers(original, keys, 2) == state


def test_unknown_keys_stay_visible(keys):
    assert to_diffusers({"first_stage_model.x": torch.tensor(0)}, keys, 2).keys() == {"first_stage_model.x"}
