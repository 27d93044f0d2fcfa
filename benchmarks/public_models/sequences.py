"""Text, points, volumes, tables, and modules wrapped by torch's own tools; from the papers."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from public_models.entry import Entry

WORDS, VOCABULARY = 24, 200


class BagOfWords(nn.Module):
    """Joulin et al. 2017, fastText, over words of equal number."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.fc = nn.Embedding(VOCABULARY, 32), nn.Linear(32, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc(self.embedding(tokens).mean(dim=1))


class TextCnn(nn.Module):
    """Kim 2014: convolutions of three widths, the largest value over time."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 32)
        self.convs = nn.ModuleList(nn.Conv2d(1, 16, (size, 32)) for size in (3, 4, 5))
        self.dropout, self.fc = nn.Dropout(0.5), nn.Linear(48, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens).unsqueeze(1)
        maps = [F.relu(conv(x)).squeeze(3) for conv in self.convs]
        pooled = [F.max_pool1d(one, one.size(2)).squeeze(2) for one in maps]
        return self.fc(self.dropout(torch.cat(pooled, 1)))


class TextLstm(nn.Module):
    """An embedding, an LSTM both ways, its last states joined."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 24, padding_idx=0)
        self.lstm = nn.LSTM(24, 16, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(32, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(self.embedding(tokens))
        return self.fc(torch.cat((hidden[-2], hidden[-1]), dim=1))


class TextGru(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(VOCABULARY, 24), nn.GRU(24, 24, batch_first=True)
        self.attend, self.fc = nn.Linear(24, 1), nn.Linear(24, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        out, _ = self.gru(self.embedding(tokens))
        weights = torch.softmax(self.attend(out), dim=1)
        return self.fc((weights * out).sum(dim=1))


class Positions(nn.Module):
    """Vaswani et al. 2017: sines and cosines, in a buffer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        place = torch.arange(64).unsqueeze(1)
        rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
        table = torch.zeros(64, width)
        table[:, 0::2], table[:, 1::2] = torch.sin(place * rate), torch.cos(place * rate)
        self.register_buffer("table", table.unsqueeze(0))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table[:, : x.size(1)]


class Encoder(nn.Module):
    """torch's own encoder, sequence first as its tutorial has it, or batch first."""

    def __init__(self, *, batch_first: bool, norm_first: bool = False) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(VOCABULARY, 32), Positions(32)
        layer = nn.TransformerEncoderLayer(
            32, 2, 64, batch_first=batch_first, norm_first=norm_first, activation="gelu"
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.fc, self.batch_first = nn.Linear(32, 4), batch_first

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.positions(self.embedding(tokens) * math.sqrt(32))
        if self.batch_first:
            return self.fc(self.encoder(x).mean(dim=1))
        return self.fc(self.encoder(x.permute(1, 0, 2)).mean(dim=0))


class CausalAttention(nn.Module):
    """Radford et al. 2019, as small public GPTs have it: a mask in a buffer, or a fused one."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused, self.qkv, self.out = fused, nn.Linear(32, 96), nn.Linear(32, 32)
        self.register_buffer("mask", torch.tril(torch.ones(64, 64)).view(1, 1, 64, 64))

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.size()
        q, k, v = (
            part.view(n, t, 2, c // 2).transpose(1, 2) for part in self.qkv(x).split(32, dim=2)
        )
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            scores = scores.masked_fill(self.mask[:, :, :t, :t] == 0, float("-inf"))
            y = F.softmax(scores, dim=-1) @ v
        return self.out(y.transpose(1, 2).contiguous().view(n, t, c))


class Gpt(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, 32), nn.Embedding(64, 32)
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(5))
        self.attention = nn.ModuleList(CausalAttention(fused) for _ in range(2))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 128), nn.GELU(approximate="tanh"), nn.Linear(128, 32))
            for _ in range(2)
        )
        self.head = nn.Linear(32, VOCABULARY, bias=False)
        self.words.weight = self.head.weight

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(0, tokens.size(1), dtype=torch.long, device=tokens.device)
        x = self.words(tokens) + self.places(places)
        for number, (attention, mlp) in enumerate(zip(self.attention, self.mlps, strict=True)):
            x = x + attention(self.norms[2 * number](x))
            x = x + mlp(self.norms[2 * number + 1](x))
        return self.head(self.norms[4](x))


class Bert(nn.Module):
    """Devlin et al. 2019: the first token decides, padding is masked."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = (
            nn.Embedding(VOCABULARY, 32),
            nn.Parameter(torch.randn(1, WORDS, 32)),
        )
        self.attention = nn.MultiheadAttention(32, 2, batch_first=True)
        self.norm1, self.norm2 = nn.LayerNorm(32), nn.LayerNorm(32)
        self.fc1, self.fc2 = nn.Linear(32, 64), nn.Linear(64, 32)
        self.pool, self.classify = nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens) + self.places
        attended, _ = self.attention(x, x, x, key_padding_mask=tokens == 0, need_weights=False)
        x = self.norm1(x + attended)
        x = self.norm2(x + self.fc2(F.gelu(self.fc1(x))))
        return self.classify(torch.tanh(self.pool(x[:, 0])))


class PointNet(nn.Module):
    """Qi et al. 2017, with the network that turns the points."""

    def __init__(self, turned: bool) -> None:
        super().__init__()
        self.turned = turned
        self.turn = nn.Sequential(nn.Conv1d(3, 32, 1), nn.BatchNorm1d(32), nn.ReLU())
        self.matrix = nn.Linear(32, 9)
        self.body = nn.Sequential(
            *(nn.Conv1d(3, 32, 1), nn.BatchNorm1d(32), nn.ReLU()),
            *(nn.Conv1d(32, 128, 1), nn.BatchNorm1d(128)),
        )
        self.head = nn.Sequential(
            nn.Linear(128, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.turned:
            matrix = self.matrix(torch.max(self.turn(x), 2, keepdim=False)[0])
            matrix = matrix.view(-1, 3, 3) + torch.eye(3, device=x.device)
            x = torch.bmm(x.transpose(2, 1), matrix).transpose(2, 1)
        return self.head(torch.max(self.body(x), 2)[0])


class C3d(nn.Module):
    """Tran et al. 2015: convolutions over time as well."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv3d(3, 16, 3, padding=1), nn.BatchNorm3d(16), nn.ReLU()),
            *(nn.MaxPool3d((1, 2, 2)), nn.Conv3d(16, 32, 3, padding=1), nn.ReLU()),
            *(nn.MaxPool3d(2), nn.Conv3d(32, 32, (3, 1, 1), padding=(1, 0, 0)), nn.ReLU()),
        )
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool3d(self.body(x), 1).flatten(1))


class VNet(nn.Module):
    """Milletari et al. 2016, small: volumes down and up again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv3d(1, 8, 3, padding=1), nn.Conv3d(8, 16, 2, 2)
        self.up, self.out = nn.ConvTranspose3d(16, 8, 2, 2), nn.Conv3d(16, 2, 1)
        self.norm = nn.GroupNorm(4, 16)

    def forward(self, x: Tensor) -> Tensor:
        first = F.elu(self.first(x))
        up = F.elu(self.up(F.elu(self.norm(self.down(first)))))
        return self.out(torch.cat((up, first), 1))


class Tabular(nn.Module):
    """Gorishniy et al. 2021, their ResNet for tables."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(20, 64)
        self.norms = nn.ModuleList(nn.BatchNorm1d(64) for _ in range(3))
        self.wide = nn.ModuleList(nn.Linear(64, 128) for _ in range(2))
        self.narrow = nn.ModuleList(nn.Linear(128, 64) for _ in range(2))
        self.head = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for norm, wide, narrow in zip(self.norms, self.wide, self.narrow, strict=False):
            x = x + narrow(F.dropout(F.relu(wide(norm(x))), 0.1, training=self.training))
        return self.head(F.relu(self.norms[2](x)))


class Gated(nn.Module):
    """Shazeer 2020, a gated layer, as tables and language models use it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up = nn.RMSNorm(20), nn.Linear(20, 64)
        self.gate, self.down = nn.Linear(20, 64), nn.Linear(64, 20)
        self.glu, self.head = nn.Sequential(nn.Linear(20, 64), nn.GLU()), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return self.head(self.glu(x))


def wrapped(how: str) -> nn.Module:
    """Return a small network whose weights torch computes from others, or that it wraps."""
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, 2), nn.ReLU()]
    ends = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 10)]
    norms = {
        "weight norm": parametrizations.weight_norm,
        "weight norm, old": nn.utils.weight_norm,
        "spectral norm": parametrizations.spectral_norm,
        "spectral norm, old": nn.utils.spectral_norm,
        "orthogonal": parametrizations.orthogonal,
    }
    for number in (0, 2):
        if how == "pruned":
            prune.l1_unstructured(layers[number], "weight", amount=0.5)
        elif how in norms:
            norms[how](layers[number])
    model: nn.Module = nn.Sequential(*layers, *ends)
    if how == "data parallel":
        return nn.DataParallel(model)
    return model


IMAGE, CLIP, WORD = (3, 32, 32), (3, 8, 16, 16), {"vocabulary": VOCABULARY}
WRAPPERS = ("weight norm", "weight norm, old", "spectral norm", "spectral norm, old")
SEQUENCES = [
    Entry("Text", "fastText", BagOfWords, (WORDS,), **WORD),
    Entry("Text", "TextCNN", TextCnn, (WORDS,), **WORD),
    Entry("Text", "LSTM, both ways", TextLstm, (WORDS,), **WORD),
    Entry("Text", "GRU with attention", TextGru, (WORDS,), **WORD),
    Entry("Text", "Encoder, batch first", lambda: Encoder(batch_first=True), (WORDS,), **WORD),
    Entry("Text", "Encoder, sequence first", lambda: Encoder(batch_first=False), (WORDS,), **WORD),
    Entry(
        "Text",
        "Encoder, norm first",
        lambda: Encoder(batch_first=True, norm_first=True),
        (WORDS,),
        **WORD,
    ),
    Entry("Text", "GPT, masked", lambda: Gpt(False), (WORDS,), "dense", channel_last=True, **WORD),
    Entry("Text", "GPT, fused", lambda: Gpt(True), (WORDS,), "dense", channel_last=True, **WORD),
    Entry("Text", "BERT, padding masked", Bert, (WORDS,), **WORD),
    Entry("Points and volumes", "PointNet", lambda: PointNet(turned=True), (3, 64)),
    Entry("Points and volumes", "PointNet, plain", lambda: PointNet(turned=False), (3, 64)),
    Entry("Points and volumes", "C3D", C3d, CLIP),
    Entry("Points and volumes", "V-Net", VNet, (1, 8, 16, 16), "dense"),
    Entry("Tables", "ResNet for tables", Tabular, (20,)),
    Entry("Tables", "Gated", Gated, (20,)),
    *(
        Entry("Wrapped", how, lambda how=how: wrapped(how), IMAGE)
        for how in (*WRAPPERS, "orthogonal", "pruned", "data parallel")
    ),
]
