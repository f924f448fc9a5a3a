"""Counts of begun offsets in files, for the broker that keeps none beside its offsets."""

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from pipeline import kafka
from pipeline.kafka_notes import InCommits, InFiles, notes
from pipeline.settings import Settings

CLIENT: Any = None


def in_files(folder: Path, *, topic: str = "rows", kafka: str = "127.0.0.1:9092") -> InFiles:
    return InFiles(topic, Settings(spool=str(folder), kafka=kafka, profile="embedded"), "group")


def at(offset: int, partition: int = 2) -> TopicPartition:
    return TopicPartition("rows", partition, offset)


def test_a_note_is_found_by_the_next_worker_that_begins_at_its_offset(tmp_path: Path) -> None:
    in_files(tmp_path).keep(CLIENT, {2: 500, 3: 0}, {2: "begun 1", 3: "begun 2"})
    later = in_files(tmp_path)
    assert later.find(at(500)) == "begun 1"
    assert later.find(at(501)) is None
    assert later.find(at(500, partition=1)) is None
    assert later.find(at(-1001, partition=3)) == "begun 2"  # never committed: the beginning


def test_notes_of_another_topic_or_broker_are_others(tmp_path: Path) -> None:
    in_files(tmp_path).keep(CLIENT, {2: 500}, {2: "begun 1"})
    assert in_files(tmp_path, topic="results").find(at(500)) is None
    assert in_files(tmp_path, kafka="127.0.0.1:9093").find(at(500)) is None


def test_whoever_gets_on_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it was another worker that wrote it; and nothing is kept of a partition whose commit was refused."""

    def only_the_second(_client: object, _topic: str, offsets: dict[int, int]) -> dict[int, int]:
        return {2: offsets[2]}

    monkeypatch.setattr(kafka, "commit", only_the_second)
    in_files(tmp_path).keep(CLIENT, {2: 500, 3: 500}, {2: "begun 1", 3: "begun 1"})
    later = in_files(tmp_path)
    for partition in (2, 3):
        later.find(at(500, partition))
    assert later.commit(CLIENT, {2: 600, 3: 600}, {2: "", 3: ""}) == {2: 600}
    assert in_files(tmp_path).find(at(500, partition=3)) == "begun 1"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"500", b"\xff\xfe", b"begun 3"])
def test_a_file_that_is_no_note_counts_nothing(content: bytes, tmp_path: Path) -> None:
    ours = in_files(tmp_path)
    ours.keep(CLIENT, {2: 500}, {2: "begun 1"})
    [file] = tmp_path.iterdir()
    file.write_bytes(content)
    assert not in_files(tmp_path).find(at(500))


def test_a_folder_that_is_gone_costs_a_count_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    ours = in_files(folder)
    folder.rmdir()
    ours.keep(CLIENT, {2: 500}, {2: "begun 1"})
    assert ours.find(at(500)) is None


def test_apache_kafka_keeps_them_itself() -> None:
    assert isinstance(notes("rows", Settings(profile="kafka"), "group"), InCommits)
    assert isinstance(notes("rows", Settings(profile="embedded"), "group"), InFiles)
