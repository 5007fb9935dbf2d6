"""A local server of the hub's shape: an index of each repository, and files behind a redirect."""

import hashlib
import json

from file_server import Server

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories on a `Server`, at one revision each; large files lie on a second server."""

    def __init__(self, server: Server, storage: Server):
        self.server, self.storage = server, storage

    @staticmethod
    def address(server: Server) -> str:
        return f"http://127.0.0.1:{server.server_port}"

    def add(
        self,
        name: str,
        files: dict[str, bytes],
        revision: str = REVISION,
        newest: bool = True,
        gated: bool = False,
        hashes: dict[str, str] | None = None,
    ) -> None:
        """A repository; `hashes` are stated in place of true ones."""
        siblings = []
        for path, content in files.items():
            place = f"/{name}/resolve/{revision}/{path}"
            entry = {"rfilename": path, "size": len(content), "blobId": "0" * 40}
            if path.endswith((".safetensors", ".bin")):
                true = hashlib.sha256(content).hexdigest()
                stated = (hashes or {}).get(path, true)
                entry["lfs"] = {"sha256": stated, "size": len(content), "pointerSize": 134}
                self.storage.files[f"/{true}"] = content
                self.server.redirects[place] = f"{self.address(self.storage)}/{true}"
            else:
                self.server.files[place] = content
            siblings.append(entry)
            if gated:
                self.server.guarded.add(place)
        info = {"id": name, "sha": revision, "siblings": siblings, "gated": gated}
        body = json.dumps(info).encode()
        self.server.files[f"/api/models/{name}/revision/{revision}"] = body
        if newest:
            self.server.files[f"/api/models/{name}"] = body
