"""The recipes on pools of a few scenes: the command trains all, and each loss has its oracle."""

import json
import shutil
from multiprocessing import dummy
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionAdapterPipeline, StableDiffusionInpaintPipeline, T2IAdapter
from PIL import Image

from tcig.data.emoji.scenes import scene
from tcig.data.files import sha256
from tcig.data.voc import CLASSES, COLOURS, with_article
from tcig.models import mini
from tcig.models.clip import load_clip
from tcig.models.mini.train import __main__ as command
from tcig.models.mini.train import data
from tcig.models.mini.train.recipes import RECIPES, autoencoders, clips, diffusion, segmenters
from tcig.models.vqgan import load_vqgan

FEW = 12
SHIPPED = mini.WEIGHTS
QUIET = {"num_inference_steps": 2, "output_type": "np", "height": 64, "width": 64}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folders of weights and of trainings after two steps of every model."""
    weights, folder = (tmp_path_factory.mktemp(name) for name in ("weights", "training"))
    skipped = shutil.ignore_patterns("*.safetensors", *(f"{name}.json" for name in RECIPES))
    shutil.copytree(SHIPPED, weights, ignore=skipped, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mini, "WEIGHTS", weights)
        patch.setattr(data, "POOL_SIZE", FEW)
        patch.setattr(data, "multiprocessing", Mock(get_context=lambda _: dummy))  # threads
        patch.setattr(clips, "HELD_OUT", FEW)
        patch.setattr(segmenters, "SCENES", FEW)
        patch.setattr(segmenters, "RECONSTRUCTIONS", FEW)
        patch.setattr(command, "VALIDATION_SCENES", 4)
        held_out = data.held_out
        few = lambda split, kind, count: held_out(split, kind, min(count, 4))  # noqa: E731
        for module in (autoencoders, diffusion):
            patch.setattr(module, "held_out", few)
        for recipe in RECIPES.values():
            patch.setattr(recipe, "batch", min(recipe.batch, 6))
        run(patch, "all", "--minutes", "1e-6", "--folder", str(folder))
        checkpoint = folder / "vqgan" / "checkpoint.pt"
        state = torch.load(checkpoint, weights_only=True)
        torch.save(state | {"progress": (1, 0.0, 0)}, checkpoint)  # as if no time had passed
        run(patch, "vqgan", "--minutes", "1e-6", "--folder", str(folder))
        yield weights, folder


def run(patch, *arguments):
    patch.setattr("sys.argv", ["train", *arguments])
    command.main()


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_command_trains_resumes_and_ships_each_model_on_those_before_it(trained):
    weights, folder = trained
    cards = {path.stem: json.loads(path.read_text()) for path in weights.glob("*.json")}
    assert set(cards) == set(RECIPES)
    for name, card in cards.items():
        assert card["steps"] == (2 if name == "vqgan" else 1)  # it was resumed
        assert all(sha256(weights / file) == identity for file, identity in card["files"].items())
        assert (folder / name / "log.csv").read_text().count("\n") == 1 + card["steps"]
    vae = cards["vae"]["files"]["stable-diffusion/vae/diffusion_pytorch_model.safetensors"]
    assert (folder / f"latents-scenes-{FEW}-{vae[:8]}.npy").exists()
    shipped = {path.relative_to(SHIPPED) for path in SHIPPED.rglob("*")}
    assert {path.relative_to(weights) for path in weights.rglob("*")} == shipped


def test_the_libraries_load_what_was_trained(trained):
    weights, _ = trained
    assert load_vqgan(weights / "vqgan")(torch.zeros(1, 3, 64, 64)).shape == (1, 3, 64, 64)
    assert load_clip(weights / "clip-score").encode_texts(["a cat"]).shape == (1, 128)
    adapter = T2IAdapter.from_pretrained(weights / "t2i-adapter")
    base = weights / "stable-diffusion"
    pipeline = StableDiffusionAdapterPipeline.from_pretrained(base, adapter=adapter)
    image = Image.new("RGB", (64, 64))
    assert pipeline("a cat", image=image, **QUIET).images.shape == (1, 64, 64, 3)
    fill = StableDiffusionInpaintPipeline.from_pretrained(weights / "stable-diffusion-inpainting")
    assert fill("a cat", image=image, mask_image=image, **QUIET).images.shape == (1, 64, 64, 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["vae", "--minutes", "0"], "--minutes must be more than 0"),
        (["all", "--continue"], "is not shipped"),
    ],
)
def test_training_refuses_no_time_and_no_weights(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.setattr(mini, "WEIGHTS", tmp_path)
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *arguments, "--folder", str(tmp_path))
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_autoencoders_train_on_crops_first_and_whole_images_later(trained):
    recipe = RECIPES["vae"]
    crops, whole = (recipe.images(rng(), progress) for progress in (0.1, 0.9))
    assert crops.shape == (24, 3, 32, 32)
    pools = [pool["image"] for pool in (recipe.scenes, recipe.portraits)]
    known = {view.tobytes() for pool in pools for image in pool for view in (image, image[:, ::-1])}
    for pixels in ((whole + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy():
        assert pixels.tobytes() in known


def test_vae_loss_pulls_the_latents_towards_the_unit_gaussian(trained, monkeypatch):
    monkeypatch.setattr(autoencoders, "KL_WEIGHT", 1.0)
    for mean, logvar, kl in ((0, 0, 0), (1, 0, 0.5), (0, -2, 0.5 * (np.exp(-2) + 1))):
        loss = RECIPES["vae"].loss(
            lambda x, noise, m=mean, v=logvar: (x, noise * 0 + m, noise * 0 + v), rng(), 0.9
        )
        assert loss.item() == pytest.approx(kl * 4 * 256, rel=1e-4, abs=1e-6)


def test_the_codebook_is_filled_and_reseeded_from_the_latents(trained):
    recipe = RECIPES["vqgan"]
    model = recipe.build().train()
    model(recipe.images(rng(), 0.9))
    recipe.after_step(model, autoencoders.UNQUANTISED_STEPS, rng())
    rows = {tuple(row.tolist()) for row in model.latents}
    assert {tuple(code.tolist()) for code in model.vqgan.codebook} <= rows
    before = model.vqgan.codebook.detach().clone()
    model.used[[3, 8]] = 0
    model.latents = torch.full((1, 8), 0.25)
    recipe.after_step(model, 10 * autoencoders.RESEED_STEPS, rng())
    assert (model.vqgan.codebook != before).any(1).nonzero().flatten().tolist() == [3, 8]


def test_crops_hold_the_object_that_their_prompt_names():
    records = data.held_out("tuning", "portraits", 20).copy()
    records["labels"][0] = 0  # an image without objects stays whole
    crops, prompts = clips.crop_objects(records, rng(3))
    assert prompts == [record["captions"][2].decode() for record in records]
    assert torch.allclose(crops[0], data.to_float(records["image"])[0], atol=1e-5)
    for record, crop in zip(records[1:], crops[1:], strict=True):
        colour = torch.tensor(record["image"][record["labels"] > 0].mean(0) / 255).view(3, 1, 1)
        assert (crop - colour).abs().mean(0).lt(0.35).float().mean() > 0.15


def test_contrastive_loss_takes_equal_captions_as_one(trained, monkeypatch):
    recipe, vectors = RECIPES["clip-score"], torch.eye(3)[[0, 1, 0, 2]]
    examples = torch.zeros(4, 3, 64, 64), ["a cat", "a dog", "a cat", "a bus"]
    monkeypatch.setattr(recipe, "examples", lambda _: examples)
    right = recipe.loss(lambda *_: (vectors, vectors, 50.0), rng(), 0)
    assert right == pytest.approx(np.log(2) / 2, abs=1e-4)  # two captions share half the rows
    assert recipe.loss(lambda *_: (vectors, vectors.roll(1, 0), 50.0), rng(), 0) > 10


def test_masks_are_objects_boxes_or_rectangles_with_their_prompts():
    records = data.held_out("tuning", "scenes", 60)
    indices = {with_article(c.label): c.index for c in CLASSES}
    kinds = {"object": 0, "box": 0, "rectangle": 0}
    masks, prompts = diffusion.random_masks(records, rng(5))
    for record, mask, prompt in zip(records, masks.numpy(), prompts, strict=True):
        if prompt == record["captions"][0]:
            kinds["rectangle"] += 1
            continue
        truth = record["labels"] == indices[prompt.decode()]
        rows, columns = np.nonzero(truth)
        assert not (truth & ~mask).any()
        kinds["object" if (mask == truth).all() else "box"] += 1
        if (mask != truth).any():
            assert mask.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert kinds["object"] > kinds["box"] > 2
    assert kinds["rectangle"] > 2


def test_the_denoising_loss_is_zero_for_the_truth_and_weighted_by_min_snr(trained):
    recipe = RECIPES["stable-diffusion"]
    records, latents, tokens = recipe.random_batch(rng(1))
    assert torch.allclose(recipe.encode(records["image"]), latents, atol=5e-3)  # stored in half
    seen = {}

    def oracle(noisy, times, words):
        """Knows the clean latents, hence the velocity."""
        alpha = recipe.alphas[times].view(-1, 1, 1, 1)
        noise = (noisy - alpha.sqrt() * latents) / (1 - alpha).sqrt()
        seen.update(times=times, words=words)
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * latents

    assert recipe.denoising_loss(oracle, latents, tokens, rng(2)) < 1e-6
    snr = recipe.alphas[seen["times"]] / (1 - recipe.alphas[seen["times"]])
    error = recipe.denoising_loss(lambda *x: oracle(*x) + 2, latents, tokens, rng(2))
    assert error == pytest.approx(4 * (snr.clamp(max=5) / (snr + 1)).mean().item(), rel=1e-4)
    assert sorted(seen["times"].tolist() // np.array(1000 / 6)) == list(range(6))
    latents = torch.zeros(600, 4, 16, 16)
    recipe.denoising_loss(oracle, latents, tokens[:1].repeat(600, 1), rng(4))
    assert 40 < (seen["words"] == recipe.empty).all(1).sum() < 80  # a tenth of the captions


def test_inpainting_starts_as_the_text_to_image_model(trained):
    """The five new input channels have no weight yet: the same prediction whatever they hold."""
    base, filled = diffusion.load_text_to_image(), RECIPES["stable-diffusion-inpainting"].build()
    noisy, words = torch.randn(2, 4, 16, 16, generator=rng()), torch.zeros(2, 40, dtype=torch.long)
    extra = torch.randn(2, 5, 16, 16, generator=rng(1))
    with torch.inference_mode():
        outputs = [
            model.eval()(inputs, torch.tensor([10, 900]), words)
            for model, inputs in ((base, noisy), (filled, torch.cat([noisy, extra], 1)))
        ]
    assert torch.allclose(*outputs, atol=1e-4)
    assert not any(p.requires_grad for p in filled.text_encoder.parameters())


def test_the_adapter_alone_is_trained_early_in_sampling_on_coloured_class_maps(trained):
    recipe = RECIPES["t2i-adapter"]
    assert not any("base" in key for key in recipe.build().state_dict())
    times = recipe.timesteps(torch.rand(20_000, generator=rng(3)))
    assert times.min() >= 0
    assert times.max() == 999
    for share in (0.25, 0.5, 0.75):  # P(1 - u^3 < x) = 1 - (1 - x)^(1/3)
        expected = 1 - (1 - share) ** (1 / 3)
        assert (times < 1000 * share).float().mean() == pytest.approx(expected, abs=0.01)
    records, latents, tokens = recipe.random_batch(rng(7))
    seen = []
    forward = lambda latents, times, tokens, maps: seen.append(maps) or latents  # noqa: E731
    recipe.conditional_loss(forward, records, latents, tokens, rng())
    colours = (seen[0] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    assert np.array_equal(colours, np.array(COLOURS, np.uint8)[records["labels"]])


def test_guides_alone_learn_from_reconstructions_which_keep_the_labels(tmp_path, monkeypatch):
    monkeypatch.setattr(mini, "WEIGHTS", SHIPPED)
    monkeypatch.setattr(data, "multiprocessing", Mock(get_context=lambda _: dummy))
    pool = segmenters.reconstruction_pool(tmp_path, 30, 12)
    truth = data.scene_pool(tmp_path, 30, 12, ("noto",))
    assert np.array_equal(pool["labels"], truth["labels"])
    error = np.abs(pool["image"].astype(float) - truth["image"]).mean((1, 2, 3))
    vae, vqgan, half = error.reshape(3, 4).mean(1)
    assert 0.5 < vae < vqgan < 16
    assert half > 1.3 * vqgan
    reconstructions = {name for name, r in RECIPES.items() if "reconstructions" in r.data}
    assert reconstructions == {"guide", "guide-animals", "guide-objects"}


def test_segmentation_loss_is_least_for_the_truth():
    labels = torch.tensor([[[0, 3], [3, 7]]])
    right = 20.0 * torch.nn.functional.one_hot(labels, 21).movedim(-1, 1)
    assert segmenters.segmentation_loss(right, labels) < 1e-4
    assert segmenters.segmentation_loss(right.roll(1, 1), labels) > 1
    assert segmenters.segmentation_loss(torch.zeros_like(right), labels) == pytest.approx(
        np.log(21) + 1 - np.mean([2 * n / 21 / (4 / 21 + n) for n in (1, 2, 1)]), rel=1e-5
    )


def test_mean_iou_is_one_for_the_truth_and_zero_for_background():
    labels = RECIPES["guide-animals"].labels
    truth = {s.image.tobytes(): s.label_map() for s in (scene("tuning", i) for i in range(40))}

    def oracle(images):
        pixels = (images * 255).round().byte().movedim(1, -1).numpy()
        known = torch.from_numpy(np.stack([truth[p.tobytes()] for p in pixels])).long()
        logits = segmenters.label_to_logit(labels)[known]
        return torch.nn.functional.one_hot(logits, len(labels)).movedim(-1, 1)

    background = lambda images: oracle(images).sort(1, descending=True).values  # noqa: E731
    assert set(segmenters.mean_iou(oracle, labels, "tuning", 40).values()) == {1}
    assert segmenters.mean_iou(background, labels, "tuning", 40)["miou"] == 0
