"""Plain text-to-image from the caption: the floor, which knows nothing of the masks."""

import torch

from tcig.methods.draws import generators
from tcig.methods.sampling import SamplingMethod
from tcig.models.diffusion import to_images


class TextOnly(SamplingMethod):
    """Stable Diffusion under the caption alone, DDIM."""

    @torch.inference_mode()
    def generate(self, layouts, seeds, callback=None):
        """Draws the captions."""
        latents = self.start(generators(seeds))
        texts, calls = self.prompted([layout.caption for layout in layouts])
        schedule = self.model.schedule(self.options.steps)
        for t in schedule.timesteps:
            noise = self.model.guided(latents, t, texts, calls, self.options.guidance)
            latents = schedule.step(noise, t, latents).prev_sample
        return to_images(self.model.decode(latents))
