"""How a machine or a cluster is shared out among the stages of a batch."""

from collections.abc import Sequence

from ...stages.types import Resources
from ..config import PoolConfig, PoolsConfig
from .machines import Machine

Shares = dict[str, tuple[int, Resources]]
"""For each stage how many workers it may have, and what each of them takes."""

ROOMY_GPU = 30 << 30
"""Bytes of memory from which a GPU decodes one video while it denoises the next. By the memory planner's
count for 576x1024, decoding 8 frames together takes 11 GiB, and windows of 24 frames take 15 GiB with all
networks resident; two processes need a context each."""
DECODE_PART = 0.4
"""Of such a GPU, for decoding; the rest is the model's."""
DENOISING_PER_DECODING = 4
"""Workers that denoise for each that decodes. By count a frame's decoding is 1/30 of the work on it, and with
the preset `preview` about 1/10."""
STAGES = ("pose", "draw", "denoise", "decode", "compare")
"""In the order of the graph."""


def share_out(machines: Sequence[Machine], pools: PoolsConfig) -> Shares:
    """Fit the stages to the machines; what `pools` names holds.

    The model gets all GPUs, one for each worker, or half of each machine's cores where there is none. Where
    GPUs have the memory and the cores are enough, decoding gets workers of its own that share them, so that a
    video is decoded and encoded while the next one is denoised. Elsewhere there is no stage `decode`: its
    networks would be loaded twice, and two that share the cores gain nothing.

    Of the cores that are left, poses get half, control frames and comparison videos a quarter each, one core
    for a worker. On a small machine workers take parts of a core, so that a worker of each stage fits in.
    """
    cpus, devices = sum(machine.cpus for machine in machines), sum(machine.gpus for machine in machines)
    count = devices or len(machines)
    model = Resources(1.0, 1.0) if devices else Resources(min(machine.cpus for machine in machines) / 2, 0.0)
    rest = max(cpus - count * model.cpus, cpus / 4)
    shares: Shares = {}
    if decodes_apart(machines, pools):
        part = DECODE_PART if pools.decode.gpus is None else pools.decode.gpus
        decoders = -(-count // DENOISING_PER_DECODING)  # rounded up
        shares["decode"] = (decoders, Resources(min(1.0, rest / 4 / decoders), part if devices else 0.0))
        rest -= decoders * shares["decode"][1].cpus
        if devices and part < 1:
            model = Resources(model.cpus, 1.0 - part)
    shares["denoise"] = (count, model)
    for stage, share in (("pose", 0.5), ("draw", 0.25), ("compare", 0.25)):
        shares[stage] = (max(1, int(rest * share)), Resources(min(1.0, rest * share), 0.0))
    return {stage: named(shares[stage], pools, stage, devices) for stage in STAGES if stage in shares}


def decodes_apart(machines: Sequence[Machine], pools: PoolsConfig) -> bool:
    """Whether decoding has workers of its own: where `pools` names them, or where GPUs have room for both.

    Who names the model's part of a GPU has shared it out.
    """
    if pools.decode != PoolConfig():
        return True
    if pools.denoise.gpus is not None:
        return False
    with_gpus = [machine for machine in machines if machine.gpus]
    return bool(with_gpus) and all(
        machine.gpu_bytes >= ROOMY_GPU and machine.cpus > machine.gpus for machine in with_gpus
    )


def named(
    share: tuple[int, Resources], pools: PoolsConfig, stage: str, devices: int
) -> tuple[int, Resources]:
    """The share with what the config names in place of what was fitted."""
    pool = getattr(pools, stage)
    workers, fitted = share
    cpus = fitted.cpus if pool.cpus is None else pool.cpus
    gpus = fitted.gpus if pool.gpus is None else pool.gpus
    if pool.workers is not None:
        workers = pool.workers
    elif pool.gpus and devices and stage != "decode":
        workers = max(1, int(devices / pool.gpus))
    return workers, Resources(cpus, gpus)


def describe(shares: Shares) -> str:
    """The shares as one line for the user."""
    parts = []
    for stage, (workers, each) in shares.items():
        gpus = f" + {each.gpus:g} GPU" if each.gpus else ""
        parts.append(f"{stage} {workers} x {each.cpus:g} cores{gpus}")
    return ", ".join(parts)
