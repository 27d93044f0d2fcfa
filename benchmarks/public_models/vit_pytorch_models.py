"""Architectures of vit-pytorch, small, 10 classes."""

from functools import partial
from importlib import import_module
from typing import Any

from torch import nn

from public_models.entry import Entry
from public_models.fake_torchvision import stand_in_for_torchvision

VIT: dict[str, Any] = {
    "image_size": 64,
    "patch_size": 8,
    "dim": 96,
    "depth": 3,
    "heads": 3,
    "mlp_dim": 192,
}
DROPOUT = {"dropout": 0.1, "emb_dropout": 0.1}
STAGES = {"dim": 32, "depth": (1, 1, 2), "dim_head": 16, "window_size": 4}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ViT": ("vit", "ViT", VIT | DROPOUT),
    "ViT (mean)": ("vit", "ViT", VIT | {"pool": "mean"}),
    "SimpleViT": ("simple_vit", "SimpleViT", VIT),
    "DeepViT": ("deepvit", "DeepViT", VIT),
    "CaiT": ("cait", "CaiT", VIT | {"cls_depth": 2, "layer_dropout": 0.05}),
    "PiT": ("pit", "PiT", VIT | {"depth": (1, 1), "dim": 64}),
    "XCiT": ("xcit", "XCiT", VIT | {"cls_depth": 2}),
    "RvT": ("rvt", "RvT", VIT),
    "ViT for small data": ("vit_for_small_dataset", "ViT", VIT),
    "Parallel ViT": ("parallel_vit", "ViT", VIT),
    "ViT with patch merger": (
        "vit_with_patch_merger",
        "ViT",
        VIT | {"patch_merge_layer": 1, "patch_merge_num_tokens": 8},
    ),
    "ViT with patch dropout": ("vit_with_patch_dropout", "ViT", VIT),
    "SimpleViT, QK norm": ("simple_vit_with_qk_norm", "SimpleViT", VIT),
    "SimpleViT, registers": ("simple_vit_with_register_tokens", "SimpleViT", VIT),
    "SimpleViT, value residual": ("simple_vit_with_value_residual", "SimpleViT", VIT),
    "SimpleViT, patch dropout": ("simple_vit_with_patch_dropout", "SimpleViT", VIT),
    "SimpleViT, FFT": ("simple_vit_with_fft", "SimpleViT", VIT | {"freq_patch_size": 8}),
    "nViT": ("normalized_vit", "nViT", VIT),
    "JumboViT": ("jumbo_vit", "JumboViT", VIT | {"dim": 32, "jumbo_cls_k": 2}),
    "ViT-5": ("vit_5", "ViT", VIT),
    "ATS ViT": ("ats_vit", "ViT", VIT | {"max_tokens_per_depth": (32, 16, 8)}),
    "CCT": (
        "cct",
        "CCT",
        {
            "img_size": 64,
            "embedding_dim": 96,
            "n_conv_layers": 2,
            "kernel_size": 3,
            "stride": 2,
            "padding": 1,
            "num_layers": 3,
            "num_heads": 3,
            "mlp_ratio": 2.0,
            "positional_embedding": "learnable",
        },
    ),
    "CrossViT": (
        "cross_vit",
        "CrossViT",
        {
            "image_size": 64,
            "depth": 2,
            "sm_dim": 48,
            "sm_patch_size": 8,
            "sm_enc_heads": 3,
            "sm_enc_mlp_dim": 96,
            "sm_enc_dim_head": 16,
            "lg_dim": 96,
            "lg_patch_size": 16,
            "lg_enc_depth": 2,
            "lg_enc_heads": 3,
            "lg_enc_mlp_dim": 192,
            "lg_enc_dim_head": 32,
            "cross_attn_heads": 3,
            "cross_attn_dim_head": 16,
        },
    ),
    "LeViT": (
        "levit",
        "LeViT",
        {
            "image_size": 64,
            "stages": 2,
            "dim": (64, 96),
            "depth": 2,
            "heads": (2, 4),
            "mlp_mult": 2,
            "dim_key": 16,
            "dim_value": 32,
        },
    ),
    "CvT": (
        "cvt",
        "CvT",
        {"s1_emb_dim": 32, "s2_emb_dim": 64, "s3_emb_dim": 96, "s2_depth": 1, "s3_depth": 2},
    ),
    "Twins-SVT": (
        "twins_svt",
        "TwinsSVT",
        {
            "s1_emb_dim": 32,
            "s1_local_patch_size": 4,
            "s2_emb_dim": 48,
            "s2_local_patch_size": 4,
            "s3_emb_dim": 64,
            "s3_local_patch_size": 4,
            "s3_depth": 1,
            "s4_emb_dim": 96,
            "s4_local_patch_size": 2,
            "s4_depth": 1,
            "s1_global_k": 4,
            "s2_global_k": 4,
            "s3_global_k": 4,
            "s4_global_k": 2,
        },
    ),
    "MobileViT": (
        "mobile_vit",
        "MobileViT",
        {
            "image_size": (64, 64),
            "dims": [48, 64, 80],
            "channels": [8, 16, 24, 24, 32, 32, 48, 48, 64, 64, 128],
        },
    ),
    "NesT": (
        "nest",
        "NesT",
        {
            "image_size": 64,
            "patch_size": 4,
            "dim": 48,
            "heads": 3,
            "num_hierarchies": 3,
            "block_repeats": (1, 1, 2),
        },
    ),
    "MaxViT": ("max_vit", "MaxViT", STAGES),
    "MaxViT, registers": ("max_vit_with_registers", "MaxViT", STAGES),
    "RegionViT": (
        "regionvit",
        "RegionViT",
        {"dim": (32, 48, 64, 96), "depth": (1, 1, 2, 1), "window_size": 2},
    ),
    "ScalableViT": (
        "scalable_vit",
        "ScalableViT",
        {
            "dim": 32,
            "heads": (2, 4, 8),
            "depth": (1, 1, 2),
            "ssa_dim_key": (16, 16, 16),
            "reduction_factor": (4, 2, 1),
            "window_size": (8, 4, None),
        },
    ),
    "CrossFormer": (
        "crossformer",
        "CrossFormer",
        {
            "dim": (32, 48, 64, 96),
            "depth": (1, 1, 2, 1),
            "global_window_size": (4, 2, 2, 1),
            "local_window_size": 2,
        },
    ),
    "T2T-ViT": (
        "t2t",
        "T2TViT",
        {"image_size": 64, "dim": 96, "depth": 2, "heads": 3, "mlp_dim": 192},
    ),
    "LookViT": (
        "look_vit",
        "LookViT",
        {
            "image_size": 64,
            "dim": 64,
            "depth": 2,
            "heads": 2,
            "dim_head": 32,
            "patch_size": 16,
            "highres_patch_size": 8,
            "cross_attn_heads": 2,
            "cross_attn_dim_head": 32,
        },
    ),
}
SMALL = {"dim": 64, "depth": 2, "heads": 2, "mlp_dim": 128}
OTHERS: dict[str, tuple[tuple[int, ...], str, str, dict[str, Any]]] = {
    "SepViT": (
        (3, 112, 112),
        "sep_vit",
        "SepViT",
        {"dim": 32, "dim_head": 16, "heads": (1, 2, 4), "depth": (1, 1, 2)},
    ),
    "ViT, 1-D": ((3, 128), "vit_1d", "ViT", SMALL | {"seq_len": 128, "patch_size": 8}),
    "SimpleViT, 1-D": (
        (3, 128),
        "simple_vit_1d",
        "SimpleViT",
        SMALL | {"seq_len": 128, "patch_size": 8},
    ),
    "ViT, 3-D": (
        (3, 8, 32, 32),
        "vit_3d",
        "ViT",
        SMALL | {"image_size": 32, "image_patch_size": 8, "frames": 8, "frame_patch_size": 2},
    ),
    "ViViT": (
        (3, 8, 32, 32),
        "vivit",
        "ViViT",
        {
            "image_size": 32,
            "image_patch_size": 8,
            "frames": 8,
            "frame_patch_size": 2,
            "dim": 64,
            "spatial_depth": 2,
            "temporal_depth": 2,
            "heads": 2,
            "mlp_dim": 128,
        },
    ),
}


def _build(module: str, name: str, options: dict[str, Any]) -> nn.Module:
    stand_in_for_torchvision()
    kind = getattr(import_module(f"vit_pytorch.{module}"), name)
    model: nn.Module = kind(num_classes=10, **options)
    return model


VIT_PYTORCH = [
    *(
        Entry("vit-pytorch", title, partial(_build, *how), (3, 64, 64))
        for title, how in MODELS.items()
    ),
    *(
        Entry("vit-pytorch", title, partial(_build, *how), shape)
        for title, (shape, *how) in OTHERS.items()
    ),
]
