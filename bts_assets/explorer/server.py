"""Serves the page: on loopback, or for others behind a token, until it is interrupted."""

import ipaddress
import socket
from collections.abc import Callable
from typing import Final

import uvicorn

from bts_assets.contracts.errors import BtsError, UsageError
from bts_assets.explorer.app import make_app
from bts_assets.explorer.draw import Elsewhere
from bts_assets.explorer.guard import SHORTEST_TOKEN
from bts_assets.services.home import reading_engine
from bts_assets.settings import Settings

HOST: Final = "127.0.0.1"


def serve(settings: Settings, host: str, port: int, elsewhere: Elsewhere, say: Callable[[str], None]) -> None:
    """Serve until interrupted; `say` hears where, once it answers.

    Raises:
        UsageError: if others than this machine could ask, and there is no token to ask them for.
        BtsError: if the port cannot be listened on, or the database cannot be read.
    """
    token = token_for(settings, host)
    engine = reading_engine(settings)
    listening = listening_on(host, port)
    try:
        say(address_of(host, listening.getsockname()[1]))
        app = make_app(engine, token=token, elsewhere=elsewhere)
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="off",
                                timeout_graceful_shutdown=3)  # fmt: skip
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        listening.close()
        engine.dispose()


def token_for(settings: Settings, host: str) -> str | None:
    """The token that is asked for; None: only this machine can ask.

    Raises:
        UsageError: if it is missing where others can ask, or too short.
    """
    token = settings.explorer_token
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise UsageError(f"BTS_EXPLORER_TOKEN has {len(token)} characters: give it {SHORTEST_TOKEN} or more")
    if token is None and not is_loopback(host):
        raise UsageError(
            f"--host {host} lets others look: set BTS_EXPLORER_TOKEN to {SHORTEST_TOKEN} characters or more first"
        )
    return token


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address_of(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def listening_on(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any that is free.

    Raises:
        BtsError: if the port cannot be had.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise BtsError(f"--port {port} of {host} cannot be listened on ({error.strerror}): choose another") from None
