#include "checkpoint/blockstore/tensor_parts.h"
#include "checkpoint/blockstore/verify.h"
#include "checkpoint/checkpointer.h"
#include "core/memory.h"
#include "tests/checkpoint/shared_scratch.h"
#include "tests/parallel/mpi_test.h"

#include <gtest/gtest.h>

#include <numeric>

namespace deepflow {
namespace {

using testing::SharedScratch;

Communicator& world() { return test_world().all(); }
const ThreadPool kPool(1);

constexpr int64_t kRows = 12, kCols = 700, kExperts = 4, kOfExpert = 70'000;  // an expert is more than a block

// What ranks still owe others of two gradients: of a matrix, whose rows `parts` ranks share, and of experts, each of
// which only some batch-axis ranks have. Small integers, so that sums are exact.
class Residuals final : public StateOwner {
 public:
  // ranks = contributors x parts; every expert is with ranks / expert_ranks of them.
  Residuals(int rank, int ranks, int parts, int expert_ranks, int seed) {
    const int64_t rows = kRows / parts, experts = kExperts / expert_ranks;
    const int64_t row = rank % parts * rows, expert = rank % expert_ranks * experts;
    entries_ = {
        {"residuals/matrix", {kRows, kCols}, {{{row, 0}, {row + rows, kCols}}}, rank / parts, {}, Reshard::kSum},
        {"residuals/experts",
         {kExperts, kOfExpert},
         {{{expert, 0}, {expert + experts, kOfExpert}}},
         rank,
         {},
         Reshard::kSum}};
    for (StateEntry& e : entries_) {
      std::vector<float>& values = values_.emplace_back(static_cast<size_t>(e.boxes.front().num_elements()));
      for (size_t i = 0; i < values.size(); ++i)
        values[i] = static_cast<float>((i * 7 + static_cast<size_t>(rank + 3) * static_cast<size_t>(seed) * 13) % 101);
    }
  }
  void visit_state(const StateVisitor& visit) override {
    for (size_t i = 0; i < entries_.size(); ++i) {
      StateEntry entry = entries_[i];
      entry.value = Tensor::wrap(values_[i].data(), {static_cast<int64_t>(values_[i].size())}, DType::kF32);
      visit(entry);
    }
  }
  const std::vector<std::vector<float>>& values() const { return values_; }

  // Every element of both, added up over the contributors.
  static std::vector<double> totals(const Residuals* mine) {
    std::vector<double> all(static_cast<size_t>(kRows * kCols + kExperts * kOfExpert), 0);
    for (size_t e = 0; mine && e < 2; ++e) {
      const StateEntry& entry = mine->entries_[e];
      const auto begin =
          static_cast<size_t>(entry.boxes.front().lo[0] * entry.shape.cols() + (e == 0 ? 0 : kRows * kCols));
      for (size_t i = 0; i < mine->values_[e].size(); ++i) all[begin + i] += static_cast<double>(mine->values_[e][i]);
    }
    return sum_doubles(world(), all, "totals");
  }

 private:
  std::vector<StateEntry> entries_;
  std::vector<std::vector<float>> values_;
};

struct Layout {
  int ranks, parts, expert_ranks;
};

std::vector<Layout> layouts() {
  std::vector<Layout> found;
  for (int ranks = 1; ranks <= world().size(); ranks *= 2)
    for (int parts = 1; parts <= ranks; parts *= 2)
      for (int experts = 1; experts <= ranks; experts *= 2) found.push_back({ranks, parts, experts});
  return found;
}

// The first ranks of the world with state, and a communicator; on the others nothing.
struct Part {
  Part(const Layout& l, int seed) {
    const bool is_one = world().rank() < l.ranks;
    comm = world().split(is_one ? 0 : 1, world().rank(), "part");
    if (is_one) state = std::make_unique<Residuals>(world().rank(), l.ranks, l.parts, l.expert_ranks, seed);
  }
  std::unique_ptr<Communicator> comm;
  std::unique_ptr<Residuals> state;
};

CheckpointOptions options_in(const std::string& dir) {
  CheckpointOptions o;
  o.dir = dir;
  o.every = 1;
  return o;
}

// As tools see it.
std::vector<double> totals_on_disk(const std::string& path) {
  EXPECT_TRUE(verify_checkpoint(path).is_whole());
  const StoredCheckpoint checkpoint(path);
  TensorReader reader(checkpoint);
  std::vector<double> all;
  for (const char* name : {"residuals/matrix", "residuals/experts"}) {
    const StoredTensor& tensor = *checkpoint.manifest().find(name);
    std::vector<char> values;
    read_part(reader, tensor, whole_box(tensor.shape), values);
    for (int64_t i = 0; i < tensor.shape.num_elements(); ++i) all.push_back(number_at(values.data(), DType::kF32, i));
  }
  return all;
}

TEST(Sums, AreConservedWhenContributorsRegroup) {
  for (const Layout& from : layouts()) {
    const SharedScratch folder(world());
    Part old(from, 1);
    if (old.state) {
      Checkpointer checkpointer(*old.comm, options_in(folder / "c"), kPool);
      checkpointer.save(*old.state, 1, "{}");
      for (const SaveReport& report : checkpointer.reports(true)) ASSERT_EQ(report.error, "");
    }
    world().barrier("saved")->wait_host();
    const std::vector<double> expected = Residuals::totals(old.state.get());
    EXPECT_EQ(totals_on_disk(folder / "c/step-00000001"), expected);
    EXPECT_GT(std::accumulate(expected.begin(), expected.end(), 0.0), 0);
    for (const Layout& to : layouts()) {
      SCOPED_TRACE(fmt::format("{} ranks, {} parts, {} with experts -> {}, {}, {}", from.ranks, from.parts,
                               from.expert_ranks, to.ranks, to.parts, to.expert_ranks));
      Part now(to, 2);
      if (now.state) {
        ASSERT_TRUE(Checkpointer(*now.comm, options_in(folder / "c"), kPool).resume(*now.state));
      }
      EXPECT_EQ(Residuals::totals(now.state.get()), expected);
      const bool is_same =
          std::tie(from.ranks, from.parts, from.expert_ranks) == std::tie(to.ranks, to.parts, to.expert_ranks);
      if (is_same && now.state) {
        EXPECT_TRUE(now.state->values() == old.state->values());
      }
    }
  }
}

}  // namespace
}  // namespace deepflow
