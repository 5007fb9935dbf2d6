import re
from contextlib import contextmanager
from pathlib import Path

import pytest
from coco_folder import CocoFolder, thing

from tcig.data.errors import InputError

SAMPLE = Path(__file__).parents[3] / "shared" / "coco-sample"


@pytest.fixture(scope="session")
def sample():
    """The folder of 50 real images of COCO val2017."""
    if not SAMPLE.is_dir():
        pytest.skip(f"{SAMPLE} is absent: the sample of real COCO images is not in the repository")
    return SAMPLE


@pytest.fixture
def coco(tmp_path):
    """An empty folder to fill; write it with `coco.write()`."""
    return CocoFolder(tmp_path / "coco")


@pytest.fixture
def two_cats(coco):
    """Image 1: two cats, each an eighth of the image; one caption."""
    return coco.add(1, thing("cat", (0, 0, 50, 25)), thing("cat", (50, 50, 50, 25)))


@pytest.fixture
def refuses():
    """A context in which one clear sentence with all these words is raised as InputError."""

    @contextmanager
    def context(*words):
        with pytest.raises(InputError) as caught:
            yield
        text = str(caught.value)
        assert "\n" not in text
        assert text.endswith((".", "?"))
        assert not re.search(r"[.] [A-Z]|[.];", text), f"more than one sentence: {text}"
        for word in words:
            assert str(word) in text

    return context


@pytest.fixture
def empty_server(open_server, monkeypatch):
    """An empty server in place of COCO's."""
    server = open_server()
    monkeypatch.setenv("TCIG_COCO_MIRROR", f"http://127.0.0.1:{server.server_port}/")
    return server
