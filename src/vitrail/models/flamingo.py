"""Flamingo: a language model that is shown pictures in the midst of a text, and learns from a few examples.

Alayrac et al., "Flamingo: a Visual Language Model for Few-Shot Learning", NeurIPS 2022 (2204.14198). Its weights were
never published; those of IDEFICS were, an open reproduction (Laurençon et al. 2023, 2306.16527, OBELICS), which is
followed in all that the paper leaves open.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import atanh
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.imaging.open import Picture
from vitrail.models.clip import CLIPImage, CLIPImageConfig
from vitrail.models.gpt2 import GPT2, GPT2Config
from vitrail.models.language_model import LanguageModel, Prompt, Turn
from vitrail.models.llama import Llama, LlamaConfig
from vitrail.models.vit import ViT, ViTConfig
from vitrail.nn.cache import Cache
from vitrail.nn.gated import GatedCrossAttention, KeysValues
from vitrail.nn.resampler import Resampler
from vitrail.text.tokenizer import Tokenizer

START, AROUND, PICTURE, END_OF_UTTERANCE = "<s>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"
"""IDEFICS' special tokens; only its instructed checkpoints know the last, which ends a turn."""


@dataclass(frozen=True)
class ResamplerConfig:
    """The numbers of a Perceiver resampler; the defaults are IDEFICS'.

    Attributes:
        latents: how many tokens a picture becomes.
        depth: how many times they look at it.
        heads: attention heads.
        head_width: the width of a head.
        qk_norm: whether each head's queries and keys are normed (IDEFICS).
    """

    latents: int = 64
    depth: int = 6
    heads: int = 16
    head_width: int = 96
    qk_norm: bool = True


@dataclass(frozen=True)
class FlamingoConfig:
    """An encoder of pictures, a language model, and what is put between them; the defaults are IDEFICS-9B's.

    Attributes:
        image: the encoder's numbers. Of a CLIP's tower the tokens before its last norm are read, as in IDEFICS; a ViT
            has no head, whatever its `classes`.
        text: the language model's.
        resampler: the resampler's; None where the text looks at all of the encoder's tokens.
        every: before each so-many-th block of the language model, the first included, stands a layer that looks at
            pictures.
        gates: the gates of these layers have "one" number each, or one for each of the "channels" (IDEFICS' smallest
            test checkpoint).
        qk_norm: whether these layers norm each head's queries and keys (IDEFICS).
        new_tokens: how many tokens there are beyond the language model's vocabulary, with embeddings of their own that
            learn while it does not.
        picture: the token that stands for a picture, one of either vocabulary.
    """

    image: CLIPImageConfig | ViTConfig = field(
        default_factory=lambda: CLIPImageConfig(
            patch_size=14, width=1280, depth=32, heads=16, mlp_width=5120, activation="gelu"
        )
    )
    text: LlamaConfig | GPT2Config = field(default_factory=LlamaConfig)
    resampler: ResamplerConfig | None = field(default_factory=ResamplerConfig)
    every: int = 4
    gates: Literal["one", "channels"] = "one"
    qk_norm: bool = True
    new_tokens: int = 2
    picture: int = 32001

    @property
    def image_size(self) -> int | tuple[int, int]:
        """Side, or (height, width), of the pictures, in pixels."""
        return self.image.image_size

    @property
    def channels(self) -> int:
        """Channels of a picture."""
        return self.image.channels

    @property
    def context(self) -> int:
        """The most tokens of a text; a picture is one."""
        return self.text.context


class Flamingo(LanguageModel):
    """A language model between whose blocks gated layers look at pictures (figure 3).

    A text shows its pictures where its `picture` tokens stand, and each of its tokens looks at the last one shown
    before it, and at none where there is none (§2.3): of earlier pictures it knows what the text before it has made of
    them. So one that was trained on few pictures a text takes any number of them.
    """

    family: ClassVar[str] = "flamingo"
    config: FlamingoConfig
    most_pictures: int | None = None

    def __init__(self, config: FlamingoConfig) -> None:
        super().__init__()
        text, resampler = config.text, config.resampler
        if config.every < 1:
            raise ValueError(f"layers that look at pictures cannot stand before every {config.every} blocks")
        if not 0 <= config.picture < text.vocabulary + config.new_tokens:
            raise ValueError(f"token {config.picture} is none of the {text.vocabulary + config.new_tokens} there are")
        self.config = config
        self.image: CLIPImage | ViT = (
            CLIPImage(config.image, None)
            if isinstance(config.image, CLIPImageConfig)
            else ViT(replace(config.image, classes=0))
        )
        self.text: Llama | GPT2 = Llama(text) if isinstance(text, LlamaConfig) else GPT2(text)
        width = config.image.width
        self.resampler: nn.Module = nn.Identity()
        if resampler is not None:
            self.resampler = Resampler(
                width,
                resampler.latents,
                resampler.depth,
                resampler.heads,
                resampler.head_width,
                qk_norm=resampler.qk_norm,
            )
        self.looks = nn.ModuleList(
            GatedCrossAttention(
                text.width,
                width,
                text.heads,
                text.mlp_width,
                norm_eps=text.norm_eps,
                qk_norm=config.qk_norm,
                gates=config.gates,
            )
            for _ in range(0, text.depth, config.every)
        )
        self.new_tokens = nn.Embedding(config.new_tokens, text.width) if config.new_tokens else None
        self.new_head = nn.Linear(text.width, config.new_tokens, bias=False) if config.new_tokens else None
        for part in (self.resampler, self.looks, self.new_tokens, self.new_head):
            if part is not None:
                part.apply(_initialise)
        if self.text.tied and self.new_tokens is not None and self.new_head is not None:
            self.new_head.weight = self.new_tokens.weight

    @property
    def tied(self) -> Mapping[str, str]:  # type: ignore[override]
        """What the language model ties, and the new tokens in the same way."""
        if not self.text.tied:
            return {}
        tied = {f"text.{second}": f"text.{first}" for second, first in self.text.tied.items()}
        return {**tied, "new_head.weight": "new_tokens.weight"} if self.config.new_tokens else tied

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a text, or a turn where the tokenizer has a token for that."""
        return (*self.text.ends, *self._ends_of_turns())

    @property
    def stop(self) -> tuple[str, ...]:  # type: ignore[override]
        """What follows an answer where no token ends it: the next example, or the next turn, in IDEFICS."""
        if isinstance(self.text, GPT2):
            return ()
        return ("\nUser:", "\nAssistant:") if self._ends_of_turns() else ("\n", "Question:")

    def freeze(self) -> None:
        """Let only that learn which is put between pictures and texts; encoder and language model stay (§2.2)."""
        self.requires_grad_(True)
        self.image.requires_grad_(False)
        self.text.requires_grad_(False)

    def hold_gates(self, value: float) -> None:
        """Keep the gates of all attention to pictures at a value of tanh(α), and those of the MLPs behind it shut."""
        for look in self.looks:
            assert isinstance(look, GatedCrossAttention)
            nn.init.constant_(look.gate1, atanh(value))
            nn.init.zeros_(look.gate2)
            look.gate1.requires_grad_(False)
            look.gate2.requires_grad_(False)

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> what a text sees of each picture: (B, latents, D), or all the encoder's tokens (B, N, D)."""
        image = self.image
        return self.resampler(image.tokens(images) if isinstance(image, CLIPImage) else image.features(images))

    def pool(self, features: Tensor) -> Tensor:
        """There is no one vector.

        Raises:
            UsageError: always.
        """
        raise UsageError("Flamingo has no vector for a picture: it talks about it; take a CLIP, a SigLIP or a DINOv2")

    def start(self, pixels: Tensor | None, rows: int = 1) -> Cache:
        """Look at pictures (B, P, C, H, W), or at one each (B, C, H, W); rows with fewer than P end in zeros.

        The cache's memory holds how many pictures a row has, "given", and how many of them its text has shown so far,
        "shown", (B,) int64 each; for each layer that looks at them the keys and values of all, "keys 0" (B, heads, M,
        d) and so on; and the number of the picture that each of these M belongs to, "owners" (B, M) int64.
        """
        cache = Cache(len(self.text.blocks))
        if pixels is None:
            none = torch.zeros(rows, dtype=torch.int64, device=self.text.tokens.weight.device)
            cache.memory |= {"given": none, "shown": none}
            return cache
        pixels = pixels[:, None] if pixels.ndim == 4 else pixels
        rows, count = pixels.shape[:2]
        numbers = torch.arange(count, device=pixels.device)
        pictures = self.features(pixels.flatten(0, 1)).unflatten(0, (rows, count))
        cache.memory["given"] = torch.where(pixels.flatten(2).any(2), numbers + 1, 0).amax(1)
        cache.memory["shown"] = torch.zeros_like(cache.memory["given"])
        cache.memory["owners"] = numbers.repeat_interleave(pictures.shape[2]).repeat(rows, 1)
        for number, layer in enumerate(self.looks):
            assert isinstance(layer, GatedCrossAttention)
            seen = layer.attention.look_at(pictures.flatten(1, 2))
            cache.memory[f"keys {number}"], cache.memory[f"values {number}"] = seen
        return cache

    def read(self, ids: Tensor, cache: Cache, mask: Tensor | None = None) -> Tensor:
        """See `LanguageModel.read`.

        Raises:
            ValueError: the text is longer than the network's context.
            UsageError: it shows more pictures than there are.
        """
        positions, visible = cache.admit(ids, mask)
        if cache.length > self.config.context:
            raise ValueError(f"a text of {cache.length} tokens is too long: this network reads {self.config.context}")
        looked_at, sees = self._last_pictures(ids, cache, mask)
        tokens = self.embed(ids)
        read: list[Callable[[Tensor], Tensor]]  # the language model's blocks
        pairs = zip(self.text.blocks, cache.layers, strict=True)
        if isinstance(self.text, Llama):
            angles = self.text.rotary(positions)
            read = [partial(block, angles=angles, visible=visible, past=past) for block, past in pairs]
        else:
            tokens = tokens + self.text.positions(positions)
            read = [partial(block, mask=visible, past=past) for block, past in pairs]
        for number, block in enumerate(read):
            if number % self.config.every == 0:
                look = number // self.config.every
                tokens = self.looks[look](tokens, _seen(cache, look), looked_at, sees)
            tokens = block(tokens)
        return self.text.norm(tokens)

    def embed(self, ids: Tensor) -> Tensor:
        """Ids (B, n) of either vocabulary -> their embeddings (B, n, D)."""
        if self.new_tokens is None:
            return self.text.tokens(ids)
        first = self.config.text.vocabulary
        known, new = self.text.tokens(ids.clamp(max=first - 1)), self.new_tokens((ids - first).clamp(min=0))
        return torch.where((ids >= first)[..., None], new, known)

    def head(self, tokens: Tensor) -> Tensor:  # type: ignore[override]
        """What tokens have become (..., D) -> logits of what comes next, (..., V): the known tokens, then the new."""
        known = self.text.head(tokens)
        return known if self.new_head is None else torch.cat([known, self.new_head(tokens)], -1)

    def transcript(self, turns: Sequence[Turn], language: str = "en") -> tuple[list[int], list[bool]]:
        """A conversation as ids, and which of them the network is to say, in the simple form.

        That is a GPT-2's: a picture token for each picture, the question, the answer, the token that ends it; and so on
        with the next. Examples come before a question as turns do that were had before.

        Raises:
            UsageError: the language model is no GPT-2, there is no tokenizer, or no text in this language.
        """
        if not isinstance(self.text, GPT2):
            raise UsageError("conversations are spelled out in the simple form for a Flamingo with a GPT-2 only")
        return self._spelled(self._asked(turns, language), lambda turn: [self.config.picture] * turn.pictures)

    def prompt(self, turns: Sequence[Turn], pictures: Sequence[Picture], language: str = "en") -> Prompt:
        """A conversation in the form of the checkpoint: `transcript`'s, or one of IDEFICS'.

        An instructed IDEFICS, whose tokenizer knows `END_OF_UTTERANCE`, reads "User:<picture>question" and "Assistant:
        answer" and writes on behind "Assistant:"; the others read "<picture>Question: question Answer: answer", line by
        line. Earlier turns are examples to learn from.

        Raises:
            UsageError: there is no tokenizer; IDEFICS is asked in another language than English; the pictures are not
                those that the turns show, or a question spells out the token of one; or there is no room to answer.
        """
        if sum(turn.pictures for turn in turns) != len(pictures):
            raise UsageError(
                f"the turns show {sum(turn.pictures for turn in turns)} pictures and {len(pictures)} were given"
            )
        if isinstance(self.text, GPT2):
            ids, _ = self.transcript(turns, language)
        else:
            if language != "en":
                raise UsageError(f"IDEFICS speaks en, not {language}")
            spell = spell_instructed if self._ends_of_turns() else spell_base
            ids = self._tokenizer().plain(spell(turns))
        if ids.count(self.config.picture) != len(pictures):
            raise UsageError("a text may not spell out the token that stands for a picture")
        if len(ids) >= self.config.context:
            raise UsageError(f"{len(ids)} tokens leave no room for an answer: this network reads {self.config.context}")
        return Prompt(self.preprocess(list(pictures))[None] if pictures else None, torch.tensor([ids]))

    def _last_pictures(self, ids: Tensor, cache: Cache, mask: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """For new tokens (B, n): which keys belong to the last picture before each, (B, 1, n, M) bool; whether there is
        one, (B, n) bool. None and None where there are no pictures at all.
        """
        here = ids == self.config.picture
        if mask is not None:
            here = here & mask.bool()
        before, owners = cache.memory["shown"][:, None], cache.memory.get("owners")
        shown = before + here.cumsum(1)
        if ids.shape[1] == 1:  # a picture token that the network has written shows nothing new
            shown = shown.minimum(cache.memory["given"][:, None].maximum(before))
        elif not (ids.is_meta or torch.compiler.is_exporting()):
            given = 0 if owners is None else int(owners[0, -1]) + 1
            if int(shown.max()) > given:
                raise UsageError(f"the text shows {int(shown.max())} pictures and {given} were given")
        cache.memory["shown"] = shown[:, -1]
        if owners is None:
            return None, None
        last = (shown - 1).clamp(min=0)  # for attention to nothing has no mean; `GatedCrossAttention` leaves it out
        return (last[:, :, None] == owners[:, None])[:, None], shown > 0

    def _ends_of_turns(self) -> tuple[int, ...]:
        """The token that ends a turn, where the tokenizer has one for that."""
        found = None if self.tokenizer is None else self.tokenizer.backend.token_to_id(END_OF_UTTERANCE)
        return () if found is None else (found,)

    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise UsageError("this network has no tokenizer: set its `tokenizer`")
        return self.tokenizer


def spell_base(turns: Sequence[Turn]) -> str:
    """A conversation as the base checkpoints of IDEFICS are asked; of captions their publisher shows no example."""
    spelled = START
    for turn in turns:
        if turn.by == "model":
            spelled += f" {turn.text.strip()}\n"
        else:
            question = f"Question: {turn.text.strip()} Answer:" if turn.text else "Caption:"
            spelled += _spell_pictures(turn.pictures) + question
    return spelled


def spell_instructed(turns: Sequence[Turn]) -> str:
    """A conversation as the instructed checkpoints of IDEFICS were trained on, up to "Assistant:"."""
    spelled = START
    for number, turn in enumerate(turns):
        text = turn.text.strip()
        if turn.by == "model":
            spelled += f"\nAssistant: {text}{END_OF_UTTERANCE}"
        else:
            shown = _spell_pictures(turn.pictures) or " "
            spelled += f"{chr(10) if number else ''}User:{shown}{text or 'Describe this image.'}{END_OF_UTTERANCE}"
    return f"{spelled}\nAssistant:"


def _spell_pictures(count: int) -> str:
    """Pictures with IDEFICS' token around them and, once, between each two."""
    return "".join(f"{AROUND}{PICTURE}" for _ in range(count)) + (AROUND if count else "")


def _seen(cache: Cache, look: int) -> KeysValues | None:
    """The keys and values of the pictures for one of the layers that look at them; None where there are no pictures."""
    memory = cache.memory
    return (memory[f"keys {look}"], memory[f"values {look}"]) if "owners" in memory else None


def _initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.02²), as GPT-2's."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
