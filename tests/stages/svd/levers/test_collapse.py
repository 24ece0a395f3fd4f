"""Cross-attention to one token, collapsed: exact, and gone without a trace when it is detached."""

import pytest
import torch

from posedance.stages.svd.files.tiny import TOKEN_WIDTH, tiny_random
from posedance.stages.svd.levers.collapse import collapse


@pytest.fixture(params=[torch.float64, torch.float32, torch.bfloat16], ids=str)
def unet(request):
    return tiny_random().unet.to(dtype=request.param)


def call(unet, tokens=1):
    generator = torch.Generator().manual_seed(0)
    dtype = unet.dtype
    return unet(
        torch.randn(2, 3, 8, 8, 8, generator=generator).to(dtype),
        torch.tensor(0.5),
        torch.randn(2, tokens, TOKEN_WIDTH, generator=generator).to(dtype),
        torch.tensor([[6, 128, 0.02]] * 2),
    ).sample


@pytest.fixture
def one_thread():
    """With more threads, the library cuts products differently by their size, which changes last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_collapsed_attention_is_exact(unet, one_thread):
    """To the bit in the precisions that are used; in double precision products of 32 are summed otherwise."""
    plain = call(unet)
    handle = collapse(unet)
    collapsed = call(unet)
    handle.detach()
    if unet.dtype == torch.float64:
        torch.testing.assert_close(collapsed, plain, rtol=0, atol=1e-13)
    else:
        assert torch.equal(collapsed, plain)


def test_more_tokens_attend_as_usual(unet):
    plain = call(unet, tokens=2)
    handle = collapse(unet)
    assert torch.equal(call(unet, tokens=2), plain)
    handle.detach()


def test_detach_leaves_no_trace(unet):
    keys = list(unet.state_dict())
    collapse(unet).detach()
    assert list(unet.state_dict()) == keys
    assert not unet._forward_pre_hooks
    assert not any("forward" in module.__dict__ for module in unet.modules())


def test_disabled_is_plain(unet):
    handle = collapse(unet)
    handle.enabled = False
    seen = []
    unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_q.register_forward_hook(
        lambda module, args, output: seen.append(output)
    )
    call(unet)
    handle.detach()
    assert seen


def test_queries_and_norms_are_not_computed(unet):
    handle = collapse(unet)
    seen = []
    for name, module in unet.named_modules():
        if "attn2" in name:
            module.register_forward_hook(lambda module, args, output, name=name: seen.append(name))
    call(unet)
    handle.detach()
    assert any(name.endswith("to_v") for name in seen)
    assert not any(name.endswith(("to_q", "to_k")) for name in seen)
