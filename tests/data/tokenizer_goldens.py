#!/usr/bin/env python3
"""Writes tokenizer_goldens.json: what Hugging Face tokenizers encodes and decodes under many settings of tokenizer.json.

    python tests/data/tokenizer_goldens.py > tests/data/tokenizer_goldens.json

Two small models are stored once; each case is a JSON merge patch on one of them, with texts, ids and decoded texts.
"""
import json

import tokenizers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TRAINING = """The quick brown fox jumps over the lazy dog; the dog sleeps. Don't they're we'll I've it's he'd I'm.
Thirty-three thieves thought that they thrilled the throne throughout Thursday. In 1999 there were 12345 of them, 3.14.
A tokenizer cuts text into tokens; the tokens are then the input of the model. état déjà vu, über, naïve café.
Hello world, hello there, hello again. print("hello")  # comment\n\n\tif x == 1:\n        return x\n"""

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = LLAMA3.replace("{1,3}", "")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
WORDS = r"\w+|[^\w\s]+|\s"

TEXTS = [
    "", " ", "   ", "Hello world", " Hello  world ", "the tokens don't DON'T they'Re  x", "1 22 333 4444 12345", "a\n\n b\r\n\tc \n",
    "déjà vu, cafe\u0301 naïve Ångström ﬁ ①", "你好，世界 こんにちは", "👩‍👧 ❤️ 🇩🇪", "مرحبا ١٢٣ नमस्ते १२३", "a\u00a0b\u3000c\u2028d\u0085e",
    "a\u0000b\ue000\U0010fffd", "return x == 1; # comment\n\n    if (x) {\n\t}", "▁under▁score ▁", "ſs 'ſ ß",
    "<s>Hello</s> <s> the", "x <mask> y<mask>z  <mask>\n <mask>", "the cat scatter cat cat. cat", "Cafe\u0301 café CAFÉ", "  <lr>  the  <lr>the",
    "<|end|><|end|>the<|en", "word" * 40, " the" * 60, "<0x41> <0xE4>", "hello\thello\fhello\vhello",
]


def byte_level_model():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=256 + 160, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    t.train_from_iterator([TRAINING], trainer)
    return json.loads(t.to_str())


def character_model():
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    t.train_from_iterator([TRAINING], trainers.BpeTrainer(vocab_size=460, special_tokens=special, show_progress=False))
    root = json.loads(t.to_str())
    root["pre_tokenizer"] = None
    root["added_tokens"] = root["added_tokens"][:3]
    root["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    return root


def added(id, content, **flags):
    base = {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {**base, **flags}


def split(regex, **more):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False, **more}


def byte_level(**more):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False, **more}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def template(before, after, specials):
    piece = lambda t: {"SpecialToken": {"id": t, "type_id": 0}}
    single = [*map(piece, before), {"Sequence": {"id": "A", "type_id": 0}}, *map(piece, after)]
    return {"type": "TemplateProcessing", "single": single, "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in specials.items()}}


def cases(byte_size, merges):
    b = byte_size
    return {
        "gpt2": ("byte", {}),
        "gpt2 with a space before the first word": ("byte", {"pre_tokenizer": byte_level(add_prefix_space=True, use_regex=True)}),
        "no words": ("byte", {"pre_tokenizer": byte_level()}),
        "llama3": ("byte", {"pre_tokenizer": sequence(split(LLAMA3), byte_level()), "model": {"ignore_merges": True},
                            "added_tokens": [added(b, "<s>"), added(b + 1, "</s>")],
                            "post_processor": {"type": "Sequence", "processors": [byte_level(), template(["<s>"], [], {"<s>": b})]}}),
        "ignore_merges takes whole words": ("byte", {"model": {"ignore_merges": True, "merges": merges[:40]}}),
        "qwen": ("byte", {"normalizer": {"type": "NFC"}, "pre_tokenizer": sequence(split(QWEN), byte_level()),
                          "added_tokens": [added(b, "<|end|>"), added(b + 1, "<mask>", special=False)]}),
        "removed and inverted is isolated": ("byte", {"pre_tokenizer": sequence(split(LLAMA3, behavior="Removed", invert=True), byte_level())}),
        "o200k": ("byte", {"pre_tokenizer": sequence(split(O200K), byte_level())}),
        "words": ("byte", {"pre_tokenizer": sequence(split(WORDS), byte_level())}),
        "words removed": ("byte", {"pre_tokenizer": sequence(split(r"\w+", behavior="Removed"), byte_level())}),
        "contiguous": ("byte", {"pre_tokenizer": sequence(split(r"[\s.]", behavior="Contiguous"), byte_level())}),
        "merged with next": ("byte", {"pre_tokenizer": sequence(split(" ", behavior="MergedWithNext"), byte_level())}),
        "merged with previous": ("byte", {"pre_tokenizer": sequence(
            {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}, byte_level())}),
        "digits one by one": ("byte", {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": True}, byte_level(use_regex=True))}),
        "digits together": ("byte", {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": False}, byte_level(use_regex=True))}),
        "added tokens": ("byte", {"added_tokens": [
            added(b, "<mask>", lstrip=True), added(b + 1, "<lr>", lstrip=True, rstrip=True, special=False),
            added(b + 2, "cat", single_word=True, special=False, normalized=True), added(b + 3, "<|end|>", rstrip=True),
            added(b + 4, "<|en", special=False), added(b + 5, "<|end|><|end|>", special=False)]}),
        "added tokens are normalised": ("byte", {"normalizer": {"type": "NFC"}, "added_tokens": [
            added(b, "Cafe\u0301", special=False, normalized=True), added(b + 1, "cafe\u0301", special=False)]}),
        "bos and eos": ("byte", {"added_tokens": [added(b, "<s>"), added(b + 1, "</s>")],
                                 "post_processor": template(["<s>"], ["</s>"], {"<s>": b, "</s>": b + 1})}),
        "llama2": ("character", {}),
        "llama2 without byte fallback": ("character", {"model": {"byte_fallback": False}}),
        "llama2, unknowns one by one": ("character", {"model": {"byte_fallback": False, "fuse_unk": False}}),
        "metaspace": ("character", {
            "normalizer": None, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
            "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Metaspace", "replacement": "▁",
                        "prepend_scheme": "first", "split": False}]}}),
        "metaspace that splits": ("character", {
            "normalizer": None, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
            "decoder": {"decoders": None, "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}}),
    }


def patched(value, patch):
    if not isinstance(patch, dict) or not isinstance(value, dict):
        return patch
    out = dict(value)
    for key, p in patch.items():
        if p is None:
            out.pop(key, None)
        else:
            out[key] = patched(out.get(key), p)
    return out


def main():
    bases = {"byte": byte_level_model(), "character": character_model()}
    byte_merges = bases["byte"]["model"]["merges"]
    out = {"tokenizers": tokenizers.__version__, "texts": TEXTS, "bases": bases, "cases": []}
    for name, (base, patch) in cases(len(bases["byte"]["model"]["vocab"]), byte_merges).items():
        if isinstance(patch.get("pre_tokenizer"), dict) and base == "byte":
            patch["pre_tokenizer"] = {"add_prefix_space": None, "trim_offsets": None, "use_regex": None, **patch["pre_tokenizer"]}
        root = patched(bases[base], patch)
        full = {"version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": None,
                "post_processor": None, "decoder": None, "added_tokens": [], **root}
        t = Tokenizer.from_str(json.dumps(full))
        plain = [t.encode(text, add_special_tokens=False).ids for text in TEXTS]
        t.encode_special_tokens = True
        unmatched = [t.encode(text, add_special_tokens=False).ids for text in TEXTS]
        t.encode_special_tokens = False
        out["cases"].append({
            "name": name, "base": base, "patch": patch, "ids": plain,
            "ids_special_as_text": unmatched if unmatched != plain else None,
            "with_special": t.encode("the dog", add_special_tokens=True).ids,
            "decoded": [t.decode(ids, skip_special_tokens=False) for ids in plain],
        })
    print(json.dumps(out, ensure_ascii=True, separators=(",", ":")))


if __name__ == "__main__":
    main()
