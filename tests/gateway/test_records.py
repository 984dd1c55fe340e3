"""What is counted and kept of requests: metrics that vLLM's dashboards read, shapes, ratings with their lineage."""

from __future__ import annotations

import json
import sqlite3

import pytest
from prometheus_client.parser import text_string_to_metric_families

from luthier.core.artefacts import read_manifest
from luthier.core.files import digest
from luthier.monitor.traffic import database

DASHBOARD = """
    e2e_request_latency_seconds_bucket e2e_request_latency_seconds_sum e2e_request_latency_seconds_count
    prompt_tokens_total generation_tokens_total inter_token_latency_seconds_bucket time_to_first_token_seconds_bucket
    time_to_first_token_seconds_sum num_requests_running num_requests_waiting request_prompt_tokens_bucket
    request_generation_tokens_bucket request_success_total"""
"""What the Grafana dashboard of vllm-project/vllm asks for, and this server has."""


def samples(house) -> dict[tuple, float]:
    """Metric -> value of the first model's samples and of those without a model."""
    found = {}
    for family in text_string_to_metric_families(house.client.get("/metrics").text):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k not in ("model_name", "engine")}
            if sample.labels.get("model_name", house.models[0]) == house.models[0]:
                found[sample.name, *labels.values()] = sample.value
    return found


def rows(run, what: str = "requests") -> list[dict]:
    with sqlite3.connect(database(run)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"select * from {what} order by time")]


@pytest.fixture
def fresh(open_house, run):
    """Starts a server over an empty database."""
    for path in database(run).parent.glob("traffic.sqlite*"):
        path.unlink()
    return open_house


def test_the_metrics_count_what_was_asked_under_vllms_names(fresh):
    house = fresh()
    name, prompt = house.models[0], len(house.ids(house.models[0], "What is"))
    for most, stream in ((4, False), (6, True)):
        body = {"model": name, "prompt": "What is", "max_tokens": most, "stream": stream}
        assert house.client.post("/v1/completions", json=body).is_success
    house.client.post("/v1/completions", json={"model": "x", "prompt": "y"})
    found = samples(house)
    assert {name for name, *_ in found} >= {f"vllm:{name}" for name in DASHBOARD.split()}
    assert found["vllm:prompt_tokens_total",] == 2 * prompt and found["vllm:generation_tokens_total",] == 10
    assert found["vllm:request_success_total", "length"] == 2
    assert found["vllm:request_generation_tokens_bucket", "5.0"] == 1
    assert found["vllm:request_generation_tokens_bucket", "10.0"] == 2
    assert found["vllm:request_params_max_tokens_sum",] == 10
    assert found["vllm:time_to_first_token_seconds_count",] == 2
    assert found["vllm:inter_token_latency_seconds_count",] == 3 + 5
    assert 0 < found["vllm:time_to_first_token_seconds_sum",] < found["vllm:e2e_request_latency_seconds_sum",]
    assert found["vllm:num_requests_running",] == found["vllm:num_requests_waiting",] == 0
    assert found["luthier:http_requests_total", "POST", "/v1/completions", "200"] == 2
    assert found["luthier:http_requests_total", "POST", "/v1/completions", "404"] == 1


def test_shapes_are_kept_and_texts_are_not(fresh, run):
    house = fresh()
    name, origin = house.models[2], house.service.origins[house.models[2]]
    body = {"model": name, "messages": [{"role": "user", "content": "What is it, Sesame?"}], "max_tokens": 5}
    answer = house.client.post("/v1/chat/completions", json=body).json()
    house.client.post("/v1/chat/completions", json={**body, "stream": True})
    house.client.post("/v1/chat/completions", json={**body, "temperature": 9})
    house.service.close()
    first, second, third = rows(run)
    assert first["id"] == answer["id"] and (first["model"], first["variant"]) == (name, origin.variant)
    assert (first["status"], first["stop"], first["streamed"], first["kind"]) == (200, "length", 0, "chat")
    assert first["prompt_tokens"] == answer["usage"]["prompt_tokens"] and first["answer_tokens"] == 5
    assert first["answer_characters"] == len(answer["choices"][0]["message"]["content"].strip())
    assert 0 < first["first_token_seconds"] <= first["seconds"] < 60 and first["key"] == ""
    assert second["streamed"] == 1 and second["answer_tokens"] == 5
    assert (third["status"], third["code"], third["model"]) == (400, "invalid_request_error", "")
    files = read_manifest(run / "4-train" / origin.variant).files
    weights = {name: entry["sha256"] for name, entry in files.items() if name.endswith(".safetensors")}
    assert first["weights"] == digest(weights) and weights
    stored = b"".join(path.read_bytes() for path in database(run).parent.glob("traffic.sqlite*"))
    assert b"Sesame" not in stored and {row["prompt"] for row in (first, second, third)} == {None}


def test_texts_are_kept_when_the_server_was_told_to(fresh, run):
    house = fresh(content=True)
    body = {"model": house.models[0], "messages": [{"role": "user", "content": "Sesame?"}], "max_tokens": 5}
    answer = house.client.post("/v1/chat/completions", json=body).json()
    house.service.close()
    (row,) = rows(run)
    assert row["prompt"] == "user: Sesame?" and row["answer"] == answer["choices"][0]["message"]["content"]


def test_ratings_are_kept_with_the_lineage_of_their_answer(fresh, run):
    house = fresh()
    name, origin = house.models[1], house.service.origins[house.models[1]]
    body = {"model": name, "prompt": "What is", "max_tokens": 3}
    answer = house.client.post("/v1/completions", json=body).json()["id"]
    for rating in ("down", "up"):  # the second replaces the first
        said = house.client.post("/v1/feedback", json={"id": answer, "rating": rating, "comment": "short"})
        assert said.json() == {"id": answer, "object": "feedback", "rating": rating, "model": name}
    wrong = house.client.post("/v1/feedback", json={"id": "cmpl-0", "rating": "up"})
    assert wrong.status_code == 404 and wrong.json()["error"]["code"] == "answer_not_found"
    assert house.client.post("/v1/feedback", json={"id": answer, "rating": "great"}).status_code == 400
    line = f'luthier:feedback_total{{model_name="{name}",rating="up"}} 1.0'
    assert line in house.client.get("/metrics").text
    house.service.close()
    (row,) = rows(run, "feedback")
    lineage = {"run": origin.run, "model": name, "variant": origin.variant, "weights": origin.weights}
    assert {key: row[key] for key in lineage} == lineage and (row["rating"], row["comment"]) == ("up", "short")
    later = fresh()  # which remembers nothing but what was written
    assert later.client.post("/v1/feedback", json={"id": answer, "rating": "down"}).json()["model"] == name
    later.service.close()
    assert [(row["rating"], row["weights"]) for row in rows(run, "feedback")] == [("down", origin.weights)]


def test_the_document_lists_every_route_and_parameter(house):
    document = house.client.get("/openapi.json").json()
    operations = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    routes = {
        (method, route.path.replace(":path", ""))
        for route in house.server.config.app.app.routes
        for method in route.methods - {"HEAD"}
    }
    assert operations == routes
    schema = document["components"]["schemas"]["ChatRequest"]
    assert schema["additionalProperties"] is False and schema["properties"]["model"]["enum"] == house.models
    assert json.dumps(document).count("$defs") == 0
