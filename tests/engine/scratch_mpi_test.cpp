#include "tests/engine/measured_memory.h"
#include "tests/parallel/mpi_test.h"
#include <cstdio>
namespace deepflow {
namespace {
using namespace testing;
TEST(Scratch, Table) {
  Communicator& all = test_world().all();
  const char* which = std::getenv("WHICH");
  for (const Recompute policy : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
    TinyOptions o;
    o.heads = 4; o.layers = 4; o.width = 64; o.ffn = 192; o.sequence = 128; o.text = some_text(400);
    o.train.global_batch = 16; o.train.micro_batch = 1; o.experts = 8; o.balance.capacity = 1.5;
    o.recompute = policy;
    const std::string w = which ? which : "tp";
    if (const char* f = std::getenv("FAMILY")) o.family = f;
    if (const char* f = std::getenv("OPT")) o.optim.name = f, o.optim.block = 8;
    if (const char* f = std::getenv("PREC")) o.train.precision = f;
    if (std::getenv("BIG")) o.width = 256, o.heads = 8, o.kv_heads = 4, o.ffn = 704, o.sequence = 256, o.train.micro_batch = 4, o.train.bucket_elements = 1 << 18, o.train.global_batch = 16 * all.size();
    const int n = all.size();
    if (w == "tp") o.parallel.tp = n, o.parallel.sp = false;
    if (w == "sp") o.parallel.tp = n, o.parallel.sp = true;
    if (w == "cp") o.parallel.cp = n;
    if (w == "ul") o.parallel.cp = n, o.parallel.cp_method = ContextMethod::kUlysses;
    if (w == "pp") o.parallel.pp = n;
    if (w == "gp") o.parallel.pp = n, o.parallel.schedule = "gpipe";
    if (w == "zb") o.parallel.pp = n, o.parallel.schedule = "zb_h1";
    if (w == "zv") o.parallel.pp = n, o.parallel.vp = 2, o.layers = 8, o.parallel.schedule = "zb_v";
    if (w == "il") o.parallel.pp = n, o.parallel.vp = 2, o.layers = 8;
    if (w == "dv") o.parallel.pp = n, o.parallel.vp = 2, o.layers = 8, o.parallel.schedule = "dualpipev";
    if (w[0] == 'z' && w[1] <= '3') o.parallel.zero = w[1] - '0';
    if (const char* e = std::getenv("EP")) o.parallel.ep = std::atoi(e);
    if (const char* e = std::getenv("ETP")) o.parallel.etp = std::atoi(e);
    const MeasuredMemory m = measure_memory(o, all);
    for (int r = 0; r < all.size(); ++r) {
      if (std::getenv("SHORT") && r != all.size() - 1 && r != 1) continue;
      double v[4] = {};
      if (r == all.rank()) v[0] = m.state, v[1] = m.expected_state, v[2] = m.activations, v[3] = m.expected_activations;
      auto s = sum_doubles(all, v, "v");
      if (all.rank() == 0) std::printf("%s policy %d rank %d state %.0f exp %.0f (%+.0f) act %.0f exp %.0f (%+.0f %+.1f%%)\n", w.c_str(), (int)policy, r, s[0], s[1], s[0]-s[1], s[2], s[3], s[2]-s[3], 100*(s[2]/s[3]-1));
    }
  }
}
}
}
