"""What only a GPU can show, on the miniature models: run `pytest -m gpu` on a machine with one."""

import json

import numpy as np
import pytest
import torch
from random_networks import noise_of_the_cpu, row_of_few_steps

from tcig import cli
from tcig.data.emoji import FOLDER
from tcig.data.filters import Filter
from tcig.data.layout import hash_order
from tcig.data.manifest import build_layouts
from tcig.methods.base import gaussian_on, generators
from tcig.methods.registry import ROWS
from tcig.models.devices import release, set_tf32
from tcig.run import batches
from tcig.run.batches import BatchGenerator

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def layouts():
    return hash_order(build_layouts(FOLDER, Filter())[1])[:2]


@pytest.fixture
def generated(open_rows, layouts):
    """Pixels of a row of few steps on a device."""

    def generate(row, **compute):
        images = row_of_few_steps(row, open_rows, {}, **compute).generate(layouts, [1, 2])
        release()
        return np.stack([np.asarray(image) for image in images]).astype(int)

    return generate


@pytest.mark.parametrize("row", ROWS)
def test_a_row_generates_on_the_gpu_what_it_generates_on_the_processor(row, generated):
    """But for the noise that the GPU draws itself, which here is the processor's."""
    with noise_of_the_cpu():
        there = generated(row, on="cuda")
    assert np.abs(there - generated(row, on="cpu")).mean() < 2


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
def test_half_precision_generates_nearly_the_same(row, precision, generated):
    half = generated(row, on="cuda", precision=precision)
    assert np.abs(half - generated(row, on="cuda")).mean() < 8


@pytest.mark.parametrize("setting", ["tf32", "channels_last", "tiling", "offload", "compile"])
@pytest.mark.parametrize("row", ["multidiffusion", "tcig"])
def test_settings_for_speed_and_memory_keep_the_image(row, setting, generated):
    changed = generated(row, on="cuda", **{setting: True})
    set_tf32(False)
    assert np.abs(changed - generated(row, on="cuda")).mean() < 2


@pytest.mark.parametrize("row", ["si", "multidiffusion"])
def test_a_sample_is_the_same_twice(row, generated):
    assert (generated(row, on="cuda") == generated(row, on="cuda")).all()


def test_offloading_needs_less_memory(generated):
    peaks = {}
    for offload in (False, True):
        release()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        generated("text-only", on="cuda", offload=offload)
        peaks[offload] = torch.cuda.max_memory_allocated() - before
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


def test_a_batch_too_large_for_the_card_is_halved(layouts, monkeypatch):
    method = row_of_few_steps("text-only", {}, {}, on="cuda")
    draw, sizes = method.generate, []

    def greedy(asked, seeds, callback=None):
        sizes.append(len(asked))
        if len(asked) > 2:
            torch.empty(2**50, dtype=torch.uint8, device="cuda")
        return draw(asked, seeds)

    monkeypatch.setattr(method, "generate", greedy)
    generator = BatchGenerator(method, 8)
    generator.size, generator.measured = 8, True
    pairs = [(layout, sample) for layout in layouts for sample in range(4)]
    found = list(generator.generate(pairs))
    assert sizes == [8, 4, 2, 2, 4, 2, 2]
    assert all(png is not None for _, png in found)
