"""The port of health and metrics that each process has."""

import json
import socket

import httpx
import pytest

from millstream.up import _stages
from pipeline import health
from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.stalls import Place, Stalls


def test_it_answers_probes_and_scrapers_and_names_what_stands_still() -> None:
    why: list[str] = []
    stalls = Stalls("process", 30)
    server = health.serve("127.0.0.1", 0, lambda: why, stalls)
    url = f"http://127.0.0.1:{server.server_port}"
    with httpx.Client(base_url=url) as client:
        assert client.get("/health/live").json() == {"status": "live"}
        assert client.get("/health/ready").json() == {"status": "ready", "reasons": [], "stalls": []}
        for now in (0, 31):
            stalls.look({3: Place(5, 9)}, now)
        why.append("partition 3 stands still")
        answer = client.get("/health/ready")
        assert answer.status_code == 503
        assert answer.json()["reasons"] == why
        assert (answer.json()["stalls"][0]["partition"], answer.json()["stalls"][0]["offset"]) == (3, 5)
        assert "millstream_rows_total" in client.get("/metrics").text
        assert client.get("/elsewhere").status_code == 404
    server.shutdown()
    server.server_close()


def test_a_port_that_is_taken_is_a_wrong_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"health_port = {port}: can't be listened on"):
            health.serve("127.0.0.1", port, list)


@pytest.mark.parametrize(
    ("port", "wanted"), [(9100, ["9100", "9101", "9102", "9103", "9104"]), (0, ["0"] * 5)]
)
def test_up_gives_each_stage_a_port_of_its_own(port: int, wanted: list[str]) -> None:
    stages = _stages(Settings.model_validate({"health_port": port}), processors=2)
    assert [stage.name for stage in stages] == ["serve", "sink-1", "process-1", "process-2", "watch"]
    assert [json.loads(stage.env["MILLSTREAM_HEALTH_PORT"]) for stage in stages] == [int(n) for n in wanted]
