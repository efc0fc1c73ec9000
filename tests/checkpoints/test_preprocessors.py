"""Bad preprocessing files: one sentence each, which names the key. (That good ones are right is tests/parity's.)"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.checkpoints.preprocessors import from_timm, from_transformers, to_timm, to_transformers
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Crop, Preprocess, Resize, standard

BIT = {"image_processor_type": "BitImageProcessor"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", "224"),
        ("size", 0),
        ("size", True),
        ("size", 10**9),
        ("size", {"longest_edge": 224}),
        ("size", {"shortest_edge": 224.5}),
        ("size", {"height": 224}),
        ("size", [1, 2, 3]),
        ("size", None),
        ("crop_size", {"shortest_edge": 224}),
        ("crop_size", "224"),
        ("resample", 17),
        ("resample", True),
        ("resample", None),
        ("resample", [3]),
        ("image_mean", [0.5, 0.5]),
        ("image_mean", [0.5, "a", 0.5]),
        ("image_mean", []),
        ("image_mean", None),
        ("image_std", [0.5, 0.0, 0.5]),
        ("image_std", [float("nan")] * 3),
        ("image_std", [0.5]),
        ("rescale_factor", "1/255"),
        ("rescale_factor", 0),
        ("do_resize", "yes"),
        ("do_normalize", 1),
        ("do_pad", True),
    ],
)
def test_a_bad_value_in_a_transformers_file_is_named(key, value):
    with pytest.raises(CheckpointError, match=f"^{key} in BitImageProcessor's config is .*: .+[.]$"):
        from_transformers({**BIT, key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("input_size", [3, 224]),
        ("input_size", [4, 224, 224]),
        ("input_size", [3, 224, -1]),
        ("input_size", 224),
        ("interpolation", "random"),
        ("interpolation", 17),
        ("crop_pct", "0.9"),
        ("crop_pct", -0.9),
        ("crop_pct", 1e-320),
        ("crop_pct", 1e9),
        ("crop_mode", "middle"),
        ("crop_mode", ["center"]),
        ("mean", [0.5, 0.5]),
        ("mean", "0.5"),
        ("std", [0, 1, 1]),
    ],
)
def test_a_bad_value_in_a_timm_file_is_named(key, value):
    with pytest.raises(CheckpointError, match=f"^{key} in timm's pretrained_cfg is .*: .+[.]$"):
        from_timm({key: value})


def test_an_unknown_processor_is_named_with_the_known_ones():
    with pytest.raises(CheckpointError, match=r"'OwlViTFeatureExtractor': known are ViTImageProcessor, DeiT"):
        from_transformers({"feature_extractor_type": "OwlViTFeatureExtractor"})
    with pytest.raises(CheckpointError, match="names no image_processor_type"):
        from_transformers({"size": 224})
    with pytest.raises(CheckpointError, match="'Foo': known are"):
        to_transformers(standard(224), "Foo")


def test_grey_pictures_cannot_be_made_rgb():
    with pytest.raises(CheckpointError, match=r"^do_convert_rgb"):
        from_transformers({**BIT, "image_mean": [0.5], "image_std": [0.5]})


@pytest.mark.parametrize(
    ("preprocess", "what"),
    [
        (Preprocess(Resize((8, 8), "cover"), Crop((8, 8), "floor")), "the resize rule 'cover'"),
        (Preprocess(Resize((9, 9)), Crop((7, 7), "floor", fill=(1, 2, 3))), "filled with"),
        (Preprocess(Resize(256, "shortest"), Crop((224, 224))), "rounded to the nearest"),
        (Preprocess(None, Crop((224, 224))), "rounded to the nearest"),
        (Preprocess(Resize((8, 8)), rescale_offset=True), "rescale_offset"),
        (Preprocess(Resize((8, 8)), mode="L", mean=(0.5,), std=(0.5,), transparency="white"), "grey pictures"),
    ],
)
def test_what_transformers_cannot_say(preprocess, what):
    with pytest.raises(CheckpointError, match=f"^ViTImageProcessor has no words for .*{what}"):
        to_transformers(preprocess, "ViTImageProcessor")


@pytest.mark.parametrize(
    ("preprocess", "what"),
    [
        (Preprocess(None, Crop((8, 8))), "not resized"),
        (Preprocess(Resize(8, "shortest")), "depends on the picture"),
        (Preprocess(Resize(8, "shortest", longest=9), Crop((8, 8))), "longest edge"),
        (Preprocess(Resize((9, 9), "cover"), Crop((8, 8))), "'cover' for a square"),
        (Preprocess(Resize((9, 9)), Crop((7, 7), fill=(1, 2, 3))), "filled with"),
        (Preprocess(Resize((9, 9), "contain"), Crop((7, 7))), "filled with None"),
        (Preprocess(Resize(256, "shortest"), Crop((224, 224), "floor")), "rounded down"),
        (Preprocess(Resize((256, 512)), Crop((224, 224))), "one crop_pct"),
    ],
)
def test_what_timm_cannot_say(preprocess, what):
    with pytest.raises(CheckpointError, match=f"^timm has no words for .*{what}"):
        to_timm(preprocess)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("a1.-", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["height", "width", "a"]), inner),
    max_leaves=5,
)
transformers_keys = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "rescale_offset"),
    *("do_normalize", "image_mean", "image_std", "include_top", "do_convert_rgb", "do_pad", "default_to_square"),
    "image_processor",
)
timm_keys = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std", "pretrained_cfg")


def is_read_or_refused_in_a_sentence(read, config):
    try:
        return isinstance(read(config), Preprocess)
    except CheckpointError as refused:
        return str(refused).endswith(".") and "\n" not in str(refused)


@given(
    kind=st.sampled_from(
        ["ViTImageProcessor", "BitImageProcessor", "SiglipImageProcessor", "EfficientNetImageProcessor"]
    ),
    config=st.dictionaries(st.sampled_from(transformers_keys), json_values, max_size=3),
)
def test_any_transformers_file(kind, config):
    assert is_read_or_refused_in_a_sentence(from_transformers, {"image_processor_type": kind, **config})


@given(config=st.dictionaries(st.sampled_from(timm_keys), json_values, max_size=3))
def test_any_timm_file(config):
    assert is_read_or_refused_in_a_sentence(from_timm, config)
