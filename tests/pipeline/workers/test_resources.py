"""How a machine is shared out among the stages of a batch."""

from pathlib import Path

import pytest

from posedance.pipeline.config import PoolsConfig
from posedance.pipeline.workers.machines import Machine, smallest_gpu
from posedance.pipeline.workers.resources import share_out
from posedance.stages.types import Resources

GIB = 1 << 30


@pytest.mark.parametrize("cpus", [1, 2, 4, 16, 64])
@pytest.mark.parametrize("gpus", [0, 1, 8])
@pytest.mark.parametrize("memory", [24 * GIB, 80 * GIB])
def test_shares_fit_the_machine(cpus: int, gpus: int, memory: int) -> None:
    shares = share_out([Machine(cpus, gpus, memory)], PoolsConfig())
    if cpus > gpus:
        assert sum(workers * each.cpus for workers, each in shares.values()) <= max(cpus, gpus + cpus / 4)
    assert sum(workers * each.gpus for workers, each in shares.values()) <= gpus
    assert shares["denoise"][0] == max(gpus, 1) and (shares["denoise"][1].gpus > 0.5) == (gpus > 0)
    assert all(workers >= 1 and each.cpus > 0 for workers, each in shares.values())


def test_gpus_with_room_decode_one_video_while_they_denoise_the_next() -> None:
    roomy = Machine(16, 2, 80 * GIB)
    shares = share_out([roomy, roomy], PoolsConfig())
    assert shares["denoise"] == (4, Resources(1.0, 0.6))
    assert shares["decode"] == (1, Resources(1.0, 0.4))
    for machine in (Machine(2), Machine(16, 2, 24 * GIB), Machine(16, 2), Machine(1, 1, 80 * GIB)):
        assert "decode" not in share_out([machine], PoolsConfig()), "no room, or nothing to gain"
    assert "decode" not in share_out([roomy], PoolsConfig.model_validate({"denoise": {"gpus": 1}}))


def test_a_gpu_tells_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert smallest_gpu() == 0, "no driver"
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 81559\necho 24564\n")
    driver.chmod(0o755)
    assert smallest_gpu() == 24564 << 20
    driver.write_text("#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n")
    assert smallest_gpu() == 0


def test_named_shares_hold() -> None:
    pools = PoolsConfig.model_validate({"denoise": {"gpus": 0.5}, "pose": {"workers": 3, "cpus": 2}})
    shares = share_out([Machine(16, 2), Machine(16, 2)], pools)
    assert shares["denoise"] == (8, Resources(1.0, 0.5)), "two share a GPU"
    assert shares["pose"] == (3, Resources(2, 0.0))
    named = PoolsConfig.model_validate({"decode": {"gpus": 0.25, "cpus": 2}})
    shares = share_out([Machine(16, 2)], named)
    assert shares["denoise"] == (2, Resources(1.0, 0.75)) and shares["decode"] == (1, Resources(2, 0.25))
