"""Keyword spotting, ECG, vibration and other one-dimensional tasks, written from the papers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_models.entry import Entry

FRAMES, BANDS = 49, 10


class DsCnn(nn.Module):
    """Zhang et al. 2017, Hello Edge: depthwise separable convolutions on MFCCs (MLPerf Tiny)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(1, 64, (10, 4), (2, 2), (4, 1)),
            nn.BatchNorm2d(64),
            nn.ReLU(),
        ]
        for _ in range(4):
            layers += [nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.BatchNorm2d(64), nn.ReLU()]
            layers += [nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64), nn.ReLU()]
        self.body, self.fc = nn.Sequential(*layers, nn.Dropout(0.4)), nn.Linear(64, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.fc(F.avg_pool2d(x, x.shape[2:]).flatten(1))


class SubSpectralNorm(nn.Module):
    """Chang et al. 2021: a batch norm for each group of frequency bands."""

    def __init__(self, c: int, groups: int) -> None:
        super().__init__()
        self.groups, self.bn = groups, nn.BatchNorm2d(c * groups)

    def forward(self, x: Tensor) -> Tensor:
        n, c, f, t = x.size()
        x = x.view(n, c * self.groups, f // self.groups, t)
        return self.bn(x).view(n, c, f, t)


class BroadcastBlock(nn.Module):
    """Kim et al. 2021, BC-ResNet: features without frequency are added to all frequencies."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.frequency = nn.Sequential(
            nn.Conv2d(c, c, (3, 1), padding=(1, 0), groups=c, bias=False), SubSpectralNorm(c, 5)
        )
        self.time = nn.Sequential(
            nn.Conv2d(c, c, (1, 3), padding=(0, 1), groups=c, bias=False),
            *(nn.BatchNorm2d(c), nn.SiLU(), nn.Conv2d(c, c, 1, bias=False), nn.Dropout2d(0.1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        both = self.frequency(x)
        mean = both.mean(2, keepdim=True)
        return F.relu(self.time(mean) + both + x)


class BcResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 16, 5, (2, 1), 2, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.blocks = nn.Sequential(*(BroadcastBlock(16) for _ in range(3)))
        self.head = nn.Conv2d(16, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x)).mean(2, keepdim=True).mean(3, keepdim=True)
        return self.head(x).view(-1, 12)


class TcBlock(nn.Module):
    """Choi et al. 2019, TC-ResNet: bands are channels, convolutions run over time."""

    def __init__(self, c: int, k: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(c, k, 9, 2, 4, bias=False)
        self.conv2 = nn.Conv1d(k, k, 9, 1, 4, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm1d(k), nn.BatchNorm1d(k)
        self.short = nn.Sequential(nn.Conv1d(c, k, 1, 2, bias=False), nn.BatchNorm1d(k), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (out + self.short(x)).relu_()


class TcResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(40, 16, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList([TcBlock(16, 24), TcBlock(24, 32), TcBlock(32, 48)])
        self.dropout, self.fc = nn.Dropout(0.5), nn.Conv1d(48, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x.squeeze(1))
        for block in self.blocks:
            x = block(x)
        x = F.adaptive_avg_pool1d(x, 1)
        return self.fc(self.dropout(x)).squeeze(dim=-1)


class M5(nn.Module):
    """Dai et al. 2017: very deep convolutions on the raw wave."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.pool1 = (
            nn.Conv1d(1, 32, 80, 16),
            nn.BatchNorm1d(32),
            nn.MaxPool1d(4),
        )
        self.conv2, self.bn2, self.pool2 = nn.Conv1d(32, 32, 3), nn.BatchNorm1d(32), nn.MaxPool1d(4)
        self.conv3, self.bn3, self.pool3 = nn.Conv1d(32, 64, 3), nn.BatchNorm1d(64), nn.MaxPool1d(4)
        self.fc1 = nn.Linear(64, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(F.relu(self.bn1(self.conv1(x))))
        x = self.pool2(F.relu(self.bn2(self.conv2(x))))
        x = self.pool3(F.relu(self.bn3(self.conv3(x))))
        x = F.avg_pool1d(x, x.shape[-1]).permute(0, 2, 1)
        return F.log_softmax(self.fc1(x), dim=2).squeeze(1)


class Recurrent(nn.Module):
    """A recurrent network over frames, read at the last one or averaged."""

    def __init__(
        self, kind: str, *, mean: bool = False, bidirectional: bool = False, layers: int = 1
    ) -> None:
        super().__init__()
        options = {"batch_first": True, "bidirectional": bidirectional, "num_layers": layers}
        self.rnn = getattr(nn, kind)(BANDS, 32, **options)
        self.mean, self.fc = mean, nn.Linear(64 if bidirectional else 32, 12)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x.squeeze(1))
        return self.fc(out.mean(dim=1) if self.mean else out[:, -1, :])


class Crnn(nn.Module):
    """Arik et al. 2017: a convolution, then a bidirectional GRU, time first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, (5, BANDS), stride=(2, 1))
        self.gru, self.fc = nn.GRU(16, 24, bidirectional=True), nn.Linear(48, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x)).squeeze(3).permute(2, 0, 1)
        _, last = self.gru(x)
        return self.fc(torch.cat((last[0], last[1]), dim=1))


class KeywordTransformer(nn.Module):
    """Berg et al. 2021: each frame is a token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.token = nn.Linear(BANDS, 32), nn.Parameter(torch.zeros(1, 1, 32))
        self.position = nn.Parameter(torch.randn(1, FRAMES + 1, 32))
        layer = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 12))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.squeeze(1))
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), dim=1) + self.position
        return self.head(self.encoder(x)[:, 0])


class EcgBlock(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(c, c, 5, padding=2), nn.Conv1d(c, c, 5, padding=2)
        self.pool = nn.MaxPool1d(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(F.relu(self.conv2(F.relu(self.conv1(x))) + x))


class EcgResNet(nn.Module):
    """Kachuee et al. 2018: heartbeats of 187 samples in five classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 32, 5)
        self.blocks = nn.Sequential(*(EcgBlock(32) for _ in range(4)))
        self.head = nn.Sequential(nn.Flatten(), nn.LazyLinear(32), nn.ReLU(), nn.Linear(32, 5))
        with torch.no_grad():
            self(torch.zeros(1, 1, 187))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.conv(x)))


class EcgLstm(nn.Module):
    """Convolutions that shorten the beat, two LSTM layers, the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv1d(1, 16, 7, 3), nn.BatchNorm1d(16), nn.ReLU()),
            *(nn.Conv1d(16, 24, 5, 2), nn.BatchNorm1d(24), nn.LeakyReLU(0.1)),
        )
        self.lstm = nn.LSTM(24, 24, num_layers=2, batch_first=True, dropout=0.2)
        self.fc = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x).transpose(1, 2)
        _, (hidden, _) = self.lstm(x)
        return self.fc(hidden[-1])


class Causal(nn.Module):
    """Bai et al. 2018, TCN: dilated convolutions, weight norm, the padded end cut off."""

    def __init__(self, c: int, k: int, dilation: int) -> None:
        super().__init__()
        norm, self.cut = nn.utils.parametrizations.weight_norm, 2 * dilation
        self.conv1 = norm(nn.Conv1d(c, k, 3, padding=self.cut, dilation=dilation))
        self.conv2 = norm(nn.Conv1d(k, k, 3, padding=self.cut, dilation=dilation))
        self.down = nn.Conv1d(c, k, 1) if c != k else None

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.conv1(x)[:, :, : -self.cut].contiguous())
        out = F.relu(self.conv2(out)[:, :, : -self.cut].contiguous())
        return F.relu(out + (x if self.down is None else self.down(x)))


class Tcn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(Causal(3, 16, 1), Causal(16, 16, 2), Causal(16, 24, 4))
        self.linear = nn.Linear(24, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.network(x)[:, :, -1])


class InceptionTime(nn.Module):
    """Fawaz et al. 2020: long, middle and short convolutions beside a pool."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.bottleneck = nn.Conv1d(c, 16, 1, bias=False)
        self.convs = nn.ModuleList(
            nn.Conv1d(16, 8, size, padding="same", bias=False) for size in (40, 20, 10)
        )
        self.pool = nn.Sequential(nn.MaxPool1d(3, 1, 1), nn.Conv1d(c, 8, 1, bias=False))
        self.bn = nn.BatchNorm1d(32)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.bottleneck(x)
        parts = [conv(narrow) for conv in self.convs]
        return F.relu(self.bn(torch.cat([*parts, self.pool(x)], axis=1)))


class Har(nn.Module):
    """Ordóñez and Roggen 2016, DeepConvLSTM: activities from three accelerometers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 16, (5, 1)), nn.ReLU(), nn.Conv2d(16, 16, (5, 1)), nn.ReLU()
        )
        self.lstm, self.fc = nn.LSTM(48, 32, batch_first=True), nn.Linear(32, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x.transpose(1, 2).unsqueeze(1))
        x = x.permute(0, 2, 1, 3).flatten(start_dim=2)
        out, _ = self.lstm(x)
        return self.fc(out[:, -1])


def inception_time() -> nn.Module:
    return nn.Sequential(
        *(InceptionTime(3), InceptionTime(32)),
        *(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 6)),
    )


SPECTRUM = (1, FRAMES, BANDS)
SOUND_AND_SIGNALS = [
    Entry("Keyword spotting", "DS-CNN", DsCnn, SPECTRUM),
    Entry("Keyword spotting", "BC-ResNet", BcResNet, (1, 40, 49)),
    Entry("Keyword spotting", "TC-ResNet", TcResNet, (1, 40, 49)),
    Entry("Keyword spotting", "M5, raw wave", M5, (1, 4000)),
    Entry("Keyword spotting", "LSTM", lambda: Recurrent("LSTM"), SPECTRUM),
    Entry("Keyword spotting", "GRU, two layers", lambda: Recurrent("GRU", layers=2), SPECTRUM),
    Entry("Keyword spotting", "RNN, mean", lambda: Recurrent("RNN", mean=True), SPECTRUM),
    Entry(
        "Keyword spotting",
        "LSTM, both ways",
        lambda: Recurrent("LSTM", mean=True, bidirectional=True),
        SPECTRUM,
    ),
    Entry("Keyword spotting", "CRNN", Crnn, SPECTRUM),
    Entry("Keyword spotting", "Keyword transformer", KeywordTransformer, SPECTRUM),
    Entry("Signals", "ECG ResNet", EcgResNet, (1, 187)),
    Entry("Signals", "ECG CNN and LSTM", EcgLstm, (1, 187)),
    Entry("Signals", "TCN, weight norm", Tcn, (3, 64)),
    Entry("Signals", "InceptionTime", inception_time, (3, 64)),
    Entry("Signals", "DeepConvLSTM", Har, (3, 32)),
]
