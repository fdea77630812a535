"""`/v1/people` and `POST /v1/compare`, and the description of the whole API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serve.fakes import FakeAnalyzer, encoded

from faceum.serve.problems import KINDS
from faceum.weights.thresholds import MatchRate, Thresholds

THRESHOLDS = Thresholds(
    set="made",
    people=10,
    same_pairs=100,
    different_pairs=1000,
    rates=tuple(
        MatchRate(fmr=fmr, cosine=cosine, tmr=0.9, tmr_low=0.8, tmr_high=0.95)
        for fmr, cosine in ((0.1, 0.2), (0.001, 0.5))
    ),
)


@pytest.fixture
def judging(analyzer: FakeAnalyzer, monkeypatch: pytest.MonkeyPatch) -> FakeAnalyzer:
    """The fake analyzer with thresholds."""
    monkeypatch.setattr(FakeAnalyzer, "thresholds", lambda _: THRESHOLDS)
    return analyzer


def test_gallery_goes_round(serve: Callable[..., None], judging: FakeAnalyzer, tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        async def people() -> list[str]:
            return [one["name"] for one in (await client.get("/v1/people")).json()["people"]]

        assert await people() == []
        files = [("images", ("a.png", encoded(1))), ("images", ("none.png", encoded(0)))]
        enrolled = (await client.post("/v1/people/Ada Lovelace/samples", files=files)).json()["images"]
        assert [one["added"] for one in enrolled] == [True, False]
        assert [one["source"] for one in enrolled] == ["a.png", "none.png"] and enrolled[1]["problem"]
        assert await people() == ["Ada Lovelace"]
        (face,) = (await client.post("/v1/search", content=encoded(1))).json()["faces"]
        assert face["name"] == "Ada Lovelace" and face["candidates"][0]["same"] and len(face["box"]) == 4
        assert (await client.post("/v1/search", content=encoded(0))).json()["faces"] == []
        samples = (await client.get("/v1/people/Ada Lovelace")).json()["samples"]
        assert len(samples) == 1 and "vector" not in samples[0]
        assert (await client.patch("/v1/people/Ada Lovelace?new=Ada")).status_code == 200
        await client.post("/v1/people/Bob/samples", content=encoded(1))
        taken = await client.patch("/v1/people/Bob?new=Ada")
        assert (taken.status_code, taken.json()["error"]["code"]) == (409, "conflict")
        assert (await client.delete("/v1/people/Ada")).json()["removed"] == 1
        gone = await client.delete("/v1/people/Ada")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")
        assert await people() == ["Bob"]

    serve(test, gallery=str(tmp_path / "people.sqlite"))


def test_enrollments_at_once_all_count(
    serve: Callable[..., None], judging: FakeAnalyzer, tmp_path: Path
) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        posts = [client.post(f"/v1/people/person {n}/samples", content=encoded(1)) for n in range(6)]
        assert {answer.status_code for answer in await asyncio.gather(*posts)} == {200}
        assert len((await client.get("/v1/people")).json()["people"]) == 6

    serve(test, gallery=str(tmp_path / "people.sqlite"))


def test_server_without_a_gallery_says_so(serve: Callable[..., None]) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.get("/v1/people")
        assert answer.status_code == 404 and "--gallery" in answer.json()["error"]["message"]

    serve(test)


def test_verdicts_on_every_pair(serve: Callable[..., None], judging: FakeAnalyzer) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        def both(one: int, other: int) -> Any:
            return [("images", ("a.png", encoded(one))), ("images", ("b.png", encoded(other)))]

        body = (await client.post("/v1/compare?fmr=0.001", files=both(1, 2))).json()
        assert (body["a"], body["b"]) == ("a.png", "b.png")
        assert [(pair["face_a"], pair["face_b"], pair["same"]) for pair in body["pairs"]] == [
            (0, 0, True),
            (0, 1, False),
        ]
        assert body["pairs"][0]["cosine"] == pytest.approx(1) and body["pairs"][0]["threshold"] == 0.5
        answer = await client.post("/v1/compare", files=both(1, 0))
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "no_face")
        answer = await client.post("/v1/compare", content=encoded(1))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed_body")
        answer = await client.post("/v1/compare?masked=true", files=both(1, 1))
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_parameter")

    serve(test)


def test_without_thresholds_there_are_no_verdicts(serve: Callable[..., None]) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        files = [("images", encoded(1)), ("images", encoded(1))]
        answer = await client.post("/v1/compare", files=files)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_parameter")

    serve(test)


def references(document: Any) -> set[str]:
    """Every $ref in a document."""
    if isinstance(document, dict):
        own = {document["$ref"]} if isinstance(document.get("$ref"), str) else set()
        return own.union(*(references(value) for value in document.values()))
    return set().union(*(references(value) for value in document)) if isinstance(document, list) else set()


def test_description_is_complete(serve: Callable[..., None]) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        document = (await client.get("/openapi.json")).json()
        schemas = document["components"]["schemas"]
        names = {ref.removeprefix("#/components/schemas/") for ref in references(document)}
        assert names <= set(schemas)
        assert {"/v1/analyze", "/v1/compare", "/v1/people", "/v1/models", "/health"} <= set(document["paths"])
        statuses = {str(kind.status) for kind in KINDS.values()}
        for path, operations in document["paths"].items():
            for operation in operations.values():
                assert operation["summary"]
                if path.startswith("/v1/"):
                    assert {"200", "401", "422", "429", "503"} <= set(operation["responses"])
                    assert set(operation["responses"]) <= statuses | {"200"}

    serve(test)
