"""Ray as it is used here: connecting to a cluster, and actors that nobody but the driver restarts."""

import os
from collections.abc import Collection
from typing import Any

from ...stages.errors import ConfigError
from ...stages.threads import usable_cpus
from ...stages.types import Resources

OBJECT_STORE_BYTES = 100_000_000
"""Tasks pass files on, so Ray's store holds next to nothing on one machine."""

TOKEN_HINT = "a cluster that has a token wants RAY_AUTH_MODE=token and that token here too"


def start_actor(kind: type, resources: Resources, *arguments: Any, avoid: Collection[str] = ()) -> Any:
    """A new actor: an object of the class `kind`, made of `arguments`, in a process of its own.

    It starts on none of the nodes `avoid`, given by their ids. Ray neither restarts it nor repeats its calls:
    the driver decides what a death costs.
    """
    import ray

    remote: Any = ray.remote(kind)
    return remote.options(
        num_cpus=resources.cpus,
        num_gpus=resources.gpus,
        max_restarts=0,
        max_task_retries=0,
        runtime_env={"env_vars": {"OMP_WAIT_POLICY": "PASSIVE"}},
        **({"label_selector": {"ray.io/node-id": f"!in({','.join(avoid)})"}} if avoid else {}),
    ).remote(*arguments)


def end_actor(actor: Any) -> None:
    """End an actor at once, whatever it does."""
    import ray

    ray.kill(actor, no_restart=True)


def one_line(error: Exception) -> str:
    """What an error of Ray says, which mostly is several lines, in one."""
    return " ".join(str(error).split())


def cluster_address(address: str | None) -> str | None:
    """The cluster that is meant: `address`, else what RAY_ADDRESS names, as inside a job submitted to one."""
    return address or os.environ.get("RAY_ADDRESS")


def refuse_cluster(url: str, address: str | None) -> None:
    """ConfigError where outputs for a URL would be made on a cluster: they are made on one machine."""
    cluster = cluster_address(address)
    if cluster is not None:
        raise ConfigError(
            f"-o {url} is for one machine, not for the Ray cluster {cluster}: name a folder that all its "
            "machines see"
        )


def start_ray(address: str | None) -> bool:
    """Connect to the cluster that is meant, or start Ray here. Returns whether it was not connected."""
    import ray
    import ray.exceptions

    if ray.is_initialized():
        return False
    address = cluster_address(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        options |= {
            "num_cpus": usable_cpus(),  # Ray itself counts those of the machine
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    try:
        ray.init(address=address or "local", **options)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.AuthenticationError) as error:
        where = f"connect to Ray at {address}" if address else "start Ray"
        hint = f" ({TOKEN_HINT})" if address else ""
        raise ConfigError(f"cannot {where}: {one_line(error)}{hint}") from error
    return True
