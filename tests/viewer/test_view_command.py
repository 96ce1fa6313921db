"""`eucentric view` from the command line."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from eucentric.cli import main
from eucentric.errors import InputError
from eucentric.viewer import neuroglancer_client
from eucentric.viewer.index_page import state_words
from eucentric.viewer.serve import make_viewer


@pytest.mark.slow
def test_the_program_serves_until_it_is_interrupted_and_writes_nothing(project):
    before = sorted(project.rglob("*"))
    command = [sys.executable, "-m", "eucentric", "view", str(project), "--no-browser", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as running:
        try:
            lines = [running.stdout.readline() for _ in range(3)]
            told = json.loads(lines[2])
            assert lines[0] == f"Open {told['entrance']}\n"
            assert f"ssh -L {told['port']}:127.0.0.1:{told['port']}" in lines[1]
            assert told["address"] == f"http://127.0.0.1:{told['port']}/"
            with urllib.request.urlopen(told["entrance"], timeout=30) as answer:
                assert answer.status == 200
        finally:
            running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0
    assert sorted(project.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "`nowhere` does not exist"),
        (["PROJECT", "--host", "0.0.0.0"], "--allow-remote"),
        (["PROJECT", "--host", "0.0.0.0", "--allow-remote"], "every address"),
        (["PROJECT", "--port", "TAKEN"], "cannot be used"),
        (["PROJECT", "--port", "99999"], "expected 0 (a free one) to 65535"),
    ],
)
def test_wrong_wishes_are_told_in_words(project, capsys, arguments, words):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        known = {"PROJECT": str(project), "TAKEN": str(taken.getsockname()[1])}
        assert main.run(["view", *(known.get(a, a) for a in arguments), "--no-browser"]) == 2
    assert words in capsys.readouterr().err


def test_without_neuroglancer_the_extra_is_named(project, serve, monkeypatch):
    monkeypatch.setattr(neuroglancer_client, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"eucentric\[viz\]"):
        neuroglancer_client.require_neuroglancer()
    with serve(project) as viewer:
        for path in ("tomogram/TS_01", "v/view/"):
            request = urllib.request.Request(viewer.address + path)
            request.add_header("Cookie", f"{viewer.site.cookie}={viewer.site.guard.token}")
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    text = answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    text = error.read().decode()
            assert "eucentric[viz]" in text
            assert "<iframe" not in text


def test_pages_of_a_series_lead_to_each_other(project, serve):
    pages = ("/tomogram/", "/slices/", "/tilts/", "/repair/tracks/", "/repair/draw/")
    with serve(project) as viewer:
        for page in pages:
            request = urllib.request.Request(viewer.address.rstrip("/") + page + "TS_01")
            request.add_header("Cookie", f"{viewer.site.cookie}={viewer.site.guard.token}")
            with urllib.request.urlopen(request, timeout=30) as answer:
                found = answer.read().decode().partition('<nav aria-label="Series"')[2].partition("</nav>")[0]
            assert re.findall('href="([^"]*)TS_01"', found) == [one for one in pages if one != page]
            assert re.findall('href="([^"]*)TS_02"', found) == [page]


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ({"motion": "done", "align": "done", "ctf": "waiting"}, "align done"),
        ({"motion": "done", "align": "outdated"}, "align done, outdated"),
        ({"motion": "done", "align": "failed", "ctf": "waiting"}, "failed in align"),
        ({"motion": "left out", "align": "left out"}, "left out"),
        ({"motion": "waiting"}, "to do"),
    ],
)
def test_the_first_page_says_how_far_a_series_came(states, words):
    assert state_words(states) == words


def test_a_viewer_of_two_projects_keeps_their_cookies_apart(project):
    first, second = make_viewer(project), make_viewer(project)
    assert first.site.cookie != second.site.cookie
    assert first.site.guard.token != second.site.guard.token
    for one in (first, second):
        one.site.close()
        for bound in one.sockets:
            bound.close()
