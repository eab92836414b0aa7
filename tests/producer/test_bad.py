"""Every bad message is answered with the reason that it expects, by the code that the score job runs."""

from collections.abc import Iterator

import numpy as np
import pytest

from fraud import codec
from fraud.decision import Model, Slice, Terms
from fraud.errors import ConfigError
from fraud.model import Scorer
from fraud.schema import REASONS, Rejection, Transaction
from fraud.scoring import score_slice
from fraud.store.base import Kind as Answer
from fraud.store.base import PartitionKey, Pointer, Store
from fraud.store.memory import open_memory
from producer.bad import KINDS, Bad, Kind, Moment, make, mix
from tests.models import small_bundle

NOW = codec.parse_time("2026-03-01T12:00:00Z")
KEY = PartitionKey("topic-a", 0)
WEEK_MS = 7 * 86_400_000


def good(n: int, **changes: object) -> Transaction:
    values: dict[str, object] = {
        "transaction_id": f"tZ{n}",
        "user_id": f"u{n % 7}",
        "merchant_id": "m1",
        "timestamp": codec.format_time(NOW + n),
        "amount": 10.0 + n,
        "currency": "EUR",
    }
    return Transaction(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def store() -> Iterator[Store]:
    opened = open_memory()
    yield opened
    opened.close()


def answers(store: Store, messages: list[Transaction | Bad]) -> list[Rejection | None]:
    """Score the messages as one slice; None where there is a prediction."""
    import msgspec

    lease = store.histories.acquire("score", "me", host="here", pid=1, now=NOW, ttl=10_000)
    store.histories.start({KEY: 0}, lease)
    part = Slice(
        KEY,
        "transactions",
        np.arange(len(messages)),
        [m.key if isinstance(m, Bad) else m.user_id.encode() for m in messages],
        [m.value if isinstance(m, Bad) else codec.encode(m) for m in messages],
        np.full(len(messages), NOW),
    )
    model = Model(Scorer(small_bundle(0)), Pointer(1, "0" * 64, "fraud-detector", "1", NOW))
    found = score_slice(part, store, model, Terms(lease.epoch, WEEK_MS), now_ms=NOW)
    return [
        msgspec.json.decode(value, type=Rejection) if kind == Answer.REJECTION else None
        for kind, value in zip(found.kinds, found.values, strict=True)
    ]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_mistake_is_answered_with_its_reason(store: Store, kind: Kind) -> None:
    first, second = good(1), good(2)
    bad = make(kind, first, Moment(NOW, WEEK_MS))
    before, answer, after = answers(store, [first, bad, second])
    assert answer is not None
    assert (answer.reason, answer.field) == (bad.expected, bad.field)
    assert before is None
    assert after is None


@pytest.mark.parametrize("amount", [0.01, 999_999.99, 1_000_000.0, 10_000_000.0])
def test_a_repeat_with_another_amount_is_a_valid_message(store: Store, amount: float) -> None:
    first = good(1, amount=amount)
    kind = next(kind for kind in KINDS if kind.name == "repeat_other_amount")
    answer = answers(store, [first, make(kind, first, Moment(NOW, WEEK_MS))])[1]
    assert answer is not None
    assert answer.reason == "conflicting_duplicate"


def test_every_reason_of_a_sender_has_a_mistake() -> None:
    of_the_job = {"unknown_transaction", "internal_error"}
    assert {kind.expected for kind in KINDS} == set(REASONS) - of_the_job


def test_the_mix_holds_the_share_and_is_answered_as_expected(store: Store) -> None:
    messages = list(mix(map(good, range(400)), 0.2, seed=3, clock=lambda: NOW, max_age_days=7))
    bad = [m for m in messages if isinstance(m, Bad)]
    assert [m for m in messages if not isinstance(m, Bad)] == [good(n) for n in range(400)]
    assert 0.15 < len(bad) / len(messages) < 0.25
    found = [None if answer is None else answer.reason for answer in answers(store, messages)]
    assert found == [m.expected if isinstance(m, Bad) else None for m in messages]


def test_the_same_seed_gives_the_same_mix() -> None:
    def drawn(seed: int) -> list[Transaction | Bad]:
        return list(mix(map(good, range(300)), 0.1, seed=seed, clock=lambda: NOW, max_age_days=7))

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_five_megabytes_come_rarely() -> None:
    messages = mix(map(good, range(4_000)), 0.5, seed=1, clock=lambda: NOW, max_age_days=7)
    kinds = [m.kind for m in messages if isinstance(m, Bad)]
    assert 0 < kinds.count("five_megabytes") < 0.01 * len(kinds)
    assert set(kinds) == {kind.name for kind in KINDS}


def test_nothing_is_too_old_where_there_is_no_age_limit() -> None:
    messages = mix(map(good, range(2_000)), 0.5, seed=1, clock=lambda: NOW, max_age_days=None)
    assert "too_old" not in {m.kind for m in messages if isinstance(m, Bad)}


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"in \[0, 1\)"):
        mix([], share, seed=1, clock=lambda: NOW, max_age_days=7)
