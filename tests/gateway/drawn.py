"""Requests drawn from an OpenAPI document: what it allows, what it nearly allows, and noise."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote

TEXTS = ("", "What is 3 plus one?", "ž🙂\u202e", "\0\x07\r\n", "<s></s>", "{{ 7 * 7 }}", "../..", "'; --")
JSON = "application/json"
OTHER_TYPES = ("", "text/plain", "multipart/form-data; boundary=x", "application/json; charset=utf-16", "\x7f")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
KNOWN = {
    *("type", "title", "description", "default", "const", "enum", "anyOf", "$ref", "items", "minItems", "maxItems"),
    *("properties", "required", "additionalProperties", "minLength", "maxLength"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}
"""The words of JSON Schema that values are drawn by: another one would be a bound that is not kept."""


@dataclass(frozen=True)
class Case:
    """One request; `allowed`: the document allows it. `operation` is None where the document knows none such."""

    method: str
    path: str
    operation: dict[str, Any] | None
    allowed: bool = True
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


def cases(document: dict[str, Any], count: int, seed: int) -> Iterator[Case]:
    """That many requests, the same for the same seed; three in seven are allowed."""
    random = Random(seed)
    draw = Draw(random, document["components"]["schemas"])
    operations = [(m.upper(), path, op) for path, item in document["paths"].items() for m, op in item.items()]
    with_body = [entry for entry in operations if "requestBody" in entry[2]]
    for number in range(count):
        kind = number % 7
        method, path, operation = random.choice(operations if kind == 0 else with_body)
        for parameter in operation.get("parameters", ()):
            name = draw.value(parameter["schema"]) or "-"
            path = path.replace(f"{{{parameter['name']}}}", quote(name, safe=""))
        if kind == 6:
            yield _elsewhere(random, draw, method, path)
        elif "requestBody" not in operation:
            yield Case(method, path, operation)
        else:
            body = draw.value(operation["requestBody"]["content"][JSON]["schema"])
            yield _with_body(random, draw, Case(method, path, operation), body, kind)


def _with_body(random: Random, draw: Draw, case: Case, body: Any, kind: int) -> Case:
    """The case with its body as it is, with something wrong in it, or with noise in its stead."""
    content, headers = json.dumps(body).encode(), {"content-type": JSON}
    if kind == 3:
        content = json.dumps(draw.damaged(body), ensure_ascii=random.random() < 0.5).encode(errors="surrogatepass")
    elif kind == 4:
        content = _noise(random, content)
    elif kind == 5:
        content = random.choice((content, b"", content * 200))
        headers = {"content-type": random.choice(OTHER_TYPES), "accept": random.choice(("text/html", "*/*;q=2"))}
    return Case(case.method, case.path, case.operation, kind < 3, content, headers)


def _elsewhere(random: Random, draw: Draw, method: str, path: str) -> Case:
    """A path or a method that is not there, or of a route that is there with another's body."""
    method = random.choice([other for other in METHODS if other != method])
    path = random.choice((path, "/", f"{path}/", "/" + quote(draw.text(), safe="/"), "/v1/" * 90))
    return Case(method, path, None, False, random.choice((None, b"{}")), {"content-type": JSON})


def _noise(random: Random, content: bytes) -> bytes:
    where = random.randrange(len(content))
    made: tuple[Callable[[], bytes], ...] = (
        lambda: content[:where],
        lambda: content[:where] + random.randbytes(3) + content[where:],
        lambda: random.randbytes(random.randrange(200)),
        lambda: b'{"a":' * random.randrange(9000),
        lambda: content.decode().encode("utf-16"),
        lambda: json.dumps([json.loads(content)]).encode(),
        lambda: content + content,
        lambda: content[:-1] + content.replace(b"{", b",", 1),  # every key twice
    )
    return random.choice(made)()


class Draw:
    """Values by their JSON Schema; `schemas` are what it refers to."""

    def __init__(self, random: Random, schemas: dict[str, Any]) -> None:
        self.random, self.schemas = random, schemas

    def value(self, schema: dict[str, Any]) -> Any:
        """A value that the schema allows."""
        assert set(schema) <= KNOWN, set(schema) - KNOWN
        if "$ref" in schema:
            return self.value(self.schemas[schema["$ref"].rpartition("/")[2]])
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return copy.deepcopy(self.random.choice(schema["enum"]))
        if "anyOf" in schema:
            return self.value(self.random.choice(schema["anyOf"]))
        made: dict[Any, Callable[[dict[str, Any]], Any]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._integer,
            "number": self._number,
            "boolean": lambda _: self.random.random() < 0.5,
            "null": lambda _: None,
            None: lambda _: self.anything(),
        }
        return made[schema.get("type")](schema)

    def anything(self, depth: int = 3) -> Any:
        """Any JSON value."""
        random = self.random
        simple = [None, True, False, 0, -1, 2**64, 10**400, 0.5, 1e308, -0.0, self.text(), "x" * 3000]
        if depth == 0 or random.random() < 0.6:
            return random.choice(simple)
        if random.random() < 0.5:
            return [self.anything(depth - 1) for _ in range(random.randrange(4))]
        return {self.text(): self.anything(depth - 1) for _ in range(random.randrange(4))}

    def text(self) -> str:
        """Some text, now and then an odd one."""
        letters = "".join(self.random.choice("abc XYZ019_-/.%?#é☃🙂\t") for _ in range(self.random.randrange(12)))
        return self.random.choice((*TEXTS, letters, letters, letters))

    def damaged(self, value: Any) -> Any:
        """The value with one of its parts replaced, removed, or one too many."""
        random, whole = self.random, [value]
        holder, key = random.choice(list(_places(whole)))
        part, what = holder[key], random.randrange(4)
        if what == 0 and isinstance(holder, dict):
            del holder[key]
        elif what == 1 and isinstance(part, dict):
            part[self.text()] = self.anything()
        elif what == 2:
            holder[key] = random.choice(([part], {"text": part}, str(part), "\ud800", float("nan")))
        else:
            holder[key] = self.anything()
        return whole[0]

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        share, required = self.random.choice((0, 0, 0.2, 0.9)), schema.get("required", ())
        properties = schema["properties"].items()
        return {k: self.value(s) for k, s in properties if k in required or self.random.random() < share}

    def _array(self, schema: dict[str, Any]) -> list[Any]:
        least = schema.get("minItems", 0)
        most = min(schema.get("maxItems", least + 3), least + 3)
        return [self.value(schema["items"]) for _ in range(self.random.randint(least, most))]

    def _string(self, schema: dict[str, Any]) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength", 1 << 10)
        return (self.text() + "a" * least)[:most]

    def _integer(self, schema: dict[str, Any]) -> int | float:
        low = schema.get("minimum", -(2**70))
        high = schema.get("maximum", schema.get("exclusiveMaximum", 2**70) - 1)
        near = max(low, min(high, self.random.randrange(-5, 9)))
        found = self.random.choice((low, high, near, near, self.random.randint(low, high)))
        return float(found) if abs(found) < 100 and self.random.random() < 0.2 else found

    def _number(self, schema: dict[str, Any]) -> float:
        low = schema.get("minimum", schema.get("exclusiveMinimum", -1e300))
        high = schema.get("maximum", schema.get("exclusiveMaximum", 1e300))
        ends = [schema[end] for end in ("minimum", "maximum") if end in schema]
        inside = low + (high - low) * (1 - self.random.random() * 0.999)
        return self.random.choice((*ends, inside, low + (high - low) * 1e-9))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container within a value, with each of its keys."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])
