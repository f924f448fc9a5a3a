"""Who may write and who may read: bearer tokens (RFC 6750), where the settings name any.

Without a token no page of another origin may write: a browser sends a POST without a body wherever any page tells it to, and
the reader stands on 127.0.0.1 or behind a firewall, where that page's author couldn't come himself. Recognised as Go's
`http.CrossOriginProtection` does: by Sec-Fetch-Site, which browsers send to https and to localhost, else by Origin and Host.
"""

import hmac
from collections.abc import Sequence
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from pydantic import SecretStr

from sink.http_problems import Trouble
from sink.http_reader import TheReader

# It is here for OpenAPI's sake; whether a token is needed is a matter of the settings.
_documented = HTTPBearer(
    auto_error=False, description="The setting http.token, or for reading http.read_token"
)


async def _writer(request: Request, reader: TheReader) -> None:
    settings = reader.settings.http
    if settings.token is not None:
        _check(request, settings.token)
    else:
        _refuse_foreign_pages(request, settings.cors)


async def _visitor(request: Request, reader: TheReader) -> None:
    settings = reader.settings.http
    if settings.read_token is not None:
        _check(request, settings.read_token, settings.token)


MayWrite = Depends(_writer)
MayRead = Depends(_visitor)
BEARER = Depends(_documented)


def _check(request: Request, *tokens: SecretStr | None) -> None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    wanted = [token.get_secret_value().encode() for token in tokens if token is not None]
    # Every comparison is made, in constant time: how long this takes says nothing of the tokens.
    fits = [hmac.compare_digest(given.strip().encode(), token) for token in wanted]
    if scheme.lower() != "bearer" or not any(fits):
        challenge = 'Bearer realm="millstream"' + (', error="invalid_token"' if given else "")
        raise Trouble(
            401, "this needs a token: send it as Authorization: Bearer TOKEN", {"WWW-Authenticate": challenge}
        )


def _refuse_foreign_pages(request: Request, allowed: Sequence[str]) -> None:
    """Raise a 403 where a browser sends this on behalf of a page of another origin, which `allowed` doesn't list."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if "*" in allowed or origin in allowed:
        return
    if site is not None:
        is_own = site in ("same-origin", "none")
    else:
        is_own = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not is_own:
        where = f"the page is of {origin}" if origin is not None else "the page is of another origin"
        raise Trouble(403, f"{where}, and only pages of the reader itself may write: http.cors lists others")
