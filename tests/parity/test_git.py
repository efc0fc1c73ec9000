"""GIT gives the reference's numbers and texts from the reference's files, and goes back into them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertTokenizer, GitConfig, GitForCausalLM, GitProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

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
from vitrail import registry
from vitrail.checkpoints.layout import Description, to_theirs
from vitrail.checkpoints.layouts.git_transformers import GITTransformers, GITVideoTransformers
from vitrail.checkpoints.preprocessors import from_transformers, to_transformers
from vitrail.imaging.open import open_picture
from vitrail.models.git import GIT, GITConfig
from vitrail.models.language_model import Turn
from vitrail.text.decoding import left_pad

WORDS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "?", "!", ",", "'", "-", "a", "s", "t", "##s", "##ing"),
    *("what", "is", "the", "cat", "do", "on", "red", "apple", "two", "how", "many", "are", "there", "##es"),
]
QUESTIONS = ["What is the cat doing?", "how many apples are there?  Two, isn't it!", "", "的 café\tcats"]
VOCABULARY = len(WORDS)
PICTURE_TOKENS = 1 + 5 * 5
SMALL = {
    "vision_config": {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 96,
        "image_size": 35,
        "patch_size": 7,
    },
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
ODD: dict[str, dict] = {
    "plain": {},
    "video": {"num_image_with_embedding": 3},
    "one channel": {"vision_config": {"num_channels": 1}},
    "other numbers": {
        "vision_config": {"hidden_act": "gelu", "layer_norm_eps": 1e-2},
        "hidden_act": "relu",
        "layer_norm_eps": 1e-1,
    },
    "several ends": {"eos_token_id": [3, 7]},
}


def reference_model(odd: str = "plain") -> GitForCausalLM:
    """A small GitForCausalLM with random weights."""
    vision = {**SMALL["vision_config"], **ODD[odd].get("vision_config", {})}
    reference = randomise(GitForCausalLM(GitConfig(**{**SMALL, **ODD[odd], "vision_config": vision})))
    with torch.no_grad():
        reference.git.embeddings.word_embeddings.weight[0] = 0  # what fills up: the reference's loading zeroes it
        for time in getattr(reference.git, "img_temporal_embedding", ()):
            time.normal_()
    return reference


def write_vocabulary(folder: Path) -> BertTokenizer:
    """Put a vocab.txt into a folder, as the publisher did, and open it in the reference."""
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return BertTokenizer.from_pretrained(folder)


def pictures(reference: GitForCausalLM, rows: int = 2) -> Tensor:
    channels = reference.config.vision_config.num_channels
    frames = reference.config.num_image_with_embedding
    return torch.randn(rows, *([frames] if frames else []), channels, 35, 35)


def prompts(rows: int = 2, length: int = 6) -> Tensor:
    return torch.cat([torch.full((rows, 1), 2), torch.randint(5, VOCABULARY, (rows, length - 1))], 1)


def written(reference: GitForCausalLM, how: dict, **given: Tensor) -> Tensor:
    """What the reference's `generate` writes."""
    return reference.generate(**given, **how, do_sample=False)


def texts(rows: Tensor) -> list[list[int]]:
    """Each text up to its end, where the reference's beams fill up with other ids than its greedy search."""
    return [row[: row.index(3) + 1] if 3 in row else row for row in rows.tolist()]


# the network


@pytest.mark.parametrize(
    ("odd", "form"), [*((odd, "published") for odd in ODD), ("plain", "sharded"), ("video", "in memory")]
)
@torch.inference_mode()
def test_a_model_of_transformers(odd, form, tmp_path):
    reference = reference_model(odd)
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs", form))
    images, ids = pictures(reference), prompts(length=9)
    expected = reference(input_ids=ids, pixel_values=images).logits
    assert model.family == "git"
    assert not model.training
    assert_same(model(images, ids), expected[:, -9:])
    assert model.features(images).shape[1] == expected.shape[1] - 9

    vitrail.save(model, tmp_path / "back")
    back = load_transformers(GitForCausalLM, tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(back(input_ids=ids, pixel_values=images).logits, expected)
    assert back.generation_config.eos_token_id == reference.config.eos_token_id


@pytest.mark.parametrize("odd", ["plain", "video"])
def test_what_is_saved_has_the_reference_s_names(odd, tmp_path):
    save_transformers(reference_model(odd), tmp_path / "published")
    vitrail.save(vitrail.load(tmp_path / "published"), tmp_path / "back")
    assert_same_files(tmp_path / "published", tmp_path / "back")


@torch.inference_mode()
def test_what_old_versions_called_it(tmp_path):
    """The hub's files hold positions counted out, and misspell the embeddings of time."""
    reference = reference_model("video")
    save_transformers(reference, tmp_path / "old")
    state = load_file(tmp_path / "old" / "model.safetensors")
    state = {name.replace("img_temporal", "img_temperal"): tensor for name, tensor in state.items()}
    state["git.embeddings.position_ids"] = torch.arange(40)[None]
    state["git.image_encoder.vision_model.embeddings.position_ids"] = torch.arange(PICTURE_TOKENS)[None]
    save_file(state, tmp_path / "old" / "model.safetensors")
    images, ids = pictures(reference), prompts()
    model = vitrail.load(tmp_path / "old")
    assert_same(model(images, ids), reference(input_ids=ids, pixel_values=images).logits[:, -6:])


@torch.inference_mode()
def test_pictures_of_other_sizes(tmp_path):
    reference = reference_model()
    model = vitrail.load(save_transformers(reference, tmp_path))
    images, ids = torch.randn(2, 3, 42, 28), prompts()
    expected = reference(input_ids=ids, pixel_values=images, interpolate_pos_encoding=True).logits[:, -6:]
    assert_same(model(images, ids), expected)


@torch.inference_mode()
def test_a_video_shorter_than_the_longest_and_a_single_picture(tmp_path):
    reference = reference_model("video")
    model, ids = vitrail.load(save_transformers(reference, tmp_path)), prompts()
    for images in (torch.randn(2, 2, 3, 35, 35), torch.randn(2, 3, 35, 35)):
        assert_same(model(images, ids), reference(input_ids=ids, pixel_values=images).logits[:, -6:])


# what it writes


HOW: dict[str, dict] = {
    "greedy": {"max_new_tokens": 20},
    "greedy, no word twice": {"max_new_tokens": 20, "repetition_penalty": 3.0},
    "beams": {"max_new_tokens": 20, "num_beams": 4},
    "beams, long": {"max_new_tokens": 20, "num_beams": 3, "length_penalty": 2.0, "early_stopping": True},
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(("odd", "likelier"), [("plain", 1.5), ("video", 0.8)])
@torch.inference_mode()
def test_generate(odd, likelier, how, tmp_path):
    reference = reference_model(odd)
    save_transformers(reference, tmp_path)
    write_vocabulary(tmp_path)
    model = vitrail.load(tmp_path)
    for head in (model.head, reference.output):
        head.bias[3] += likelier  # so that some texts end
    images, ids = pictures(reference, rows=4), prompts(rows=4)
    expected = texts(written(reference, HOW[how], pixel_values=images, input_ids=ids))
    assert texts(model.generate(images, ids, **HOW[how])) == expected
    assert len(set(map(len, expected))) > 1  # they end at different places


@pytest.mark.parametrize("how", HOW)
@torch.inference_mode()
def test_a_caption_begins_where_the_reference_begins_without_a_prompt(how, tmp_path):
    reference = reference_model()
    model = vitrail.load(save_transformers(reference, tmp_path))
    images = pictures(reference, rows=1)
    prompt = model.prompt([Turn("", pictures=1)], [open_picture(noise(40, 40))])
    expected = written(reference, HOW[how], pixel_values=images)
    assert torch.equal(model.generate(images, prompt.ids, **HOW[how]), expected)


@torch.inference_mode()
def test_prompts_of_several_lengths(tmp_path):
    """The reference counts the positions of filled-up prompts only where it is given them."""
    reference = reference_model()
    save_transformers(reference, tmp_path)
    write_vocabulary(tmp_path)
    model, images = vitrail.load(tmp_path), pictures(reference, rows=3)
    texts = [prompts(1, length)[0].tolist() for length in (6, 2, 4)]
    ids, mask = left_pad(texts, pad=0)
    together = model.generate(images, ids, **HOW["greedy"], mask=mask)
    for row, text in enumerate(texts):
        alone = written(reference, HOW["greedy"], pixel_values=images[row, None], input_ids=torch.tensor([text]))[0]
        assert torch.equal(together[row, 6 - len(text) :][: len(alone)], alone)


# what is published


PUBLISHED = {**GITTransformers.published, **GITVideoTransformers.published}


@pytest.mark.parametrize("name", {entry.config: name for name, entry in PUBLISHED.items()}.values())
def test_published_sizes(name):
    """One checkpoint of each size."""
    found = registry.published(name)
    assert found is not None
    layout, entry = found
    with torch.device("meta"):
        model = GIT(entry.config)
        reference = GitForCausalLM(GitConfig(**layout.write_config(model)))
    theirs = {key: tensor.shape for key, tensor in reference.state_dict().items()}
    assert {key: tensor.shape for key, tensor in to_theirs(layout, model).items()} == theirs


def test_git_base_is_the_default_on_both_sides():
    layout = GITTransformers()
    silent = layout.read_config(Description({"model_type": "git"}))
    assert silent == layout.read_config(Description(GitConfig().to_dict()))
    assert silent == GITConfig() == layout.published["microsoft/git-base"].config


# preprocessing


@pytest.mark.parametrize("kind", odd_pictures())
def test_the_video_processor_on_every_picture(kind):
    """That of single pictures is CLIP's, which CLIP's tests try."""
    picture = odd_pictures()[kind]
    given_to_reference = (photograph().convert("L") if kind == "16-bit grey" else picture).convert("RGB")
    expected = VideoMAEImageProcessorPil()([given_to_reference], return_tensors="pt")["pixel_values"]
    assert torch.equal(from_transformers({}, "VideoMAEImageProcessor")(picture), expected[0].float())


@pytest.mark.parametrize(
    "said",
    [
        {
            "image_processor_type": "VideoMAEImageProcessor",
            "size": {"shortest_edge": 40},
            "crop_size": {"height": 35, "width": 35},
            "resample": 2,
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
        },
        {"feature_extractor_type": "VideoMAEFeatureExtractor", "size": {"shortest_edge": 36}, "crop_size": 35},
    ],
)
def test_files_of_the_video_processor(said, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    reference = VideoMAEImageProcessorPil.from_pretrained(tmp_path)
    preprocess = from_transformers(said)
    again = VideoMAEImageProcessorPil(**to_transformers(preprocess, "VideoMAEImageProcessor"))
    frames = [photograph(), noise(47, 61), noise(40, 90)]
    for processor in (reference, again):
        assert torch.equal(preprocess(frames), processor(frames, return_tensors="pt")["pixel_values"][0].float())


@pytest.mark.parametrize("odd", ["plain", "video"])
def test_the_preprocessing_of_a_folder(odd, tmp_path):
    kind = VideoMAEImageProcessorPil if odd == "video" else CLIPImageProcessorPil
    save_transformers(reference_model(odd), tmp_path / "theirs")
    usual = kind(size={"shortest_edge": 35}, crop_size={"height": 35, "width": 35})
    expected = usual([photograph()], return_tensors="pt")["pixel_values"].float().reshape(1, 3, 35, 35)
    assert torch.equal(vitrail.load(tmp_path / "theirs").preprocess(photograph()), expected)  # where no file says how
    kind(size={"shortest_edge": 40}, crop_size={"height": 35, "width": 35}).save_pretrained(tmp_path / "theirs")
    model = vitrail.load(tmp_path / "theirs")
    vitrail.save(model, tmp_path / "back")
    for folder in ("theirs", "back"):
        processor = kind.from_pretrained(tmp_path / folder)
        expected = processor([photograph()], return_tensors="pt")["pixel_values"].float().reshape(1, 3, 35, 35)
        assert torch.equal(model.preprocess(photograph()), expected)
    assert f"{kind.__name__.removesuffix('Pil')}" in (tmp_path / "back" / "preprocessor_config.json").read_text()


# prompts


@pytest.mark.parametrize("odd", ["plain", "video"])
@torch.inference_mode()
def test_prompts_are_the_model_card_s(odd, tmp_path):
    kind = VideoMAEImageProcessorPil if odd == "video" else CLIPImageProcessorPil
    reference = reference_model(odd)
    save_transformers(reference, tmp_path / "theirs")
    kind(size={"shortest_edge": 35}, crop_size={"height": 35, "width": 35}).save_pretrained(tmp_path / "theirs")
    tokenizer = write_vocabulary(tmp_path / "theirs")
    model = vitrail.load(tmp_path / "theirs")
    shown = [photograph(), noise(50, 40)] if odd == "video" else [photograph()]
    for folder in ("theirs", "back"):
        processor = GitProcessor(kind.from_pretrained(tmp_path / "theirs"), tokenizer)
        pixels = processor(images=shown, return_tensors="pt").pixel_values.float()
        for question in QUESTIONS:
            said = processor(text=question, add_special_tokens=False).input_ids
            ids = torch.tensor([[tokenizer.cls_token_id, *said]])
            prompt = model.prompt([Turn(question, pictures=len(shown))], list(map(open_picture, shown)))
            assert torch.equal(prompt.ids, ids)
            assert torch.equal(prompt.pixels, pixels)
            expected = written(reference, HOW["greedy"], pixel_values=pixels, input_ids=ids)
            assert torch.equal(model.generate(prompt.pixels, prompt.ids, **HOW["greedy"]), expected)
        if folder == "theirs":
            vitrail.save(model, tmp_path / "back")
            model = vitrail.load(tmp_path / "back")


@torch.inference_mode()
def test_what_the_reference_reads_back_is_what_we_wrote(tmp_path):
    reference = reference_model()
    save_transformers(reference, tmp_path / "theirs")
    write_vocabulary(tmp_path / "theirs")
    model = vitrail.load(tmp_path / "theirs")
    vitrail.save(model, tmp_path / "back")
    back, ids, images = load_transformers(GitForCausalLM, tmp_path / "back"), prompts(), pictures(reference)
    expected = texts(written(back, HOW["beams"], pixel_values=images, input_ids=ids))
    assert texts(model.generate(images, ids, **HOW["beams"])) == expected


@pytest.mark.parametrize("name", ["ours", "ours.safetensors"])
@pytest.mark.parametrize("odd", ["plain", "video", "several ends"])
def test_through_vitrail_s_own_layout(odd, name, tmp_path):
    save_transformers(reference_model(odd), tmp_path / "theirs")
    assert vitrail.convert(tmp_path / "theirs", tmp_path / name, layout="vitrail") == {}
    assert vitrail.convert(tmp_path / name, tmp_path / "back", layout="transformers") == {}
    assert_same_files(tmp_path / "theirs", tmp_path / "back")
