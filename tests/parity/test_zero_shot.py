"""Labels in words get the probabilities that transformers gives them, from the same files."""

import gzip
import json
from pathlib import Path

import open_clip
import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer, SiglipConfig, SiglipModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

import vitrail
from tests.parity.references import randomise
from tests.pictures import noise, photograph
from tests.reading import word_tokenizer
from vitrail.tasks.classify import Classification

LABELS = ["a tabby cat", "two dogs, running", "ein Frosch", "Ünïcode 青蛙 🐸", "IT'S"]
TEMPLATES = ["a photo of {}.", "a drawing of {}, in 1921"]
TOWER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> tuple[str, CLIPModel, CLIPProcessor]:
    """A small CLIP with random weights and OpenAI's vocabulary, as transformers saves it."""
    folder = tmp_path_factory.mktemp("clip")
    lines = gzip.decompress(Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode()
    merges = [tuple(line.split()) for line in lines.split("\n")[1 : 49152 - 256 - 2 + 1]]
    characters = list(open_clip.tokenizer.bytes_to_unicode().values())
    tokens = [*characters, *(character + "</w>" for character in characters), *map("".join, merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, merges)) + "\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=77)
    config = CLIPConfig(
        vision_config={**TOWER, "image_size": 32, "patch_size": 8},
        text_config={**TOWER, "bos_token_id": 49406, "eos_token_id": 49407},
        projection_dim=24,
    )
    torch.manual_seed(0)
    model = randomise(CLIPModel(config))
    model.logit_scale.data.fill_(3.0)
    processor = CLIPProcessor(CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32), tokenizer)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder), model, processor


def pictures() -> list:
    return [photograph(), noise(40, 70, seed=1), noise(32, 32, seed=2)]


def by_label(found: Classification) -> list[float]:
    return [label.score for label in sorted(found.labels, key=lambda label: label.index)]


def test_probabilities_are_transformers_own(clip):
    folder, model, processor = clip
    inputs = processor(text=LABELS, images=pictures(), return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = model(**inputs).logits_per_image.softmax(1)
    found = vitrail.classify(pictures(), labels=LABELS, model=folder)
    torch.testing.assert_close(torch.tensor([by_label(picture) for picture in found]), expected, rtol=1e-4, atol=1e-6)
    assert expected.std() > 0.05


def test_templates_are_ensembled_as_the_paper_does(clip):
    folder, model, processor = clip
    with torch.no_grad():
        images = model.get_image_features(**processor(images=pictures(), return_tensors="pt")).pooler_output
        labels = []
        for label in LABELS:  # a label at a time, a text at a time
            texts = [processor(text=template.format(label), return_tensors="pt") for template in TEMPLATES]
            vectors = [model.get_text_features(**text).pooler_output[0] for text in texts]
            mean = torch.stack([vector / vector.norm() for vector in vectors]).mean(0)
            labels.append(mean / mean.norm())
        cosines = images / images.norm(dim=1, keepdim=True) @ torch.stack(labels).T
        expected = (model.logit_scale.exp() * cosines).softmax(1)
    found = vitrail.classify(pictures(), labels=LABELS, templates=TEMPLATES, model=folder)
    torch.testing.assert_close(torch.tensor([by_label(picture) for picture in found]), expected, rtol=1e-4, atol=1e-6)


def test_siglips_are_sigmoids(tmp_path):
    labels = ["red", "a cat", "photo of dog", "cat"]
    config = SiglipConfig(
        vision_config={**TOWER, "image_size": 32, "patch_size": 8},
        text_config={**TOWER, "vocab_size": 13, "max_position_embeddings": 8, "projection_size": 32},
    )
    reference = randomise(SiglipModel(config))
    reference.logit_bias.data.fill_(-0.3)
    reference.save_pretrained(tmp_path)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    model = vitrail.load(str(tmp_path))
    model.tokenizer = word_tokenizer()
    with torch.no_grad():
        pixels = model.preprocess(pictures()[:1])
        expected = reference(model.tokenizer(labels), pixels).logits_per_image.sigmoid()
    found = vitrail.classify(pictures()[0], labels=labels, model=model)
    assert found.scoring == "sigmoid"
    torch.testing.assert_close(torch.tensor([by_label(found)]), expected, rtol=1e-4, atol=1e-6)
