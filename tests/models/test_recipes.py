"""The recipes on pools of a few scenes, untrained: batches, losses, shipping and loading."""

from functools import partial

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    StableDiffusionAdapterPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    T2IAdapter,
)
from PIL import Image

from tcig.data.emoji.scenes import portrait, scene
from tcig.data.voc import COLOURS
from tcig.models.mini import loop
from tcig.models.mini import pool as pools
from tcig.models.mini.loop import Trainer
from tcig.models.mini.pool import captioned
from tcig.models.mini.probes import psnr
from tcig.models.mini.recipes import (
    adapter,
    autoencoders,
    clips,
    diffusion,
    inpainting,
    reconstructions,
    segmenters,
)
from tcig.models.mini.recipes.autoencoders import VAE, VQ
from tcig.models.vqgan import load_vqgan

FEW = 12


@pytest.fixture(scope="module", autouse=True)
def few():
    """Pools of a few scenes."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (autoencoders, clips, diffusion):
            patch.setattr(module, "SCENES", FEW)
            patch.setattr(module, "PORTRAITS", FEW)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module", params=[VAE, VQ])
def autoencoder(request, folder):
    recipe = request.param()
    recipe.batch = 3
    recipe.prepare(folder)
    return Trainer(recipe, folder)


def test_autoencoders_learn_their_batch(autoencoder, monkeypatch):
    monkeypatch.setattr(loop, "WARM_UP", 1)
    losses = []
    for _ in range(12):
        autoencoder.step = 0  # the same batch each time
        losses.append(autoencoder.advance(0.6))
    assert losses[-1] < 0.9 * losses[0]
    figures = autoencoder.recipe.figures(autoencoder.average.module.eval(), "tuning", 4)
    assert 5 < figures["psnr"] < 40


def test_batches_are_crops_first_and_whole_images_later(autoencoder):
    crops, whole = (autoencoder.recipe.images(draw(), done) for done in (0.1, 0.9))
    assert crops.shape == (12, 3, 32, 32)
    assert whole.shape == (3, 3, 64, 64)
    assert crops.min() >= -1
    assert whole.max() <= 1
    kinds = [p["image"] for p in (autoencoder.recipe.scenes, autoencoder.recipe.portraits)]
    known = {np.ascontiguousarray(v).tobytes() for k in kinds for i in k for v in (i, i[:, ::-1])}
    for image in whole:
        pixels = ((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        assert np.ascontiguousarray(pixels).tobytes() in known


def test_autoencoders_ship_what_the_libraries_load(autoencoder, tmp_path):
    recipe, model = autoencoder.recipe, autoencoder.average.module.eval()
    images = torch.rand(2, 3, 64, 64, generator=draw()) * 2 - 1
    with torch.inference_mode():
        expected = recipe.reconstruct(model, images)
    half = recipe.build()
    half.load_state_dict(model.state_dict())
    recipe.ship(half.half(), tmp_path)
    if recipe.name == "vae":
        loaded = AutoencoderKL.from_pretrained(tmp_path / "stable-diffusion" / "vae")
        assert loaded.config.scaling_factor > 0
        with torch.inference_mode():
            output = loaded.decode(loaded.encode(images).latent_dist.mode()).sample
    else:
        output = load_vqgan(tmp_path / "vqgan")(images)
    assert psnr(output.clamp(-1, 1), expected) > 25  # half precision moves a few codes
    again = recipe.build()
    recipe.restore(again, tmp_path)
    key = "vae.decoder.conv_in.weight" if recipe.name == "vae" else "vqgan.decoder.conv_in.weight"
    assert torch.allclose(again.state_dict()[key], model.state_dict()[key], atol=1e-3)


def test_the_codebook_is_filled_and_reseeded_from_the_latents(folder):
    recipe = VQ()
    recipe.batch = 3
    recipe.prepare(folder)
    model = recipe.build().train()
    model.steps += autoencoders.UNQUANTISED_STEPS - 1
    model(recipe.images(draw(), 0.9))
    recipe.after(model, autoencoders.UNQUANTISED_STEPS, draw())
    rows = {tuple(row.tolist()) for row in model.seen}
    assert {tuple(code.tolist()) for code in model.vqgan.codebook} <= rows
    before = model.vqgan.codebook.detach().clone()
    model.used[:] = 1
    model.used[[3, 8]] = 0
    model.seen = torch.full((1, 8), 0.25)
    recipe.after(model, 10 * autoencoders.RESEED_STEPS, draw())
    changed = (model.vqgan.codebook != before).any(1).nonzero().flatten().tolist()
    assert changed == [3, 8]
    assert (model.used[[3, 8]] == 1).all()


def test_vae_loss_pulls_the_latents_towards_the_unit_gaussian(folder, monkeypatch):
    recipe = VAE()
    recipe.batch = 3
    recipe.prepare(folder)

    def forward(mean, logvar):
        return lambda images, noise: (images, torch.full_like(noise, mean), noise * 0 + logvar)

    monkeypatch.setattr(autoencoders, "KL_WEIGHT", 1.0)
    at_rest, moved, narrow = (
        recipe.loss(forward(*values), draw(), 0.9).item()
        for values in ((0.0, 0.0), (1.0, 0.0), (0.0, -2.0))
    )
    assert at_rest == pytest.approx(0, abs=1e-6)
    assert moved == pytest.approx(0.5 * 4 * 256, rel=1e-4)
    assert narrow == pytest.approx(0.5 * (np.exp(-2) + 1) * 4 * 256, rel=1e-4)


def test_crops_hold_the_object_that_their_prompt_names():
    records = np.array([captioned(portrait("tuning", index)) for index in range(20)])
    crops, prompts = clips.crop_objects(records, draw(3))
    assert crops.shape == (20, 3, 64, 64)
    assert prompts == [record["captions"][2].decode() for record in records]
    for record, crop in zip(records, crops, strict=True):
        mask = record["labels"] > 0
        colour = record["image"][mask].mean(0) / 255
        share = (crop - torch.tensor(colour).view(3, 1, 1)).abs().mean(0).lt(0.35).float().mean()
        assert share > 0.15


def test_a_record_without_objects_gives_its_whole_image():
    record = np.zeros(1, clips.held_out("tuning", "scenes", 1).dtype)
    record["image"][0, :32] = 200
    record["captions"][0] = [b"nothing in the snow", b"", b"nothing"]
    crops, prompts = clips.crop_objects(record, draw())
    assert prompts == ["nothing"]
    assert torch.allclose(crops[0].movedim(0, -1) * 255, torch.tensor(record["image"][0]).float())


def test_contrastive_loss_takes_equal_captions_as_one(folder, monkeypatch):
    recipe = clips.ScoringClip()
    recipe.batch = 4
    recipe.prepare(folder)
    images = torch.rand(4, 3, 64, 64, generator=draw())
    monkeypatch.setattr(recipe, "_batch", lambda _: (images, ["a cat", "a dog", "a cat", "a bus"]))
    vectors = torch.eye(3)[[0, 1, 0, 2]]
    right = recipe.loss(lambda *_: (vectors, vectors, 50.0), draw(), 0)
    assert right == pytest.approx(np.log(2) / 2, abs=1e-4)  # two captions share half the rows
    wrong = recipe.loss(lambda *_: (vectors, vectors.roll(1, 0), 50.0), draw(), 0)
    assert wrong > 10


def test_masks_are_objects_boxes_or_rectangles_with_their_prompts():
    records = np.array([captioned(scene("tuning", index)) for index in range(60)])
    masks, prompts = inpainting.draw_masks(records, draw(5))
    kinds = {"object": 0, "box": 0, "rectangle": 0}
    for record, mask, prompt in zip(records, masks.numpy(), prompts, strict=True):
        if prompt == record["captions"][0].decode():
            kinds["rectangle"] += 1
            continue
        index = inpainting.BY_PROMPT[prompt]
        truth = record["labels"] == index
        rows, columns = np.nonzero(truth)
        assert not (truth & ~mask).any()
        if (mask == truth).all():
            kinds["object"] += 1
        else:
            kinds["box"] += 1
            box = (rows.max() + 1 - rows.min()) * (columns.max() + 1 - columns.min())
            assert mask.sum() == box
    assert kinds["object"] > kinds["box"] > 2
    assert kinds["rectangle"] > 2


@pytest.fixture(scope="module")
def shipped(folder, tmp_path_factory):
    """Untrained text-to-image, inpainting and adapter models, shipped on an untrained VAE."""
    weights = tmp_path_factory.mktemp("weights")
    vae = VAE()
    vae.ship(vae.build().half(), weights)
    with pytest.MonkeyPatch.context() as patch:
        for module in (adapter, diffusion, inpainting):
            patch.setattr(module, "WEIGHTS", weights)
        trainers = []
        for recipe in (diffusion.TextToImage(), inpainting.Inpainting(), adapter.Adapter()):
            recipe.batch = 6
            recipe.prepare(folder)
            trainer = Trainer(recipe, folder)
            model = recipe.build()
            model.load_state_dict(trainer.model.state_dict())
            recipe.ship(model.half(), weights)
            trainers.append(trainer)
    return weights, trainers


def test_latents_are_the_vaes_of_the_pools_images(shipped):
    _, (trainer, *_) = shipped
    recipe = trainer.recipe
    for pool, records in zip(recipe.latents, recipe.records, strict=True):
        assert pool.shape == (FEW, 4, 16, 16)
        expected = diffusion.encode(recipe.vae, records["image"][4:5].copy())
        assert np.allclose(pool[4], expected[0], atol=2e-3)


def test_the_denoising_loss_is_zero_for_the_truth_and_weighted_by_min_snr(shipped):
    _, (trainer, *_) = shipped
    recipe = trainer.recipe
    rows, latents, tokens = recipe.batches(draw(1))
    for pool, part, found in zip(recipe.latents, rows, latents.chunk(2), strict=True):
        assert np.array_equal(pool[part], found)
    assert latents.shape == (6, 4, 16, 16)
    assert tokens.shape == (6, 40)
    asked = {}

    def oracle(noisy, times, words):
        """Knows the clean latents, hence the velocity."""
        alpha = recipe.alphas[times].view(-1, 1, 1, 1)
        noise = (noisy - alpha.sqrt() * latents) / (1 - alpha).sqrt()
        asked.update(times=times, words=words)
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * latents

    assert recipe.denoising_loss(oracle, latents, tokens, draw(2)) < 1e-6
    snr = recipe.alphas[asked["times"]] / (1 - recipe.alphas[asked["times"]])
    weights = snr.clamp(max=5) / (snr + 1)
    off = recipe.denoising_loss(lambda *a: oracle(*a) + 2, latents, tokens, draw(2))
    assert off == pytest.approx(4 * weights.mean().item(), rel=1e-4)
    assert sorted(asked["times"].tolist() // np.array(1000 / 6)) == list(range(6))


def test_a_tenth_of_the_captions_is_dropped(shipped):
    _, (trainer, *_) = shipped
    recipe, dropped = trainer.recipe, 0
    latents, tokens = torch.zeros(600, 4, 16, 16), recipe.tokens[0][:1, 0].repeat(600, 1)

    def forward(noisy, times, words):
        nonlocal dropped
        dropped = (words == recipe.empty).all(1).sum().item()
        return noisy

    recipe.denoising_loss(forward, latents, tokens, draw(4))
    assert 40 < dropped < 80


def test_stock_pipelines_load_the_shipped_folders(shipped):
    weights, _ = shipped
    settings = {"num_inference_steps": 2, "output_type": "np", "generator": draw()}
    pixels = np.random.default_rng(0).random((1, 64, 64, 3), np.float32)
    pipeline = StableDiffusionPipeline.from_pretrained(weights / "stable-diffusion")
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a cat", **settings).images.shape == (1, 64, 64, 3)
    again = StableDiffusionImg2ImgPipeline.from_pretrained(weights / "stable-diffusion")
    assert again("a cat", image=pixels, strength=1.0, **settings).images.shape == (1, 64, 64, 3)
    fill = StableDiffusionInpaintPipeline.from_pretrained(weights / "stable-diffusion-inpainting")
    mask = np.zeros((1, 64, 64, 1), np.float32)
    mask[:, 20:40] = 1
    found = fill("a cat", image=pixels, mask_image=mask, height=64, width=64, **settings).images
    assert found.shape == (1, 64, 64, 3)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    texts = [path.read_text() for path in weights.rglob("*.json")]
    assert not any(str(weights) in text for text in texts)


def test_inpainting_starts_as_the_text_to_image_model(shipped):
    """The five new input channels have no weight yet: the same prediction whatever they hold."""
    _, (base, filled, _) = shipped
    words = base.recipe.empty[None].repeat(2, 1)
    noisy, times = torch.randn(2, 4, 16, 16, generator=draw()), torch.tensor([10, 900])
    extra = torch.randn(2, 5, 16, 16, generator=draw(1))
    with torch.inference_mode():
        expected = base.model.eval()(noisy, times, words)
        given = filled.model.eval()(torch.cat([noisy, extra], 1), times, words)
    assert torch.allclose(given, expected, atol=2e-2)  # the base was shipped in half precision
    assert not any(p.requires_grad for p in filled.model.text_encoder.parameters())


@pytest.mark.parametrize("which", [0, 1])
def test_diffusion_models_train_and_log(shipped, which):
    trainer = shipped[1][which]
    before = trainer.model.unet.conv_in.weight.detach().clone()
    assert 0 < trainer.advance(0.5) < 5
    assert not torch.equal(trainer.model.unet.conv_in.weight, before)
    assert 0 < trainer.recipe.figures(trainer.model.eval(), "tuning", 4)["held_out_loss"] < 5


def test_the_adapter_alone_is_trained_and_shipped(shipped):
    weights, (_, _, trainer) = shipped
    (base,) = trainer.model.base
    before = {key: value.clone() for key, value in base.state_dict().items()}
    assert not any("base" in key for key in trainer.model.state_dict())
    start = trainer.model.adapter.adapter.conv_in.weight.detach().clone()
    assert 0 < trainer.advance(0.5) < 5
    assert not torch.equal(trainer.model.adapter.adapter.conv_in.weight, start)
    after = base.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    files = {path.name for path in (weights / "t2i-adapter").iterdir()}
    assert files == {"config.json", "diffusion_pytorch_model.safetensors"}
    again = trainer.recipe.build()
    trainer.recipe.restore(again, weights)
    key = "adapter.adapter.conv_in.weight"
    assert torch.allclose(again.state_dict()[key], start, atol=1e-3)


def test_the_adapter_sees_each_images_class_map_in_its_own_colours(shipped, monkeypatch):
    recipe = shipped[1][2].recipe
    seen = {}
    monkeypatch.setattr(
        recipe, "denoising_loss", lambda model, latents, tokens, _: model(latents, 0, tokens)
    )

    def forward(latents, times, tokens, maps):
        seen.update(latents=latents, maps=maps)

    recipe.loss(forward, draw(7), 0.5)
    pools = [p for kind in recipe.latents for p in kind]
    labels = [p for kind in recipe.records for p in kind["labels"]]
    for latent, image in zip(seen["latents"], seen["maps"], strict=True):
        number = next(n for n, known in enumerate(pools) if np.array_equal(known, latent))
        colours = (image * 255).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(colours, np.array(COLOURS, np.uint8)[labels[number]])


def test_an_adapter_sees_the_early_steps_most_often(shipped):
    recipe = shipped[1][2].recipe
    shares = torch.rand(20_000, generator=draw(3))
    times = recipe.times(shares)
    assert times.min() >= 0
    assert times.max() == 999
    for share in (0.25, 0.5, 0.75):  # P(1 - u^3 < x) = 1 - (1 - x)^(1/3)
        expected = 1 - (1 - share) ** (1 / 3)
        assert (times < 1000 * share).float().mean() == pytest.approx(expected, abs=0.01)


def test_the_stock_pipeline_takes_the_shipped_adapter(shipped):
    weights, (_, _, trainer) = shipped
    part = T2IAdapter.from_pretrained(weights / "t2i-adapter")
    base = weights / "stable-diffusion"
    pipeline = StableDiffusionAdapterPipeline.from_pretrained(base, adapter=part)
    pipeline.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 2, "output_type": "np", "height": 64, "width": 64}
    maps = [np.full((64, 64, 3), value, np.uint8) for value in (0, 255)]
    first, second = (
        pipeline("a cat", image=Image.fromarray(each), generator=draw(), **settings).images
        for each in maps
    )
    assert first.shape == (1, 64, 64, 3)
    assert np.abs(first - second).mean() > 1e-3
    figures = trainer.recipe.figures(trainer.model.eval(), "tuning", 2)
    assert figures["held_out_loss"] != figures["without"]


def test_reconstructions_keep_the_labels_and_grow_worse_as_they_are_less_formed(tmp_path):
    pool = reconstructions.reconstruction_pool(tmp_path, 30, 12)
    truth = pools.scene_pool(tmp_path, 30, 12, ("noto",))
    assert np.array_equal(pool["labels"], truth["labels"])
    off = np.abs(pool["image"].astype(float) - truth["image"]).mean((1, 2, 3))
    vae, vqgan, half = off.reshape(3, 4).mean(1)
    assert 0.5 < vae < vqgan < 16
    assert half > 1.3 * vqgan
    again = reconstructions.reconstruction_pool(tmp_path, 30, 12)
    assert np.array_equal(again, pool)


def _uncertain(count, images):
    assert images.shape == (4, 3, 128, 128)
    return torch.zeros(4, count, 128, 128)


def test_only_guides_learn_from_reconstructions(tmp_path, monkeypatch):
    monkeypatch.setattr(segmenters, "SCENES", 6)
    monkeypatch.setattr(segmenters, "RECONSTRUCTIONS", 6)
    seen = {}
    for name in ("judge", "guide-animals"):
        recipe = segmenters.Segmenter(name, 1, 1, 30)
        recipe.batch = 4
        recipe.prepare(tmp_path)
        seen[name] = len(recipe.pools)
        count = len(recipe.labels)
        loss = recipe.loss(partial(_uncertain, count), draw(), 0.9)
        assert loss > np.log(count)
    assert seen == {"judge": 1, "guide-animals": 2}
    assert "reconstructions" in recipe.data
