"""deepflow ckpt: every command over the checkpoints of a real run, and over what is no checkpoint or a damaged one."""
import json
import shutil
import unittest

from deepflow_jobs import EndToEnd, Job

KEEP_ALL = ["checkpoint.keep=0", "checkpoint.every=2", "train.steps=6"]


class CkptTools(EndToEnd):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name, ranks, *overrides in (("run", 2, "parallel.zero=1"), ("other", 1, "train.seed=5")):
            job = Job(cls.folder, ["train", "recipe.yaml", *KEEP_ALL, f"run.dir={name}", *overrides], ranks).wait()
            assert job.code == 0, job.out + job.err
        cls.checkpoints = cls.folder / "run/checkpoints"
        cls.last = cls.checkpoints / "step-00000006"

    def ckpt(self, *arguments, code=0):
        job = self.deepflow("ckpt", *arguments)
        self.assertEqual(job.code, code, job.out + job.err)
        return job.out

    def ckpt_json(self, *arguments, code=0):
        return json.loads(self.ckpt(*arguments, "--json", code=code))

    def new(self, name):
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return self.folder / name

    def test_list_tells_steps_sizes_and_leftovers(self):
        copy = self.new("copy")
        shutil.copytree(self.checkpoints, copy, symlinks=True)
        (copy / "step-00000008.writing").mkdir()
        listed = self.ckpt_json("list", copy)
        self.assertEqual([c["step"] for c in listed["checkpoints"]], [2, 4, 6])
        self.assertEqual([c["latest"] for c in listed["checkpoints"]], [False, False, True])
        self.assertEqual({c["layout"] for c in listed["checkpoints"]}, {"2 ranks, zero 1"})
        self.assertEqual(listed["leftovers"], [{"name": "step-00000008.writing", "what": "unfinished", "bytes": 0}])
        for c in listed["checkpoints"]:
            files = sum(f.stat().st_size - 16 for f in (copy / f"step-{c['step']:08}").glob("data-*"))
            self.assertEqual(c["size"]["own"], files)
        text = self.ckpt("list", self.folder / "run")
        self.assertIn("<- latest", text.splitlines()[-1])
        (copy / "step-00000004/manifest.json").write_text("{}")
        self.assertIn("4 DAMAGED: ", self.ckpt("list", copy))

    def test_show_tells_the_run_and_reads_one_tensor_alone(self):
        shown = self.ckpt_json("show", self.checkpoints, "--tensors")
        self.assertEqual(shown["step"], 6)
        self.assertEqual(shown["run"]["layout"]["ranks"], 2)
        self.assertLessEqual({"parameters", "adamw.m", "adamw.v", "trainer"}, set(shown["state"]))
        self.assertEqual(sum(k["tensors"] for k in shown["state"].values()), len(shown["tensors"]))
        text = self.ckpt("show", self.last, "--tensors")
        self.assertIn("model      llama, ", text)
        self.assertIn("adamw.m/layers.1.mlp.up.weight", text)
        tensor = next(t for t in shown["tensors"] if t["name"] == "parameters/layers.1.mlp.up.weight")
        one = self.ckpt_json("show", self.last, "--tensor", "layers.1.mlp.up.weight")
        self.assertEqual(one["values"]["bytes_read"], tensor["size"]["own"] + tensor["size"]["shared"])
        self.assertEqual(one["values"]["elements"], tensor["shape"][0] * tensor["shape"][1])
        self.assertEqual(one["values"]["nan"], 0)
        self.assertLess(one["values"]["min"], one["values"]["max"])
        self.assertIn("standard deviation", self.ckpt("show", self.last, "--tensor", "layers.1.mlp.up.weight"))
        self.assert_one_line(self.deepflow("ckpt", "show", self.last, "--tensor", "layers.1.mlp.u.weight"),
                             "has no tensor layers.1.mlp.u.weight")
        (self.folder / "again.yaml").write_text(self.ckpt("show", self.last, "--recipe"))
        self.assertEqual(self.deepflow("recipe", "check", "again.yaml").code, 0)

    def test_verify_names_the_damage(self):
        copy = self.new("damaged")
        shutil.copytree(self.checkpoints, copy, symlinks=True)
        whole = self.ckpt_json("verify", copy)
        self.assertEqual([c["whole"] for c in whole], [True] * 3)
        data = copy / "step-00000006/data-00001"
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 4
        data.write_bytes(content)
        lines = self.ckpt("verify", copy / "step-00000006", code=1).splitlines()
        self.assertEqual(len(lines), 2)
        self.assertRegex(lines[0], r"data-00001 at byte \d+: .*; elements \d+ to \d+ of a slice of \S+ are lost")
        self.assertIn("DAMAGED (1 found)", lines[1])
        self.assertEqual([c["whole"] for c in self.ckpt_json("verify", copy, code=1)], [True, True, False])
        self.assert_one_line(self.deepflow("ckpt", "reshard", copy, self.new("not-made")), "data-00001 at byte")
        self.assertEqual(list((self.folder / "not-made").iterdir()), [])
        data.write_bytes(content[:1000])
        self.assertIn("has 1000 bytes", self.ckpt("verify", copy / "step-00000006", code=1))

    def test_diff_finds_differences_and_reshard_makes_none(self):
        out = self.new("resharded")
        said = self.ckpt("reshard", self.checkpoints, out, "--writers", 3, "--codec", "zstd")
        self.assertIn("found the same, bit for bit", said)
        self.assertEqual(len(list((out / "step-00000006").glob("data-*"))), 3)
        self.assertIn("the same, bit for bit", self.ckpt("diff", self.last, out))
        self.assertEqual(self.ckpt_json("verify", out)[0]["damages"], [])
        self.assertEqual(self.ckpt("diff", self.last, self.folder / "other", "--quiet", code=1), "")
        found = self.ckpt_json("diff", self.last, self.folder / "other", code=1)
        self.assertEqual((found["only_in_a"], found["only_in_b"], found["misshapen"]), ([], [], []))
        self.assertIn("parameters/embedding.weight", [d["name"] for d in found["different"]])
        for d in found["different"]:
            self.assertGreater(d["absolute"], 0)
            self.assertTrue(0 < d["share"] <= 1)
        job = self.deepflow("train", "recipe.yaml", *KEEP_ALL, "train.steps=8", "run.dir=after",
                            f"checkpoint.resume={out}")
        self.assertEqual(job.code, 0, job.err)
        self.assertIn("resume   step 6 from", job.out)

    def test_convert_gives_the_model_of_the_run_and_takes_it_back(self):
        hf, h5, back, back5 = (self.new(n) for n in ("hf", "model.h5", "back", "back5"))
        self.ckpt("convert", self.checkpoints, hf, "--to", "hf")
        for file in ("model.safetensors", "config.json", "tokenizer.json", "generation_config.json"):
            self.assertEqual((hf / file).read_bytes(), (self.folder / "run/model" / file).read_bytes(), file)
        h5.unlink(missing_ok=True)
        self.ckpt("convert", self.last, h5, "--to", "hdf5")
        self.ckpt("convert", hf, back, "--from", "hf", "--writers", 2)
        self.ckpt("convert", h5, back5, "--from", "hdf5")
        for made in (back, back5):
            self.assertTrue(self.ckpt_json("diff", self.last, made, "--only", "parameters")["same"])
        self.ckpt("convert", self.last, self.new("narrow"), "--to", "hf", "--dtype", "bf16")
        sizes = [(self.folder / d / "model.safetensors").stat().st_size for d in ("hf", "narrow")]
        self.assertLess(sizes[1], 0.6 * sizes[0])

    def test_a_checkpoint_is_a_model_for_eval_generate_and_init_from(self):
        def bits(model):
            job = self.deepflow("eval", model, "text.h5", "--sequence", 64, "--windows", 4, "--precision", "f32")
            self.assertEqual(job.code, 0, job.err)
            return job.out.replace(str(model), "MODEL")
        self.assertEqual(bits(self.last), bits(self.folder / "run/model"))
        texts = [self.deepflow("generate", model, "--prompt", "ocean", "--max-tokens", 8, "--temperature", 0)
                 for model in (self.last, self.folder / "run")]
        self.assertEqual([t.code for t in texts], [0, 0], texts[0].err)
        self.assertEqual(texts[0].out, texts[1].out)
        for ranks, layout in ((1, []), (2, ["parallel.tp=2"])):
            first = [self.train(f"model.init_from={model}", "train.steps=1", f"run.dir=begun{ranks}", *layout,
                                ranks=ranks) and (self.folder / f"begun{ranks}/model/model.safetensors").read_bytes()
                     for model in (self.last, "run/model")]
            self.assertEqual(first[0], first[1])

    def test_lossy_exports_say_so_and_no_run_resumes_from_them(self):
        for codec, most in (("nf4", 0.16), ("int8", 0.29)):
            out = self.new(codec)
            self.assertIn(f"LOSSY ({codec})", self.ckpt("convert", self.last, out, "--to", "blockstore", "--codec", codec))
            listed = self.ckpt_json("list", out)["checkpoints"][0]
            self.assertTrue(listed["lossy"])
            self.assertLess(listed["size"]["ratio"], most)
            self.assertIn(f"LOSSY ({codec})", self.ckpt("list", out))
            self.assertIn("LOSSY", self.ckpt("show", out))
            self.assertEqual(self.ckpt_json("show", out)["run"]["lossy"], codec)
            self.assertTrue(self.ckpt_json("verify", out)[0]["whole"])
            self.assert_refused(f"is a lossy export ({codec})",
                                overrides=[*KEEP_ALL, "run.dir=refused", f"checkpoint.resume={out}"])
            norms = [d["name"] for d in self.ckpt_json("diff", out, self.last, "--only", "parameters", code=1)["different"]]
            self.assertEqual([n for n in norms if "norm" in n], [])
            self.assertIn("parameters/layers.0.mlp.up.weight", norms)
        self.assertIn("LOSSY", self.ckpt("convert", self.folder / "nf4", self.new("of-nf4"), "--to", "hf"))

    def test_prune_keeps_what_is_asked_for(self):
        copy = self.new("pruned")
        shutil.copytree(self.checkpoints, copy, symlinks=True)
        self.assertIn("2 checkpoints would be removed", self.ckpt("prune", copy, "--keep", 1, "--dry-run"))
        self.assertEqual(len(self.ckpt_json("list", copy)["checkpoints"]), 3)
        self.ckpt("prune", copy, "--keep", 1, "--keep-every", 4)
        self.assertEqual([c["step"] for c in self.ckpt_json("list", copy)["checkpoints"]], [4, 6])
        self.ckpt("verify", copy)

    def test_serve_stats_of_dense_experts_and_latent_attention(self):
        dense = self.ckpt_json("serve-stats", self.last)
        self.assertEqual(dense["active"], dense["parameters"])
        self.assertEqual(dense["bytes"]["f32"], 4 * dense["parameters"])
        self.assertEqual(dense["bytes"]["bf16"], 2 * dense["parameters"])
        self.assertLess(dense["bytes"]["nf4"], dense["bytes"]["int8"])
        self.assertEqual(dense["cache_bytes_per_token"], 2 * 2 * 2 * (8 + 8))  # bf16, layers, heads, key and value
        self.assertEqual(dense["context"], 64)
        self.train("model.family=mixtral", "model.ffn=64", "model.experts=4", "train.steps=1", "checkpoint.every=1",
                   "run.dir=experts")
        sparse = self.ckpt_json("serve-stats", self.folder / "experts")
        self.assertEqual(sparse["parameters"] - sparse["active"], 2 * 2 * 3 * 32 * 64)  # layers, idle, matrices of each
        self.assertIn("of them for a token", self.ckpt("serve-stats", self.folder / "experts"))

    def test_bad_input_is_one_line(self):
        nothing, empty = self.folder / "nowhere", self.new("empty")
        empty.mkdir()
        for command in (["show"], ["verify"], ["serve-stats"], ["reshard", "OUT"], ["diff", self.last]):
            name, rest = command[0], command[1:]
            self.assert_one_line(self.deepflow("ckpt", name, nothing, *rest), "nowhere: is no folder")
            self.assert_one_line(self.deepflow("ckpt", name, empty, *rest), "holds no checkpoint")
        self.assert_one_line(self.deepflow("ckpt", "list", nothing), "nowhere: is no folder")
        self.assert_one_line(self.deepflow("ckpt", "reshard", self.last, self.checkpoints), "holds checkpoints already")
        self.assert_one_line(self.deepflow("ckpt", "prune", self.checkpoints), "--keep")
        self.assert_one_line(self.deepflow("ckpt", "convert", self.last, "x"), "--to is missing")
        self.assert_one_line(self.deepflow("ckpt", "convert", self.last, "x", "--to", "hf", "--codec", "nf4"),
                             "--codec and --writers: only with --to blockstore")
        self.assert_one_line(self.deepflow("ckpt", "diff", self.last, self.last, "--only", "nothing"), "neither has")
        unfinished = self.new("unfinished")
        shutil.copytree(self.last, unfinished)
        (unfinished / "commit").unlink()
        self.assert_one_line(self.deepflow("ckpt", "show", unfinished), "has no commit record")


if __name__ == "__main__":
    unittest.main()
