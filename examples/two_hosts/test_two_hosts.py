"""A test that drives two hosts: a web server on one, whoever asks it on the other.

pytest examples/two_hosts
pytest examples/two_hosts --gw-node server=tls://10.1.0.7 --gw-node client="stdio:ssh ops@client rpyc-gw stdio --serve classic"
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from rpyc_gateway.pytest_plugin import GwNode

QUIET = """
from http.server import SimpleHTTPRequestHandler

class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_): pass
"""


def own_address() -> str:
    """Runs on a host: where others reach it. Nothing is sent for that."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:  # it has no network but itself
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


@pytest.fixture
def site(gw_node: GwNode) -> Iterator[str]:
    """The URL of a web server on the first host, which ends with the test."""
    server = gw_node("server")
    there = server.modules
    directory = there.tempfile.mkdtemp()
    there.pathlib.Path(directory, "page").write_text("hello from the server")
    server.execute(QUIET)
    handler = there.functools.partial(server.namespace["Quiet"], directory=directory)
    web = there["http.server"].ThreadingHTTPServer(("", 0), handler)
    there.threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://{server.teleport(own_address)()}:{web.server_port}"
    web.shutdown()
    web.server_close()
    there.shutil.rmtree(directory)


def test_the_client_gets_the_page(site: str, gw_node: GwNode) -> None:
    client = gw_node("client")
    with client.modules["urllib.request"].urlopen(f"{site}/page", timeout=10) as answer:
        assert answer.read() == b"hello from the server"


def test_a_missing_page_is_an_error_there_and_here(site: str, gw_node: GwNode) -> None:
    client = gw_node("client")
    with pytest.raises(client.modules["urllib.error"].HTTPError, match="404"):
        client.modules["urllib.request"].urlopen(f"{site}/missing", timeout=10)
