"""Protection of the viewer: access control, and limits on what a browser may do with an answer.

* A strict Content-Security-Policy: all scripts, styles and requests of a page belong to this server, even if a stored
  value contains others.
* The `Host` of a request, if names are given: a web page that points its own name to the loopback gets no answer.
* A token, if one is given: as a bearer token, or once in the URL. A browser then keeps it as a cookie that scripts
  cannot read, and that pages of other sites send only when a link is followed.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Message, Scope, Send

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog.ui.paths import mount_of, path_below
from langgraph.checkpoint.eventlog.viewing.errors import error_of

__all__ = ["HEADERS", "LOOPBACK", "Guard", "check_same_origin"]

#: Headers of each answer.
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}

#: Headers of scripts and styles. Their addresses contain the version, so browsers may cache them.
STATIC_CACHE: Final = "max-age=86400"

#: The names of the loopback.
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

COOKIE: Final = "eventlog_ui"
SHORTEST_TOKEN: Final = 16

_TOKEN = re.compile(r"[\x21-\x7e]+")


class Guard:
    """Lets requests pass, or refuses them with a reason.

    Args:
        token: that requests must have; None: none.
        hosts: names that a request's `Host` may have, without a port; None: any.

    Raises:
        InvalidInputError: for a token that is too short, or not of ASCII characters without spaces.
    """

    def __init__(self, token: str | None, hosts: Sequence[str] | None) -> None:
        if token is not None and (
            not isinstance(token, str) or len(token) < SHORTEST_TOKEN or not _TOKEN.fullmatch(token)
        ):
            raise InvalidInputError(
                f"token must have {SHORTEST_TOKEN} ASCII characters or more, and no spaces; "
                'python -c "import secrets; print(secrets.token_urlsafe())" makes one'
            )
        if isinstance(hosts, str):
            raise InvalidInputError("allowed_hosts must be a list of names, not one text")
        self._token = None if token is None else token.encode()
        self._hosts = None if hosts is None else frozenset(host.lower().strip("[]") for host in hosts)
        # Not the token: a cookie may end up in a file of the browser's.
        self._session = None if token is None else hmac.new(token.encode(), b"eventlog ui", sha256).hexdigest()

    def refusal(self, request: Request) -> Response | dict[str, Any] | None:
        """The answer to a request that may not pass: a redirect, or the document of an error. None: it may pass."""
        if self._hosts is not None and _host_name(request.headers.get("host", "")) not in self._hosts:
            host = request.headers.get("host", "")[:100]
            return error_of(
                "wrong_host",
                400,
                f"The viewer does not answer requests for {host!r}.",
                "open it by the name that it says",
            )
        if self._token is None or self._session is None or path_below(request.scope).startswith("/static/"):
            return None
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token):
            return None
        asked = request.query_params.get("token")
        is_asked = asked is not None and request.method in ("GET", "HEAD")
        if hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), self._session.encode()):
            # Remove the token from the address, even if it is wrong.
            return self._sign_in(request) if is_asked else None
        if asked is not None and is_asked:
            if hmac.compare_digest(asked.encode("utf-8", "replace"), self._token):
                return self._sign_in(request)
            return error_of("invalid_token", 401, "The token is not the one of this viewer.")
        return error_of(
            "token_required",
            401,
            "The viewer needs its token.",
            "open it with ?token=… once, or send Authorization: Bearer …",
        )

    def _sign_in(self, request: Request) -> Response:
        """The same page without the token in its address, which a browser would keep in its history."""
        query = [(key, value) for key, value in request.query_params.multi_items() if key != "token"]
        mount = quote(mount_of(request.scope))
        target = f"{mount}{path_below(request.scope)}"
        # Two slashes at the beginning would name another host.
        target = "/" + target.lstrip("/")
        response = RedirectResponse(f"{target}?{urlencode(query)}" if query else target, 303)
        response.set_cookie(
            COOKIE,
            self._session or "",
            path=f"{mount}/",
            secure=request.url.scheme == "https",
            httponly=True,
            # A link on another site may lead here; posted requests have their origin checked.
            samesite="lax",
        )
        return response

    def sealing(self, send: Send, scope: Scope) -> Send:
        """A `send` that gives each answer its headers."""
        is_static = path_below(scope).startswith("/static/")

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [(name, value) for name, value in message.get("headers", ()) if name.decode() not in HEADERS]
                is_kept = is_static and message["status"] < 400
                headers = {**HEADERS, "cache-control": STATIC_CACHE} if is_kept else HEADERS
                ours = [(name.encode(), value.encode()) for name, value in headers.items()]
                message = {**message, "headers": [*given, *ours]}
            await send(message)

        return sealed


def _host_name(host: str) -> str:
    """The name in a `Host`, without the port and without brackets."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def check_same_origin(request: Request) -> None:
    """Raises InvalidInputError when a browser says that a request comes from another site's page."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        is_ours = site == "same-origin"
    elif origin is not None:
        is_ours = urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()
    else:
        # Not a browser, so no page of another site can have sent it.
        is_ours = True
    if not is_ours:
        raise InvalidInputError("the request comes from a page of another site: it was not carried out")
