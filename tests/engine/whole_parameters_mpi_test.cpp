#include "engine/whole_parameters.h"
#include "tests/engine/tiny_run.h"
#include "tests/parallel/mpi_test.h"

#include <gtest/gtest.h>

namespace deepflow {
namespace {

using namespace testing;

Communicator& world() { return test_world().all(); }

std::vector<ParallelOptions> layouts(int ranks) {
  std::vector<ParallelOptions> found(4);
  found[1].tp = ranks;
  found[2].pp = ranks;
  found[3].cp = ranks;
  if (ranks >= 4) {
    found.resize(6);
    found[4].tp = 2, found[4].pp = 2;
    found[5].tp = 2, found[5].shard = 1;
  }
  return found;
}

int64_t bytes_of_largest_bucket(ResidentStore& store) {
  int64_t most = 0;
  for (const Bucket& bucket : store.buckets()) most = std::max(most, bucket.num_elements);
  return most * static_cast<int64_t>(sizeof(float));
}

int64_t bytes_of_largest_parameter(const ParameterRegistry& registry) {
  int64_t most = 0;
  for (const Parameter& p : registry.parameters()) most = std::max(most, p.spec.shape.num_elements());
  return most * static_cast<int64_t>(sizeof(float));
}

void expect_those_of_one_rank(const std::string& family) {
  TinyOptions o;
  o.family = family;
  o.experts = 8;
  o.layers = 8;
  TinyRun alone(o);
  for (ParallelOptions& parallel : layouts(world().size()))
    for (const int zero : {1, 3}) {
      parallel.zero = zero;
      if (family == "mixtral") parallel.ep = world().size() / parallel.pp;
      o.parallel = parallel;
      TinyRun run(o, &world());
      Machine machine = run.session().machine();
      WholeParameters whole(machine);
      const MemoryStats before = machine.runtime.memory().stats();
      for (const Parameter& p : run.session().registry().parameters()) {
        const Tensor value = whole(p);
        ASSERT_EQ(value.defined(), world().rank() == 0) << p.spec.name;
        if (world().rank() > 0) continue;
        const Parameter& theirs = *alone.session().registry().find(p.spec.name);
        const Tensor expected = alone.session().store().master(theirs);
        ASSERT_EQ(value.shape(), p.spec.shape) << p.spec.name;
        ASSERT_EQ(std::memcmp(value.raw(), expected.raw(), expected.num_bytes()), 0) << p.spec.name;
      }
      // A bucket in use and the one before, and on the first rank a parameter with its parts.
      const int64_t whole_ones = world().rank() == 0 ? 2 * bytes_of_largest_parameter(run.session().registry()) : 0;
      const int64_t gathered = zero == 3 ? 2 * bytes_of_largest_bucket(run.session().store()) : 0;
      EXPECT_LE(machine.runtime.memory().stats().peak,
                std::max(before.peak, before.in_use + gathered + whole_ones + 4096));
    }
}

// Initial values do not depend on the layout, so they are what must come together.
TEST(WholeParameters, AreThoseOfOneRankOnTheFirstAndNothingOnTheOthers) {
  for (const char* family : {"llama", "mixtral"}) expect_those_of_one_rank(family);
}

}  // namespace
}  // namespace deepflow
