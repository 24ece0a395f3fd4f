"""A GPU that is not there: its tensors have a shape and a dtype, but no data.

torch's FakeTensorMode follows every operation, so one that mixes devices or dtypes fails here as on a GPU,
and the full size runs in seconds. The bytes of the tensors that live on the device are added up; workspaces
of kernels are not seen. A device guard for "cuda" that does nothing is compiled first, in a second.
"""

import ctypes
import shutil
import subprocess
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from posedance.stages.svd import generator as svd
from posedance.stages.svd.levers import fast

DEVICE = torch.device("cuda", 0)
GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
namespace {
using c10::Device, c10::DeviceIndex, c10::Stream;
const Device here(c10::DeviceType::CUDA, 0);
struct Guard final : public c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA> {
  DeviceIndex deviceCount() const noexcept override { return 1; }
  Device exchangeDevice(Device) const override { return here; }
  Device getDevice() const override { return here; }
  Stream getStream(Device) const noexcept override { return Stream(Stream::DEFAULT, here); }
  Stream getDefaultStream(Device) const override { return Stream(Stream::DEFAULT, here); }
  Stream exchangeStream(Stream) const noexcept override { return Stream(Stream::DEFAULT, here); }
  void record(void**, const Stream&, const DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard);
}
"""
"""What moves a process to a device and back: nowhere."""
HOOKS = """
#include <ATen/detail/CUDAHooksInterface.h>
namespace {
struct Hooks final : public at::CUDAHooksInterface {
  Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
};
using at::CUDAHooksRegistry;
using at::RegistererCUDAHooksRegistry;
C10_REGISTER_CLASS(CUDAHooksRegistry, CUDAHooks, Hooks);
}
"""
"""What autograd asks of a device. torch looks for it when it loads: the library must be there before."""


class NoDeviceError(Exception):
    """There can be no pretended GPU here; says why."""


def compile_device(folder: Path, source: str) -> Path:
    """A library of `source`. Raises NoDeviceError."""
    if torch.cuda.is_available():
        raise NoDeviceError("no pretended GPU: there is a real one")
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if compiler is None:
        raise NoDeviceError("no pretended GPU: there is no C++ compiler")
    code, library, root = folder / "device.cpp", folder / "device.so", Path(torch.__file__).parent
    code.write_text(source)
    flags = [
        "-shared",
        "-fPIC",
        "-std=c++20",
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}",
        f"-Wl,-rpath,{root / 'lib'}",
    ]
    paths = ["-I", root / "include", code, "-o", library, "-L", root / "lib", "-lc10", "-ltorch_cpu"]
    run = subprocess.run([compiler, *flags, *paths], capture_output=True, text=True)
    if run.returncode:
        raise NoDeviceError(f"no pretended GPU: {compiler} cannot compile it: {run.stderr.strip()[-300:]}")
    return library


def load_guard(folder: Path) -> None:
    """Teach this process the device, for what needs no gradients. Raises NoDeviceError."""
    ctypes.CDLL(str(compile_device(folder, GUARD)))


class PretendedGpu(TorchDispatchMode):
    """Counts what lives on the device of `total` bytes."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self.total = total
        self.live = self.peak = 0
        self.events: list[tuple[int, int]] = []
        """(tensor, bytes) as they come; bytes are 0 where it goes."""
        self._sizes: dict[int, tuple[int, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and value.device.type == "cuda":
                storage = value.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self._sizes and size:
                    self._sizes[key] = len(self.events), size
                    self.events.append((len(self.events), size))
                    self.live += size
                    weakref.finalize(storage, self._gone, key)
        self.peak = max(self.peak, self.live)
        return result

    def _gone(self, key: int) -> None:
        number, size = self._sizes.pop(key)
        self.events.append((number, 0))
        self.live -= size

    def peak_of(self, run: Any) -> int:
        """The most bytes that live on the device while run() does its work."""
        self.peak = self.live
        run()
        return self.peak


class Attention(torch.autograd.Function):
    """One fused kernel: makes its result, and keeps what a GPU's does for the backward pass."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        assert query.dtype == key.dtype == value.dtype, "attention of several dtypes"
        result = query.new_empty(*query.shape[:-1], value.shape[-1])
        sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, result, sums)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return tuple(map(torch.empty_like, ctx.saved_tensors[:3]))


def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if torch.is_autocast_enabled("cuda"):
        query, key, value = (part.to(torch.get_autocast_dtype("cuda")) for part in (query, key, value))
    return Attention.apply(query, key, value)


def move(self: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """`nn.Module.to` for parameters without data, which torch's own cannot exchange in place."""
    device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
    for module in self.modules():
        for table in (module._parameters, module._buffers):
            for name, value in table.items():
                if value is None:
                    continue
                where, kind = device or value.device, dtype or value.dtype
                if not value.is_floating_point():
                    kind = value.dtype
                if (value.device, value.dtype) == (where, kind) and isinstance(value, FakeTensor):
                    continue
                moved = value.detach().to(device=where, dtype=kind)
                learns = value.requires_grad
                table[name] = nn.Parameter(moved, learns) if table is module._parameters else moved
    return self


numpy = Tensor.numpy


def read(self: Tensor, *args: Any, **kwargs: Any) -> np.ndarray:
    """`Tensor.numpy`, where there is no data black."""
    return (
        np.zeros(tuple(self.shape), np.uint8)
        if isinstance(self, FakeTensor)
        else numpy(self, *args, **kwargs)
    )


def really(call: Any) -> Any:
    """For small numbers that are computed and read on the CPU."""

    def computed(*args: Any, **kwargs: Any) -> Any:
        with unset_fake_temporarily():
            return call(*args, **kwargs)

    return computed


@contextmanager
def pretended_gpu(total: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGpu]:
    """Tensors are without data while this is open, and there is a CUDA device of `total` bytes for them."""
    gpu = PretendedGpu(total)
    properties = SimpleNamespace(total_memory=total, major=9, minor=0, name="pretended")
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "mem_get_info", lambda device=None: (gpu.total - gpu.live, gpu.total))
        patched.setattr(torch.cuda, "memory_reserved", lambda device=None: gpu.live)
        patched.setattr(torch.cuda, "memory_allocated", lambda device=None: gpu.live)
        patched.setattr(torch.cuda, "get_device_properties", lambda device=None: properties)
        patched.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
        patched.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
        patched.setattr(nn.Module, "to", move)
        patched.setattr(nn.functional, "scaled_dot_product_attention", attention)
        patched.setattr(Tensor, "numpy", read)
        patched.setattr(fast, "runs", lambda *_: True)
        for name in ("sampling_sigmas", "aligned_sigmas", "consistency_sigmas"):
            patched.setattr(svd, name, really(getattr(svd, name)))
        patched.setattr(svd, "initial_deviation", really(lambda *args: 1.0))
        with FakeTensorMode(allow_non_fake_inputs=True), gpu:
            yield gpu
