"""How well a network answers questions about pictures, and describes them."""

import importlib.util
import re
import string
from collections import defaultdict
from collections.abc import Sequence

from torch import Tensor

from vitrail.data.source import CAPTION, Asked
from vitrail.errors import VitrailError


class TalkScores:
    """Exact match of answers, overall, by language and by kind of question, and CIDEr of descriptions.

    Args:
        tests: everything that is asked, and what is right.
    """

    def __init__(self, tests: Sequence[Asked]) -> None:
        self.tests = tests
        self.taken: list[tuple[int, str]] = []

    def update(self, outputs: Sequence[str], targets: Tensor) -> None:
        """Take in answers, and the numbers (B,) of what was asked."""
        self.taken += zip(targets.tolist(), outputs, strict=True)

    def compute(self) -> dict[str, float]:
        """The scores of what all processes took in.

        exact, exact_L by language, exact_K by kind of question, in [0, 1]; majority and majority_K: what the commonest
        answer of training would score; cider_L: CIDEr-D of descriptions, 0 to 10 (Vedantam et al. 2015, 1411.5726,
        eq. 4-6), against all that can be said of the scene.
        """
        from accelerate.utils import gather_object  # only training has several processes

        answers = dict(gather_object(self.taken))
        marks: dict[str, list[bool]] = defaultdict(list)
        described: dict[str, list[tuple[str, tuple[str, ...]]]] = defaultdict(list)
        for number, answer in sorted(answers.items()):
            asked = self.tests[number]
            if asked.kind == CAPTION:
                described[asked.talk.language].append((answer, asked.answers))
                continue
            right, common = matches(answer, asked.answers[0]), matches(asked.majority, asked.answers[0])
            kind = asked.kind.replace(" ", "_")
            for name in ("exact", f"exact_{asked.talk.language}", f"exact_{kind}"):
                marks[name].append(right)
            for name in ("majority", f"majority_{kind}"):
                marks[name].append(common)
        scores = {name: sum(every) / len(every) for name, every in marks.items()}
        return scores | {f"cider_{language}": cider(pairs) for language, pairs in described.items()}


def matches(answer: str, right: str) -> bool:
    """Whether two answers are the same but for capitals, spaces and a full stop."""
    return _plain(answer) == _plain(right)


def cider(pairs: Sequence[tuple[str, tuple[str, ...]]]) -> float:
    """CIDEr-D of descriptions, each with those that are right: pycocoevalcap's. Chinese is counted by the character.

    Raises:
        VitrailError: pycocoevalcap is not installed.
    """
    if importlib.util.find_spec("pycocoevalcap") is None:
        raise VitrailError("descriptions are scored with pycocoevalcap: pip install 'vitrail[train]'")
    from pycocoevalcap.cider.cider import Cider

    said = {number: [_words(answer)] for number, (answer, _) in enumerate(pairs)}
    right = {number: [_words(text) for text in texts] for number, (_, texts) in enumerate(pairs)}
    return float(Cider().compute_score(right, said)[0])


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".。")


def _words(text: str) -> str:
    """Lower-case words without punctuation, and Chinese characters, with spaces between."""
    text = text.casefold().translate(str.maketrans("", "", string.punctuation + "，。：、？！"))
    return " ".join(re.findall(r"[一-鿿]|[^\s一-鿿]+", text))
