"""The messages on the topics: one table of fields each, written as msgspec structs.

Everything else is made from these tables: the decoder's constraints, the JSON Schemas in `schemas/` and
`docs/messages.md` (``python -m fraud.schema_files`` writes both; a test fails when they are stale). A field's
rule stands in its type, its meaning in the description. A field without a default must be present; `None`
in its type means that it may be null. Unknown extra fields are ignored, so a newer producer doesn't break
an older job.
"""

from typing import Annotated, Any, Final, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

Channel = Literal["pos", "ecom", "atm", "transfer"]
CHANNELS: Final[tuple[Channel, ...]] = get_args(Channel)  # a feature is the position: append only

LabelSource = Literal["chargeback", "analyst", "customer", "simulator"]
Decision = Literal["APPROVE", "REVIEW", "BLOCK"]

Reason = Literal[
    "null_value",
    "too_large",
    "not_utf8",
    "too_deep",
    "not_json",
    "schema",
    "key_mismatch",
    "future_timestamp",
    "too_old",
    "duplicate",
    "conflicting_duplicate",
    "unknown_transaction",
    "internal_error",
]
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)  # in the order in which they are checked

MAX_BYTES = 65_536  # of a value
MAX_DEPTH = 32  # brackets open at once
MAX_KEY_BYTES = 1_024  # of a rejection's key; a longer one is cut

# `$` also matches before a trailing newline in Python's dialect: the lookahead takes that back in every
# dialect that has one, and `maxLength` where the length is fixed.
_DATE = (
    r"(?:(?:20[0-9]{2}|2100)-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    r"|20(?:[02468][048]|[13579][26])-02-29)"
)
TIME_PATTERN: Final = rf"^{_DATE}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{{3}})?Z$(?!\n)"
ID_PATTERN: Final = r"^[^\u0000-\u001f\u007f-\u009f]*$(?!\n)"

# The codec applies ID_PATTERN itself: it knows a cheap way to see that no text of a message can break it.
ID_RULE: Final = Meta(min_length=1, max_length=64, extra_json_schema={"pattern": ID_PATTERN})
Id = Annotated[str, ID_RULE]
Time = Annotated[str, Meta(pattern=TIME_PATTERN, max_length=24, extra_json_schema={"format": "date-time"})]
Amount = Annotated[float, Meta(gt=0, le=10_000_000)]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$", max_length=3)]
Country = Annotated[str, Meta(pattern="^[A-Z]{2}$", max_length=2)]
MerchantCategory = Annotated[str, Meta(pattern="^[0-9]{4}$", max_length=4)]
Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]


class Transaction(msgspec.Struct, frozen=True, gc=False):
    """A card or account transaction, as it happens."""

    transaction_id: Annotated[Id, Meta(description="Unique per user.")]
    user_id: Annotated[Id, Meta(description="The account or card holder; also the message's key.")]
    merchant_id: Annotated[Id, Meta(description="Who is paid.")]
    timestamp: Annotated[Time, Meta(description="When it happened: RFC 3339, UTC, years 2000 to 2100.")]
    amount: Annotated[Amount, Meta(description="In the account's currency.")]
    currency: Annotated[Currency, Meta(description="ISO 4217.")]
    merchant_category: Annotated[MerchantCategory | None, Meta(description="MCC, ISO 18245.")] = None
    channel: Annotated[Channel | None, Meta(description="How it was made.")] = None
    country: Annotated[Country | None, Meta(description="Where: ISO 3166-1 alpha-2.")] = None
    device_id: Annotated[Id | None, Meta(description="The terminal, phone or browser.")] = None
    latitude: Annotated[Latitude | None, Meta(description="Degrees north.")] = None
    longitude: Annotated[Longitude | None, Meta(description="Degrees east.")] = None


class Label(msgspec.Struct, frozen=True, gc=False):
    """A verdict about a transaction, days later; of several the one labelled last counts."""

    transaction_id: Annotated[Id, Meta(description="The transaction's.")]
    user_id: Annotated[Id, Meta(description="The transaction's; also the message's key.")]
    merchant_id: Annotated[Id, Meta(description="The transaction's.")]
    timestamp: Annotated[Time, Meta(description="The transaction's.")]
    is_fraud: Annotated[bool, Meta(description="The verdict.")]
    labelled_at: Annotated[Time, Meta(description="When the verdict was given: RFC 3339, UTC.")]
    source: Annotated[LabelSource, Meta(description="Who gave it.")]


class Source(msgspec.Struct, frozen=True, gc=False):
    """Where the answered message stands."""

    topic: Annotated[str, Meta(description="The topic.")]
    partition: Annotated[Count, Meta(description="The partition.")]
    offset: Annotated[Count, Meta(description="The offset.")]


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """The decision about a transaction; published at least once, a repeat being the same bytes."""

    transaction_id: Annotated[Id, Meta(description="The transaction's.")]
    user_id: Annotated[Id, Meta(description="The transaction's; also the message's key.")]
    merchant_id: Annotated[Id, Meta(description="The transaction's.")]
    timestamp: Annotated[Time, Meta(description="The transaction's.")]
    amount: Annotated[Amount, Meta(description="The transaction's.")]
    rolling_avg_7d: Annotated[float | None, Meta(description="As in `features`.")]
    amount_to_avg_ratio: Annotated[float | None, Meta(description="As in `features`.")]
    fraud_probability: Annotated[Probability, Meta(description="Calibrated.")]
    prediction: Annotated[Literal[0, 1], Meta(description="1 where fraud_probability reaches threshold.")]
    decision: Annotated[Decision, Meta(description="What to do with the transaction.")]
    threshold: Annotated[Probability, Meta(description="The model's, chosen for the best F2.")]
    model_name: Annotated[str, Meta(description="The registered model.")]
    model_version: Annotated[str, Meta(description="Its version.")]
    feature_version: Annotated[str, Meta(description="The version of the features' definition.")]
    features: Annotated[dict[str, float | None], Meta(description="Exactly what the model saw; null: missing.")]
    profile_through: Annotated[
        Time | None, Meta(description="Start of the newest quarter-hour that the merchant profiles know.")
    ]
    source: Annotated[Source, Meta(description="The transaction's message.")]
    scored_at: Annotated[Time, Meta(description="When it was decided.")]


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """A message that was refused, why, and the message itself."""

    reason: Annotated[Reason, Meta(description="The first check that failed; `docs/messages.md` lists them in order.")]
    field: Annotated[str | None, Meta(description="The field at fault, where one is.")]
    detail: Annotated[str, Meta(description="For people; not to be parsed.")]
    source: Annotated[Source, Meta(description="The refused message.")]
    original: Annotated[str | None, Meta(description="Its first 65,536 bytes in base64; null: no value.")]
    length: Annotated[Count | None, Meta(description="Bytes of the whole value.")]
    sha256: Annotated[Sha256 | None, Meta(description="Of the whole value.")]
    key_length: Annotated[Count | None, Meta(description="Bytes of its key; more than 1,024 are cut here.")]
    rejected_at: Annotated[Time, Meta(description="When it was refused.")]


Message = Transaction | Label | Prediction | Rejection
MESSAGES: Final[dict[str, type[Message]]] = {
    "transaction": Transaction,
    "label": Label,
    "prediction": Prediction,
    "rejection": Rejection,
}


def id_fields(message: type[Message]) -> tuple[str, ...]:
    """Return the names of the fields whose rule is an identifier's.

    >>> id_fields(Transaction)
    ('transaction_id', 'user_id', 'merchant_id', 'device_id')
    """

    def is_id(hint: Any) -> bool:
        return ID_RULE in getattr(hint, "__metadata__", ()) or any(map(is_id, get_args(hint)))

    return tuple(name for name, hint in get_type_hints(message, include_extras=True).items() if is_id(hint))


def json_schema(name: str) -> dict[str, Any]:
    """Return a message's JSON Schema (draft 2020-12); `name` is a key of MESSAGES.

    >>> json_schema("transaction")["properties"]["amount"]["maximum"]
    10000000
    """
    message = MESSAGES[name]
    _, definitions = msgspec.json.schema_components([message], ref_template="#/$defs/{name}")
    root = definitions.pop(message.__name__)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:fraud-detect:schema:{name}",
        **root,
    }
    return {**schema, "$defs": definitions} if definitions else schema
