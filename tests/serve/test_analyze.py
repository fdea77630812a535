"""`POST /v1/analyze`: three forms of body, the parameters, and the form of the answers."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from PIL import Image
from tests.serve.fakes import FakeAnalyzer, encoded, make_face

from faceum.client import result_from_dict
from faceum.results import result_schema


def test_all_three_bodies_give_the_same_answer(serve: Callable[..., None]) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        image = encoded(2)
        answers = [
            await client.post("/v1/analyze", files={"images": ("group.png", image)}),
            await client.post("/v1/analyze", content=image, headers={"content-type": "image/png"}),
            await client.post("/v1/analyze", json={"images": [base64.b64encode(image).decode()]}),
        ]
        results = [answer.json()["results"] for answer in answers]
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert results[0][0].pop("source") == "group.png"
        assert results[1][0].pop("source") is None and results[2][0].pop("source") is None
        assert results[0] == results[1] == results[2]

    serve(test)


def test_every_result_fits_the_schema_and_reads_back_equal(serve: Callable[..., None]) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/analyze", content=encoded(1))
        (result,) = answer.json()["results"]
        jsonschema.validate(result, result_schema())
        assert result_from_dict(result)[0] == make_face(0)

    serve(test)


def test_no_face_is_an_empty_list(serve: Callable[..., None]) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/analyze", content=encoded(0))
        assert answer.status_code == 200
        assert answer.json()["results"][0]["faces"] == []

    serve(test)


def test_broken_image_costs_only_its_own_result(serve: Callable[..., None]) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        files = [("images", ("good.png", encoded(1))), ("images", ("bad.png", encoded(1)[:45]))]
        answer = await client.post("/v1/analyze", files=files)
        good, bad = answer.json()["results"]
        assert answer.status_code == 200
        assert len(good["faces"]) == 1 and good["error"] is None
        assert bad["faces"] is None and "bad.png" in bad["error"]

    serve(test)


def test_parameters_reach_the_analyzer(serve: Callable[..., None], analyzer: FakeAnalyzer) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        query = "tasks=age,recognition&max_faces=2&min_score=0.25&min_face=48&parsing=none"
        answer = await client.post(f"/v1/analyze?{query}", content=encoded(3))
        faces = answer.json()["results"][0]["faces"]
        assert len(faces) == 2
        assert faces[0]["age"] and faces[0]["embedding"] and faces[0]["landmarks"] is None
        options = {"tasks": ("recognition", "age"), "min_score": 0.25, "max_faces": 2, "min_face": 48.0}
        assert analyzer.calls == [(1, options)]

    serve(test)


def test_parsing_comes_as_runs_as_a_file_or_not_at_all(serve: Callable[..., None]) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        expected = make_face(0).parsing
        found = {}
        for form in ("rle", "png", "none"):
            answer = await client.post(f"/v1/analyze?parsing={form}", content=encoded(1))
            found[form] = answer.json()["results"][0]["faces"][0]["parsing"]
        jsonschema.validate(answer.json()["results"][0], result_schema())
        file = base64.b64decode(found["png"]["png"])
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(file))), expected.class_map)
        assert found["none"] is None and set(found["rle"]) == {"rle", "matrix"}

    serve(test)


def test_drawing_is_a_png_file(serve: Callable[..., None]) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/analyze?return=png", content=encoded(1, (64, 64)))
        assert answer.headers["content-type"] == "image/png"
        assert Image.open(io.BytesIO(answer.content)).size[0] > 64
        two = [("images", encoded(1)), ("images", encoded(1))]
        assert (await client.post("/v1/analyze?return=png", files=two)).status_code == 422

    serve(test)


@pytest.mark.parametrize(
    "query",
    ["max_faces=0", "max_faces=x", "min_score=2", "min_score=nan", "tasks=ages", "parsing=no", "tasks="],
)
def test_wrong_parameters_are_named(serve: Callable[..., None], query: str) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.post(f"/v1/analyze?{query}", content=encoded(1))
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (422, "invalid_parameter")
        assert list(error["details"]["parameters"]) == [query.partition("=")[0]]

    serve(test)


BODIES: dict[str, tuple[dict[str, Any], int, str]] = {
    "text": ({"content": b"hello"}, 415, "not_an_image"),
    "wrong type": ({"content": b"x", "headers": {"content-type": "text/html"}}, 415, "not_an_image"),
    "nothing": ({"content": b""}, 400, "malformed_body"),
    "no json": ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "malformed_body"),
    "json list": ({"json": ["x"]}, 400, "malformed_body"),
    "no base64": ({"json": {"images": ["?"]}}, 400, "malformed_body"),
    "other field": ({"files": {"image": encoded(1)}}, 400, "malformed_body"),
    "no boundary": (
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "malformed_body",
    ),
    "cut multipart": (
        {
            "content": b'--b\r\ncontent-disposition: form-data; name="images"\r\n\r\nabc',
            "headers": {"content-type": "multipart/form-data; boundary=b"},
        },
        400,
        "malformed_body",
    ),
    "broken image": ({"content": encoded(1)[:45]}, 422, "broken_image"),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_cannot_be_used(serve: Callable[..., None], name: str) -> None:
    given, status, code = BODIES[name]

    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/analyze", **given)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert answer.json()["error"]["message"].endswith(".")

    serve(test)


def test_experts_of_each_face(serve: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")

    async def test(client: httpx.AsyncClient) -> None:
        assert len((await client.get("/v1/models")).json()["experts"]["colours"]) > 1
        answer = await client.post("/v1/experts?tasks=age,parsing&max_faces=2", content=encoded(3))
        faces = answer.json()["faces"]
        assert answer.status_code == 200 and len(faces) == 2
        for face in faces:
            assert set(face["crops"]) == {"age", "parsing"} and len(face["moe_blocks"]) > 0
            tokens = face["moe_blocks"][0]["age"]
            assert (
                len(tokens["experts"]) == len(tokens["weights"]) == len(face["crops"]["age"]["face_tokens"])
            )
        assert (await client.post("/v1/experts", content=encoded(0))).json()["faces"] == []
        two = [("images", encoded(1)), ("images", encoded(1))]
        assert (await client.post("/v1/experts", files=two)).status_code == 400

    serve(test)

    async def without(client: httpx.AsyncClient) -> None:
        assert (await client.get("/v1/models")).json()["experts"] is None
        answer = await client.post("/v1/experts", content=encoded(1))
        assert answer.status_code == 404 and "pip install" in answer.json()["error"]["message"]

    monkeypatch.setattr("faceum.serve.experts.torch_is_installed", lambda: False)
    serve(without)
