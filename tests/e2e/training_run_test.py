"""A whole run: what it prints, what it leaves, and that its model can be evaluated, continued and taken up again."""
import json
import math
import os
import pty
import re
import unittest
import xml.etree.ElementTree

from deepflow_jobs import EndToEnd


class TrainingRun(EndToEnd):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.run_dir = cls.folder / "run"

    def metrics(self, folder="run"):
        return [json.loads(line) for line in (self.folder / folder / "metrics.jsonl").read_text().splitlines()]

    def curve(self, folder="run"):
        return [line["loss"] for line in self.metrics(folder) if "loss" in line]

    def test_leaves_what_it_promises(self):
        for ranks in (1, 2):
            with self.subTest(ranks=ranks):
                job = self.train("train.steps=20", "train.eval_every=10", "log.trace_from=3", "log.trace_steps=2",
                                 ranks=ranks)
                self.assertIn("bits per byte", job.out)
                self.check_metrics()
                self.check_picture()
                self.check_trace(ranks)
                model = self.run_dir / "model"
                self.assertEqual(sorted(p.name for p in model.iterdir()),
                                 ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                                  "tokenizer_config.json"])

    def check_metrics(self):
        lines = self.metrics()
        steps = [line for line in lines if "loss" in line]
        self.assertEqual([line["step"] for line in steps], list(range(1, 21)))
        self.assertEqual([line["tokens"] for line in steps], [512 * i for i in range(1, 21)])
        self.assertLess(steps[-1]["loss"], steps[0]["loss"] - 1)
        heldout = [line for line in lines if "heldout_loss" in line]
        self.assertEqual([line["step"] for line in heldout], [0, 10, 20])
        for line in heldout:
            self.assertAlmostEqual(line["heldout_perplexity"], math.exp(line["heldout_loss"]), places=6)

    def test_tells_the_largest_score_with_qk_clip_only(self):
        job = self.train("train.steps=3", "optim.qk_clip=1e-4", "optim.name=muon", ranks=2)
        self.assertRegex(job.out, r"step 3/3 .*  score \d+\.\d  ")
        steps = [line for line in self.metrics() if "loss" in line]
        self.assertEqual(steps[0]["clipped_heads"], 8)  # all of them; from then on they are near the bound
        self.assertGreater(steps[0]["largest_score"], 1e-4)
        for line in steps[1:]:
            self.assertLess(line["largest_score"], steps[0]["largest_score"])
            self.assertLessEqual(line["clipped_heads"], 8)
        self.train("train.steps=1")
        self.assertNotIn("largest_score", self.metrics()[1])
        self.assert_refused("optim.qk_clip", "queries and keys are normed",
                            overrides=["optim.qk_clip=100", "model.family=qwen3"])

    def check_picture(self):
        root = xml.etree.ElementTree.parse(self.run_dir / "loss.svg").getroot()
        lines = root.findall("{http://www.w3.org/2000/svg}polyline")
        self.assertEqual([len(line.get("points").split()) for line in lines], [20, 3])

    def check_trace(self, ranks):
        events = json.loads((self.run_dir / "trace.json").read_text())["traceEvents"]
        spans = [e for e in events if e["ph"] == "X"]
        self.assertEqual({e["pid"] for e in spans}, set(range(ranks)))
        for name in ("F c0 m0", "BW c0 m0", "optimizer"):
            self.assertEqual(sum(e["name"] == name for e in spans), 2 * ranks, name)
        self.assertTrue(all(e["dur"] >= 0 for e in spans))

    def test_every_instruction_set_of_the_machine_trains_alike(self):
        curves = {}
        for isa in ("auto", "avx2", "avx512", "avx512_bf16"):
            for precision in ("f32", "bf16"):
                job = self.deepflow("train", "recipe.yaml", "train.steps=6", f"train.cpu_isa={isa}",
                                    f"train.precision={precision}")
                if job.code == 0:
                    curves[isa, precision] = self.curve()
                else:
                    self.assertEqual(job.code, 2)
                    self.assertRegex(job.err, rf"cpu_isa: this CPU \(.*\) has no {isa}; its best is avx")
        self.assertIn(("avx2", "f32"), curves)
        for (isa, precision), curve in curves.items():
            limit = 1e-5 if precision == "f32" else 5e-3
            for a, b in zip(curve, curves["avx2", "f32"], strict=True):
                self.assertLess(abs(a - b) / b, limit, (isa, precision))

    def test_resolved_recipe_gives_the_same_run(self):
        self.train("train.seed=9", "run.dir=first")
        job = self.deepflow("train", "first/recipe.yaml", "run.dir=again")
        self.assertEqual(job.code, 0, job.err)
        self.assertEqual(self.curve("first"), self.curve("again"))

    def test_ranks_and_layout_do_not_change_the_curve(self):
        self.train("run.dir=alone")
        for zero in (0, 1):
            self.train(f"parallel.zero={zero}", "run.dir=together", ranks=2)
            for a, b in zip(self.curve("together"), self.curve("alone"), strict=True):
                self.assertLess(abs(a - b) / b, 1e-5)

    def test_evaluation_of_the_model_equals_the_last_one_of_the_run(self):
        self.train("train.eval_windows=0")
        expected = [line for line in self.metrics() if "heldout_loss" in line][-1]
        for ranks in (1, 2):
            job = self.deepflow("eval", "run", "text.h5", "--sequence", 64, "--precision", "f32", ranks=ranks)
            self.assertEqual(job.code, 0, job.err)
            figures = json.loads(job.out)
            self.assertAlmostEqual(figures["loss"], expected["heldout_loss"], places=6)
            self.assertAlmostEqual(figures["bits_per_byte"], expected["heldout_bits_per_byte"], places=6)
            self.assertEqual(figures["labels"], expected["heldout_labels"])

    def test_generates_the_same_text_again(self):
        self.train()
        texts = []
        for seed in (1, 1, 2):
            job = self.deepflow("generate", "run", "--prompt", "the ocean", "--max-tokens", 30, "--seed", seed)
            self.assertEqual(job.code, 0, job.err)
            self.assertTrue(job.out.startswith("the ocean"))
            texts.append(job.out)
        self.assertEqual(texts[0], texts[1])
        self.assertNotEqual(texts[0], texts[2])

    def test_starts_from_the_model_of_another_run(self):
        self.train("train.steps=20", "run.dir=teacher")
        job = self.train("model.init_from=teacher/model", "run.dir=pupil")
        last = [line for line in self.metrics("teacher") if "heldout_loss" in line][-1]["heldout_loss"]
        first = [line for line in self.metrics("pupil") if "heldout_loss" in line][0]["heldout_loss"]
        self.assertAlmostEqual(first, last, places=4, msg=job.out)


class ProgressLines(EndToEnd):
    def test_are_plain_where_nobody_watches(self):
        for ranks in (1, 2):  # mpirun gives its ranks a terminal of their own
            job = self.train("train.steps=12", "log.every=5", ranks=ranks)
            self.assertNotIn("\r", job.out)
            self.assertNotIn("\033", job.out)
            self.assertEqual(re.findall(r"^step (\d+)/12 ", job.out, re.MULTILINE), ["1", "5", "10", "12"])

    def test_are_rewritten_on_a_terminal(self):
        for ranks in (1, 2):
            outer, inner = pty.openpty()
            redirect = ["sh", "-c", f'"$@" >{os.ttyname(inner)}', "sh"]
            self.deepflow("train", "recipe.yaml", ranks=ranks, wrapper=redirect)
            os.close(inner)
            text = os.read(outer, 1 << 16).decode()
            os.close(outer)
            self.assertIn("\r\033[Kstep ", text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
