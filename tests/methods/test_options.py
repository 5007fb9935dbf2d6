"""Layers of options, their types, and options that cannot be."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from tcig.methods.base import NoOptions
from tcig.methods.control import ControlNetOptions, GligenOptions, T2IAdapterOptions
from tcig.methods.direct import DirectOptions
from tcig.methods.inpainting import BlendedOptions
from tcig.methods.multidiffusion import Options as MultiDiffusion
from tcig.methods.registry import build_options, parse_settings
from tcig.methods.sampling import SamplingOptions
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


@pytest.mark.parametrize(
    ("kind", "layer", "option", "hint"),
    [
        (Outer, {"stepps": 1}, "stepps", "(did you mean steps?); available: steps, share, flag"),
        (Outer, {"": 1}, "", "; available: steps, share, flag, inner."),
        (Outer, {"inner.rates": 1}, "inner.rates", "(did you mean rate?); available: rate, names"),
        (Outer, {"iner": {"rate": 1}}, "iner", "(did you mean inner?)"),
        (Outer, {"steps.x": 1}, "steps.x", "; available: steps, share, flag, inner."),
        (Outer, {"inner.rate.x": 1}, "inner.rate.x", "; available: rate, names, marks."),
        (Outer, {"inner": 1}, "inner", "; available: steps, share, flag, inner."),
        (NoOptions, {"steps": 1}, "steps", "; available: none; a method declares"),
    ],
)
def test_an_option_that_does_not_exist(kind, layer, option, hint, refused):
    with refused(f"row: no option '{option}'", hint):
        build_options(kind, "row", layer)


NO_WEIGHTS = "both 0: nothing is optimised"
SCALE = "views: scale must be two positive factors, the smaller first"


@pytest.mark.parametrize(
    ("kind", "layer", "said"),
    [
        (Outer, {"steps": "2.5"}, "steps: Input should be a valid integer"),
        (Outer, {"steps": None}, "steps: Input should be a valid integer"),
        (Outer, {"share": "half"}, "share: Input should be a valid number"),
        (Outer, {"flag": "maybe"}, "flag: Input should be a valid boolean"),
        (Outer, {"inner.rate": "fast"}, "inner.rate: Input should be a valid number"),
        (Outer, {"inner.rate": "nan"}, "inner.rate must be a finite number, got nan"),
        (Outer, {"inner.rate": -1}, "inner: rate -1.0 is below 0"),
        (Outer, {"inner.marks": "a,c"}, "inner.marks.1: Input should be 'a' or 'b'"),
        (Outer, {"inner.names": 3}, "inner.names: Input should be a valid tuple"),
        (SamplingOptions, {"steps": 0}, "steps must be at least 1, got 0"),
        (SamplingOptions, {"weights": ""}, "weights is empty: name a model"),
        (BlendedOptions, {"coverage": 1.5}, "coverage must be above 0 and at most 1, got 1.5"),
        (BlendedOptions, {"candidates": 2}, "several candidates need a clip"),
        (BlendedOptions, {"dilation": -1}, "dilation at least 0"),
        (MultiDiffusion, {"bootstrapping": [1]}, "bootstrapping.float: "),
        (ControlNetOptions, {"control": ""}, "control is empty: name a network"),
        (T2IAdapterOptions, {"share": 1.5}, "share must be from 0 to 1, got 1.5"),
        (GligenOptions, {"grounded": -0.1}, "grounded must be from 0 to 1, got -0.1"),
        (DirectOptions, {"recurrence": 0}, "recurrence must be at least 1, got 0"),
        (DirectOptions, {"guides": ()}, "guides is empty"),
        (DirectOptions, {"steps": 0}, "steps must be at least 1, got 0"),
        (DirectOptions, {"views.count": -1}, "views: count must be at least 0, got -1"),
        (DirectOptions, {"views.scale": (1.2, 0.8)}, SCALE),
        (DirectOptions, {"views.scale": (0, 1)}, SCALE),
        (DirectOptions, {"views.noise": -0.1}, "views: rotation, shift and noise must be at least"),
        (TwoStage, {"first.clip_weight": 0, "first.guide_weight": 0}, NO_WEIGHTS),
        (TwoStage, {"first.guides": ()}, "first: guides is empty"),
        (TwoStage, {"first.cutouts": 0}, "cutouts at least 1"),
        (TwoStage, {"first.iterations": -1}, "iterations must be at least 0"),
        (TwoStage, {"second.strength": "2"}, "second: strength must be from 0 to 1, got 2.0"),
        (TwoStage, {"second.strength": 0.01}, "strength 0.01 of 50 steps is not one step"),
    ],
)
def test_a_value_that_an_option_cannot_take(kind, layer, said, refused):
    with refused("row: ", said):
        build_options(kind, "row", layer)


@pytest.mark.parametrize(
    ("value", "share"), [("paper", 0.2), ("code", 0.4), ("off", 0.0), ("0.3", 0.3), (1, 1.0)]
)
def test_bootstrapping_is_a_name_or_a_share(value, share):
    found = build_options(MultiDiffusion, "row", {"bootstrapping": value})
    assert found.bootstrapping == share


@pytest.mark.parametrize("value", ["x", 2, "-0.1", "nan", ""])
def test_bootstrapping_that_is_neither(value, refused):
    with refused("row: ", "is not one of paper, code, off or a share from 0 to 1."):
        build_options(MultiDiffusion, "row", {"bootstrapping": value})


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
        ("text-only", {"steps": 1001}, "1001 steps are more than"),
        ("bld", {"weights": "mini:stable-diffusion-inpainting"}, "takes 9 channels, expected 4"),
        ("si", {"weights": "mini:stable-diffusion"}, "4 channels, expected 9: give an inpaint"),
    ],
)
def test_what_a_model_cannot_do_is_refused_at_once(row, settings, said, refused):
    with refused(said):
        prepare(row, load_profile("mini"), None, "0" * 64, settings)
