"""Layers of options, their types, and the wording of refusals."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from tcig.cli import main
from tcig.data.files import InputError
from tcig.methods.base import NoOptions
from tcig.methods.blended import Options as Blended
from tcig.methods.multidiffusion import Options as MultiDiffusion
from tcig.methods.settings import build_options, parse_settings
from tcig.methods.two_stage.method import Options as TwoStage
from tcig.profiles import load_profile
from tcig.run.spec import prepare


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    names: tuple[str, ...] = ("x",)
    marks: tuple[Literal["a", "b"], ...] = ()

    def __post_init__(self):
        if self.rate < 0:
            raise ValueError(f"rate {self.rate} is below 0")


@dataclass(frozen=True)
class Outer:
    steps: int = 50
    share: float | None = None
    flag: bool = False
    inner: Inner = field(default_factory=Inner)


def test_later_layers_have_rank_and_leave_the_rest():
    profile = {"steps": 1, "share": 0.1, "inner": {"rate": 2.0, "names": ["p"]}}
    preset = {"steps": 2, "inner.rate": 3.0}
    line = {"steps": "3"}
    found = build_options(Outer, "row", profile, preset, line)
    assert found == Outer(3, 0.1, inner=Inner(3.0, ("p",)))
    reverse = build_options(Outer, "row", line, preset, profile)
    assert reverse == Outer(1, 0.1, inner=Inner(2.0, ("p",)))
    assert profile["inner"] == {"rate": 2.0, "names": ["p"]}
    assert build_options(Outer, "row", {}, {}) == Outer()


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ({"steps": "7"}, Outer(steps=7)),
        ({"share": "0.25"}, Outer(share=0.25)),
        ({"flag": "true"}, Outer(flag=True)),
        ({"flag": "0"}, Outer(flag=False)),
        ({"inner.rate": 2}, Outer(inner=Inner(2.0))),
        ({"inner": {"rate": "2"}}, Outer(inner=Inner(2.0))),
        ({"inner.marks": "b,a"}, Outer(inner=Inner(marks=("b", "a")))),
        ({"inner.names": "a, b"}, Outer(inner=Inner(names=("a", "b")))),
        ({"inner.names": ",a,"}, Outer(inner=Inner(names=("a",)))),
        ({"inner.names": ""}, Outer(inner=Inner(names=()))),
        ({"inner.names": ["a", "b,c"]}, Outer(inner=Inner(names=("a", "b,c")))),
    ],
)
def test_texts_become_what_the_field_is(layer, expected):
    found = build_options(Outer, "row", layer)
    assert found == expected
    assert type(found.steps) is int
    assert build_options(Blended, "bld", {"negative": "a,b"}).negative == "a,b"


@pytest.mark.parametrize(
    ("kind", "layer", "option", "hint"),
    [
        (Outer, {"stepps": 1}, "stepps", "(did you mean steps?): there are steps, share, flag"),
        (Outer, {"": 1}, "", "there are steps, share, flag, inner."),
        (Outer, {"inner.rates": 1}, "inner.rates", "(did you mean rate?): there are rate, names"),
        (Outer, {"iner": {"rate": 1}}, "iner.rate", "(did you mean inner?)"),
        (Outer, {"steps": {"x": 1}}, "steps.x", "there are steps, share, flag, inner."),
        (Outer, {"inner.rate.x": 1}, "inner.rate.x", "there are rate, names, marks."),
        (Outer, {"inner": 1}, "inner", "there are steps, share, flag, inner."),
        (NoOptions, {"steps": 1}, "steps", "there are none; a method declares"),
    ],
)
def test_an_option_that_does_not_exist(kind, layer, option, hint, refused):
    with refused(f"row: no option '{option}'", hint):
        build_options(kind, "row", layer)


@pytest.mark.parametrize(
    ("kind", "layer", "parts"),
    [
        (Outer, {"steps": "2.5"}, ("row: steps: ", "valid integer")),
        (Outer, {"steps": None}, ("row: steps: ", "valid integer")),
        (Outer, {"share": "half"}, ("row: share: ", "valid number")),
        (Outer, {"flag": "maybe"}, ("row: flag: ", "valid boolean")),
        (Outer, {"inner.rate": "fast"}, ("row: inner.rate: ", "valid number")),
        (Outer, {"inner.marks": "a,c"}, ("row: inner.marks: ", "'a' or 'b'")),
        (Outer, {"inner.names": 3}, ("row: inner.names: ", "valid tuple")),
        (Blended, {"candidates": 2}, ("row: several candidates need a clip",)),
        (TwoStage, {"second.strength": "2"}, ("row: second: strength must be from 0 to 1",)),
    ],
)
def test_a_value_that_an_option_cannot_take(kind, layer, parts, refused):
    with refused(*parts):
        build_options(kind, "row", layer)


@pytest.mark.parametrize(
    ("value", "share"), [("paper", 0.2), ("code", 0.4), ("off", 0.0), ("0.3", 0.3), (1, 1.0)]
)
def test_bootstrapping_is_a_name_or_a_share(value, share, refused):
    found = build_options(MultiDiffusion, "multidiffusion", {"bootstrapping": value})
    assert found.bootstrapping == share
    for wrong in ("x", 2, "-0.1", "nan", ""):
        with refused("multidiffusion: ", "is none of paper, code, off and no share from 0 to 1."):
            build_options(MultiDiffusion, "multidiffusion", {"bootstrapping": wrong})


def test_assignments_are_sorted_by_row():
    found = parse_settings(
        ["si.guidance=5", "tcig.first.rate=0.1", "si.negative=a=b.c", "si.guidance=6", "bld.clip="],
        ["si", "bld", "tcig", "real"],
    )
    assert found == {
        "si": {"guidance": "6", "negative": "a=b.c"},
        "bld": {"clip": ""},
        "tcig": {"first.rate": "0.1"},
        "real": {},
    }
    built = build_options(TwoStage, "tcig", {"first": {"rate": 9.0}}, found["tcig"])
    assert built.first.rate == 0.1


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["", "si", "guidance=5", "si.=5", "=", "si=4.5"], ": give ROW.OPTION=VALUE"),
        (["bld.steps=5", ".steps=5", "sii.steps=5"], ": the rows here are si, real."),
    ],
)
def test_an_assignment_of_another_form_or_row(texts, said, refused):
    for text in texts:
        with refused(f"--set {text!r}{said}"):
            parse_settings([text], ["si", "real"])


@pytest.mark.parametrize(
    ("row", "settings", "said"),
    [
        ("text-only", {"steps": 0}, "steps must be at least 1, got 0"),
        ("text-only", {"steps": 1001}, "1001 steps are more than"),
        ("si", {"coverage": 0}, "coverage must be above 0 and at most 1, got 0.0"),
        ("bld", {"coverage": 1.5}, "coverage must be above 0 and at most 1, got 1.5"),
        ("multidiffusion", {"bootstrapping": [1]}, "multidiffusion: bootstrapping: "),
        ("bld", {"weights": "mini:stable-diffusion-inpainting"}, "takes 9 channels, 4 are needed"),
        ("si", {"weights": "mini:stable-diffusion"}, "4 channels, 9 are needed: give an inpaint"),
    ],
)
def test_what_a_sampler_cannot_do_is_refused_at_once(row, settings, said):
    with pytest.raises(InputError) as caught:
        prepare(row, load_profile("mini"), None, "0" * 64, settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["nan", "-inf"])
def test_an_option_must_be_a_finite_number(value, capsys):
    arguments = ["run", "--methods", "tcig-stage1", "--set", f"tcig-stage1.first.rate={value}"]
    assert main([*arguments, "--check"]) == 2
    assert "first.rate must be a finite number" in capsys.readouterr().err
