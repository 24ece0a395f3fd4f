"""Other people's names for the same weights: Stability's original (SGM), which ComfyUI files keep.

The original UNets, that of videos and those of pictures, count their blocks through: `input_blocks.0` is the
first convolution, then come for each level its residual blocks and a downsampling; `output_blocks` likewise,
three to a level.
"""

from collections.abc import Mapping

from torch import Tensor

PREFIXES = ("model.diffusion_model.", "diffusion_model.")
"""Before the UNet's keys in files that hold a whole pipeline."""

ORIGINAL = {"input_blocks", "middle_block", "output_blocks", "time_embed", "label_emb", "out"}
"""What the original keys begin with; none of diffusers' does."""

SINGLE = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ATTENTION = {
    "temporal_transformer_blocks": "time_stack",
    "time_pos_embed.linear_1": "time_pos_embed.0",
    "time_pos_embed.linear_2": "time_pos_embed.2",
}


def is_original(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys, of a whole UNet or of some of its weights, are the original ones."""
    return any(_without_prefix(key).split(".")[0] in ORIGINAL for key in state)


def to_diffusers(state: Mapping[str, Tensor], keys: list[str], layers_per_block: int) -> dict[str, Tensor]:
    """`state` under diffusers' names, of which `keys` are all that the UNet has.

    A key without a counterpart keeps its name, so that strict loading reports it.
    """
    plain = {_without_prefix(key): value for key, value in state.items()}
    renamed = {original_name(key, keys, layers_per_block): key for key in keys}
    return {renamed.get(key, key): value for key, value in plain.items()}


def original_name(key: str, keys: list[str], layers_per_block: int) -> str:
    """The original name of one weight of a diffusers UNet, spatio-temporal or 2D."""
    for ours, original in SINGLE.items():
        if key.startswith(f"{ours}."):
            return original + key.removeprefix(ours)
    if key.startswith("mid_block."):
        _, kind, index, tail = key.split(".", 3)
        place = "middle_block.1" if kind == "attentions" else f"middle_block.{2 * int(index)}"
        return f"{place}.{_tail(kind, tail)}"
    side, level, kind, index, tail = key.split(".", 4)
    if side == "down_blocks":
        block = 1 + int(level) * (layers_per_block + 1)
        if kind == "downsamplers":
            return f"input_blocks.{block + layers_per_block}.0.op.{tail.removeprefix('conv.')}"
        return f"input_blocks.{block + int(index)}.{int(kind == 'attentions')}.{_tail(kind, tail)}"
    block = int(level) * (layers_per_block + 1)
    if kind == "upsamplers":
        attends = any(other.startswith(f"up_blocks.{level}.attentions.") for other in keys)
        return f"output_blocks.{block + layers_per_block}.{1 + attends}.{tail}"
    return f"output_blocks.{block + int(index)}.{int(kind == 'attentions')}.{_tail(kind, tail)}"


def _tail(kind: str, tail: str) -> str:
    if kind == "attentions":
        for ours, original in ATTENTION.items():
            if tail.startswith(ours):
                return original + tail.removeprefix(ours)
        return tail
    part, rest = tail.split(".", 1)
    if part == "time_mixer":
        return tail
    if part in RESIDUAL:
        return f"{RESIDUAL[part]}.{rest}"
    layer, parameter = rest.rsplit(".", 1)
    return f"{'time_stack.' if part == 'temporal_res_block' else ''}{RESIDUAL[layer]}.{parameter}"


def _without_prefix(key: str) -> str:
    for prefix in PREFIXES:
        if key.startswith(prefix):
            return key.removeprefix(prefix)
    return key
