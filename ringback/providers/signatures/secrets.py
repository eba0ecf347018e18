"""PURE. Secrets as people paste them, and signatures as headers carry them: one text for each value, and no other.

A secret that is read leniently can become the empty key, with which anybody can sign (PROVIDERS D9); a signature that
is read leniently has several spellings. Called by the schemes beside it, with secrets at start, never per request.
"""

from binascii import a2b_base64, b2a_base64, hexlify, unhexlify

ENCODINGS = ("hex", "base64")
ALGORITHMS = ("sha256", "sha512", "sha1")


def encode(raw: bytes, encoding: str) -> bytes:
    """Write bytes as lower-case hex, or as padded standard base64."""
    return hexlify(raw) if encoding == "hex" else b2a_base64(raw, newline=False)


def decode(text: bytes, encoding: str) -> bytes | None:
    """Give the bytes that `encode` writes exactly like this; None where there are none.

    Upper-case hex and base64 with loose bits before its padding are other spellings of the same bytes: refused.
    """
    try:
        raw = unhexlify(text) if encoding == "hex" else a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error is one
        return None
    return raw if encode(raw, encoding) == text else None


def text_key(secret: str, form: str) -> bytes:
    """Give the key of a secret that is used as it is: its bytes in UTF-8.

    Raises:
        ValueError: it is empty, begins or ends with a space, or holds what cannot be printed.
    """
    if not secret:
        raise ValueError(f"expected {form}; this is empty")
    if secret != secret.strip():
        raise ValueError(f"expected {form}; this begins or ends with a space")
    if not secret.isprintable():  # surrogates are among them: what the environment held was not UTF-8
        raise ValueError(f"expected {form}; this holds characters that cannot be printed")
    return secret.encode()


def base64_key(text: str, form: str, lengths: range, *, unlabelled: str = "") -> bytes:
    """Decode a secret in standard base64, with all of its padding or without any.

    Args:
        text: what follows the secret's prefix.
        form: what was expected, for the error.
        lengths: how many bytes it may have; never 0.
        unlabelled: what to add to an error, e.g. that there was no prefix.

    Raises:
        ValueError: it is something else; says what, without repeating it.
    """
    padded = text if text.endswith("=") else text + "=" * (-len(text) % 4)
    raw = decode(padded.encode("ascii", "replace"), "base64")
    if raw is None:
        hint = " (- and _ are of base64url)" if "-" in text or "_" in text else ""
        raise ValueError(f"expected {form}; this is not standard base64{hint}{unlabelled}")
    if len(raw) not in lengths:
        raise ValueError(f"expected {form}; this is base64 of {len(raw)} bytes{unlabelled}")
    return raw
