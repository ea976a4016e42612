#include "kernels/ops/pack_forms.h"

#include "tests/kernels/test_store.h"

#include <cstring>

namespace deepflow::testing {
namespace {

// The parts of group g one below the other.
Tensor matrix_of(OpBench& bench, Pack& pack, int64_t g) {
  Tensor matrix = bench.empty({pack.group_rows(), pack.cols}, DType::kF32);
  const auto members = static_cast<int64_t>(pack.members.size());
  const int64_t part = pack.group_rows() / members;
  for (int64_t r = 0; r < matrix.rows(); ++r)
    std::memcpy(matrix.data<float>() + r * pack.cols,
                bench.store.master(pack).data<float>() + ((r / part * pack.groups + g) * part + r % part) * pack.cols,
                static_cast<size_t>(pack.cols) * sizeof(float));
  return matrix;
}

std::vector<uint8_t> bytes_of(const Tensor& t) { return {t.data<uint8_t>(), t.data<uint8_t>() + t.num_elements()}; }

// Extents with and without panels, one member and two, one group and several.
TEST(PackForms, OfAGroupAreThoseOfItsMatrix) {
  for (const DType dtype : kComputeDtypes) {
    OpBench bench(dtype);
    int packs = 0;
    for (const Shape& shape : {Shape{5, 64, 128}, {1, 64, 64}, {3, 20, 30}, {2, 96, 64}, {4, 128, 192}})
      for (const int members : {1, 2}) {
        SCOPED_TRACE(shape.to_string() + " " + name_of(dtype) + " x " + std::to_string(members));
        Pack& pack = bench.store.add_normal(std::to_string(packs++), shape, Role::kExpert, 1, members);
        ASSERT_EQ(pack.groups, shape[0]);
        for (const Form form : {Form::kForward, Form::kInputGrad}) {
          const Tensor forms = bench.store.acquire(pack, form, *bench.stream);
          const size_t bytes = packed_weight_bytes(bench.runtime, dtype, pack.group_rows(), pack.cols, form);
          for (int64_t g = 0; g < pack.groups; ++g) {
            Tensor expected = bench.empty({static_cast<int64_t>(bytes)}, DType::kU8);
            pack_weight(bench.runtime, matrix_of(bench, pack, g), dtype, form, expected);
            const Tensor mine = form_of_group(forms, pack.groups, g);
            ASSERT_EQ(reinterpret_cast<uintptr_t>(mine.raw()) % 64, 0u);
            EXPECT_EQ(bytes_of(mine.flat_range(0, static_cast<int64_t>(bytes))), bytes_of(expected)) << g;
          }
        }
      }
  }
}

TEST(PackForms, RowsOfAGroupAreAPartOfEachMember) {
  OpBench bench;
  Pack& pack = bench.store.add_normal("w", {3, 4, 5}, Role::kExpert, 1, 2);
  const Tensor& master = bench.store.master(pack);
  ASSERT_EQ(pack.group_rows(), 8);
  for (int64_t m = 0; m < 2; ++m)
    for (int64_t g = 0; g < 3; ++g) {
      const Tensor rows = rows_of_group(pack, master, m, g);
      EXPECT_EQ(rows.rows(), 4);
      EXPECT_EQ(rows.raw(), master.data<float>() + pack.members[static_cast<size_t>(m)]->pack_offset + g * 4 * 5);
    }
}

TEST(PackForms, TilesOfAMasterAreWrittenIntoThePanelsOfTheirGroup) {
  for (const CpuIsa isa : runnable_isas()) {
    OpBench bench(DType::kBF16, {.cpu_isa = isa});
    Pack& pack = bench.store.add_normal("w", {3, 128, 192}, Role::kExpert, 1, 2);
    const Tensor& master = bench.store.master(pack);
    const Tensor forward = bench.empty({pack.num_elements()}, DType::kBF16),
                 input_grad = bench.empty(forward.shape(), DType::kBF16);
    const WeightPanels panels = panels_of(pack, forward.data<BF16>(), input_grad.data<BF16>());
    ASSERT_EQ(panels.rows(), pack.rows);
    for (int64_t row = pack.rows - 64; row >= 0; row -= 64)
      for (const int64_t col : {64, 128, 0})
        write_panels(bench.runtime, master.data<float>(), panels, row, 64, col, 64);
    for (int64_t g = 0; g < 3; ++g) {
      const Tensor w = matrix_of(bench, pack, g);
      const BF16 *f = forward.data<BF16>() + g * 256 * 192, *d = input_grad.data<BF16>() + g * 256 * 192;
      for (int64_t r = 0; r < 256; ++r)
        for (int64_t c = 0; c < 192; ++c) {
          const uint16_t expected = to_bf16(w.data<float>()[r * 192 + c]).bits;
          ASSERT_EQ(f[r / 64 * 192 * 64 + c / 2 * 128 + r % 64 * 2 + c % 2].bits, expected)
              << g << " " << r << " " << c;
          ASSERT_EQ(d[c / 64 * 256 * 64 + r / 2 * 128 + c % 64 * 2 + r % 2].bits, expected)
              << g << " " << r << " " << c;
        }
    }
  }
}

}  // namespace
}  // namespace deepflow::testing
