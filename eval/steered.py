"""What the miniature T2I-Adapter reaches on the validation split, through diffusers' pipeline."""

from pathlib import Path

from PIL import Image

from tcig.data.palettes import painted
from tcig.eval.grids import write_grid
from tcig.eval.miniatures import CANVAS, Figure, batched, layouts, mean_iou, real
from tcig.models.mini import WEIGHTS


def adapter(sheets: Path) -> dict[str, Figure]:
    """The validation layouts, drawn from caption and class map, and from the caption alone."""
    from diffusers import StableDiffusionAdapterPipeline, StableDiffusionPipeline, T2IAdapter

    base = WEIGHTS / "stable-diffusion"
    network = T2IAdapter.from_pretrained(WEIGHTS / "t2i-adapter")
    plain = StableDiffusionPipeline.from_pretrained(base)
    steered = StableDiffusionAdapterPipeline.from_pretrained(base, adapter=network)
    maps = [Image.fromarray(painted(layout.class_map(CANVAS), "voc")) for layout in layouts()]
    captions, size = [layout.caption for layout in layouts()], {"height": CANVAS, "width": CANVAS}
    images = batched(steered, captions, image=maps, **size)
    alone = batched(plain, captions, **size)
    write_grid(
        sheets / "t2i-adapter.png",
        [each[:16] for each in (maps, images, alone, real())],
        ["map", "map and caption", "caption alone", "real"],
    )
    how = f"iou_image of {len(maps)} layouts; from captions alone {mean_iou(alone):.3f}"
    return {"iou_image": Figure(mean_iou(images), 0.45, how)}
