#!/usr/bin/env python3
# bench: held-out loss, state and step time of every optimizer on the quickstart's model and tokens, learning rates swept
"""--rates N takes the N best guesses of each list (the first ones); --seeds N averages N runs of each."""
import json
import pathlib
import re
import tempfile

import bench_tools as tools

ROOT = pathlib.Path(__file__).resolve().parents[2]
HELDOUT_BYTES = 2_000_000
# Learning rates, the likeliest first, and what else the recipe says.
OPTIMIZERS = {
    "adamw": ([2e-3, 4e-3, 1e-3], []),
    "adamw8bit": ([2e-3, 4e-3, 1e-3], []),
    "muon": ([4e-3, 8e-3, 2e-3], []),
    "lion": ([3e-4, 6e-4, 1.5e-4], ["optim.beta1=0.95", "optim.beta2=0.98", "optim.weight_decay=0.5"]),
    "adafactor": ([0.03, 0.06, 0.015], []),
}


def make_data(build, folder):
    folder.mkdir(parents=True, exist_ok=True)
    text = tools.corpus_bytes()
    deepflow, tokenizer = f"{build}/deepflow", folder / "tokenizer.json"
    for name, part in (("train", text[:-HELDOUT_BYTES]), ("heldout", text[-HELDOUT_BYTES:])):
        (folder / f"{name}.txt").write_bytes(part)
        if name == "train":
            tools.run([deepflow, "data", "train-tokenizer", "--vocabulary", 4096, "--out", tokenizer,
                       folder / "train.txt"])
        tools.run([deepflow, "data", "tokenize", "--tokenizer", tokenizer, "--out", folder / f"{name}.h5",
                   folder / f"{name}.txt"])


def train(build, data, out, optimizer, rate, seed, steps, windows):
    keys = [f"optim.name={optimizer}", f"optim.lr={rate}", *OPTIMIZERS[optimizer][1], f"train.seed={seed}",
            f"train.steps={steps}", f"optim.warmup={max(1, steps // 12)}", f"data.train={data}/train.h5",
            f"data.heldout={data}/heldout.h5", f"data.tokenizer={data}/tokenizer.json", f"run.dir={out}",
            f"train.eval_windows={windows}", "log.tensorboard=false", "checkpoint.every=0"]
    text = tools.run([f"{build}/deepflow", "train", ROOT / "examples/quickstart.yaml", *keys]).stdout
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    seconds = [line["seconds"] for line in lines if "seconds" in line]
    state = re.search(r"([0-9.]+) bytes of state a parameter", text)
    return {"loss": lines[-1]["heldout_loss"], "seconds": tools.median(seconds), "bytes": float(state.group(1))}


def main():
    args = tools.arguments(("--steps", dict(type=int, default=970)), ("--rates", dict(type=int, default=3)),
                           ("--seeds", dict(type=int, default=1)),
                           ("--windows", dict(type=int, default=0, help="of the held-out text; 0: all")), ("--only", dict(nargs="*", default=list(OPTIMIZERS))),
                           ("--data", dict(type=pathlib.Path, default=ROOT / "data/gcide",
                                           help="what launch/quickstart.sh leaves; made where it is missing")))
    rows, best = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        data = args.data
        if not (data / "train.h5").exists():
            data = pathlib.Path(scratch) / "data"
            make_data(args.build, data)
        for name in args.only:
            for rate in OPTIMIZERS[name][0][:args.rates]:
                runs = [train(args.build, data, pathlib.Path(scratch) / "run", name, rate, seed, args.steps,
                              args.windows)
                        for seed in range(1, args.seeds + 1)]
                mean = {key: sum(r[key] for r in runs) / len(runs) for key in runs[0]}
                rows.append([name, rate, mean["loss"], mean["bytes"], mean["seconds"]])
                print(f"{name} lr {rate}: {mean['loss']:.4f}", flush=True)
                if name not in best or mean["loss"] < best[name]:
                    best[name] = mean["loss"]
    tools.print_table([f"{args.steps} steps", "learning rate", "held-out loss", "state, bytes a parameter", "s/step"], rows)
    tools.finish(best)


if __name__ == "__main__":
    main()
