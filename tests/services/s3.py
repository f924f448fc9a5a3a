"""An S3 server for tests: SeaweedFS, with two fresh buckets for each test."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from millstream import embedded, ports
from millstream.process import running


@dataclass(frozen=True)
class S3:
    """Where a test's S3 server is, who may use it, and the test's own two buckets."""

    endpoint: str
    access_key: str
    secret_key: str
    uploads: str
    results: str

    def client(self) -> Any:
        """A boto3 client of the server."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 2}, s3={"addressing_style": "path"}),
        )


@contextmanager
def s3_server(directory: Path) -> Iterator[S3]:
    """SeaweedFS on free ports, without buckets of a test; its log is `directory`/s3.log."""
    state = embedded.State("TESTACCESSKEY", uuid.uuid4().hex, *ports.choose(7))
    server = S3(state.endpoint, state.access_key, state.secret_key, "", "")
    command = embedded.s3_command(directory, state)
    with running(command, lambda: embedded.s3_answers(state), log=directory / "s3.log", timeout=30):
        yield server


@contextmanager
def fresh_buckets(server: S3) -> Iterator[S3]:
    """Two new empty buckets, removed with all in them at the end: each holds volumes of the server."""
    label = uuid.uuid4().hex[:12]
    mine = replace(server, uploads=f"uploads-{label}", results=f"results-{label}")
    client = mine.client()
    try:
        for bucket in (mine.uploads, mine.results):
            client.create_bucket(Bucket=bucket)
        yield mine
    finally:
        for bucket in (mine.uploads, mine.results):
            _remove(client, bucket)
        client.close()


def _remove(client: Any, bucket: str) -> None:
    for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()):
        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        if keys := [{"Key": item["Key"]} for item in page.get("Contents", ())]:
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
    client.delete_bucket(Bucket=bucket)
