"""`web`: the page, served until Ctrl-C. What it began goes on without it."""

import errno
import ipaddress
import logging
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

from ...stages.errors import ConfigError
from ..job.job import hold, make_writable
from ..job.output import refuse_video
from ..job.storage import url_of
from .config import Folders, WebConfig
from .guard import TICKET, App, Door, Guard
from .routes import MIB, add_routes
from .site import Site

logger = logging.getLogger(__name__)


def web(config: WebConfig) -> None:
    """Serve the page until Ctrl-C. Raises ConfigError for what cannot be met, such as a taken port."""
    check(config)
    folders = Folders(config.output.resolve())
    make_writable(folders.jobs, folders.own)
    with ExitStack() as stack:
        stack.enter_context(hold(folders.jobs, folders.own / "lock"))
        listening = stack.enter_context(bound(config))
        site = Site(config)
        secret = config.password or (None if is_here(config.host) else secrets.token_urlsafe(24))
        door = Door(secret)
        app = application(site, door)
        port = listening.getsockname()[1]
        shown = f"[{config.host}]" if ":" in config.host else config.host
        address = f"http://{shown}:{port}/"
        print_address(address, None if config.password else secret)
        site.queue.start()
        stack.callback(site.queue.close)
        stack.callback(site.previewer.close)
        site.previewer.warm_up()
        serve(app, listening)


def check(config: WebConfig) -> None:
    """ConfigError where the extra is missing, or the folder is none of this machine."""
    if find_spec("gradio") is None:
        raise ConfigError("the page needs Gradio: pip install 'posedance[web]', or make web")
    refuse_video(config.output)
    if (url := url_of(config.output)) is not None:
        raise ConfigError(f"--output {url}: the page needs a folder of this machine")


def is_here(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def bound(config: WebConfig) -> Iterator[socket.socket]:
    """A socket that listens where the config says. Raises ConfigError where that cannot be."""
    host, port = config.host, config.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(128)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(f"port {port} of {host} is taken: name another with --port") from None
            if error.errno == errno.EACCES:
                raise ConfigError(f"port {port} is for the system's own: name one from 1024 on") from None
            raise ConfigError(
                f"cannot listen on {host}: {error.strerror}: name an address of this machine"
            ) from None
        yield listening


def print_address(address: str, token: str | None) -> None:
    """Say where the page is; the token is said this once."""
    if token is None:
        logger.info(f"the page is at {address} (Ctrl-C ends it; jobs that run go on)")
    else:
        logger.info(f"the page is at {address}?{TICKET}={token}")
        logger.info("whoever has this address may use it: it is told this once; --password sets your own")


def application(site: Site, door: Door) -> App:
    """The whole application: Gradio's page and our routes, behind the guard."""
    import gradio
    from fastapi import FastAPI
    from fastapi.responses import HTMLResponse
    from starlette.requests import Request

    from .page import build, theme

    inner = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    add_routes(inner, site)
    page = build(site)
    mounted = gradio.mount_gradio_app(
        inner,
        page,
        path="/",
        theme=theme(),
        head=HEAD,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        blocked_paths=["/"],
        max_file_size="1b",
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
    )

    @mounted.middleware("http")
    async def without_strangers(request: Request, call_next: Any) -> Any:
        answer = await call_next(request)
        if request.url.path != "/" or answer.status_code != 200:
            return answer
        body = b"".join([part async for part in answer.body_iterator]).decode()
        return HTMLResponse(clean(body))

    return Guard(mounted, door, site.config.upload_megabytes * MIB)


HEAD = """<link rel="stylesheet" href="page/page.css"><link rel="icon" href="page/icon.svg">
<script src="page/core.js" defer></script><script src="page/player.js" defer></script>
<script src="page/viewer.js" defer></script><script src="page/list.js" defer></script>
<script src="page/animate.js" defer></script><script src="page/batch.js" defer></script>
<script src="page/curate.js" defer></script>"""


def clean(html: str) -> str:
    """Gradio's page without what names other hosts: previews for social networks."""
    import re

    html = re.sub(r'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>', "", html)
    html = re.sub(r"<link[^>]*https?://[^>]*>", "", html)
    return re.sub(r"<script[^>]*src=[\"']https?://[^>]*></script>", "", html)


def serve(app: App, listening: socket.socket) -> None:
    """Answer requests until Ctrl-C or SIGTERM."""
    import uvicorn

    options = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=65536,
    )
    uvicorn.Server(options).run(sockets=[listening])
