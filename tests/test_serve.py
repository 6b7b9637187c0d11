"""The page of `fewer serve`: samples beside a baseline's, plans that are uploaded, and no answer to other sites."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from searches import Searches
from test_report import contents, make_folder

import fewer
from fewer.cli.main import run
from fewer.errors import InputError
from fewer.images import pixels
from fewer.models.schedules import Flow
from fewer.report.folder import read_folder
from fewer.serve import PageServer, Studio
from fewer.serve.studio import Request

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: apt-get install chromium")


def model() -> fewer.Model:
    """A denoiser of small images that knows where it is in the image, in closed form."""
    target = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    return fewer.Model.from_denoiser(lambda x, t, labels: target + 0.1 * torch.tanh(3 * x), Flow(), (1, 8, 8))


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer(Studio(model())) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def ask(server: PageServer, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    """Status and text of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET" if body is None else "POST", path, body, sent)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def upload(server: PageServer, body: bytes, **headers: str) -> tuple[int, str]:
    return ask(server, "/plans", body, **{"Content_Type": "application/json"} | headers)


def plan_file(folder: Path, nfe: int = 3) -> bytes:
    return fewer.standard("euler", model(), nfe, "uniform").save(folder / "plan.json").read_bytes()


def test_the_page_holds_every_plan_and_fetches_nothing_from_elsewhere(server: PageServer) -> None:
    status, text = ask(server, "/")
    assert status == 200
    assert text.count('<table class="plan">') == len(server.studio.offers) == text.count("data-calls=")
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)
    for file in re.findall(r'(?:src|href)="(/[^"]+)"', text):
        assert ask(server, file)[0] == 200, file


def test_plan_and_baseline_start_from_the_noise_of_the_seed(server: PageServer) -> None:
    found = server.studio.compare(Request(plan=2, seed=7, n=4))
    offer = server.studio.offers[2]
    shots = [shot.images for shot in server.studio._shots.values()]
    for images, plan in zip(shots, (offer.plan, offer.standard), strict=True):
        assert (images == pixels(model(), fewer.sample(model(), plan, n=4, seed=7))).all()
    assert found["plan"]["nfe"] == found["against"]["nfe"] == offer.plan.nfe
    assert found["rmse"] > 0


def test_a_plan_does_not_differ_from_itself(server: PageServer, tmp_path: Path) -> None:
    own = server.studio.offers[0].standard.save(tmp_path / "plan.json").read_bytes()
    number = json.loads(upload(server, own)[1])["plan"]
    studio = server.studio
    studio.offers[number] = type(studio.offers[0])(studio.offers[number].plan, studio.offers[0].standard, "uploaded")
    status, text = ask(server, f"/samples?plan={number}")
    assert (status, json.loads(text)["rmse"]) == (200, 0)


def test_an_uploaded_plan_is_on_the_page_and_plays(server: PageServer, tmp_path: Path) -> None:
    status, text = upload(server, plan_file(tmp_path))
    number = json.loads(text)["plan"]
    assert (status, number) == (200, server.studio.front)
    assert "(uploaded)" in ask(server, "/")[1]
    assert json.loads(ask(server, f"/samples?plan={number}&against=fine")[1])["plan"]["nfe"] == 3


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b"\x80\x04K\x01.", b'{"schema": 99}',
                                  b'{"schema": 4, "tensors": "../x"}',
                                  b'{"schema": 4, "tensors": "x.safetensors"}', b"[" * 100_000])  # fmt: skip
def test_what_is_no_plan_is_refused_as_plan_load_refuses_it(server: PageServer, body: bytes, tmp_path: Path) -> None:
    status, text = upload(server, body)
    (tmp_path / "uploaded.json").write_bytes(body)
    with pytest.raises(InputError) as refused:
        fewer.Plan.load(tmp_path / "uploaded.json")
    assert (status, text) == (400, str(refused.value).replace(f"{tmp_path}/", "") + "\n")
    assert text.count("\n") == 1
    assert len(server.studio.offers) == server.studio.front


@pytest.mark.parametrize("length", ["16777217", "99999999999999999999", "-1", "x", "1e3", "²"])
def test_an_upload_of_a_wrong_length_is_refused_before_it_is_read(server: PageServer, length: str) -> None:
    status, text = upload(server, b"{}", Content_Length=length.encode().decode("latin-1"))
    assert status in (411, 413)
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("path", "said"),
    [("plan=99", "plan is 99"), ("plan=x", "plan"), ("plan=-1", "plan"), ("seed=-1", "seed"), ("seed=1e99", "seed"), ("n=0", "n:"),
     ("n=1000000", "n:"), ("label=0", "no classes"), ("against=me", "against"), ("against=pipeline", "no scheduler"),
     ("what=1", "what"), ("plan=0&" * 30, "fields"), ("plan=nan", "plan")],
)  # fmt: skip
def test_a_wrong_request_is_one_line(server: PageServer, path: str, said: str) -> None:
    status, text = ask(server, f"/samples?{path}")
    assert status == 400
    assert said in text
    assert text.count("\n") == 1


@pytest.mark.parametrize("path", ["/../pyproject.toml", "/page.py", "/etc/passwd", "/report.html", "/samples/x"])
def test_no_other_file_is_served(server: PageServer, path: str) -> None:
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize(
    "name", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "[", "a@b"]
)
def test_a_name_that_was_pointed_at_this_machine_is_not_answered(server: PageServer, name: str, tmp_path: Path) -> None:
    for path in ("/", "/samples", "/page.js"):
        assert ask(server, path, Host=name)[0] == 403
    assert upload(server, plan_file(tmp_path), Host=name)[0] == 403


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"},
                                     {"Sec_Fetch_Site": "same-site"}, {"Origin": "http://127.0.0.1:1"}])  # fmt: skip
def test_pages_of_other_sites_neither_post_nor_read(
    server: PageServer, headers: dict[str, str], tmp_path: Path
) -> None:
    assert upload(server, plan_file(tmp_path), **headers)[0] == 403
    assert ask(server, "/samples", **headers)[0] == 403
    assert len(server.studio.offers) == server.studio.front


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_form_of_another_site_cannot_upload(server: PageServer, kind: str, tmp_path: Path) -> None:
    assert upload(server, plan_file(tmp_path), Content_Type=kind)[0] == 415


def test_a_plan_that_would_be_played_for_hours_is_refused(server: PageServer, tmp_path: Path) -> None:
    plan = json.loads(plan_file(tmp_path))
    level, rows = plan["rows"][0]["tau"], 1001
    plan["rows"] = [{"tau": level * (1 - k / rows), "b": {str(k): -level / rows}} for k in range(rows)]
    status, text = upload(server, json.dumps(plan).encode())
    assert status == 400
    assert "1001" in text


def tune_folder(folder: Path, **model: str) -> Path:
    results = contents((4, 5, 6))
    results["budget"]["guidance"] = None
    results["model"].update(model)
    return make_folder(folder / "run", results, samples=False)


def test_a_tune_folder_is_shown_with_its_front_its_baselines_and_its_tables(tmp_path: Path) -> None:
    folder = read_folder(tune_folder(tmp_path))
    studio = Studio(model(), folder)
    assert [offer.plan.nfe for offer in studio.offers] == [4, 5, 6]
    assert {offer.standard.name for offer in studio.offers} == {folder.results.verdict.against}
    assert [offer.standard.nfe for offer in studio.offers] == [4, 5, 6]
    with PageServer(studio) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,))
        thread.start()
        text = ask(found, "/")[1]
        found.shutdown()
        thread.join()
    assert all(row.name in text for row in folder.results.baselines)
    assert '<option value="1" selected' in text  # the plan to use, of 5 evaluations


@pytest.mark.parametrize("name", ["os:getcwd", "antigravity:fly", "somebody/something"])
def test_a_folder_from_elsewhere_runs_no_code_and_fetches_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model that results.json names is loaded only where it is a folder or a bundled one."""
    assert run(["serve", str(tune_folder(tmp_path, name=name))]) == 2
    said = capsys.readouterr().err
    assert "--model" in said
    assert said.count("\n") == 1


def test_requests_of_many_threads_get_the_samples_that_they_asked_for(server: PageServer) -> None:
    paths = [f"/samples?plan={plan}&seed={seed}&n=1" for plan in range(3) for seed in range(4)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda path: ask(server, path), paths))
    server.studio._shots.clear()
    for path, (status, text) in zip(paths, together, strict=True):
        alone = json.loads(ask(server, path)[1])
        assert status == 200
        assert json.loads(text)["plan"]["uri"] == alone["plan"]["uri"]
        assert json.loads(text)["rmse"] == alone["rmse"]


def test_a_network_that_raises_is_one_line_and_the_page_goes_on() -> None:
    def fails(x: torch.Tensor, t: torch.Tensor, labels: object) -> torch.Tensor:
        raise KeyError("a\nb")

    broken = fewer.Model.from_denoiser(fails, Flow(), (1, 8, 8))
    with PageServer(Studio(broken)) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,))
        thread.start()
        answers = [ask(found, "/samples"), ask(found, "/")]
        found.shutdown()
        thread.join()
    assert [status for status, _ in answers] == [500, 200]
    assert answers[0][1].count("\n") == 1


def test_only_this_machine_is_listened_to_unless_asked(server: PageServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("words", [["no-such-model"], ["mixture16", "--model", "digits"],
                                   ["mixture16", "--host", "no.such.host.invalid"],
                                   ["mixture16", "--port", "70000"]])  # fmt: skip
def test_bad_input_is_one_line_and_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_taken_port_is_said(server: PageServer) -> None:
    with pytest.raises(InputError, match="--port 0"):
        PageServer(server.studio, port=server.server_port)


def answers(port: int) -> bool:
    """Whether a server at this port of this machine answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/page.js")
        return connection.getresponse().status == 200
    except ConnectionRefusedError:
        return False
    finally:
        connection.close()


def test_ctrl_c_ends_it_with_status_0(searches: Searches, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pid, limit = searches.start(tmp_path, f"serve mixture16 --port {port}"), time.monotonic() + 120
    while not answers(port) and time.monotonic() < limit:
        time.sleep(0.05)
    assert searches.end(pid, signal.SIGINT).status == 0


@needs_browser
@pytest.mark.slow
def test_a_browser_shows_samples_of_both_sides(server: PageServer, tmp_path: Path) -> None:
    """The page's own script asks for the samples of the plan and seed in the address, and puts them on the page."""
    fields = "plan=1&against=fine&seed=5&n=4"
    text = browsed(f"{server.url}?{fields}", tmp_path)
    shown = dict(re.findall(r'<figure[^>]* id="(\w+)"><img [^>]*src="(data:[^"]+)"', text))
    expected: dict[str, Any] = json.loads(ask(server, f"/samples?{fields}")[1])
    assert shown == {side: expected[side]["uri"] for side in ("plan", "against", "difference")}
    assert 'data-plan="1">' in text
    assert f"RMSE between the two: {expected['rmse']}" in text


@needs_browser
@pytest.mark.slow
def test_a_browser_says_what_is_wrong(server: PageServer, tmp_path: Path) -> None:
    assert "Input should be" in browsed(f"{server.url}?seed=-3", tmp_path)


def browsed(url: str, folder: Path) -> str:
    """The page as a browser has it once its script has run."""
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={folder}",
               "--virtual-time-budget=20000", "--dump-dom", url]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
