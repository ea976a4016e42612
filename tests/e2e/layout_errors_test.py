"""Layouts that cannot work: one clear line that says what would do, exit code 2, no hang, no rank left running."""
import subprocess
import unittest

from deepflow_jobs import EndToEnd


class WrongLayout(EndToEnd):
    def refuse(self, ranks, overrides, *texts):
        self.assert_refused(*texts, overrides=overrides.split(), ranks=[ranks])


class Ranks(WrongLayout):
    def test_that_the_axes_do_not_multiply_to(self):
        self.refuse(4, "parallel.dp=2 parallel.tp=2 parallel.pp=2",
                    "rank 0: parallel: pp 2 x dp 2 x tp 2 needs 8 ranks, 4 were started; layouts near it: ",
                    "dp 2 x tp 2", "pp 2 x tp 2")

    def test_that_the_axes_do_not_divide(self):
        self.refuse(4, "parallel.pp=2 parallel.tp=4",
                    "pp 2 x tp 4 = 8 does not divide the 4 ranks that were started; start a multiple of 8 ranks; "
                    "layouts near it: tp 4; pp 2 x tp 2; dp 2 x tp 2")
        self.refuse(4, "parallel.pp=3", "pp 3 does not divide the 4 ranks that were started", "layouts near it: pp 4")

    def test_too_few(self):
        self.refuse(1, "parallel.tp=2", "tp 2 does not divide the 1 rank that was started; start a multiple of 2 ranks")

    def test_beyond_all_numbers(self):
        axes = " ".join(f"parallel.{axis}=30000" for axis in ("dp", "tp", "cp", "pp"))
        self.refuse(1, axes, "needs 810000000000000000 ranks, 1 was started")
        self.refuse(1, "parallel.tp=2000000000", "parallel.tp must be 1 to 32768, got 2000000000")

    def test_none(self):
        for axis in ("tp", "cp", "pp"):
            self.refuse(2, f"parallel.{axis}=0", f"parallel.{axis} must be 1 to", "got 0")


class Tensor(WrongLayout):
    def test_heads(self):
        self.refuse(2, "parallel.tp=2 model.heads=3 model.kv_heads=3 model.width=24 model.ffn=32",
                    "tp 2 does not divide 3 heads (model.heads); tp can be 1 here")

    def test_key_heads(self):
        self.refuse(3, "parallel.tp=3 model.heads=6 model.kv_heads=2 model.width=24 model.ffn=24",
                    "tp 3 neither divides 2 key heads (model.kv_heads) nor is a multiple of them; tp can be 1, 2, 6")

    def test_hidden_features(self):
        self.refuse(2, "parallel.tp=2 model.ffn=33", "tp 2 does not divide 33 hidden features (model.ffn)")


class Context(WrongLayout):
    def test_ring_needs_two_pieces_a_rank(self):
        self.refuse(2, "parallel.cp=2 data.sequence=62",
                    "data.sequence: 62 tokens do not divide into the 4 equal pieces that parallel.cp 2 (ring: 2 a rank) "
                    "needs; use 60 or 64")
        self.refuse(2, "parallel.cp=2 data.sequence=3", "needs; use 4")

    def test_ulysses_needs_one(self):
        self.refuse(2, "parallel.cp=2 parallel.cp_method=ulysses data.sequence=63",
                    "63 tokens do not divide into the 2 equal pieces that parallel.cp 2 needs; use 62 or 64")

    def test_ulysses_deals_heads(self):
        self.refuse(3, "parallel.cp=3 parallel.cp_method=ulysses data.sequence=63",
                    "cp 3 with cp_method ulysses does not divide the 4 heads of a rank (model.heads over tp); cp can be "
                    "1, 2, 4 here, or take cp_method: ring")
        self.refuse(4, "parallel.cp=2 parallel.tp=2 parallel.cp_method=ulysses model.heads=2",
                    "cp 2 with cp_method ulysses does not divide the 1 head of a rank")
        self.refuse(3, "parallel.cp=3 parallel.cp_method=ulysses data.sequence=63 model.heads=6 model.width=24",
                    "neither divides the 2 key heads of a rank (model.kv_heads over tp) nor is a multiple of them")

    def test_unknown_method(self):
        self.refuse(2, "parallel.cp=2 parallel.cp_method=rings", "got rings; did you mean ring?")


class Pipeline(WrongLayout):
    def test_more_chunks_than_layers(self):
        self.refuse(3, "parallel.pp=3",
                    "pp 3 x vp 1 = 3 chunks, and the model has 2 layers (model.layers); every chunk needs at least one")
        self.refuse(2, "parallel.pp=2 parallel.schedule=zb_v", "pp 2 x vp 2 = 4 chunks, and the model has 2 layers")

    def test_layers_that_do_not_add_up(self):
        self.refuse(2, "parallel.pp=2 parallel.layers=[1,2]",
                    "parallel.layers: 1 + 2 = 3 layers, and the model has 2 (model.layers)")
        self.refuse(1, "parallel.layers=[3]", "parallel.layers: 3 layers, and the model has 2")

    def test_layers_of_another_number_of_chunks(self):
        self.refuse(2, "parallel.pp=2 parallel.layers=[2]",
                    "parallel.layers: expected one number for each chunk of the pipeline, 2 (pp x vp), got 1: [2]")
        self.refuse(2, "parallel.layers=[1,1]", "expected one number for each chunk of the pipeline, 1 (pp x vp), got 2")

    def test_chunk_without_layers(self):
        self.refuse(2, "parallel.pp=2 parallel.layers=[0,2]",
                    "parallel.layers: every chunk needs at least 1 layer, chunk 0 got 0: [0, 2]")

    def test_unknown_schedule(self):
        self.refuse(2, "parallel.pp=2 parallel.schedule=1f1", "parallel.schedule must be one of gpipe, 1f1b,",
                    "got 1f1; did you mean 1f1b?")

    def test_chunks_that_the_schedule_does_not_take(self):
        self.refuse(2, "parallel.pp=2 parallel.schedule=zb_v parallel.vp=3",
                    "parallel.vp: schedule zb_v cuts the model into exactly 2 chunks a rank, got 3; leave parallel.vp "
                    "out, or take parallel.schedule interleaved_1f1b")
        self.refuse(2, "parallel.pp=2 parallel.schedule=1f1b parallel.vp=2", "exactly 1 chunk a rank, got 2")
        self.refuse(2, "parallel.pp=2 parallel.vp=1000000000", "parallel.vp must be 0 to 64, got 1000000000")


class Batch(WrongLayout):
    def test_batch_that_does_not_divide(self):
        self.refuse(4, "parallel.dp=4 train.global_batch=6", "train.global_batch: 6", "do not divide over 4 data")

    def test_only_data_parallel_ranks_divide_it(self):
        job = self.deepflow("train", "recipe.yaml", "parallel.tp=2", "train.global_batch=1", "train.steps=1", ranks=2)
        self.assertEqual(job.code, 0, job.err)

    def test_micro_batch(self):
        for micro_batch, below in ((8, 4), (3, 2)):
            self.refuse(2, f"train.micro_batch={micro_batch}",
                        f"train.micro_batch: {micro_batch} does not divide the 4 sequences of a rank (train.global_batch "
                        f"8 over 2 data-parallel ranks); the next below is {below}")


class Sharding(WrongLayout):
    def test_level(self):
        self.refuse(2, "parallel.zero=4", "parallel.zero must be 0 to 3, got 4")

    def test_groups_that_do_not_divide(self):
        self.refuse(4, "parallel.shard=3", "parallel.shard: 3 does not divide the 4 data-parallel ranks; it can be 1, 2, 4")
        self.refuse(4, "parallel.cp=2 parallel.shard=4", "4 does not divide the 2 data-parallel ranks")


class Memory(WrongLayout):
    def test_offload_folder_that_is_not_there(self):
        self.refuse(2, "train.offload_optimizer=nowhere",
                    "train.offload_optimizer: nowhere: cannot create a file there: No such file or directory; give a "
                    "folder that exists and can be written")

    def test_offload_to_a_full_disk(self):
        (self.folder / "small").mkdir(exist_ok=True)
        mount = ["unshare", "--mount", "--map-root-user", "sh", "-c",
                 'mount -t tmpfs -o size=40k tmpfs small && exec "$@"', "sh"]
        if subprocess.run([*mount, "true"], cwd=self.folder, capture_output=True).returncode != 0:
            self.skipTest("cannot mount a small tmpfs")
        job = self.deepflow("train", "recipe.yaml", "train.offload_optimizer=small", ranks=2, wrapper=mount)
        self.assert_one_line(job, "train.offload_optimizer: small: no space left on device while writing")

    def test_budget_that_is_too_small(self):
        self.refuse(2, "model.recompute=auto train.memory_budget=0.001",
                    "even with every block recomputed a rank needs 0.0", "and its budget is 0.001 GB",
                    "lower train.micro_batch or data.sequence, split the model over more ranks, or raise the budget")

    def test_budget_that_only_some_stages_keep_to(self):
        outcomes = set()
        for budget in (0.0006, 0.0008, 0.0009, 0.001, 0.0011, 0.0012, 0.0014, 0.002):
            job = self.deepflow("train", "recipe.yaml", "parallel.pp=2", "model.recompute=auto", "train.steps=1",
                                f"train.memory_budget={budget}", ranks=2)
            outcomes.add(job.code)
            if job.code != 0:
                self.assert_one_line(job, f"and its budget is {budget:g} GB")
        self.assertEqual(outcomes, {0, 2})

    def test_recomputation_for_data_that_is_not_there(self):
        self.refuse(2, "model.recompute=auto data.train=missing.h5", "missing.h5: no such file")


class Divergence(WrongLayout):
    WILD = "optim.name=sgd optim.lr=100 optim.clip=0 train.steps=300 "

    def test_in_f16_ends_with_the_loss_scale(self):
        for layout in ("parallel.pp=2", "parallel.tp=2", "parallel.zero=3"):
            self.refuse(2, self.WILD + "train.precision=f16 " + layout,
                        "the loss scale fell to 1 (optim.loss_scale.min), and loss or gradient are still not finite")

    def test_in_f32_names_who_computes_the_loss(self):
        # The last stage, and the first of those that share its rows.
        for layout, rank in (("parallel.pp=2", 1), ("parallel.tp=2", 0), ("parallel.cp=2 parallel.zero=3", 0)):
            self.refuse(2, self.WILD + layout, f"the loss is not finite on rank {rank}", "first parameter whose gradient")


if __name__ == "__main__":
    unittest.main(verbosity=2)
