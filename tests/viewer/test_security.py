"""Attacks on the viewer: strangers, other sites, paths, links and names that are code. All by plain requests."""

import http.client
import json
import re
import socket

import numpy as np
import pytest
from small_project import VOXEL_ANGSTROM, blob_volume, make_picks, make_project

from eucentric.errors import InputError
from eucentric.io.mrc import write_mrc
from eucentric.io.particles import write_particles
from eucentric.viewer.handlers import BaseHandler
from eucentric.viewer.routes import ROUTES
from eucentric.viewer.security import Guard, check_host, inside, inside_path

SECRET = "a file that lies outside"
ADDRESSES = (
    "/",
    "/static/style.css",
    "/v/view/",
    "/tomogram/TS_01",
    "/api/tomograms/TS_01/scene",
    "/volumes/TS_01/tomogram/zarr.json",
    "/volumes/TS_01/tomogram/0/c/0/0/0",
    "/annotations/TS_01/pick-both/points/info",
    "/pictures/series/TS_01.png",
    "/events/view",
    "/nowhere",
)


@pytest.fixture(scope="module")
def served(tmp_path_factory, serve):
    folder = tmp_path_factory.mktemp("attacked")
    (folder / "secret.mrc").write_text(SECRET)
    with serve(make_project(folder / "project", ("TS_01",))) as viewer:
        yield viewer


def ask(viewer, path, method="GET", body=None, cookie=True, **headers):
    """Status, headers and body of a request; a header given as None is left out."""
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=20)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, path, skip_host="Host" in sent, skip_accept_encoding=True)
        if cookie:
            connection.putheader("Cookie", f"{viewer.site.cookie}={viewer.site.guard.token}")
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), b"" if path == "/events/view" else answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", ADDRESSES)
def test_nothing_is_told_without_the_token(served, path):
    for refused in (
        ask(served, path, cookie=False),
        ask(served, path, cookie=False, Cookie=f"{served.site.cookie}=wrong"),
        ask(served, path, cookie=False, Cookie=f"{served.site.cookie}="),
        ask(served, path, cookie=False, Authorization=f"token {served.site.guard.token}"),
    ):
        assert refused[0] == 403
        assert b"TS_01" not in refused[2]
        assert served.site.guard.token.encode() not in refused[2]


@pytest.mark.parametrize("path", ADDRESSES[:-1])
def test_whoever_has_the_token_is_answered(served, path):
    assert ask(served, path)[0] == 200


GROUP = re.compile(r"\((?!\?)((?:[^()\\]|\\.)*)\)")


def an_address(pattern):
    """One that a route answers to."""

    def fill(group):
        words = ("TS_01", "1", *group[1].replace("\\d+", "1").replace("\\", "").split("|"))
        return next(word for word in words if re.fullmatch(group[1], word))

    path = GROUP.sub(fill, pattern).replace("\\.", ".")
    assert re.fullmatch(pattern, path), pattern
    return path


def test_every_route_has_the_rules_of_the_base_handler():
    own = {"BaseHandler", "EnterHandler", "EventsHandler"}  # tested above
    for pattern, handler in ROUTES:
        assert issubclass(handler, BaseHandler), pattern
        assert {c.__name__ for c in handler.__mro__[:-2] if "prepare" in vars(c)} <= own, pattern


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in ROUTES])
def test_every_route_refuses_strangers_and_other_sites(served, pattern):
    path, origin = an_address(pattern), f"http://127.0.0.1:{served.port}"
    for method in ("GET", "POST", "PUT", "DELETE"):
        assert ask(served, path, method, cookie=False, Origin=origin)[0] == 403
        assert ask(served, path, method, Origin="http://evil.example")[0] == 403
        assert ask(served, path, method, Host="evil.example", Origin="http://evil.example")[0] == 403


def test_token_becomes_a_cookie_that_scripts_and_other_sites_do_not_have(served):
    status, headers, body = ask(served, f"/?token={served.site.guard.token}", cookie=False)
    cookie = headers["Set-Cookie"]
    assert status == 200
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert served.site.guard.token.encode() not in body
    for wrong in ("wrong", "", served.site.guard.token[:-1], "%00", "%ff"):
        refused = ask(served, f"/?token={wrong}", cookie=False)
        assert refused[0] in (400, 403)
        assert "Set-Cookie" not in refused[1]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost@evil.example", "", None]
)
def test_a_name_that_was_made_to_point_here_is_refused(served, host):
    status, _, body = ask(served, "/api/tomograms/TS_01/scene", Host=host)
    assert status in (400, 403)
    assert b"layers" not in body
    entered = ask(served, f"/?token={served.site.guard.token}", cookie=False, Host=host)
    assert entered[0] in (400, 403)
    assert "Set-Cookie" not in entered[1]


@pytest.mark.parametrize("host", ["localhost:9999", "127.0.0.1", "[::1]:80"])
def test_names_of_this_machine_are_good_at_any_port_since_tunnels_have_their_own(served, host):
    assert ask(served, "/", Host=host)[0] == 200


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"Origin": "http://evil.example"}),
        ("GET", {"Origin": "null"}),
        ("GET", {"Origin": "http://127.0.0.1:1"}),
        ("GET", {"Sec_Fetch_Site": "cross-site"}),
        ("GET", {"Sec_Fetch_Site": "same-site"}),
        ("POST", {}),
        ("POST", {"Origin": "http://evil.example"}),
        ("PUT", {"Origin": "null"}),
        ("DELETE", {}),
    ],
)
def test_pages_of_other_sites_get_nothing(served, method, headers):
    status, answered, body = ask(served, "/api/tomograms/TS_01/scene", method, **headers)
    assert status == 403
    assert b"layers" not in body
    assert not any(name.lower().startswith("access-control-") for name in answered)


def test_our_own_pages_may_send(served):
    origin = f"http://127.0.0.1:{served.port}"
    status, _, _ = ask(served, "/api/tomograms/TS_01/scene", "POST", b"{}", Origin=origin, Sec_Fetch_Site="same-origin")
    assert status == 405  # let in: this address just takes nothing


PATHS = (
    "/static/../../secret.mrc",
    "/static/..%2f..%2fsecret.mrc",
    "/static/%2e%2e/%2e%2e/secret.mrc",
    "/static/..%5c..%5csecret.mrc",
    "/static//etc/passwd",
    "/v/view/../../../../etc/passwd",
    "/v/view/..%2f..%2f..%2fetc%2fpasswd",
    "/volumes/TS_01/..%2f..%2f..%2fsecret.mrc/zarr.json",
    "/volumes/..%2f..%2f/secret/zarr.json",
    "/volumes/TS_01/%2fetc%2fpasswd/zarr.json",
    "/volumes/TS_01/tomogram%00/zarr.json",
    "/volumes/TS_01/..\\..\\secret.mrc/zarr.json",
    "/volumes/TS_01/tomogram/0/c/0/0/..%2f..%2f..%2fsecret.mrc",
    "/volumes/TS_01/tomogram/0/c/-1/0/0",
    "/volumes/TS_01/tomogram/0/c/9/0/0",
    "/volumes/TS_01/tomogram/7/zarr.json",
    "/annotations/TS_01/..%2f..%2fsecret/points/info",
    "/annotations/TS_01/pick-both/points/by_id/99999999999999999999",
    "/meshes/TS_01/file/..%2fsecret.mrc/info",
    "/meshes/TS_01/copies/pick-both/1:0",
    "/pictures/series/..%2f..%2fsecret.png",
    "/particle/TS_01/pick-both/0",
    "/particle/TS_01/pick-both/999999",
    "/particle/..%2f..%2fsecret/pick-both/1",
    "/pictures/particle/TS_01/pick-both/1/xy.png?volume=..%2f..%2fsecret.mrc",
    "/eucentric.toml",
    "/reconstruct/tomograms/TS_01.mrc",
    "http://evil.example/",
)


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out_of_what_is_shown(served, path):
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as line:
        line.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nConnection: close\r\n"
            f"Cookie: {served.site.cookie}={served.site.guard.token}\r\n\r\n".encode()
        )
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    assert int(answer.split()[1]) in (400, 403, 404)
    assert SECRET.encode() not in answer
    assert b"root:" not in answer
    assert b"Traceback" not in answer


@pytest.mark.parametrize("part", ["..", ".", "", "a/b", "a\\b", "a\0", "/etc/passwd", ".hidden", "nothing-there"])
def test_a_part_of_a_path_is_one_plain_name(tmp_path, part):
    (tmp_path / ".hidden").touch()
    with pytest.raises(InputError, match="no such file"):
        inside(tmp_path.resolve(), part)


def test_links_out_of_the_project_are_not_followed(tmp_path, serve):
    outside = tmp_path / "outside"
    outside.mkdir()
    write_mrc(outside / "TS_01_far.mrc", blob_volume(), VOXEL_ANGSTROM)
    (outside / "picks").mkdir()
    write_particles(outside / "picks" / "particles.star", make_picks(("TS_01",)), "relion5")
    root = make_project(tmp_path / "project", ("TS_01",))
    tomograms = root / "reconstruct" / "tomograms"
    (tomograms / "TS_01_far.mrc").symlink_to(outside / "TS_01_far.mrc")
    (tomograms / "TS_01_near.mrc").symlink_to(tomograms / "TS_01.mrc")
    (root / "pick" / "far").symlink_to(outside / "picks")
    (root / "segment").mkdir()
    (root / "segment" / "labels").symlink_to(outside)
    with pytest.raises(InputError, match="outside of the project"):
        inside_path(root.resolve(), tomograms / "TS_01_far.mrc")
    with serve(root) as viewer:
        state = json.loads(ask(viewer, "/api/tomograms/TS_01/scene")[2])
        names = [layer["name"] for layer in state["layers"]]
        assert names == ["Tomogram", "pick/both: points", "pick/both: axes"]
        assert ask(viewer, "/volumes/TS_01/reconstruct-far/zarr.json")[0] == 400


def test_a_table_that_names_a_file_elsewhere_shows_nothing_of_it(tmp_path, serve):
    root = make_project(tmp_path / "project", ("TS_01",))
    write_mrc(tmp_path / "far.mrc", blob_volume(), VOXEL_ANGSTROM)
    for table in root.glob("*/tilt_series*"):
        for file in [table] if table.is_file() else table.glob("*.star"):
            text = file.read_text()
            text = text.replace("reconstruct/tomograms/TS_01.mrc", "../far.mrc")
            file.write_text(text.replace("align/images/TS_01.mrc", str(tmp_path / "far.mrc")))
    (root / "reconstruct" / "tomograms" / "TS_01.mrc").unlink()
    with serve(root) as viewer:
        layers = json.loads(ask(viewer, "/api/tomograms/TS_01/scene")[2])["layers"]
        assert not [layer for layer in layers if layer["type"] == "image"]
        status, _, body = ask(viewer, "/pictures/particle/TS_01/pick-both/1/tilt/0.png")
        assert status == 400
        assert b"outside of the project" in body


def test_answers_say_what_browsers_may_do_with_them(served):
    for path in ADDRESSES[:-2]:
        headers = ask(served, path)[1]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
        assert not any(name.lower().startswith("access-control-") for name in headers)
        assert "Server" not in headers
    assert "unsafe" not in ask(served, "/")[1]["Content-Security-Policy"]
    assert "unsafe-inline" not in ask(served, "/v/view/")[1]["Content-Security-Policy"].partition("style-src")[0]


def test_long_requests_are_cut_off(served):
    origin = f"http://127.0.0.1:{served.port}"
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    try:
        connection.putrequest("POST", "/api/tomograms/TS_01/scene")
        for name, value in (("Origin", origin), ("Content-Length", str(2**34)), ("Content-Type", "application/json")):
            connection.putheader(name, value)
        connection.endheaders()
        assert connection.getresponse().status in (400, 413)
    except (http.client.RemoteDisconnected, ConnectionResetError):
        pass  # hung up on
    finally:
        connection.close()
    assert ask(served, "/")[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org", "::"])
def test_other_machines_are_let_in_on_explicit_wish_only(host):
    with pytest.raises(InputError, match="--allow-remote"):
        check_host(host, allow_remote=False)


def test_a_server_for_others_answers_to_its_own_name():
    assert Guard(hosts=check_host("192.168.1.5", allow_remote=True)).is_this_host("192.168.1.5:80")
    assert not Guard(hosts=check_host("192.168.1.5", allow_remote=True)).is_this_host("192.168.1.6:80")
    with pytest.raises(InputError, match="every address"):
        check_host("0.0.0.0", allow_remote=True)


def test_tokens_are_long_and_each_its_own():
    tokens = {Guard().token for _ in range(20)}
    assert len(tokens) == 20
    assert min(map(len, tokens)) >= 43
    assert Guard().token not in repr(Guard())


def test_names_that_are_code_stay_names(tmp_path, serve):
    attack = "<script>alert(1)</script>"
    root = make_project(tmp_path / "project", ("TS_01",))
    picks = make_picks(("TS_01",)).with_kinds(attack)
    write_particles(root / "pick" / "both" / "particles.star", picks, "relion5")
    folder = root / "pick" / "<img src=x onerror=alert(1)>"
    folder.mkdir()
    write_particles(folder / "particles.star", picks, "relion5")
    with serve(root) as viewer:
        for path in ("/", "/tomogram/TS_01", "/particle/TS_01/pick-both/1", "/tomogram/TS_01?picks=%3Cscript%3E%22"):
            body = ask(viewer, path)[2].decode()
            assert "<script>" not in body
            assert "<img src=x" not in body
        refused = ask(viewer, "/tomogram/%3Cscript%3Ealert(1)%3C%2Fscript%3E")
        assert refused[0] == 400
        assert b"<script>alert" not in refused[2]
        rows = json.loads(ask(viewer, "/api/tomograms/TS_01/picks/pick-both")[2])
        assert rows["particles"][0]["kind"] == attack


def test_a_token_with_other_letters_is_only_wrong():
    assert not Guard().has_token("ä" * 43)
    assert not Guard().has_token(None)
    assert np.all([Guard(token="t").has_token("t"), not Guard(token="t").has_token("")])
