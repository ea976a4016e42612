#include "core/error.h"
#include "optim/matrix_sets.h"
#include "tests/parallel/mpi_test.h"
#include "tests/parallel/some_parameters.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace deepflow {
namespace {

using namespace testing;

// Parameters split in every way over tp, sharded over ds, on all ranks of the test.
struct Parts {
  explicit Parts(int tp, UpdateUnit unit)
      : mesh(test_world().all(), {{"pp", 1}, {"dr", 1}, {"ds", test_world().size() / tp}, {"cp", 1}, {"tp", tp}}) {
    const auto add = [&](const std::string& name, const Shape& shape, int dim, int64_t units, bool even = true) {
      ParameterSpec spec = parameter(name, shape);
      spec.placement = {{dim, {"tp"}, units, even}};
      registry.add(std::move(spec));
    };
    add("uneven", {37, 16}, 0, 37, false);  // so that buckets differ
    add("rows", {32, 20}, 0, 8);
    add("shared", {12, 20}, 0, 1);  // the same on all
    add("cols", {24, 40}, 1, 8);
    add("experts", {4, 8, 12}, 2, 4);
    registry.add(parameter("norm", {200}, Role::kNorm));
    registry.freeze(mesh.coord());
    const std::vector<int> rank_of_chunk = {0};
    domains = std::make_unique<GradientDomains>(mesh, registry, rank_of_chunk);
    ResidentStoreOptions options;
    options.bucket_elements = 900;
    options.zero = 1;
    options.unit = unit;
    options.domains = domains.get();
    store = std::make_unique<ResidentStore>(runtime, registry, options);
  }
  std::vector<MatrixSet> find() {
    return find_matrix_sets(
        {runtime, *store, store->pieces(), {}, domains.get()}, [](auto&) { return true; },
        [](int64_t rows, int64_t cols) { return static_cast<double>(rows * cols); });
  }

  Runtime runtime{{.threads = 1}};
  Mesh mesh;
  ParameterRegistry registry;
  std::unique_ptr<GradientDomains> domains;
  std::unique_ptr<ResidentStore> store;
};

template <class F>
void for_each_layout(F&& f) {
  for (const UpdateUnit unit : {UpdateUnit::kRow, UpdateUnit::kMatrix})
    for (int tp = 1; tp <= test_world().size(); tp *= 2) {
      Parts parts(tp, unit);
      f(parts, tp, unit);
    }
}

TEST(MatrixSets, CoverEveryMatrixOnce) {
  for_each_layout([](Parts& parts, int, UpdateUnit) {
    for (const MatrixSet& set : parts.find()) {
      std::vector<int> times(static_cast<size_t>(set.rows * set.cols));
      for (const MatrixPart& part : set.parts)
        for (int64_t r = part.row_begin; r < part.row_end; ++r)
          for (int64_t c = part.col_begin; c < part.col_end; ++c) ++times[static_cast<size_t>(r * set.cols + c)];
      EXPECT_EQ(times, std::vector<int>(times.size(), 1)) << set.parameter->spec.name;
      EXPECT_EQ(set.part().rank, test_world().rank());
    }
  });
}

TEST(MatrixSets, HaveEveryElementOfTheRanksPieces) {
  for_each_layout([](Parts& parts, int, UpdateUnit) {
    std::map<size_t, int64_t> elements;
    for (const MatrixSet& set : parts.find()) {
      EXPECT_EQ(set.begin, elements[set.piece]) << set.parameter->spec.name;  // in order
      elements[set.piece] += set.part().num_elements();
    }
    const std::vector<ShardPiece> pieces = parts.store->pieces();
    for (size_t i = 0; i < pieces.size(); ++i)
      EXPECT_EQ(elements[i], pieces[i].end - pieces[i].begin) << pieces[i].parameter->spec.name;
  });
}

TEST(MatrixSets, AreWholeWithoutTensorParallelismWhereShardsAre) {
  for_each_layout([](Parts& parts, int tp, UpdateUnit unit) {
    for (const MatrixSet& set : parts.find()) {
      const bool is_vector = set.cols == 1;
      if (unit == UpdateUnit::kMatrix && !is_vector && (tp == 1 || set.parameter->spec.name == "shared")) {
        EXPECT_FALSE(set.is_split()) << set.parameter->spec.name;
      }
    }
  });
}

// What ranks believe of a set must be the same, or their messages would not meet.
TEST(MatrixSets, AreTheSameOnAllTheirRanks) {
  for_each_layout([](Parts& parts, int, UpdateUnit) {
    std::string mine;
    std::set<std::pair<int, int64_t>> turns;
    for (const MatrixSet& set : parts.find()) {
      std::string text = set.parameter->spec.name;
      bool has_owner = false;
      for (const MatrixPart& p : set.parts) {
        text += fmt::format(" {}:{}-{}x{}-{}", p.rank, p.row_begin, p.row_end, p.col_begin, p.col_end);
        has_owner = has_owner || p.rank == set.owner;
      }
      EXPECT_TRUE(has_owner) << text;
      if (set.is_split()) {
        EXPECT_TRUE(turns.emplace(set.owner, set.turn).second) << text;
      }
      for (size_t i = 0; i < set.parts.size(); ++i)
        mine += fmt::format("{} owner {} turn {}\n", text, set.owner, set.turn);
    }
    std::map<std::string, int> said;
    for (const std::string& text : gather_texts(test_world().all(), mine, "sets"))
      for (size_t at = 0; at < text.size();) {
        const size_t end = text.find('\n', at);
        ++said[text.substr(at, end - at)];
        at = end + 1;
      }
    // Each of k ranks says it k times; experts of the same parts say it for each matrix.
    for (const auto& [text, times] : said) {
      const auto parts_of = std::count(text.begin(), text.end(), ':');
      EXPECT_EQ(times % (parts_of * parts_of), 0) << text;
    }
  });
}

}  // namespace
}  // namespace deepflow
