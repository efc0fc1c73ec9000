"""`vitrail.load` reads what is published, refuses what is broken in one sentence, and holds the weights once."""

import json
import subprocess
import sys

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from transformers import (
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

import vitrail
from vitrail.errors import CheckpointError, UsageError

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 32, "patch_size": 8}
SMALL_TIMM = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "depth": 2, "num_classes": 5}


def vit_transformers(folder):
    config = ViTConfig(**SMALL, intermediate_size=48, num_labels=5)
    ViTForImageClassification(config).save_pretrained(folder)


def vit_in_memory(folder):
    model = ViTForImageClassification(ViTConfig(**SMALL, intermediate_size=48, num_labels=5))
    model.config.save_pretrained(folder)
    save_file(model.state_dict(), folder / "model.safetensors")


def deit_transformers(folder):
    config = DeiTConfig(**SMALL, intermediate_size=48, num_labels=5)
    DeiTForImageClassificationWithTeacher(config).save_pretrained(folder)


def dinov2_transformers(folder):
    Dinov2Model(Dinov2Config(**SMALL, use_swiglu_ffn=True)).save_pretrained(folder)


def registers_transformers(folder):
    Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SMALL)).save_pretrained(folder)


def vit_timm(folder):
    save_for_hf(timm.create_model("vit_tiny_patch16_224", **SMALL_TIMM), folder, safe_serialization=True)


def deit_timm(folder):
    save_for_hf(timm.create_model("deit_tiny_distilled_patch16_224", **SMALL_TIMM), folder, safe_serialization=True)


def dinov2_timm(folder):
    save_for_hf(timm.create_model("vit_small_patch14_reg4_dinov2", **SMALL_TIMM), folder, safe_serialization=True)


def vit_vitrail(folder):
    vit_transformers(folder / "theirs")
    vitrail.save(vitrail.load(folder / "theirs"), folder / "model.safetensors", layout="vitrail")


FORMS = [
    vit_transformers,
    vit_in_memory,
    deit_transformers,
    dinov2_transformers,
    registers_transformers,
    vit_timm,
    deit_timm,
    dinov2_timm,
    vit_vitrail,
]
in_every_form = pytest.mark.parametrize("write", FORMS, ids=[form.__name__ for form in FORMS])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """form -> a folder that holds it."""
    folders = {}
    for form in FORMS:
        folders[form] = tmp_path_factory.mktemp(form.__name__)
        form(folders[form])
    return folders


def tampered(source, target, change):
    """A copy of a folder with `change` made to its tensors, {name: tensor}."""
    tensors = load_file(source / "model.safetensors")
    change(tensors)
    with safe_open(source / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    save_file(tensors, target / "model.safetensors", metadata)
    if (source / "config.json").is_file():
        (target / "config.json").write_text((source / "config.json").read_text())
    return target


def reconfigured(source, target, **changes):
    """A copy of a folder with keys of its config.json changed, or left out where the change is `...`."""
    config = {**json.loads((source / "config.json").read_text()), **changes}
    config = {key: value for key, value in config.items() if value is not ...}
    target.mkdir(exist_ok=True)
    (target / "config.json").write_text(json.dumps(config))
    if not (target / "model.safetensors").exists():
        (target / "model.safetensors").hardlink_to(source / "model.safetensors")
    return target


@in_every_form
def test_every_tensor_is_wanted_by_name(write, written, tmp_path):
    names = list(load_file(written[write] / "model.safetensors"))
    assert len(names) > 20
    for name in names:
        if name.endswith("embeddings.mask_token") or ".1." in name:
            continue  # a network without one is a network, too; the second block is as the first
        folder = tampered(written[write], tmp_path, lambda tensors, name=name: tensors.pop(name))
        with pytest.raises(CheckpointError) as caught:
            vitrail.load(folder)
        if not name.startswith(("classifier", "cls_classifier", "distillation_classifier", "head")):
            assert f"lacks '{name}'" in str(caught.value), name
            assert "does not know" not in str(caught.value), name  # its siblings are not blamed
        else:  # a network without a head is a network, too, but not with half of one
            assert name.rsplit(".", 1)[0] in str(caught.value)


@in_every_form
def test_every_tensor_has_its_shape(write, written, tmp_path):
    for name in load_file(written[write] / "model.safetensors"):
        if ".1." in name:
            continue  # the second block is as the first

        def grow(tensors, name=name):
            tensors[name] = torch.cat([tensors[name], tensors[name]])

        folder = tampered(written[write], tmp_path, grow)
        with pytest.raises(CheckpointError) as caught:
            vitrail.load(folder)
        assert f"'{name}'" in str(caught.value) or "of shape" in str(caught.value), name


@in_every_form
def test_a_tensor_too_many_is_named(write, written, tmp_path):
    folder = tampered(written[write], tmp_path, lambda tensors: tensors.update(surprise=torch.ones(3)))
    with pytest.raises(CheckpointError, match=r"has 'surprise', which a \w+ network does not know"):
        vitrail.load(folder)


@in_every_form
def test_a_tensor_of_whole_numbers_is_named(write, written, tmp_path):
    name = next(name for name in load_file(written[write] / "model.safetensors") if name.endswith("norm.weight"))

    def round_off(tensors):
        tensors[name] = tensors[name].to(torch.int8)

    with pytest.raises(CheckpointError, match=f"has '{name}' in torch.int8"):
        vitrail.load(tampered(written[write], tmp_path, round_off))


def test_many_problems_are_told_briefly(written, tmp_path):
    folder = reconfigured(written[vit_transformers], tmp_path, num_hidden_layers=7)
    with pytest.raises(CheckpointError, match=r"lacks 'vit.encoder.layer.2.* and \d+ more$") as caught:
        vitrail.load(folder)
    assert "\n" not in str(caught.value)


BAD = [
    ("hidden_size", "big"),
    ("hidden_size", 0),
    ("hidden_size", -24),
    ("hidden_size", 24.5),
    ("hidden_size", None),
    ("hidden_size", [24]),
    ("hidden_size", 10**30),
    ("hidden_size", 25),
    ("num_attention_heads", 0),
    ("num_attention_heads", -3),
    ("num_attention_heads", 5),
    ("num_attention_heads", "3"),
    ("num_hidden_layers", -1),
    ("num_hidden_layers", 10**9),
    ("num_hidden_layers", "two"),
    ("num_hidden_layers", 1.5),
    ("num_hidden_layers", None),
    ("image_size", "big"),
    ("image_size", 0),
    ("image_size", [32]),
    ("image_size", [32, 32, 32]),
    ("image_size", {"height": 32}),
    ("image_size", 10**30),
    ("patch_size", 0),
    ("patch_size", -8),
    ("patch_size", 64),
    ("patch_size", None),
    ("num_channels", 0),
    ("num_channels", "rgb"),
    ("num_channels", 4),
    ("intermediate_size", 49),
    ("intermediate_size", {}),
    ("hidden_act", "mish-mash"),
    ("hidden_act", 3),
    ("hidden_act", ["gelu"]),
    ("layer_norm_eps", "1e-12"),
    ("layer_norm_eps", None),
    ("layer_norm_eps", float("nan")),
    ("qkv_bias", "yes"),
    ("qkv_bias", False),
    ("id2label", ["cat"]),
    ("id2label", 3),
]


@pytest.mark.parametrize(("key", "value"), BAD, ids=[f"{key}-{value!r:.20}" for key, value in BAD])
@pytest.mark.timeout(20)
def test_a_config_that_makes_no_sense(key, value, written, tmp_path):
    folder = reconfigured(written[vit_transformers], tmp_path, **{key: value})
    with pytest.raises(CheckpointError) as caught:
        vitrail.load(folder)
    assert str(tmp_path) in str(caught.value) or str(value) in str(caught.value)
    assert "\n" not in str(caught.value)


BAD_TIMM = [
    ({"model_args": []}, ""),
    ({"model_args": ["img_size"]}, ""),
    ({"model_args": {**SMALL_TIMM, "embed_dim": "wide"}}, "'str'"),
    ({"model_args": {**SMALL_TIMM, "num_heads": 0}}, "0 heads"),
    ({"model_args": {**SMALL_TIMM, "depth": 10**9}}, "1000000000 blocks"),
    ({"model_args": {**SMALL_TIMM, "depth": -1}}, "depth is -1"),
    ({"model_args": {**SMALL_TIMM, "img_size": None}}, ""),
    ({"model_args": {**SMALL_TIMM, "act_layer": "mish-mash"}}, "mish-mash"),
    ({"model_args": {**SMALL_TIMM, "global_pool": "map"}}, "global_pool 'map'"),
    ({"model_args": {**SMALL_TIMM, "norm_layer": "rmsnorm"}}, "norm_layer 'rmsnorm'"),
    ({"model_args": {**SMALL_TIMM, "class_token": False, "block_fn": "ParallelScalingBlock"}}, "block_fn"),
    ({"pretrained_cfg": []}, "pretrained_cfg"),
    ({"pretrained_cfg": {"input_size": "big"}}, "input_size"),
    ({"label_names": 7}, ""),
    ({"architecture": "resnet50"}, "resnet50"),
    ({"architecture": None}, "no family"),
    ({"architecture": ["vit"]}, "no family"),
]


@pytest.mark.parametrize(("changes", "reason"), BAD_TIMM, ids=[str(changes)[:40] for changes, _ in BAD_TIMM])
@pytest.mark.timeout(20)
def test_a_timm_config_that_makes_no_sense(changes, reason, written, tmp_path):
    with pytest.raises(CheckpointError) as caught:
        vitrail.load(reconfigured(written[vit_timm], tmp_path, **changes))
    assert reason in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("write", [vit_transformers, deit_transformers, registers_transformers, vit_timm, dinov2_timm])
def test_any_value_anywhere_in_a_config(write, written, tmp_path_factory):
    source = written[write]
    keys = sorted(json.loads((source / "config.json").read_text()))
    arguments = json.loads((source / "config.json").read_text()).get("model_args")

    @settings(deadline=None, max_examples=25)
    @given(st.sampled_from(keys), json_values, st.sampled_from(sorted(arguments)) if arguments else st.none())
    def check(key, value, argument):
        changes = {key: value}
        if key == "model_args" and argument:
            changes = {"model_args": {**arguments, argument: value}}
        folder = reconfigured(source, tmp_path_factory.mktemp("any"), **changes)
        try:
            model = vitrail.load(folder)
        except CheckpointError as error:
            assert "\n" not in str(error)  # noqa: PT017 - it may also make sense
        else:
            assert model(torch.zeros(1, model.config.channels, 32, 32)).ndim == 2

    check()


def our_header(**changes):
    header = {
        "family": "vit",
        "config": {
            "image_size": 32,
            "patch_size": 8,
            "width": 24,
            "depth": 2,
            "heads": 3,
            "mlp_width": 48,
            "classes": 5,
        },
        "labels": None,
        "preprocess": {"resize": None, "crop": None},
    }
    return {key: value for key, value in {**header, **changes}.items() if value is not ...}


@pytest.mark.parametrize(
    "changes",
    [
        {"family": "unheard-of"},
        {"family": ["vit"]},
        {"family": ...},
        {"config": ...},
        {"config": []},
        {"config": {"width": 24, "colour": "red"}},
        {"config": {"depth": 10**9}},
        {"labels": ...},
        {"labels": 7},
        {"preprocess": ...},
        {"preprocess": []},
        {"preprocess": {"resize": 7, "crop": None}},
        {"preprocess": {"resize": {"size": 8, "resample": 99}, "crop": None}},
    ],
    ids=str,
)
def test_a_header_of_our_own_that_makes_no_sense(changes, written, tmp_path):
    tensors = load_file(written[vit_vitrail] / "model.safetensors")
    save_file(tensors, tmp_path / "good.safetensors", {"vitrail": json.dumps(our_header())})
    assert vitrail.load(tmp_path / "good.safetensors").config.width == 24
    save_file(tensors, tmp_path / "bad.safetensors", {"vitrail": json.dumps(our_header(**changes))})
    with pytest.raises(CheckpointError, match=r"bad.safetensors"):
        vitrail.load(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("config", [{"model_type": "unheard-of"}, {"model_type": ["vit"]}, {"model_type": None}, {}])
def test_a_family_that_is_not_known(config, written, tmp_path):
    (tmp_path / "model.safetensors").hardlink_to(written[vit_transformers] / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="is of no family that Vitrail knows"):
        vitrail.load(tmp_path)


@pytest.mark.parametrize("architecture", ["unheard-of", "resnet50", "a" * 300])
def test_an_architecture_that_is_not_known(architecture, written):
    with pytest.raises(CheckpointError, match="is of no family that Vitrail knows"):
        vitrail.load(written[vit_timm] / "model.safetensors", architecture=architecture)


@pytest.mark.parametrize("engine", ["", "warp", "EAGER"])
def test_an_engine_that_there_is_not(engine, written):
    with pytest.raises(UsageError, match=f"there is no engine '{engine}'"):
        vitrail.load(written[vit_transformers], engine=engine)


@pytest.mark.parametrize("device", ["warp", "cuda:99", "cpu:x", "xla", "hpu", "vulkan", "privateuseone", "cuda cuda"])
def test_a_device_that_there_is_not(device, written):
    with pytest.raises(UsageError, match=f"this machine has no device '{device}'"):
        vitrail.load(written[vit_transformers], device=device)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.int8, torch.bool, torch.complex64])
def test_a_dtype_that_no_network_computes_in(dtype, written):
    with pytest.raises(UsageError, match="computes in a float type"):
        vitrail.load(written[vit_transformers], dtype=dtype)


@in_every_form
@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_become_float32(write, stored, written, tmp_path):
    def recast(tensors):
        tensors.update({name: tensor.to(stored) for name, tensor in tensors.items()})

    model = vitrail.load(tampered(written[write], tmp_path, recast))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    exact, expected = vitrail.load(written[write]).state_dict(), model.state_dict()
    assert all(torch.equal(expected[name], exact[name].to(stored).float()) for name in exact)


@in_every_form
@torch.inference_mode()
def test_bfloat16_takes_float32_pictures(write, written):
    images = torch.rand(2, 3, 32, 32)
    half, full = vitrail.load(written[write], dtype=torch.bfloat16), vitrail.load(written[write])
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    logits = half(images)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), full(images), rtol=0.05, atol=0.05 * full(images).abs().max().item())
    assert half.origin.engine.endswith("bfloat16")


def test_not_a_number_among_the_weights_is_loaded_as_it_is(written, tmp_path):
    def spoil(tensors):
        tensors["classifier.bias"][0] = torch.nan
        tensors["classifier.bias"][1] = torch.inf

    model = vitrail.load(tampered(written[vit_transformers], tmp_path, spoil))
    assert model.head.bias[0].isnan()
    assert model.head.bias[1].isinf()


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (ViTModel, ViTConfig(num_hidden_layers=1)),
        (Dinov2Model, Dinov2Config(num_hidden_layers=1)),
        (Dinov2WithRegistersModel, Dinov2WithRegistersConfig(num_hidden_layers=1)),
    ],
)
@torch.inference_mode()
def test_what_an_old_config_leaves_out_is_as_in_the_publisher_s_class(kind, config, tmp_path):
    reference = kind(config).eval()
    reference.save_pretrained(tmp_path)
    said = {"model_type": config.model_type, "num_hidden_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(said))
    images = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(vitrail.load(tmp_path).features(images), reference(images).last_hidden_state)


def test_labels_are_read_by_number(written, tmp_path):
    names = ["ant", "bee", "cat", "dog", "eel"]
    shuffled = {str(index): names[index] for index in (3, 0, 4, 2, 1)}
    assert vitrail.load(reconfigured(written[vit_transformers], tmp_path / "a", id2label=shuffled)).labels == tuple(
        names
    )
    for incomplete in ({"0": "ant"}, {}, None, {str(index): f"LABEL_{index}" for index in range(5)}):
        folder = reconfigured(written[vit_transformers], tmp_path / "b", id2label=incomplete)
        assert vitrail.load(folder).labels is None


@pytest.mark.parametrize(
    ("said", "labels"),
    [
        ({"label_names": ["n1", "n2", "n3", "n4", "n5"]}, ("n1", "n2", "n3", "n4", "n5")),
        (
            {"label_names": ["n1", "n2", "n3", "n4", "n5"], "label_descriptions": {"n2": "bee"}},
            ("n1", "bee", "n3", "n4", "n5"),
        ),
        ({"label_names": {"4": "e", "0": "a", "1": "b", "3": "d", "2": "c"}}, ("a", "b", "c", "d", "e")),
        ({"label_names": {"0": "a"}}, None),
        ({"label_names": ["a", "b"]}, None),
        ({"label_names": []}, None),
        ({}, None),
    ],
)
def test_labels_of_timm(said, labels, written, tmp_path):
    assert vitrail.load(reconfigured(written[vit_timm], tmp_path / "top", **said)).labels == labels
    inner = {**json.loads((written[vit_timm] / "config.json").read_text())["pretrained_cfg"], **said}
    assert vitrail.load(reconfigured(written[vit_timm], tmp_path / "inner", pretrained_cfg=inner)).labels == labels


def test_what_a_loaded_network_carries(written):
    model = vitrail.load(written[vit_timm])
    assert model.origin.name == str(written[vit_timm])
    assert (model.origin.layout, model.origin.licence) == ("timm", None)
    assert model.origin.engine.endswith("float32")
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.preprocess.output_size == (32, 32)


MEASURE = """
import sys, torch, vitrail
def private_dirty():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Private_Dirty")) / 1024
vitrail.load(sys.argv[1], engine="eager")  # imports and allocations that come with the first
before = private_dirty()
model = vitrail.load(sys.argv[2], engine="eager")
after = private_dirty()
total = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20
apart = sum(b.attention.qkv.weight.nbytes for b in model.blocks) / 2**20
print(after - before, total, apart)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
@pytest.mark.parametrize("layout", ["transformers", "timm"])
def test_weights_are_mapped_and_not_copied(layout, written, tmp_path):
    if layout == "timm":
        first = written[vit_timm]
        large = {**SMALL_TIMM, "embed_dim": 1024, "num_heads": 16, "depth": 4}
        save_for_hf(timm.create_model("vit_tiny_patch16_224", **large), tmp_path, safe_serialization=True)
    else:
        first = written[vit_transformers]
        large = {**SMALL, "hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 4}
        ViTModel(ViTConfig(**large, intermediate_size=4096)).save_pretrained(tmp_path)
    out = subprocess.run(
        [sys.executable, "-c", MEASURE, str(first), str(tmp_path)], check=True, capture_output=True, text=True
    ).stdout
    dirty, total, apart = map(float, out.split())
    assert total > 190
    copied = apart if layout == "transformers" else 0  # queries, keys and values are three tensors there and one here
    assert dirty < copied + 0.05 * total + 5
