"""The other side of tests/it/python.rs: signs and verifies personas as somebody would who knows only the documentation."""

import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)


def canonical(document, ensure_ascii=False):
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=ensure_ascii)
    return text.encode()


def sign(asked):
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(asked["seed"]))
    document = asked["document"]
    value = key.sign(canonical(document, asked["ensure_ascii"])).hex()
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    key_id = hashlib.sha256(raw).hexdigest()[:16]
    document["signature"] = {"algorithm": "Ed25519", "value": value, "key_id": key_id}
    return {"document": json.dumps(document)}


def verify(asked):
    document = json.loads(asked["document"])
    signature = document.pop("signature")
    key = load_pem_public_key(asked["public_key"].encode())
    try:
        key.verify(bytes.fromhex(signature["value"]), canonical(document))
        return {"valid": signature["algorithm"] == "Ed25519"}
    except InvalidSignature:
        return {"valid": False}


def seal(asked):
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(asked["seed"]))
    encryption = BestAvailableEncryption(asked["passphrase"].encode())
    return {"pem": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()}


def unseal(asked):
    passphrase = asked.get("passphrase")
    key = load_pem_private_key(asked["pem"].encode(), passphrase and passphrase.encode())
    return {"seed": key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()).hex()}


asked = json.load(sys.stdin)
verbs = {"sign": sign, "verify": verify, "seal": seal, "open": unseal}
json.dump(verbs[asked["verb"]](asked), sys.stdout)
