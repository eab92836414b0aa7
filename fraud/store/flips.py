"""The rules of the serving pointer, shared by every store: content-addressed bundles, conditional flips."""

import hashlib

import msgspec

from fraud.errors import FencedError, StoreError
from fraud.store.base import Pointer


class Flipped(msgspec.Struct, frozen=True):
    """What a store keeps: the pointer and the bundle that was in production before it."""

    pointer: Pointer
    previous: str | None  # sha256

    @property
    def kept(self) -> set[str]:
        """The bundles that stay."""
        return {self.pointer.sha256} | ({self.previous} if self.previous is not None else set())


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Flipped)


def pack(flipped: Flipped) -> bytes:
    """Return the record's bytes."""
    return _ENCODER.encode(flipped)


def unpack(raw: bytes | None) -> Flipped | None:
    """Return the record, None for None; StoreError if the bytes aren't one."""
    if raw is None:
        return None
    try:
        return _DECODER.decode(raw)
    except msgspec.MsgspecError as exc:
        raise StoreError(f"the serving pointer can't be read ({exc}); promote the model again") from exc


def flip(current: Flipped | None, pointer: Pointer, *, expected_sequence: int) -> Flipped:
    """Return the record after the flip.

    Raises:
        FencedError: the pointer's sequence isn't the expected one: another flip came first.
        StoreError: the new sequence doesn't grow.
    """
    sequence = 0 if current is None else current.pointer.sequence
    if sequence != expected_sequence:
        raise FencedError(
            f"the serving pointer is at {sequence}, not at {expected_sequence}: another promotion came "
            "first; read the pointer again and decide anew"
        )
    if pointer.sequence <= sequence:
        raise StoreError(f"a pointer's sequence must grow: {pointer.sequence} follows {sequence}")
    if current is None or current.pointer.sha256 == pointer.sha256:
        return Flipped(pointer, None if current is None else current.previous)
    return Flipped(pointer, current.pointer.sha256)


def check_bundle(bundle: bytes | None, sha256: str) -> bytes:
    """Return the bundle; StoreError if it isn't there or its hash differs."""
    if bundle is None:
        raise StoreError(f"bundle {sha256} isn't in the online store: read the pointer again, or promote again")
    if hashlib.sha256(bundle).hexdigest() != sha256:
        raise StoreError(f"bundle {sha256} is damaged in the online store: promote the model again")
    return bundle


def check_pointer(bundle: bytes, pointer: Pointer) -> None:
    """Raise StoreError unless the pointer names exactly these bytes."""
    digest = hashlib.sha256(bundle).hexdigest()
    if digest != pointer.sha256:
        raise StoreError(f"the pointer names bundle {pointer.sha256}, the bytes are {digest}")
