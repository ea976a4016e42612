"""A run over four ranks, split in every way, and on one: the same curve, the same model, the same text."""
import array
import json
import struct
import unittest

from deepflow_jobs import RECIPE, EndToEnd

RANKS = 4
LAYOUTS = {
    "tensor and pipeline": ["parallel.tp=2", "parallel.pp=2", "train.micro_batch=2"],
    "context and data, sharded": ["parallel.cp=2", "parallel.dp=2", "parallel.zero=3", "train.micro_batch=2"],
    "pipeline in a V": ["parallel.pp=4", "parallel.schedule=zb_v", "train.micro_batch=1"],
}


def tensors(path):
    """Name to (shape, f32 values) of a safetensors file."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    found = {}
    for name, entry in json.loads(content[8:8 + size]).items():
        if name != "__metadata__":
            assert entry["dtype"] == "F32", entry
            begin, end = entry["data_offsets"]
            found[name] = entry["shape"], array.array("f", content[8 + size + begin:8 + size + end])
    return found


class LayoutsRun(EndToEnd):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        (cls.folder / "recipe.yaml").write_text(
            RECIPE.replace("layers: 2", "layers: 8").replace("steps: 4", "steps: 20").replace("1e-2", "2e-3"))

    def metrics(self, folder):
        return [json.loads(line) for line in (self.folder / folder / "metrics.jsonl").read_text().splitlines()]

    def curve(self, folder, key="loss"):
        return [line[key] for line in self.metrics(folder) if key in line]

    def assert_close(self, ours, theirs, tolerance):
        self.assertEqual(len(ours), len(theirs))
        self.assertNotEqual(ours, [])
        for a, b in zip(ours, theirs):
            self.assertLessEqual(abs(a - b), tolerance * abs(b))

    def assert_same_model(self, folder):
        ours, theirs = (tensors(self.folder / name / "model/model.safetensors") for name in (folder, "alone"))
        self.assertEqual(list(ours), list(theirs))
        for name, (shape, values) in theirs.items():
            self.assertEqual(ours[name][0], shape, name)
            difference = max(abs(a - b) for a, b in zip(ours[name][1], values, strict=True))
            self.assertLessEqual(difference, 1e-5, name)
        for file in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
            self.assertEqual(*((self.folder / name / "model" / file).read_bytes() for name in (folder, "alone")), file)

    def evaluate(self, folder, ranks=1):
        job = self.deepflow("eval", folder, "text.h5", "--sequence", 64, "--windows", 4, "--precision", "f32",
                            ranks=ranks)
        self.assertEqual(job.code, 0, job.err)
        return json.loads(job.out)

    def generate(self, folder):
        job = self.deepflow("generate", folder, "--prompt", "the ocean", "--max-tokens", 20, "--temperature", 0,
                            "--precision", "f32")
        self.assertEqual(job.code, 0, job.err)
        return job.out

    def test_every_layout_trains_and_leaves_the_model_of_one_rank(self):
        self.train("run.dir=alone")
        curve, norms, heldout = (self.curve("alone", key) for key in ("loss", "gradient_norm", "heldout_loss"))
        self.assertLess(curve[-1], curve[0] - 1)
        figures, text = self.evaluate("alone"), self.generate("alone")
        for name, layout in LAYOUTS.items():
            with self.subTest(name):
                self.train(*layout, "run.dir=together", ranks=RANKS)
                self.assert_close(self.curve("together"), curve, 2e-5)
                self.assert_close(self.curve("together", "gradient_norm"), norms, 1e-4)
                self.assert_close(self.curve("together", "heldout_loss"), heldout, 2e-5)
                self.assert_same_model("together")
                for ranks in (1, 2):
                    self.assertAlmostEqual(self.evaluate("together", ranks)["loss"], figures["loss"], places=5)
                self.assertEqual(self.generate("together"), text)

    def test_resolved_recipe_gives_the_same_bits(self):
        for name, layout in LAYOUTS.items():
            with self.subTest(name):
                self.train(*layout, "run.dir=first", ranks=RANKS)
                job = self.deepflow("train", "first/recipe.yaml", "run.dir=again", ranks=RANKS)
                self.assertEqual(job.code, 0, job.err)
                self.assertEqual(self.curve("again"), self.curve("first"))
                self.assertEqual(*((self.folder / run / "model/model.safetensors").read_bytes()
                                   for run in ("first", "again")))

    def test_starts_from_a_folder_under_any_layout(self):
        self.train("run.dir=teacher")
        expected = self.curve("teacher", "heldout_loss")[-1]
        for layout in ("parallel.tp=2 parallel.pp=2", "parallel.zero=3", "parallel.tp=2 parallel.zero=3 parallel.shard=1",
                       "parallel.pp=2 parallel.cp=2 parallel.zero=3"):
            with self.subTest(layout):
                self.train("model.init_from=teacher/model", "train.steps=1", "run.dir=pupil", *layout.split(),
                           ranks=RANKS)
                self.assert_close([self.curve("pupil", "heldout_loss")[0]], [expected], 1e-6)


if __name__ == "__main__":
    unittest.main(verbosity=2)
