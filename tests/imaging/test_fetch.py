"""Fetching against real servers on loopback: bounds hold, private addresses are refused, errors are sentences."""

import contextlib
import http.server
import socket
import ssl
import threading
import time

import pytest

from vitrail.errors import ImageError
from vitrail.imaging.fetch import fetch
from vitrail.imaging.open import open_picture

# A key made for these tests and trusted by nothing else: certificate for DNS:localhost, signed by itself, 2020 to 2120.
CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgk0IISSlYWGRZ+Arx
5FChXoOG+nEudEIs54M0nK8GEbChRANCAATNRbcfbe8lS3QobARWDop1pCtxe1bK
SNAO64+SpzDZv69pGuU35XpeuP02UVzKLXBQlliUP0agdrcXepIAogPv
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBYTCCAQegAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABM1Ftx9t7yVLdChs
BFYOinWkK3F7VspI0A7rj5KnMNm/r2ka5Tflel64/TZRXMotcFCWWJQ/RqB2txd6
kgCiA++jSDBGMA8GA1UdEwEB/wQFMAMBAf8wFAYDVR0RBA0wC4IJbG9jYWxob3N0
MB0GA1UdDgQWBBQNkztrlyRr1ZOYGwsd+gfFk/C6VTAKBggqhkjOPQQDAgNIADBF
AiEAqnOshR0PpOxo1NY0FNpOXyQXhgit1CKdHnPwqNg8IjACIB8tZQx94sT/xEKn
EYoXISRyZZUNgNNhTgnx3h9yGMs2
-----END CERTIFICATE-----
"""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        status, headers, body = self.server.pages.get(self.path, (404, {}, b"missing"))
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *arguments):
        pass


class Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass


@contextlib.contextmanager
def serving(pages, context=None):
    with Quiet(("127.0.0.1", 0), Handler) as server:
        server.pages, server.requests = pages, []
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        server.url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}"
        yield server
        server.shutdown()


@pytest.fixture
def server():
    with serving({}) as server:
        yield server


@contextlib.contextmanager
def answering(*pieces, pause=0.0, forever=False):
    """A bare socket that sends these pieces to whoever connects, whatever is asked; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def answer():
            with contextlib.suppress(OSError):
                while not stop.is_set():
                    connected, _ = listener.accept()
                    with connected, contextlib.suppress(OSError):
                        connected.recv(65536)
                        for piece in pieces:
                            connected.sendall(piece)
                            stop.wait(pause)
                        while forever and not stop.is_set():
                            connected.sendall(pieces[-1])
                            stop.wait(pause)

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/picture.jpg"
        stop.set()


@pytest.fixture
def no_name_server(monkeypatch):
    """Names ending in .invalid are unknown at once, as on a machine whose name server answers."""
    real = socket.getaddrinfo

    def look_up(host, *arguments, **options):
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def refusal(url, **options):
    with pytest.raises(ImageError) as caught:
        fetch(url, **({"allow_private": True} | options))
    assert str(caught.value).endswith(".")
    assert str(caught.value).isprintable()
    return str(caught.value)


class TestAnswers:
    def test_body(self, server):
        server.pages["/a.jpg?size=2&x=%20"] = 200, {}, bytes(range(256)) * 1000
        assert fetch(server.url + "/a.jpg?size=2&x=%20#part", allow_private=True) == bytes(range(256)) * 1000
        (path, headers), *more = server.requests
        assert path == "/a.jpg?size=2&x=%20"
        assert headers["Host"] == f"127.0.0.1:{server.server_port}"
        assert not more

    def test_letters_beyond_ascii(self, server):
        server.pages["/%C3%A9t%C3%A9%20%E7%8C%AB.jpg"] = 200, {}, b"cat"
        assert fetch(server.url + "/été 猫.jpg", allow_private=True) == b"cat"

    def test_without_a_length(self, server):
        server.pages["/"] = 200, {"Content-Length": None}, b"picture"
        assert fetch(server.url, allow_private=True) == b"picture"

    def test_chunks(self):
        chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npict\r\n3;x=y\r\nure\r\n0\r\n\r\n"
        with answering(chunks) as url:
            assert fetch(url, allow_private=True) == b"picture"

    def test_open_picture_fetches(self, server):
        server.pages["/dot.pgm"] = 200, {}, b"P5 1 1 255\n\x07"
        picture = open_picture(server.url + "/dot.pgm", allow_private=True)
        assert picture.image.getpixel((0, 0)) == (7, 7, 7)
        assert (picture.name, picture.format, picture.file_size) == (server.url + "/dot.pgm", "PPM", 12)
        with pytest.raises(ImageError, match="not a public address"):
            open_picture(server.url + "/dot.pgm")

    def test_missing(self, server):
        assert refusal(server.url + "/no.jpg") == f"{server.url}/no.jpg: the server answered 404 Not Found."

    @pytest.mark.parametrize(
        "answer",
        [
            b"garbage\r\n\r\n",
            b"\x00\xff" * 500,
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        ],
    )
    def test_garbage(self, answer):
        with answering(answer) as url:
            assert "is not HTTP" in refusal(url)

    def test_nothing(self):
        with answering(b"") as url:
            assert "the connection failed" in refusal(url)

    def test_reason_with_terminal_codes(self):
        with answering(b"HTTP/1.1 500 \x1b[31mred\r\nContent-Length: 0\r\n\r\n") as url:
            assert r"the server answered 500 \x1b[31mred." in refusal(url)

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nshort",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n",
        ],
    )
    def test_cut_short(self, answer):
        with answering(answer) as url:
            assert "closed in the middle of the answer" in refusal(url)


class TestBounds:
    def test_announced_too_large(self, server):
        server.pages["/"] = 200, {}, b"x" * 1001
        assert fetch(server.url, max_bytes=1001, allow_private=True) == b"x" * 1001
        assert "MiB allowed" in refusal(server.url, max_bytes=1000)

    def test_endless_without_a_length(self):
        with answering(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, forever=True) as url:
            assert "has more than the 1 MiB allowed" in refusal(url, max_bytes=2**20)

    def test_endless_in_chunks(self):
        with answering(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n", forever=True
        ) as url:
            assert "MiB allowed" in refusal(url, max_bytes=2**20)

    def test_chunk_of_minus_one_bytes(self):
        with answering(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", b"x" * 65536, forever=True
        ) as url:
            refusal(url, max_bytes=1000, timeout=60)

    def test_header_that_never_ends(self):
        with answering(b"HTTP/1.1 100 Continue\r\n\r\n", forever=True) as url:
            refusal(url, max_bytes=1000, timeout=60)

    @pytest.mark.parametrize(
        "pieces",
        [
            [b"H"],
            [b"HTTP/1.1 200 OK\r\n", b"X"],
            [b"HTTP/1.1 200 OK\r\n\r\n", b"x"],
            [b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"],
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"],
        ],
    )
    def test_drip(self, pieces):
        with answering(*pieces, pause=0.02, forever=True) as url:
            assert "did not answer completely within 0.3 seconds" in refusal(url, timeout=0.3)

    def test_silence(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            for scheme in ("http", "https"):
                url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/"
                assert "within 0.2 seconds" in refusal(url, timeout=0.2)

    def test_slow_look_up(self, monkeypatch):
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(5))
        assert "within 0.2 seconds" in refusal("http://slow.example/", timeout=0.2)

    def test_refused_connection(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        assert refusal(f"http://127.0.0.1:{port}/") == f"http://127.0.0.1:{port}/: 127.0.0.1 refused the connection."

    def test_unknown_host(self, no_name_server):
        assert "no address is known for the host nowhere.invalid" in refusal("http://nowhere.invalid/")


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_followed(self, server, status):
        server.pages["/a"] = status, {"Location": "b/c"}, b""
        server.pages["/b/c"] = 200, {}, b"here"
        assert fetch(server.url + "/a", allow_private=True) == b"here"

    def test_location_in_utf8(self, server):
        server.pages["/a"] = 302, {"Location": "/été".encode().decode("latin-1")}, b""
        server.pages["/%C3%A9t%C3%A9"] = 200, {}, b"summer"
        assert fetch(server.url + "/a", allow_private=True) == b"summer"

    def test_five_and_no_more(self, server):
        server.pages |= {f"/{n}": (302, {"Location": f"/{n + 1}"}, b"") for n in range(6)}
        server.pages["/6"] = 200, {}, b"here"
        assert fetch(server.url + "/1", allow_private=True) == b"here"
        assert refusal(server.url + "/0") == f"{server.url}/0 redirects more than 5 times."

    def test_loop(self, server):
        server.pages["/"] = 302, {"Location": "/"}, b""
        assert "redirects more than 5 times" in refusal(server.url)
        assert len(server.requests) == 6

    @pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/", "data:,x", "gopher://x/"])
    def test_to_another_scheme(self, server, location):
        server.pages["/"] = 302, {"Location": location}, b""
        assert "only those are fetched" in refusal(server.url)

    @pytest.mark.parametrize("location", ["http://[::1", "http://x:port/", "http://", "//"])
    def test_to_nonsense(self, server, location):
        server.pages["/"] = 302, {"Location": location}, b""
        refusal(server.url)

    def test_to_a_private_address_is_checked_again(self, server, monkeypatch):
        # The first host looks public and is reached; the second is this machine and must not be.
        looked_up, real = [], socket.getaddrinfo

        def look_up(host, port, **options):
            looked_up.append(host)
            return real("127.0.0.1", port, **options)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        monkeypatch.setattr("vitrail.imaging.fetch._is_public", lambda _: len(looked_up) == 1)
        server.pages["/"] = 302, {"Location": f"http://inside.example:{server.server_port}/secret"}, b""
        sentence = refusal(f"http://public.example:{server.server_port}/", allow_private=False)
        assert "leads to 127.0.0.1, which is not a public address" in sentence
        assert looked_up == ["public.example", "inside.example"]
        assert [path for path, _ in server.requests] == ["/"]


class TestCredentials:
    def test_sent_to_their_own_host_only(self, server):
        with serving({"/b": (200, {}, b"here")}) as other:
            server.pages["/a"] = 302, {"Location": "/again"}, b""
            server.pages["/again"] = 302, {"Location": other.url + "/b"}, b""
            url = server.url.replace("//", "//user:pass%20word@") + "/a"
            assert fetch(url, allow_private=True) == b"here"
            assert [headers.get("Authorization") for _, headers in server.requests] == [
                "Basic dXNlcjpwYXNzIHdvcmQ="
            ] * 2
            assert "Authorization" not in other.requests[0][1]

    def test_not_taken_from_a_redirect(self, server):
        with serving({"/b": (200, {}, b"here")}) as other:
            server.pages["/a"] = 302, {"Location": other.url.replace("//", "//them:theirs@") + "/b"}, b""
            assert fetch(server.url + "/a", allow_private=True) == b"here"
            assert "Authorization" not in other.requests[0][1]

    @pytest.mark.parametrize("rest", ["nowhere.invalid/", "127.0.0.1:x/", "[::1/", "127.0.0.1:0/"])
    @pytest.mark.parametrize("scheme", ["http", "ftp"])
    def test_not_shown(self, scheme, rest, no_name_server):
        assert "secret" not in refusal(f"{scheme}://user:secret@{rest}")


PRIVATE = [
    *("127.0.0.1", "localhost", "127.1", "127.255.255.254", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0"),
    *("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "192.0.0.192", "0.0.0.0"),
    *("224.0.0.1", "255.255.255.255", "240.0.0.1"),
    *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[fe80::1]", "[fc00::1]", "[ff02::1]"),
    *(
        "[64:ff9b::7f00:1]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:db8::1]",
        "[2001::1]",
    ),
]
PUBLIC = ["1.1.1.1", "[2606:4700::1111]", "[::ffff:1.1.1.1]", "[64:ff9b::101:101]", "[2002:101:101::1]"]


class TestAddresses:
    @pytest.mark.parametrize("host", PRIVATE)
    def test_private_is_refused_before_anything_is_sent(self, host, monkeypatch):
        connections = []
        monkeypatch.setattr(socket.socket, "connect", lambda self, endpoint: connections.append(endpoint))
        for scheme in ("http", "https"):
            sentence = refusal(f"{scheme}://{host}:8080/", allow_private=False)
            assert "is not a public address: pass --allow-private" in sentence or "no address is known" in sentence
        assert connections == []

    @pytest.mark.parametrize("host", PUBLIC)
    def test_public_is_tried(self, host, monkeypatch):
        connections = []

        def connect(self, endpoint):
            connections.append(endpoint[0])
            raise ConnectionRefusedError

        monkeypatch.setattr(socket.socket, "connect", connect)
        assert "refused the connection" in refusal(f"http://{host}/", allow_private=False)
        assert connections == [host.strip("[]")]

    def test_a_listening_server_hears_nothing(self, server):
        for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"):
            assert "not a public address" in refusal(f"http://{host}:{server.server_port}/", allow_private=False)
        assert server.requests == []

    def test_one_look_up_one_answer_no_rebinding(self, server, monkeypatch):
        """A name that is public when checked and private when asked again must not get its second answer used."""
        answers = iter(["1.1.1.1", "127.0.0.1", "127.0.0.1"])
        connections = []

        def look_up(host, port, **options):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

        def connect(self, endpoint):
            connections.append(endpoint)
            raise ConnectionRefusedError

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        monkeypatch.setattr(socket.socket, "connect", connect)
        assert "refused the connection" in refusal("http://rebinding.example/", allow_private=False)
        assert connections == [("1.1.1.1", 80)]

    def test_one_private_address_among_public_ones_is_enough(self, monkeypatch):
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("1.1.1.1", "10.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("connected"))
        assert "leads to 10.0.0.1" in refusal("http://mixed.example/", allow_private=False)

    def test_the_next_address_is_tried(self, server, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            closed = listener.getsockname()[1]
        ports = (closed, server.server_port)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        server.pages["/"] = 200, {}, b"here"
        assert fetch("http://two.example/", allow_private=True) == b"here"

    def test_proxies_of_the_environment_are_not_used(self, server, monkeypatch, no_name_server):
        for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(variable, server.url)
        assert "no address is known" in refusal("http://nowhere.invalid/", allow_private=False)
        assert server.requests == []

    @pytest.mark.parametrize(
        "url", ["file:///etc/passwd", "ftp://x/", "http://", "http:///a", "http://[::1", "http://x:99999/", "cat.jpg",
                "http://a b/", "http://a..b/", "http://" + "x" * 70 + "/", "http://x\x1b/", "http://\ud800/"]
    )  # fmt: skip
    def test_what_is_no_url(self, url):
        assert "not a valid URL" in refusal(url) or "only those are fetched" in refusal(url)


class TestTransportSecurity:
    @pytest.fixture
    def secure(self, tmp_path):
        (tmp_path / "server.pem").write_text(CERTIFICATE)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "server.pem")
        with serving({"/": (200, {}, b"secret")}, context) as server:
            yield server

    def test_certificate_nobody_vouches_for(self, secure):
        assert "the certificate of 127.0.0.1 is not valid" in refusal(secure.url)
        assert secure.requests == []

    def test_certificate_is_for_the_host_that_was_named(self, secure, tmp_path, monkeypatch):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
        assert fetch(f"https://localhost:{secure.server_port}/", allow_private=True) == b"secret"
        assert "the certificate of 127.0.0.1 is not valid" in refusal(secure.url)

    def test_server_that_does_not_speak_it(self, server):
        assert "the connection failed" in refusal(server.url.replace("http:", "https:"))
