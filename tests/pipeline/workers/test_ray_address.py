"""How Ray is reached: an address that does not answer is one line, and a Ray of our own wants a token."""

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from posedance.pipeline.workers import ray_address
from posedance.pipeline.workers.ray_actor import start_ray
from posedance.stages.errors import ConfigError


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port of this machine that takes connections and says nothing."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        yield one


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "[::1]:{}", "no.host.invalid:{}"])
def test_an_address_where_nobody_listens_is_one_line(form: str, listener: socket.socket) -> None:
    address = form.format(listener.getsockname()[1])
    listener.close()
    with pytest.raises(ConfigError, match=r"nobody listens at .*\(.+\): start the Ray cluster"):
        ray_address.check_answers(address)


def test_an_address_where_no_ray_answers_is_one_line(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_address, "ANSWER_S", 0.5)
    with pytest.raises(ConfigError, match=r"did not answer as Ray does for 0\.5 s: check --ray-address"):
        ray_address.check_answers(f"127.0.0.1:{listener.getsockname()[1]}")


def test_ray_is_not_asked_before(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would wait for ten minutes."""
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # whatever other tests have started
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    with pytest.raises(ConfigError, match="nobody listens"):
        start_ray(address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError, match="nobody listens"):
        start_ray(None)


def test_a_ray_of_our_own_answers_and_wants_a_token(ray_here: Any) -> None:
    ray_address.check_answers(ray_here.get_runtime_context().gcs_address)

    @ray_here.remote
    def variables() -> dict[str, str]:
        return dict(os.environ)

    there = ray_here.get(variables.remote())
    assert there["RAY_AUTH_MODE"] == "token" and len(there["RAY_AUTH_TOKEN"]) == 64
    assert os.environ.get("RAY_AUTH_TOKEN") != there["RAY_AUTH_TOKEN"], "it is for this Ray alone"
