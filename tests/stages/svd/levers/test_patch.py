"""Changes of a network: stacked in any order, taken off in any order, and gone to the bit."""

from itertools import permutations, product

import pytest
import torch
from torch import nn

from posedance.stages.svd.files.tiny import tiny_random
from posedance.stages.svd.levers.checkpointing import checkpoint_blocks
from posedance.stages.svd.levers.collapse import collapse
from posedance.stages.svd.levers.deep_cache import cache_deep_features
from posedance.stages.svd.levers.fast import compile_regions, flatten_convolutions
from posedance.stages.svd.levers.feed_forward import chunk_feed_forward
from posedance.stages.svd.levers.patch import Lever, patch
from posedance.stages.svd.levers.temporal import without_temporal

LEVERS = {
    "collapse": collapse,
    "feed-forward": lambda unet: chunk_feed_forward(unet, 3),
    "flat convolutions": flatten_convolutions,
    "compile": compile_regions,
    "deep cache": lambda unet: cache_deep_features(unet, 1 << 20),
    "without temporal": without_temporal,
    "checkpointing": checkpoint_blocks,
}
"""Every lever there is, as it is put on a UNet."""


def add(number):
    """A change that adds `number` to what is below."""
    return lambda forward: lambda x: forward(x) + number


def double(forward):
    return lambda x: 2 * forward(x)


@pytest.fixture(scope="module")
def unet():
    return tiny_random().unet


@torch.no_grad()
def call(unet):
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(1, 3, 8, 8, 8, generator=generator)
    token = torch.randn(1, 1, 32, generator=generator)
    return unet(sample, torch.tensor(0.5), token, torch.zeros(1, 3), return_dict=False)[0]


def state(network):
    """All that a change may touch: each module's class, attributes of its own, and hooks."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs")
    return [
        (type(m), sorted(vars(m)), vars(m).get("forward"), [list(vars(m)[hook]) for hook in hooks])
        for m in network.modules()
    ]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_changes_come_off_in_any_order_and_the_others_stay(order):
    module, x = nn.Identity(), torch.tensor(3.0)
    wraps = [add(1), double, add(10)]
    changes = [patch(module, wrap) for wrap in wraps]
    assert module(x) == 2 * (3 + 1) + 10
    left = [0, 1, 2]
    for number in order:
        changes[number].undo()
        changes[number].undo()
        left.remove(number)
        expected = x
        for other in left:
            expected = wraps[other](lambda value, below=expected: below)(x)
        assert module(x) == expected
    assert "forward" not in vars(module) and "_patches" not in vars(module)


def test_a_forward_of_the_modules_own_comes_back():
    module = nn.Identity()
    own = module.forward = lambda x: x - 1
    first, second = patch(module, double), patch(module, add(5))
    first.undo()
    assert module(torch.tensor(3.0)) == 7
    second.undo()
    assert module.forward is own


def test_what_is_above_an_undone_change_is_kept_and_what_is_below_is_not_made_again():
    """So that compiled blocks under a cache are not compiled anew after it."""
    module, made = nn.Identity(), []

    def wrap(forward):
        made.append(forward)
        return lambda x: forward(x)

    below = patch(module, wrap)
    patch(module, double).undo()
    assert len(made) == 1 and module.forward is below.forward


def test_a_lever_ends_with_its_block_also_after_an_error():
    module = nn.Identity()
    with pytest.raises(RuntimeError), Lever() as lever:
        lever.patch(module, double)
        assert module(torch.tensor(1.0)) == 2
        raise RuntimeError
    assert "forward" not in vars(module)


@pytest.mark.parametrize(
    ("first", "second", "first_off"),
    [(a, b, off) for (a, b), off in product(permutations(LEVERS, 2), ("first", "second"))],
)
def test_every_two_levers_stack_and_give_the_network_back(unet, first, second, first_off):
    before = state(unet)
    levers = [LEVERS[first](unet), LEVERS[second](unet)]
    for lever in levers if first_off == "first" else reversed(levers):
        lever.detach()
    assert state(unet) == before


def test_every_two_levers_work_together(unet):
    """All but the compiler, which the next test has: each pair computes what both should."""
    plain, spatial = call(unet), None
    with without_temporal(unet):
        spatial = call(unet)
    assert not torch.allclose(plain, spatial, atol=1e-3)
    for first, second in permutations([name for name in LEVERS if name != "compile"], 2):
        expected = spatial if "without temporal" in (first, second) else plain
        with LEVERS[first](unet) as lower, LEVERS[second](unet):
            assert torch.allclose(call(unet), expected, atol=1e-5), (first, second)
            lower.detach()
            alone = spatial if second == "without temporal" else plain
            assert torch.allclose(call(unet), alone, atol=1e-5), (first, second)
    assert torch.equal(call(unet), plain)
