"""What a name shows: its receipt, which only goes up in generations, and `<name>` itself, which follows the receipt."""

from pipeline import layout, records
from pipeline.errors import NotFound, PreconditionFailed, Throttled
from pipeline.jobs import Receipt
from pipeline.store import Head, ObjectStore

LOOKS = 20
"""Looks at `<name>` until somebody else's writing to it counts as trouble."""


def set_receipt(results: ObjectStore, receipt: Receipt) -> None:
    """Write the receipt over that of a lower generation; leave a higher one's.

    Once it is written nothing says any more whose place it took: so a job that has outputs is noted before, in the folder of
    the one that takes its place, for whoever clears up.
    """
    key = layout.receipt(receipt.name)
    while True:
        found = records.read_with_etag(results, key, Receipt)
        there, etag = found or (None, None)
        if there is not None and there.generation >= receipt.generation:
            return
        if there is not None and there.output is not None and receipt.output is not None:
            records.mark(results, layout.replaces(receipt.file_id, there.file_id))
        if records.replace(results, key, receipt, etag):
            return


def settle_name(results: ObjectStore, name: str) -> Receipt | None:
    """Make `<name>` the output that the receipt names, or nothing where it was deleted; return that receipt.

    Whoever changes `<name>` looks at the receipt again afterwards, so that of several the last leaves what is right.
    """
    written: str | None = None
    for look in range(LOOKS):
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
                results.copy(
                    receipt.output.key,
                    name,
                    if_match=there.etag if there else None,
                    if_none_match=there is None,
                    metadata={"file_id": receipt.file_id},
                )
                written = receipt.file_id
            elif there is not None:
                results.delete(name, if_match=there.etag)
        except (PreconditionFailed, NotFound):
            continue  # somebody else was at work here: look again
    raise Throttled(f"{name} in the results bucket changes faster than it can be written")


def _there(results: ObjectStore, name: str) -> Head | None:
    try:
        return results.head(name)
    except NotFound:
        return None
