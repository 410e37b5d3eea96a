#!/usr/bin/env python3
"""Holds a served ledger, and its canonical JSON, against Python programs of other people.

    foreign.py receipts URL VKEY      proofs and COSE receipts of some entries: proofs byte for byte those of `tlog-tiles
                                      gen-proof` (tlog-scales), receipts verified by scitt-cose, and refused for another entry
    foreign.py tiles URL VKEY         every tile and bundle, the checkpoint, random proofs, by aics-tlog (Python 3.12)
    foreign.py canonical LINES        pairs of lines, plain JSON and canonical bytes: the second is rfc8785's of the first

URL ends in /ledger. Exit code 0 if all agrees, 1 if not.
"""
import json, random, subprocess, sys, urllib.request


def get(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read(), answer.headers


def some(size):
    """Positions at the edges of tiles, and random ones."""
    edges = {0, 1, 254, 255, 256, 257, 65_535, 65_536, size // 2, size - 2, size - 1}
    edges |= {random.randrange(size) for _ in range(6 if size else 0)}
    return sorted(at for at in edges if 0 <= at < size)


def pem_of(vkey):
    import base64
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    key = base64.b64decode(vkey.split("+", 2)[2])
    assert key[0] == 1, "an Ed25519 key of C2SP signed-note"
    public = Ed25519PublicKey.from_public_bytes(key[1:])
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def receipts(url, vkey):
    from scitt_cose.receipt import verify_receipt
    entries = url.removesuffix("/ledger") + "/v1/ledger/entries"
    checkpoint = get(f"{url}/checkpoint")[0].decode()
    origin, size, root = checkpoint.split("\n")[:3]
    size, pem, longest = int(size), pem_of(vkey), {"tlog-proof": 0, "COSE": 0}
    signatures = len(checkpoint.split("\n\n")[1].encode())
    for at in some(size):
        proof, _ = get(f"{entries}/{at}/proof")
        made = subprocess.run([sys.executable, "-m", "tlog_scales.cli", "gen-proof", url, str(at)],
                              capture_output=True, check=True).stdout
        if proof != made:
            sys.exit(f"the proof of entry {at} of {size} is not the one that tlog-scales makes:\n{proof.decode()}\n{made.decode()}")
        leaf, _ = get(f"{entries}/{at}")
        receipt, headers = get(f"{entries}/{at}/receipt")
        if headers.get_content_type() != "application/cose":
            sys.exit(f"a receipt is of type {headers.get_content_type()}")
        result = verify_receipt(receipt, leaf_entry_hex=leaf.hex(), log_public_key_pem=pem)
        if not (result.ok and (result.tree_size, result.leaf_index) == (size, at) and result.issuer == origin):
            sys.exit(f"scitt-cose refuses the receipt of entry {at} of {size}: {result}")
        if verify_receipt(receipt, leaf_entry_hex=(leaf + b" ").hex(), log_public_key_pem=pem).ok:
            sys.exit(f"scitt-cose takes the receipt of entry {at} of {size} for another entry's")
        longest["tlog-proof"] = max(longest["tlog-proof"], len(proof))
        longest["COSE"] = max(longest["COSE"], len(receipt))
    for kind, length in longest.items():
        if length > 1200:
            sys.exit(f"a {kind} receipt of {size} entries has {length} bytes")
    print(f"size {size}: {len(some(size)) if size else 0} proofs are byte for byte tlog-scales', receipts verify in scitt-cose; "
          f"longest: {longest['tlog-proof']} bytes ({signatures} of them signatures), COSE {longest['COSE']}")


def tiles(url, vkey):
    import aics_tlog as theirs
    from aics_tlog.checkpoint import parse_checkpoint, verify_checkpoint
    from aics_tlog.note import parse_note, parse_vkey
    from aics_tlog.tree import verify_consistency
    from aics_tlog.verified import audit_tiles
    note = parse_note(get(f"{url}/checkpoint")[0].decode())
    verified = verify_checkpoint(note, parse_vkey(vkey))
    if not verified.ok:
        sys.exit(f"aics-tlog refuses the checkpoint: {verified}")
    head = parse_checkpoint(note.text)
    reader = theirs.HttpTileReader([url + "/"], timeout=60)
    report = audit_tiles(reader, head.size, head.root)
    checked = theirs.VerifiedTileReader(reader, head.size, head.root)
    for at in some(head.size):
        proof = theirs.inclusion_proof_from_tiles(checked, at, head.size)
        if not theirs.verify_leaf_inclusion(checked.entry(at), at, head.size, proof, head.root):
            sys.exit(f"aics-tlog does not find entry {at} included")
        before = theirs.tree_root_from_tiles(checked, at + 1, head.size)
        proof = theirs.consistency_proof_from_tiles(checked, at + 1, head.size)
        if not verify_consistency(at + 1, head.size, before, head.root, proof):
            sys.exit(f"aics-tlog does not find size {at + 1} consistent")
    print(f"size {head.size}: aics-tlog agrees with {report.tiles} tiles and {report.bundles} bundles")


def canonical(path):
    import rfc8785
    lines = open(path, "rb").read().split(b"\n")[:-1]
    for at, (plain, ours) in enumerate(zip(lines[::2], lines[1::2])):
        theirs = rfc8785.dumps(json.loads(plain))
        if theirs != ours:
            sys.exit(f"pair {at} differs:\nplain   {plain!r}\nours    {ours!r}\nrfc8785 {theirs!r}")
    print(f"{len(lines) // 4} random leaves and as many payloads have the bytes that rfc8785 gives them")
    return len(lines) // 4


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["receipts", url, vkey]:
            receipts(url, vkey)
        case ["tiles", url, vkey]:
            tiles(url, vkey)
        case ["canonical", path]:
            sys.exit(0 if canonical(path) else "there is nothing to compare")
        case _:
            sys.exit(__doc__)
