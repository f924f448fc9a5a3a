"""A file on its way to the uploads bucket, which may begin while it is still being looked at.

Reading a large file to see what it is takes about as long as sending it. So both go on at once, and the object is completed
only when everything was found right: until then there is none, and what was sent of it can be taken back.
"""

import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

from pipeline import traces
from pipeline.store import PART_SIZE, ObjectStore
from producer.local import chunks

LARGE = PART_SIZE
"""Bytes from which on it is worth it: what is smaller is sent by one call anyway."""


GOODBYE = 2.0
"""Seconds that an upload has to be taken back."""


class TakenBack(Exception):
    """The upload isn't wanted any more."""


class Sending:
    """An upload of a local file under `key`; `complete` returns when the object is there.

    `trace` is what the upload says of its span, for its job.
    """

    def __init__(
        self, uploads: Callable[[], ObjectStore], path: Path, key: str, size: int, metadata: Mapping[str, str]
    ) -> None:
        """Begin; `uploads` is asked for the bucket by a thread of its own, `metadata` goes with the object."""
        self._path = path
        self._crc32 = 0
        self._decided = threading.Event()
        self._wanted = False
        self._span = ExitStack()
        span = self._span.enter_context(traces.span("upload", None, file=key, bytes=size))
        self.trace = span.context
        everything = {**metadata, **span.metadata()}
        self._etag: Future[str] = Future()
        # A daemon: where S3 can't be reached, nobody who ends has to wait until that is given up.
        self._thread = threading.Thread(
            target=self._send, args=(uploads, key, everything), name="send", daemon=True
        )
        self._thread.start()

    def complete(self) -> tuple[str, int]:
        """Let the object be; return its ETag, and the CRC-32 of what was sent. Raises what stood in the way."""
        self._wanted = True
        self._decided.set()
        with self._span:
            etag = self._etag.result()
        return etag, self._crc32

    def take_back(self) -> None:
        """See to it that nothing stays under way, within GOODBYE seconds; nothing where the object is there already."""
        self._wanted = False
        self._decided.set()
        self._span.close()
        self._thread.join(GOODBYE)

    def _send(self, uploads: Callable[[], ObjectStore], key: str, metadata: Mapping[str, str]) -> None:
        try:
            self._etag.set_result(uploads().upload(key, self._chunks(), metadata=metadata))
        except BaseException as error:
            self._etag.set_exception(error)

    def _chunks(self) -> Iterator[bytes]:
        for chunk in chunks(self._path):
            if self._decided.is_set() and not self._wanted:
                raise TakenBack
            self._crc32 = zlib.crc32(chunk, self._crc32)
            yield chunk
        # The last part is sent after this, a small object as a whole.
        self._decided.wait()
        if not self._wanted:
            raise TakenBack
