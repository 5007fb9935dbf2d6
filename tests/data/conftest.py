import pytest
from coco_folder import CocoFolder, thing


@pytest.fixture
def coco(tmp_path):
    """An empty folder to fill; write it with `coco.write()`."""
    return CocoFolder(tmp_path / "coco")


@pytest.fixture
def two_cats(coco):
    """Image 1: two cats, each an eighth of the image; one caption."""
    return coco.add(1, thing("cat", (0, 0, 50, 25)), thing("cat", (50, 50, 50, 25)))


@pytest.fixture
def empty_server(open_server, monkeypatch):
    """An empty server in place of COCO's."""
    server = open_server()
    monkeypatch.setenv("TCIG_COCO_MIRROR", f"{server.address}/")
    return server
