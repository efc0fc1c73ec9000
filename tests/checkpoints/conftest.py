"""A hub on this machine, for tests of what is fetched."""

import hashlib
import http.server
import threading

import pytest


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as a download needs: the files of one folder, as the repository some/vit."""

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def log_message(self, *_):
        pass

    def answer(self):
        self.server.asked.append(self.path)
        path = self.server.folder / self.path.removeprefix("/some/vit/resolve/main/")
        found = self.path.startswith("/some/vit/resolve/main/") and path.is_file()
        content = path.read_bytes() if found else b""
        self.send_response(200 if found else 404)
        if found:
            self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        else:
            ours = self.path.startswith("/some/vit/")
            self.send_header("X-Error-Code", "EntryNotFound" if ours else "RepoNotFound")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this machine, with an empty cache."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder, server.asked = tmp_path / "hub", []
    endpoint = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "HF_HUB_OFFLINE": False,
        "ENDPOINT": endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
