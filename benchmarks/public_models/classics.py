"""The classic ImageNet architectures in torchvision's manner, written from the papers, narrow."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_models.entry import Entry


class AlexNet(nn.Module):
    """Krizhevsky et al. 2012."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 32, 11, stride=4, padding=2), nn.ReLU(inplace=True)),
            *(nn.MaxPool2d(3, 2), nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(inplace=True)),
            *(nn.MaxPool2d(3, 2), nn.Conv2d(64, 96, 3, padding=1), nn.ReLU(inplace=True)),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((3, 3))
        self.classifier = nn.Sequential(
            *(nn.Dropout(), nn.Linear(96 * 9, 128), nn.ReLU(inplace=True)),
            *(nn.Dropout(), nn.Linear(128, 128), nn.ReLU(inplace=True), nn.Linear(128, 10)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class Fire(nn.Module):
    """Iandola et al. 2016, SqueezeNet."""

    def __init__(self, c: int, squeeze: int, k: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(c, squeeze, 1)
        self.small, self.large = nn.Conv2d(squeeze, k, 1), nn.Conv2d(squeeze, k, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x), inplace=True)
        return torch.cat([F.relu(self.small(x)), F.relu(self.large(x))], 1)


def squeezenet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, stride=2), nn.ReLU(inplace=True)),
        *(nn.MaxPool2d(3, 2, ceil_mode=True), Fire(32, 16, 32), Fire(64, 16, 32)),
        *(nn.MaxPool2d(3, 2, ceil_mode=True), Fire(64, 24, 48), Fire(96, 24, 48)),
        *(nn.Dropout(0.5), nn.Conv2d(96, 10, 1), nn.ReLU(inplace=True)),
        *(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()),
    )


class Unit(nn.Sequential):
    """Convolution, batch norm, activation."""

    def __init__(self, c: int, k: int, size: Any = 1, act: Any = nn.ReLU, **options: Any) -> None:
        layers = [nn.Conv2d(c, k, size, bias=False, **options), nn.BatchNorm2d(k, eps=0.001)]
        super().__init__(*layers, *([act(inplace=True)] if act else []))


class Inception(nn.Module):
    """Szegedy et al. 2015, GoogLeNet."""

    def __init__(self, c: int, k: int) -> None:
        super().__init__()
        self.branch1 = Unit(c, k)
        self.branch2 = nn.Sequential(Unit(c, k), Unit(k, 2 * k, 3, padding=1))
        self.branch3 = nn.Sequential(Unit(c, k // 2), Unit(k // 2, k, 3, padding=1))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), Unit(c, k))

    def forward(self, x: Tensor) -> Tensor:
        outputs = [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)]
        return torch.cat(outputs, 1)


class GoogLeNet(nn.Module):
    """With an auxiliary head that serves training only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = Unit(3, 32, 7, stride=2, padding=3), Unit(32, 48, 3, padding=1)
        self.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception3, self.inception4 = Inception(48, 16), Inception(80, 24)
        self.aux = nn.Linear(80, 10)
        self.avgpool, self.dropout, self.fc = (
            nn.AdaptiveAvgPool2d(1),
            nn.Dropout(),
            nn.Linear(120, 10),
        )

    def forward(self, x: Tensor) -> Any:
        x = self.maxpool(self.conv2(self.maxpool(self.conv1(x))))
        x = self.inception3(x)
        extra = self.aux(x.mean((2, 3))) if self.training else None
        x = torch.flatten(self.avgpool(self.inception4(x)), 1)
        x = self.fc(self.dropout(x))
        return (x, extra) if self.training else x


class Factorized(nn.Module):
    """Szegedy et al. 2016, Inception v3: 1x7 and 7x1 convolutions, an average pool branch."""

    def __init__(self, c: int, k: int) -> None:
        super().__init__()
        self.branch1 = Unit(c, k)
        self.branch7 = nn.Sequential(
            Unit(c, k), Unit(k, k, (1, 7), padding=(0, 3)), Unit(k, k, (7, 1), padding=(3, 0))
        )
        self.pool = Unit(c, k)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)
        return torch.cat([self.branch1(x), self.branch7(x), self.pool(pooled)], 1)


class InceptionV3(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(Unit(3, 16, 3, stride=2), Unit(16, 32, 3), nn.MaxPool2d(3, 2))
        self.mixed1, self.mixed2 = Factorized(32, 24), Factorized(72, 32)
        self.fc = nn.Linear(96, 10)

    def forward(self, x: Tensor) -> Tensor:
        red = torch.unsqueeze(x[:, 0], 1) * (0.229 / 0.5) + (0.485 - 0.5) / 0.5
        green = torch.unsqueeze(x[:, 1], 1) * (0.224 / 0.5) + (0.456 - 0.5) / 0.5
        blue = torch.unsqueeze(x[:, 2], 1) * (0.225 / 0.5) + (0.406 - 0.5) / 0.5
        x = self.mixed2(self.mixed1(self.stem(torch.cat((red, green, blue), 1))))
        x = F.adaptive_avg_pool2d(F.dropout(x, training=self.training), (1, 1))
        return self.fc(torch.flatten(x, 1))


class Squeeze(nn.Module):
    """Hu et al. 2018, with hard activations (Howard et al. 2019) or soft ones."""

    def __init__(self, c: int, hidden: int, act: Any, gate: Any) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(c, hidden, 1), nn.Conv2d(hidden, c, 1)
        self.act, self.gate, self.pool = act(), gate(), nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(self.fc2(self.act(self.fc1(self.pool(x))))) * x


class Inverted(nn.Module):
    """Sandler et al. 2018, MobileNetV2; with a squeeze, those of V3 and EfficientNet."""

    def __init__(
        self, c: int, k: int, *, stride: int = 1, size: int = 3, act: Any = nn.ReLU6, se: Any = None
    ) -> None:
        super().__init__()
        wide = 4 * c
        layers: list[nn.Module] = [Unit(c, wide, act=act)]
        layers += [Unit(wide, wide, size, act, stride=stride, padding=size // 2, groups=wide)]
        if se:
            layers.append(Squeeze(wide, c, nn.ReLU if se is nn.Hardsigmoid else nn.SiLU, se))
        self.conv = nn.Sequential(*layers, Unit(wide, k, act=None))
        self.add = stride == 1 and c == k

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.add else self.conv(x)


class Mobile(nn.Module):
    """A stem, inverted residuals, a wide 1x1 convolution, a head."""

    def __init__(self, act: Any, se: Any, last: Any, size: int = 3) -> None:
        super().__init__()
        steps = ((16, 16, 1), (16, 24, 2), (24, 24, 1), (24, 40, 2), (40, 40, 1), (40, 80, 2))
        blocks = [Inverted(c, k, stride=s, size=size, act=act, se=se) for c, k, s in steps]
        first = Unit(3, 16, 3, act, stride=2, padding=1)
        self.features = nn.Sequential(first, *blocks, Unit(80, 160, act=act))
        self.classifier = nn.Sequential(
            nn.Linear(160, 128), last(), nn.Dropout(0.2), nn.Linear(128, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean([2, 3]))


class ConvNeXtBlock(nn.Module):
    """Liu et al. 2022, a permutation around a norm over the last axis, a layer scale."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.dwconv, self.norm = nn.Conv2d(c, c, 7, padding=3, groups=c), nn.LayerNorm(c, eps=1e-6)
        self.pw1, self.pw2 = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)
        self.gamma = nn.Parameter(1e-6 * torch.ones(c))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pw2(F.gelu(self.pw1(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 4, 4)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(32) for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.stem(x)).mean([-2, -1])))


class Mixer(nn.Module):
    """Tolstikhin et al. 2021, MLP-Mixer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 64, 8, 8)
        self.norms = nn.ModuleList(nn.LayerNorm(64) for _ in range(4))
        sizes = (64, 64, 64, 64)
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(k, 2 * k), nn.GELU(), nn.Linear(2 * k, k)) for k in sizes
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        for number in (0, 2):
            x = x + self.mlps[number](self.norms[number](x).transpose(1, 2)).transpose(1, 2)
            x = x + self.mlps[number + 1](self.norms[number + 1](x))
        return self.head(x.mean(1))


class GhostUnit(nn.Module):
    """Han et al. 2020, GhostNet: half of the maps are cheap copies of the other half."""

    def __init__(self, c: int, k: int) -> None:
        super().__init__()
        self.primary = Unit(c, k // 2)
        self.cheap = Unit(k // 2, k // 2, 3, padding=1, groups=k // 2)

    def forward(self, x: Tensor) -> Tensor:
        first = self.primary(x)
        return torch.cat([first, self.cheap(first)], dim=1)


def ghostnet() -> nn.Module:
    layers = [Unit(3, 16, 3, stride=2, padding=1), GhostUnit(16, 32), nn.MaxPool2d(2)]
    return nn.Sequential(
        *layers,
        GhostUnit(32, 64),
        nn.MaxPool2d(2),
        GhostUnit(64, 96),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(1),
        nn.Linear(96, 10),
    )


def lenet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh()),
        *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16 * 13 * 13, 120), nn.Tanh()),
        *(nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10), nn.Softmax(dim=1)),
    )


MODELS = {
    "LeNet-5, softmax": lenet,
    "AlexNet": AlexNet,
    "SqueezeNet": squeezenet,
    "GoogLeNet": GoogLeNet,
    "Inception v3": InceptionV3,
    "MobileNetV2": lambda: Mobile(nn.ReLU6, None, nn.Identity),
    "MobileNetV3": lambda: Mobile(nn.Hardswish, nn.Hardsigmoid, nn.Hardswish, 5),
    "MNASNet": lambda: Mobile(nn.ReLU, None, nn.ReLU, 5),
    "EfficientNet": lambda: Mobile(nn.SiLU, nn.Sigmoid, nn.SiLU),
    "ConvNeXt": ConvNeXt,
    "GhostNet": ghostnet,
    "MLP-Mixer": Mixer,
}
CLASSICS = [Entry("Classics", name, build, (3, 64, 64)) for name, build in MODELS.items()]
