"""Looking at a log from outside of the terminal: `ui`, for a browser, and `mcp`, for agents."""

from __future__ import annotations

import ipaddress
import socket
import threading
import webbrowser
from typing import Annotated, Any
from urllib.parse import urlencode

from typer import Context, Option

from eventlog.db.retry import RetryPolicy
from eventlog.errors import EventLogError, InvalidInputError
from langgraph.checkpoint.eventlog.cli.commands.follow import end_if_stopped
from langgraph.checkpoint.eventlog.cli.options import Allow
from langgraph.checkpoint.eventlog.cli.render.decoding import Decoder, allowed_types
from langgraph.checkpoint.eventlog.cli.session import OpenLog, Session
from langgraph.checkpoint.eventlog.cli.signals import SIGNALS

__all__ = ["mcp", "ui"]

#: Connections of a viewer.
CONNECTIONS = 8

#: A page says that the database is away rather than wait for it.
RETRY = RetryPolicy(attempts=3, deadline=5.0, away_deadline=0.5)

#: Seconds that open requests have when the command is told to end.
GRACE = 3


def ui(
    ctx: Context,
    host: Annotated[
        str, Option(metavar="HOST", help="The address to listen on. An address other than the loopback needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65_535, metavar="PORT", help="The port. 0 takes any free port.")] = 8765,
    open_: Annotated[bool, Option("--open", help="Open a browser.")] = False,
    token: Annotated[
        str | None,
        Option(
            envvar="EVENTLOG_UI_TOKEN",
            metavar="TOKEN",
            help="Require this token of 16 characters or more: open the page once with ?token=TOKEN.",
        ),
    ] = None,
    allow: Allow = None,
) -> None:
    """Serve a read-only viewer of the log to browsers, until interrupted. The set of rights auditor is enough.

    SIGINT and SIGTERM end it.
    """
    session = Session.of(ctx)
    try:
        # The viewer imports it with its first page.
        import jinja2  # noqa: F401
        import uvicorn

        from langgraph.checkpoint.eventlog.ui import eventlog_ui
        from langgraph.checkpoint.eventlog.ui.guard import LOOPBACK
    except ModuleNotFoundError as exc:
        raise _missing(exc, "ui", "jinja2", "starlette", "uvicorn") from exc
    is_local = _is_loopback(host)
    if not is_local and token is None:
        raise InvalidInputError(
            f"other machines can reach --host {host}, and could read all threads: give a --token that readers must "
            "know, or leave --host out to listen on the loopback alone"
        )
    with _open(session, allow) as log, SIGNALS.following():
        hosts = [*LOOPBACK, host] if is_local else None
        viewer = eventlog_ui(log, token=token, allowed_hosts=hosts)
        listener = _listen(host, port)

        class Server(uvicorn.Server):
            """Ends open pages' events too, which would go on for ever."""

            def handle_exit(self, sig: int, frame: Any) -> None:
                viewer.follower.close()
                super().handle_exit(sig, frame)

        config = uvicorn.Config(
            viewer,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE,
        )
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{listener.getsockname()[1]}/"
        session.document(url=url, schema=session.schema)
        session.say(f"The viewer of schema {session.schema!r} is at {url}. Ctrl-C ends it.")
        if token is not None:
            session.note(f"It requires the token: open {url}?token=… once.")
        if open_:
            address = url if token is None else f"{url}?{urlencode({'token': token})}"
            threading.Timer(0.5, webbrowser.open, [address]).start()
        with listener:
            Server(config).run(sockets=[listener])
    end_if_stopped(session, "", is_done=True)


def mcp(ctx: Context, allow: Allow = None) -> None:
    """Serve the log to agents over stdin and stdout, by the Model Context Protocol. Read only.

    An agent's host starts this command. It ends when the host closes its input.
    """
    session = Session.of(ctx)
    try:
        from langgraph.checkpoint.eventlog.mcp_server import mcp_server
    except ModuleNotFoundError as exc:
        raise _missing(exc, "mcp", "mcp") from exc
    with _open(session, allow) as log:
        mcp_server(log).run("stdio")


def _open(session: Session, allow: list[str] | None) -> OpenLog:
    return session.open(CONNECTIONS, plain=Decoder(allowed_types(allow)), retry=RETRY)


def _missing(exc: ModuleNotFoundError, extra: str, *packages: str) -> Exception:
    """What to install, if it is one of these packages that is missing."""
    if (exc.name or "").partition(".")[0] not in packages:
        return exc
    return EventLogError(
        f"eventlog {extra} needs more packages: pip install 'langgraph-checkpoint-eventlog[cli,{extra}]'"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises EventLogError when it cannot."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise EventLogError(
            f"cannot listen on port {port} of {host}: {reason}. Choose another port with --port, or --port 0 for any "
            "that is free"
        ) from exc
