"""The words of pages and findings for what an audit is about: people by their faces, or classes of any objects.

All texts are written for people. For objects one table turns them, wherever gmi speaks: in what a template says itself,
in labels, and in the sentences of a finding. What comes from the user, such as a name, is never touched by a template.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

OBJECTS = {
    "contains images of people": "contains reconstructions",
    "are no photographs": "are no copies",
    "personal data": "confidential",
    ", and not that anyone is anonymous": "",
    ", as sex, age or skin,": "",
    ", as sex, age or skin": "",
    " (sex, age, skin)": "",
    "a class's people": "a class",
    "what people look like": "what the classes look like",
    "nobody would recognise anyone": "nobody would recognise anything",
    "face recogniser": "recogniser",
    "face judge": "judge",
    "another person": "another class",
    "inference of a person's attribute": "inference of a person's attribute",  # an attack on people alone
    "are personal data, and may be biometric data, of the people they resemble": "are confidential",
    "scored as hers": "scored as its own",
    "somebody else": "another class",
    "everybody else": "every other class",
    "everyone else": "every other class",
    "nobody": "no class",
    "anyone": "any class",
    "persons": "classes",
    "a stranger": "another class",
    "a photograph": "an image",
    "a photo": "an image",
    "strangers": "other classes",
    "stranger": "other class",
    "people": "classes",
    "person": "class",
    "everybody": "every class",
    "everyone": "every class",
    "somebody": "a class",
    "photograph": "image",
    "photographs": "images",
    "photo": "image",
    "photos": "images",
    "her": "its",
    "hers": "its",
    "herself": "itself",
    "she": "it",
    "who": "which",
    "whom": "which",
}
"""What is said of objects in place of what is said of people. Of several that fit, the longest is taken."""

SENTENCES = frozenset({"because", "effect", "message", "limits", "masking", "advice", "failed", "promise"})
"""Keys of findings below which there are sentences of gmi's own."""

_WORDS = re.compile(
    "|".join(
        # neither part of a longer word nor the name of an anchor, a class or a key
        (r"(?<![\w#.\"=/-])" if words[0].isalpha() else "")
        + r"\s+".join(map(re.escape, words.split(" ")))
        + (r"('s)?(?![\w\"=/-])(?!'\w|\.\w)" if words[-1].isalpha() else "()")
        for words in sorted(OBJECTS, key=len, reverse=True)
    ),
    re.IGNORECASE,
)


def reworded(text: str, subject: str, kept: Iterable[str] = ()) -> str:
    """A text of gmi's own for this subject: "faces" leaves it as it is.

    kept: the user's own words, which stay wherever they stand in the text.
    """
    if subject == "faces":
        return text
    own = sorted({word for word in kept if word and word.lower() not in OBJECTS}, key=len, reverse=True)
    pieces = re.split("(" + "|".join(map(re.escape, own)) + ")", text) if own else [text]
    return "".join(piece if place % 2 else _WORDS.sub(_object, piece) for place, piece in enumerate(pieces))


def _object(match: re.Match[str]) -> str:
    owner = next(filter(None, match.groups()), "")
    found = re.sub(r"\s+", " ", match[0].removesuffix(owner))
    words = OBJECTS[found.lower()] + ("'" if owner and found.lower() == "people" else owner)
    return words.capitalize() if found[0].isupper() else words


def sentences(findings: Any, subject: str, kept: Iterable[str] = (), spoken: bool = False) -> Any:
    """The findings, as a tree of plain data, with gmi's sentences in the words for this subject; kept: as above."""
    if isinstance(findings, dict):
        return {key: sentences(value, subject, kept, spoken or key in SENTENCES) for key, value in findings.items()}
    if isinstance(findings, list | tuple):
        return [sentences(value, subject, kept, spoken) for value in findings]
    return reworded(findings, subject, kept) if spoken and isinstance(findings, str) else findings


class Rewording(Extension):
    """Turns the words of a template, and of the sentences in its expressions; the environment has the `subject`."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        subject: str = self.environment.subject  # type: ignore[attr-defined]
        for token in stream:
            # a string without a space is a key or the name of a part
            spoken = token.type == "data" or (token.type == "string" and " " in token.value)
            yield Token(token.lineno, token.type, reworded(token.value, subject)) if spoken else token
