"""Plain text-to-image from the caption: the floor, which knows nothing of the masks."""

import torch

from tcig.methods.base import Cost, Progress
from tcig.methods.draws import generators
from tcig.methods.sampling import SamplingMethod, evaluations
from tcig.models.diffusion import to_images


class TextOnly(SamplingMethod):
    """Stable Diffusion under the caption alone, DDIM."""

    @classmethod
    def cost(cls, options, layouts):
        """The caption, in every step."""
        return Cost(sum(options.steps * evaluations(each.caption, options) for each in layouts))

    @torch.inference_mode()
    def generate(self, layouts, seeds, callback=None):
        """Draws the captions."""
        captions = [layout.caption for layout in layouts]
        progress = Progress(callback, self.options.steps)
        latents = self.text_to_image(generators(seeds), captions, progress=progress)
        return to_images(self.model.decode(latents))
