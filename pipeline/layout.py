"""Where things lie in the results bucket. Nothing else builds a key."""

from pipeline.names import OURS

OPEN = f"{OURS}open/"
PARTS = f"{OURS}parts/"
NAMES = f"{OURS}names/"
RECEIPTS = f"{OURS}receipts/"
REFUSED = f"{OURS}refused/"
JOBS = f"{OURS}jobs/"


def name_record(name: str) -> str:
    """Who owns the name: generation, source, job. Compare-and-set; never removed."""
    return f"{NAMES}{name}.json"


def receipt(name: str) -> str:
    """The receipt of the published job: writing it is the moment of publication."""
    return f"{RECEIPTS}{name}.json"


def refused(source_key: str) -> str:
    """Why no job could be made of an upload."""
    return f"{REFUSED}{source_key}.json"


def open_mark(file_id: str) -> str:
    """An empty object: this job isn't finished with."""
    return f"{OPEN}{file_id}"


def job(file_id: str) -> str:
    """What the job is; written before its first row event."""
    return f"{JOBS}{file_id}/job.json"


def claim(file_id: str) -> str:
    """Who captures it, and how far."""
    return f"{JOBS}{file_id}/claim.json"


def captured(file_id: str) -> str:
    """How many rows it has; written when the last is acknowledged, before the ends."""
    return f"{JOBS}{file_id}/captured.json"


def missing_folder(file_id: str) -> str:
    """The blocks that shares lack; see `pipeline.missing`."""
    return f"{JOBS}{file_id}/missing/"


def missing(file_id: str, partition: int) -> str:
    """The blocks that one share lacks, and the round of repair."""
    return f"{missing_folder(file_id)}{partition}.json"


def missing_partition(key: str) -> int:
    """Return the partition that such a key is of."""
    return int(key.rpartition("/")[2].removesuffix(".json"))


def repair(file_id: str) -> str:
    """Who captures lost blocks again."""
    return f"{JOBS}{file_id}/repair.json"


def assembly(file_id: str) -> str:
    """Who assembles it."""
    return f"{JOBS}{file_id}/assembly.json"


def parts(file_id: str) -> str:
    """The pieces of its shares that the sink has put on S3."""
    return f"{PARTS}{file_id}/"


def part(file_id: str, partition: int, first_row: int, digest: str) -> str:
    """A piece of a share, named by its content: writing it again changes nothing."""
    return f"{parts(file_id)}{partition}-{first_row}-{digest}.parquet"


def output(file_id: str, nonce: str) -> str:
    """The computed CSV, under a name of its own until it is published."""
    return f"{JOBS}{file_id}/out-{nonce}.csv"


def rejects(file_id: str, nonce: str) -> str:
    """The rejected rows as CSV."""
    return f"{JOBS}{file_id}/rejects-{nonce}.csv"


def replaces(file_id: str, replaced: str) -> str:
    """An empty object in a published job's folder: the outputs of the job that it took the place of aren't removed yet."""
    return f"{JOBS}{file_id}/replaces-{replaced}"


def end(file_id: str) -> str:
    """How it ended: the one decision, for ever."""
    return f"{JOBS}{file_id}/end.json"
