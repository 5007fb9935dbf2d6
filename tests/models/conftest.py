import pytest
from hub_server import Hub


@pytest.fixture
def hub(open_server, monkeypatch):
    """An empty hub in place of the real one; its large files lie on another server."""
    found = Hub(open_server(), open_server())
    monkeypatch.setenv("HF_ENDPOINT", Hub.address(found.server))
    return found


@pytest.fixture
def mirror(open_server, monkeypatch):
    """An empty server in place of the addresses of the catalogue."""
    server = open_server()
    monkeypatch.setenv("TCIG_WEIGHTS_MIRROR", f"{Hub.address(server)}/")
    return server
