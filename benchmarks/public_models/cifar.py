"""Networks for 32x32 images as public CIFAR repositories have them, written from the papers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_models.entry import Entry


def conv(c: int, k: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c, k, size, stride, size // 2, groups=groups, bias=False)


class PreActBlock(nn.Module):
    """He et al. 2016, Identity Mappings in Deep Residual Networks, optionally squeezed (SENet)."""

    def __init__(self, c: int, k: int, stride: int, squeeze: bool = False) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(c), nn.BatchNorm2d(k)
        self.conv1, self.conv2 = conv(c, k, stride=stride), conv(k, k)
        if stride != 1 or c != k:
            self.shortcut = conv(c, k, 1, stride)
        if squeeze:
            self.fc1, self.fc2 = nn.Conv2d(k, k // 8, 1), nn.Conv2d(k // 8, k, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(x))
        short = self.shortcut(out) if hasattr(self, "shortcut") else x
        out = self.conv2(F.relu(self.bn2(self.conv1(out))))
        if hasattr(self, "fc1"):
            gate = F.avg_pool2d(out, out.size(2))
            out = out * torch.sigmoid(self.fc2(F.relu(self.fc1(gate))))
        out += short
        return out


class PreActResNet(nn.Module):
    def __init__(self, squeeze: bool = False) -> None:
        super().__init__()
        widths, layers, c = (16, 32, 64), [], 16
        self.conv1 = conv(3, 16)
        for number, k in enumerate(widths):
            layers += [PreActBlock(c, k, 1 + (number > 0), squeeze), PreActBlock(k, k, 1, squeeze)]
            c = k
        self.layers = nn.Sequential(*layers)
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = F.avg_pool2d(self.layers(self.conv1(x)), 8)
        return self.linear(out.view(out.size(0), -1))


class WideResNet(nn.Module):
    """Zagoruyko and Komodakis 2016, with dropout inside blocks and a last norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 16)
        self.blocks = nn.ModuleList()
        c = 16
        for number, k in enumerate((32, 64, 128)):
            self.blocks.append(PreActBlock(c, k, 1 + (number > 0)))
            c = k
        self.drop, self.bn, self.fc = nn.Dropout(0.3), nn.BatchNorm2d(128), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)
        for block in self.blocks:
            out = self.drop(block(out))
        out = F.adaptive_avg_pool2d(F.relu(self.bn(out), inplace=True), 1)
        return self.fc(torch.flatten(out, 1))


class DenseNet(nn.Module):
    """Huang et al. 2017, DenseNet-BC: bottlenecks whose outputs are joined."""

    def __init__(self, growth: int = 12) -> None:
        super().__init__()
        c = 2 * growth
        self.conv1 = conv(3, c)
        self.stages = nn.ModuleList()
        for stage in range(3):
            layers = nn.ModuleList()
            for _ in range(4):
                norms = nn.BatchNorm2d(c), nn.BatchNorm2d(4 * growth)
                convs = conv(c, 4 * growth, 1), conv(4 * growth, growth)
                layers.append(
                    nn.Sequential(norms[0], nn.ReLU(), convs[0], norms[1], nn.ReLU(), convs[1])
                )
                c += growth
            self.stages.append(layers)
            if stage < 2:
                layers.append(nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), conv(c, c // 2, 1)))
                c //= 2
        self.bn, self.linear = nn.BatchNorm2d(c), nn.Linear(c, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)
        for stage in self.stages:
            for number, layer in enumerate(stage):
                if number == 4:
                    out = F.avg_pool2d(layer(out), 2)
                else:
                    out = torch.cat([layer(out), out], 1)
        out = F.avg_pool2d(F.relu(self.bn(out)), 8)
        return self.linear(out.view(out.size(0), -1))


class Shuffle(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.size()
        return x.view(n, 2, c // 2, h, w).permute(0, 2, 1, 3, 4).reshape(n, c, h, w)


class ShuffleBlock(nn.Module):
    """Ma et al. 2018, ShuffleNet V2: split, convolve one half, join, shuffle."""

    def __init__(self, c: int, k: int, stride: int) -> None:
        super().__init__()
        self.stride, half = stride, k // 2
        first = c if stride == 2 else half
        self.main = nn.Sequential(
            *(conv(first, half, 1), nn.BatchNorm2d(half), nn.ReLU()),
            *(conv(half, half, 3, stride, half), nn.BatchNorm2d(half)),
            *(conv(half, half, 1), nn.BatchNorm2d(half), nn.ReLU()),
        )
        if stride == 2:
            self.side = nn.Sequential(
                *(conv(c, c, 3, 2, c), nn.BatchNorm2d(c)),
                *(conv(c, half, 1), nn.BatchNorm2d(half), nn.ReLU()),
            )
        self.shuffle = Shuffle()

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2:
            return self.shuffle(torch.cat((self.side(x), self.main(x)), dim=1))
        first, second = x.chunk(2, dim=1)
        return self.shuffle(torch.cat((first, self.main(second)), dim=1))


class ShuffleNetV2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 24), nn.BatchNorm2d(24), nn.ReLU(inplace=True))
        layers, c = [], 24
        for k in (48, 96, 192):
            layers += [ShuffleBlock(c, k, 2), ShuffleBlock(k, k, 1), ShuffleBlock(k, k, 1)]
            c = k
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(192, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layers(self.stem(x)).mean([2, 3]))


class GroupShuffle(nn.Module):
    """Zhang et al. 2018, ShuffleNet: grouped 1x1 convolutions and a channel shuffle."""

    def __init__(self, c: int, k: int, stride: int) -> None:
        super().__init__()
        self.stride, out = stride, k - c if stride == 2 else k
        self.conv1, self.bn1 = conv(c, k // 4, 1, groups=2 if c > 24 else 1), nn.BatchNorm2d(k // 4)
        self.conv2 = conv(k // 4, k // 4, 3, stride, k // 4)
        self.conv3, self.bn2 = conv(k // 4, out, 1, groups=2), nn.BatchNorm2d(k // 4)
        self.bn3, self.shuffle = nn.BatchNorm2d(out), Shuffle()

    def forward(self, x: Tensor) -> Tensor:
        out = self.shuffle(F.relu(self.bn1(self.conv1(x))))
        out = self.bn3(self.conv3(self.bn2(self.conv2(out))))
        if self.stride == 2:
            return F.relu(torch.cat([out, F.avg_pool2d(x, 3, 2, 1)], 1))
        return F.relu(out + x)


class DualPath(nn.Module):
    """Chen et al. 2017, Dual Path Networks: slices added, the rest joined."""

    def __init__(self, c: int, k: int, dense: int, stride: int) -> None:
        super().__init__()
        self.k = k
        self.body = nn.Sequential(
            *(conv(c, 32, 1), nn.BatchNorm2d(32), nn.ReLU()),
            *(conv(32, 32, 3, stride, 8), nn.BatchNorm2d(32), nn.ReLU()),
            *(conv(32, k + dense, 1), nn.BatchNorm2d(k + dense)),
        )
        self.first = stride == 2
        if self.first:
            self.short = nn.Sequential(conv(c, k + dense, 1, stride), nn.BatchNorm2d(k + dense))

    def forward(self, x: Tensor) -> Tensor:
        out, k = self.body(x), self.k
        x = self.short(x) if self.first else x
        joined = [x[:, :k] + out[:, :k], x[:, k:], out[:, k:]]
        return F.relu(torch.cat(joined, 1))


class PnasCell(nn.Module):
    """Liu et al. 2018, PNASNet's cell A: a separable convolution beside a pool."""

    def __init__(self, c: int, k: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.separable = conv(c, k, 7, stride, groups=c)
        self.bn1 = nn.BatchNorm2d(k)
        self.conv1, self.bn2 = conv(c, k, 1), nn.BatchNorm2d(k)

    def forward(self, x: Tensor) -> Tensor:
        first = self.bn1(self.separable(x))
        second = F.max_pool2d(x, kernel_size=3, stride=self.stride, padding=1)
        if self.stride == 2:
            second = self.bn2(self.conv1(second))
        return F.relu(first + second)


class Tree(nn.Module):
    """Yu et al. 2018, Deep Layer Aggregation: a root joins what its two sides say."""

    def __init__(self, c: int, k: int, level: int, stride: int) -> None:
        super().__init__()
        if level == 1:
            self.left, self.right = Residual(c, k, stride), Residual(k, k, 1)
        else:
            self.left, self.right = Tree(c, k, level - 1, stride), Tree(k, k, level - 1, 1)
        self.root, self.bn = conv(2 * k, k, 1), nn.BatchNorm2d(k)

    def forward(self, x: Tensor) -> Tensor:
        first = self.left(x)
        second = self.right(first)
        return F.relu(self.bn(self.root(torch.cat([first, second], 1))))


class Residual(nn.Module):
    def __init__(self, c: int, k: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(c, k, 3, stride), nn.BatchNorm2d(k)
        self.conv2, self.bn2 = conv(k, k), nn.BatchNorm2d(k)
        self.shortcut = nn.Sequential()
        if stride != 1 or c != k:
            self.shortcut = nn.Sequential(conv(c, k, 1, stride), nn.BatchNorm2d(k))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        out += self.shortcut(x)
        return F.relu(out)


class Pooled(nn.Module):
    """Blocks, a pool over all that is left, a linear layer."""

    def __init__(self, width: int, *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.linear = nn.Sequential(*layers), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layers(x)
        out = F.avg_pool2d(out, out.shape[-1])
        return self.linear(out.view(out.shape[0], -1))


def stem(k: int) -> list[nn.Module]:
    return [conv(3, k), nn.BatchNorm2d(k), nn.ReLU()]


def shufflenet() -> nn.Module:
    blocks = [GroupShuffle(24, 64, 2), GroupShuffle(64, 64, 1), GroupShuffle(64, 128, 2)]
    return Pooled(128, *stem(24), *blocks, GroupShuffle(128, 128, 1))


def dpn() -> nn.Module:
    first = [DualPath(32, 48, 8, 2), DualPath(64, 48, 8, 1), DualPath(72, 48, 8, 1)]
    return Pooled(112, *stem(32), *first, DualPath(80, 96, 8, 2))


def pnasnet() -> nn.Module:
    cells = [PnasCell(32, 32, 1), PnasCell(32, 64, 2), PnasCell(64, 64, 1), PnasCell(64, 128, 2)]
    return Pooled(128, *stem(32), *cells)


def dla() -> nn.Module:
    trees = [Tree(16, 32, 1, 1), Tree(32, 64, 2, 2), Tree(64, 128, 2, 2)]
    return Pooled(128, *stem(16), *trees)


def resnet() -> nn.Module:
    blocks = [Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2)]
    return Pooled(64, *stem(16), *blocks)


def vgg() -> nn.Module:
    layers: list[nn.Module] = []
    c = 3
    for k in (32, 0, 64, 0, 128, 128, 0, 128, 128, 0):
        layers += (
            [nn.MaxPool2d(2, 2)]
            if not k
            else [nn.Conv2d(c, k, 3, padding=1), nn.BatchNorm2d(k), nn.ReLU(inplace=True)]
        )
        c = k or c
    return nn.Sequential(
        *layers, nn.AvgPool2d(1, 1), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, 10)
    )


class AllConvolutional(nn.Module):
    """Springenberg et al. 2015, Striving for Simplicity, with log-probabilities as the output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 48, 3, padding=1), nn.Conv2d(48, 48, 3, 2, 1)
        self.conv3, self.conv4 = nn.Conv2d(48, 96, 3, 2, 1), nn.Conv2d(96, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(x, 0.2, self.training)
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = F.relu(layer(x))
        return F.log_softmax(x.mean(dim=(2, 3)), dim=1)


MODELS = {
    "ResNet": resnet,
    "PreActResNet": PreActResNet,
    "SENet": lambda: PreActResNet(squeeze=True),
    "WideResNet": WideResNet,
    "DenseNet": DenseNet,
    "VGG": vgg,
    "ShuffleNet": shufflenet,
    "ShuffleNetV2": ShuffleNetV2,
    "DPN": dpn,
    "PNASNet": pnasnet,
    "DLA": dla,
    "All convolutional": AllConvolutional,
}
CIFAR = [Entry("CIFAR repositories", name, build, (3, 32, 32)) for name, build in MODELS.items()]
