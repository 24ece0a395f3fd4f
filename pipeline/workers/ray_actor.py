"""Ray as it is used here: connecting to a cluster, and actors that nobody but the driver restarts."""

import os
import secrets
import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

from ...stages.errors import ConfigError
from ...stages.threads import usable_cpus
from ...stages.types import Resources
from ..interrupts import unbroken
from .ray_address import check_answers

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
    """The cluster that is meant: `address`, else what RAY_ADDRESS names, as inside a job submitted to one.

    None, or `local`, is a Ray of this machine that is started for the time of the command.
    """
    meant = address or os.environ.get("RAY_ADDRESS")
    return None if meant == "local" else meant


def refuse_cluster(url: str, address: str | None) -> None:
    """ConfigError where outputs for a URL would be made on a cluster: they are made on one machine."""
    cluster = cluster_address(address)
    if cluster is not None:
        raise ConfigError(
            f"-o {url} is for one machine, not for the Ray cluster {cluster}: name a folder that all its "
            "machines see"
        )


@contextmanager
def own_token() -> Iterator[None]:
    """Within this a Ray that is started wants a token, made for this process and written to no file.

    Without one, whoever reaches its port, as every user of the machine does, could run code here. What Ray
    does unasked has changed between its versions.
    """
    from ray import _raylet

    ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token_here()}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    config: Any = _raylet.Config  # pyright: ignore[reportAttributeAccessIssue] (compiled, without stubs)
    config.initialize("")  # Ray has read the mode when it was imported
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@cache
def token_here() -> str:
    """The token of what this process starts: one, for Ray keeps the first."""
    return secrets.token_hex(32)


@contextmanager
def own_sigterm() -> Iterator[None]:
    """Within this Ray is connected: it takes SIGTERM for itself, to end in a dump of its stack.

    Afterwards the signal is as it was. Handlers are of a program's main thread alone.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def end_ray() -> None:
    """Disconnect from Ray, or end the Ray that was started here.

    Ctrl-C waits for it: a process that is half disconnected Ray ends by itself, with exit code 1.
    """
    import ray

    with unbroken():
        ray.shutdown()


def start_ray(address: str | None) -> bool:
    """Connect to the cluster that is meant, or start Ray here. Returns whether it was not connected."""
    import ray
    import ray.exceptions

    if ray.is_initialized():
        return False
    address = cluster_address(address)
    if address is not None:
        check_answers(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        options |= {
            "num_cpus": usable_cpus(),  # Ray itself counts those of the machine
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    try:
        with own_sigterm(), own_token() if address is None else nullcontext():
            ray.init(address=address or "local", **options)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.AuthenticationError) as error:
        where = f"connect to Ray at {address}" if address else "start Ray"
        hint = f" ({TOKEN_HINT})" if address else ""
        raise ConfigError(f"cannot {where}: {one_line(error)}{hint}") from error
    return True
