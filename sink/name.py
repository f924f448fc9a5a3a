"""What a name shows: its receipt, which only goes up in generations, and `<name>` itself, which follows the receipt."""

from dataclasses import dataclass

from pipeline import layout, records
from pipeline.errors import NotFound, PreconditionFailed, Throttled
from pipeline.jobs import Receipt
from pipeline.store import Head, ObjectStore

LOOKS = 20
"""Looks at `<name>` until somebody else's writing to it counts as trouble."""


@dataclass(frozen=True, slots=True)
class AtHand:
    """An output that was just written, with its content: what is small needn't be got again to be copied."""

    key: str
    content: bytes


def set_receipt(results: ObjectStore, receipt: Receipt) -> Receipt:
    """Write the receipt over that of a lower generation; leave a higher one's. Return the one that is there afterwards.

    Once it is written nothing says any more whose place it took: so a job that has outputs is noted before, in the folder of
    the one that takes its place, for whoever clears up.
    """
    key = layout.receipt(receipt.name)
    # Below a first generation's there is none: it needn't be looked for to be written.
    if receipt.generation == 1 and records.replace(results, key, receipt, None):
        return receipt
    while True:
        found = records.read_with_etag(results, key, Receipt)
        there, etag = found or (None, None)
        if there is not None and there.generation >= receipt.generation:
            return there
        if there is not None and there.output is not None and receipt.output is not None:
            records.mark(results, layout.replaces(receipt.file_id, there.file_id))
        if records.replace(results, key, receipt, etag):
            return receipt


def settle_name(results: ObjectStore, seen: Receipt, at_hand: AtHand | None = None) -> Receipt | None:
    """Make `<name>` the output that the receipt names, or nothing where it was deleted; return that receipt.

    `seen` is the name's receipt as it was a moment ago. Whoever changes `<name>` looks at the receipt again afterwards, so that
    of several the last leaves what is right: what was seen before may be out of date.
    """
    name, written = seen.name, None
    receipt: Receipt | None = seen
    for look in range(LOOKS):
        if look:
            receipt = records.read(results, layout.receipt(name), Receipt)
        if receipt is None or written == receipt.file_id:
            return receipt
        # Most names are new: what isn't there needn't be looked at to be written.
        there = None if look == 0 and receipt.generation == 1 else _there(results, name)
        shown = there.metadata.get("file_id") if there is not None else None
        if shown == (receipt.file_id if receipt.output else None):
            return receipt
        try:
            if receipt.output is not None:
                _show(results, receipt.output.key, receipt, there, at_hand)
                written = receipt.file_id
            elif there is not None:
                results.delete(name, if_match=there.etag)
        except (PreconditionFailed, NotFound):
            continue  # somebody else was at work here: look again
    raise Throttled(f"{name} in the results bucket changes faster than it can be written")


def _show(
    results: ObjectStore, output: str, receipt: Receipt, there: Head | None, at_hand: AtHand | None
) -> None:
    """Copy an output to `<name>`, over what is there."""
    etag, nothing, metadata = there.etag if there else None, there is None, {"file_id": receipt.file_id}
    if at_hand is not None and at_hand.key == output:
        results.put(receipt.name, at_hand.content, if_match=etag, if_none_match=nothing, metadata=metadata)
    else:
        results.copy(output, receipt.name, if_match=etag, if_none_match=nothing, metadata=metadata)


def _there(results: ObjectStore, name: str) -> Head | None:
    try:
        return results.head(name)
    except NotFound:
        return None
