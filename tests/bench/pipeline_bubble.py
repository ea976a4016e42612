#!/usr/bin/env python3
# bench: the bubble of every pipeline schedule in the trace of a step, beside the schedule's own figure
import json
import os
import tempfile

import bench_tools as tools

LIMIT = 0.05


def main():
    args = tools.arguments(("--pp", dict(type=int, nargs="*", default=[4, 8])),
                           ("--pace", dict(default="50,50,50", help="ms of F, B and W of a chunk")),
                           ("--steps", dict(type=int, default=3)),
                           ("--micro-batches", dict(type=int, default=0, help="0: two for each stage")),
                           ("--schedules", dict(nargs="*", default=[])))
    results = []
    for pp in args.pp:
        with tempfile.TemporaryDirectory() as folder:
            command = [f"{args.build}/bench_pipeline_bubble", "--pace", args.pace, "--steps", args.steps,
                       "--micro-batches", args.micro_batches, "--trace", os.path.join(folder, "trace.json")]
            if args.schedules:
                command += ["--schedules", *args.schedules]
            out = tools.run(tools.mpirun(pp, command)).stdout
        found = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        assert found, out
        results += found
    tools.print_table(["schedule", "pp", "vp", "micro-batches", "planned %", "measured %", "deviation %", "step / plan"],
                      [[r["schedule"], r["pp"], r["vp"], r["micro_batches"], 100 * r["planned"], 100 * r["measured"],
                        100 * r["deviation"], r["step_ratio"]] for r in results])
    for r in results:
        print(json.dumps(r))
    worst = max(r["deviation"] for r in results)
    tools.finish({"max_deviation": worst, "schedules": len(results),
                  **{f"{r['schedule']}_pp{r['pp']}": round(r["deviation"], 5) for r in results}})
    if not worst <= LIMIT:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
