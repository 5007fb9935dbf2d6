"""The hash that names a run, what it covers, and the seeds of its samples."""

import hashlib
from dataclasses import replace

from tcig.data.files import sha256
from tcig.data.layout import seed_of
from tcig.profiles import load_profile
from tcig.run.spec import RunSpec, choose, prepare

M = "ab" * 32
SPEC = RunSpec(
    method="si",
    version=2,
    code=None,
    options={"steps": 50, "guidance": 7.5},
    profile="paper",
    size=512,
    batch=8,
    device="cuda",
    arithmetic="float16 tf32",
    weights={"unet": "f00"},
    manifest=M,
)
CANONICAL = (
    '{"arithmetic":"float16 tf32","batch":8,"code":null,"device":"cuda","manifest":"' + M + '",'
    '"masks":"true","method":"si","options":{"guidance":7.5,"steps":50},'
    '"profile":"paper","schema_version":4,"seeds":"tcig-1","size":512,"version":2,'
    '"weights":{"unet":"f00"}}'
)
CHANGES = {
    "method": "bld",
    "version": 3,
    "code": "c0de",
    "options": {"steps": 51, "guidance": 7.5},
    "profile": "mini",
    "size": 128,
    "arithmetic": "float32",
    "batch": 4,
    "device": "cpu",
    "weights": {"unet": "f01"},
    "manifest": "cd" * 32,
    "masks": "eroded",
    "seeds": "tcig-2",
}


def test_hash_and_folder_are_of_the_canonical_json_of_every_field():
    digest = hashlib.sha256(CANONICAL.encode()).hexdigest()
    assert SPEC.hash == digest
    assert SPEC.folder == f"si-{digest[:8]}"
    turned = SPEC.model_copy(update={"options": {"guidance": 7.5, "steps": 50}})
    assert turned.hash == SPEC.hash
    assert set(RunSpec.model_fields) == set(CHANGES)
    hashes = {SPEC.model_copy(update={name: value}).hash for name, value in CHANGES.items()}
    assert len(hashes | {SPEC.hash}) == len(CHANGES) + 1


def test_prepare_of_a_method_that_ships(tmp_path):
    mini = load_profile("mini")
    spec, method = prepare("paste", mini, None, M)
    own = {"method": "paste", "version": 1, "options": {}, "weights": {}, "profile": "mini"}
    machine = {"size": 64, "batch": 8, "device": "cpu", "arithmetic": "float32"}
    assert spec == SPEC.model_copy(update=own | machine)
    assert (method.context.size, method.context.coco) == (64, None)
    assert prepare("paste", mini, tmp_path, M)[1].context.coco == tmp_path
    assert prepare("paste", mini, tmp_path, M)[0] == spec


METHOD = """
from dataclasses import dataclass
from tcig.methods.base import Method

@dataclass(frozen=True)
class Few:
    steps: int = {steps}

class Mine(Method):
    Options = Few
    version = {version}
    def generate(self, layouts, seeds, callback=None):
        return []
"""


def test_prepare_of_a_file_knows_its_code_options_and_version(tmp_path):
    path, mini = tmp_path / "mine.py", load_profile("mini")
    hashes = set()
    for steps, version in ((4, 1), (5, 1), (5, 7)):
        path.write_text(METHOD.format(steps=steps, version=version))
        spec, method = prepare(f"{path}:Mine", mini, None, M)
        assert (spec.method, spec.version, spec.options) == ("Mine", version, {"steps": steps})
        assert spec.code == sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
        assert method.options.steps == steps
        hashes.add(spec.hash)
    path.write_text(path.read_text() + "# a remark\n")
    hashes.add(prepare(f"{path}:Mine", mini, None, M)[0].hash)
    assert len(hashes) == 4


def test_a_row_like_another_has_its_options(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'base = "mini"\n[methods.tcig-robust.first]\niterations = 7\n[methods.tcig-robust.second]\n'
        "strength = 0.9\n[methods.tcig-robust-stage1.first]\ncutouts = 3\n"
    )
    profile = load_profile(str(path))
    plain, robust, first = (
        choose(row, profile).options for row in ("tcig", "tcig-robust", "tcig-robust-stage1")
    )
    assert (plain.stages, robust.stages, first.stages) == ("both", "both", "first")
    assert (plain.first.views.count, robust.first.views.count) == (0, 2)
    assert plain.first.iterations != robust.first.iterations == 7
    assert first.first == replace(robust.first, cutouts=3)
    assert first.second == robust.second


def test_a_seed_is_the_first_63_bits_of_the_sha256():
    assert seed_of("55", 0) == 8024989826670665264
    for layout, sample in [("55", 0), ("55", 1), ("a_b.c", 0), ("139", 12)]:
        digest = hashlib.sha256(b"tcig-1/%s/%d" % (layout.encode(), sample)).hexdigest()
        assert seed_of(layout, sample) == int(digest[:16], 16) // 2
