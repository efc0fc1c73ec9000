"""A layout is a table that runs both ways, and the registry's networks are the publishers'."""

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.models import get_pretrained_cfg, is_model
from transformers import (
    DeiTConfig,
    DeiTForImageClassification,
    DeiTForImageClassificationWithTeacher,
    DeiTModel,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersForImageClassification,
    Dinov2WithRegistersModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from vitrail import registry
from vitrail.checkpoints.layout import Joined, OneNumber, Row, Transposed, find_rows, to_ours, to_theirs
from vitrail.checkpoints.native import NativeLayout
from vitrail.checkpoints.preprocessors import from_timm
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import standard
from vitrail.models.model import Model

LAYOUTS = [layout for layout in registry.layouts() if layout.family in ("vit", "deit", "dinov2")]
PUBLISHED = [(layout, name) for layout in LAYOUTS for name in layout.published]
TIMM = [(layout, name) for layout, name in PUBLISHED if layout.library == "timm"]
TRANSFORMERS = [(layout, name) for layout, name in PUBLISHED if layout.library == "transformers"]
CONFIGS = {
    "vit": ViTConfig,
    "deit": DeiTConfig,
    "dinov2": Dinov2Config,
    "dinov2_with_registers": Dinov2WithRegistersConfig,
}
CLASSES = {
    kind.__name__: kind
    for kind in (
        ViTModel,
        ViTForImageClassification,
        DeiTModel,
        DeiTForImageClassification,
        DeiTForImageClassificationWithTeacher,
        Dinov2Model,
        Dinov2ForImageClassification,
        Dinov2WithRegistersModel,
        Dinov2WithRegistersForImageClassification,
    )
}


def by_name(cases):
    return pytest.mark.parametrize(("layout", "name"), cases, ids=[name for _, name in cases])


def build(layout, name):
    with torch.device("meta"):
        model = layout.model(layout.published[name].config)
    model.preprocess = layout.published[name].preprocess
    return model


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@by_name(TIMM)
def test_a_timm_name_is_timm_s_network(layout, name):
    entry, model = layout.published[name], build(layout, name)
    with torch.device("meta"):
        reference = timm.create_model(name, num_classes=entry.config.classes)
    theirs = reference.state_dict()
    assert {key: tensor.shape for key, tensor in to_theirs(layout, model).items()} == {
        key: tensor.shape for key, tensor in theirs.items()
    }
    assert count(model) == count(reference)
    assert model.blocks[0].attention.heads == reference.blocks[0].attn.num_heads
    assert model.norm.eps == reference.norm.eps


@by_name(TIMM)
def test_a_timm_name_has_timm_s_weights_and_preprocessing(layout, name):
    entry = layout.published[name]
    tagged = get_pretrained_cfg(entry.hub.removeprefix("timm/") or name, allow_unregistered=False)
    assert is_model(name)
    if entry.hub:
        assert tagged.hf_hub_id == entry.hub
        assert tagged.license == entry.licence.lower()
        assert tagged.num_classes == entry.config.classes
    else:
        assert not tagged.has_weights
    assert entry.preprocess == from_timm(tagged.to_dict())


@by_name(TRANSFORMERS)
def test_a_published_config_is_the_network_of_transformers_that_its_config_json_names(layout, name):
    model = build(layout, name)
    model.preprocess = standard(224, mean=layout.mean, std=layout.std)
    described = layout.write_config(model)
    kind = CLASSES[described["architectures"][0]]
    config = CONFIGS[layout.model_type].from_dict(described)
    how = {} if model.config.classes or layout.family == "dinov2" else {"add_pooling_layer": model.config.pooler}
    with torch.device("meta"):
        reference = kind(config, **how)
    assert count(model) == count(reference)
    assert reference.config.num_attention_heads == model.config.heads
    assert name == layout.published[name].hub


def test_transformers_sizes_are_the_papers():
    """Parameters in millions, as the model cards and papers state them."""
    stated = {
        "google/vit-base-patch16-224": 86.6,
        "google/vit-large-patch16-224": 304.3,
        "google/vit-huge-patch14-224-in21k": 632.4,
        "facebook/deit-tiny-distilled-patch16-224": 5.9,
        "facebook/deit-base-distilled-patch16-384": 87.6,
        "facebook/dinov2-small": 22.1,
        "facebook/dinov2-base": 86.6,
        "facebook/dinov2-large": 304.4,
        "facebook/dinov2-giant": 1136.5,
    }
    for name, millions in stated.items():
        layout, _ = registry.published(name)
        assert count(build(layout, name)) / 1e6 == pytest.approx(millions, abs=0.06), name


def test_every_name_and_every_hub_id_in_a_library_is_of_one_network():
    names = [name for layout in registry.layouts() for name in layout.published]
    assert len(names) == len(set(names))
    hubs = [(layout.library, one.hub) for layout in registry.layouts() for one in layout.published.values() if one.hub]
    assert len(hubs) == len(set(hubs))
    for layout, name in PUBLISHED:
        assert registry.published(name)[1] is layout.published[name]
        assert (
            not layout.published[name].hub
            or registry.published(layout.published[name].hub)[0].library == layout.library
        )


@by_name(PUBLISHED)
def test_tables_run_both_ways_for_every_published_network(layout, name):
    model = build(layout, name)
    theirs = to_theirs(layout, model)
    shapes = {key: tuple(tensor.shape) for key, tensor in theirs.items()}
    back = to_ours(layout, model, theirs, shapes, "it")
    assert {key: tensor.shape for key, tensor in back.items()} == {
        key: tensor.shape for key, tensor in model.state_dict().items()
    }


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["weight", "bias"])), unique=True, max_size=8),
    st.booleans(),
)
def test_a_row_reads_what_it_writes(blocks, newer):
    row = Row("blocks.{i}.qkv.{p}", Joined("{i}/q.{p}", "{i}/k.{p}"), Joined("new.{i}.q.{p}", "new.{i}.k.{p}"))
    for i, p in blocks:
        spellings = row.match(f"blocks.{i}.qkv.{p}")
        assert spellings == [(f"{i}/q.{p}", f"{i}/k.{p}"), (f"new.{i}.q.{p}", f"new.{i}.k.{p}")]
    assert row.match("blocks.x.qkv.weight") is None
    assert row.match("blocks.1.qkv.weight.more") is None
    assert row.match("blocksX1.qkv.weight") is None


def test_a_name_that_no_row_knows_is_a_defect_of_the_table():
    with pytest.raises(KeyError, match="extra"):
        find_rows(["extra"], [Row("norm.{p}", "ln.{p}")])


def test_numbers_that_are_no_floats_are_refused_by_name():
    layout, name = TIMM[0]
    model = build(layout, name)
    theirs = to_theirs(layout, model)
    theirs["norm.weight"] = torch.zeros(model.config.width, dtype=torch.int8)
    with pytest.raises(CheckpointError, match=r"it has 'norm.weight' in torch.int8 where torch.float32 is wanted"):
        to_ours(layout, model, theirs, {key: tuple(tensor.shape) for key, tensor in theirs.items()}, "it")


class Scaled(Model):
    """A network of one matrix and one number."""

    config, head = None, torch.nn.Identity()

    def __init__(self, ins, outs):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(outs, ins))
        self.scale = torch.nn.Parameter(torch.randn(()))


class ScaledLayout(NativeLayout):
    """Its table, one of the two ways in which a publisher may keep it."""

    ignored = ("position_ids",)

    def __init__(self, scale):
        super().__init__("vit")
        self.scale = scale

    def rows(self, config):
        return [Row("weight", Transposed("proj"), "linear.weight"), Row("scale", self.scale)]


def shapes_of(tensors):
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


@given(st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_a_transposed_matrix_is_turned_both_ways(ins, outs, vector):
    model = Scaled(ins, outs)
    layout = ScaledLayout(OneNumber("logit_scale") if vector else "logit_scale")
    theirs = to_theirs(layout, model)
    assert shapes_of(theirs) == {"proj": (ins, outs), "logit_scale": (1,) if vector else ()}
    assert all(tensor.is_contiguous() for tensor in theirs.values())
    assert torch.equal(theirs["proj"][0], model.weight[:, 0])
    back = to_ours(layout, model, theirs, shapes_of(theirs), "it")
    assert all(torch.equal(back[name], tensor) for name, tensor in model.state_dict().items())
    assert back["weight"].is_contiguous()


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("scale", ["logit_scale", OneNumber("logit_scale")])
def test_a_number_is_read_in_either_form(scale, shape):
    model = Scaled(2, 3)
    theirs = {
        "linear.weight": model.weight.detach(),
        "logit_scale": torch.full(shape, 4.6),
        "position_ids": torch.ones(1),
    }
    back = to_ours(ScaledLayout(scale), model, theirs, shapes_of(theirs), "it")
    assert torch.equal(back["weight"], model.weight)
    assert torch.equal(back["scale"], torch.tensor(4.6))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"proj": (3, 2)}, r"'proj' of shape \(3, 2\) where \(2, 3\) is wanted"),
        ({"proj": (6,)}, r"'proj' of shape \(6,\) where \(2, 3\) is wanted"),
        ({"logit_scale": (2,)}, r"'logit_scale' of shape \(2,\) where \(\) is wanted"),
        ({"logit_scale": (1, 1)}, r"'logit_scale' of shape \(1, 1\) where \(\) is wanted"),
        ({"logit_scale": None}, r"lacks 'logit_scale'"),
    ],
)
def test_shapes_are_the_publisher_s_in_an_error(changes, said):
    shapes = {"proj": (2, 3), "logit_scale": (), **changes}
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items() if shape is not None}
    with pytest.raises(CheckpointError, match=said):
        to_ours(ScaledLayout("logit_scale"), Scaled(2, 3), tensors, shapes_of(tensors), "it")


def test_one_element_that_is_a_matrix_here_is_one_there():
    model = Scaled(1, 1)
    tensors = {"linear.weight": torch.ones(1), "logit_scale": torch.ones(())}
    with pytest.raises(CheckpointError, match=r"'linear.weight' of shape \(1,\) where \(1, 1\) is wanted"):
        to_ours(ScaledLayout("logit_scale"), model, tensors, shapes_of(tensors), "it")
