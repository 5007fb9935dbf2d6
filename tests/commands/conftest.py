"""A profile whose methods take next to no steps."""

import pytest

from tcig.cli import main

PROFILE = """
size = 64
score_size = 64
judges = ["colours"]
batch = 8
embedded = true

[methods.text-only]
weights = "mini:stable-diffusion"
steps = 1

[methods.multidiffusion]
weights = "mini:stable-diffusion"
steps = 2

[methods.tcig.first]
vqgan = "mini:vqgan"
clip = "mini:clip"
guides = ["mini:guide"]
iterations = 2
cutouts = 2
guide_size = 64

[methods.tcig.second]
pipeline = "mini:stable-diffusion"
steps = 2
"""


@pytest.fixture(scope="session")
def quick(tmp_path_factory):
    path = tmp_path_factory.mktemp("profile") / "quick.toml"
    path.write_text(PROFILE)
    return path


@pytest.fixture
def tcig(capsys):
    """Runs a command: its status, and what it printed."""

    def call(*arguments):
        status = main([str(each) for each in arguments])
        return status, capsys.readouterr()

    return call


@pytest.fixture
def refuse(tcig):
    """Runs a command that must end in status 2 and one line with these words."""

    def call(said, *arguments):
        status, printed = tcig(*arguments)
        assert status == 2
        assert said in printed.err
        assert printed.err.count("\n") == 1

    return call
