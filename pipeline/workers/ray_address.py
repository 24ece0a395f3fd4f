"""Whether a Ray cluster answers at an address: asked before Ray, which would wait for ten minutes."""

import os
import re
import socket

from ...stages.errors import ConfigError

PORT = re.compile(r"(?:ray://)?\[?([^\[\]/]+?)\]?:(\d{1,5})")
"""HOST:PORT or [IPv6]:PORT, of a cluster or of its client server."""
CONNECT_S = 2.0
"""How long the port may take to be opened, in seconds."""
ANSWER_S = 10.0
"""How long what listens there may take to speak Ray's protocol, in seconds."""


def check_answers(address: str) -> None:
    """Raise ConfigError where nobody listens at the cluster's `address`, or no Ray that answers.

    What names no port is left to Ray. `auto` is the cluster that `ray start` made last on this machine, as
    Ray keeps it; where there is none Ray says so.
    """
    if address == "auto":
        from ray._private.utils import read_ray_address

        address = read_ray_address() or ""
    match = PORT.fullmatch(address)
    if match is None:
        return
    host, port = match.group(1), int(match.group(2))
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"nobody listens at {address} ({reason}): start the Ray cluster, or check --ray-address"
        ) from error
    encrypted = os.environ.get("RAY_USE_TLS") == "1"
    if not encrypted and not speaks_grpc(address.removeprefix("ray://")):
        raise ConfigError(
            f"what listens at {address} did not answer as Ray does for {ANSWER_S:g} s: check --ray-address, "
            "or start the cluster again"
        )


def speaks_grpc(target: str) -> bool:
    """Whether a server greets as gRPC does, which Ray is built on, within ANSWER_S."""
    import grpc

    channel = grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)])
    try:
        grpc.channel_ready_future(channel).result(timeout=ANSWER_S)
    except grpc.FutureTimeoutError:
        return False
    finally:
        channel.close()
    return True
