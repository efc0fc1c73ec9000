"""Every family that says an engine may run its methods is a graph of them, for batches of any length."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.engines.small import relative, small_vit
from vitrail.engines.exported import Graph, exported
from vitrail.engines.packed import pack
from vitrail.errors import VitrailError
from vitrail.models.align import ALIGN, ALIGNConfig
from vitrail.models.bert import BERTConfig
from vitrail.models.clip import CLIP, CLIPConfig, CLIPImageConfig, CLIPTextConfig
from vitrail.models.clip_resnet import CLIPResNetConfig
from vitrail.models.deit import DeiT, DeiTConfig
from vitrail.models.dinov2 import DINOv2, DINOv2Config
from vitrail.models.efficientnet import EfficientNet, EfficientNetConfig
from vitrail.models.image_text import ImageText
from vitrail.models.perceiver import LatentsConfig, Perceiver, PerceiverConfig
from vitrail.models.siglip import SigLIP, SigLIPConfig, SigLIPImageConfig, SigLIPTextConfig
from vitrail.models.vit import ViT
from vitrail.registry import FAMILIES

ROOT = Path(__file__).parents[2]
TRANSFORMER = {"image_size": 16, "patch_size": 8, "width": 16, "depth": 1, "heads": 2, "mlp_width": 24}
STAGES = ((3, 1, 1, 8, 1), (3, 2, 2, 16, 2))
BERT = BERTConfig(vocabulary=50, context=7, width=16, depth=1, heads=2, mlp_width=24)
TEXT = CLIPTextConfig(vocabulary=50, context=7, width=16, depth=1, heads=2, mlp_width=24)
LATENTS = LatentsConfig(count=4, width=16, depth=1, repeats=2, heads=2)
NETWORKS = {
    "vit": small_vit,
    "deit": lambda: DeiT(DeiTConfig(**TRANSFORMER, classes=3)),
    "dinov2": lambda: DINOv2(DINOv2Config(**TRANSFORMER, registers=2)),
    "efficientnet": lambda: EfficientNet(EfficientNetConfig(image_size=16, stages=STAGES, classes=3)),
    "perceiver": lambda: Perceiver(PerceiverConfig(image_size=16, pixel_width=8, latents=LATENTS, classes=3)),
    "clip": lambda: CLIP(CLIPConfig(CLIPImageConfig(**TRANSFORMER), TEXT, 12)),
    "clip, a ResNet and BERT": lambda: CLIP(
        CLIPConfig(CLIPResNetConfig(image_size=32, width=8, depths=(1, 1, 1, 1), heads=4), BERT, 12)
    ),
    "siglip": lambda: SigLIP(
        SigLIPConfig(SigLIPImageConfig(**TRANSFORMER), SigLIPTextConfig(50, 7, 16, depth=1, heads=2, mlp_width=24))
    ),
    "align": lambda: ALIGN(
        ALIGNConfig(
            EfficientNetConfig(image_size=16, stages=STAGES, classes=0, padding="fixed"), replace(BERT, types=1)
        )
    ),
}


def test_no_family_is_forgotten():
    able = {name for name, family in FAMILIES.items() if family.load_model().entries}
    assert able == {name.partition(",")[0] for name in NETWORKS}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_of_every_entry_and_of_the_texts(name):
    model = NETWORKS[name]().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    pack(model)  # which a graph is not of
    side = 32 if "ResNet" in name else 16
    calls = {method: torch.randn(5, 3, side, side) for method in model.entries}
    if isinstance(model, ImageText):
        calls["embed_tokens"] = torch.randint(1, 50, (5, 7))
    for method, given in calls.items():
        graph = exported(model, Graph(getattr(type(model), method), {"given": given[:2]}, ("said",))).module()
        with torch.no_grad():
            for batch in (2, 5):
                assert relative(graph(given[:batch]), getattr(model, method)(given[:batch])) < 1e-5


def test_what_is_no_graph_is_said():
    def wilful(model: ViT, images: torch.Tensor) -> torch.Tensor:
        return model(images) if images.sum() > 0 else images

    with pytest.raises(VitrailError, match="this vit is no graph that another program could run"):
        exported(small_vit(), Graph(wilful, {"images": torch.randn(2, 3, 16, 16)}, ("logits",)))


def test_weights_of_another_float_type_become_float32():
    model = small_vit().bfloat16()
    graph = exported(model, Graph(ViT.forward, {"images": torch.zeros(2, 3, 16, 16)}, ("logits",))).module()
    with torch.no_grad():
        assert graph(torch.randn(3, 3, 16, 16)).dtype == torch.float32
    assert model.head.weight.dtype == torch.bfloat16


def test_openvino_and_nncf_report_nothing_to_their_makers():
    """They would, by a package that comes with them, when they are imported and at every conversion."""
    for package in ("openvino", "nncf"):
        pytest.importorskip(package)
    code = """
import sys, torch
from tests.engines.small import small_vit
from vitrail.engines.exported import Graph
from vitrail.engines.openvino import converted, quantised
model = small_vit()
graph = converted(model, Graph(type(model).forward, {"images": torch.zeros(2, 3, 16, 16)}, ("logits",)))
quantised(graph, model, (3, 16, 16), None)
print([name for name in sys.modules if name.startswith("openvino_telemetry")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr
