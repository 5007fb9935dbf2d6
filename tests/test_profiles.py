"""Profiles: those shipped fit every row's options, and one may take the rest from another."""

import pytest

from tcig.data.files import InputError
from tcig.methods.registry import ROWS
from tcig.models.sources import catalogue
from tcig.models.weights import local
from tcig.profiles import load_profile, names
from tcig.run.spec import choose, choose_rows, needs

OPEN = {
    ("tcig-two-guides", name): "guides is empty: name one or more"
    for name in names()
    if name.startswith("paper")
}
"""Rows that a profile leaves to be completed, and what is said: no experts are published, and no
miniature of two networks is trained."""
for _name in ("mini", "mini-fast", "smoke"):
    OPEN[("controlnet", _name)] = "control is empty: name a network"
    OPEN[("gligen", _name)] = "weights is empty: name a model"


OWN = """
from dataclasses import dataclass

from tcig.methods.base import Method


@dataclass(frozen=True)
class Settings:
    level: int = 1


class Own(Method):
    Options = Settings
    version = 1

    def generate(self, layouts, seeds, callback=None):
        return []
"""


@pytest.mark.parametrize("name", names())
def test_every_row_has_its_options_and_another_judge_than_its_guides(name):
    profile = load_profile(name)
    assert profile.scorer
    assert list(profile.rows) == [row for row in ROWS if (row, name) not in OPEN]
    for row in ROWS:
        if (row, name) in OPEN:
            with pytest.raises(InputError, match=OPEN[row, name]):
                choose(row, profile)
        else:
            sources = choose(row, profile).sources
            assert profile.scorer not in sources
            assert all(local(source) is not None or source in catalogue() for source in sources)


STEERED = {
    "v1-5", "control_v11p_sd15_seg", "t2iadapter_seg_sd14v1", "gligen-1-4-generation-text-box",
}  # fmt: skip
TWO = STEERED | {"2-base", "2-1-base", "2-inpainting"}


@pytest.mark.parametrize(
    ("name", "endings"),
    [
        ("paper", TWO),
        ("paper-small", TWO),
        ("paper-sd15", STEERED | {"inpainting"}),
        ("paper-sdxl", TWO | {"xl-base-1.0"}),
        ("paper-if", TWO | {"IF-I-M-v1.0", "IF-II-M-v1.0"}),
    ],
)
def test_what_the_paper_profiles_need(name, endings):
    kinds = {entry.name: entry.kind for entry in catalogue().values()}
    sources = needs(load_profile(name))
    pipelines = {source for source in sources if kinds[source] == "diffusers"}
    names = {source.rpartition("/")[2].removeprefix("stable-diffusion-") for source in pipelines}
    assert names == endings
    others = sorted(kinds[source] for source in sources if source not in pipelines)
    assert others == ["clip", "clip", "deeplabv3", "inception", "mask2former", "vqgan"]
    quality = set(sources) - set(needs(load_profile(name), quality=False))
    assert quality == {"timm/vit_large_patch14_clip_224.openai", "inception_2015_12_05"}
    rows = choose_rows(load_profile(name), ["paste"])
    judges = needs(load_profile(name), rows, quality=False)
    assert {kinds[judge] for judge in judges} == {"mask2former", "deeplabv3"}


def test_the_miniatures_need_nothing():
    assert needs(load_profile("mini")) == needs(load_profile("smoke")) == []


@pytest.fixture
def write(tmp_path):
    def build(name, text):
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        return str(path)

    return build


def test_a_profile_takes_from_its_base_what_it_does_not_say(write):
    path = write(
        "mine", 'base = "mini"\nbatch = 3\n[methods.si]\nsteps = 7\n[methods.own]\na = 1\n'
    )
    mine, base = load_profile(path), load_profile("mini")
    assert (mine.name, mine.batch, mine.size) == ("mine", 3, base.size)
    assert mine.methods["si"] == base.methods["si"] | {"steps": 7}
    assert mine.methods["own"] == {"a": 1}
    assert mine.methods["tcig"] == base.methods["tcig"]
    nested = load_profile(write("nested", 'base = "mini"\n[methods.tcig.first]\nrate = 0.5\n'))
    first = base.methods["tcig"]["first"]
    assert nested.methods["tcig"]["first"] == first | {"rate": 0.5}
    assert nested.methods["tcig"]["second"] == base.methods["tcig"]["second"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("base = 3", "base must be the name of a profile"),
        ("size = 1000000000", "size: Input should be less than or equal to"),
        ("judges = [3]", "judges.0: Input should be a valid string"),
        ("speed = 3", "speed: Extra inputs"),
    ],
)
def test_a_profile_that_cannot_be_is_refused(write, line, said):
    with pytest.raises(InputError, match=said):
        load_profile(write("mine", line if line.startswith("base") else f'base = "mini"\n{line}'))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[methods.tcgi]\nsize = 64", r"\[methods.tcgi\] is of no row \(did you mean tcig\?\)"),
        ("[methods.Stripes]\ncolour = 1", "name the class of a method of your own in rows"),
        ("[methods.bld]\nstpes = 3", r"bld: no option 'stpes' \(did you mean steps\?\)"),
        ("[methods.tcig.first]\nrates = 3", r"no option 'first.rates' \(did you mean rate\?\)"),
    ],
)
def test_a_misspelt_name_is_an_error_whatever_rows_are_chosen(write, table, said):
    profile = load_profile(write("mine", f'base = "mini"\n{table}\n'))
    for chosen in ([], ["paste"]):
        with pytest.raises(InputError, match=said):
            choose_rows(profile, chosen)


def test_a_method_of_ones_own_has_a_table_where_it_is_named(write, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    table = 'base = "mini"\n[methods.Own]\nlevel = 3\n'
    profile, path = load_profile(write("one", table)), f"{tmp_path}/own.py:Own"
    (own,) = choose_rows(profile, [path])
    assert own.options.level == 3
    (own,) = choose_rows(profile, [path], ["Own.level=4"])
    assert own.options.level == 4
    listed = load_profile(write("two", f'rows = ["{path}"]\n{table}'))
    assert [each.row for each in choose_rows(listed, ["paste"])] == ["paste"]
    assert [each.row for each in choose_rows(listed)] == ["Own"]
