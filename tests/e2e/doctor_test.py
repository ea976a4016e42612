"""deepflow doctor, alone and under mpirun: one JSON object from rank 0, in a few seconds."""
import json
import unittest

from deepflow_jobs import EndToEnd


class Doctor(EndToEnd):
    def report(self, *arguments, ranks=1):
        job = self.deepflow("doctor", "--json", *arguments, ranks=ranks)
        self.assertEqual((job.code, job.err), (0, ""))
        self.assertEqual(job.out.count("\n"), 1)
        self.assertLess(job.seconds, 30)
        return json.loads(job.out)

    def test_measures_the_machine(self):
        for ranks in (1, 2):
            with self.subTest(ranks=ranks):
                report = self.report(ranks=ranks)
                self.assertEqual(report["ranks"]["size"], ranks)
                self.assertEqual(report["ranks"]["launcher"], "mpirun" if ranks > 1 else None)
                self.assertEqual(len(report["ranks"]["hosts"]), 1)
                self.assertGreater(report["gemm"]["f32"]["flops"], 1e9)
                self.assertGreater(report["memory_bandwidth"]["triad"], 1e8)
                self.assertIn("MPI", report["libraries"])
                sums = report.get("all_reduce", [])
                self.assertEqual([row["bytes"] for row in sums], [65536, 4194304, 67108864] if ranks > 1 else [])

    def test_warns_of_more_threads_than_cpus(self):
        warnings = self.report("--no-measurements", "--threads", 4096, ranks=2)["warnings"]
        self.assertEqual(sum("2 ranks x 4096 threads" in line for line in warnings), 1, warnings)

    def test_speaks_to_people_once(self):
        job = self.deepflow("doctor", "--no-measurements", ranks=2)
        self.assertEqual(job.out.count("DeepFlow"), 1)
        self.assertIn("2 ranks on 1 host (started by mpirun)", job.out)


if __name__ == "__main__":
    unittest.main(verbosity=2)
