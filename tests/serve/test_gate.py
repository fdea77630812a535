"""Keys, rates, Host, origin, headers, envelopes and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.serve.fakes import encoded

from faceum.errors import FaceumError
from faceum.serve.keys import Bucket, KeyRing, new_key, read_keys
from faceum.serve.settings import Settings, check_settings, is_known_host


def ring(*lines: str) -> KeyRing:
    """The keys of some lines."""
    return KeyRing(read_keys(None, "\n".join(lines)))


def test_keys_open_the_api_and_nothing_else_does(serve: Callable[..., None]) -> None:
    key, line = new_key("lab")
    other, _ = new_key("lab")
    assert key not in line

    async def test(client: httpx.AsyncClient) -> None:
        async def status(path: str, headers: dict[str, str]) -> int:
            return (await client.get(path, headers=headers)).status_code

        for path in ("/v1/models", "/metrics"):
            assert await status(path, {"authorization": f"Bearer {key}"}) == 200
            assert await status(path, {"x-api-key": key}) == 200
            for wrong in (
                {},
                {"x-api-key": other},
                {"x-api-key": key[:-1]},
                {"authorization": f"Basic {key}"},
            ):
                answer = await client.get(path, headers=wrong)
                assert answer.status_code == 401 and answer.json()["error"]["code"] == "unauthorized"
                assert answer.headers["www-authenticate"] == "Bearer"
        for path in ("/", "/health", "/ready", "/openapi.json"):
            assert await status(path, {}) == 200

    serve(test, keys=ring(line))


def test_each_key_has_its_own_rate(serve: Callable[..., None]) -> None:
    slow, slow_line = new_key("slow")
    quick, quick_line = new_key("quick")

    async def test(client: httpx.AsyncClient) -> None:
        answers = [await client.get("/v1/models", headers={"x-api-key": slow}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429]
        assert int(answers[1].headers["retry-after"]) >= 30
        assert (await client.get("/v1/models", headers={"x-api-key": quick})).status_code == 200

    serve(test, keys=ring(f"{slow_line} 1", quick_line))


def test_bucket_refills() -> None:
    now = [0.0]
    bucket = Bucket(60, clock=lambda: now[0])
    assert [bucket.take() for _ in range(10)] == [0.0] * 10
    assert bucket.take() == pytest.approx(1.0)
    now[0] = 2.0
    assert [bucket.take() for _ in range(2)] == [0.0, 0.0]
    assert bucket.take() > 0


def test_right_key_is_remembered_and_a_wrong_one_is_not() -> None:
    key, line = new_key("lab")
    keys = ring(line)
    assert not keys.is_remembered(key)
    assert keys.owner(key) == "lab" and keys.is_remembered(key)
    wrong = key + "x"
    assert keys.owner(wrong) is None and not keys.is_remembered(wrong)


@pytest.mark.parametrize("line", ["lab", "lab plain$x$y", "LAB scrypt$AAAA$AAAA", "lab scrypt$?$? 5"])
def test_wrong_key_lines_are_named_by_number(line: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# keys\n\n{line}\n", encoding="utf-8")
    with pytest.raises(FaceumError, match="Line 3"):
        read_keys(str(file))


def test_two_keys_of_one_name_are_refused() -> None:
    lines = "\n".join(new_key("lab")[1] for _ in range(2))
    with pytest.raises(FaceumError, match="two keys"):
        read_keys(None, lines)


def test_other_addresses_need_keys() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.4", "photos.example"):
        with pytest.raises(FaceumError, match="API key"):
            check_settings(Settings(host=host), has_keys=False)
        check_settings(Settings(host=host), has_keys=True)
        check_settings(Settings(host=host, allow_anonymous=True), has_keys=False)
    for host in ("127.0.0.1", "localhost", "::1"):
        check_settings(Settings(host=host), has_keys=False)


@pytest.mark.parametrize(
    ("host", "header", "known"),
    [
        ("127.0.0.1", "127.0.0.1:8000", True),
        ("127.0.0.1", "localhost:8000", True),
        ("127.0.0.1", "[::1]:8000", True),
        ("127.0.0.1", "evil.example:8000", False),
        ("127.0.0.1", "192.168.1.4", False),
        ("127.0.0.1", "", False),
        ("0.0.0.0", "192.168.1.4:8000", True),
        ("0.0.0.0", "photos.example", True),
        ("0.0.0.0", "evil.example", False),
    ],
)
def test_hosts(host: str, header: str, known: bool) -> None:
    allowed = () if host == "127.0.0.1" else ("photos.example",)
    assert is_known_host(header, Settings(host=host, allowed_hosts=allowed)) is known


def test_other_sites_cannot_use_the_server(serve: Callable[..., None]) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        for headers in (
            {"sec-fetch-site": "cross-site"},
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": "http://localhost:9999"},
        ):
            answer = await client.post("/v1/analyze", content=encoded(1), headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_site")
            assert "access-control-allow-origin" not in answer.headers
        own = {"origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}
        assert (await client.post("/v1/analyze", content=encoded(1), headers=own)).status_code == 200
        answer = await client.get("/health", headers={"host": "evil.example"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (421, "unknown_host")

    serve(test)


def test_every_answer_has_its_id_and_security_headers(serve: Callable[..., None]) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        for path in ("/", "/page/app.js", "/health", "/v1/models", "/nowhere"):
            answer = await client.get(path, headers={"x-request-id": "client-1"})
            assert answer.headers["x-request-id"] == "client-1"
            assert answer.headers["x-content-type-options"] == "nosniff"
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy
        made = [
            (await client.get("/health", headers={"x-request-id": text})) for text in ("", "a b", "x" * 99)
        ]
        ids = {answer.headers["x-request-id"] for answer in made}
        assert len(ids) == 3 and all(len(one) == 16 for one in ids)

    serve(test)


def test_unknown_paths_and_methods_have_the_envelope(serve: Callable[..., None]) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        for answer, status, code in (
            (await client.get("/nowhere"), 404, "not_found"),
            (await client.get("/v1/analyze"), 405, "method_not_allowed"),
            (await client.get("/page/../app.py"), 404, "not_found"),
            (await client.get("/page/%2e%2e/app.py"), 404, "not_found"),
        ):
            body = answer.json()
            assert (answer.status_code, body["error"]["code"]) == (status, code)
            assert status != 405 or answer.headers["allow"] == "POST"
            assert set(body) == {"error", "request_id"}
            assert set(body["error"]) == {"code", "message", "details"}

    serve(test)


def test_metrics_count_by_template(serve: Callable[..., None]) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        await client.post("/v1/analyze", content=encoded(3))
        await client.post("/v1/analyze", content=b"hello")
        await client.get("/v1/people/Somebody")
        text = (await client.get("/metrics")).text
        assert 'faceum_requests_total{path="/v1/analyze",status="200"} 1.0' in text
        assert 'faceum_requests_total{path="/v1/analyze",status="415"} 1.0' in text
        assert 'path="/v1/people/{name}"' in text and "Somebody" not in text
        assert "faceum_faces_total 3.0" in text and "faceum_batch_images_count 1.0" in text

    serve(test)


def test_slow_hash_is_slow() -> None:
    key, line = new_key("lab")
    keys = ring(line)
    started = time.process_time()
    assert keys.owner(key) == "lab"
    first = time.process_time() - started
    started = time.process_time()
    assert keys.owner(key) == "lab"
    assert time.process_time() - started < first
