"""Fetch the bytes behind an http(s) URL within bounds: so many bytes, so many seconds, public addresses only.

A service that fetches what its users name can be made to fetch from the machine it runs on or from the network behind
it (server-side request forgery, CWE-918). So the host's addresses are resolved once and checked, and the connection
goes to the very address that was checked; each redirect is checked in the same way. Proxies are never used, for behind
one nobody could check.
"""

import base64
import http.client
import io
import ipaddress
import queue
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from vitrail.errors import ImageError

MAX_REDIRECTS = 5

_REDIRECTS = (301, 302, 303, 307, 308)
_TARGET_CHARACTERS = "/%:=&~+!$,;'@()*?[]|"
_HEADERS = {
    "User-Agent": "vitrail",
    "Accept": "image/*,*/*;q=0.5",
    "Accept-Encoding": "identity",
    "Connection": "close",
}

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # RFC 4291, section 2.4: all that is assigned to be routed
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_PROTOCOL_ASSIGNMENTS = ipaddress.IPv4Network("192.0.0.0/24")  # RFC 6890; older Pythons take most of it for global


def fetch(url: str, *, max_bytes: int = 64 * 2**20, timeout: float = 30.0, allow_private: bool = False) -> bytes:
    """Fetch what an http(s) URL leads to, following at most five redirects.

    A user name and password in the URL are sent to that host, scheme and port only, and are not shown in errors.

    Args:
        url: an http:// or https:// URL.
        max_bytes: the most bytes the answer may have; enforced while reading, whatever the server announces.
        timeout: seconds for everything together: look-ups, connections, redirects, reading.
        allow_private: fetch also from addresses that are not public: this machine, the local network, link-local.

    Returns the body of the answer.

    Raises:
        ImageError: one sentence: not a URL, a host that does not resolve, an address that is not public, a refused or
            broken connection, a certificate that is not valid for the host, an answer other than 2xx, too many
            redirects, too many bytes, too late.
    """
    deadline = _Deadline(timeout)
    address = first = _parse(url)
    try:
        for _ in range(1 + MAX_REDIRECTS):
            credentials = first.credentials if address.origin == first.origin else None
            location, body = _get(address, credentials, max_bytes, deadline, allow_private)
            if location is None:
                return body
            address = _parse(urljoin(address.shown, location))
    except TimeoutError as error:
        raise ImageError(f"{address.shown} did not answer completely within {timeout:g} seconds.") from error
    except socket.gaierror as error:
        raise ImageError(f"{address.shown}: no address is known for the host {address.host}.") from error
    except ssl.SSLCertVerificationError as error:
        reason = error.verify_message.rstrip(".")
        raise ImageError(f"{address.shown}: the certificate of {address.host} is not valid ({reason}).") from error
    except http.client.IncompleteRead as error:
        raise ImageError(f"{address.shown}: the connection was closed in the middle of the answer.") from error
    except ConnectionRefusedError as error:
        raise ImageError(f"{address.shown}: {address.host} refused the connection.") from error
    except OSError as error:
        raise ImageError(f"{address.shown}: the connection failed ({error.strerror or error}).") from error
    except (http.client.HTTPException, ValueError) as error:  # http.client lets some ValueErrors through
        raise ImageError(f"{address.shown}: what {address.host} answered is not HTTP.") from error
    raise ImageError(f"{first.shown} redirects more than {MAX_REDIRECTS} times.")


@dataclass(frozen=True)
class _Address:
    """A URL taken apart, ready to be requested."""

    scheme: str
    host: str  # ASCII: international names are in their IDNA spelling
    port: int
    authority: str  # the host, and the port where it is not the standard one
    target: str  # path and query, percent-encoded
    credentials: str | None  # user name and password, joined by a colon

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @property
    def shown(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def _parse(url: str) -> _Address:
    before, at, after = url.rpartition("@")
    shown = f"{before.partition('//')[0]}//{after}" if at and "//" in before else url
    shown = shown if shown.isprintable() else ascii(shown)
    try:
        parts = urlsplit(url)
        scheme, host = parts.scheme, (parts.hostname or "").encode("idna").decode("ascii")
        standard_port = {"http": 80, "https": 443}.get(scheme, 0)
        port = standard_port if parts.port is None else parts.port
    except ValueError as error:  # a port that is no number, brackets that do not match, a label that is too long
        raise ImageError(f"{shown} is not a valid URL.") from error
    if not standard_port:
        raise ImageError(f"{shown} is not an http:// or https:// URL: only those are fetched.")
    if not host or not host.isprintable() or " " in host or not port:
        raise ImageError(f"{shown} is not a valid URL.")
    authority = (f"[{host}]" if ":" in host else host) + ("" if port == standard_port else f":{port}")
    # What is percent-encoded already stays as it is; spaces, controls and letters beyond ASCII become so.
    target = quote(f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}", safe=_TARGET_CHARACTERS)
    credentials = None if parts.username is None else f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return _Address(scheme, host, port, authority, target, credentials)


class _Deadline:
    """A moment by which everything must be done."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then; raises TimeoutError when there are none."""
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds


def _get(
    address: _Address, credentials: str | None, max_bytes: int, deadline: _Deadline, allow_private: bool
) -> tuple[str | None, bytes]:
    """One request: where it redirects to (None if it does not), and the body (empty if it does)."""
    headers = {"Host": address.authority, **_HEADERS}
    if credentials is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode("ascii")
    with _connect(address, deadline, allow_private) as connected:
        connection = http.client.HTTPConnection(address.host, address.port)
        connection.sock = _BoundedSocket(connected, deadline, max_bytes)
        connection.request("GET", address.target, headers=headers)
        with connection.getresponse() as response:
            location = response.getheader("Location")
            if response.status in _REDIRECTS and location:
                return location.encode("latin-1").decode("utf-8", "replace"), b""  # http.client decodes as Latin-1
            if not 200 <= response.status < 300:
                reason = ascii(f"{response.status} {response.reason}".strip())[1:-1]
                raise ImageError(f"{address.shown}: the server answered {reason}.")
            body = bytearray()
            while len(body) <= max_bytes and (piece := response.read(65536)):
                body += piece
            if len(body) > max_bytes:
                raise ImageError(f"{address.shown} has more than the {max_bytes / 2**20:g} MiB allowed.")
            if response.length:  # bytes that were announced and did not come
                raise http.client.IncompleteRead(b"", response.length)
            return None, bytes(body)


def _connect(address: _Address, deadline: _Deadline, allow_private: bool) -> socket.socket:
    """Connect to the first address of the host that answers, after all of them were checked."""
    candidates = _resolve(address.host, address.port, deadline)
    for *_, endpoint in candidates:
        if not (allow_private or _is_public(endpoint[0])):
            raise ImageError(
                f"{address.shown} leads to {endpoint[0]}, which is not a public address: pass --allow-private "
                "(in Python allow_private=True) to fetch it all the same."
            )
    for tried, (family, kind, protocol, _, endpoint) in enumerate(candidates, start=1):
        connected = socket.socket(family, kind, protocol)
        try:
            connected.settimeout(deadline.left() / (len(candidates) - tried + 1))  # a dead address must not eat it all
            connected.connect(endpoint)
            if address.scheme == "http":
                return connected
            connected.settimeout(deadline.left())
            return ssl.create_default_context().wrap_socket(connected, server_hostname=address.host)
        except OSError as error:
            connected.close()
            if tried == len(candidates) or isinstance(error, ssl.SSLError):
                raise
    raise socket.gaierror("no address")


def _resolve(host: str, port: int, deadline: _Deadline) -> list[Any]:
    """`socket.getaddrinfo` in a thread of its own, for it knows no time limit."""
    answers: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.left())
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _is_public(host: str) -> bool:
    """Whether anybody on the internet can reach a numeric address; IPv4 is judged inside its IPv6 wrappings, too."""
    address = ipaddress.ip_address(host.partition("%")[0])  # without the IPv6 zone
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None:
            return address.is_global and address in _GLOBAL_UNICAST
        address = inner
    return address.is_global and not address.is_multicast and address not in _PROTOCOL_ASSIGNMENTS


class _BoundedSocket:
    """What http.client needs of a socket, over one that is read until a deadline and up to so many bytes.

    http.client bounds neither: a server may drip its header, or announce a chunk of -1 bytes, which means all of them.
    """

    def __init__(self, connected: socket.socket, deadline: _Deadline, max_bytes: int) -> None:
        self._connected = connected
        self._deadline = deadline
        self._max_bytes = 2 * max_bytes + 2**20  # the header and the marks between chunks come on top

    def sendall(self, data: bytes) -> None:
        self._connected.settimeout(self._deadline.left())
        self._connected.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_BoundedReader(self._connected, self._deadline, self._max_bytes))

    def close(self) -> None:
        """Nothing: http.client closes the socket while it still reads the answer; `_get` closes it in the end."""


class _BoundedReader(io.RawIOBase):
    def __init__(self, connected: socket.socket, deadline: _Deadline, max_bytes: int) -> None:
        self._connected = connected
        self._deadline = deadline
        self._bytes_left = max_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connected.settimeout(self._deadline.left())
        count = self._connected.recv_into(memoryview(buffer)[: self._bytes_left])
        self._bytes_left -= count
        return count  # 0, as at the end of a connection, once the bound is reached
