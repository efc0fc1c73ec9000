"""A network that chooses answers: it reads every question, looks at the right picture, and comes back from a file."""

import pytest
import torch

import vitrail
from vitrail.checkpoints.save import save
from vitrail.data.source import scaling
from vitrail.errors import UsageError
from vitrail.models.bert import BERTConfig
from vitrail.models.vit import ViTConfig
from vitrail.models.vqa import VQA, VQAConfig
from vitrail.text.train import train_tokenizer

QUESTIONS = ["How many fish are there?", "图中有几条鱼？", "Is there a boat?"]
TOKENIZER = train_tokenizer(QUESTIONS, 300, 48)
FUSIONS = ("sum", "outer", "factorised", "gate")


def shaken(fusion: str = "factorised", attention: bool = True) -> VQA:
    """A network whose every number is random."""
    config = VQAConfig(
        image=ViTConfig(image_size=24, patch_size=8, width=24, depth=2, heads=3, mlp_width=48, classes=0),
        text=BERTConfig(
            vocabulary=TOKENIZER.backend.get_vocab_size(), context=48, width=16, depth=2, heads=2, mlp_width=32
        ),
        fusion=fusion,
        width=12,
        rank=20,
        attention=attention,
        classes=5,
    )
    torch.manual_seed(0)
    model = VQA(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.tokenizer, model.labels, model.preprocess = TOKENIZER, ("1", "2", "yes", "no", "鱼"), scaling((24, 24))
    return model


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("fusion", FUSIONS)
@torch.no_grad()
def test_it_is_its_parts_put_together(fusion, attention):
    model = shaken(fusion, attention)
    images, ids = torch.randn(3, 3, 24, 24), TOKENIZER(QUESTIONS)
    tokens, question = model.features(images), model.read(ids)
    for row, vector in zip(ids, question, strict=True):
        length = int((row != 0).sum())
        torch.testing.assert_close(vector, model.text(row[None, :length])[0].mean(0))
    assert tokens.shape == (3, 10, 24)
    picture = model.pool(tokens)
    if attention:
        looks = model.attention.weights(tokens, question, torch.arange(3))
        assert looks.shape == (3, 10)
        torch.testing.assert_close(looks.sum(1), torch.ones(3))
        picture = torch.einsum("qn,qnd->qd", looks, tokens)
    logits = model(images, ids)
    assert logits.shape == (3, 5)
    torch.testing.assert_close(logits, model.head(model.fusion(picture, question)))


@pytest.mark.parametrize("attention", [True, False])
@torch.no_grad()
def test_many_questions_about_a_picture_are_each_asked_alone(attention):
    model = shaken(attention=attention)
    images, ids, of = torch.randn(2, 3, 24, 24), TOKENIZER([*QUESTIONS, QUESTIONS[0]]), torch.tensor([1, 0, 1, 0])
    together = model(images, ids, of)
    for question, picture in enumerate(of.tolist()):
        alone = model(images[picture][None], ids[question][None])
        torch.testing.assert_close(together[question][None], alone)
    shown = together[[3, 0]]  # the same question about both pictures
    assert not torch.allclose(shown[0], shown[1])
    assert not torch.allclose(together[0], together[2])  # two questions about the same


@torch.no_grad()
def test_what_fills_a_question_up_is_never_read():
    model = shaken()
    images, ids = torch.randn(1, 3, 24, 24), TOKENIZER(QUESTIONS[0])
    length = int((ids != 0).sum())
    assert length < ids.shape[1]
    torch.testing.assert_close(model(images, ids), model(images, ids[:, :length]))


@torch.no_grad()
def test_attention_is_equations_15_to_17():
    attention = shaken().attention
    tokens, question = torch.randn(2, 4, 24), torch.randn(3, 16)
    of = torch.tensor([0, 1, 1])
    for number in range(3):
        scores = []
        for token in tokens[of[number]]:
            hidden = attention.key.weight @ token + attention.query.weight @ question[number] + attention.query.bias
            scores.append((attention.score.weight @ hidden.tanh() + attention.score.bias)[0])
        looks = torch.stack(scores).softmax(0)
        torch.testing.assert_close(attention.weights(tokens, question, of)[number], looks)
        torch.testing.assert_close(attention(tokens, question, of)[number], looks @ tokens[of[number]])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_it_comes_back_from_its_file(fusion, tmp_path):
    model = shaken(fusion)
    loaded = vitrail.load(str(save(model, tmp_path / "model.safetensors")))
    assert loaded.config == model.config
    assert loaded.labels == model.labels
    images = torch.randn(3, 3, 24, 24)
    answers = loaded.answer(images, QUESTIONS)
    assert answers == model.answer(images, QUESTIONS)
    assert answers == [model.labels[i] for i in model(images, TOKENIZER(QUESTIONS)).argmax(1)]
    assert loaded.answer(images, QUESTIONS[2]) == model.answer(images, [QUESTIONS[2]] * 3)


def test_what_it_refuses():
    model = shaken()
    images = torch.zeros(2, 3, 24, 24)
    with pytest.raises(UsageError, match="there are 3 questions about 2 pictures: ask one about each"):
        model.answer(images, QUESTIONS)
    with pytest.raises(ValueError, match="3 questions and 2 pictures"):
        model(images, TOKENIZER(QUESTIONS))
    model.labels = None
    with pytest.raises(UsageError, match="no tokenizer or no answers"):
        model.answer(images, QUESTIONS[:2])
    with pytest.raises(ValueError, match=r"image\.classes is 1000"):
        VQAConfig(image=ViTConfig())
