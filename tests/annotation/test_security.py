"""Who may use the server, and what it never gives away."""

from __future__ import annotations

import pytest

from frugalseg.annotation.routes.files import add_page, format_api
from frugalseg.annotation.security import COOKIE, HEADERS, MOST_BODY, AccessRules, is_loopback
from tests.annotation.session import disc, open_client, open_session, put
from tests.scans import write_cohort

SHAPE = (32, 32)
TOKEN = "a-secret-of-many-letters"


@pytest.fixture
def session(tmp_path):
    images, _ = write_cohort(tmp_path, 1)
    with open_session(images, tmp_path / "out", start=False) as opened:
        yield opened


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example:8765", ""])
def test_a_wrong_host_is_refused(client, host):
    assert client.get("/api/state", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "[::1]:8765", "localhost:9000"])
def test_names_of_this_machine_are_accepted(client, host):
    """Any port: an SSH tunnel may have another one."""
    assert client.get("/api/state", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "file://"])
def test_another_origin_is_refused(client, origin):
    assert client.get("/api/state", headers={"Origin": origin}).status_code == 403
    assert put(client, "scan_00", 5, disc(SHAPE), 0, Origin=origin).status_code == 403
    assert client.get("/api/cases/scan_00").json()["version"] == 0


def test_the_own_origin_is_accepted(client):
    assert client.get("/api/state", headers={"Origin": "http://127.0.0.1:8765"}).status_code == 200


def test_a_request_of_another_site_is_refused_even_without_an_origin(client):
    assert client.get("/api/state", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.get("/api/state", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "place"),
    [
        ("PUT", "/api/cases/scan_00/slices/5/mask"),
        ("DELETE", "/api/cases/scan_00/slices/5/mask"),
        ("POST", "/api/jobs"),
        ("POST", "/api/labels"),
        ("PATCH", "/api/labels/6"),
        ("POST", "/api/export"),
    ],
)
def test_a_change_needs_the_header_that_other_pages_cannot_send(client, method, place):
    answer = client.request(method, place, headers={"X-Frugalseg": ""}, content=b"{}")
    assert answer.status_code == 403


def test_without_the_token_nothing_is_answered(session):
    with open_client(session, AccessRules(TOKEN)) as client:
        for place in ("/", "/api/state", "/api/cases/scan_00", "/docs-api", "/api/openapi.json", "/assets/index.js"):
            assert client.get(place).status_code == 401
        assert client.get("/?token=a-secret-of-many-letterz").status_code == 401
        assert client.get(f"/api/state?token={TOKEN}").status_code == 401  # only at the start page
        client.cookies.set(COOKIE, "wrong")
        assert client.get("/api/state").status_code == 401


def test_the_token_becomes_a_cookie_that_scripts_and_other_sites_cannot_use(session):
    with open_client(session, AccessRules(TOKEN)) as client:
        answer = client.get(f"/?token={TOKEN}")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/")
        assert {"HttpOnly", "SameSite=Strict"} <= set(answer.headers["Set-Cookie"].split("; "))
        assert client.get("/api/state").status_code == 200


def test_only_loopback_addresses_need_no_token():
    assert [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.5", "example.org", "")] == [False] * 5


def test_elsewhere_there_is_always_a_token_and_any_name():
    from frugalseg.annotation.serve import _make_rules
    from frugalseg.options import AnnotateOptions

    rules = _make_rules(AnnotateOptions(demo=True, host="0.0.0.0"))
    assert rules.token is not None
    assert len(rules.token) >= 32
    assert rules.refusal("GET", "/", {"host": "workstation.lan:8765"}) is None
    assert rules.refusal("GET", "/", {"host": "workstation.lan:8765", "origin": "http://evil.example"}) is not None


def test_a_folder_to_look_at_only_cannot_be_changed(session):
    with open_client(session, AccessRules(read_only=True)) as client:
        assert client.get("/api/cases/scan_00").status_code == 200
        assert client.post("/api/cases/scan_00/focus", json={"slice": 3}).status_code == 202
        assert put(client, "scan_00", 5, disc(SHAPE), 0).status_code == 403
        assert client.post("/api/jobs", json={"kind": "train"}).status_code == 403
        assert client.get("/api/cases/scan_00").json()["version"] == 0


@pytest.mark.parametrize("size", [50 << 20, MOST_BODY + 1])
def test_a_large_body_is_refused(client, size):
    answer = client.put("/api/cases/scan_00/slices/5/mask", content=bytes(size), headers={"If-Match": "0"})
    assert answer.status_code == 413


def test_a_large_body_without_a_length_is_refused_before_it_is_all_read(client):
    sent = 0

    def chunks():
        nonlocal sent
        for _ in range(50):
            sent += 1 << 20
            yield bytes(1 << 20)

    headers = {"If-Match": "0", "X-Tool": "brush"}
    assert client.put("/api/cases/scan_00/slices/5/mask", content=chunks(), headers=headers).status_code == 413


@pytest.mark.parametrize("place", ["/../state.sqlite", "/%2e%2e/state.sqlite", "/..%2f..%2fetc/passwd", "//etc/passwd"])
def test_no_path_leads_out_of_the_page(client, place):
    assert client.get(place).status_code == 404


@pytest.mark.parametrize("case", ["..", "../out/work/state", "%2e%2e%2fscan_00", "scan_00%00", "/etc/passwd"])
def test_no_case_leads_out_of_the_folder(client, case):
    for place in ("", "/volume", "/slices/0/image"):
        assert client.get(f"/api/cases/{case}{place}").status_code == 404


def test_a_symlink_in_the_page_leads_nowhere(tmp_path, session):
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from frugalseg.annotation.problems import answer_errors

    page = tmp_path / "page"
    page.mkdir()
    (tmp_path / "secret.js").write_text("secret")
    (page / "link.js").symlink_to(tmp_path / "secret.js")
    (page / "index.html").write_text("<!doctype html>")
    (page / "app.js").write_text("1")
    (page / "notes.sqlite").write_text("no page")
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    answer_errors(app)
    add_page(app, page)
    client = TestClient(app)
    assert client.get("/").text == "<!doctype html>"
    assert client.get("/app.js").headers["Content-Type"].startswith("text/javascript")
    assert client.get("/link.js").status_code == 404
    assert client.get("/notes.sqlite").status_code == 404


def test_a_scan_that_is_a_link_out_of_the_folder_is_not_opened(tmp_path):
    images, _ = write_cohort(tmp_path, 2)
    elsewhere = tmp_path / "elsewhere.nii.gz"
    (images / "scan_01.nii.gz").rename(elsewhere)
    (images / "scan_01.nii.gz").symlink_to(elsewhere)
    with open_session(images, tmp_path / "out", start=False) as session, open_client(session) as client:
        assert client.get("/api/cases/scan_00").status_code == 200
        answer = client.get("/api/cases/scan_01")
        assert answer.status_code == 422
        assert "link" in answer.json()["message"]


def test_every_answer_forbids_to_load_anything_from_elsewhere(client, session):
    for place in ("/", "/api/state", "/nothing", "/api/cases/none"):
        headers = client.get(place).headers
        assert HEADERS.items() <= {name: headers.get(name) for name in HEADERS}.items()
    refused = client.get("/api/state", headers={"Host": "evil.example"}).headers
    assert HEADERS.items() <= {name: refused.get(name) for name in HEADERS}.items()
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'; ")
    for loose in ("http", "unsafe", "blob:", "*", "script-src", "style-src", "connect-src"):
        assert loose not in policy
    api = client.get("/docs-api").headers["Content-Security-Policy"].split("; ")
    (added,) = set(api) - set(policy.split("; "))
    assert added.startswith("style-src 'sha256-")
    assert set(policy.split("; ")) <= set(api)


def test_the_page_about_the_api_loads_nothing_and_shows_no_markup_of_others(client):
    text = client.get("/docs-api").text
    assert "<script" not in text
    assert "src=" not in text
    assert "/api/cases/{case}/slices/{z}/prompt" in text
    shown = format_api({"paths": {"/<b>": {"get": {"description": "<script>alert(1)</script>"}}}})
    assert "<script>" not in shown
    assert "<b>" not in shown


def test_errors_name_no_path_of_this_machine(client, session, tmp_path):
    for answer in (client.get("/api/cases/none"), client.get("/api/cases/scan_00/slices/99/image")):
        assert str(tmp_path) not in answer.text
