#include "kernels/ops/rope.h"

#include "core/error.h"
#include "tests/kernels/test_store.h"

#include <fmt/format.h>

#include <cmath>

namespace deepflow {
namespace {

using testing::expect_gradient;
using testing::OpBench;
using testing::relative_error;
using testing::values_of;

struct Golden {
  int64_t position;
  float cos[6], sin[6];
};

void expect_table(const RopeTable& table, const std::vector<int64_t>& columns, const std::vector<Golden>& goldens) {
  const int64_t half = table.cos.cols();
  for (const Golden& g : goldens)
    for (size_t k = 0; k < columns.size(); ++k) {
      const int64_t at = g.position * half + columns[k];
      EXPECT_NEAR(table.cos.data<float>()[at], g.cos[k], 1e-6) << g.position << " " << columns[k];
      EXPECT_NEAR(table.sin.data<float>()[at], g.sin[k], 1e-6) << g.position << " " << columns[k];
    }
}

// Goldens: LlamaRotaryEmbedding of transformers on the CPU.
TEST(RopeTable, EqualsTransformers) {
  OpBench bench;
  RopeOptions options;
  options.head_dim = 64;
  options.max_positions = 1024;
  expect_table(make_rope_table(bench.runtime, options), {0, 1, 8, 16, 21, 31},
               {{0, {1, 1, 1, 1, 1, 1}, {0, 0, 0, 0, 0, 0}},
                {7,
                 {0.753902256f, 0.511449277f, 0.764842212f, 0.997551024f, 0.999862254f, 0.999999583f},
                 {0.656986594f, -0.859313488f, 0.64421767f, 0.0699428469f, 0.0165988542f, 0.000933464966f}},
                {100,
                 {0.862318873f, 0.917596221f, -0.839071512f, 0.540302336f, 0.972014427f, 0.99991107f},
                 {-0.506365657f, -0.397513688f, -0.54402113f, 0.841470957f, 0.234921083f, 0.01333482f}},
                {1000,
                 {0.562379062f, -0.584592879f, 0.862318873f, -0.839071512f, -0.717758358f, 0.991121769f},
                 {0.826879561f, 0.811326802f, -0.506365657f, -0.54402113f, 0.696292281f, 0.132957265f}}});
}

TEST(RopeTable, EqualsTransformersWithLlama3Scaling) {
  OpBench bench;
  RopeOptions options;
  options.head_dim = 128;
  options.max_positions = 8192;
  options.theta = 500000;
  options.llama3 = Llama3RopeScaling{};
  expect_table(make_rope_table(bench.runtime, options), {0, 1, 16, 32, 37, 63},
               {{1,
                 {0.540302336f, 0.686146915f, 0.99929297f, 0.999999881f, 1, 1},
                 {0.841470957f, 0.727463007f, 0.0375971682f, 0.000524846022f, 6.34151438e-05f, 3.06892588e-07f}},
                {100,
                 {0.862318873f, 0.975965977f, -0.814453125f, 0.998623013f, 0.999979913f, 1},
                 {-0.506365657f, -0.217922851f, -0.580229402f, 0.0524605103f, 0.0063414718f, 3.0689258e-05f}},
                {1000,
                 {0.562379062f, -0.585993946f, 0.995670974f, 0.865401089f, 0.997989953f, 0.99999994f},
                 {0.826879561f, -0.81031543f, -0.0929479748f, 0.501079738f, 0.0633726493f, 0.000306892587f}},
                {8000,
                 {0.0656451285f, 0.292136341f, 0.735319257f, -0.49133411f, 0.874049127f, 0.99999702f},
                 {0.997843027f, 0.956376672f, -0.677720845f, -0.870971203f, 0.485837579f, 0.00245513814f}}});
}

// Goldens: cos and sin of position * inv_freq, times the attention factor, from transformers'
// ROPE_INIT_FUNCTIONS["yarn"]. DeepSeek-V2-Lite (mscale 0.707) and DeepSeek-V3 (1.0) share the frequencies, and a
// factor of 1.
TEST(RopeTable, EqualsTransformersWithYarn) {
  OpBench bench;
  RopeOptions options;
  options.max_positions = 16384;
  options.yarn = YarnRopeScaling{};
  const std::vector<int64_t> columns = {0, 5, 10, 13, 20, 31};
  for (const double mscale : {0.707, 1.0}) {
    options.yarn->mscale = options.yarn->mscale_all_dim = mscale;
    EXPECT_EQ(yarn_attention_factor(*options.yarn), 1);
    expect_table(make_rope_table(bench.runtime, options), columns,
                 {{1,
                   {0.540302336f, 0.972014427f, 0.998419285f, 0.99983114f, 0.999999702f, 1},
                   {0.841470957f, 0.234921068f, 0.0562044941f, 0.0183771104f, 0.000790569349f, 3.33380353e-06f}},
                  {100,
                   {0.862318873f, 0.15120846f, 0.790131867f, -0.263856411f, 0.996876597f, 0.99999994f},
                   {-0.506365657f, -0.988501906f, -0.612936914f, 0.964561999f, 0.0789746121f, 0.000333380362f}},
                  {5000,
                   {0.154668406f, -0.261387259f, -0.00188819831f, -0.707715273f, -0.688589394f, 0.999861062f},
                   {-0.987966418f, -0.965234041f, -0.999998212f, -0.706497729f, -0.725151479f, 0.0166682471f}},
                  {16000,
                   {-0.991381407f, 0.662854493f, 0.31481576f, 0.306372434f, 0.996578991f, 0.998577714f},
                   {0.13100706f, -0.748748243f, 0.949152827f, -0.951911747f, 0.0826458037f, 0.053315565f}}});
  }
  options.yarn->mscale_all_dim = 0.707;
  EXPECT_NEAR(yarn_attention_factor(*options.yarn), 1.0857263992561355, 1e-12);
  expect_table(make_rope_table(bench.runtime, options), columns,
               {{1,
                 {0.58662051f, 1.05534172f, 1.08401012f, 1.08554304f, 1.08572602f, 1.08572638f},
                 {0.91360724f, 0.255059987f, 0.0610227026f, 0.0199525133f, 0.000858341984f, 3.61959837e-06f}},
                {100,
                 {0.936242342f, 0.16417101f, 0.857867002f, -0.286475867f, 1.08233523f, 1.08572626f},
                 {-0.549774528f, -1.07324255f, -0.665481806f, 1.04725039f, 0.0857448205f, 0.000361959857f}},
                {5000,
                 {0.167927563f, -0.283795029f, -0.00205006683f, -0.768385112f, -0.747619689f, 1.08557558f},
                 {-1.07266116f, -1.04798007f, -1.08572447f, -0.7670632f, -0.787316084f, 0.0180971548f}},
                {16000,
                 {-1.07636893f, 0.719678581f, 0.341803789f, 0.332636625f, 1.08201206f, 1.08418214f},
                 {0.142237827f, -0.81293571f, 1.03052032f, -1.03351569f, 0.0897307321f, 0.0578861162f}}});
}

TEST(RopeTable, EqualsTransformersWithYarnWithoutMscale) {
  OpBench bench;
  RopeOptions options;
  options.head_dim = 128;
  options.max_positions = 16384;
  options.theta = 1000000;
  options.yarn = YarnRopeScaling{4, 32768};
  EXPECT_NEAR(yarn_attention_factor(*options.yarn), 1.138629436111989, 1e-12);
  const std::vector<int64_t> columns = {0, 16, 25, 30, 40, 63};
  const RopeTable table = make_rope_table(bench.runtime, options);
  expect_table(table, columns,
               {{1,
                 {0.615204155f, 1.13806021f, 1.13861978f, 1.13862884f, 1.13862944f, 1.13862944f},
                 {0.958123624f, 0.0360006243f, 0.00470450521f, 0.00121191249f, 5.06200304e-05f, 3.53242058e-07f}},
                {100,
                 {0.981861651f, -1.13838589f, 1.04281509f, 1.13218594f, 1.13861811f, 1.13862944f},
                 {-0.576562822f, -0.0235511921f, 0.457180291f, 0.120962583f, 0.00506198686f, 3.53242067e-05f}},
                {5000,
                 {0.176109999f, 0.58202523f, -0.268817961f, 0.651738644f, 1.1106149f, 1.13862813f},
                 {-1.12492764f, 0.978633523f, 1.10644197f, -0.933656096f, 0.251020998f, 0.00176620972f}},
                {16000,
                 {-1.12881601f, -1.12259316f, -1.12836647f, -0.280580372f, 0.862518847f, 1.13861537f},
                 {0.149168491f, -0.190424636f, -0.152532279f, -1.10351789f, 0.743329167f, 0.00565184979f}}});
  options.yarn->attention_factor = 2;
  const RopeTable told = make_rope_table(bench.runtime, options);
  for (int64_t i = 0; i < table.cos.num_elements(); i += 999)
    EXPECT_NEAR(told.cos.data<float>()[i], table.cos.data<float>()[i] * 2 / 1.138629436f, 1e-6);
}

TEST(RopeTable, LinearScalingStretchesPositions) {
  OpBench bench;
  RopeOptions plain, stretched;
  plain.max_positions = stretched.max_positions = 64;
  stretched.linear_factor = 4;
  const RopeTable a = make_rope_table(bench.runtime, plain), b = make_rope_table(bench.runtime, stretched);
  for (int64_t j = 0; j < 32; ++j) EXPECT_NEAR(a.cos.data<float>()[5 * 32 + j], b.cos.data<float>()[20 * 32 + j], 1e-6);
}

struct RopeBench : OpBench {
  RopeBench(DType dtype, int64_t rows, int64_t head_dim, const RuntimeOptions& options = {}) : OpBench(dtype, options) {
    RopeOptions rope_options;
    rope_options.head_dim = head_dim;
    rope_options.max_positions = 512;
    table = make_rope_table(runtime, rope_options);
    positions = empty({rows}, DType::kI32);
    for (int64_t r = 0; r < rows; ++r) positions.data<int32_t>()[r] = static_cast<int32_t>((r * 37 + 3) % 512);
  }
  Var run(Tape* tape, const Var& x, int64_t heads) {
    ForwardContext context = forward(tape);
    context.rows.positions = positions;
    return rope(context, x, heads, table);
  }
  // sign -1: rotated back.
  std::vector<double> reference(const std::vector<double>& x, int64_t cols, int64_t heads, double sign) {
    std::vector<double> y = x;
    const int64_t half = table.cos.cols();
    for (int64_t r = 0; r < positions.num_elements(); ++r)
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t j = 0; j < half; ++j) {
          const int64_t at = positions.data<int32_t>()[r] * half + j;
          const double c = static_cast<double>(table.cos.data<float>()[at]);
          const double s = sign * static_cast<double>(table.sin.data<float>()[at]);
          const size_t first = static_cast<size_t>(r * cols + h * 2 * half + j),
                       second = first + static_cast<size_t>(half);
          y[first] = x[first] * c - x[second] * s;
          y[second] = x[second] * c + x[first] * s;
        }
    return y;
  }
  RopeTable table;
  Tensor positions;
};

TEST(Rope, RotatesTheFirstHeadsInPlaceAndBack) {
  for (const CpuIsa isa : testing::runnable_isas())
    for (const DType dtype : testing::kComputeDtypes)
      for (const int64_t head_dim : {8, 20, 64, 128}) {
        SCOPED_TRACE(fmt::format("{} {} head_dim {}", name_of(isa), name_of(dtype), head_dim));
        RuntimeOptions options;
        options.cpu_isa = isa;
        RopeBench bench(dtype, 5, head_dim, options);
        const int64_t cols = 4 * head_dim;  // three heads rotate, the fourth stays
        const double tolerance = testing::rounding_tolerance(dtype, 2e-7);
        Tensor x = bench.normal("x", {5, cols}, dtype);
        const Tensor dy = bench.normal("dy", {5, cols}, dtype);
        const auto before = values_of(x), dy_before = values_of(dy);
        Tape tape;
        const Var leaf = tape.leaf(x);
        const Var y = bench.run(&tape, leaf, 3);
        EXPECT_EQ(y.value.raw(), x.raw());
        EXPECT_LT(relative_error(values_of(y.value), bench.reference(before, cols, 3, 1)), tolerance);
        BackwardContext backward = bench.backward();
        tape.root(y, {dy, nullptr}, backward);
        tape.backward(backward);
        EXPECT_EQ(values_of(dy), dy_before) << "others hold dy";
        const auto dx = values_of(tape.take(leaf).value);
        EXPECT_LT(relative_error(dx, bench.reference(dy_before, cols, 3, -1)), tolerance);
        EXPECT_TRUE(std::equal(dx.end() - head_dim, dx.end(), dy_before.end() - head_dim));
      }
}

TEST(Rope, GradientMatchesDifferenceQuotients) {
  RuntimeOptions options;
  options.threads = 1;
  RopeBench bench(DType::kF32, 3, 12, options);
  Tensor x = bench.normal("x", {3, 36}, DType::kF32);
  const Tensor dy = bench.normal("dy", {3, 36}, DType::kF32);
  const auto weights = values_of(dy);
  Tape tape;
  const Var leaf = tape.leaf(bench.cast(x, DType::kF32));
  const Var y = bench.run(&tape, leaf, 2);
  BackwardContext backward = bench.backward();
  tape.root(y, {bench.cast(dy, DType::kF32), nullptr}, backward);
  tape.backward(backward);
  const auto loss = [&] {
    const auto value = values_of(bench.run(nullptr, {bench.cast(x, DType::kF32)}, 2).value);
    double sum = 0;
    for (size_t i = 0; i < value.size(); ++i) sum += value[i] * weights[i];
    return sum;
  };
  expect_gradient(x, tape.take(leaf).value, loss, 1e-2, 1e-4);
}

TEST(Rope, ColumnViewOfAWiderMatrixKeepsTheRest) {
  RopeBench bench(DType::kF32, 4, 16);
  Tensor wide = bench.normal("wide", {4, 48}, DType::kF32);
  const auto before = values_of(wide);
  const auto expected = bench.reference(values_of(wide.column_range(16, 32)), 16, 1, 1);
  bench.run(nullptr, {wide.column_range(16, 32)}, 1);
  EXPECT_LT(relative_error(values_of(wide.column_range(16, 32)), expected), 2e-7);
  for (int64_t r = 0; r < 4; ++r)
    for (int64_t c = 0; c < 48; ++c)
      if (c < 16 || c >= 32) {
        EXPECT_EQ(wide.data<float>()[r * 48 + c], static_cast<float>(before[static_cast<size_t>(r * 48 + c)]));
      }
}

TEST(Rope, PositionBeyondTheTableIsRefused) {
  RopeBench bench(DType::kF32, 2, 16);
  bench.positions.data<int32_t>()[1] = 512;
  EXPECT_THROW(bench.run(nullptr, {bench.normal("x", {2, 16}, DType::kF32)}, 1), DataError);
}

TEST(Rope, ZeroRowsPass) {
  RopeBench bench(DType::kF32, 0, 16);
  EXPECT_EQ(bench.run(nullptr, {bench.empty({0, 16}, DType::kF32)}, 1).value.num_elements(), 0);
}

}  // namespace
}  // namespace deepflow
