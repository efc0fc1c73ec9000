"""`vitrail.chat`: what is remembered, and what is forgotten."""

import pytest

import vitrail
from tests.parrot import Parrot, parrot, plain
from tests.pictures import EXAMPLES
from tests.talkers import tiny_talker
from vitrail.models.language_model import Turn


def test_it_remembers_what_was_said_and_shown():
    chat = vitrail.chat(plain("red"), model=parrot())
    first, second = chat.say("what?"), chat.say("and now?")
    assert (first.text, second.text) == ("red 1", "red 2")
    assert (first.question, first.input, first.language) == ("what?", "<image>", "en")
    assert chat.turns == (
        Turn("what?", 1),
        Turn("red 1", by="model"),
        Turn("and now?"),
        Turn("red 2", by="model"),
    )
    chat.show([plain("blue"), plain("lime")])
    assert chat.say("and now?").text == "green 3"
    assert chat.turns[4] == Turn("and now?", 2)
    assert chat.pictures == ("<image>",) * 3
    assert chat.say("一？").text == "绿 4"
    chat.reset()
    assert (chat.turns, chat.pictures) == ((), ())
    assert chat.say("what?").text == "nothing 1"


def test_the_pieces_are_the_answer():
    chat = vitrail.chat(plain("red"), model=parrot())
    assert list(chat.stream("shout")) == ["red", " 1", " !"]
    assert chat.turns[-1] == Turn("red 1 !", by="model")
    talker = tiny_talker()
    said = vitrail.chat(plain("red"), model=talker, max_new_tokens=12).say("Is there a frog?")
    assert said.text == vitrail.ask(plain("red"), "Is there a frog?", model=talker, max_new_tokens=12).text
    drawn = [vitrail.chat(plain("red"), model=talker, temperature=2.0, seed=1) for _ in "ab"]
    pieces = list(drawn[0].stream("Is there a frog?"))
    assert "".join(pieces) == drawn[1].say("Is there a frog?").text
    assert len(pieces) > 3
    beams = list(vitrail.chat(plain("red"), model=talker, max_new_tokens=12, num_beams=3).stream("Is there a frog?"))
    assert len(beams) == 1


def test_an_answer_that_is_left_is_remembered_as_far_as_it_was_read():
    chat = vitrail.chat(plain("red"), model=parrot())
    pieces = chat.stream("what?")
    assert next(pieces) == "red"
    pieces.close()
    assert chat.turns == (Turn("what?", 1), Turn("red", by="model"))
    assert chat.say("again?").text == "red 2"

    unread = vitrail.chat(plain("red"), model=parrot())
    unread.stream("what?").close()
    assert unread.turns == ()
    assert unread.say("what?").text == "red 1"  # the picture is still to be shown with the next turn
    assert unread.turns[0] == Turn("what?", 1)


def test_an_answer_without_a_word_is_not_remembered():
    model = parrot()
    model.stop = ("red",)
    chat = vitrail.chat(plain("red"), model=model)
    assert chat.say("what?").text == ""
    assert chat.turns == ()


def test_the_oldest_turns_are_forgotten_but_not_the_picture():
    chat = vitrail.chat(plain("red"), model=parrot(context=20))
    answers = [chat.say("a b c").text for _ in range(5)]  # 4 tokens a question and 3 an answer; the picture 1
    assert answers == ["red 1", "red 2", "red 2", "red 2", "red 2"]
    assert chat.forgotten == 6
    assert chat.turns[0] == Turn("a b c", 1)
    assert chat.pictures == ("<image>",)


def test_pictures_that_are_not_the_last_are_forgotten_with_their_turns():
    chat = vitrail.chat([plain("red"), plain("lime")], model=parrot(context=16))
    chat.say("a b c")
    chat.show(plain("blue"))
    assert chat.say("a b c d e").text == "blue 1"
    assert (chat.forgotten, len(chat.pictures)) == (2, 1)
    assert chat.turns[0] == Turn("a b c d e", 1)


def test_a_turn_that_alone_is_too_long_is_an_error_and_forgets_nothing():
    chat = vitrail.chat(plain("red"), model=parrot(context=20))
    chat.say("what?")
    before = chat.turns
    with pytest.raises(vitrail.UsageError, match="leave no room"):
        chat.say("what? " * 30)
    assert chat.turns == before
    assert chat.forgotten == 0
    assert chat.say("what?").text == "red 2"


def test_a_network_that_knows_no_turns_forgets_them():
    class Once(Parrot):
        def prompt(self, turns, pictures, language="en"):
            if len(turns) > 1:
                raise vitrail.UsageError("it answers one question")
            return super().prompt(turns, pictures, language)

    model = Once(parrot().config).eval()
    model.preprocess, model.tokenizer = parrot().preprocess, parrot().tokenizer
    chat = vitrail.chat(plain("red"), model=model)
    assert [chat.say("what?").text for _ in range(3)] == ["red 1"] * 3
    assert chat.forgotten == 4


def test_wrong_usage(tmp_path):
    chat = vitrail.chat(plain("red"), model=tiny_talker())
    with pytest.raises(vitrail.UsageError, match="reads one picture in a conversation, and not 2: /reset first"):
        chat.show(plain("blue"))
    chat.reset()
    chat.show(plain("blue"))
    with pytest.raises(vitrail.UsageError, match="the question is empty"):
        chat.say(" ")
    with pytest.raises(vitrail.UsageError, match=r"one picture in a conversation, and not 2$"):
        vitrail.chat([plain("red"), plain("blue")], model=tiny_talker())
    with pytest.raises(vitrail.UsageError, match="one picture, and not 0"):
        vitrail.chat(model=tiny_talker()).say("what?")
    with pytest.raises(vitrail.UsageError, match="no language 'fr'"):
        vitrail.chat(model=parrot(), language="fr")
    chat = vitrail.chat(model=parrot())
    with pytest.raises(vitrail.ImageError, match="no such file"):
        chat.show([EXAMPLES / "cat.jpg", tmp_path / "none.png"])
    assert chat.pictures == ()
