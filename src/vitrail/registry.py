"""Every family in one table. Importing it touches neither torch nor a model."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitrail.checkpoints.layout import Layout, Published
    from vitrail.models.model import Model


@dataclass(frozen=True)
class Family:
    """One family of models.

    Attributes:
        name: what `model.family` says.
        title: the name people know it by.
        paper: first author, year and arXiv number.
        module: where its `nn.Module` is, "module:Class".
        config: where its config dataclass is.
        layouts: the published forms it is read from and written to, "module:Class".
    """

    name: str
    title: str
    paper: str
    module: str
    config: str
    layouts: tuple[str, ...]

    def load_model(self) -> "type[Model]":
        """The family's module class (imports torch)."""
        return _resolve(self.module)

    def load_config(self) -> type:
        """The family's config dataclass (imports torch)."""
        return _resolve(self.config)

    def load_layouts(self) -> "list[Layout]":
        """The family's layouts (imports torch)."""
        return [_resolve(layout)() for layout in self.layouts]


_LAYOUTS = "vitrail.checkpoints.layouts"

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "vit",
            "ViT",
            "Dosovitskiy 2020 (2010.11929)",
            "vitrail.models.vit:ViT",
            "vitrail.models.vit:ViTConfig",
            (f"{_LAYOUTS}.vit_transformers:ViTTransformers", f"{_LAYOUTS}.vit_timm:ViTTimm"),
        ),
        Family(
            "deit",
            "DeiT, distilled",
            "Touvron 2020 (2012.12877)",
            "vitrail.models.deit:DeiT",
            "vitrail.models.deit:DeiTConfig",
            (f"{_LAYOUTS}.vit_transformers:DeiTTransformers", f"{_LAYOUTS}.vit_timm:DeiTTimm"),
        ),
        Family(
            "dinov2",
            "DINOv2, with and without registers",
            "Oquab 2023 (2304.07193), Darcet 2023 (2309.16588)",
            "vitrail.models.dinov2:DINOv2",
            "vitrail.models.dinov2:DINOv2Config",
            (
                f"{_LAYOUTS}.dinov2_transformers:DINOv2Transformers",
                f"{_LAYOUTS}.dinov2_transformers:DINOv2WithRegistersTransformers",
                f"{_LAYOUTS}.dinov2_timm:DINOv2Timm",
            ),
        ),
        Family(
            "clip",
            "CLIP, and Chinese CLIP",
            "Radford 2021 (2103.00020), Yang 2022 (2211.01335)",
            "vitrail.models.clip:CLIP",
            "vitrail.models.clip:CLIPConfig",
            (
                f"{_LAYOUTS}.clip_transformers:CLIPTransformers",
                f"{_LAYOUTS}.chinese_clip_transformers:ChineseCLIPTransformers",
                f"{_LAYOUTS}.clip_open_clip:CLIPOpenCLIP",
            ),
        ),
        Family(
            "siglip",
            "SigLIP, and SigLIP 2 at fixed resolution",
            "Zhai 2023 (2303.15343), Tschannen 2025 (2502.14786)",
            "vitrail.models.siglip:SigLIP",
            "vitrail.models.siglip:SigLIPConfig",
            (f"{_LAYOUTS}.siglip_transformers:SigLIPTransformers",),
        ),
        Family(
            "align",
            "ALIGN",
            "Jia 2021 (2102.05918)",
            "vitrail.models.align:ALIGN",
            "vitrail.models.align:ALIGNConfig",
            (f"{_LAYOUTS}.align_transformers:ALIGNTransformers",),
        ),
        Family(
            "efficientnet",
            "EfficientNet and EfficientNet-Lite",
            "Tan 2019 (1905.11946)",
            "vitrail.models.efficientnet:EfficientNet",
            "vitrail.models.efficientnet:EfficientNetConfig",
            (
                f"{_LAYOUTS}.efficientnet_transformers:EfficientNetTransformers",
                f"{_LAYOUTS}.efficientnet_timm:EfficientNetTimm",
                f"{_LAYOUTS}.efficientnet_lite_package:EfficientNetLitePackage",
            ),
        ),
    )
}


def layouts() -> "Iterator[Layout]":
    """Every layout of every family, imported as it is reached."""
    for family in FAMILIES.values():
        yield from family.load_layouts()


def published(name: str) -> "tuple[Layout, Published] | None":
    """The published checkpoint of that name or hub id, and its layout; None where the registry has none."""
    for layout in layouts():
        if name in layout.published:
            return layout, layout.published[name]
        for entry in layout.published.values():
            if entry.hub and entry.hub == name:
                return layout, entry
    return None


def _resolve(where: str) -> Any:
    module, name = where.split(":")
    return getattr(import_module(module), name)
