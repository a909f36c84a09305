"""The registry's door on loopback: what it takes, what it refuses, and how little it says about it."""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from runtime.clock import SystemClock
from runtime.hardening import write_private
from stream import http
from stream.errors import HttpServerFailed
from stream.site.enrolment import Enrolment, EnrolmentPolicy
from stream.site.http import RegistryServer
from tests.patience import PATIENCE_S
from tests.stream.servers import Answer, ask, chunked, connect, context, read_answer, serving
from tests.stream.site.registries import NOW, Desk, new_keys
from wire.enrol.authority import Authority, key_pem, moment, new_tls_key, pem
from wire.enrol.client import announce_prekey, ask_renewal, enrol, enrol_request, prekey_request, renew_request
from wire.enrol.requests import MAX_BODY_BYTES, EnrolReply, Invitation
from wire.errors import EnrolmentFailed

SLOW = b"POST /v1/enrol HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n{"
GENEROUS = EnrolmentPolicy(tries_per_min=1e6, bad_tokens=10**6)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(tmp_path_factory.mktemp("desk"), policy=GENEROUS, wall=SystemClock())
    yield made
    made.site.close()


@pytest.fixture(scope="module")
def port(desk: Desk) -> Iterator[int]:
    with serving(desk) as found:
        yield found


@pytest.fixture(scope="module")
def tls(desk: Desk) -> ssl.SSLContext:
    return context(desk)


def invited(desk: Desk, port: int) -> Invitation:
    return desk.invite()._replace(url=f"https://127.0.0.1:{port}")


def body_of(request: msgspec.Struct) -> bytes:
    return msgspec.json.encode(request)


def good_body(desk: Desk) -> bytes:
    return body_of(desk.request(desk.invite()))


# The front door, from the device's side


def test_a_device_enrols_renews_and_announces_over_tls(tmp_path: Path, desk: Desk, port: int) -> None:
    wallet = enrol(invited(desk, port), tmp_path / "identity")
    serial = wallet.me.credential_serial

    wallet.renewed(*ask_renewal(wallet))
    keys = new_keys()
    wallet.add_prekey(keys.prekey_id, keys.prekey, now_ms=NOW)
    wallet.accept_all(announce_prekey(wallet, now_ms=NOW).documents)

    assert wallet.me.credential_serial != serial
    assert wallet.unannounced is None


def test_a_revoked_certificate_passes_tls_and_not_the_registry(tmp_path: Path, desk: Desk, port: int) -> None:
    wallet = enrol(invited(desk, port), tmp_path / "identity")
    desk.registry.revoke(wallet.me.device_id, why="stolen", who="tester")

    with pytest.raises(EnrolmentFailed, match="or it is revoked"):
        ask_renewal(wallet)


def test_certificates_of_a_retired_issuing_key_pass_tls(tmp_path: Path) -> None:
    desk = Desk(tmp_path, policy=GENEROUS, wall=SystemClock())
    with serving(desk) as port:
        wallet = enrol(invited(desk, port), tmp_path / "identity")
    desk.site.renew_issuing(passphrase="", who="tester")

    with serving(desk) as port:
        answer = ask(port, context(desk, client=wallet.tls.client), "/v1/prekey", b"{}")
        later = enrol(invited(desk, port), tmp_path / "later")

    assert answer.status == 400  # TLS let it in, and the registry looked at what it said
    assert wallet.root_pem == later.root_pem
    desk.site.close()


def test_the_root_is_there_for_everybody(desk: Desk, port: int, tls: ssl.SSLContext) -> None:
    answer = ask(port, tls, "/v1/root", method="GET")

    assert answer.status == 200
    assert answer.body == pem(desk.site.authority.root)


def test_the_answer_does_not_say_what_it_runs_on(port: int, tls: ssl.SSLContext) -> None:
    answer = ask(port, tls, "/v1/root", method="GET")

    assert "server" not in answer.headers


# TLS


def test_tls_1_2_is_refused(desk: Desk, port: int) -> None:
    old = context(desk)
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    with pytest.raises(ssl.SSLError):
        connect(port, old).close()


def test_without_tls_there_is_no_answer(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain:
        plain.sendall(b"GET /v1/root HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        try:
            got = plain.recv(1_000)
        except ConnectionResetError:
            got = b""

    assert b"HTTP" not in got


def test_a_certificate_of_a_foreign_authority_ends_the_connection(desk: Desk, port: int, tmp_path: Path) -> None:
    authority, _ = Authority.begin("stranger", at=moment(int(time.time() * 1_000)))
    key, device = new_tls_key(), desk.invite()
    made = authority.device(
        key.public_key(), common_name=device.device_id.hex(), tenant=bytes(16), at=moment(int(time.time() * 1_000))
    )
    path = tmp_path / "foreign.pem"
    write_private(path, pem(made) + pem(authority.issuing) + key_pem(key))

    with pytest.raises((ssl.SSLError, ConnectionError, IndexError)):  # cut off instead of answered
        ask(port, context(desk, client=path), body=body_of(desk.request(device)))

    assert [one.device_id for one in desk.registry.certificates.all() if one.device_id == device.device_id.hex()] == []


def test_a_server_certificate_is_no_client_certificate(desk: Desk, port: int) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError, IndexError)):
        ask(port, context(desk, client=desk.site.registry_tls), "/v1/root", method="GET")


# What is not read


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip", "x"])
def test_nothing_compressed_is_read(desk: Desk, port: int, tls: ssl.SSLContext, coding: str) -> None:
    answer = ask(port, tls, body=good_body(desk), headers={"Content-Encoding": coding})

    assert (answer.status, answer.problem) == (415, "compressed bodies are not accepted")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "", None])
def test_a_body_is_json_and_says_so(desk: Desk, port: int, tls: ssl.SSLContext, kind: str | None) -> None:
    answer = ask(port, tls, body=good_body(desk), headers={"Content-Type": kind})

    assert answer.status == 415


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON", "application/json; charset=utf-8"])
def test_json_may_be_written_differently(desk: Desk, port: int, tls: ssl.SSLContext, kind: str) -> None:
    assert ask(port, tls, body=good_body(desk), headers={"Content-Type": kind}).status == 200


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize(("length", "status"), [(MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413), (200_000, 413)])
def test_a_body_has_sixteen_kilobytes(
    desk: Desk, port: int, tls: ssl.SSLContext, length: int, status: int, in_parts: bool
) -> None:
    body = good_body(desk).ljust(length)
    headers: dict[str, str | None] = {"Content-Length": None, "Transfer-Encoding": "chunked"} if in_parts else {}

    answer = ask(port, tls, body=chunked(body) if in_parts else body, headers=headers)

    assert answer.status == status


def test_a_length_that_is_a_lie_brings_nothing_down(desk: Desk, port: int, tls: ssl.SSLContext) -> None:
    with connect(port, tls) as sock:
        sock.sendall(b"POST /v1/enrol HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n{}")

    assert ask(port, tls, body=good_body(desk)).status == 200


def test_a_header_without_an_end_is_cut_off(port: int, tls: ssl.SSLContext) -> None:
    with connect(port, tls) as sock:
        sock.sendall(b"GET /v1/root HTTP/1.1\r\nHost: a\r\nX-Long: ")

        with pytest.raises(OSError, match=r"(?i)eof|reset|pipe"):
            sock.sendall(b"x" * 2**24)


SECRET = "do not repeat me"
FIELDS = f'"device_id":"00","token":"{SECRET}","csr":"","signing_key":"","prekey_id":"","prekey":"","proof":""'
MALFORMED = {
    "nothing": b"",
    "no json": SECRET.encode(),
    "half": b'{"token":"' + SECRET.encode(),
    "a list": b'["' + SECRET.encode() + b'"]',
    "a missing field": b'{"token":"' + SECRET.encode() + b'"}',
    "an unknown field": f'{{{FIELDS},"role":"{SECRET}"}}'.encode(),
    "a number for a string": f"{{{FIELDS.replace(chr(34) + '00' + chr(34), '12345678')}}}".encode(),
    "null": f"{{{FIELDS.replace(chr(34) + '00' + chr(34), 'null')}}}".encode(),
    "twice": f'{{{FIELDS},"device_id":"{SECRET}"}}'.encode(),
    "twice, the same": f'{{{FIELDS},"token":"{SECRET}"}}'.encode(),
    "deep lists": b"[" * 16_000,
    "deep objects": b'{"token":' * 1_500,
    "deep unknown": b'{"x":' + b"[" * 8_000 + b"]" * 8_000 + b"}",
    "half a character": b'{"token":"\\ud800"}',
    "half a character as a name": b'{"\\udfff":1}',
    "no utf-8": b'{"token":"\xff\xfe"}',
    "nul": b"\0" * 100,
    "NaN": b'{"token":NaN}',
    "trailing": f"{{{FIELDS}}}{{}}".encode(),
    "a mark of byte order": "\ufeff{}".encode(),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_request_is_told_so_and_not_repeated(port: int, tls: ssl.SSLContext, body: bytes) -> None:
    answer = ask(port, tls, body=body)

    assert answer.status == 400
    assert answer.problem.startswith("not a request: ")
    assert SECRET not in answer.problem
    assert "12345678" not in answer.problem


@pytest.mark.parametrize("number", ["1e400", "-1", "-1e999", "1.5", "9" * 30, "9" * 5_000, "-" + "9" * 400, "true"])
def test_no_number_is_too_much(tmp_path: Path, desk: Desk, port: int, number: str) -> None:
    wallet = enrol(invited(desk, port), tmp_path / "identity")
    said = body_of(prekey_request(wallet, now_ms=NOW)).replace(str(NOW).encode(), number.encode())

    answer = ask(port, context(desk, client=wallet.tls.client), "/v1/prekey", said)

    assert answer.status == 400
    assert number not in answer.problem or len(number) < 4


def test_fields_that_are_no_keys_are_answered(desk: Desk, port: int, tls: ssl.SSLContext) -> None:
    for key in ("csr", "signing_key", "prekey_id", "prekey", "proof", "token"):
        for text in ("", "zz", "\0", "ä", "\ud7ff", "0" * 15_000):
            answer = ask(port, tls, body=body_of(replace(desk.request(desk.invite()), **{key: text})))
            assert answer.status in (400, 403), (key, text)


# Routes


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/", "/v1/enrol/", "/v1//enrol", "/v2/enrol", "/v1/../v1/enrol", "/docs", "/openapi.json", "*"],
)
def test_there_is_nothing_else_here(port: int, tls: ssl.SSLContext, path: str) -> None:
    answer = ask(port, tls, path, b"{}")

    assert answer.status == 404
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/enrol"), ("PUT", "/v1/enrol"), ("DELETE", "/v1/renew"), ("GET", "/v1/prekey"),
        ("OPTIONS", "/v1/enrol"), ("POST", "/v1/root"), ("TRACE", "/v1/root"),
    ],
)  # fmt: skip
def test_each_route_has_its_method(port: int, tls: ssl.SSLContext, method: str, path: str) -> None:
    assert ask(port, tls, path, method=method).status == 405


# Limits


def test_an_address_has_ten_tries_a_minute(tmp_path: Path) -> None:
    desk = Desk(tmp_path, policy=EnrolmentPolicy(bad_tokens=100), wall=SystemClock())
    tls = context(desk)
    bad = body_of(desk.request(desk.invite()._replace(token=bytes(20))))

    with serving(desk) as port:
        statuses = [ask(port, tls, body=bad, headers={"X-Forwarded-For": f"198.51.100.{n}"}).status for n in range(11)]
        elsewhere = ask(port, tls, body=bad, source="127.0.0.2")

    assert statuses == [403] * 10 + [429]
    assert elsewhere.status == 403
    desk.site.close()


def test_who_sends_nothing_does_not_stop_others(desk: Desk, port: int, tls: ssl.SSLContext) -> None:
    silent = [connect(port, tls) for _ in range(10)]
    slow = [connect(port, tls) for _ in range(10)]
    stuck = [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]  # in the middle of TLS
    for sock in slow:
        sock.sendall(SLOW)

    began = time.monotonic()
    answer = ask(port, tls, body=good_body(desk))

    assert answer.status == 200
    assert time.monotonic() - began < 5
    for one in (*silent, *slow, *stuck):
        one.close()


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"POST /v1/en",
        SLOW,
    ],
)
def test_a_slow_client_is_disconnected(
    desk: Desk, tls: ssl.SSLContext, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "CONNECTION_LIMIT_S", 0.3)
    with serving(desk) as port, connect(port, tls) as sock:
        sock.settimeout(5)
        sock.sendall(begun)

        try:
            got = sock.recv(1_000)
        except (ssl.SSLError, ConnectionError):
            got = b""

    assert got == b""


def test_one_address_cannot_take_every_place(desk: Desk, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_PER_ADDRESS", 3)
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 5)
    with serving(desk) as port:
        held = []
        for _ in range(8):
            with contextlib.suppress(OSError):
                held.append(connect(port, tls, source="127.0.0.3"))

        assert ask(port, tls, body=good_body(desk)).status == 200

        for one in held:
            one.close()


@pytest.mark.slow
def test_a_server_stops_even_if_a_client_is_slow(
    desk: Desk, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "CONNECTION_LIMIT_S", 1.0)
    began = time.monotonic()
    with serving(desk) as port:
        sock = connect(port, tls)
        sock.sendall(SLOW)
        ask(port, tls, "/v1/root", method="GET")

    assert time.monotonic() - began < 8
    sock.close()


# What is said


def test_the_answer_does_not_say_which_ids_exist(desk: Desk, port: int, tls: ssl.SSLContext) -> None:
    known = desk.invite()
    wallet = desk.enrol()
    desk.registry.revoke(wallet.me.device_id, why="lost", who="tester")
    answers: dict[str, set[tuple[int, bytes]]] = {"enrol": set(), "renew": set(), "prekey": set()}
    for device_id in (known.device_id, wallet.me.device_id, bytes(16)):
        name = device_id.hex()
        request = enrol_request(known._replace(device_id=device_id, token=bytes(20)), new_keys(), desk.server)
        renewal = replace(renew_request(wallet, new_keys(), desk.server), device_id=name)
        prekey = replace(prekey_request(wallet, now_ms=NOW), device_id=name)
        for path, body in (("enrol", request), ("renew", renewal), ("prekey", prekey)):
            answer = ask(port, tls, f"/v1/{path}", body_of(body))
            answers[path].add((answer.status, answer.body))

    assert {path: [status for status, _ in found] for path, found in answers.items()} == {
        "enrol": [403],
        "renew": [403],
        "prekey": [403],
    }


def test_an_internal_error_is_answered_without_its_detail(
    desk: Desk, port: int, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object, **__: object) -> EnrolReply:
        raise RuntimeError(SECRET)

    with monkeypatch.context() as broken:
        broken.setattr(Enrolment, "enrol", break_down)
        answer = ask(port, tls, body=good_body(desk))

    assert (answer.status, answer.body) == (500, b"Internal Server Error")
    assert ask(port, tls, body=good_body(desk)).status == 200


def test_log_lines_say_what_was_refused_and_nothing_of_it(
    desk: Desk, port: int, tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    request = desk.request(desk.invite()._replace(token=bytes(range(20))))
    with caplog.at_level(logging.DEBUG):
        ask(port, tls, body=body_of(request))
        ask(port, tls, body=f'{{"token":"{SECRET}"}}'.encode())

    text = "\n".join(f"{one.getMessage()} {one.__dict__.get('vitalloom_facts', '')}" for one in caplog.records)
    assert "'status': 403" in text
    assert request.token not in text
    assert request.proof not in text
    assert SECRET not in text


def test_answers_are_json(desk: Desk, port: int, tls: ssl.SSLContext) -> None:
    good = ask(port, tls, body=good_body(desk))
    bad = ask(port, tls, body=b"{}")

    assert msgspec.json.decode(good.body, type=EnrolReply).role == "wearable"
    assert {one.headers["content-type"] for one in (good, bad)} == {"application/json"}
    assert set(msgspec.json.decode(bad.body)) == {"problem"}


def test_two_requests_on_one_connection_are_two_answers(desk: Desk, port: int, tls: ssl.SSLContext) -> None:
    body = good_body(desk)
    head = f"POST /v1/enrol HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with connect(port, tls) as sock:
        sock.sendall(head.encode() + b"\r\n" + body + head.encode() + b"Connection: close\r\n\r\n" + body)
        got: Answer = read_answer(sock)

    assert got.status == 200
    assert got.body.count(b"HTTP/1.1 403") == 1


def test_a_port_that_is_taken_is_a_sentence(desk: Desk, port: int) -> None:
    site = desk.site
    server = RegistryServer(
        desk.enrolment,
        tls=site.registry_tls,
        root=pem(site.authority.root),
        clients=site.bundle_file,
        host="127.0.0.1",
        port=port,
    )

    with pytest.raises(HttpServerFailed, match="is it running already"):
        asyncio.run(server.__aenter__())


def test_a_renewed_certificate_is_shown_on_the_next_connection_and_proofs_hold_on_the_one_before(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, policy=GENEROUS, wall=SystemClock())
    with serving(desk) as port, connect(port, context(desk)) as begun:
        before = begun.getpeercert(binary_form=True)
        desk.site.issue_registry_certificate(who="tester")
        with connect(port, context(desk)) as later:
            after = later.getpeercert(binary_form=True)

        # The proof of a device is bound to the certificate that it has seen.
        invitation, keys = desk.invite(), new_keys()
        assert before is not None
        body = body_of(enrol_request(invitation, keys, before))
        head = (
            f"POST /v1/enrol HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        begun.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)
        answer = read_answer(begun)
        wallet = enrol(invited(desk, port), tmp_path / "identity")

    assert before != after
    assert answer.status == 200
    assert wallet.end_date.ends_ms > NOW
    desk.site.close()


def test_keys_of_a_renewed_issuing_key_pass_tls_without_a_restart(tmp_path: Path) -> None:
    desk = Desk(tmp_path, policy=GENEROUS, wall=SystemClock())
    with serving(desk) as port:
        earlier = enrol(invited(desk, port), tmp_path / "earlier")
        desk.site.renew_issuing(passphrase="", who="tester")
        later = enrol(invited(desk, port), tmp_path / "later")
        for wallet in (earlier, later):
            wallet.renewed(*ask_renewal(wallet))

    assert earlier.certificate.issuer == later.certificate.issuer == desk.site.authority.issuing.subject
    desk.site.close()
