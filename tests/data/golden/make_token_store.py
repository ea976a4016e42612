"""Writes token_store.h5.gz from the grammar in docs/formats/token_store.md alone, with h5py and libxxhash.

Usage: make_token_store.py OUT.h5.gz
"""

import ctypes
import gzip
import sys
import tempfile

import h5py
import numpy as np

xxhash = ctypes.CDLL("libxxhash.so.0")
xxhash.XXH3_64bits.restype = ctypes.c_uint64


class Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


xxhash.XXH3_128bits.restype = Hash128


def xxh3_64(data):
    return xxhash.XXH3_64bits(data, ctypes.c_size_t(len(data)))


def xxh3_128(data):
    value = xxhash.XXH3_128bits(data, ctypes.c_size_t(len(data)))
    return f"{value.high:016x}{value.low:016x}"


lengths = [3, 500, 1, 96]
tokens = (np.arange(600, dtype=np.uint64) * 2654435761 % 70000).astype("<u4")
offsets = np.concatenate([[0], np.cumsum(lengths)]).astype("<i8")
tokenizer = "00112233445566778899aabbccddeeff"
checksums = np.array([xxh3_64(tokens.tobytes())], dtype="<u8")
header = (
    "deepflow.tokens 1\nvocabulary_size 70000\n"
    f"tokenizer_digest {tokenizer}\nsource_bytes 2468\nnum_tokens 600\nnum_documents 4\n"
)
digest = xxh3_128(offsets.tobytes() + checksums.tobytes() + header.encode())

with tempfile.NamedTemporaryFile(suffix=".h5") as raw:
    with h5py.File(raw.name, "w") as file:
        file.create_dataset("tokens", data=tokens, chunks=(1 << 20,), maxshape=(None,))
        file.create_dataset("document_offsets", data=offsets)
        file.create_dataset("token_checksums", data=checksums)
        for name, text in {"magic": "deepflow.tokens", "tokenizer_digest": tokenizer, "digest": digest}.items():
            file.attrs.create(name, np.bytes_(text))
        for name, value in {"version": 1, "vocabulary_size": 70000, "source_bytes": 2468}.items():
            file.attrs.create(name, value, dtype="<i8")
    data = open(raw.name, "rb").read()
with open(sys.argv[1], "wb") as out, gzip.GzipFile("", "wb", 9, out, mtime=0) as packed:
    packed.write(data)
print(digest)
