"""A local server of files that can be told to answer wrongly."""

import hashlib
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Fault:
    """What the next answer for a path does instead of the right thing."""

    status: int = 0
    headers: dict = field(default_factory=dict)
    cut: int | None = None  # body bytes sent before the connection is closed
    stall: float = 0  # seconds until then
    ignore_range: bool = False
    swap: bytes | None = None  # what the file contains after this answer


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.log = {}, {}, []
        self.redirects, self.guarded, self.token = {}, set(), None
        self.active = self.most_active = self.delay = 0
        self.lock = threading.Lock()

    def asked(self, path):
        return [headers for logged, headers, _ in self.log if logged == path]

    def sent(self, path):
        return sum(sent for logged, _, sent in self.log if logged == path)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        with server.lock:
            server.active += 1
            server.most_active = max(server.most_active, server.active)
        time.sleep(server.delay)
        with server.lock:
            server.active -= 1
            faults = server.faults.get(self.path, [])
            fault = faults.pop(0) if faults else Fault()
            status, headers, body = self.answer(fault)
            sent = body if fault.cut is None else body[: fault.cut]
            server.log.append((self.path, dict(self.headers), len(sent)))
            if fault.swap is not None:
                server.files[self.path] = fault.swap
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(body), **fault.headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(sent)
        self.wfile.flush()
        time.sleep(fault.stall)
        self.close_connection |= fault.cut is not None

    def answer(self, fault):
        server, (path, _, _) = self.server, self.path.partition("?")
        if path in server.guarded and self.headers.get("Authorization") != f"Bearer {server.token}":
            return 401, {"X-Error-Code": "GatedRepo"}, b""
        if not fault.status and path in server.redirects:
            return 302, {"Location": server.redirects[path]}, b""
        content = server.files.get(path)
        if fault.status or content is None:
            code = "RepoNotFound" if path.startswith("/api/models/") else "EntryNotFound"
            return fault.status or 404, {"X-Error-Code": code}, b""
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
