"""The HTTP request that opens a WebSocket, without sockets: what is answered to whom, and what our user hears of other answers."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_transports.websocket_upgrade import MAX_HEAD, SUBPROTOCOL, Question, Refusal, Request, UpgradeFailed, headers

# RFC 6455, section 1.3
ASKED = {
    "Host": "relay:8080",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": f"chat, {SUBPROTOCOL}",
}
TOKEN = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def asking(start: str = "GET /gateway HTTP/1.1", **changes: str | None) -> bytes:
    """A request, with some headers changed or left out."""
    fields = dict(ASKED)
    for name, value in changes.items():
        header = name.replace("_", "-")
        fields.pop(header, None)
        if value is not None:
            fields[header] = value
    lines = [start, *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def heard(data: bytes) -> Question:
    question = Question()
    assert question.receive(data)
    return question


def refused(data: bytes, *origins: str) -> Refusal:
    refusal = heard(data).refusal("/gateway", origins)
    assert refusal is not None
    return refusal


def test_a_link_is_let_in() -> None:
    question = heard(asking() + b"\x82\x05HELLO")
    assert question.refusal("/gateway", ()) is None
    answer = question.accept()
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"\r\nSec-WebSocket-Accept: " + TOKEN + b"\r\n" in answer
    assert f"\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n".encode() in answer
    assert question.rest == b"\x82\x05HELLO"


@given(cuts=st.lists(st.integers(1, len(asking())), max_size=8))
def test_a_request_may_come_in_any_pieces(cuts: list[int]) -> None:
    question, data = Question(), asking()
    bounds = [0, *sorted(set(cuts) - {len(data)}), len(data)]
    done = [question.receive(data[start:end]) for start, end in pairwise(bounds)]
    assert done == [False] * (len(done) - 1) + [True]
    assert question.refusal("/gateway", ()) is None


PATHS = {"/gateway": None, "/gateway/": None, "/%67ateway": None, "/gateway?x=1": None, "/": 404, "/gateway/x": 404}


@pytest.mark.parametrize(("path", "status"), PATHS.items())
def test_the_path_is_that_of_the_listener_and_another_is_not_found(path: str, status: int | None) -> None:
    refusal = heard(asking(f"GET {path} HTTP/1.1")).refusal("/gateway", ())
    assert (refusal.status if refusal else None) == status


def test_somebody_who_looks_in_is_told_what_this_is() -> None:
    refusal = refused(b"GET /gateway HTTP/1.1\r\nHost: relay\r\nUser-Agent: curl/8\r\n\r\n")
    assert refusal.status == 426
    assert refusal.sentence.startswith("This is an rpyc-gateway node, which is linked to with WebSocket")
    assert refusal.as_bytes().startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert b"\r\nUpgrade: websocket\r\n" in refusal.as_bytes()


def test_a_reverse_proxy_without_upgrade_headers_is_told_about() -> None:
    assert "proxy_set_header Upgrade" in refused(asking(Upgrade=None, Connection="close")).sentence
    assert refused(asking("GET /gateway HTTP/1.0", Connection="close")).status == 426


REFUSALS = {
    asking("POST /gateway HTTP/1.1", Upgrade=None, Content_Length="0"): (405, "takes no POST"),
    asking(Sec_WebSocket_Version="8"): (426, "version 13"),
    asking(Sec_WebSocket_Version=None): (426, "version 13"),
    asking(Sec_WebSocket_Key=None): (400, "Sec-WebSocket-Key is missing"),
    asking(Sec_WebSocket_Key="short"): (400, "Sec-WebSocket-Key is missing"),
    asking(Sec_WebSocket_Protocol=None): (400, f"It speaks {SUBPROTOCOL}"),
    asking(Sec_WebSocket_Protocol="chat"): (400, f"It speaks {SUBPROTOCOL}"),
    asking(Origin="https://evil.example"): (403, "lets in no web page from https://evil.example"),
    asking(Origin="null"): (403, "lets in no web page from null"),
    b"GET / HTTP/1.1\r\nX: " + b"y" * MAX_HEAD + b"\r\n": (431, "16384 bytes of headers"),
    b"RPGW\x01\x00\x00\x00\r\n\r\n": (400, "no HTTP request"),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": (400, "no HTTP request"),
    b"GET /gateway HTTP/1.1\r\n\r\n": (400, "no HTTP request"),
}


@pytest.mark.parametrize(("request_", "expected"), REFUSALS.items(), ids=range(len(REFUSALS)))
def test_other_requests_are_refused_with_a_sentence(request_: bytes, expected: tuple[int, str]) -> None:
    refusal = refused(request_)
    assert refusal.status == expected[0]
    assert expected[1] in refusal.sentence


def test_web_pages_are_let_in_where_they_are_named() -> None:
    request = asking(Origin="https://Desk.example")
    assert heard(request).refusal("/gateway", ("https://desk.example/",)) is None
    assert heard(request).refusal("/gateway", ("*",)) is None
    assert refused(request, "https://other.example").status == 403


def test_the_log_has_what_was_asked_in_short() -> None:
    assert heard(asking("GET /" + "x" * 100 + " HTTP/1.1")).asked == "GET /" + "x" * 79
    assert heard(asking("GET /gateway?token=secret HTTP/1.1")).asked == "GET /gateway"
    assert heard(bytes(200)).asked == f"what is no HTTP request: {bytes(40)!r}"
    assert Question().asked == ""


def test_who_leaves_without_a_request_is_not_answered() -> None:
    with pytest.raises(UpgradeFailed):
        Question().receive(b"")


def test_what_a_reverse_proxy_says_about_the_caller_is_kept_if_it_is_an_address() -> None:
    assert heard(asking(X_Forwarded_For="203.0.113.9, 10.0.0.1")).forwarded_for == "203.0.113.9, 10.0.0.1"
    assert heard(asking(X_Forwarded_For="<script>")).forwarded_for == ""
    assert heard(asking()).forwarded_for == ""


@given(data=st.binary(max_size=300), cut=st.integers(0, 300))
def test_whatever_comes_is_refused_or_waited_for(data: bytes, cut: int) -> None:
    question = Question()
    try:
        done = any(part and question.receive(part) for part in (data[:cut], data[cut:]))
    except UpgradeFailed:
        return
    if done:
        refusal = question.refusal("/gateway", ())
        assert refusal is not None
        assert refusal.as_bytes().startswith(b"HTTP/1.1 ")


# -- the dialling side


def answered(request: Request, *data: bytes) -> str:
    """What the user hears of this answer."""
    with pytest.raises(UpgradeFailed) as caught:
        any(request.receive(part) for part in (*data, b""))
    return str(caught.value)


def test_our_request_is_one_that_we_take() -> None:
    request = Request("relay:8080", "/gateway")
    question = heard(request.sent)
    assert question.refusal("/gateway", ()) is None
    assert request.receive(question.accept() + b"HELLO")
    assert request.rest == b"HELLO"


def test_user_password_and_other_headers_are_sent() -> None:
    request = Request("relay", "/", login=b"me:secret", given=headers("X-Token: abc\nHost: other"))
    assert b"\r\nAuthorization: Basic bWU6c2VjcmV0\r\n" in request.sent
    assert b"\r\nX-Token: abc\r\n" in request.sent
    assert b"\r\nHost: other\r\n" in request.sent
    assert b"relay" not in request.sent


ANSWERS = {
    b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n": "HTTP 401 Unauthorized: it wants a user and password: ws://user:password@..., or another "
    "header by the option `header`",
    b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\n<html>404": "HTTP 404 Not Found: nothing is at this path: it must be "
    "that of the node's listener, or the one that the reverse proxy has for it",
    b"HTTP/1.1 502 Bad Gateway\r\n\r\n": "HTTP 502 Bad Gateway: the reverse proxy cannot reach the node: is it running, where the proxy expects it?",
    b"HTTP/1.1 400\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\nno\x1b[2J\nthat": "HTTP 400 (no[2J that): the request is not understood there: "
    "is it the port of a node, or is it https (wss://)?",
    b"HTTP/1.1 302 Found\r\nLocation: https://new/\r\n\r\n": "HTTP 302 Found: it has moved to https://new/: dial that, with ws:// for http:// and wss:// for https://",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 999\r\n\r\nhello": "HTTP 200 OK (hello): a web server is there, but no node: are the "
    "port and the path right?",
    b"HTTP/1.1 418 Teapot\r\n\r\n": "HTTP 418 Teapot: a web server is there, but no node: are the port and the path right?",
    b"SSH-2.0-OpenSSH_9.2\r\n": "it does not speak HTTP: it said b'SSH-2.0-OpenSSH_9.2\\r\\n'",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD: f"the answer has more than {MAX_HEAD} bytes of headers",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n": "it answers as no WebSocket "
    "server may: its Sec-WebSocket-Accept is wrong or missing",
    b"\x15\x03\x01\x00\x02\x02\x46": "it does not speak HTTP: it said b'\\x15\\x03\\x01\\x00\\x02\\x02F'; it speaks TLS: dial wss://",
    b"": "the connection ended without an answer: is it a node or a reverse proxy that listens there?",
    b"HTTP/1.1 1": "the connection ended without an answer: in the middle of one, b'HTTP/1.1 1'",
}


@pytest.mark.parametrize(("answer", "words"), ANSWERS.items(), ids=range(len(ANSWERS)))
def test_another_answer_than_yes_is_told_with_what_to_do(answer: bytes, words: str) -> None:
    assert answered(Request("relay", "/"), *([answer] if answer else [])) == words


def test_credentials_that_are_not_taken_are_said_not_to_be() -> None:
    words = "HTTP 401 No: this user and password, or this Authorization header, is not taken"
    for request in (
        Request("relay", "/", login=b"me:secret"),
        Request("relay", "/", given=headers("authorization: x")),
    ):
        assert answered(request, b"HTTP/1.1 401 No\r\n\r\n") == words


def test_a_long_explanation_is_cut_and_a_huge_one_not_waited_for() -> None:
    head = b"HTTP/1.1 503 Busy\r\nContent-Type: text/plain\r\n\r\n"
    words = answered(Request("relay", "/"), head, *([b"x" * 4096] * 9))
    assert words.startswith(f"HTTP 503 Busy ({'x' * 400}...): the reverse proxy has no node")


def test_a_websocket_server_that_is_no_node_is_said_to_be_none() -> None:
    request = Request("relay", "/")
    question = heard(request.sent)
    plain = question.accept().replace(f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n".encode(), b"")
    assert answered(request, plain).startswith("a WebSocket server is there, but no rpyc-gateway node")


def test_news_before_the_answer_is_passed_over() -> None:
    request = Request("relay", "/")
    assert not request.receive(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    assert request.receive(heard(request.sent).accept())


@given(data=st.binary(max_size=300))
def test_whatever_is_answered_ends_in_words(data: bytes) -> None:
    request = Request("relay", "/")
    with pytest.raises(UpgradeFailed):
        any(request.receive(part) for part in ((data, b"") if data else (b"",)))


# -- the option


def test_headers_are_given_line_by_line() -> None:
    assert headers("X-A: 1\nx-b:\t2 3 ") == [(b"X-A", b"1"), (b"x-b", b"2 3")]


@pytest.mark.parametrize("text", ["", "X-A", "X A: 1", "X-A: 1\r\rX-B: 2", "X-A: \x00", "X-A: €"])
def test_what_are_no_headers_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is not of the form `Name: value`"):
        headers(text)


@pytest.mark.parametrize(
    "name", ["Upgrade", "connection", "Sec-WebSocket-Protocol", "Content-Length", "transfer-encoding"]
)
def test_headers_of_the_transport_are_its_own(name: str) -> None:
    with pytest.raises(ValueError, match="is for the transport to say"):
        headers(f"{name}: x")


def test_a_host_is_named_once() -> None:
    with pytest.raises(ValueError, match="has Host twice"):
        headers("Host: relay\nhost: other")


def test_h11_is_what_reads_a_refusal() -> None:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "relay")]))
    client.send(h11.EndOfMessage())
    client.receive_data(Refusal(404, "There is nothing here.").as_bytes())
    answer, body, end = client.next_event(), client.next_event(), client.next_event()
    assert isinstance(answer, h11.Response)
    assert isinstance(body, h11.Data)
    assert bytes(body.data) == b"There is nothing here.\n"
    assert isinstance(end, h11.EndOfMessage)
