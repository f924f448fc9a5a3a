"""One run: services that stay up over many runs, stages started for real, what goes wrong, and the look at the end."""

import contextlib
import functools
import resource
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
from botocore.exceptions import ClientError
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from millstream import ports
from tests.chaos import check
from tests.chaos.files import CONFIGURATION, Content, write
from tests.chaos.plan import (
    Again,
    BrokerDies,
    BrokerKind,
    Crash,
    DiskFull,
    Freeze,
    Join,
    Kill,
    NodeDies,
    Plan,
    Point,
    S3Fails,
    Skew,
    TopicAnew,
)
from tests.chaos.s3_server import S3Server
from tests.chaos.supervisor import Supervisor
from tests.chaos.zygote import Forked, Zygote
from tests.integration.chain import consume, environment
from tests.services import kafka
from tests.services.kafka import Broker
from tests.services.s3 import S3, fresh_buckets
from tests.services.s3_faults import FaultProxy, Trap, fault_proxy
from tests.wait import wait_until

DEADLINE = 180.0
"""Seconds from the last thing that went wrong until everything has to be right."""

TICK = 0.03


@dataclass(slots=True)
class Services:
    """A broker of each kind and an S3 server, started when first wanted and kept over many runs."""

    folder: Path
    _until: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _up: Broker | None = None
    _cluster: tuple[Broker, list[Any]] | None = None
    _s3: S3Server | None = None
    zygote: Zygote = field(default_factory=Zygote)
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "services"))
    """Starts them, and lives as long: on Linux they end with the thread that started them."""

    def broker(self, kind: BrokerKind) -> tuple[Broker, list[Any]]:
        """Return a broker and the nodes of the cluster that it is, none for a single one; all of them are up."""
        if kind == "up":
            self._up = self._up or self._enter(kafka.apache_kafka, self._made(kind))
            return self._up, []
        self._cluster = self._cluster or self._enter(kafka.apache_cluster, self._made(kind))
        broker, nodes = self._cluster
        for node in nodes:
            self.thread.submit(node.revive).result()
        wait_until(lambda: _is_in_sync(broker), 120)
        return broker, nodes

    def s3(self) -> S3Server:
        """Return the S3 server."""
        if self._s3 is None:
            self._s3 = S3Server(self._made("s3"), self._enter)
        self._s3.mend()
        return self._s3

    def _enter(self, make: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return self.thread.submit(lambda: self._until.enter_context(make(*arguments, **options))).result()

    def _made(self, name: str) -> Path:
        (self.folder / name).mkdir(exist_ok=True)
        return self.folder / name

    def close(self) -> None:
        """End them."""
        self.zygote.close()
        self.thread.submit(self._until.close).result()
        self.thread.shutdown()


def _is_in_sync(broker: Broker) -> bool:
    """Whether every partition has all of its copies."""
    topics = AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=30).topics
    partitions = (partition for topic in topics.values() for partition in topic.partitions.values())
    return all(len(partition.isrs) == len(partition.replicas) for partition in partitions)


@dataclass(slots=True)
class Outcome:
    """How a run ended. `recovery`: seconds from the last thing that went wrong until all was right."""

    wrong: list[str]
    lost: int
    doubled: int
    seconds: float
    recovery: float
    restarts: int
    said: list[str]


class Run:
    """A plan being carried out; everything is done by the thread that calls `go`, but for what takes long."""

    def __init__(self, plan: Plan, services: Services, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self._services = services
        self._prefix = f"chaos-{uuid.uuid4().hex[:10]}"
        self._until = contextlib.ExitStack()
        self._contents: dict[str, Content] = {}
        self._files: dict[int, Path] = {}
        self._placed: set[int] = set()
        self._pushing: dict[int, Forked] = {}
        self._again: dict[int, float] = {}
        self._last = 0.0
        self._busy: list[Future[None]] = []
        self._beside = ThreadPoolExecutor(4, "beside")

    def go(self) -> Outcome:
        """Carry it out."""
        began = time.monotonic()
        with self._until:
            self._prepare()
            try:
                found = self._carry_out()
            finally:
                self._supervisor.destroy()
                for process in self._pushing.values():
                    process.kill()
                    process.wait()
                self._proxy.clear()
                self._beside.shutdown()
                self._remove_topics()
        ended = time.monotonic()
        return Outcome(
            found.wrong,
            found.lost,
            found.doubled,
            round(ended - began, 1),
            round(self._right - max(self._last, self._supervisor.began), 1),
            self._supervisor.restarts,
            self._supervisor.said,
        )

    def _prepare(self) -> None:
        plan = self.plan
        (self.folder / "millstream.toml").write_text(CONFIGURATION)
        for number, upload in enumerate(plan.uploads):
            self._files[number], content = write(upload, self.folder)
            self._contents[content.etag] = content
        self._broker, self._nodes = self._services.broker(plan.broker)
        self._server = self._services.s3()
        self._s3 = self._until.enter_context(_buckets(self._server.address))
        self._client = self._s3.client()
        self._until.callback(self._client.close)
        self._proxy: FaultProxy = self._until.enter_context(fault_proxy(self._s3.endpoint, plan.seed))
        gates = {name: self._proxy.gate(name) for name in {*plan.stages, "push", *self._joining()}}
        port = ports.choose(1)[0]
        self._http = f"http://127.0.0.1:{port}"
        env = environment(
            self._broker,
            self._s3,
            self._prefix,
            MILLSTREAM_HTTP_PORT=str(port),
            MILLSTREAM_SESSION_TIMEOUT="6",
            MILLSTREAM_BLOCK=str(plan.block),
            MILLSTREAM_REPLICATION="3" if self._nodes else "1",
            PYTHONUNBUFFERED="1",
            **plan.settings,
        )
        points = {event.target: event for event in plan.events if isinstance(event, Point)}
        skews = {event.target: event for event in plan.events if isinstance(event, Skew)}
        self._gates, self._env = gates, env
        self._supervisor = Supervisor(self._services.zygote, self.folder, env, gates, points, skews)

    def _joining(self) -> set[str]:
        return {event.target for event in self.plan.events if isinstance(event, Join)}

    # ---- time goes on

    def _carry_out(self) -> check.Findings:
        for stage in self.plan.stages:
            self._supervisor.start(stage)
        self._wait(self._are_up, 60)
        self._supervisor.began = time.monotonic()
        schedule = sorted(self._schedule(), key=lambda item: item[0])
        self._last = time.monotonic()
        self._right = 0.0
        waiting: list[str] = ["not begun"]
        next_look = 0.0
        while time.monotonic() - self._last < DEADLINE:
            now = time.monotonic()
            while schedule and schedule[0][0] <= now - self._supervisor.began:
                self._last = now
                schedule.pop(0)[1]()
            self._supervisor.look()
            self._look_at_pushes(now)
            self._last = max(self._last, self._supervisor.touched)
            for done in [done for done in self._busy if done.done()]:
                self._busy.remove(done)
                self._last = now
                done.result()
            if not schedule and now >= next_look:
                if self._server.mend():
                    self._supervisor.note(
                        "started the S3 server again: it refused writes since its disk was full"
                    )
                waiting = ["something is under way"] if self._busy else self._waiting()
                if not waiting:
                    break
                next_look = time.monotonic() + 0.3
            time.sleep(TICK)
        self._right = time.monotonic()
        found = check.look(self._client, self._s3, self._wanted())
        if waiting:
            found.wrong = [f"not right {DEADLINE:.0f} s after the last event: {waiting}", *found.wrong]
        found.wrong += self._supervisor.stop()
        return found

    def _wait(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            self._supervisor.look()
            time.sleep(TICK)

    def _are_up(self) -> bool:
        """Whether the stages can work, or are held up at a point already."""
        said = {"watch": "watching", "process": "partitions assigned", "sink": "partitions assigned"}
        for name in self.plan.stages:
            wanted = said.get(name.partition("-")[0])
            held_up = name in self._supervisor.points
            if wanted is not None and not held_up and wanted not in self._supervisor.log(name).read_text():
                return False
        return True

    def _waiting(self) -> list[str]:
        """Return what isn't right yet."""
        not_placed = [
            f"{self._files[n].name} isn't uploaded" for n in range(len(self._files)) if n not in self._placed
        ]
        wanted = {name: content.etag for name, content in self._wanted().items()}
        waiting = not_placed + check.unfinished(self._client, self._s3, wanted)
        waiting += check.broken_off(self._client, self._s3)
        waiting += ["push has not ended"] if self._pushing else []
        return waiting or check.uncommitted(self._broker.bootstrap, self._prefix)

    def _wanted(self) -> dict[str, Content]:
        """Return what lies in the uploads bucket: that is what counts, whatever order it came in."""
        listed = self._client.list_objects_v2(Bucket=self._s3.uploads).get("Contents", ())
        return {item["Key"]: self._contents[item["ETag"].strip('"')] for item in listed}

    def _schedule(self) -> Iterator[tuple[float, Callable[[], object]]]:  # noqa: PLR0912  # one case per kind
        supervisor = self._supervisor
        for number, upload in enumerate(self.plan.uploads):
            yield upload.at, functools.partial(self._begin_upload, number)
        for event in self.plan.events:
            match event:
                case Kill(target, at, back) if target == "push":
                    yield at, self._kill_pushes
                case Kill(target, at, back):
                    yield at, functools.partial(supervisor.kill, target, back)
                case Crash():
                    self._set_trap(event)
                case Freeze(target, at, seconds):
                    yield at, functools.partial(supervisor.freeze, target, seconds)
                    yield at + seconds, lambda: None
                case Join(target, at, seconds):
                    yield at, functools.partial(supervisor.start, target)
                    if seconds:
                        yield at + seconds, functools.partial(supervisor.leave, target)
                case BrokerDies(at, seconds, wiped):
                    yield at, functools.partial(self._break_broker, seconds, wiped)
                case NodeDies(at, seconds):
                    node = Random(self.plan.seed).choice(self._nodes)
                    yield at, functools.partial(self._kill_node, node)
                    if seconds:
                        yield at + seconds, functools.partial(self._revive_node, node)
                case TopicAnew(at):
                    yield at, functools.partial(self._do, self._make_topics_anew)
                case Again(topic, at):
                    yield at, functools.partial(self._do, functools.partial(self._send_again, topic))
                case S3Fails(fault, at, seconds):
                    yield at, functools.partial(self._set_faults, (*self._proxy.faults, fault))
                    yield at + seconds, functools.partial(self._set_faults, ())
                case DiskFull(at, seconds):
                    yield at, functools.partial(self._limit_disk, 1)
                    yield at + seconds, functools.partial(self._limit_disk, resource.RLIM_INFINITY)
                case Point() | Skew():
                    pass

    def _do(self, work: Callable[[], None]) -> None:
        self._busy.append(self._beside.submit(work))

    # ---- uploads

    def _begin_upload(self, number: int) -> None:
        upload = self.plan.uploads[number]
        older = [n for n in range(number) if self.plan.uploads[n].name == upload.name]
        if any(n not in self._placed for n in older):
            self._again[number] = time.monotonic() + 0.1  # the newer one is the one that comes later
            return
        self._supervisor.note(f"{upload.via}: {upload.name} with {upload.rows} rows")
        if upload.via == "s3":
            self._do(functools.partial(self._put, number))
        elif upload.via == "http":
            self._do(functools.partial(self._send, number))
        else:
            self._push(number)

    def _put(self, number: int) -> None:
        upload = self.plan.uploads[number]
        body = self._files[number].read_bytes()
        while True:
            try:
                self._client.put_object(Bucket=self._s3.uploads, Key=upload.name, Body=body)
                break
            except Exception as error:  # a full disk: whoever uploads tries again
                self._supervisor.note(f"uploading {upload.name}: {type(error).__name__}")
                time.sleep(0.5)
        self._placed.add(number)

    def _send(self, number: int) -> None:
        upload = self.plan.uploads[number]
        url = f"{self._http}/uploads/{upload.name}"
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            try:
                answer = httpx.put(url, content=self._files[number].read_bytes(), timeout=30)
                if answer.status_code == 201:
                    self._placed.add(number)
                    return
                said = str(answer.status_code)
            except httpx.HTTPError as error:
                said = type(error).__name__
            self._supervisor.note(f"PUT {upload.name}: {said}")
            time.sleep(0.5)

    def _push(self, number: int) -> None:
        upload = self.plan.uploads[number]
        env = self._env | {"MILLSTREAM_S3_ENDPOINT": self._gates["push"]}
        command = ["push", str(self._files[number])]
        log = self.folder / "push.log"
        self._pushing[number] = self._services.zygote.start(command, cwd=self.folder, env=env, log=log)
        self._supervisor.note(f"pushing {upload.name}")

    def _kill_pushes(self) -> None:
        for number, process in self._pushing.items():
            process.kill()
            self._supervisor.note(f"killed push of {self.plan.uploads[number].name}")

    def _look_at_pushes(self, now: float) -> None:
        for number, process in list(self._pushing.items()):
            if number not in self._placed and self._lies_there(number):
                self._placed.add(number)
            code = process.poll()
            if code is None:
                continue
            del self._pushing[number]
            self._supervisor.note(f"push has ended with {code}")
            if number not in self._placed:
                self._again[number] = now + 0.5
        for number, due in list(self._again.items()):
            if now >= due:
                del self._again[number]
                if not self._lies_there(number):
                    self._begin_upload(number)
                else:
                    self._placed.add(number)

    def _lies_there(self, number: int) -> bool:
        upload = self.plan.uploads[number]
        wanted = self._wanted().get(upload.name)
        return wanted is not None and wanted.source == self._files[number].read_bytes()

    # ---- what goes wrong

    def _set_trap(self, crash: Crash) -> None:
        def spring(gate: str) -> None:
            self._supervisor.note(f"{crash.step}, {crash.when} its effect: {gate}")
            if gate == "push":
                self._kill_pushes()
            else:
                self._supervisor.kill(gate, crash.back)

        self._proxy.traps += (Trap(crash.pattern, crash.when, spring, crash.count),)

    def _set_faults(self, faults: tuple[Any, ...]) -> None:
        self._proxy.faults = faults
        self._supervisor.note(f"S3: {faults or 'right again'}")

    def _limit_disk(self, size: int) -> None:
        self._server.limit_disk(size)
        self._supervisor.note("the disk is full" if size == 1 else "the disk has room")

    def _break_broker(self, seconds: float, wiped: bool) -> None:
        restart = self._broker.restart
        assert restart is not None
        self._supervisor.note(f"the broker dies for {seconds} s" + (", and loses its data" if wiped else ""))
        self._busy.append(self._services.thread.submit(restart, seconds, wiped=wiped))

    def _kill_node(self, node: Any) -> None:
        node.kill()
        self._supervisor.note(f"killed one of three brokers, {node.bootstrap}")

    def _revive_node(self, node: Any) -> None:
        self._busy.append(self._services.thread.submit(node.revive))
        self._supervisor.note("started it again")

    def _make_topics_anew(self) -> None:
        admin = AdminClient({"bootstrap.servers": self._broker.bootstrap})
        names = [f"{self._prefix}.rows", f"{self._prefix}.results"]
        for deleted in admin.delete_topics(names).values():
            with contextlib.suppress(KafkaException):
                deleted.result(30)
        # With one copy on a cluster, acks=all would wait for a second in-sync replica for ever.
        copies = max(1, len(self._nodes))
        for created in admin.create_topics([NewTopic(name, 4, copies) for name in names]).values():
            with contextlib.suppress(KafkaException):  # a producer was first
                created.result(30)
        self._supervisor.note("the topics are made anew")

    def _send_again(self, topic: str) -> None:
        name = f"{self._prefix}.{topic}"
        try:
            found = consume(self._broker, name)
        except (AssertionError, KafkaException) as error:  # the broker is away
            self._supervisor.note(f"nothing is sent again: {error}")
            return
        size = 200
        blocks = [found[at : at + size] for at in range(0, len(found), size)]
        Random(self.plan.seed).shuffle(blocks)
        producer = Producer({"bootstrap.servers": self._broker.bootstrap, "linger.ms": 5})
        for block in blocks:
            for partition, key, value in block:
                producer.produce(name, key=key, value=value, partition=partition)
            producer.flush(10)
        self._supervisor.note(f"{len(found)} messages of {topic} are sent again")

    def _remove_topics(self) -> None:
        """Make room for the next runs."""
        admin = AdminClient({"bootstrap.servers": self._broker.bootstrap})
        names = [f"{self._prefix}.{topic}" for topic in ("rows", "results", "progress")]
        for deleted in admin.delete_topics(names).values():
            with contextlib.suppress(KafkaException):
                deleted.result(30)


@contextlib.contextmanager
def _buckets(server: S3) -> Iterator[S3]:
    """Two fresh buckets, removed afterwards where the server lets go of them: one whose disk was full may not."""
    buckets = fresh_buckets(server)
    try:
        yield buckets.__enter__()
    finally:
        with contextlib.suppress(ClientError):
            buckets.__exit__(None, None, None)


def run(plan: Plan, services: Services, folder: Path) -> Outcome:
    """Carry a plan out; `folder` gets the logs, and stays where something is wrong."""
    folder.mkdir(parents=True)
    outcome = Run(plan, services, folder).go()
    (folder / "said.log").write_text("\n".join([plan.describe(), *outcome.said, *outcome.wrong]) + "\n")
    if not outcome.wrong:
        shutil.rmtree(folder)
    return outcome
