"""Privacy: e-mail and network addresses, phone, card and account numbers, and keys give way to placeholders.

Each kind is found by its shape, and where the shape alone says too little, by its check digits (Luhn's for
cards, ISO 7064's for IBANs), its range (public addresses) or the words before it. A person's name or postal
address has no shape: neither is found.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal

from ingot.config import Config
from ingot.data.keys import find_keys

Kind = Literal["key", "email", "iban", "card", "ip", "phone"]
KINDS: tuple[Kind, ...] = ("key", "email", "iban", "card", "ip", "phone")
"""In the order in which they are looked for: what is found is not looked at again."""

Spans = list[tuple[int, int]]

# Each pattern starts with a set of signs, which the search for it skips to, and looks back only then.
_LOCAL = re.compile(r"[A-Za-z0-9][\w.!#$%&'*+/=?^`{|}~-]{0,63}$")
_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![\w@])(?!-\w)")
_IBAN = re.compile(
    r"[A-Z](?<![A-Za-z0-9][A-Z])[A-Z][0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?![A-Za-z0-9])"
)
_IPV6 = re.compile(
    r"[23](?<![\w:.][23])[0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,4}(?![\w:])(?!\.\w)"
)
_NUMBERS = re.compile(r"[0-9][0-9 ()./+-]{5,}")  # what holds a card, a phone number or an IPv4 address
_CARD = re.compile(r"(?<![\w.+-])[2-6](?:[ -]?[0-9]){12,18}(?![\w-])(?!\.[0-9])")
_IPV4 = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w-])(?!\.\w)")
_PHONE = re.compile(
    r"(?<![\w.+/=#$-])(?:"
    r"\+[1-9][0-9]{0,2}[ .-]?(?:\(0?[0-9]{1,4}\)[ .-]?)?[0-9]{1,5}(?:[ ./-]?[0-9]{2,5}){1,5}"  # +49 30 12345
    r"|(?:1[ .-])?\([2-9][0-9]{2}\) ?[2-9][0-9]{2}[ .-]?[0-9]{4}"  # (212) 555-0123
    r"|(?:1[ .-])?[2-9][0-9]{2}([.-])[2-9][0-9]{2}\1[0-9]{4}"  # 212-555-0123
    r"|\(?0[1-9][0-9]{1,4}\)?[ /-][0-9]{3,4}[ -][0-9]{3,5}"  # 020 7946 0958
    r"|0[1-9](?:([ .-])[0-9]{2})(?:\2[0-9]{2}){3}"  # 01 23 45 67 89
    r")(?![\w-])(?!\.[0-9])"
)
_ANY_PHONE = re.compile(r"[+(]{0,2}[0-9][0-9 ()./-]{4,18}[0-9](?![\w-])")
_PHONE_BEFORE = re.compile(
    r"\b(?:tel|phone|telephone|mobile|cell|fax|telefon|handy|t\u00e9l|call|whatsapp)\b[ .:]{1,4}$",
    re.IGNORECASE,
)
_VERSION_BEFORE = re.compile(
    r"(?:\bv|\bver\.?|\bversions?|\breleases?|\brevision|\bbuild|\bfirmware|\bupdate|\bsection|\bchapter|§|[\w)]-|/)"
    r"\s*[:=(\"']?\s*$",
    re.IGNORECASE,
)
_ADDRESS_BEFORE = re.compile(
    r"(?:\b(?:ip|ipv4|addr|address|addresses|host|server|dns|resolver|nameserver|ping|gateway|client|inet)\b|@)"
    r"[^.\n]{0,12}$",
    re.IGNORECASE,
)
_ADDRESS_AFTER = re.compile(r"/[0-9]{1,2}\b|:[0-9]{2,5}\b")  # a network's size, a port
_NUMBER_BEFORE = re.compile(r"\b(?:isbn|issn|ean|doi|gtin|upc|sku)[-:\s#0-9]*$", re.IGNORECASE)
_CONTEXT, _LONGEST, _MORE, _SHORTEST_CARD = 24, 65, 4, 13
_REMEMBERED = 1 << 20  # characters of a text of which the numbers are kept at hand


class Privacy(Config):
    """What to scrub.

    Args:
        kinds: in prose.
        code: in code, where numbers of many shapes mean something else.
        placeholder: what stands in for a finding; "{kind}" is its kind in capitals.
    """

    kinds: tuple[Kind, ...] = KINDS
    code: tuple[Kind, ...] = ("key",)
    placeholder: str = "[{kind}]"

    def scrub(self, text: str, code: bool = False) -> tuple[str, Counter[str]]:
        """Replaces what is found; a second time, nothing more is.

        Args:
            text: of a whole document.
            code: whether it is a programming language.

        Returns:
            The text with placeholders, and how many of each kind.

        Example:
            >>> Privacy().scrub("Write to ann@example.com or call +1 212 555 0123.")
            ('Write to [EMAIL] or call [PHONE].', Counter({'email': 1, 'phone': 1}))
        """
        counts: Counter[str] = Counter()
        for kind in KINDS:
            if kind not in (self.code if code else self.kinds):
                continue
            spans = find(text, kind)
            if spans:
                counts[kind] += len(spans)
                text = _replaced(text, spans, self.placeholder.replace("{kind}", kind.upper()))
        return text, counts


def find(text: str, kind: Kind) -> Spans:
    """Returns where one kind of personal data stands in a text: (start, end) in order, without overlaps."""
    return _FINDERS[kind](text)


def _replaced(text: str, spans: Spans, placeholder: str) -> str:
    parts, done = [], 0
    for start, end in spans:
        parts += [text[done:start], placeholder]
        done = end
    return "".join([*parts, text[done:]])


def _emails(text: str) -> Spans:
    found: Spans = []
    at = text.find("@")
    while at >= 0:
        done = found[-1][1] if found else 0
        local = _LOCAL.search(text[max(done, at - _LONGEST) : at])
        domain = _DOMAIN.match(text, at + 1)
        if local and domain:
            found.append((at - len(local.group()), domain.end()))
        at = text.find("@", at + 1)
    return found


def _in_numbers(pattern: re.Pattern[str], text: str, least: int = 0) -> Iterator[re.Match[str]]:
    """Matches of a pattern at runs of digits of a least length: far fewer places than a text has."""
    done = 0
    runs = _runs(text) if len(text) <= _REMEMBERED else map(re.Match.span, _NUMBERS.finditer(text))
    for start, end in runs:
        if end - start < least:
            continue
        for match in pattern.finditer(text, max(done, start - 2), end + _MORE):
            yield match
            done = match.end()


@functools.lru_cache(maxsize=1)
def _runs(text: str) -> Spans:
    """Where runs of digits are; each kind of number asks for those of the same text."""
    return [match.span() for match in _NUMBERS.finditer(text)]


def _addresses(text: str) -> Spans:
    matches = [match for match in _in_numbers(_IPV4, text, len("1.1.1.1")) if not _is_version(match)]
    if "::" in text or text.count(":") > 6:
        matches += _IPV6.finditer(text)
    return sorted(match.span() for match in matches if _is_public(match))


def _is_public(match: re.Match[str]) -> bool:
    try:
        address = ipaddress.ip_address(match.group())
    except ValueError:
        return False
    return address.is_global and not address.is_multicast


def _is_version(match: re.Match[str]) -> bool:
    """Tells a version: a word before says so, or its numbers are small and nothing speaks for an address."""
    before = match.string[max(0, match.start() - _CONTEXT) : match.start()]
    if before.endswith("//"):
        return False
    if _VERSION_BEFORE.search(before):
        return True
    small = all(len(part) < 3 for part in match.group().split("."))
    return small and not (_ADDRESS_BEFORE.search(before) or _ADDRESS_AFTER.match(match.string, match.end()))


def _cards(text: str) -> Spans:
    found = []
    for match in _in_numbers(_CARD, text, _SHORTEST_CARD):
        number = re.sub("[ -]", "", match.group())
        if _is_card(number) and not _follows(_NUMBER_BEFORE, match):
            found.append(match.span())
    return found


def _is_card(number: str) -> bool:
    """The lengths and first digits of the big networks, and Luhn's sum (ISO/IEC 7812-1)."""
    known = re.fullmatch(
        r"4[0-9]{12}(?:[0-9]{3}){0,2}|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}"
        r"|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|35[0-9]{14}|6(?:011|4[4-9][0-9]|5[0-9]{2})[0-9]{12}"
        r"|62[0-9]{14,17}",
        number,
    )
    if known is None or len(set(number)) < 2:
        return False
    digits = [int(digit) for digit in reversed(number)]
    return (sum(digits[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])) % 10 == 0


def _ibans(text: str) -> Spans:
    return [match.span() for match in _IBAN.finditer(text) if _is_iban(match.group().replace(" ", ""))]


def _is_iban(account: str) -> bool:
    """ISO 13616: the number with its head at the end, letters as 10 to 35, leaves 1 modulo 97."""
    turned = account[4:] + account[:4]
    return 15 <= len(account) <= 34 and int("".join(str(int(sign, 36)) for sign in turned)) % 97 == 1


def _phones(text: str) -> Spans:
    found = [
        match.span()
        for match in _in_numbers(_PHONE, text)
        if 8 <= _digits(match.group()) <= 15 and not _follows(_NUMBER_BEFORE, match)
    ]
    found += [
        match.span()
        for match in _in_numbers(_ANY_PHONE, text)
        if 6 <= _digits(match.group()) <= 15 and _follows(_PHONE_BEFORE, match)
    ]
    return _apart(sorted(found))


def _digits(text: str) -> int:
    return sum(map(str.isdigit, text))


def _follows(words: re.Pattern[str], match: re.Match[str]) -> bool:
    return words.search(match.string[max(0, match.start() - _CONTEXT) : match.start()]) is not None


def _apart(spans: Spans) -> Spans:
    """Sorted spans without those that begin inside an earlier one."""
    kept: Spans = []
    for span in spans:
        if not kept or span[0] >= kept[-1][1]:
            kept.append(span)
    return kept


_FINDERS: dict[Kind, Callable[[str], Spans]] = {
    "key": find_keys,
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "ip": _addresses,
    "phone": _phones,
}
