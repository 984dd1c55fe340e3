"""Every route is closed without a key, save those that are named as open; and keys are stored as hashes alone."""

from __future__ import annotations

import stat

import pytest

from luthier.core.errors import UserError
from luthier.gateway import keys
from luthier.gateway.guard import PUBLIC
from luthier.gateway.keys import KeyRing
from luthier.gateway.routes import ENDPOINTS


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("LUTHIER_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_no_route_opens_without_a_key(open_house):
    key = keys.create("anna")
    house = open_house(keys=KeyRing())
    routes = house.server.config.app.app.routes
    assert len(routes) == len(ENDPOINTS) >= 8
    opened = set()
    for route in routes:
        path = route.path.replace("{model:path}", house.models[0])
        for method in route.methods:
            for headers in ({}, bearer(key + "x"), bearer("lt-"), {"authorization": key}, {"api-key": key}):
                response = house.client.request(method, path, headers=headers)
                if response.status_code != 401:
                    opened.add(route.path)
                elif method != "HEAD":
                    assert response.json()["error"]["code"] == "invalid_api_key"
                    assert response.headers["www-authenticate"] == "Bearer"
            assert house.client.request(method, path, headers=bearer(key)).status_code != 401
    assert opened == PUBLIC == {"/health"}


@pytest.mark.parametrize("path", ["/", "/docs", "/v1", "/health/", "//health", "/health%2f", "/%68ealth/x"])
def test_a_path_that_does_not_exist_is_closed_too(open_house, path):
    keys.create("anna")
    assert open_house(keys=KeyRing()).client.get(path).status_code == 401


def test_a_revoked_key_is_refused_from_the_next_request_on(open_house):
    first, second = keys.create("anna"), keys.create("ben")
    house = open_house(keys=KeyRing())
    assert house.client.get("/v1/models", headers=bearer(first)).is_success
    keys.revoke("anna")
    assert house.client.get("/v1/models", headers=bearer(first)).status_code == 401
    assert house.client.get("/v1/models", headers=bearer(second)).is_success
    third = keys.create("clara")
    assert house.client.get("/v1/models", headers=bearer(third)).is_success


def test_without_keys_a_request_to_another_name_is_refused(house):
    """A web page that points its own name at this machine must not get in."""
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""):
        response = house.client.get("/v1/models", headers={"host": host})
        assert response.status_code == 403 and response.json()["error"]["code"] == "wrong_host", host
    for host in ("localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000"):
        assert house.client.get("/v1/models", headers={"host": host}).is_success


def test_a_key_is_long_shown_once_and_stored_as_its_hash(state):
    made = [keys.create(f"k{i}") for i in range(20)]
    assert len(set(made)) == 20 and all(len(key) == 46 and key.startswith("lt-") for key in made)
    stored = (state / "keys.json").read_text()
    assert not any(key in stored or key[7:] in stored for key in made)
    assert stat.S_IMODE((state / "keys.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert [KeyRing().name_of(key) for key in made] == [f"k{i}" for i in range(20)]


def test_names_are_checked_and_unique(state):
    keys.create("anna")
    for name in ("anna", "", "a b", "../x", "a" * 65):
        with pytest.raises(UserError):
            keys.create(name)
    with pytest.raises(UserError, match="did you mean 'anna'"):
        keys.revoke("ana")


@pytest.mark.parametrize(
    "body", ["", "[]", '{"keys": 3}', '{"keys": [{"name": "a"}]}', '{"keys": [{"name": 1, "sha256": 2}]}']
)
def test_a_damaged_list_of_keys_lets_nobody_in(state, body):
    state.mkdir()
    (state / "keys.json").write_text(body)
    with pytest.raises(UserError, match="no list of keys"):
        KeyRing().name_of("lt-anything")


def test_keys_lie_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv("LUTHIER_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert keys.key_file() == tmp_path / "luthier" / "keys.json"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keys.key_file() == tmp_path / ".local" / "state" / "luthier" / "keys.json"
