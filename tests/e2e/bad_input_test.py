"""Bad input: one clear line on stderr, exit code 2, no hang, no rank left running."""
import json
import shutil
import struct
import unittest

from deepflow_jobs import RECIPE, EndToEnd, Job


class BadRecipe(EndToEnd):
    def recipe(self, text):
        (self.folder / "bad.yaml").write_text(text)
        return "bad.yaml"

    def test_misspelt_key_is_shown_with_its_line_and_the_nearest_key(self):
        text = RECIPE.replace("optim: {lr: 1e-2}", "optim:\n  lr: 1e-2\n  warm_up: 3")
        self.assert_refused("bad.yaml:10: optim.warm_up is not a key; did you mean optim.warmup?",
                            recipe=self.recipe(text))

    def test_value_out_of_range_is_shown_with_its_line(self):
        self.assert_refused("bad.yaml:8: optim.lr", "-1", recipe=self.recipe(RECIPE.replace("lr: 1e-2", "lr: -1")))

    def test_value_of_another_kind(self):
        self.assert_refused("bad.yaml:7: train.steps", "many",
                            recipe=self.recipe(RECIPE.replace("steps: 4", "steps: many")))

    def test_override_out_of_range(self):
        self.assert_refused("train.global_batch", "0", overrides=["train.global_batch=0"])

    def test_yaml_that_cannot_be_read(self):
        self.assert_refused("bad.yaml:9", recipe=self.recipe(RECIPE.replace("optim: {lr: 1e-2}", "optim: {lr: 1e-2")))

    def test_missing_recipe(self):
        self.assert_refused("nowhere.yaml", "No such file", recipe="nowhere.yaml")

    def test_unknown_family(self):
        self.assert_refused("model.family", "lama", "llama", overrides=["model.family=lama"])

    def test_heads_that_do_not_divide(self):
        self.assert_refused("model.heads 3", overrides=["model.heads=3"])

    def test_sequence_longer_than_positions(self):
        self.assert_refused("data.sequence: 64 tokens are longer than the 32 positions of the model",
                            overrides=["model.max_positions=32"])

    def test_unknown_schedule(self):
        self.assert_refused("optim.schedule", "cosin", "warmup_cosine", overrides=["optim.schedule=cosin"])


class BadLayout(EndToEnd):
    def test_batch_that_does_not_divide_by_the_ranks(self):
        self.assert_refused("train.global_batch: 7", "2 data parallel ranks", overrides=["train.global_batch=7"],
                            ranks=[2])
        self.assert_refused("train.global_batch: 8", "3 data parallel ranks", ranks=[3])

    def test_micro_batch_that_does_not_divide(self):
        self.assert_refused("train.micro_batch: 3 does not divide the 4 sequences of a rank",
                            overrides=["train.micro_batch=3"], ranks=[2])

    def test_not_enough_ranks(self):
        self.assert_refused("dp 4 needs 4 ranks", overrides=["parallel.dp=4"])

    def test_ranks_left_over(self):
        self.assert_refused("this layout needs 1 rank, 2 were started", overrides=["parallel.dp=1"], ranks=[2])


class BadData(EndToEnd):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.store = (cls.folder / "text.h5").read_bytes()

    def test_missing_store(self):
        self.assert_refused("missing.h5: no such file", "deepflow data tokenize", overrides=["data.train=missing.h5"])

    def test_truncated_store(self):
        for kept in (0, 100, len(self.store) // 2, len(self.store) - 1):
            (self.folder / "short.h5").write_bytes(self.store[:kept])
            self.assert_refused("short.h5", overrides=["data.train=short.h5"], ranks=[1])
        self.assert_refused("short.h5", overrides=["data.train=short.h5"], ranks=[2])

    def test_damaged_store(self):
        damaged = bytearray(self.store)
        damaged[self.store.index("salt".encode("utf-16-le"))] ^= 1  # a token of two bytes
        (self.folder / "damaged.h5").write_bytes(damaged)
        self.assert_refused("damaged.h5", overrides=["data.heldout=damaged.h5"])

    def test_file_that_is_no_store(self):
        self.assert_refused("text.txt", overrides=["data.train=text.txt"])

    def test_store_shorter_than_a_sample(self):
        (self.folder / "tiny.txt").write_text("Ahoy.")
        self.assertEqual(self.deepflow("data", "tokenize", "--tokenizer", "byte", "--out", "tiny.h5", "tiny.txt").code, 0)
        self.assert_refused("tiny.h5: 6 tokens", "64", overrides=["data.train=tiny.h5"])


class BadTokenizer(EndToEnd):
    def test_tokenizer_of_another_store(self):
        job = self.deepflow("data", "train-tokenizer", "--vocabulary", 300, "--out", "bpe.json", "text.txt")
        self.assertEqual(job.code, 0, job.err)
        self.assert_refused("text.h5 was tokenised with tokenizer", "deepflow data tokenize",
                            overrides=["data.tokenizer=bpe.json"])

    def test_hostile_tokenizer_json(self):
        hostile = {
            "empty": "",
            "text": "no JSON at all",
            "cut": '{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0',
            "deep": "[" * 200_000,
            "list": "[]",
            "no model": "{}",
            "other model": '{"model": {"type": "Unigram", "vocab": [["a", 0.0]]}}',
            "ids beyond all": '{"model": {"type": "BPE", "vocab": {"a": 4000000000}, "merges": []}}',
            "negative id": '{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}',
            "unknown merge": '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["b c"]}}',
            "bytes that are no text": b'{"model": "\xff\xfe"}',
        }
        for name, content in hostile.items():
            with self.subTest(name):
                (self.folder / "hostile.json").write_bytes(content if isinstance(content, bytes) else content.encode())
                self.assert_refused("hostile.json", overrides=["data.tokenizer=hostile.json"], ranks=[1])
        self.assert_refused("hostile.json", overrides=["data.tokenizer=hostile.json"], ranks=[2])

    def test_missing_tokenizer(self):
        self.assert_refused("nowhere.json", overrides=["data.tokenizer=nowhere.json"])


class BadModelFolder(EndToEnd):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        job = Job(cls.folder, ["train", "recipe.yaml", "train.steps=0", "data.heldout=", "run.dir=trained"]).wait()
        assert job.code == 0, job.err
        cls.weights = (cls.folder / "trained/model/model.safetensors").read_bytes()
        cls.config = json.loads((cls.folder / "trained/model/config.json").read_text())

    def refuse_folder(self, *texts, weights=None, config=None, ranks=(1,)):
        folder = self.folder / "bad"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder / "trained/model", folder)
        if weights is not None:
            (folder / "model.safetensors").write_bytes(weights)
        if config is not None:
            (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
        (self.folder / "init.yaml").write_text(RECIPE.replace(RECIPE.splitlines()[0], "model: {init_from: bad}"))
        self.assert_refused("bad", *texts, recipe="init.yaml", ranks=ranks)

    def with_header(self, header):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + b"\0" * 64

    def test_good_folder_is_taken(self):
        (self.folder / "init.yaml").write_text(
            RECIPE.replace(RECIPE.splitlines()[0], "model: {init_from: trained/model}"))
        self.assertEqual(self.deepflow("train", "init.yaml", "train.steps=1").code, 0)

    def test_hostile_safetensors(self):
        entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
        size = struct.unpack("<Q", self.weights[:8])[0]
        hostile = {
            "empty": b"",
            "cut in the length": self.weights[:5],
            "cut in the header": self.weights[:8 + size // 2],
            "cut in the data": self.weights[:-1],
            "endless header": struct.pack("<Q", 2**63) + self.weights[8:],
            "header beyond the file": struct.pack("<Q", len(self.weights)) + self.weights[8:],
            "no JSON": self.with_header(b"}{" * 20),
            "deep JSON": self.with_header(b"[" * 100_000),
            "list": self.with_header(b"[1, 2]"),
            "negative offset": self.with_header({"a": {**entry, "data_offsets": [-16, 0]}}),
            "offsets beyond the file": self.with_header({"a": {**entry, "data_offsets": [0, 2**62]}}),
            "offsets backwards": self.with_header({"a": {**entry, "data_offsets": [16, 0]}}),
            "shape that overflows": self.with_header({"a": {**entry, "shape": [2**33, 2**33]}}),
            "shape of another size": self.with_header({"a": {**entry, "shape": [5]}}),
            "overlap": self.with_header({"a": entry, "b": {**entry, "data_offsets": [8, 24]}}),
            "unknown dtype": self.with_header({"a": {**entry, "dtype": "F7"}}),
            "other tensors": self.with_header({"a": entry})[:-48],
        }
        for name, weights in hostile.items():
            with self.subTest(name):
                self.refuse_folder("model.safetensors" if name != "other tensors" else "", weights=weights)
        self.refuse_folder(weights=hostile["cut in the data"], ranks=[2])

    def test_hostile_config(self):
        for name, config in {
                "empty": "",
                "list": "[]",
                "deep": "[" * 200_000,
                "another family": {**self.config, "model_type": "mamba"},
                "negative layers": {**self.config, "num_hidden_layers": -2},
                "text for a number": {**self.config, "hidden_size": "wide"},
        }.items():
            with self.subTest(name):
                self.refuse_folder("config.json", config=config)

    def test_shapes_of_another_configuration(self):
        self.refuse_folder("model.embed_tokens.weight", config={**self.config, "vocab_size": 300})

    def test_missing_folder(self):
        self.assert_refused("nowhere", overrides=["model.init_from=nowhere"])


class NotFinite(EndToEnd):
    def test_loss_that_is_not_finite_stops_the_run_with_step_rank_and_parameter(self):
        exploding = ["optim.name=sgd", "optim.lr=100", "optim.clip=0", "train.steps=50"]
        for ranks, where in ((1, "on rank 0"), (2, "on rank 0, 1")):
            job = self.deepflow("train", "recipe.yaml", *exploding, ranks=ranks)
            self.assert_one_line(job, "the loss is not finite " + where)
            self.assertRegex(job.err, r"step \d+: the loss .* first parameter whose gradient is not finite: \S+;")


if __name__ == "__main__":
    unittest.main(verbosity=2)
