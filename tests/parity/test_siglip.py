"""SigLIP gives the reference's numbers from the reference's files, and goes back into them."""

import json

import open_clip
import pytest
import timm
import torch
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

import vitrail
from tests.parity.references import (
    assert_same,
    assert_same_files,
    assert_same_tensors,
    load_transformers,
    randomise,
    save_transformers,
)
from tests.pictures import noise, odd_pictures, photograph
from vitrail.checkpoints.layout import Description, to_theirs
from vitrail.checkpoints.layouts.siglip_transformers import SigLIPTransformers
from vitrail.checkpoints.preprocessors import from_transformers, to_transformers
from vitrail.models.siglip import SigLIP, SigLIPConfig

VOCABULARY, CONTEXT = 60, 13
SMALL = {
    "vision_config": {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 80,
        "image_size": 35,
        "patch_size": 7,
    },
    "text_config": {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": CONTEXT,
        "projection_size": 48,
    },
}
ODD: dict[str, dict] = {
    "plain": {},
    "pixels that fill no patch": {"vision_config": {"image_size": 40}},
    "one channel": {"vision_config": {"num_channels": 1}},
    "other numbers": {
        "vision_config": {"hidden_act": "gelu", "layer_norm_eps": 1e-2},
        "text_config": {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-1},
    },
}


def reference_model(odd: str = "plain") -> SiglipModel:
    """A small SiglipModel with random weights."""
    sections = {name: {**section, **ODD[odd].get(name, {})} for name, section in SMALL.items()}
    return randomise(SiglipModel(SiglipConfig(**sections)))


def pictures(channels: int = 3, height: int = 35, width: int = 35) -> torch.Tensor:
    return torch.randn(2, channels, height, width)


def texts(context: int = CONTEXT, pad: int = 1) -> torch.Tensor:
    """Three texts of different lengths, the first of them full."""
    ids = torch.randint(2, VOCABULARY, (3, context))
    ids[1, 5:], ids[2, 1:] = pad, pad
    return ids


@pytest.mark.parametrize(
    ("odd", "form"), [*((odd, "published") for odd in ODD), ("plain", "sharded"), ("plain", "in memory")]
)
@torch.inference_mode()
def test_a_model_of_transformers(odd, form, tmp_path):
    reference = reference_model(odd)
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs", form))
    vision = reference.config.vision_config
    images, ids = pictures(vision.num_channels, vision.image_size, vision.image_size), texts()
    expected = reference(input_ids=ids, pixel_values=images)
    assert model.family == "siglip"
    assert not model.training
    assert_same(model.features(images), expected.vision_model_output.last_hidden_state)
    assert_same(model.encode_image(images), reference.get_image_features(images).pooler_output)
    assert_same(model.encode_text(ids), reference.get_text_features(ids).pooler_output)
    assert_same(model.encode_image(images, normalize=True), expected.image_embeds)
    assert_same(model.encode_text(ids, normalize=True), expected.text_embeds)
    assert_same(model(images, ids), expected.logits_per_image)
    assert model.logit_scale.shape == model.logit_bias.shape == ()

    vitrail.save(model, tmp_path / "back")
    back = load_transformers(SiglipModel, tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(back(input_ids=ids, pixel_values=images).logits_per_image, expected.logits_per_image)
    for section in ("vision_config", "text_config"):
        ours, theirs = (vars(getattr(config, section)) for config in (back.config, reference.config))
        assert {name for name in SMALL[section] if ours[name] != theirs[name]} == set()


def test_what_is_saved_has_the_names_that_are_published(tmp_path):
    save_transformers(reference_model(), tmp_path / "published")
    vitrail.save(vitrail.load(tmp_path / "published"), tmp_path / "back")
    assert_same_files(tmp_path / "published", tmp_path / "back")


@torch.inference_mode()
def test_texts_that_are_not_filled_up(tmp_path):
    """The reference reads the last token whatever it is, and so do we."""
    reference = reference_model()
    model = vitrail.load(save_transformers(reference, tmp_path))
    ids = texts(7)
    assert_same(model.encode_text(ids), reference.get_text_features(ids).pooler_output)


@torch.inference_mode()
def test_strings(tmp_path):
    """From a tokenizer.json, as SigLIP 2 has; tests/checkpoints/test_tokenizers.py reads a spiece.model."""
    words = ["<pad>", "<eos>", "<unk>", *"abcdefgh"]
    backend = Backend(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = Whitespace()
    backend.post_processor = TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    reference = reference_model()
    save_transformers(reference, tmp_path / "theirs")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")
    tokenizer.save_pretrained(tmp_path / "theirs")
    model = vitrail.load(tmp_path / "theirs")
    texts = ["a b c", "", "h z " * 20]
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=CONTEXT, return_tensors="pt")["input_ids"]
    assert torch.equal(model.tokenizer(texts), ids)
    assert_same(model.encode_text(texts), reference.get_text_features(ids).pooler_output)

    vitrail.save(model, tmp_path / "back")
    assert torch.equal(vitrail.load(tmp_path / "back").tokenizer(texts), ids)
    vitrail.save(model, tmp_path / "ours.safetensors", layout="vitrail")
    assert torch.equal(vitrail.load(tmp_path / "ours.safetensors").tokenizer(texts), ids)


@pytest.mark.parametrize("size", [(42, 42), (7, 7), (40, 75)])
@torch.inference_mode()
def test_other_sizes(size, tmp_path):
    reference = reference_model()
    model = vitrail.load(save_transformers(reference, tmp_path))
    images = pictures(3, *size)
    assert_same(
        model.encode_image(images), reference.get_image_features(images, interpolate_pos_encoding=True).pooler_output
    )


@torch.inference_mode()
def test_the_engine_that_is_chosen(tmp_path):
    folder = save_transformers(reference_model(), tmp_path)
    images, ids = pictures(), texts()
    assert_same(vitrail.load(folder)(images, ids), vitrail.load(folder, engine="eager")(images, ids))


@torch.inference_mode()
def test_through_vitrail_s_own_layout(tmp_path):
    reference = reference_model("pixels that fill no patch")
    save_transformers(reference, tmp_path / "theirs")
    assert vitrail.convert(tmp_path / "theirs", tmp_path / "ours.safetensors", layout="vitrail") == {}
    images, ids = pictures(3, 40, 40), texts()
    expected = reference(input_ids=ids, pixel_values=images).logits_per_image
    assert_same(vitrail.load(tmp_path / "ours.safetensors")(images, ids), expected)
    assert vitrail.convert(tmp_path / "ours.safetensors", tmp_path / "back", layout="transformers") == {}
    assert_same_files(tmp_path / "theirs", tmp_path / "back")


def test_oblong_pictures_cannot_be_said(tmp_path):
    model = SigLIP(SigLIPTransformers().read_config(Description(SMALL)))
    model.preprocess = from_transformers({}, "SiglipImageProcessor")
    oblong = {**SMALL["vision_config"], "image_size": [35, 42]}
    model.config = SigLIPTransformers().read_config(Description({**SMALL, "vision_config": oblong}))
    with pytest.raises(vitrail.CheckpointError, match="square pictures"):
        vitrail.save(model, tmp_path / "theirs", layout="transformers")


# what is published


SAME_IN_OPEN_CLIP = {
    "siglip-base-patch16-224": "ViT-B-16-SigLIP",
    "siglip-base-patch16-256": "ViT-B-16-SigLIP-256",
    "siglip-base-patch16-384": "ViT-B-16-SigLIP-384",
    "siglip-base-patch16-512": "ViT-B-16-SigLIP-512",
    "siglip-base-patch16-256-multilingual": "ViT-B-16-SigLIP-i18n-256",
    "siglip-large-patch16-256": "ViT-L-16-SigLIP-256",
    "siglip-large-patch16-384": "ViT-L-16-SigLIP-384",
    "siglip-so400m-patch14-224": "ViT-SO400M-14-SigLIP",
    "siglip-so400m-patch14-384": "ViT-SO400M-14-SigLIP-384",
    "siglip-so400m-patch16-256-i18n": "ViT-SO400M-16-SigLIP-i18n-256",
    "siglip2-base-patch16-224": "ViT-B-16-SigLIP2",
    "siglip2-base-patch16-256": "ViT-B-16-SigLIP2-256",
    "siglip2-base-patch16-384": "ViT-B-16-SigLIP2-384",
    "siglip2-base-patch16-512": "ViT-B-16-SigLIP2-512",
    "siglip2-base-patch32-256": "ViT-B-32-SigLIP2-256",
    "siglip2-large-patch16-256": "ViT-L-16-SigLIP2-256",
    "siglip2-large-patch16-384": "ViT-L-16-SigLIP2-384",
    "siglip2-large-patch16-512": "ViT-L-16-SigLIP2-512",
    "siglip2-so400m-patch14-224": "ViT-SO400M-14-SigLIP2",
    "siglip2-so400m-patch14-384": "ViT-SO400M-14-SigLIP2-378",
    "siglip2-so400m-patch16-256": "ViT-SO400M-16-SigLIP2-256",
    "siglip2-so400m-patch16-384": "ViT-SO400M-16-SigLIP2-384",
    "siglip2-so400m-patch16-512": "ViT-SO400M-16-SigLIP2-512",
    "siglip2-giant-opt-patch16-256": "ViT-gopt-16-SigLIP2-256",
    "siglip2-giant-opt-patch16-384": "ViT-gopt-16-SigLIP2-384",
}


@pytest.mark.parametrize("name", SigLIPTransformers.published)
def test_published_sizes(name):
    """open_clip publishes the same networks, and its numbers are at hand; the tensors are those of a SiglipModel."""
    layout, config = SigLIPTransformers(), SigLIPTransformers.published[name].config
    theirs = open_clip.get_model_config(SAME_IN_OPEN_CLIP[name.removeprefix("google/")])
    vision, text = theirs["vision_cfg"], theirs["text_cfg"]
    assert (text["vocab_size"], text["context_length"]) == (config.text.vocabulary, config.text.context)
    assert (text["width"], text["layers"], text["heads"]) == (config.text.width, config.text.depth, config.text.heads)
    assert int(text["width"] * text.get("mlp_ratio", 4)) == config.text.mlp_width
    assert theirs["embed_dim"] == config.width
    side, patch = config.image_size, config.image.patch_size
    assert vision["image_size"] in (side, side // patch * patch)  # the second is what the network sees of the first
    with torch.device("meta"):
        tower, model = timm.create_model(vision["timm_model_name"], num_classes=0), SigLIP(config)
    assert sum(p.numel() for p in model.image.parameters()) == sum(p.numel() for p in tower.parameters())
    assert (len(tower.blocks), tower.blocks[0].attn.num_heads) == (config.image.depth, config.image.heads)
    assert tower.patch_embed.patch_size == (patch, patch)
    with torch.device("meta"):
        reference = SiglipModel(SiglipConfig(**layout.write_config(model)))
    assert {name: tensor.shape for name, tensor in to_theirs(layout, model).items()} == {
        name: tensor.shape for name, tensor in reference.state_dict().items()
    }


def test_the_defaults_of_transformers_are_ours():
    layout = SigLIPTransformers()
    silent = layout.read_config(Description({"model_type": "siglip"}))
    assert silent == layout.read_config(Description(SiglipConfig().to_dict())) == SigLIPConfig()


# preprocessing


def assert_equal(preprocess, processor, picture, given_to_reference=None) -> None:
    theirs = processor(picture if given_to_reference is None else given_to_reference, return_tensors="pt")
    assert torch.equal(preprocess(picture), theirs["pixel_values"].float())


@pytest.mark.parametrize("kind", odd_pictures())
def test_the_processor_on_every_picture(kind):
    given_to_reference = photograph().convert("L") if kind == "16-bit grey" else None
    assert_equal(
        from_transformers({}, "SiglipImageProcessor"),
        SiglipImageProcessorPil(),
        odd_pictures()[kind],
        given_to_reference,
    )


@pytest.mark.parametrize(
    "said",
    [
        {  # google/siglip-so400m-patch14-384
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "SiglipImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "processor_class": "SiglipProcessor",
            "resample": 3,
            "rescale_factor": 0.00392156862745098,
            "size": {"height": 384, "width": 384},
        },
        {  # google/siglip2-base-patch16-224
            "do_convert_rgb": None,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "SiglipImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "processor_class": "SiglipProcessor",
            "resample": 2,
            "rescale_factor": 0.00392156862745098,
            "size": {"height": 224, "width": 224},
        },
        {"image_processor_type": "SiglipImageProcessorFast", "size": 30},
    ],
)
def test_published_files(said, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    processor = SiglipImageProcessorPil.from_pretrained(tmp_path)
    preprocess = from_transformers(said)
    again = SiglipImageProcessorPil(**to_transformers(preprocess, "SiglipImageProcessor"))
    for picture in (photograph(), noise(47, 61), noise(30, 90)):
        assert_equal(preprocess, processor, picture)
        assert_equal(preprocess, again, picture)


def test_the_preprocessing_of_a_folder(tmp_path):
    save_transformers(reference_model(), tmp_path / "theirs")
    plain = SiglipImageProcessorPil(size={"height": 35, "width": 35})
    assert_equal(vitrail.load(tmp_path / "theirs").preprocess, plain, photograph())  # where no file says how
    reference = SiglipImageProcessorPil(size={"height": 40, "width": 40}, resample=2)
    reference.save_pretrained(tmp_path / "theirs")
    model = vitrail.load(tmp_path / "theirs")
    vitrail.save(model, tmp_path / "back")
    assert_equal(model.preprocess, reference, photograph())
    assert_equal(model.preprocess, SiglipImageProcessorPil.from_pretrained(tmp_path / "back"), photograph())
