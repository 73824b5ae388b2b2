"""Keys: where they come from, whose they are, and what a minute of them is worth."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingot.errors import ConfigError
from ingot.serve.keys import STRANGERS, Allowance, Bucket, Holder, Keys, read_keys
from ingot.serve.protocol import ApiError

ANNE, BERT = "anne-0123456789abcdef", "bert-0123456789abcdef"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_each_key_is_its_holders(tmp_path: Path) -> None:
    file = written(tmp_path / "keys", f"# ours\nanne {ANNE}  # the first\n\n{BERT} requests=5\n")
    keys, told = read_keys(file, environment={})
    assert len(keys) == 2 and told == []
    assert keys.holder(ANNE.encode()).name == "anne"
    assert keys.holder(BERT.encode()).name == "line4"
    assert keys.holder(BERT.encode()).allowance == Allowance(requests=5)
    for wrong in (
        b"",
        b"anne",
        ANNE[:-1].encode(),
        ANNE.encode() + b" ",
        b"\xff" * 20,
        ANNE.upper().encode(),
    ):
        assert keys.holder(wrong) is None


def test_the_environment_holds_keys_or_names_their_file(tmp_path: Path) -> None:
    one, _ = read_keys(environment={"INGOT_API_KEY": ANNE})
    assert one.holder(ANNE.encode()).name == "key"
    two, _ = read_keys(environment={"INGOT_API_KEY": f"{ANNE} {BERT}"})
    assert [two.holder(key.encode()).name for key in (ANNE, BERT)] == ["key1", "key2"]
    file = written(tmp_path / "keys", f"anne {ANNE}\n")
    both, _ = read_keys(environment={"INGOT_API_KEY_FILE": str(file), "INGOT_API_KEY": BERT})
    assert [both.holder(key.encode()).name for key in (ANNE, BERT)] == ["anne", "key"]
    nobody, told = read_keys(environment={"INGOT_API_KEY": ""})
    assert len(nobody) == 0 and told == []


def test_what_is_unwise_is_told(tmp_path: Path) -> None:
    file = written(tmp_path / "keys", "anne short\n")
    file.chmod(0o644)
    _, told = read_keys(file, given=[ANNE], environment={})
    text = "\n".join(told)
    assert "chmod 600" in text and "anne" in text and "command line" in text
    assert "short" not in text.replace("shorter", "") and ANNE not in text


@pytest.mark.parametrize("text", ["", "# nothing\n", f"a b {ANNE}\n", "requests=5\n", f"{ANNE}\n{ANNE}\n"])
def test_files_that_cannot_be_used_are_refused_without_showing_keys(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_keys(written(tmp_path / "keys", text), environment={})
    assert ANNE not in str(refused.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_keys(tmp_path / "none", environment={})
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_keys(tmp_path / "bytes", environment={})
    with pytest.raises(ConfigError, match="requests"):
        read_keys(written(tmp_path / "zero", f"{ANNE} requests=0\n"), environment={})


@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.floats(0, 120), st.integers(1, 50)), max_size=40),
)
def test_nobody_gets_more_than_a_full_bucket_and_what_flowed_in(size: int, asks: list) -> None:
    clock = Clock()
    bucket = Bucket(size, clock)
    taken = 0
    for pause, amount in asks:
        clock.now += pause
        if bucket.wait(1) == 0:  # as a server does it: an answer may overdraw
            assert taken <= size + clock.now * size / 60 - 1 + 1e-6
            bucket.take(amount)
            taken += amount
        else:
            wait = bucket.wait(1)
            clock.now += wait
            assert bucket.wait(1) < 1e-6


def test_an_allowance_that_is_used_up_says_when_to_come_back() -> None:
    clock = Clock()
    holder = Holder("anne", Allowance(requests=6, tokens=600), clock)
    for _ in range(6):
        holder.admit()
    with pytest.raises(ApiError, match="6 requests") as refused:
        holder.admit()
    assert refused.value.status == 429 and refused.value.headers["retry-after"] == "10"
    clock.now += 10
    holder.admit()
    holder.use(900)  # 300 more than there is: half a minute to zero
    clock.now += 29
    with pytest.raises(ApiError, match="tokens"):
        holder.admit()
    clock.now += 2
    holder.admit()


def test_addresses_without_keys_have_buckets_of_their_own_and_are_forgotten() -> None:
    keys = Keys(allowance=Allowance(requests=1))
    keys.stranger("10.0.0.1").admit()
    with pytest.raises(ApiError):
        keys.stranger("10.0.0.1").admit()
    keys.stranger("10.0.0.2").admit()
    for number in range(STRANGERS):
        keys.stranger(f"host{number}")
    keys.stranger("10.0.0.1").admit()  # long unseen


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "INGOT_API_KEY", ANNE)
    assert len(read_keys()[0]) == 1
