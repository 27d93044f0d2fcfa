"""Outputs as large as inputs: segmentation, auto-encoders, super resolution; from the papers."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_models.entry import Entry


def double(c: int, k: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(c, k, 3, padding=1, bias=False), nn.BatchNorm2d(k), nn.ReLU(inplace=True)),
        *(nn.Conv2d(k, k, 3, padding=1, bias=False), nn.BatchNorm2d(k), nn.ReLU(inplace=True)),
    )


class UNet(nn.Module):
    """Ronneberger et al. 2015; upsampling by a transposed convolution, or bilinear with padding."""

    def __init__(self, bilinear: bool) -> None:
        super().__init__()
        self.first, self.second, self.third = double(3, 16), double(16, 32), double(32, 64)
        if bilinear:
            self.up1 = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.up2 = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        else:
            self.up1, self.up2 = nn.ConvTranspose2d(64, 32, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2)
        self.right1 = double(96 if bilinear else 64, 32)
        self.right2, self.out = double(48 if bilinear else 32, 16), nn.Conv2d(16, 4, 1)

    def join(self, small: Tensor, large: Tensor) -> Tensor:
        down, right = large.size(2) - small.size(2), large.size(3) - small.size(3)
        small = F.pad(small, [right // 2, right - right // 2, down // 2, down - down // 2])
        return torch.cat([large, small], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.first(x)
        two = self.second(F.max_pool2d(one, 2))
        three = self.third(F.max_pool2d(two, 2))
        two = self.right1(self.join(self.up1(three), two))
        return self.out(self.right2(self.join(self.up2(two), one)))


class Fcn(nn.Module):
    """Long et al. 2015: scores at two strides, brought to the size of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(double(3, 16), nn.MaxPool2d(2), double(16, 32), nn.MaxPool2d(2))
        self.stage2 = nn.Sequential(double(32, 64), nn.MaxPool2d(2))
        self.score1, self.score2 = nn.Conv2d(32, 4, 1), nn.Conv2d(64, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        first = self.stage1(x)
        second = self.score2(self.stage2(first))
        first = self.score1(first)
        second = F.interpolate(second, size=first.shape[-2:], mode="bilinear", align_corners=False)
        return F.interpolate(first + second, size=size, mode="bilinear", align_corners=False)


class DeepLab(nn.Module):
    """Chen et al. 2017, DeepLab v3: dilated convolutions beside the mean of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(double(3, 16), nn.MaxPool2d(4), double(16, 32))
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(32, 16, 3, padding=rate, dilation=rate, bias=False),
                *(nn.BatchNorm2d(16), nn.ReLU()),
            )
            for rate in (1, 2, 4)
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(32, 16, 1), nn.ReLU())
        self.project, self.classify = double(64, 32), nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.backbone(x)
        parts = [conv(features) for conv in self.convs]
        mean = F.interpolate(self.pool(features), size=features.shape[-2:], mode="bilinear")
        out = self.classify(self.project(torch.cat([*parts, mean], dim=1)))
        return {"out": F.interpolate(out, size=x.shape[-2:], mode="bilinear", align_corners=False)}


class SegNet(nn.Module):
    """Badrinarayanan et al. 2017, with nearest upsampling instead of kept indices."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            double(3, 16), nn.MaxPool2d(2), double(16, 32), nn.MaxPool2d(2)
        )
        self.decoder = nn.Sequential(
            *(nn.Upsample(scale_factor=2), double(32, 16)),
            *(nn.UpsamplingNearest2d(scale_factor=2), double(16, 16), nn.Conv2d(16, 4, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class Pyramid(nn.Module):
    """Zhao et al. 2017, PSPNet: averages over grids of cells."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(double(3, 16), nn.MaxPool2d(4))
        self.levels = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), nn.Conv2d(16, 8, 1), nn.ReLU())
            for bins in (1, 2, 3, 6)
        )
        self.last = nn.Conv2d(48, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        size = (x.size(2), x.size(3))
        levels = [
            F.interpolate(level(x), size, mode="bilinear", align_corners=True)
            for level in self.levels
        ]
        return self.last(torch.cat([x, *levels], 1))


def anomaly() -> nn.Module:
    """Return the fully connected auto-encoder of MLPerf Tiny: 640 bins of ToyADMOS."""
    layers: list[nn.Module] = []
    widths = (640, 128, 128, 128, 8, 128, 128, 128)
    for c, k in pairwise(widths):
        layers += [nn.Linear(c, k), nn.BatchNorm1d(k), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(128, 640))


def image_autoencoder() -> nn.Module:
    """Return convolutions down and transposed ones up again, with a sigmoid at the end."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(True), nn.Conv2d(16, 8, 3, 2, 1), nn.ReLU(True)),
        *(nn.ConvTranspose2d(8, 16, 3, 2, 1, output_padding=1), nn.ReLU(True)),
        *(nn.ConvTranspose2d(16, 1, 3, 2, 1, output_padding=1), nn.Sigmoid()),
    )


class SignalAutoencoder(nn.Module):
    """One dimension, strided and transposed, with a narrow code between."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv1d(1, 8, 7, 2, 3), nn.ELU(), nn.Conv1d(8, 16, 7, 2, 3), nn.ELU()),
            *(nn.Flatten(), nn.Linear(16 * 32, 16)),
        )
        self.spread = nn.Linear(16, 16 * 32)
        self.decoder = nn.Sequential(
            nn.ConvTranspose1d(16, 8, 8, 2, 3), nn.ELU(), nn.ConvTranspose1d(8, 1, 8, 2, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        code = self.encoder(x)
        return self.decoder(self.spread(code).unflatten(1, (16, 32)))


class LstmAutoencoder(nn.Module):
    """Malhotra et al. 2016: the last state, repeated, is decoded to the series again."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.LSTM(3, 16, batch_first=True)
        self.decoder, self.out = nn.LSTM(16, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        _, (hidden, _) = self.encoder(x)
        repeated = hidden[-1].unsqueeze(1).repeat(1, x.size(1), 1)
        decoded, _ = self.decoder(repeated)
        return self.out(decoded)


class Espcn(nn.Module):
    """Shi et al. 2016: sub-pixel convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 5, padding=2), nn.Conv2d(32, 16, 3, padding=1)
        self.conv3, self.shuffle = nn.Conv2d(16, 4, 3, padding=1), nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.conv2(torch.tanh(self.conv1(x))))
        return torch.sigmoid(self.shuffle(self.conv3(x)))


class Edsr(nn.Module):
    """Lim et al. 2017: residual blocks without norms, scaled, around a mean shift."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.45, 0.44, 0.4]).view(1, 3, 1, 1))
        self.head, self.tail = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 12, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)
            )
            for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x - self.mean)
        skip = x
        for block in self.blocks:
            x = x + block(x).mul(0.1)
        return F.pixel_shuffle(self.tail(x + skip), 2) + self.mean


class StyleNet(nn.Module):
    """Johnson et al. 2016: reflection padding, instance norm, nearest upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(
                nn.ReflectionPad2d(4),
                nn.Conv2d(3, 8, 9),
                nn.InstanceNorm2d(8, affine=True),
                nn.ReLU(),
            ),
            *(nn.ReflectionPad2d(1), nn.Conv2d(8, 16, 3, 2), nn.InstanceNorm2d(16, affine=True)),
            *(nn.ReLU(), nn.Upsample(scale_factor=2, mode="nearest"), nn.ReflectionPad2d(1)),
            *(nn.Conv2d(16, 8, 3), nn.InstanceNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class DnCnn(nn.Module):
    """Zhang et al. 2017: the network predicts the noise."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(3):
            layers += [
                nn.Conv2d(24, 24, 3, padding=1, bias=False),
                nn.BatchNorm2d(24),
                nn.PReLU(24),
            ]
        self.dncnn = nn.Sequential(*layers, nn.Conv2d(24, 1, 3, padding=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return x - self.dncnn(x)


GRAY, COLOURS = (1, 32, 32), (3, 32, 32)
DENSE = [
    Entry("Segmentation", "U-Net", lambda: UNet(bilinear=False), COLOURS, "dense"),
    Entry("Segmentation", "U-Net, bilinear", lambda: UNet(bilinear=True), COLOURS, "dense"),
    Entry("Segmentation", "FCN", Fcn, COLOURS, "dense"),
    Entry("Segmentation", "DeepLab head", DeepLab, COLOURS, "dense"),
    Entry("Segmentation", "SegNet", SegNet, COLOURS, "dense"),
    Entry("Segmentation", "PSPNet head", Pyramid, COLOURS, "dense"),
    Entry("Auto-encoders", "MLPerf Tiny anomaly", anomaly, (640,), "values"),
    Entry("Auto-encoders", "Images", image_autoencoder, GRAY, "values"),
    Entry("Auto-encoders", "Signals", SignalAutoencoder, (1, 128), "values"),
    Entry("Auto-encoders", "LSTM", LstmAutoencoder, (16, 3), "values"),
    Entry("Image to image", "ESPCN", Espcn, GRAY, "values"),
    Entry("Image to image", "EDSR", Edsr, COLOURS, "values"),
    Entry("Image to image", "Style transfer", StyleNet, COLOURS, "values"),
    Entry("Image to image", "DnCNN", DnCnn, GRAY, "values"),
]
