#!/usr/bin/env python3
# bench: two hosts of one core at 10 Gbit/s: communication that dp leaves exposed, what overlap gives tp and experts
import json
import pathlib
import tempfile

import bench_tools as tools
import two_hosts

RECIPE = """
model: {{family: {family}, layers: {layers}, width: {width}, heads: {heads}, kv_heads: {heads}, ffn: {ffn}}}
data: {{train: {store}, sequence: {sequence}, tokenizer: byte}}
train: {{steps: {steps}, global_batch: {batch}, precision: {precision}, threads: 1, seed: 5}}
optim: {{name: adamw, lr: 1.0e-3}}
log: {{tensorboard: false, trace_from: {trace_from}, trace_steps: {trace_steps}}}
"""
WARM = 3  # steps that do not count: connections, first forms
DP = dict(family="llama", layers=8, width=512, heads=8, ffn=1536, sequence=256, batch=16, precision="bf16")
TP = dict(family="llama", layers=4, width=512, heads=8, ffn=1536, sequence=256, batch=16, precision="bf16")
EP = dict(family="mixtral", layers=8, width=512, heads=8, ffn=512, sequence=512, batch=16, precision="bf16")
EP_KEYS = ["model.experts=8", "model.expert_choices=2", "train.micro_batch=1", "parallel.pp=2", "parallel.ep=2",
           "parallel.schedule=dualpipev"]
EXCHANGES = {"rows for experts, counts", "rows to experts", "rows back from experts", "gradients of rows of experts"}


def union(spans):
    total, end = 0.0, -1.0
    for a, b in sorted(spans):
        total += max(0.0, b - max(a, end))
        end = max(end, b)
    return total


class Bench:
    def __init__(self, build, folder, hosts, steps):
        self.build, self.folder, self.hosts, self.steps, self.runs = build, folder, hosts, steps, 0
        (folder / "text.txt").write_bytes(tools.corpus_bytes(2_000_000))
        tools.run([f"{build}/deepflow", "data", "tokenize", "--tokenizer", "byte", "--out", folder / "text.h5",
                   folder / "text.txt"])

    def train(self, model, *options, trace=False, ranks=2):
        self.runs += 1
        out = self.folder / f"run{self.runs}"
        recipe = self.folder / f"run{self.runs}.yaml"
        recipe.write_text(RECIPE.format(store=self.folder / "text.h5", steps=WARM + self.steps,
                                        trace_from=WARM + 1 if trace else 0, trace_steps=self.steps, **model))
        command = [f"{self.build}/deepflow", "train", recipe, f"run.dir={out}", *options]
        tools.run(self.hosts.mpirun(command, ranks))
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        seconds = tools.median([line["seconds"] for line in lines if "loss" in line][WARM:])
        return model["batch"] * model["sequence"] / seconds, out / "trace.json"

    def exposed(self, trace, ranks=2, names=None):
        """Milliseconds a step and rank: communication under way, and the compute thread waiting for it."""
        events = [e for e in json.loads(trace.read_text())["traceEvents"]
                  if e["ph"] == "X" and (names is None or e["name"] in names)]
        kinds = {kind: [union([(e["ts"], e["ts"] + e["dur"]) for e in events if e["pid"] == rank and e["cat"] == kind])
                        for rank in range(ranks)] for kind in ("communication", "waiting")}
        return {kind: sum(us) / ranks / self.steps * 1e-3 for kind, us in kinds.items()}


def measure_dp(bench, rounds):
    found = []
    for _ in range(rounds):
        rate, trace = bench.train(DP, "parallel.dp=2", trace=True)
        found.append({"tokens_per_s": rate, **bench.exposed(trace)})
    result = {key: tools.median([f[key] for f in found]) for key in found[0]}
    return {**result, "exposed": tools.median([f["waiting"] / f["communication"] for f in found])}


def measure_tp(bench, rounds):
    found = {overlap: [] for overlap in (True, False)}
    for _ in range(rounds):
        for overlap in found:
            found[overlap].append(
                bench.train(TP, "parallel.tp=2", "parallel.sp=true", f"parallel.tp_overlap={str(overlap).lower()}")[0])
    return {"overlapped": tools.median(found[True]), "at_once": tools.median(found[False]),
            "gain": tools.median([a / b for a, b in zip(found[True], found[False])])}


def measure_ep(bench, rounds):
    """Both ranks of a pair that shares experts compute the same stage, each on a host of its own."""
    found = {overlap: [] for overlap in (True, False)}
    for _ in range(rounds):
        for overlap in found:
            rate, trace = bench.train(EP, *EP_KEYS, f"parallel.ep_overlap={str(overlap).lower()}", trace=True, ranks=4)
            figures = bench.exposed(trace, 4, EXCHANGES)
            found[overlap].append({"tokens_per_s": rate, **figures,
                                   "exposed": figures["waiting"] / figures["communication"]})
    before, after = ({key: tools.median([f[key] for f in found[overlap]]) for key in found[overlap][0]}
                     for overlap in (False, True))
    return {"before": before, "after": after,
            "gain": tools.median([a["tokens_per_s"] / b["tokens_per_s"] for a, b in zip(found[True], found[False])])}


def print_ep(results):
    tools.print_table(["Gbit/s", "ep tokens/s at once", "overlapped", "gain", "waiting ms at once", "overlapped",
                       "exposed at once", "overlapped"],
                      [[f"{gbit:g}", ep["before"]["tokens_per_s"], ep["after"]["tokens_per_s"], ep["gain"],
                        ep["before"]["waiting"], ep["after"]["waiting"], ep["before"]["exposed"],
                        ep["after"]["exposed"]] for gbit, ep in results.items()])


def print_dp_and_tp(results):
    tools.print_table(["Gbit/s", "dp tokens/s", "communication ms", "waiting ms", "exposed", "tp tokens/s", "at once",
                       "gain"],
                      [[f"{gbit:g}", dp["tokens_per_s"], dp["communication"], dp["waiting"], dp["exposed"],
                        tp["overlapped"], tp["at_once"], tp["gain"]] for gbit, (dp, tp) in results.items()])


def main():
    args = tools.arguments(("--steps", dict(type=int, default=8)), ("--rounds", dict(type=int, default=3)),
                           ("--gbit", dict(type=float, nargs="*", default=[10.0, 5.0, 2.0])),
                           ("--ep-gbit", dict(type=float, nargs="*", default=[2.0, 1.0])))
    if not two_hosts.is_inside() and (why := two_hosts.missing()):
        print(why)
        tools.finish({"skipped": why})
        return
    two_hosts.enter()
    results, ep_results = {}, {}
    with tempfile.TemporaryDirectory() as name:
        hosts = two_hosts.TwoHosts(name)
        bench = Bench(args.build, pathlib.Path(name), hosts, args.steps)
        for gbit in args.gbit:
            hosts.set_rate(gbit)
            results[gbit] = (measure_dp(bench, args.rounds), measure_tp(bench, args.rounds))
        for gbit in args.ep_gbit:
            hosts.set_rate(gbit)
            ep_results[gbit] = measure_ep(bench, args.rounds)
    figures = {}
    if results:
        print_dp_and_tp(results)
        dp, tp = results[args.gbit[0]]
        figures |= {"dp_exposed": dp["exposed"], "tp_gain": tp["gain"]}
    if ep_results:
        print_ep(ep_results)
        ep = ep_results[args.ep_gbit[-1]]
        figures |= {"ep_exposed_before": ep["before"]["exposed"], "ep_exposed_after": ep["after"]["exposed"],
                    "ep_gain": ep["gain"]}
    tools.finish(figures)


if __name__ == "__main__":
    main()
