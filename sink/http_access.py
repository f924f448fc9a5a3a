"""Who may write and who may read: bearer tokens (RFC 6750), where the settings name any."""

import hmac

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
