"""How a machine or a cluster is shared out among the stages of a batch."""

from collections.abc import Sequence

from ..stages.types import Resources
from .config import PoolsConfig

Shares = dict[str, tuple[int, Resources]]
"""For each stage how many workers it may have, and what each of them takes."""


def share_out(nodes: Sequence[tuple[float, float]], pools: PoolsConfig) -> Shares:
    """Fit the stages to machines of (cores, GPUs) each; what `pools` names holds.

    The model gets all GPUs, one for each worker, or half of each machine's cores where there is none. Of the
    cores that are left, poses get half, control frames and comparison videos a quarter each, one core for a
    worker. On a small machine workers take parts of a core, so that a worker of each stage fits in.
    """
    cpus, devices = sum(node[0] for node in nodes), int(sum(node[1] for node in nodes))
    model = Resources(1.0, 1.0) if devices else Resources(min(node[0] for node in nodes) / 2, 0.0)
    shares = {"denoise": (devices or len(nodes), model)}
    rest = max(cpus - shares["denoise"][0] * model.cpus, cpus / 4)
    for stage, part in (("pose", 0.5), ("draw", 0.25), ("compare", 0.25)):
        shares[stage] = (max(1, int(rest * part)), Resources(min(1.0, rest * part), 0.0))
    order = ("pose", "draw", "denoise", "compare")
    return {stage: named(shares[stage], pools, stage, devices) for stage in order}


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
    elif pool.gpus and devices:
        workers = max(1, int(devices / pool.gpus))
    return workers, Resources(cpus, gpus)


def describe(shares: Shares) -> str:
    """The shares as one line for the user."""
    parts = []
    for stage, (workers, each) in shares.items():
        gpus = f" + {each.gpus:g} GPU" if each.gpus else ""
        parts.append(f"{stage} {workers} x {each.cpus:g} cores{gpus}")
    return ", ".join(parts)
