#include "parallel/parallel_options.h"

#include "parallel/schedule_registry.h"

namespace deepflow {
namespace {

constexpr int kMostRanks = 1 << 15;  // of an axis: products of all axes stay far below 2^63
constexpr int kMostChunks = 64;

}  // namespace

void declare(OptionGroup& group, ParallelOptions& options) {
  group.add("dp", options.dp)
      .help("data-parallel ranks, which split each batch; 0: all ranks that the other axes leave")
      .unit("ranks")
      .range(0, kMostRanks);
  group.add("tp", options.tp)
      .help("tensor-parallel ranks, which split heads, hidden features and the vocabulary")
      .unit("ranks")
      .source("Shoeybi et al. 2019, Megatron-LM, section 3")
      .range(1, kMostRanks);
  group.add("sp", options.sp)
      .help("with tp: the rows of norms and of the residual stream are split over the same ranks")
      .source("Korthikanti et al. 2022, section 4.2");
  group.add("tp_overlap", options.tp_overlap)
      .help("with sp: products go chunk by chunk while the rows of the next are under way");
  group.add("cp", options.cp)
      .help("context-parallel ranks, which split every sequence")
      .unit("ranks")
      .range(1, kMostRanks);
  group.add("cp_method", options.cp_method)
      .values({{"ring", ContextMethod::kRing}, {"ulysses", ContextMethod::kUlysses}})
      .help("ring: keys and values go round; ulysses: all-to-all, each rank has some heads of whole sequences")
      .source("Liu et al. 2023, Ring Attention; Jacobs et al. 2023, DeepSpeed-Ulysses");
  group.add("ep", options.ep)
      .help("expert-parallel ranks, each with some of the experts; ep x etp divides dp x cp x tp")
      .unit("ranks")
      .source("Lepikhin et al. 2020, GShard; Liu et al. 2025, MoE parallel folding, arXiv 2504.14960")
      .range(1, kMostRanks);
  group.add("etp", options.etp)
      .help("ranks that split the hidden features of each expert")
      .unit("ranks")
      .range(1, kMostRanks);
  group.add("ep_overlap", options.ep_overlap)
      .help("with ep and dualpipev: while a pass waits for rows of experts, the other one of its woven pair computes")
      .source("DeepSeek-AI 2024, DeepSeek-V3, section 3.2.1");
  group.add("pp", options.pp).help("pipeline stages").unit("ranks").range(1, kMostRanks);
  group.add("vp", options.vp)
      .help("model chunks of each pipeline stage; 0: as few as the schedule can do with")
      .source("Narayanan et al. 2021, section 2.2")
      .range(0, kMostChunks);
  group.add("schedule", options.schedule)
      .help("order of the micro-batches in the pipeline; `deepflow schedule show` draws it")
      .one_of(schedule_names())
      .when_absent("1f1b, or interleaved_1f1b with vp > 1");
  group.add("layers", options.layers)
      .help("layers of each chunk of the pipeline, in order; empty: by their cost, head and embedding counted")
      .at_least(0);
  group.add("zero", options.zero)
      .help(
          "what is sharded over the data-parallel (and context-parallel) ranks; 0: nothing, 1: optimizer state and the "
          "update, 2: gradients as well, 3: parameters as well")
      .source("Rajbhandari et al. 2020, ZeRO, section 5")
      .range(0, 3);
  group.add("shard", options.shard)
      .help("data-parallel ranks among which ZeRO shards, for instance those of a node; 0: all")
      .unit("ranks")
      .source("Zhao et al. 2023, PyTorch FSDP, section 3.2.2, hybrid sharding")
      .at_least(0);
  group.add("comm_timeout", options.comm.timeout)
      .help("a collective that makes no progress for so long stops the job and names the rank that is missing")
      .unit("s")
      .above(0);
  group.add("check_collectives", options.comm.check_collectives)
      .help(
          "compare name, kind and size of every collective over the ranks before it runs; slow, finds mismatched "
          "calls");
  group.add("flight_dir", options.comm.flight_dir)
      .help("folder in which a failing rank leaves the list of its last collectives, flight-RANK.txt")
      .when_absent("not written");
}

}  // namespace deepflow
