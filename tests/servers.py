"""Local servers, of files and of the Hugging Face hub's shape, that can be told to misbehave."""

import hashlib
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Fault:
    """What the next answer for a path does instead of the right thing."""

    status: int = 0
    headers: dict = field(default_factory=dict)
    cut: int | None = None  # body bytes sent before the connection is closed
    ignore_range: bool = False
    swap: bytes | None = None  # what the file contains after this answer


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.log = {}, {}, []
        self.redirects, self.guarded, self.token = {}, set(), None

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    def asked(self, path):
        """The headers of the requests for a path."""
        return [headers for logged, headers, _ in self.log if logged == path]

    def sent(self, path):
        """The bytes sent of a path's body."""
        return sum(sent for logged, _, sent in self.log if logged == path)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        faults = self.server.faults.get(self.path, [])
        fault = faults.pop(0) if faults else Fault()
        status, headers, body = self.answer(fault)
        sent = body[: fault.cut]
        self.server.log.append((self.path, dict(self.headers), len(sent)))
        if fault.swap is not None:
            self.server.files[self.path] = fault.swap
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(body), **fault.headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(sent)
        self.wfile.flush()
        self.close_connection |= fault.cut is not None

    def answer(self, fault):
        server, (path, _, _) = self.server, self.path.partition("?")
        if path in server.guarded and self.headers.get("Authorization") != f"Bearer {server.token}":
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        if not fault.status and path in server.redirects:
            return 302, {"Location": server.redirects[path]}, b""
        content = server.files.get(path)
        if fault.status or content is None:
            known = path.partition("/revision/")[0] in server.files
            code = "RevisionNotFound" if known else "RepoNotFound"
            api = path.startswith("/api/models/")
            return fault.status or 404, {"X-Error-Code": code if api else "EntryNotFound"}, b""
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not asked or fault.ignore_range or self.headers.get("If-Range", etag) != etag:
            return 200, {"ETag": etag}, content
        start, size = int(asked[1]), len(content)
        if start >= size:
            return 416, {"Content-Range": f"bytes */{size}"}, b""
        span = f"bytes {start}-{size - 1}/{size}"
        return 206, {"ETag": etag, "Content-Range": span}, content[start:]

    def log_message(self, *args):
        pass


class Hub:
    """Repositories on a server; large files lie on a second one, behind redirects."""

    def __init__(self, server: Server, storage: Server):
        self.server, self.storage = server, storage

    def add(self, name, files, revision=REVISION, names=(), newest=True, gated=False, hashes=None):
        """Adds a repository at a commit; `names` are its branches, `hashes` replace true ones."""
        siblings = []
        for path, content in files.items():
            place = f"/{name}/resolve/{revision}/{path}"
            entry = {"rfilename": path, "size": len(content), "blobId": "0" * 40}
            if path.endswith((".safetensors", ".bin", ".ckpt")):
                true = hashlib.sha256(content).hexdigest()
                stated = (hashes or {}).get(path, true)
                entry["lfs"] = {"sha256": stated, "size": len(content), "pointerSize": 134}
                self.storage.files[f"/{true}"] = content
                self.server.redirects[place] = f"{self.storage.address}/{true}"
            else:
                self.server.files[place] = content
            siblings.append(entry)
            if gated:
                self.server.guarded.add(place)
        info = {"id": name, "sha": revision, "siblings": siblings, "gated": gated}
        for known in (revision, *names):
            path = f"/api/models/{name}/revision/{known.replace('/', '%2F')}"
            self.server.files[path] = json.dumps(info).encode()
        if newest:
            self.server.files[f"/api/models/{name}"] = json.dumps(info).encode()
