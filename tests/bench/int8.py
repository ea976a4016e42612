#!/usr/bin/env python3
# bench: int8 products (train.precision int8) beside bf16: the products of GPT-2, and its whole training step
import cpu_step
import bench_tools as tools


def products(build, rounds):
    results = tools.last_json(tools.run([f"{build}/bench_int8_products", "--rounds", rounds]).stdout)
    rows = [[f"{r['m']} x {r['n']} x {r['k']}", r["bf16_gflops"], r["int8_gflops"], r["ratio"], r["difference"]]
            for r in results]
    tools.print_table(["rows x out x in", "bf16 GFLOP/s", "int8 GFLOP/s", "ratio", "relative difference"], rows)
    packing = results[0]["gelements_packed_per_s"]
    tools.print_table(["form, 10^9 elements/s", ""], [[name, rate] for name, rate in packing.items()])
    return {
        "product_ratio": min(r["ratio"] for r in results),
        "int8_gflops": tools.median([r["int8_gflops"] for r in results]),
        "bf16_gflops": tools.median([r["bf16_gflops"] for r in results]),
    }


def step(build, name, steps, rounds):
    _, yaml, batch, sequence = cpu_step.SHAPES[name]
    results = {"bf16": [], "int8": []}
    for _ in range(rounds):
        for precision, list_of in results.items():
            list_of.append(tools.last_json(tools.run([f"{build}/bench_cpu_step", "--model", yaml, "--batch", batch,
                                                      "--sequence", sequence, "--steps", steps, "--precision",
                                                      precision]).stdout))
    rows = [[f"{name} {precision}", tools.median([r["seconds"] for r in list_of]),
             tools.median([r["gemm_share"] for r in list_of]), tools.median([r["rss"] for r in list_of]) / 1e9,
             list_of[-1]["last_loss"]] for precision, list_of in results.items()]
    tools.print_table(["", "s/step", "share of the bf16 GEMM rate", "rss, GB", "last loss"], rows)
    return {
        "bf16_seconds": rows[0][1],
        "int8_seconds": rows[1][1],
        "step_ratio": tools.median([b["seconds"] / i["seconds"] for b, i in zip(results["bf16"], results["int8"])]),
        "gemm_share": rows[1][2],
        "rss_ratio": rows[1][3] / rows[0][3],
    }


def main():
    args = tools.arguments(("--shape", dict(choices=list(cpu_step.SHAPES), default="gpt2_t256")),
                           ("--steps", dict(type=int, default=7)), ("--rounds", dict(type=int, default=3)))
    figures = products(args.build, 40)
    tools.finish(figures | step(args.build, args.shape, args.steps, args.rounds))


if __name__ == "__main__":
    main()
