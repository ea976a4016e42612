#!/usr/bin/env python3
# bench: DeepSeek-V3's shape on the quickstart's tokens: pp 2, ep 2 on 4 ranks beside one rank, balance, and a dense twin
"""Three runs of examples/deepseek_v3.yaml with the same tokens: as it stands on one rank; on 4 ranks with pp 2 and ep 2;
and on one rank with MLPs as wide as the experts that a token meets in the place of experts (the same active parameters).

loss_diff: held-out loss of 4 ranks less that of one. imbalance: of the worst layer, largest over mean load of its experts
in the last 100 steps together. gain_over_dense: held-out loss of the dense model less that of the experts."""
import json
import pathlib
import tempfile

import bench_tools as tools
from optimizers import make_data

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECIPE = ROOT / "examples/deepseek_v3.yaml"
LAYERS = 4
WINDOW = 100
RUNS = {
    "experts, one rank": (1, []),
    "experts, pp 2 ep 2": (4, ["parallel.pp=2", "parallel.ep=2"]),
    "dense, one rank": (1, [f"model.layers={LAYERS}", f"model.dense_layers={LAYERS}"]),
}


def train(build, data, out, ranks, keys, args):
    command = [f"{build}/deepflow", "train", RECIPE, *keys, f"train.steps={args.steps}", f"data.train={data}/train.h5",
               f"data.heldout={data}/heldout.h5", f"data.tokenizer={data}/tokenizer.json", f"run.dir={out}",
               f"train.eval_windows={args.windows}", "log.tensorboard=false"]
    tools.run(tools.mpirun(ranks, command) if ranks > 1 else command)
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def imbalance(lines):
    """Largest over mean load of a layer's experts in the last steps together, of the worst layer."""
    steps = [line["experts"]["layers"] for line in lines if line.get("experts", {}).get("layers")][-WINDOW:]
    worst = 0.0
    for layer in range(len(steps[0])) if steps else []:
        load = [sum(tokens) for tokens in zip(*(step[layer]["tokens"] for step in steps))]
        worst = max(worst, max(load) * len(load) / sum(load))
    return worst


def main():
    args = tools.arguments(("--steps", dict(type=int, default=600)),
                           ("--windows", dict(type=int, default=0, help="of the held-out text; 0: all")),
                           ("--data", dict(type=pathlib.Path, default=ROOT / "data/gcide",
                                           help="what launch/quickstart.sh leaves; made where it is missing")))
    rows, losses, loads = [], {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        data = args.data
        if not (data / "train.h5").exists():
            data = pathlib.Path(scratch) / "data"
            make_data(args.build, data)
        for name, (ranks, keys) in RUNS.items():
            lines = train(args.build, data, pathlib.Path(scratch) / name.split(",")[0], ranks, keys, args)
            losses[name], loads[name] = lines[-1]["heldout_loss"], imbalance(lines)
            seconds = tools.median([line["seconds"] for line in lines if "seconds" in line])
            rows.append([name, losses[name], loads[name] or "", seconds])
            print(f"{name}: held-out loss {losses[name]:.4f}", flush=True)
    tools.print_table([f"{args.steps} steps", "held-out loss", "max/mean load", "s/step"], rows)
    one, four, dense = RUNS
    tools.finish({"loss_diff": losses[four] - losses[one], "imbalance": max(loads[one], loads[four]),
                  "gain_over_dense": losses[dense] - losses[one]})


if __name__ == "__main__":
    main()
