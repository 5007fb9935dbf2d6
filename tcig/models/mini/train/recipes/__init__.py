"""The recipe of each miniature model: its training data, its loss, and its held-out metrics."""

from tcig.models.mini.train.recipes.autoencoders import VAERecipe, VQGANRecipe
from tcig.models.mini.train.recipes.clips import ClipRecipe
from tcig.models.mini.train.recipes.diffusion import (
    AdapterRecipe,
    InpaintingRecipe,
    TextToImageRecipe,
)
from tcig.models.mini.train.recipes.segmenters import SegmenterRecipe
from tcig.models.mini.train.trainer import Recipe

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        VAERecipe(),
        VQGANRecipe(),
        SegmenterRecipe("judge", seed=2, minutes=60, first_scene=1_000_000),
        SegmenterRecipe("guide", seed=1, minutes=40, first_scene=0),
        SegmenterRecipe("guide-animals", seed=3, minutes=20, first_scene=0),
        SegmenterRecipe("guide-objects", seed=4, minutes=20, first_scene=0),
        ClipRecipe("clip", 13, "open_clip modified ResNet, 64 px; guides stage 1"),
        ClipRecipe("clip-score", 14, "open_clip vision transformer, 64 px; scores, guides nothing"),
        TextToImageRecipe(),
        InpaintingRecipe(),
        AdapterRecipe(),
    )
}
"""Recipes in the order in which one builds on another."""
