"""Architectures of timm: one or two small members of each of its families, 10 classes."""

from functools import partial
from importlib import import_module

from torch import nn

from public_models.entry import Entry
from public_models.fake_torchvision import stand_in_for_torchvision

FREE = """
64 resnet18 resnet26t resnext26ts seresnet18 legacy_seresnet18 ecaresnet50t resnetblur50 resnetaa50
64 resnetv2_18 resnetv2_50x1_bit skresnet18 res2net50_14w_8s resnest14d regnetx_002 regnety_002
64 regnetz_005 rexnet_100 rexnetr_100 densenet121 dla46_c dla34 dpn48b eca_nfnet_l0 nf_regnet_b0
64 nf_resnet26 cs3darknet_s cspresnet50 cspnext_tiny mobilenetv2_050 mobilenetv3_small_050
64 mobilenetv4_conv_small_035 lcnet_050 lcnetv2_small efficientnet_b0 efficientnet_lite0
64 efficientnetv2_rw_t mnasnet_small semnasnet_050 fbnetc_100 spnasnet_100 tinynet_e mixnet_s
64 hardcorenas_a tf_efficientnet_b0 fbnetv3_b mobilenet_edgetpu_100 ghostnet_050 ghostnetv2_100
64 ghostnetv3_050 hgnetv2_b0 repghostnet_050 repvgg_a0 mobileone_s1 gernet_s vovnet39a
64 ese_vovnet19b_dw selecsls42b tresnet_m xception41 hrnet_w18_small convnext_atto convnextv2_atto
64 convmixer_768_32 inception_next_atto fasternet_t0 starnet_s1 mambaout_femto poolformer_s12
64 caformer_s18 convformer_s18 edgenext_xx_small fastvit_t8 repvit_m0_9 rdnet_tiny focalnet_tiny_srf
64 pvt_v2_b0 nextvit_small mobilevit_xxs mobilevitv2_050 efficientvit_b0 shvit_s1 swiftformer_xs
64 lambda_resnet26t cpubone_nano efficientvim_m1 lowformer_b0 iformer_t
96 legacy_xception inception_v3 inception_v4 pnasnet5large cs3sedarknet_l
112 davit_tiny
128 sequencer2d_s
224 efficientformer_l1 tiny_vit_5m_224 hiera_tiny_224
240 crossvit_tiny_240
"""
"""Input size, then models that take any, or that one only."""
SIZED = """
64 vit_tiny_patch16_224 vit_relpos_small_patch16_224 deit_tiny_patch16_224
64 deit_tiny_distilled_patch16_224 deit3_small_patch16_224 cait_xxs24_224 convit_tiny
64 eva02_tiny_patch14_224 mixer_s16_224 resmlp_12_224 gmixer_12_224 gmlp_ti16_224
64 coat_lite_tiny tnt_s_legacy_patch16_224 twins_svt_small twins_pcpvt_small xcit_nano_12_p16_224
64 pit_ti_224 levit_128s efficientformerv2_s0 vit_tiny_r_s16_p8_224 maxvit_pico_rw_256
64 coatnet_nano_rw_224
112 nest_tiny volo_d1_224 swin_tiny_patch4_window7_224 visformer_tiny
128 botnet26t_256 swinv2_tiny_window8_256 swinv2_cr_tiny_224 mvitv2_tiny gcvit_xxtiny
128 efficientvit_m0
"""
"""Input size, then models that are built for one (`img_size`)."""
LARGE = {"beit_base_patch16_224": {"depth": 3}, "vit_small_patch16_18x2_224": {"depth": 3}}
"""Models whose smallest member is still large, at 64 pixels, and what cuts them down."""


def _build(name: str, options: dict[str, int]) -> nn.Module:
    stand_in_for_torchvision()
    timm = import_module("timm")
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=10, **options)
    return model


def _entries(table: str, *, sized: bool) -> list[Entry]:
    found = []
    for line in table.split("\n"):
        for name in line.split()[1:]:
            size = int(line.split()[0])
            build = partial(_build, name, {"img_size": size} if sized else {})
            found.append(Entry("timm", name, build, (3, size, size)))
    return found


def _large() -> list[Entry]:
    options = {name: cut | {"img_size": 64} for name, cut in LARGE.items()}
    return [
        Entry("timm", name, partial(_build, name, one), (3, 64, 64))
        for name, one in options.items()
    ]


TIMM = _entries(FREE, sized=False) + _entries(SIZED, sized=True) + _large()
