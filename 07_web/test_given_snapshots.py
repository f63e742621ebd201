"""A run's snapshots: served, published and put into a site, where they are wanted."""

import json
from pathlib import Path

import given_snapshots
import publish
import pytest
import serve
import static_site
from finished_runs import SECRET, finished_run, keep_snapshots
from served_models import Reciter, adapter_beside
from web_app import create_app

from shared.errors import UserError
from shared.model.packing import read_packed
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint
from shared.training.snapshots import list_snapshots

FILES = [f"snapshots/step-{step:07d}.tllm" for step in (1, 10, 100)]


@pytest.fixture(scope="module")
def run(tmp_path_factory, random_model, tokenizer) -> Path:
    run = finished_run(tmp_path_factory.mktemp("run"), random_model(), tokenizer, SECRET.encode())
    keep_snapshots(run, [random_model()] * 3, tokenizer)
    return run


def test_a_server_tells_of_them_and_gives_them(run, tokenizer):
    client = create_app(Reciter(" x"), tokenizer, weights=b"x", snapshots=run).test_client()
    address = client.get("/healthz").get_json()["in_browser"]["snapshots"]
    told = client.get(f"/{address}").get_json()
    first, _, last = told["snapshots"]
    assert [first["step"], last["step"], last["bytes"]] == [1, 100, 6400]
    assert first["bits_per_byte"] == 8 and last["bits_per_byte"] == pytest.approx(6.02, abs=0.01)
    assert told["curve"][0] == [1, 8.0] and told["curve"][-1][0] == 100
    given = client.get(f"/{last['weights']}")
    assert given.data == list_snapshots(run)[-1].read_bytes() and len(given.data) == last["size"]
    again = client.get(f"/{last['weights']}", headers={"If-None-Match": given.headers["ETag"]})
    assert again.status_code == 304


def test_a_long_log_keeps_nobody_waiting_who_does_not_ask_for_it(run, tokenizer, monkeypatch):
    asked = []
    tell = given_snapshots.told_to_the_page
    monkeypatch.setattr(
        given_snapshots, "told_to_the_page", lambda run: asked.append(run) or tell(run)
    )
    client = create_app(Reciter(" x"), tokenizer, weights=b"x", snapshots=run).test_client()
    assert client.get("/").status_code == 200 and not asked
    for _ in range(2):
        assert client.get("/snapshots.json").get_json()["curve"]
    assert len(asked) == 1


@pytest.mark.parametrize("name", ["..%2Fcard.md", "step-0000002.tllm", "", "step-0000001.tllm/"])
def test_a_server_gives_nothing_else_from_there(run, tokenizer, name):
    client = create_app(Reciter(" x"), tokenizer, weights=b"x", snapshots=run).test_client()
    assert client.get(f"/snapshots/{name}").status_code == 404


@pytest.mark.parametrize(("more", "given"), [([], True), (["--no-weights"], False)])
def test_the_command_line_gives_them_where_it_gives_weights(run, monkeypatch, more, given):
    apps = []
    monkeypatch.setattr(serve, "build_server", lambda app, *_: apps.append(app) or (None, {}))
    monkeypatch.setattr(serve, "serve_until_told", lambda *_: None)
    serve.main(["--checkpoint", str(run), "--device", "cpu", *more])
    client = apps[0].test_client()
    assert ("snapshots" in client.get("/healthz").get_json().get("in_browser", {})) == given
    for address in ("snapshots.json", FILES[0]):
        assert (client.get(f"/{address}").status_code == 200) == given


@pytest.mark.parametrize(("asked", "folder", "inside"), [(None, 1, 0), (True, 1, 1), (False, 0, 0)])
def test_a_site_has_them_in_its_folder_and_in_the_one_file_if_asked(
    run, tmp_path, asked, folder, inside
):
    site = tmp_path / "site"
    static_site.make_site(run, site, run.parent / "data", snapshots=asked)
    assert [(site / file).is_file() for file in (*FILES, "snapshots.json")] == [folder] * 4
    assert ('"snapshots": "snapshots.json"' in (site / "index.html").read_text()) == folder
    one = (site / "chat.html").read_text()
    assert ('"snapshots": "snapshots.json"' in one) == ('id="snapshots"' in one) == inside
    if folder:
        for each in json.loads((site / "snapshots.json").read_text())["snapshots"]:
            read_packed(site / each["weights"].partition("?")[0])


def test_an_adapter_has_no_past(run, tmp_path):
    adapter = adapter_beside(load_model(find_checkpoint(run))[0], tmp_path / "more.safetensors")
    static_site.make_site(run, tmp_path / "site", run.parent / "data", adapter=adapter)
    assert not (tmp_path / "site" / "snapshots").exists()
    with pytest.raises(UserError, match="snapshots are of the run without an adapter"):
        publish.publish(run, tmp_path / "out", run.parent / "data", adapter, True)


def test_published_snapshots_are_compared_with_the_text_like_all_else(
    tmp_path, random_model, tokenizer
):
    run = finished_run(tmp_path, random_model(), tokenizer, SECRET.encode())
    keep_snapshots(run, [random_model()] * 3, tokenizer)
    data = tmp_path / "data"
    assert not any("snapshots" in name for name in publish.publish(run, tmp_path / "no", data))
    assert set(FILES) <= set(publish.publish(run, tmp_path / "yes", data, None, True))
    assert all((tmp_path / "yes" / file).is_file() for file in FILES)
    with open(list_snapshots(run)[1], "ab") as file:
        file.write(SECRET.encode())
    with pytest.raises(UserError, match=r"step-0000010\.tllm holds 64 bytes of"):
        publish.publish(run, tmp_path / "out", data, None, True)
    assert not (tmp_path / "out").exists()
