"""/api: conversations over HTTP, with strict bodies, and files that come back as they went."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from gemmary.serve.app import create_app
from gemmary.serve.history import History
from gemmary.serve.models import Models
from gemmary.serve.settings import Settings
from tests.serve.asked import KEY, OTHER

PNG = {"content-type": "image/png"}
NO_MODEL: Any = Models({"none": None})  # type: ignore[dict-item]  # none is asked


@pytest.fixture(scope="module")
def server() -> TestClient:
    return TestClient(create_app(NO_MODEL), base_url="http://localhost")


@pytest.fixture
def client(server: TestClient, tmp_path: Path) -> Iterator[TestClient]:
    history = History(tmp_path / "history.db")
    server.app.state.history = history  # type: ignore[attr-defined]
    yield server
    server.app.state.history = None  # type: ignore[attr-defined]
    history.close()


def png(size: tuple[int, int] = (3, 2)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, "PNG")
    return buffer.getvalue()


def begun(client: TestClient) -> str:
    """A conversation with a picture, and two answers."""
    id = client.post(
        "/api/conversations", json={"system": "Be brief.", "settings": {"temperature": 0.5}}
    ).json()["id"]
    picture = client.post(f"/api/conversations/{id}/pictures", content=png(), headers=PNG).json()["id"]
    shown = {"type": "picture", "id": picture, "name": "a.png", "width": 3, "height": 2}
    put(client, id, "ask1", None, "user", "What is this?", shown)
    put(client, id, "ans1", "ask1", "assistant", "Red.")
    put(client, id, "ans2", "ask1", "assistant", "A *red* picture.")
    return str(id)


def put(
    client: TestClient, id: str, message: str, parent: str | None, role: str, text: str, *more: Any
) -> None:
    body = {
        "parent": parent,
        "role": role,
        "content": [*more, {"type": "text", "text": text}],
        "meta": {"speed": 1.5},
    }
    answer = client.put(f"/api/conversations/{id}/messages/{message}", json=body)
    assert answer.status_code == 200, answer.text


def test_exported_and_imported_is_the_same(client: TestClient) -> None:
    id = begun(client)
    file = client.get(f"/api/conversations/{id}/export")
    assert "attachment" in file.headers["content-disposition"]
    made = client.post("/api/import", json=file.json())
    assert made.status_code == 201
    (new,) = made.json()["conversations"]
    assert new["id"] != id
    again = client.get(f"/api/conversations/{new['id']}/export")
    assert again.json() == file.json()
    picture = client.get(f"/api/conversations/{id}").json()["messages"][0]["content"][0]["id"]
    kept = client.get(f"/api/conversations/{new['id']}/pictures/{picture}")
    assert kept.content == png() and kept.headers["content-type"] == "image/png"


def test_markdown_has_the_branch_that_is_shown(client: TestClient) -> None:
    id = begun(client)
    text = client.get(f"/api/conversations/{id}/export?form=markdown").text
    assert text.startswith("# What is this?\n\n> Be brief.\n")
    assert "A *red* picture." in text and "Red." not in text and "*[picture: a.png]*" in text


def test_listed_searched_renamed_branched_deleted(client: TestClient) -> None:
    id = begun(client)
    assert [one["id"] for one in client.get("/api/conversations").json()["conversations"]] == [id]
    assert client.get("/api/search?q=red").json()["conversations"][0]["found"]["match"].lower() == "red"
    assert (
        client.patch(f"/api/conversations/{id}", json={"title": "Colours", "leaf": "ans1"}).json()["leaf"]
        == "ans1"
    )
    new = client.post(f"/api/conversations/{id}/branch", json={"message": "ans1"}).json()["id"]
    assert [m["id"] for m in client.get(f"/api/conversations/{new}").json()["messages"]] == ["ask1", "ans1"]
    assert client.delete(f"/api/conversations/{id}/messages/ask1").json()["leaf"] is None
    assert client.delete(f"/api/conversations/{id}").status_code == 204
    assert client.get(f"/api/conversations/{id}").status_code == 404
    assert [one["title"] for one in client.get("/api/conversations").json()["conversations"]] == ["Colours"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"role": "user", "content": []}, 400),
        ({"parent": None, "role": "system", "content": []}, 400),
        ({"parent": None, "role": "user", "content": "text"}, 400),
        ({"parent": None, "role": "user", "content": [{"type": "image", "path": "/etc/passwd"}]}, 400),
        (
            {
                "parent": None,
                "role": "user",
                "content": [{"type": "picture", "id": "../x", "width": 1, "height": 1}],
            },
            400,
        ),
        ({"parent": None, "role": "user", "content": [], "meta": {"deep": {"x": 1}}}, 400),
        ({"parent": "nobody", "role": "user", "content": []}, 404),
        ({"parent": None, "role": "user", "content": [], "more": 1}, 400),
    ],
)
def test_strict(client: TestClient, body: dict[str, Any], status: int) -> None:
    id = begun(client)
    answer = client.put(f"/api/conversations/{id}/messages/mine", json=body)
    assert answer.status_code == status and answer.json()["error"]["message"]


@pytest.mark.parametrize("data", [b"", b"<svg onload=alert(1)>", b"GIF89a", b"RIFF....AVI ", b"%PDF-1.4"])
def test_only_pictures_are_kept(client: TestClient, data: bytes) -> None:
    id = begun(client)
    answer = client.post(
        f"/api/conversations/{id}/pictures", content=data, headers={"content-type": "image/png"}
    )
    assert answer.status_code == 400 and "no PNG, JPEG or WebP" in answer.json()["error"]["message"]


@pytest.mark.parametrize("damage", ["parent", "leaf", "twice", "picture", "format"])
def test_a_wrong_file_leaves_nothing_behind(client: TestClient, damage: str) -> None:
    file = client.get(f"/api/conversations/{begun(client)}/export").json()
    before = client.get("/api/conversations").json()
    (conversation,) = file["conversations"]
    if damage == "parent":
        conversation["messages"][2]["parent"] = "nobody"
    elif damage == "leaf":
        conversation["leaf"] = "nobody"
    elif damage == "twice":
        conversation["messages"][2]["id"] = "ans1"
    elif damage == "picture":
        conversation["pictures"] = {"0" * 64: "data:image/svg+xml;base64,PHN2Zz4="}
    else:
        file["format"] = "something else"
    answer = client.post("/api/import", json=file)
    assert 400 <= answer.status_code < 500
    assert client.get("/api/conversations").json()["conversations"] == before["conversations"]


def test_a_server_without_history_says_so(server: TestClient) -> None:
    answer = server.get("/api/conversations")
    assert answer.status_code == 404 and "keeps no conversations" in answer.json()["error"]["message"]
    assert server.get("/api/about").json()["history"] is False


def test_a_name_in_any_language_is_a_file_name(client: TestClient) -> None:
    id = begun(client)
    client.patch(f"/api/conversations/{id}", json={"title": 'Où est\r\n"東京"? ../../x'})
    header = client.get(f"/api/conversations/{id}/export").headers["content-disposition"]
    assert header == "attachment; filename*=UTF-8''O%C3%B9-est-%E6%9D%B1%E4%BA%AC-x.json"


def test_conversations_of_another_key(tmp_path: Path) -> None:
    """404 for each id, as if it were not there; and nothing of it in lists, searches and files."""
    history = History(tmp_path / "history.db")
    app = create_app(NO_MODEL, Settings(api_key=(KEY, OTHER)), history)
    mine, yours = (
        TestClient(app, base_url="http://localhost", headers={"authorization": f"Bearer {key}"})
        for key in (KEY, OTHER)
    )
    id = begun(mine)
    whole = mine.get(f"/api/conversations/{id}").json()
    shown = next(part["id"] for part in whole["messages"][0]["content"] if part["type"] == "picture")
    place = f"/api/conversations/{id}"
    said = {"parent": None, "role": "user", "content": [], "meta": {}}
    attempts: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", place, {}),
        ("PATCH", place, {"json": {"title": "x"}}),
        ("DELETE", place, {}),
        ("PUT", f"{place}/messages/more", {"json": said}),
        ("PUT", f"{place}/messages/ask1", {"json": said}),
        ("DELETE", f"{place}/messages/ask1", {}),
        ("POST", f"{place}/branch", {"json": {"message": "ask1"}}),
        ("POST", f"{place}/pictures", {"content": png(), "headers": PNG}),
        ("GET", f"{place}/pictures/{shown}", {}),
        ("GET", f"{place}/export", {}),
    ]
    nowhere = yours.get("/api/conversations/nobody").json()
    for method, path, more in attempts:
        answer = yours.request(method, path, **more)
        assert (answer.status_code, answer.json()) == (404, nowhere), (method, path)
    assert yours.get("/api/conversations").json()["conversations"] == []
    assert yours.get("/api/search", params={"q": "Red"}).json()["conversations"] == []
    assert mine.get("/api/search", params={"q": "Red"}).json()["conversations"] != []
    assert mine.get(place).json() == whole
    history.close()
