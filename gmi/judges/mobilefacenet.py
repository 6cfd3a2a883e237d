"""Networks of MobileFaceNet's form: Chen et al., "MobileFaceNets", CCBR 2018, table 1, with batch norms folded in."""

from itertools import pairwise

from torch import Tensor, nn


class MobileFaceNetwork(nn.Module):
    """Images (N, channels, 16 k, 16 k) to rows (N, 512), or to rows (N, outputs) by a linear layer at the end.

    With `outputs` it is the lighter form for landmarks: units are rectified (ReLU) instead of having a slope (PReLU).
    """

    def __init__(self, channels: int, width: int, repeats: tuple[int, int, int], k: int, outputs: int = 0) -> None:
        """width: units of the first layer. repeats: residual blocks after each of the three halvings."""
        super().__init__()
        self._rectified = outputs > 0
        widths = (width, width, 2 * width, 2 * width)
        layers = [self._layer(channels, width, 3, 2), self._layer(width, width, 3, 1, width)]
        self._residual = set[int]()  # numbers of the layers with which a residual block begins
        for stage, (before, after) in enumerate(pairwise(widths)):
            layers += self._bottleneck(before, 2 ** (stage + 1) * width, after, 2)
            for _ in range(repeats[stage]):
                self._residual.add(len(layers))
                layers += self._bottleneck(after, 2 * after, after, 1)
        layers += [self._layer(widths[-1], 512), _Layer(512, 512, k, 1, 512, 0, nn.Identity())]
        if not outputs:
            layers.append(_Layer(512, 512, 1, 1, 1, 0, nn.Identity()))
        self.layers = nn.ModuleList(layers)
        self.linear = nn.Linear(512, outputs) if outputs else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        x = kept = images
        for number, layer in enumerate(self.layers):
            if number in self._residual:
                kept = x
            x = layer(x)
            if number - 2 in self._residual:
                x = x + kept
        return self.linear(x.flatten(1))

    def _layer(self, before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> "_Layer":
        act = nn.ReLU() if self._rectified else nn.PReLU(after)
        return _Layer(before, after, kernel, stride, groups, kernel // 2, act)

    def _bottleneck(self, before: int, wide: int, after: int, stride: int) -> list["_Layer"]:
        """Widen, filter each channel, narrow."""
        narrow = _Layer(wide, after, 1, 1, 1, 0, nn.Identity())
        return [self._layer(before, wide), self._layer(wide, wide, 3, stride, wide), narrow]


class _Layer(nn.Module):
    """A convolution and its activation."""

    def __init__(
        self, before: int, after: int, kernel: int, stride: int, groups: int, padding: int, act: nn.Module
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, groups=groups)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))


def recogniser() -> MobileFaceNetwork:
    """Rows (N, 512) of aligned faces (N, 3, 112, 112)."""
    return MobileFaceNetwork(3, 64, (4, 6, 2), 7)


def landmarks() -> MobileFaceNetwork:
    """Rows (N, 136), 68 points (x, y) as shares of the image, of grey faces (N, 1, 64, 64)."""
    return MobileFaceNetwork(1, 32, (3, 4, 2), 4, 136)
