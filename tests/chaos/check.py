"""What has to be true at the end of every run, whatever went wrong in it."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from pipeline import layout
from pipeline.jobs import End, Receipt
from tests.chaos.files import Content, ids
from tests.services.s3 import S3


@dataclass(slots=True)
class Findings:
    """What is wrong; rows lost and rows that are there twice are counted over all files."""

    wrong: list[str] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0


def unfinished(client: Any, s3: S3, names: dict[str, str]) -> list[str]:
    """Return what has still to happen: names whose receipt isn't of the upload with that ETag, and open marks."""
    waiting = []
    for name, etag in names.items():
        found = _read(client, s3.results, layout.receipt(name))
        receipt = Receipt.model_validate_json(found) if found is not None else None
        if receipt is None or receipt.source is None or receipt.source.etag != etag:
            waiting.append(f"{name} has {'no receipt' if receipt is None else 'an older receipt'}")
    return waiting + [f"open: {key}" for key in _keys(client, s3.results, layout.OPEN)]


def broken_off(client: Any, s3: S3) -> list[str]:
    """Return the multipart uploads that are neither completed nor aborted: a sink's next look removes them."""
    return [
        f"an upload was broken off: {upload['Key']}"
        for bucket in (s3.uploads, s3.results)
        for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())
    ]


def uncommitted(bootstrap: str, prefix: str) -> list[str]:
    """Return which offsets of the two groups aren't at the end: there is something left to be read from them on."""
    return [
        f"{stage}: {topic}/{left}"
        for stage, topic in (("processor", "rows"), ("sink", "results"))
        for left in _left_to_read(bootstrap, f"{prefix}.{stage}", f"{prefix}.{topic}")
    ]


def _left_to_read(bootstrap: str, group: str, topic: str) -> list[str]:
    asking = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    found = []
    try:
        numbers = asking.list_topics(topic, 10).topics[topic].partitions
        for at in asking.committed([TopicPartition(topic, number) for number in numbers], timeout=10):
            low, high = asking.get_watermark_offsets(at, timeout=10)
            start = at.offset if at.offset >= 0 else low
            if high and start != high:  # else nothing was ever there to be read
                found.append(f"{at.partition} is committed up to {start} of {high}")
    except KafkaException as error:
        return [str(error)]
    finally:
        asking.close()
    return found


def look(client: Any, s3: S3, wanted: dict[str, Content]) -> Findings:
    """Compare every published file with DuckDB's, its receipt with what was to be counted, and look for leftovers."""
    found = Findings()
    served = set()
    for name, content in wanted.items():
        data = _read(client, s3.results, layout.receipt(name))
        if data is None:
            found.wrong.append(f"{name} has no receipt")
            found.lost += content.results
            continue
        receipt = Receipt.model_validate_json(data)
        assert receipt.output is not None
        served |= {stored.key for stored in (receipt.output, receipt.rejects) if stored is not None}
        counts = (receipt.rows, receipt.results, receipt.rejected)
        if counts != (content.rows, content.results, content.rows - content.results):
            found.wrong.append(
                f"{name}: the receipt counts {counts}; it is {content.rows}, {content.results}"
            )
        for what, key in (("the output", receipt.output.key), ("the copy", name)):
            _compare(f"{name}: {what}", _read(client, s3.results, key), content, found)
        _look_at_rejects(client, s3, name, receipt, found)
    _look_for_leftovers(client, s3, served, found)
    return found


def _compare(what: str, there: bytes | None, content: Content, found: Findings) -> None:
    if there is None:
        found.wrong.append(f"{what} is not there")
        found.lost += content.results
    elif there != content.result:
        has, should = Counter(ids(there)), Counter(ids(content.result))
        lost, doubled = (should - has).total(), (has - should).total()
        found.lost += lost
        found.doubled += doubled
        found.wrong.append(
            f"{what} is not DuckDB's: {lost} rows lost, {doubled} too many, or in another order"
        )


def _look_at_rejects(client: Any, s3: S3, name: str, receipt: Receipt, found: Findings) -> None:
    if receipt.rejects is None:
        if receipt.rejected:
            found.wrong.append(f"{name}: {receipt.rejected} rejects, and no file of them")
        return
    rejects = _read(client, s3.results, receipt.rejects.key)
    if rejects is None or len(ids(rejects)) != receipt.rejected:
        found.wrong.append(f"{name}: the rejects are not {receipt.rejected}")


def _look_for_leftovers(client: Any, s3: S3, served: set[str], found: Findings) -> None:
    for key in _keys(client, s3.results, layout.PARTS):
        found.wrong.append(f"left over: {key}")
    folders = defaultdict(set)
    for key in _keys(client, s3.results, layout.JOBS):
        folder, _, last = key.rpartition("/")
        folders[folder].add(last)
        if last.startswith(("out-", "rejects-")) and key not in served:
            found.wrong.append(f"an output that nobody names: {key}")
        if last in {"claim.json", "assembly.json", "repair.json"} or "/missing/" in key:
            found.wrong.append(f"left over: {key}")
    for folder, there in folders.items():
        if there == {"job.json"}:
            continue  # described by who died before marking it; a newer upload came before anybody looked again
        data = _read(client, s3.results, f"{folder}/end.json")
        state = End.model_validate_json(data).state if data is not None else None
        if state not in {"published", "superseded"}:
            found.wrong.append(f"{folder} has ended as {state}")


def _read(client: Any, bucket: str, key: str) -> bytes | None:
    try:
        data: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    except client.exceptions.NoSuchKey:
        return None
    return data


def _keys(client: Any, bucket: str, prefix: str) -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", ())]
