"""SmolVLM: a small network that looks at pictures piece by piece and talks about them.

Marafioti et al., "SmolVLM: Redefining small and efficient multimodal models", 2025 (2504.05299), §2. The figure is that
of Idefics3: Laurençon et al., "Building and better understanding vision-language models", 2024 (2408.12637).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.imaging.open import Picture
from vitrail.imaging.tiles import TiledPreprocess, Tiles
from vitrail.models.language_model import LanguageModel, Prompt, Turn
from vitrail.models.llama import Llama, LlamaConfig
from vitrail.models.siglip import SigLIPImageConfig, WholePatches, initialise
from vitrail.nn.cache import Cache
from vitrail.nn.mlp import MLP
from vitrail.nn.patches import pair
from vitrail.nn.transformer import Block

START, PICTURE, FRAME, WHOLE, END = (
    "<|im_start|>",
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
)
"""How a conversation begins, where a token of a picture stands, what is around those, and how a turn ends."""

CAPTION = {"en": "Can you describe this image?", "zh": "请描述这张图片。"}
"""What a request for a caption is read as; the English one is the model cards'."""


@dataclass(frozen=True)
class SmolVLMConfig:
    """An encoder of tiles and a decoder of texts; the defaults are the 256M's.

    Attributes:
        image: the encoder's numbers; its pictures are squares.
        text: the decoder's; its `context` counts the tokens of pictures, too.
        shuffle: the side of the squares of patches that become one token.
        picture: the id that stands where a token of a picture is to be read.
        release: 1 for SmolVLM, published as an Idefics3, 2 for SmolVLM2, published as itself. The network is the same.
    """

    image: SigLIPImageConfig = field(default_factory=lambda: SigLIPImageConfig(image_size=512))
    text: LlamaConfig = field(
        default_factory=lambda: LlamaConfig(
            vocabulary=49280,
            context=8192,
            width=576,
            depth=30,
            heads=9,
            kv_heads=3,
            mlp_width=1536,
            norm_eps=1e-5,
            rotary_base=100000.0,
        )
    )
    shuffle: int = 4
    picture: int = 49190
    release: int = 1

    @property
    def image_size(self) -> int | tuple[int, int]:
        """Side of a tile in pixels."""
        return self.image.image_size

    @property
    def channels(self) -> int:
        """Channels of a picture."""
        return self.image.channels

    @property
    def tokens(self) -> int:
        """How many tokens a tile becomes."""
        rows, columns = self.image.grid
        return (rows // self.shuffle) * (columns // self.shuffle)


class SmolVLM(LanguageModel):
    """A LLaMA that reads tokens of pictures among those of the text.

    A picture is cut into tiles, and shown whole behind them; each becomes as many tokens (64 of the 256M's), which
    stand in the text where the id `config.picture` does. `preprocess(images)` gives pictures whole, for `features` and
    whatever looks at one picture; `prompt` cuts them, by `preprocess.tiles`, and says in the text which tile is which.
    """

    family: ClassVar[str] = "smolvlm"
    config: SmolVLMConfig
    preprocess: TiledPreprocess
    most_pictures: int | None = None

    def __init__(self, config: SmolVLMConfig) -> None:
        super().__init__()
        self.config = config
        self.image = TileEncoder(config.image)
        self.connector = PixelShuffle(config.image.width, config.shuffle, config.text.width)
        self.text = Llama(config.text)
        self.tied = {f"text.{second}": f"text.{first}" for second, first in self.text.tied.items()}

    @property
    def head(self) -> nn.Module:  # type: ignore[override]
        """The decoder's."""
        return self.text.head

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a text; the end of a turn, which a checkpoint's config does not name, goes before."""
        turn = None if self.tokenizer is None else self.tokenizer.backend.token_to_id(END)
        return self.text.ends if turn is None else (turn, *(end for end in self.text.ends if end != turn))

    @property
    def context(self) -> int:
        """The most ids that the network reads, those of pictures among them."""
        return self.config.text.context

    def features(self, images: Tensor) -> Tensor:
        """Tiles (B, C, H, W) -> the tokens that the decoder reads (B, N, D).

        Raises:
            ValueError: the grid of patches cannot be cut into the connector's squares.
        """
        return self.connector(self.image(images), self.image.patchify.grid(images))

    def pool(self, features: Tensor) -> Tensor:
        """There is no one vector.

        Raises:
            UsageError: always.
        """
        raise UsageError("SmolVLM has no vector for a picture: it talks about one; take a CLIP, a SigLIP or a DINOv2")

    def start(self, pixels: Tensor | None, rows: int = 1) -> Cache:
        """Look at the pictures; their tokens wait in the cache until the text has a place for them.

        Args:
            pixels: tiles (B, T, C, H, W), as `prompt` gives them; a row with fewer is filled up with zeros behind.
                (B, C, H, W) is one a row, and None is none.
            rows: B, where there are no pictures.
        """
        cache = Cache(len(self.text.blocks))
        if pixels is None:
            return cache
        if pixels.ndim == 4:
            pixels = pixels[:, None]
        real = pixels.flatten(2).any(-1)
        seen = self.features(pixels[real])
        pictures = seen.new_zeros(*real.shape, *seen.shape[1:])
        pictures[real] = seen
        count = real.sum(1) * seen.shape[1]
        cache.memory = {"pictures": pictures.flatten(1, 2), "next": torch.zeros_like(count), "count": count}
        return cache

    def read(self, ids: Tensor, cache: Cache, mask: Tensor | None = None) -> Tensor:
        """See `LanguageModel.read`. Each `config.picture` in the ids is read as the next token of the row's pictures.

        One that the network wrote itself, behind all pictures, is read as the word it is.

        Raises:
            UsageError: the first text has more places for tokens of pictures than there are.
        """
        if cache.length == 0:
            self._check_places(ids, cache)
        tokens = self._with_pictures(ids, cache)
        positions, visible = cache.admit(ids, mask)
        return self.text.run(tokens, positions, cache, visible)

    def prompt(self, turns: Sequence[Turn], pictures: Sequence[Picture], language: str = "en") -> Prompt:
        """A conversation as the publisher's processor and chat template spell it.

        "<|im_start|>User:", the pictures, the text and "<end_of_utterance>" for each turn, and at last "Assistant:". A
        user's turn without a text asks for a caption, in the given language; the network was trained in English, and
        answers in Chinese as well as it may.

        Raises:
            UsageError: there is no tokenizer; turns and pictures do not fit together; a text contains what the network
                reads as a sign; the conversation fills the context; another language.
        """
        if self.tokenizer is None:
            raise UsageError("this SmolVLM came without a tokenizer, so it cannot read: set its `tokenizer`")
        if language not in CAPTION:
            raise UsageError(f"SmolVLM is asked in en or zh, not in '{language}'")
        shown = sum(turn.pictures for turn in turns)
        if shown != len(pictures):
            raise UsageError(f"the conversation shows {shown} pictures, and {len(pictures)} are given")
        cut = [self.preprocess.tiles(picture) for picture in pictures]
        waiting = iter(cut)
        text = START
        for turn in turns:
            seen = "".join(self._drawn(next(waiting)) for _ in range(turn.pictures))
            said = _checked(turn, CAPTION[language])
            speaker = "User" if turn.by == "user" else "Assistant"
            text += f"{speaker}:{'' if seen else ' '}{seen}{said}{END}\n"
        ids = self.tokenizer.plain(f"{text}Assistant:")
        if len(ids) >= self.context:
            raise UsageError(
                f"a conversation of {len(ids)} tokens leaves no room for an answer: this SmolVLM reads {self.context}; "
                "show it fewer pictures, or set `split` of its `preprocess` to False"
            )
        pixels = torch.cat([tiles.pixels for tiles in cut])[None] if cut else None
        return Prompt(pixels, torch.tensor([ids]))

    def _drawn(self, tiles: Tiles) -> str:
        """A picture in a text: each tile by its row and column, a line a row, then the whole picture."""
        tokens = PICTURE * self.config.tokens
        rows = [
            "".join(f"{FRAME}<row_{row + 1}_col_{column + 1}>{tokens}" for column in range(tiles.columns)) + "\n"
            for row in range(tiles.rows)
        ]
        return "".join(rows) + ("\n" if rows else "") + f"{FRAME}{WHOLE}{tokens}{FRAME}"

    def _check_places(self, ids: Tensor, cache: Cache) -> None:
        places = (ids == self.config.picture).sum(1)
        count = cache.memory.get("count", torch.zeros_like(places))
        if (places > count).any():
            row = int((places - count).argmax())
            raise UsageError(
                f"the text has {int(places[row])} places for tokens of pictures, and its pictures have "
                f"{int(count[row])} tokens: {self.config.tokens} a tile"
            )

    def _with_pictures(self, ids: Tensor, cache: Cache) -> Tensor:
        """Ids (B, n) -> their embeddings (B, n, D), and the next tokens of the pictures in the places for them."""
        tokens = self.text.tokens(ids)
        if "pictures" not in cache.memory:
            return tokens
        pictures, first, count = (cache.memory[name] for name in ("pictures", "next", "count"))
        places = ids == self.config.picture
        number = first[:, None] + places.cumsum(1) - 1
        places = places & (number < count[:, None])
        if places.any():
            number = number.clamp(0, pictures.shape[1] - 1)
            tokens = torch.where(places[..., None], torch.take_along_dim(pictures, number[..., None], 1), tokens)
        first = first + places.sum(1)
        cache.memory = {} if bool((first == count).all()) else {**cache.memory, "next": first}
        return tokens


class TileEncoder(nn.Module):
    """SigLIP's picture tower without its pooling. A patch's position is where it lies in the picture, as a fraction.

    So a picture smaller than a tile has positions from all over the grid. Dehghani et al. 2023 (2307.06304), §2.1.
    """

    def __init__(self, config: SigLIPImageConfig) -> None:
        super().__init__()
        rows, columns = config.grid
        if rows != columns:
            raise ValueError(f"tiles are squares, and not of {rows}×{columns} patches")
        self.side = rows
        self.patchify = WholePatches(pair(config.patch_size), config.channels, config.width)
        self.positions = nn.Parameter(torch.randn(rows * columns, config.width) * config.width**-0.5)
        self.blocks = nn.Sequential(
            *(
                Block(
                    config.width,
                    config.heads,
                    MLP(config.width, config.mlp_width, act=config.activation),
                    norm_eps=config.norm_eps,
                )
                for _ in range(config.depth)
            )
        )
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, D), one token a patch."""
        rows, columns = (self._places(count) for count in self.patchify.grid(images))
        positions = self.positions[(rows[:, None] * self.side + columns).flatten()]
        return self.norm(self.blocks(self.patchify(images) + positions))

    def _places(self, count: int) -> Tensor:
        """Of so many patches in a row, which of the `side` positions each one has: (count,) int64.

        In the reference's own arithmetic, in float32: at 27 patches its rounding puts some into their neighbours'
        places, and so the published weights were trained.
        """
        device = self.positions.device
        borders = torch.arange(1 / self.side, 1.0, 1 / self.side, dtype=torch.float32, device=device)
        step = 1.0 / torch.tensor(count, dtype=torch.float32, device=device)
        where = torch.arange(count, dtype=torch.float32, device=device) * step
        return torch.bucketize(where.clamp(max=1.0 - 1e-6), borders, right=True)


class PixelShuffle(nn.Module):
    """Squares of tokens, side by side in their channels, become one token each of another width.

    Shi et al. 2016 (1609.05158), eq. 4, backwards; in a network like this one Chen et al. 2024 (2404.16821).

    Args:
        width: of the tokens.
        side: of a square, in tokens.
        out: width of what they become.
    """

    def __init__(self, width: int, side: int, out: int) -> None:
        super().__init__()
        self.side = side
        self.projection = nn.Linear(width * side**2, out, bias=False)
        nn.init.normal_(self.projection.weight, std=0.02)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens (B, rows × columns, D) of a grid (rows, columns) -> (B, rows × columns / side², out)."""
        rows, columns = grid
        if rows % self.side or columns % self.side:
            raise ValueError(f"{rows}×{columns} patches cannot be cut into squares of {self.side}×{self.side}")
        squares = tokens.unflatten(1, (rows // self.side, self.side, columns // self.side, self.side)).transpose(2, 3)
        return self.projection(squares.flatten(3).flatten(1, 2))


def _checked(turn: Turn, caption: str) -> str:
    """What is said in a turn."""
    sign = next((sign for sign in (START, PICTURE, FRAME, WHOLE, END) if sign in turn.text), None)
    if sign is not None:
        raise UsageError(f"a text cannot contain '{sign}': SmolVLM reads it as a sign")
    if turn.text or turn.by != "user":
        return turn.text
    if not turn.pictures:
        raise UsageError("there is nothing to describe: show a picture, or say something")
    return caption
