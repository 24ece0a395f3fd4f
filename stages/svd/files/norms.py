"""Group counts of the norms, which diffusers fixes at 32 and no config or state dict records.

At the widths of a small model, 32 groups are InstanceNorm: the mean of a channel, and with it a colour,
cannot pass. A model folder therefore says in `posedance.json` how many groups each of its networks has, and
whoever loads it must set them, or the weights mean something else without any error.
"""

from torch import nn

from ...errors import WeightsError


def set_norm_groups(model: nn.Module, groups: int) -> int:
    """Give every GroupNorm in `model` this many groups, in place; returns how many norms there are.

    Raises WeightsError where a norm's channels are no multiple of `groups`.
    """
    norms = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.GroupNorm)]
    for name, norm in norms:
        if groups < 1 or norm.num_channels % groups:
            raise WeightsError(
                f"{name} has {norm.num_channels} channels, which {groups} groups do not divide: "
                "choose norm_groups that do"
            )
        norm.num_groups = groups
    return len(norms)


def norm_groups(model: nn.Module) -> int | None:
    """The group count that all GroupNorms of `model` share, or None if they differ or there are none."""
    counts = {module.num_groups for module in model.modules() if isinstance(module, nn.GroupNorm)}
    return counts.pop() if len(counts) == 1 else None
