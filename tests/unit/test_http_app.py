"""What all routes have in common, the list of files, health, metrics, and the description of it all."""

import re
from collections.abc import Iterator
from datetime import datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from pipeline import metrics
from pipeline.errors import Refused
from pipeline.store import Head, MemoryStore
from tests.files import Files
from tests.http_client import Client, reader, settings


def test_an_unknown_route_is_a_problem(client: Client) -> None:
    answer = client.get("/nothing/here")
    assert answer.status_code == 404
    assert answer.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "there is nothing at /nothing/here: see /docs for the routes there are",
        "instance": "/nothing/here",
    }


def test_a_method_that_a_route_does_not_know_is_a_problem_that_names_those_it_does(client: Client) -> None:
    answer = client.request("DELETE", "/health/live")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert answer.json()["status"] == 405


def test_the_methods_of_a_path_are_named_though_several_routes_have_them(client: Client) -> None:
    assert client.request("PATCH", "/results/orders.csv").headers["allow"] == "DELETE, GET, HEAD"
    assert client.request("POST", "/uploads/orders.csv").headers["allow"] == "PUT"


@pytest.mark.parametrize("route", ["/", "/docs"])
def test_pages_have_heads(client: Client, route: str) -> None:
    answer = client.head(route)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert client.request("DELETE", route).headers["allow"] == "GET, HEAD"


def test_a_fault_is_logged_and_answered_without_its_insides(files: Files) -> None:
    class Broken(MemoryStore):
        def get(self, key: str) -> tuple[bytes, Head]:
            raise RuntimeError("password=secret")

    with capture_logs() as logged, reader(Files(files.uploads, Broken())) as client:
        answer = client.get("/results/orders.csv")
    assert [(line["event"], line["path"]) for line in logged] == [("fault", "/results/orders.csv")]
    assert answer.status_code == 500
    assert "RuntimeError" in answer.json()["detail"]
    assert "secret" not in answer.text


def test_s3_refusing_is_a_bad_gateway(files: Files) -> None:
    class Refusing(MemoryStore):
        def get(self, key: str) -> tuple[bytes, Head]:
            raise Refused("S3 at http://x refuses results/… (AccessDenied): check s3.access_key")

    with reader(Files(files.uploads, Refusing())) as client:
        answer = client.get("/results/orders.csv")
    assert answer.status_code == 502
    assert "s3.access_key" in answer.json()["detail"]


READ = [
    "/",
    "/results",
    "/results/orders.csv",
    "/rejects/orders.csv",
    "/receipts/orders.csv",
    "/jobs/orders.csv",
    "/metrics",
]


@pytest.mark.parametrize("route", READ)
def test_a_read_token_guards_what_tells_of_files(files: Files, route: str) -> None:
    files.published()
    with reader(files, settings(token="writer", read_token="visitor")) as client:
        for wrong in ("", "Bearer wrong", "Basic visitor", "Bearer", "Bearer visitör"):
            answer = client.get(route, headers={"Authorization": wrong.encode()} if wrong else {})
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith('Bearer realm="millstream"')
        for right in ("Bearer visitor", "bearer visitor", "Bearer writer"):
            assert client.get(route, headers={"Authorization": right}).status_code == 200


@pytest.mark.parametrize("route", READ)
def test_without_a_read_token_everybody_reads(files: Files, route: str) -> None:
    files.published()
    with reader(files, settings(token="writer")) as client:
        assert client.get(route).status_code == 200


@pytest.mark.parametrize("route", ["/health/live", "/health/ready", "/docs", "/openapi.json"])
def test_health_and_documentation_need_no_token(files: Files, route: str) -> None:
    with reader(files, settings(token="writer", read_token="visitor")) as client:
        assert client.get(route).status_code == 200


def test_the_readers_token_does_not_write(files: Files) -> None:
    with reader(files, settings(token="writer", read_token="visitor")) as client:
        headers = {"Authorization": "Bearer visitor"}
        assert client.put("/uploads/orders.csv", content=b"a\n", headers=headers).status_code == 401


def test_the_list_has_files_in_every_state_and_no_deleted_ones(files: Files, client: Client) -> None:
    files.published("a.csv")
    files.upload("b.csv.gz")
    files.upload("c/d.csv")
    files.end(files.take_on("c/d.csv", "c/d.csv"), "failed")
    files.published("e.csv")
    files.delete("e.csv", generation=2)
    files.uploads.put("_millstream/not-a-name", b"")
    found = client.get("/results").json()
    assert [(item["name"], item["state"]) for item in found["items"]] == [
        ("a.csv", "published"),
        ("b.csv", "uploaded"),
        ("c/d.csv", "failed"),
    ]
    assert found["next"] is None
    first = found["items"][0]
    assert first["result"]["rows"] == 1
    assert first["result"]["rejected"] == 0
    assert first["result"]["bytes"] == 25
    assert first["result"]["result_url"] == "/results/a.csv"
    assert first["ended"] == first["result"]["published"] == "2026-03-04T05:06:07.890000Z"


def test_the_list_is_paged_by_name(files: Files, client: Client) -> None:
    names = [f"a/{number}.csv" for number in range(7)]
    for name in names:
        files.published(name)
    files.published("b.csv")
    seen: list[str] = []
    route: str | None = "/results?prefix=a/&limit=3"
    pages = 0
    while route:
        answer = client.get(route)
        seen += [item["name"] for item in answer.json()["items"]]
        route = answer.json()["next"]
        link = answer.headers.get("link")
        assert link == (f'<{route}>; rel="next"' if route else None)
        pages += 1
    assert (seen, pages) == (names, 3)


def test_a_prefix_is_of_the_name(files: Files, client: Client) -> None:
    files.published("orders.csv")
    assert len(client.get("/results?prefix=orders.csv").json()["items"]) == 1
    assert client.get("/results?prefix=orders.csv.json").json()["items"] == []


@pytest.mark.parametrize("limit", ["0", "1001", "many"])
def test_a_limit_out_of_range_is_refused(client: Client, limit: str) -> None:
    assert client.get(f"/results?limit={limit}").status_code == 422


def test_the_job_of_a_published_file_has_its_figures(files: Files, client: Client) -> None:
    files.upload()
    job = files.take_on()
    files.capture(job, 1)
    receipt = files.publish(job)
    found = client.get("/jobs/orders.csv").json()
    assert (found["rows_malformed"], datetime.fromisoformat(found["taken_on"])) == (1, job.created)
    assert found["state"] == "published"
    assert found["summary"] == "published: 1 row in, 1 out, 0 rejected"
    assert (found["rows_captured"], found["rows_total"]) == (1, 1)
    assert (found["generation"], found["file_id"], found["calculation"]) == (1, receipt.file_id, "orders")
    assert found["source"]["key"] == "orders.csv"


def test_it_lives_without_s3_and_is_not_ready_without_it(files: Files) -> None:
    class Missing(MemoryStore):
        def list(self, prefix: str = "", *, delimiter: str = "") -> Iterator[Head]:
            raise Refused("S3 at http://x has no bucket 'results'")

    with reader(Files(files.uploads, Missing())) as client:
        assert client.get("/health/live").json() == {"status": "live"}
        answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["S3 at http://x has no bucket 'results'"]


def test_it_is_ready_when_s3_answers_and_not_while_it_ends(client: Client) -> None:
    assert client.get("/health/ready").json() == {"status": "ready"}
    client.app.state.reader.stopping = lambda: True
    assert client.get("/health/ready").json()["reasons"] == ["the reader is about to end"]


def sample(client: Client, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for found in family.samples:
            if found.name == name and labels.items() <= found.labels.items():
                return found.value
    return 0.0


def test_answers_are_counted_by_route_and_never_by_name(files: Files, client: Client) -> None:
    files.published()
    labels = {"method": "GET", "route": "/results/{name:path}", "status": "200"}
    before = sample(client, "millstream_http_requests_total", **labels)
    sent = sample(client, "millstream_http_sent_bytes_total", route="/results/{name:path}")
    client.get("/results/orders.csv")
    assert sample(client, "millstream_http_requests_total", **labels) == before + 1
    assert sample(client, "millstream_http_sent_bytes_total", route="/results/{name:path}") == sent + 25
    client.get("/made/up")
    assert sample(client, "millstream_http_requests_total", route="none", status="404") >= 1
    text = client.get("/metrics").text
    assert "orders.csv" not in text
    assert "made/up" not in text


def test_every_metric_stands_in_the_table_and_nothing_else_does() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", metrics.__doc__ or "", re.MULTILINE))
    assert all(name.startswith("millstream_") for name in documented)
    exposed = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(metrics.exposition().decode())
        if family.name.startswith("millstream_")
    }
    assert documented == exposed


def test_the_page_lists_files_and_escapes_their_names(files: Files, client: Client) -> None:
    assert "No files yet" in client.get("/").text
    files.published("<script>.csv")
    page = client.get("/")
    assert "&lt;script&gt;.csv" in page.text
    assert "<script>" not in page.text
    assert 'href="/results/%3Cscript%3E.csv"' in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_the_page_of_routes_has_every_route_and_loads_nothing(client: Client) -> None:
    page = client.get("/docs").text
    for route in client.get("/openapi.json").json()["paths"]:
        assert route in page
    assert "https://" not in page
    assert re.findall(r' src="(?!/static/)', page) == []


def test_every_operation_has_a_name_and_says_what_it_may_answer(client: Client) -> None:
    described = client.get("/openapi.json").json()
    names = []
    for route, methods in described["paths"].items():
        for operation in methods.values():
            names.append(operation["operationId"])
            assert operation["summary"], route
            assert "500" in operation["responses"], route
    assert len(set(names)) == len(names)
    assert set(described["paths"]) == {
        "/events",
        "/results",
        "/results/{name}",
        "/rejects/{name}",
        "/receipts/{name}",
        "/jobs/{name}",
        "/jobs/{name}/cancel",
        "/uploads/{name}",
        "/try",
        "/metrics",
        "/health/live",
        "/health/ready",
    }


def test_every_reference_in_the_description_leads_somewhere(client: Client) -> None:
    text = client.get("/openapi.json").text
    there = set(client.get("/openapi.json").json()["components"]["schemas"])
    wanted = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert wanted
    assert wanted <= there
