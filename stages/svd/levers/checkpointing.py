"""Gradient checkpointing of whole blocks: activations inside are dropped and computed again when needed.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016 (arXiv:1604.06174). diffusers' own
checkpoints leave out the temporal half of the transformers: most of what a step at 576x1024 keeps.
"""

from functools import partial

from diffusers.models.resnet import SpatioTemporalResBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from torch import nn
from torch.utils.checkpoint import checkpoint

from .patch import Forward, Lever

BLOCKS = (SpatioTemporalResBlock, TransformerSpatioTemporalModel)
"""What an SVD UNet is made of; only the input of each is kept."""


def checkpoint_blocks(unet: nn.Module) -> Lever:
    """Checkpoint every block of a diffusers UNet, until `detach`.

    The backward pass must find the UNet as the forward pass did: not in a context that has ended meanwhile.
    """
    lever = Lever()
    for module in unet.modules():
        if isinstance(module, BLOCKS):
            lever.patch(module, _checkpointed)
    return lever


def checkpoint_whole(module: nn.Module) -> Lever:
    """Checkpoint a module as one block, until `detach`: a control module then keeps its frames alone."""
    lever = Lever()
    lever.patch(module, _checkpointed)
    return lever


def _checkpointed(forward: Forward) -> Forward:
    return partial(checkpoint, forward, use_reentrant=False, preserve_rng_state=False)
