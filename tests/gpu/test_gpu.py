"""What only a GPU can show, on the miniature models: run `pytest -m gpu` on a machine with one."""

import json

import numpy as np
import pytest
import torch

from tcig import cli
from tcig.data.emoji import FOLDER
from tcig.data.filters import Filter
from tcig.data.layout import hash_order
from tcig.data.manifest import build_layouts
from tcig.methods import views
from tcig.methods.base import gaussian, gaussian_on, generators
from tcig.methods.registry import ROWS
from tcig.methods.two_stage import cutouts
from tcig.models.devices import Compute, release, set_tf32
from tcig.profiles import load_profile
from tcig.run import batches
from tcig.run.batches import BatchGenerator, BatchSizer, CudaMemory
from tcig.run.spec import prepare

pytestmark = pytest.mark.gpu
FEW = {
    "direct-guidance": {"steps": 4, "recurrence": 2},
    "text-only": {"steps": 4},
    "si": {"steps": 3},
    "controlnet": {"steps": 3},
    "t2i-adapter": {"steps": 3},
    "gligen": {"steps": 4},
    "bld": {"steps": 4},
    "multidiffusion": {"steps": 5},
    "tcig": {"first.iterations": 3, "first.cutouts": 4, "second.steps": 10},
}


@pytest.fixture(scope="module")
def layouts():
    return hash_order(build_layouts(FOLDER, Filter())[1])[:2]


@pytest.fixture(autouse=True)
def _completed(open_rows, monkeypatch):
    """The rows that `smoke` leaves open, with random weights."""
    for row, settings in open_rows.items():
        monkeypatch.setitem(FEW, row, FEW[row] | settings)


def drawn(row, layouts, cpu_noise=False, **compute):
    profile = load_profile("smoke").model_copy(update={"compute": Compute(**compute)})
    _, method = prepare(row, profile, FOLDER, "0" * 64, FEW.get(ROWS[row].method, {}))
    with pytest.MonkeyPatch.context() as patch:
        if cpu_noise:
            for module in (views, cutouts):
                patch.setattr(
                    module, "gaussian_on", lambda device, *given: gaussian(*given).to(device)
                )
        images = method.generate(layouts, [1, 2])
    release()
    return np.stack([np.asarray(image) for image in images]).astype(int)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_draws_on_the_gpu_what_it_draws_on_the_processor(row, layouts):
    """But for the noise that the GPU draws itself, which here is the processor's."""
    there = drawn(row, layouts, cpu_noise=True, on="cuda")
    assert np.abs(there - drawn(row, layouts, on="cpu")).mean() < 2


def test_noise_drawn_on_the_gpu_is_the_samples_own():
    device = torch.device("cuda")
    together = gaussian_on(device, generators([1, 2, 3]), (3, 64, 64))
    (alone,) = gaussian_on(device, generators([2]), (3, 64, 64))
    assert torch.equal(together[1], alone)
    assert together.std().item() == pytest.approx(1, abs=0.02)
    assert not torch.equal(together[0], together[1])


HALF = ["text-only", "si", "bld", "multidiffusion", "controlnet", "t2i-adapter", "gligen", "tcig"]
CASES = [(row, precision) for row in HALF for precision in ("float16", "bfloat16")]
CASES += [("direct-guidance", "float16")]


@pytest.mark.parametrize(("row", "precision"), CASES)
def test_half_precision_draws_nearly_the_same(row, precision, layouts):
    half = drawn(row, layouts, on="cuda", precision=precision)
    assert np.abs(half - drawn(row, layouts, on="cuda")).mean() < 8


@pytest.mark.parametrize("setting", ["tf32", "channels_last", "tiling", "offload", "compile"])
@pytest.mark.parametrize("row", ["multidiffusion", "tcig"])
def test_settings_for_speed_and_memory_keep_the_image(row, setting, layouts):
    changed = drawn(row, layouts, on="cuda", **{setting: True})
    set_tf32(False)
    assert np.abs(changed - drawn(row, layouts, on="cuda")).mean() < 2


def test_a_sample_is_the_same_twice(layouts):
    for row in ("si", "multidiffusion"):
        np.testing.assert_array_equal(
            drawn(row, layouts, on="cuda"), drawn(row, layouts, on="cuda")
        )


def test_the_memory_reads_torchs_allocator():
    memory = CudaMemory()
    torch.cuda.empty_cache()
    kept = torch.empty(2**20, device="cuda")
    memory.start()
    free = memory.free()
    more = torch.empty(2**24, dtype=torch.uint8, device="cuda")
    assert 2**24 <= memory.used() < 2**24 + 2**21
    assert memory.peak() >= 2**24 + 4 * kept.numel()
    assert memory.free() <= free - 2**24 + 2**21
    del more


def test_offloading_needs_less_memory(layouts):
    memory, peaks = CudaMemory(), {}
    for offload in (False, True):
        release()
        memory.start()
        drawn("text-only", layouts[:1], on="cuda", offload=offload)
        peaks[offload] = memory.used()
    assert peaks[True] < peaks[False]


def test_a_run_has_its_peak_and_device_in_every_row(tmp_path, monkeypatch):
    profile = tmp_path / "on-gpu.toml"
    profile.write_text('base = "smoke"\nbatch = 4\n[compute]\non = "cuda"\nprecision = "auto"\n')
    monkeypatch.setattr(batches, "MEMORY_SHARE", 0.5)
    arguments = ["--profile", str(profile), "--limit", "6", "--out", str(tmp_path / "runs")]
    assert cli.main(["run", *arguments, "--methods", "text-only", "tcig"]) == 0
    for path in (tmp_path / "runs").glob("*/rows.jsonl"):
        rows = [json.loads(line) for line in path.open()]
        assert [row["batch"] for row in rows] == [1, 4, 4, 4, 4, 1]
        assert all(row["peak_device_mib"] > 0 for row in rows)
        assert {row["device"] for row in rows} == {torch.cuda.get_device_name()}


def test_a_batch_too_large_for_the_card_is_halved(tmp_path, layouts, monkeypatch):
    profile = load_profile("smoke").model_copy(update={"compute": Compute(on="cuda")})
    _, method = prepare("text-only", profile, FOLDER, "0" * 64, FEW["text-only"])
    draw, sizes = method.generate, []

    def greedy(asked, seeds, callback=None):
        sizes.append(len(asked))
        if len(asked) > 2:
            torch.empty(2**50, dtype=torch.uint8, device="cuda")
        return draw(asked, seeds)

    monkeypatch.setattr(method, "generate", greedy)
    generator = BatchGenerator(method, 8)
    generator.sizer = held = BatchSizer(8, CudaMemory())
    pairs = [(layout, sample) for layout in layouts for sample in range(4)]
    held.size = 8
    found = list(generator.generate(pairs))
    assert sizes == [8, 4, 2, 2, 4, 2, 2]
    assert all(png is not None for _, png in found)
