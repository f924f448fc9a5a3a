"""Cancel and delete over HTTP."""

import pytest

from tests.files import Files
from tests.http_client import Client, reader, settings


def test_a_job_is_cancelled_once_and_for_all(files: Files, client: Client) -> None:
    files.upload("2024/orders.csv")
    files.take_on("2024/orders.csv", "2024/orders.csv")
    for _ in range(2):
        answer = client.request("POST", "/jobs/2024/orders.csv/cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
        assert answer.json()["reason"] == "cancelled by HTTP"
    assert client.get("/results/2024/orders.csv").status_code == 409


def test_what_has_ended_cannot_be_cancelled(files: Files, client: Client) -> None:
    files.published()
    answer = client.request("POST", "/jobs/orders.csv/cancel")
    assert (answer.status_code, answer.json()["state"]) == (409, "published")
    assert client.get("/results/orders.csv").status_code == 200
    assert client.request("POST", "/jobs/nothing.csv/cancel").status_code == 404
    assert client.request("POST", "/jobs/..%2Fup/cancel").status_code == 404


def test_a_deleted_file_is_gone(files: Files, client: Client) -> None:
    files.published()
    answer = client.request("DELETE", "/results/orders.csv")
    assert (answer.status_code, answer.content) == (204, b"")
    assert client.get("/results/orders.csv").json()["state"] == "deleted"
    assert client.get("/results").json()["items"] == []
    assert list(files.uploads.list()) == []
    assert client.request("DELETE", "/results/nothing.csv").status_code == 404


def test_both_need_the_writers_token(files: Files) -> None:
    files.published()
    with reader(files, settings(token="writer", read_token="visitor")) as client:
        for method, path in (("DELETE", "/results/orders.csv"), ("POST", "/jobs/orders.csv/cancel")):
            for token in ("", "Bearer visitor"):
                answer = client.request(method, path, headers={"Authorization": token} if token else {})
                assert answer.status_code == 401
        headers = {"Authorization": "Bearer writer"}
        assert client.request("DELETE", "/results/orders.csv", headers=headers).status_code == 204


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 409),
        ({"Origin": "http://reader"}, 409),
        ({"Origin": "http://reader", "Sec-Fetch-Site": "same-origin"}, 409),
        ({"Origin": "https://else.where"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://reader:81"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://reader", "Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_a_page_of_another_origin_cannot_write(
    files: Files, client: Client, headers: dict[str, str], status: int
) -> None:
    """A browser sends a POST without a body for any page, unasked: 409 is the answer to a request that was let in."""
    files.published()
    answer = client.request("POST", "/jobs/orders.csv/cancel", headers=headers)
    assert answer.status_code == status
    removed = client.request("DELETE", "/results/orders.csv", headers=headers)
    assert removed.status_code == (403 if status == 403 else 204)


def test_pages_of_listed_origins_write_and_whoever_has_the_token(files: Files) -> None:
    """A token proves more than an origin does."""
    files.published()
    foreign = {"Origin": "https://else.where", "Sec-Fetch-Site": "cross-site"}
    with reader(files, settings(cors=("https://else.where",))) as client:
        assert client.request("POST", "/jobs/orders.csv/cancel", headers=foreign).status_code == 409
    with reader(files, settings(token="writer")) as client:
        assert client.request("POST", "/jobs/orders.csv/cancel", headers=foreign).status_code == 401
        known = foreign | {"Authorization": "Bearer writer"}
        assert client.request("POST", "/jobs/orders.csv/cancel", headers=known).status_code == 409
