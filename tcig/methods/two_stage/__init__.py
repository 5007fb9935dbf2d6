"""TCIG (arXiv 2403.01212): VQGAN+CLIP under a segmentation guide, then image-to-image diffusion."""
