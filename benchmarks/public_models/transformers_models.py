"""Architectures of Hugging Face's transformers, from small configurations, 10 classes."""

from functools import partial
from importlib import import_module
from typing import Any

from torch import nn

from public_models.entry import Entry

VISION: dict[str, dict[str, Any]] = {
    "ViT": {"image_size": 64, "patch_size": 8},
    "DeiT": {"image_size": 64, "patch_size": 8},
    "Beit": {"image_size": 64, "patch_size": 8, "use_relative_position_bias": True},
    "Data2VecVision": {"image_size": 64, "patch_size": 8},
    "ViTMSN": {"image_size": 64, "patch_size": 8},
    "Dinov2": {"image_size": 64, "patch_size": 8},
    "Dinov2WithRegisters": {"image_size": 64, "patch_size": 8},
    "IJepa": {"image_size": 64, "patch_size": 8},
    "Swin": {
        "image_size": 64,
        "patch_size": 2,
        "window_size": 4,
        "embed_dim": 32,
        "depths": [2, 2, 2],
        "num_heads": [1, 2, 4],
    },
    "Swinv2": {
        "image_size": 64,
        "patch_size": 2,
        "window_size": 4,
        "embed_dim": 32,
        "depths": [2, 2, 2],
        "num_heads": [1, 2, 4],
    },
    "ConvNext": {"hidden_sizes": [32, 64, 96, 128], "depths": [1, 1, 3, 1]},
    "ConvNextV2": {"hidden_sizes": [32, 64, 96, 128], "depths": [1, 1, 3, 1]},
    "ResNet": {"embedding_size": 32, "hidden_sizes": [32, 64, 128, 256], "depths": [1, 1, 1, 1]},
    "RegNet": {
        "embedding_size": 16,
        "hidden_sizes": [24, 56, 152, 368],
        "depths": [1, 1, 2, 2],
        "groups_width": 8,
    },
    "MobileNetV1": {"depth_multiplier": 0.5},
    "MobileNetV2": {"depth_multiplier": 0.5},
    "MobileViT": {"image_size": 64},
    "MobileViTV2": {"image_size": 64, "width_multiplier": 0.5},
    "EfficientNet": {
        "image_size": 64,
        "width_coefficient": 0.5,
        "depth_coefficient": 0.5,
        "hidden_dim": 640,
    },
    "PoolFormer": {"hidden_sizes": [32, 64, 96, 128], "depths": [1, 1, 2, 1]},
    "Segformer": {
        "hidden_sizes": [16, 32, 64, 96],
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 4, 4],
    },
    "Pvt": {
        "image_size": 64,
        "hidden_sizes": [32, 64, 96, 128],
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 4, 4],
    },
    "PvtV2": {
        "hidden_sizes": [32, 64, 96, 128],
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 4, 4],
    },
    "Cvt": {"embed_dim": [16, 48, 96], "num_heads": [1, 3, 6], "depth": [1, 2, 3]},
    "Levit": {
        "image_size": 64,
        "hidden_sizes": [64, 96, 128],
        "depths": [1, 1, 1],
        "num_attention_heads": [4, 6, 8],
    },
    "FocalNet": {"image_size": 64, "embed_dim": 32, "depths": [1, 1, 1, 1]},
    "SwiftFormer": {"depths": [1, 1, 2, 1], "embed_dims": [24, 32, 64, 96]},
    "Bit": {"embedding_size": 32, "hidden_sizes": [128, 128, 128, 256], "depths": [1, 1, 1, 1]},
    "HGNetV2": {
        "embedding_size": 16,
        "hidden_sizes": [64, 96, 128, 192],
        "depths": [1, 1, 2, 1],
        "stem_channels": [3, 16, 16],
        "stage_in_channels": [16, 64, 96, 128],
        "stage_mid_channels": [16, 24, 32, 48],
        "stage_out_channels": [64, 96, 128, 192],
        "stage_num_blocks": [1, 1, 1, 1],
    },
    "PPLCNet": {"scale": 0.5},
    "TextNet": {},
    "Hiera": {
        "image_size": [64, 64],
        "embed_dim": 32,
        "depths": [1, 1, 2, 1],
        "num_heads": [1, 2, 4, 8],
    },
}
"""Configuration for 64 pixels; the class is `<name>ForImageClassification`."""
DENSE: dict[str, dict[str, Any]] = {
    "Segformer": VISION["Segformer"] | {"decoder_hidden_size": 64},
    "MobileViT": {"image_size": 64},
    "MobileNetV2": {"depth_multiplier": 0.5},
}
"""Configuration; the class is `<name>ForSemanticSegmentation`."""
PLAIN_VITS = (
    "ViT",
    "DeiT",
    "Beit",
    "Data2VecVision",
    "ViTMSN",
    "Dinov2",
    "Dinov2WithRegisters",
    "IJepa",
)
SMALL_VIT = {
    "hidden_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 192,
}

TEXT: dict[str, dict[str, Any]] = {
    "Bert": {},
    "DistilBert": {"dim": 96, "n_layers": 3, "n_heads": 4, "hidden_dim": 192},
    "Roberta": {"max_position_embeddings": 80, "pad_token_id": 1},
    "XLMRoberta": {"max_position_embeddings": 80, "pad_token_id": 1},
    "Albert": {"embedding_size": 48},
    "Electra": {"embedding_size": 48},
    "MobileBert": {"embedding_size": 48, "intra_bottleneck_size": 48, "true_hidden_size": 48},
    "SqueezeBert": {"embedding_size": 96},
    "ConvBert": {"embedding_size": 48},
    "Camembert": {"max_position_embeddings": 80, "pad_token_id": 1},
    "DebertaV2": {},
    "MPNet": {"max_position_embeddings": 80},
    "FNet": {},
    "RoFormer": {"embedding_size": 96},
    "Nystromformer": {},
    "ModernBert": {"attn_implementation": "sdpa", "global_attn_every_n_layers": 2},
    "GPT2": {"n_embd": 96, "n_layer": 3, "n_head": 4},
    "GPTNeo": {
        "num_layers": 2,
        "num_hidden_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
    },
    "GPTNeoX": {},
    "GPTJ": {"n_embd": 96, "n_layer": 3, "n_head": 4, "rotary_dim": 16},
    "OPT": {"ffn_dim": 192, "word_embed_proj_dim": 96},
    "Bloom": {"n_layer": 3, "n_head": 4},
    "Llama": {"num_key_value_heads": 2},
    "Mistral": {"num_key_value_heads": 2},
    "Qwen2": {"num_key_value_heads": 2},
    "Qwen3": {"num_key_value_heads": 2, "head_dim": 24},
    "Gemma": {"num_key_value_heads": 2, "head_dim": 24},
    "Phi": {},
    "StableLm": {"num_key_value_heads": 2},
    "Falcon": {},
}
"""Configuration; the class is `<name>ForSequenceClassification`, but for `LANGUAGE`."""
LANGUAGE = (
    *("GPTNeo", "GPTNeoX", "GPTJ", "OPT", "Bloom", "Mistral", "Qwen2", "Qwen3", "Gemma", "Phi"),
    *("StableLm", "Falcon"),
)
"""Taken as language models, which they are; with a classifier's head they look for padding, as GPT2
and Llama show here."""
SMALL_TEXT = {
    "vocab_size": 500,
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "max_position_embeddings": 64,
    "pad_token_id": 499,
}
WORDS = 32
T5 = {
    "vocab_size": 500,
    "d_model": 96,
    "d_kv": 24,
    "d_ff": 192,
    "num_layers": 3,
    "num_heads": 4,
}


def _classifier(kind: str, suffix: str, options: dict[str, Any]) -> nn.Module:
    package = import_module("transformers")
    settings = getattr(package, f"{kind}Config")(num_labels=10, **options)
    model: nn.Module = getattr(package, f"{kind}{suffix}")(settings)
    return model


def _two_towers(kind: str) -> nn.Module:
    """Return an image classifier on the vision tower of a model of images and text."""
    package = import_module("transformers")
    tower = {**SMALL_VIT, "image_size": 64, "patch_size": 8}
    settings = getattr(package, f"{kind}Config")(vision_config=tower, num_labels=10)
    model: nn.Module = getattr(package, f"{kind}ForImageClassification")(settings)
    return model


def _vision() -> list[Entry]:
    found = []
    for kind, options in VISION.items():
        small = SMALL_VIT if kind in PLAIN_VITS else {}
        build = partial(_classifier, kind, "ForImageClassification", {**small, **options})
        found.append(Entry("transformers, images", kind, build, (3, 64, 64)))
    for kind in ("CLIP", "Siglip"):
        build = partial(_two_towers, kind)
        found.append(Entry("transformers, images", kind, build, (3, 64, 64)))
    for kind, options in DENSE.items():
        build = partial(_classifier, kind, "ForSemanticSegmentation", options)
        shape = (3, 64, 64)
        found.append(Entry("transformers, images", f"{kind} (dense)", build, shape, task="dense"))
    return found


def _text() -> list[Entry]:
    found = []
    for kind, options in TEXT.items():
        if kind in LANGUAGE:
            continue
        settings = {**SMALL_TEXT, **options}
        build = partial(_classifier, kind, "ForSequenceClassification", settings)
        found.append(Entry("transformers, text", kind, build, (WORDS,), vocabulary=498))
    heads = [(kind, "ForTokenClassification", "tokens") for kind in ("Bert", "DistilBert", "GPT2")]
    heads += [(kind, "ForCausalLM", "language model") for kind in (*LANGUAGE, "Llama")]
    for kind, suffix, label in heads:
        settings = {**SMALL_TEXT, **TEXT[kind]}
        build = partial(_classifier, kind, suffix, settings)
        name = f"{kind} ({label})"
        found.append(
            Entry(
                "transformers, text",
                name,
                build,
                (WORDS,),
                "dense",
                vocabulary=498,
                channel_last=True,
            )
        )
    for kind, suffix in (("T5", "EncoderModel"), ("Bert", "Model")):
        settings = T5 if kind == "T5" else {**SMALL_TEXT, **TEXT[kind]}
        build = partial(_classifier, kind, suffix, settings)
        name = f"{kind} (encoder)"
        found.append(Entry("transformers, text", name, build, (WORDS,), "values", vocabulary=498))
    return found


def _audio() -> list[Entry]:
    wave = {
        "hidden_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 192,
        "conv_dim": (32,) * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
    }
    found = []
    for kind in ("Wav2Vec2", "Hubert", "SEW", "WavLM", "UniSpeech"):
        options = {key: value for key, value in wave.items() if key != "conv_dim" or kind != "SEW"}
        if kind == "SEW":
            options |= {"conv_dim": (32,) * 13, "squeeze_factor": 2}
        build = partial(_classifier, kind, "ForSequenceClassification", options)
        found.append(Entry("transformers, audio", kind, build, (4000,)))
    spectrogram = {
        **SMALL_VIT,
        "max_length": 96,
        "num_mel_bins": 32,
        "patch_size": 8,
        "frequency_stride": 8,
        "time_stride": 8,
    }
    build = partial(_classifier, "AST", "ForAudioClassification", spectrogram)
    found.append(Entry("transformers, audio", "AST", build, (96, 32)))
    return found


def _series() -> list[Entry]:
    mixer = {
        "context_length": 64,
        "patch_length": 8,
        "patch_stride": 8,
        "num_input_channels": 3,
        "num_targets": 10,
        "d_model": 32,
        "num_layers": 3,
    }
    build = partial(_classifier_of_series, "PatchTSMixer", mixer)
    first = Entry("transformers, time series", "PatchTSMixer", build, (64, 3))
    build = partial(
        _classifier_of_series, "PatchTST", {**mixer, "num_hidden_layers": 2, "ffn_dim": 64}
    )
    return [first, Entry("transformers, time series", "PatchTST", build, (64, 3))]


def _classifier_of_series(kind: str, options: dict[str, Any]) -> nn.Module:
    package = import_module("transformers")
    model: nn.Module = getattr(
        package,
        f"{kind}ForTimeSeriesClassification"
        if kind == "PatchTSMixer"
        else f"{kind}ForClassification",
    )(getattr(package, f"{kind}Config")(**options))
    return model


TRANSFORMERS = _vision() + _text() + _audio() + _series()
