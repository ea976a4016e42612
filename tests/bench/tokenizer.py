#!/usr/bin/env python3
# bench: token ids and speed beside Hugging Face tokenizers, one thread each, for the three known patterns
"""bench tokenizer: ids and speed beside Hugging Face tokenizers, one thread each, for the three known patterns.

    python tests/bench/tokenizer.py --build BUILD_DIR [--corpus FILE] [--megabytes 10] [--rounds 5]

The corpus is made valid UTF-8 by replacing stray bytes and cut into documents of about 4 kB at line ends; a set of hard
Unicode documents (tokenizer_hard_cases.py) is added. DeepFlow trains a tokenizer per pattern, both encode with it. The last
line is a JSON object with `mismatches` (documents whose ids differ) and `speed_ratio` (bytes per CPU second over the peer's,
the least of the three patterns).
"""
import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import argparse
import gzip
import json
import pathlib
import statistics
import struct
import subprocess
import tempfile
import time

import numpy
import tokenizers

from tokenizer_hard_cases import hard_documents

PATTERNS = (("gpt2", 0), ("llama3", 0), ("qwen", 1))  # name, NFC


def corpus_documents(path, megabytes):
    opener = gzip.open if str(path).endswith((".dz", ".gz")) else open
    with opener(path, "rb") as file:
        text = file.read(megabytes * 1_000_000)
    # Cut after the bytes are known to be whole characters, replace what is none.
    lines = text.decode("utf-8", errors="replace").splitlines(keepends=True)
    documents, current, size = [], [], 0
    for line in lines:
        current.append(line)
        size += len(line)
        if size >= 4000:
            documents.append("".join(current))
            current, size = [], 0
    if current:
        documents.append("".join(current))
    return documents


def write_documents(path, documents):
    with open(path, "wb") as file:
        for text in documents:
            data = text.encode("utf-8")
            file.write(struct.pack("<Q", len(data)) + data)


def read_ids(path):
    data = pathlib.Path(path).read_bytes()
    out, at = [], 0
    while at < len(data):
        (count,) = struct.unpack_from("<q", data, at)
        out.append(numpy.frombuffer(data, "<i4", count, at + 8))
        at += 8 + 4 * count
    return out


class Ours:
    def __init__(self, build, tokenizer, documents, ids):
        self.command = [f"{build}/bench_tokenizer", "encode", tokenizer, documents, ids, "1"]

    def seconds(self):
        return float(subprocess.run(self.command, check=True, capture_output=True, text=True).stdout)


class Peer:
    """Each round starts from a freshly loaded tokenizer, like ours; the way to encode that was fastest in a trial counts."""

    def __init__(self, tokenizer, documents):
        self.path, self.documents = tokenizer, documents

    def ways(self):
        return {
            "encode": lambda t: [t.encode(d, add_special_tokens=False) for d in self.documents],
            "encode_batch": lambda t: t.encode_batch(self.documents, add_special_tokens=False),
            "encode_batch_fast": lambda t: t.encode_batch_fast(self.documents, add_special_tokens=False),
        }

    def seconds(self, way):
        tokenizer = tokenizers.Tokenizer.from_file(self.path)
        start = time.process_time()
        encoded = self.ways()[way](tokenizer)
        taken = time.process_time() - start
        return taken, encoded


def compare(build, folder, pattern, nfc, corpus, hard, rounds):
    run = lambda *a: subprocess.run([f"{build}/bench_tokenizer", *map(str, a)], check=True, capture_output=True, text=True)
    run("train", pattern, 4096, nfc, 1, f"{folder}/corpus.docs", f"{folder}/{pattern}")
    path = f"{folder}/{pattern}/tokenizer.json"
    ours = Ours(build, path, f"{folder}/corpus.docs", f"{folder}/ours.ids")
    peer = Peer(path, corpus)
    first = {way: peer.seconds(way)[0] for way in peer.ways()}
    best = min(first, key=first.get)
    ours_seconds, peer_seconds = [], []
    for _ in range(rounds):
        ours_seconds.append(ours.seconds())
        taken, encoded = peer.seconds(best)
        peer_seconds.append(taken)
    same = lambda ids, theirs: sum(not numpy.array_equal(a, numpy.array(e.ids, "<i4")) for a, e in zip(ids, theirs, strict=True))
    corpus_mismatches = same(read_ids(f"{folder}/ours.ids"), encoded)
    run("encode", path, f"{folder}/hard.docs", f"{folder}/hard.ids", 1)
    theirs = tokenizers.Tokenizer.from_file(path).encode_batch(hard, add_special_tokens=False)
    hard_mismatches = same(read_ids(f"{folder}/hard.ids"), theirs)
    return {
        "pattern": pattern + (" + NFC" if nfc else ""),
        "mismatches": corpus_mismatches + hard_mismatches,
        "tokens": sum(len(e.ids) for e in encoded),
        "ours": statistics.median(ours_seconds),
        "peer": statistics.median(peer_seconds),
        "way": best,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--corpus", default="/usr/share/dictd/gcide.dict.dz")
    parser.add_argument("--megabytes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    corpus, hard = corpus_documents(args.corpus, args.megabytes), hard_documents()
    size = sum(len(d.encode("utf-8")) for d in corpus)
    print(f"{len(corpus)} corpus documents of {size / 1e6:.1f} MB, {len(hard)} hard documents; "
          f"one thread each, CPU time, medians of {args.rounds} alternating rounds; peer: tokenizers {tokenizers.__version__}")
    print(f"{'pattern':12} {'mismatches':>10} {'tokens':>9} {'ours MB/s':>10} {'peer MB/s':>10} {'ratio':>7}  peer's best way")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_documents(f"{folder}/corpus.docs", corpus)
        write_documents(f"{folder}/hard.docs", hard)
        for pattern, nfc in PATTERNS:
            row = compare(args.build, folder, pattern, nfc, corpus, hard, args.rounds)
            rows.append(row)
            print(f"{row['pattern']:12} {row['mismatches']:10} {row['tokens']:9} {size / row['ours'] / 1e6:10.1f} "
                  f"{size / row['peer'] / 1e6:10.2f} {row['peer'] / row['ours']:7.1f}  {row['way']}", flush=True)
    print(json.dumps({"mismatches": sum(r["mismatches"] for r in rows),
                      "speed_ratio": round(min(r["peer"] / r["ours"] for r in rows), 2)}))


if __name__ == "__main__":
    main()
