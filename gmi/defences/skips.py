"""Removal of skip connections: without them a search's gradients reach the image less directly.

Koh et al., On the Vulnerability of Skip Connections to Model Inversion Attacks (RoLSS), ECCV 2024: the last stage of a
residual network loses its skip connections; the rest stays.

Differs from the paper: nothing.
"""

from typing import ClassVar, Literal

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from gmi.defences.base import Defence, part_of, replace_part
from gmi.errors import GmiError
from gmi.settings import settings


class PlainBlock(nn.Module):
    """A residual block without its skip connection."""

    def __init__(self, block: BasicBlock | Bottleneck) -> None:
        super().__init__()
        pairs = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
        if isinstance(block, Bottleneck):
            pairs.append((block.conv3, block.bn3))
        self.steps = nn.Sequential(*(nn.Sequential(conv, norm, nn.ReLU()) for conv, norm in pairs))

    def forward(self, images: Tensor) -> Tensor:
        return self.steps(images)


@settings
class NoSkips(Defence):
    """RoLSS for torchvision's residual networks."""

    type: Literal["no-skips"] = "no-skips"
    whole_network: ClassVar[bool] = True
    stage: str = "layer4"  # name of the part whose residual blocks lose their skip connections

    @property
    def changes(self) -> str:
        return f"the blocks of {self.stage} lose their skip connections"

    def harden(self, module: nn.Module) -> nn.Module:
        stage = part_of(module, self.stage, "target.defence.stage")
        blocks = [name for name, part in stage.named_modules() if isinstance(part, BasicBlock | Bottleneck)]
        if not blocks:
            raise GmiError(
                f"target.defence.stage: {self.stage} has no residual blocks of torchvision: this defence is for its "
                "ResNets."
            )
        for name in blocks:
            block = stage.get_submodule(name)
            assert isinstance(block, BasicBlock | Bottleneck)
            module = replace_part(module, f"{self.stage}.{name}".rstrip("."), PlainBlock(block))
        return module
