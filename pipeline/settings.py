"""All settings, read in one place: `millstream.toml`, then `MILLSTREAM_*` in the environment, then flags.

A running `millstream up` in the same folder stands in for what none of them says: its addresses are in `.millstream/up.json`.
It does so server by server: who names another broker keeps `up`'s S3 and reader.
Nothing else reads the environment.
"""

import difflib
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as SettingsSourceError

from pipeline import crash
from pipeline.calculations import Calculation
from pipeline.errors import BadCalculation, SettingsError
from pipeline.limits import size_in_bytes

CONFIG_FILE = "millstream.toml"
DATA_DIR = ".millstream"
PREFIX = "MILLSTREAM_"
OVERHEAD = 100
"""Bytes that a message has beside its key and value, generously: a broker has to take `message_bytes` and these."""
LEAST_IN_FLIGHT = 16_000_000
_TABLES = {"s3", "http"}
_EXAMPLES = {
    "match": 'match = "orders*.csv"',
    "id": 'id = "order_id"',
    "outputs": 'outputs = { total = "quantity * price" }',
}
OF_THE_BROKER = ("purge", "in_flight")
"""Settings that `up` chooses for a broker of its own."""

_S3_SERVER = ("s3_endpoint", "s3_region", "s3_access_key", "s3_secret_key")
_NOT_OURS = {"MILLSTREAM_REQUIRE", "MILLSTREAM_CONFIG", "MILLSTREAM_CRASH"}


class S3Settings(BaseModel):
    """Where uploads and results lie. Without an endpoint it is AWS, with credentials as boto3 finds them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str | None = Field(
        None, description="address of the S3 server; none for AWS", pattern=r"^https?://.+"
    )
    access_key: str | None = Field(None, description="access key; none for boto3's own search")
    secret_key: SecretStr | None = Field(None, description="secret key")
    region: str = Field("us-east-1", description="region of the buckets")
    uploads: str = Field("uploads", description="bucket that files are dropped into", min_length=3)
    results: str = Field("results", description="bucket of computed CSVs", min_length=3)


class HttpSettings(BaseModel):
    """The HTTP reader."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 is everyone's")
    port: int = Field(8080, description="port to listen on", ge=0, le=65535)
    token: SecretStr | None = Field(None, description="writes need `Authorization: Bearer <token>`")
    read_token: SecretStr | None = Field(None, description="reads need this one, or the writers'")
    downloads: int = Field(
        2000, description="downloads at a time; whoever comes then is asked to come again (503)", ge=1
    )
    watchers: int = Field(
        1000,
        description="clients of /events at a time; whoever comes then is asked to come again (503)",
        ge=1,
    )
    cors: tuple[str, ...] = Field(
        (),
        description="origins whose pages may use the reader, as https://example.com; `*` is any",
    )

    @field_validator("cors")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
                raise ValueError(f"{origin!r} is no origin: write it as https://example.com, without a path")
        return origins


class Settings(BaseSettings):
    """Everything that can be set; see README for a table."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="_", env_nested_max_split=1, extra="forbid", frozen=True
    )

    kafka: str = Field("127.0.0.1:9092", description="bootstrap servers, host:port with commas between")
    kafka_options: dict[str, str] = Field(
        default_factory=dict, description="further librdkafka properties of every client: SASL, TLS, …"
    )
    topic_prefix: str = Field(
        "millstream", description="first part of the topics' names", pattern=r"^[a-zA-Z0-9._-]{1,200}$"
    )
    partitions: int = Field(
        4, description="partitions of the topics, where Millstream creates them", ge=1, le=10000
    )
    replication: int = Field(
        1, description="replication factor, where Millstream creates the topics", ge=1, le=32
    )
    purge: bool = Field(
        False, description="whether what all consumer groups have committed is removed from the topics"
    )
    retention: int = Field(
        168,
        description="hours that messages are kept in any case, where Millstream creates the topics",
        ge=1,
        le=24 * 3650,
    )
    block: int = Field(8192, description="consecutive rows that are dealt to one partition", ge=1, le=1 << 20)
    message_bytes: int = Field(
        1_000_000,
        description="largest Kafka message that is sent, key and all; the broker's limit or less",
        ge=10_000,
    )
    session_timeout: float = Field(
        10.0, description="seconds until Kafka takes a silent consumer for dead", ge=1, le=300
    )
    stall_after: float = Field(
        30.0, description="seconds until a partition that has work waiting and doesn't move is named", ge=1
    )
    stall_exit: float = Field(
        300.0, description="seconds that a worker may stand still with work in hand until it exits", ge=1
    )
    health_port: int | None = Field(
        None,
        description="port of each stage's /health/live, /health/ready and /metrics; 0: any that is free",
        ge=0,
        le=65535,
    )
    memory: str = Field("1GB", description="memory that one calculation may use", pattern=r"^\d+ ?[KMG]i?B$")
    sink_memory: str = Field(
        "48MB",
        description="rows that a sink holds before it puts some of them on S3 as parts",
        pattern=r"^\d+ ?[KMG]i?B$",
    )
    sink_age: float = Field(
        60.0, description="seconds after which rows of an unfinished file are put on S3 as parts", gt=0
    )
    in_flight: str | None = Field(
        None,
        description="bytes on both topics that worker and sink haven't committed, above which capture waits; none for no bound",
        pattern=r"^\d+ ?[KMG]i?B$",
    )
    repair_after: float = Field(
        30.0,
        description="seconds without a new row of a share that has ended until missing rows are captured again",
        gt=0,
    )
    spool: str | None = Field(
        None, description="folder for copies of uploads and results on their way; none for the system's own"
    )
    kafka_jars: str | None = Field(
        None,
        description="folder with Apache Kafka's jars for the broker of `up`, as `libs` of its distribution; none fetches them "
        "once, into ~/.cache/millstream",
    )
    s3: S3Settings = Field(default_factory=S3Settings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="how logs look; auto is text, in colour on a terminal"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level that is logged"
    )
    traces: str | None = Field(
        None,
        description="address of an OpenTelemetry collector (OTLP over HTTP); needs millstream[otel]",
        pattern=r"^https?://.+",
    )
    calculations: dict[str, Calculation] = Field(default_factory=dict)

    _chosen: frozenset[str] = PrivateAttr(default=frozenset())

    @model_validator(mode="before")
    @classmethod
    def _label_calculations(cls, values: Any) -> Any:
        """A calculation's label is its key in the file."""
        if isinstance(values, dict) and isinstance(values.get("calculations"), dict):
            labelled = {
                label: ({"label": label} | fields if isinstance(fields, dict) else fields)
                for label, fields in values["calculations"].items()
            }
            return values | {"calculations": labelled}
        return values

    @model_validator(mode="after")
    def _both_keys(self) -> Self:
        if (self.s3.access_key is None) != (self.s3.secret_key is None):
            raise ValueError("s3.access_key and s3.secret_key go together: set both or neither")
        return self

    @field_validator("in_flight")
    @classmethod
    def _enough(cls, size: str | None) -> str | None:
        if size is not None and size_in_bytes(size) < LEAST_IN_FLIGHT:
            raise ValueError(
                "less than 16MB is less than the stages work on at a time: they would wait for each other"
            )
        return size

    @field_validator("spool")
    @classmethod
    def _writable(cls, folder: str | None) -> str | None:
        if folder is not None and not (Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            raise ValueError("there is no such folder that this user may write to: make it, or name another")
        return folder

    def names(self, *settings: str) -> bool:
        """Whether file, environment or flags say any of these, as the environment spells them: `kafka`, `s3_endpoint`."""
        return not self._chosen.isdisjoint(settings)

    @property
    def names_s3(self) -> bool:
        """Whether an S3 server is named: by its address, its region (AWS), or by keys, which belong to one."""
        return self.names(*_S3_SERVER)

    @property
    def spool_folder(self) -> str:
        """`spool`, or the system's folder for temporary files (TMPDIR)."""
        return self.spool or tempfile.gettempdir()

    @property
    def cache_folder(self) -> Path:
        """Where what is fetched once lies, for all folders of this user: XDG_CACHE_HOME or ~/.cache."""
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "millstream"

    @property
    def topics(self) -> tuple[str, str]:
        """Both topics."""
        return self.rows_topic, self.results_topic

    @property
    def sink_bytes(self) -> int:
        """`sink_memory` as a number."""
        return size_in_bytes(self.sink_memory)

    @property
    def in_flight_bytes(self) -> int | None:
        """`in_flight` as a number."""
        return None if self.in_flight is None else size_in_bytes(self.in_flight)

    @property
    def processor_group(self) -> str:
        """The consumer group that reads rows."""
        return f"{self.topic_prefix}.processor"

    @property
    def sink_group(self) -> str:
        """The consumer group that reads results."""
        return f"{self.topic_prefix}.sink"

    @property
    def rows_topic(self) -> str:
        """The topic of row events."""
        return f"{self.topic_prefix}.rows"

    @property
    def results_topic(self) -> str:
        """The topic of result events."""
        return f"{self.topic_prefix}.results"

    @property
    def progress_topic(self) -> str:
        """The topic of `pipeline.progress`: how far each job is, for whoever watches."""
        return f"{self.topic_prefix}.progress"


def load(
    folder: Path | None = None, *, beside_up: bool = True, calculations: bool = True, **flags: Any
) -> Settings:
    """Read the settings for commands run in `folder` (the working directory); flags that are None say nothing.

    A running `up` stands in for what none of them says, unless `beside_up` is false. Without `calculations` there are none,
    whatever is said of them.

    Raises SettingsError naming the setting, its value and what would be right, BadCalculation where it is calculations alone.
    """
    folder = folder or Path.cwd()
    file = config_file(folder)
    written = _read_file(file)
    given = {name: value for name, value in flags.items() if value is not None}
    _check_environment()
    crash.arm(os.environ.get("MILLSTREAM_CRASH"))
    chosen = _Chosen(
        flags=_flat(given),
        environment={name.removeprefix(PREFIX).lower() for name in os.environ if name.startswith(PREFIX)},
        written=_flat(written),
        file=file,
    )
    running = _unchosen(running_up(folder), chosen) if beside_up else {}

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            lower = (InitSettingsSource(settings_cls, values) for values in (written, running))
            return (init_settings, env_settings, *lower)

        @model_validator(mode="before")
        @classmethod
        def _leave_out(cls, values: Any) -> Any:
            if calculations or not isinstance(values, dict):
                return values
            return {name: value for name, value in values.items() if name != "calculations"}

    try:
        loaded = Loaded(**given)
        loaded._chosen = chosen.all
        return loaded
    except SettingsSourceError as error:
        field = next((name for name in Settings.model_fields if f'"{name}"' in str(error)), "")
        raise SettingsError(
            f"{PREFIX}{field.upper()} in the environment: not valid JSON: {error.__cause__}"
        ) from error
    except ValidationError as error:
        bad = all(problem["loc"][:1] == ("calculations",) for problem in error.errors())
        raise (BadCalculation if bad else SettingsError)(_explain(error, chosen)) from None


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Which settings each source names, as the environment spells them, in lower case; those of a table one by one."""

    flags: set[str]
    environment: set[str]
    written: set[str]
    file: Path

    def __contains__(self, name: str) -> bool:
        return name in self.all

    @property
    def all(self) -> frozenset[str]:
        """What any of them names."""
        return frozenset(self.flags | self.environment | self.written)

    def source(self, path: tuple[int | str, ...]) -> str:
        """Return what a message about a setting begins with: whose value it is."""
        name = "_".join(str(part) for part in path[: 2 if path[0] in _TABLES else 1]).lower()
        if name in self.flags:
            return "--set "
        if name in self.environment:
            return f"{PREFIX}{name.upper()} in the environment: "
        return f"{self.file}: " if self.written else ""


def _flat(values: Mapping[str, Any]) -> set[str]:
    """Return the names of settings, those in a table one by one: `s3_endpoint`."""
    names = set()
    for name, value in values.items():
        if name in _TABLES and isinstance(value, Mapping):
            names |= {f"{name}_{inner}" for inner in value}
        else:
            names.add(name)
    return names


def _unchosen(running: dict[str, Any], chosen: _Chosen) -> dict[str, Any]:
    """Return what a running `up` says of servers that nobody chose.

    An S3 server goes with its keys and buckets, a broker with how it is kept small.
    """
    left_out = set()
    if "kafka" in chosen:
        left_out |= {"kafka", *OF_THE_BROKER}
    if not chosen.all.isdisjoint(_S3_SERVER):
        left_out.add("s3")
    return {name: value for name, value in running.items() if name not in left_out}


def config_file(folder: Path | None = None) -> Path:
    """Return where `millstream.toml` is or would be, for commands run in `folder` (the working directory)."""
    return Path(os.environ.get("MILLSTREAM_CONFIG", (folder or Path.cwd()) / CONFIG_FILE))


def wanted_log_format(folder: Path | None = None) -> str | None:
    """Return what environment and file say of `log_format`, though nothing else there may be right; None where nothing."""
    if (said := os.environ.get(f"{PREFIX}LOG_FORMAT")) is not None:
        return said
    try:
        written = _read_file(config_file(folder)).get("log_format")
    except SettingsError:
        return None
    return written if isinstance(written, str) else None


def changed(read: Callable[[], Settings] = load) -> Callable[[], Settings | None]:
    """Return a function that reads the settings again when their file has changed since it was last called, else None.

    It raises SettingsError, once for each change, where what is there now can't be used.
    """
    file = config_file()

    def look() -> tuple[int, int]:
        try:
            found = file.stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_size

    seen = look()

    def again() -> Settings | None:
        nonlocal seen
        before, seen = seen, look()
        return read() if seen != before else None

    return again


def running_up(folder: Path) -> dict[str, Any]:
    """Return the settings that a running `millstream up` in `folder` has written down; none where none runs."""
    try:
        found = json.loads((folder / DATA_DIR / "up.json").read_text())
        os.kill(found.get("pid") or next(iter(found["processes"].values())), 0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return {}
    host, _, port = found["http"].removeprefix("http://").partition(":")
    return {
        "kafka": found["kafka"],
        "s3": {name: value for name, value in found["s3"].items() if value is not None},
        "http": {"host": host, "port": int(port)},
    } | {name: found["broker"][name] for name in OF_THE_BROKER if name in found.get("broker", {})}


def disagreement(settings: Settings, folder: Path | None = None) -> str | None:
    """Return a sentence where a running `up` in the folder works with another server than these settings name."""
    running = running_up(folder or Path.cwd())
    if not running:
        return None
    pairs = (
        ("kafka", "Kafka", running["kafka"], settings.kafka),
        ("s3.endpoint", "S3", running["s3"].get("endpoint"), settings.s3.endpoint),
    )
    unlike = [
        f"{server} at {theirs or 'AWS'}, and {name} is {ours or 'AWS'} here"
        for name, server, theirs, ours in pairs
        if theirs != ours
    ]
    if not unlike:
        return None
    return (
        f"the `up` that runs in this folder works with {'; with '.join(unlike)}: what one of them sends, the other doesn't "
        "see. Start `up` again, or take the setting out"
    )


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 text, at byte {error.start:,}: save it as UTF-8") from None
    except OSError as error:
        raise SettingsError(f"{path}: can't be read: {error.strerror}") from None


def _check_environment() -> None:
    """Raise for a `MILLSTREAM_*` variable that is no setting: a misspelt one would be ignored silently."""
    known = {f"{PREFIX}{name}".upper() for name in _names()} | _NOT_OURS
    for variable in sorted(os.environ):
        if variable.startswith(PREFIX) and variable not in known:
            raise SettingsError(f"{variable} in the environment is no setting{_suggest(variable, known)}")


def _names() -> list[str]:
    """Return all settings' names as the environment spells them, in lower case."""
    names = []
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += [f"{name}_{inner}" for inner in field.annotation.model_fields]
        else:
            names.append(name)
    return names


def _explain(error: ValidationError, chosen: _Chosen) -> str:
    """Return one line per problem: setting, value, what would be right."""
    lines = []
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"])
        source = chosen.source(problem["loc"]) if path else ""
        if problem["type"] == "extra_forbidden":
            lines.append(f"{source}{path} is no setting{_suggest(path, _dotted(problem['loc']))}")
            continue
        if problem["type"] == "missing":
            right = _EXAMPLES.get(str(problem["loc"][-1]))
            lines.append(f"{source}{path} is missing" + (f": {right} would be right" if right else ""))
            continue
        secret = "key" in path or "token" in path
        value = "" if secret or not path else f" = {problem['input']!r}"
        said = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{source}{path}{value}: {said}" if path else said)
    return "\n".join(lines)


def _dotted(path: tuple[int | str, ...]) -> set[str]:
    """Return the settings that stand beside a wrong one, with dots."""
    if path[0] == "calculations" and len(path) > 1:
        return {f"calculations.{path[1]}.{name}" for name in Calculation.model_fields if name != "label"}
    names = {name.replace("_", ".", 1) if name.split("_")[0] in _TABLES else name for name in _names()}
    return names | {"calculations"}


def _suggest(wrong: str, right: set[str]) -> str:
    bare = {name.removeprefix(PREFIX): name for name in right}
    near = difflib.get_close_matches(wrong.removeprefix(PREFIX), sorted(bare), n=1)
    return f"; did you mean {bare[near[0]]}?" if near else f"; there are: {', '.join(sorted(right))}"
