"""When a body waits for the server's word before it is sent: only where it is large.

boto3 asks for `100 Continue` ahead of every body, so that one that is refused (403, 412, 503) needn't be sent. That is worth a
lot to a part of 8 MB. To a record of 1 KB it is a round trip more, and the answer is read byte by byte: a third of what the
call costs, here and on the server.
"""

import io
from typing import Any

AT_ONCE = 256 * 1024
"""Bytes up to which a body isn't announced: of a refused one, Go's HTTP server for one reads as many to keep a connection."""


def send_small_at_once(client: Any) -> None:
    """Have a boto3 client send small bodies with their headers from now on."""
    client.meta.events.register_last("before-call.s3", _announce_only_large)


def _announce_only_large(params: dict[str, Any], **_: Any) -> None:
    """Take back what boto3's own handler asked for, before this one; bytes are a BytesIO by now."""
    body = params.get("body")
    if isinstance(body, io.BytesIO) and body.getbuffer().nbytes <= AT_ONCE:
        params["headers"].pop("Expect", None)
