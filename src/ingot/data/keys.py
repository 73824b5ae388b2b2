"""Keys and tokens: secrets that services give out, recognised by the marks that their makers put on them."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """One kind of key.

    Args:
        name: of who gives it out.
        marks: texts of which one must be there at all; looking for them is quick.
        pattern: the key itself; its group "secret", where it has one, is the part to hide.
    """

    name: str
    marks: tuple[str, ...]
    pattern: re.Pattern[str]


def _shape(name: str, marks: str, pattern: str) -> Shape:
    return Shape(name, tuple(marks.split()), re.compile(pattern))


_B64 = "[A-Za-z0-9+/]"
_URL64 = "[A-Za-z0-9_-]"
_AFTER = r"(?![A-Za-z0-9_-])"

SHAPES = (
    _shape(
        "private key",
        "-----BEGIN",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:(?!-----)[\s\S]){0,20000}-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----",
    ),
    _shape("JSON web token", "eyJ", rf"\beyJ{_URL64}{{8,}}\.{_URL64}{{8,}}\.{_URL64}{{8,}}{_AFTER}"),
    _shape("AWS key id", "AKIA ASIA ABIA ACCA", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"),
    _shape(
        "AWS secret",
        "secret_access_key SECRET_ACCESS_KEY secretAccessKey SecretAccessKey aws_secret AWS_SECRET",
        r"(?i:(?:aws[_.-]?)?secret[_.-]?(?:access[_.-]?)?key|aws_secret)[\"']?\s{0,3}(?:=>|[:=,])\s{0,3}[\"']?"
        rf"(?P<secret>{_B64}{{40}})(?![A-Za-z0-9+/=])",
    ),
    _shape("GitHub", "ghp_ gho_ ghu_ ghs_ ghr_", r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b"),
    _shape("GitHub", "github_pat_", r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{40,}\b"),
    _shape("GitLab", "glpat-", rf"\bglpat-{_URL64}{{20,}}{_AFTER}"),
    _shape(
        "OpenAI",
        "sk-",
        rf"(?<![A-Za-z0-9_-])sk-(?:(?:proj|svcacct|admin|ant|or)-)?(?=[A-Za-z_-]*[0-9])(?=[^A-Z]*[A-Z])"
        rf"{_URL64}{{20,}}{_AFTER}",
    ),
    _shape(
        "Slack", "xox xapp-", rf"\b(?:xox[abeoprs]|xapp)-[A-Za-z0-9](?=[A-Za-z-]*[0-9]){_URL64}{{9,}}{_AFTER}"
    ),
    _shape(
        "Slack",
        "hooks.slack.com",
        rf"hooks\.slack\.com/services/(?P<secret>T{_URL64}+/B{_URL64}+/{_URL64}{{16,}})",
    ),
    _shape("Google", "AIza", rf"\bAIza{_URL64}{{35}}{_AFTER}"),
    _shape("Google", "ya29.", rf"\bya29\.{_URL64}{{20,}}{_AFTER}"),
    _shape("Stripe", "k_live_ k_test_", r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}\b"),
    _shape("Hugging Face", "hf_", r"\bhf_[A-Za-z]{34}\b"),
    _shape("npm", "npm_", r"\bnpm_[A-Za-z0-9]{36}\b"),
    _shape("PyPI", "pypi-AgE", rf"\bpypi-AgE{_URL64}{{50,}}{_AFTER}"),
    _shape("SendGrid", "SG.", rf"\bSG\.{_URL64}{{16,32}}\.{_URL64}{{16,64}}{_AFTER}"),
)

_WITHOUT_UNDERSCORE = tuple(shape for shape in SHAPES if not all("_" in mark for mark in shape.marks))


def find_keys(text: str) -> list[tuple[int, int]]:
    """Returns where keys stand in a text: (start, end) in order, without overlaps.

    Example:
        >>> find_keys('token = "ghp_' + "a1B2" * 9 + '"')
        [(9, 49)]
    """
    found = []
    for shape in SHAPES if "_" in text else _WITHOUT_UNDERSCORE:
        for mark in shape.marks:
            if mark in text:
                break
        else:
            continue
        for match in shape.pattern.finditer(text):
            if shape.name == "JSON web token" and not _is_header(match.group().partition(".")[0]):
                continue
            found.append(match.span("secret" if "secret" in shape.pattern.groupindex else 0))
    kept: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if not kept or start >= kept[-1][1]:
            kept.append((start, end))
    return kept


def _is_header(part: str) -> bool:
    """A JSON web token starts with an object of JSON (RFC 7519)."""
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).startswith(b"{")
    except (binascii.Error, ValueError):
        return False
