"""What stands in front of every request: which paths there are, who may ask, how much they may send."""

import asyncio
from typing import Any

import pytest

from posedance.pipeline.job.masking import masked
from posedance.pipeline.web.guard import Door, Guard, known_path
from posedance.pipeline.web.server import is_here, print_address

OUTSIDE = [
    "/../secret.txt", "/files/../../secret.txt", "/files/%2e%2e/secret.txt", "/files/..%2fsecret.txt",
    "//etc/passwd", "/files//etc/passwd", "/file=/etc/passwd", "/file=../secret.txt", "/proxy=http://x/",
    "/gradio_api/file=/etc/passwd", "/gradio_api/file/etc/passwd", "/gradio_api/proxy=http://127.0.0.1/",
    "/gradio_api/upload", "/gradio_api/info", "/gradio_api/queue/join", "/gradio_api/call/x", "/config",
    "/gradio_api/stream/x", "/gradio_api/deep_link", "/gradio_api/custom_component/1/client/c/x.js",
    "/static/../routes.py", "/static/..\\routes.py", "/assets/../../routes.py", "/assets/%252e%252e/x",
    "/page/../server.py", "/page/.hidden", "/files/.web/../queue.json", "/files/a/b/c/config.yaml",
    "/api/preview-file/../queue.json", "/api/preview-file/.x", "/openapi.json", "/docs", "/run/predict",
    "/svelte/x", "/monitoring/x", "/runs", "/user", "/files/a\0b/config.yaml", "/.env", "/files/a/..",
]  # fmt: skip
"""Paths as they are after they were decoded once."""


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_that_leads_elsewhere_is_none(path: str) -> None:
    assert not known_path(path, "GET")
    assert not known_path(path, "POST")


def test_the_paths_of_the_page_are_known() -> None:
    for path in (
        "/",
        "/assets/index-BcD3.js",
        "/assets/svelte/x-1.js",
        "/theme.css",
        "/page/core.js",
        "/api/jobs",
        "/api/job/some.name/item-1",
        "/files/20261126-220656-30f0/result.mp4",
        "/files/batch/Jürgen ä/result.mp4",
    ):
        assert known_path(path, "GET"), path
    assert known_path("/api/run", "POST")
    assert known_path("/api/upload/video", "PUT")
    assert not known_path("/api/run", "DELETE")
    assert not known_path("/files/a/result.mp4", "POST")


async def inner(scope: Any, receive: Any, send: Any) -> None:
    """Reads all of the body and tells its size."""
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            size = -1
            break
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def ask(
    door: Door,
    path: str = "/",
    method: str = "GET",
    query: str = "",
    parts: tuple[bytes, ...] = (b"",),
    **headers: str,
) -> tuple[int, dict[str, str], str]:
    """The answer of a guard behind this door: status, headers, body."""
    named = {"host": "127.0.0.1:7860"} | {name.replace("_", "-"): text for name, text in headers.items()}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), text.encode()) for name, text in named.items()],
    }
    messages = [
        {"type": "http.request", "body": part, "more_body": i + 1 < len(parts)}
        for i, part in enumerate(parts)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Guard(inner, door, largest=1000)(scope, receive, send))
    answered = {name.decode(): text.decode() for name, text in sent[0]["headers"]}
    return sent[0]["status"], answered, b"".join(part.get("body", b"") for part in sent[1:]).decode()


def test_without_a_password_only_names_of_this_machine_are_answered() -> None:
    door = Door(None)
    for host in ("127.0.0.1:7860", "127.0.0.2:7860", "localhost:1", "localhost", "[::1]:7860"):
        assert ask(door, host=host)[0] == 200
    for host in ("evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil:7860", "",
                 "127.0.0.1@evil.example", "10.0.0.1", "1270.0.0.1", "127.0.0.1:x"):  # fmt: skip
        assert ask(door, host=host)[0] == 403


def test_a_request_that_another_page_sends_is_refused() -> None:
    door = Door(None)
    assert ask(door, "/api/run", "POST", origin="http://127.0.0.1:7860")[0] == 200
    assert ask(door, "/api/run", "POST")[0] == 200  # no browser
    assert ask(door, "/api/run", "POST", origin="http://evil.example")[0] == 403
    assert ask(door, "/api/run", "POST", origin="null")[0] == 403
    assert ask(door, "/api/run", "POST", sec_fetch_site="cross-site")[0] == 403


def test_a_password_opens_and_nothing_is_seen_before() -> None:
    door = Door("open sesame")
    assert ask(door, "/")[:2] == (303, ask(door, "/")[1])
    assert ask(door, "/")[1]["location"] == "login"
    for path in ("/api/jobs", "/files/a/result.mp4", "/assets/x.js", "/page/core.js"):
        assert ask(door, path)[0] == 401
    assert ask(door, "/login")[0] == 200
    status, headers, _ = ask(door, "/login", "POST", parts=(b"password=open+sesame",))
    assert (
        status == 303 and "HttpOnly" in headers["set-cookie"] and "SameSite=Strict" in headers["set-cookie"]
    )
    cookie = headers["set-cookie"].partition(";")[0]
    assert ask(door, "/api/jobs", cookie=cookie)[0] == 200
    assert ask(door, "/api/jobs", cookie=cookie, host="studio.example:7860")[0] == 200
    assert ask(Door("open sesame"), "/api/jobs", cookie=cookie)[0] == 401  # of another server


def test_a_wrong_password_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posedance.pipeline.web.guard.WRONG_S", 0)
    door = Door("open sesame")
    for body in (b"password=close", b"password=", b"", b"password=%ff"):
        status, headers, _ = ask(door, "/login", "POST", parts=(body,))
        assert status == 401 and "set-cookie" not in headers
    for cookie in ("posedance=", "posedance=x", "posedance=ä", "other=1", '"'):
        assert ask(door, "/api/jobs", cookie=cookie)[0] == 401


def test_a_token_in_the_address_opens_and_is_gone_from_it() -> None:
    status, headers, _ = ask(Door("abc"), "/", query="ticket=abc")
    assert (status, headers["location"]) == (303, "./") and "set-cookie" in headers
    assert ask(Door("abc"), "/", query="ticket=abd")[1]["location"] == "login"
    assert ask(Door("abc"), "/api/jobs", query="ticket=abc")[0] == 401


def test_more_than_is_taken_is_refused_whatever_was_promised() -> None:
    door = Door(None)
    assert ask(door, "/api/upload/video", "PUT", parts=(b"x" * 900,), content_length="900")[2] == "900"
    assert ask(door, "/api/upload/video", "PUT", content_length="1001")[0] == 413
    assert ask(door, "/api/upload/video", "PUT", content_length="-1")[0] == 413
    assert ask(door, "/api/run", "POST", content_length=str(2 << 20))[0] == 413
    assert ask(door, "/api/upload/video", "PUT", parts=(b"x" * 900, b"x" * 900))[2] == "-1"  # cut off


def test_browsers_are_told_to_load_nothing_from_elsewhere() -> None:
    policy = ask(Door(None))[1]["content-security-policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert "http" not in policy


def test_the_token_is_told_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        print_address("http://0.0.0.0:7860/", "abc")
    assert masked(caplog.messages[0]) == "the page is at http://0.0.0.0:7860/?ticket=abc"


def test_only_loopback_counts_as_this_machine() -> None:
    assert all(map(is_here, ("127.0.0.1", "127.0.0.2", "::1", "localhost")))
    assert not any(map(is_here, ("0.0.0.0", "::", "10.0.0.1", "studio", "")))
