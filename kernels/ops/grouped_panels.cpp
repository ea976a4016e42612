#include "kernels/ops/grouped_panels.h"

#include "kernels/cpu/panel_product.h"
#include "kernels/ops/gemm_cache.h"
#include "kernels/ops/pack_forms.h"
#include "kernels/ops/weight_panels.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>
#include <vector>

namespace deepflow {
namespace {

constexpr int64_t kTileRows = 6;           // of the kernel: cuts of rows are at multiples of it
constexpr int64_t kTaskBytes = 256 << 10;  // of A, which stays in a core's cache
constexpr int64_t kTaskPanels = 8;
constexpr int64_t kTasksPerThread = 8;     // at least, where there is enough to do
constexpr int64_t kPackedRowBytes = 1024;  // of a column in a block of rows that a weight gradient sums at once
constexpr int64_t kTaskColumns = 256;      // of dy
constexpr int64_t kGapBytes = 64;          // between packed steps of dy, whose distance must be no power of two

int64_t depth_of(DType dtype) { return dtype == DType::kBF16 ? 2 : 1; }
int64_t size_of_element(DType dtype) { return static_cast<int64_t>(size_of(dtype)); }

// Bytes from panel to panel of an operand B [k, n], 0 where the kernel cannot multiply with it.
int64_t panel_bytes(Runtime& runtime, DType dtype, int64_t k, int64_t n) {
  GemmCache& cache = GemmCache::of(runtime);
  const bool products = dtype == DType::kF32 || (dtype == DType::kBF16 && cache.has_bf16());
  return products && k > 0 && n > 0 && k % depth_of(dtype) == 0 ? cache.panel_bytes(dtype, k, n) : 0;
}

// Rows of a group by a range of something that can be cut (panels or columns).
struct Task {
  int64_t group, row, rows, first, count, member;
  int64_t cost() const { return rows * count; }
};

// `most`, halved until no task of so many rows is more than its share of all the work.
int64_t share_of(int64_t rows, int64_t most, int64_t least, int64_t work, int threads) {
  while (most > least && rows * most * threads * kTasksPerThread > work) most /= 2;
  return most;
}

std::vector<Task> cut_rows(const RowGroups& rows, int64_t panels, int64_t most_rows, int threads) {
  std::vector<Task> tasks;
  for (int64_t g = 0; g < rows.num_groups(); ++g) {
    const int64_t size = rows.size(g), pieces = (size + most_rows - 1) / most_rows;
    if (size == 0) continue;
    const int64_t step = (size + pieces * kTileRows - 1) / (pieces * kTileRows) * kTileRows;
    const int64_t width = share_of(step, std::min(panels, kTaskPanels), 1, rows.begin.back() * panels, threads);
    for (int64_t panel = 0; panel < panels; panel += width)
      for (int64_t row = 0; row < size; row += step)
        tasks.push_back(
            {g, rows.first(g) + row, std::min(step, size - row), panel, std::min(width, panels - panel), 0});
  }
  return tasks;
}

std::vector<Task> cut_columns(const RowGroups& rows, const Pack& weight, int threads) {
  std::vector<Task> tasks;
  const auto members = static_cast<int64_t>(weight.members.size());
  const int64_t part = weight.group_rows() / members, work = rows.begin.back() * weight.group_rows();
  for (int64_t g = 0; g < rows.num_groups(); ++g) {
    const int64_t width = share_of(rows.size(g), kTaskColumns, kPanelBlock, work, threads);
    for (int64_t m = 0; m < members; ++m)
      for (int64_t col = 0; col < part; col += width)
        tasks.push_back({g, rows.first(g), rows.size(g), col, std::min(width, part - col), m});
  }
  return tasks;
}

// The largest first, so that the last ones end together.
void sort_by_cost(std::vector<Task>& tasks) {
  std::stable_sort(tasks.begin(), tasks.end(), [](const Task& a, const Task& b) { return a.cost() > b.cost(); });
}

const char* at(const Tensor& t, int64_t row, int64_t col) {
  return static_cast<const char*>(t.raw()) + (row * t.ld() + col) * size_of_element(t.dtype());
}

// What a task of a weight gradient needs beside its operands, for one thread.
template <class T>
struct Scratch {
  T *dy, *x;
};

template <class T>
class WeightGrad {
 public:
  WeightGrad(Runtime& runtime, const Tensor& dy, const Tensor& x, const Pack& weight, GradientTarget& dw)
      : runtime_(runtime),
        dy_(dy),
        x_(x),
        weight_(weight),
        dw_(dw),
        multiply_(DF_KERNEL(runtime.isa(), panel_product<T>)),
        pack_(DF_KERNEL(runtime.isa(), pack_steps<T>)) {}

  static int64_t scratch_bytes() {  // of a thread
    return size() * (kBlockRows / kDepth * step_of(kTaskColumns) + kBlockRows * kPanelBlock);
  }

  void run(std::vector<Task> tasks) {
    sort_by_cost(tasks);
    const int64_t packed_dy = kBlockRows / kDepth * step_of(kTaskColumns), each = scratch_bytes() / size();
    const Tensor scratch = Tensor::empty(runtime_.memory(), {runtime_.pool().size() * scratch_bytes()}, DType::kU8);
    std::atomic<size_t> next{0};
    runtime_.pool().run([&](int thread, int) {
      T* mine = static_cast<T*>(scratch.raw()) + thread * each;
      for (size_t i = next++; i < tasks.size(); i = next++) run(tasks[i], {mine, mine + packed_dy});
    });
  }

 private:
  static constexpr int64_t size() { return static_cast<int64_t>(sizeof(T)); }
  static constexpr int64_t kDepth = static_cast<int64_t>(sizeof(float)) / size();
  static constexpr int64_t step_of(int64_t cols) { return cols * kDepth + kGapBytes / size(); }  // of packed dy
  static constexpr int64_t kBlockRows = kPackedRowBytes / size();

  void run(const Task& t, Scratch<T> scratch) {
    const int64_t in = weight_.cols, part = weight_.group_rows() / static_cast<int64_t>(weight_.members.size());
    float* to = rows_of_group(weight_, dw_.value, t.member, t.group).data<float>() + t.first * in;
    if (t.rows == 0) {
      if (!dw_.accumulate) std::memset(to, 0, static_cast<size_t>(t.count * in) * sizeof(float));
      return;
    }
    const int64_t blocks = (t.rows + kBlockRows - 1) / kBlockRows;
    const int64_t step = (t.rows + blocks * kDepth - 1) / (blocks * kDepth) * kDepth;
    for (int64_t row = 0; row < t.rows; row += step)
      add_block(t.row + row, std::min(step, t.rows - row), t.member * part + t.first, t.count, scratch, to,
                dw_.accumulate || row > 0);
  }

  // Rows [row, row + rows) and columns [col, col + cols) of dy by all of x.
  void add_block(int64_t row, int64_t rows, int64_t col, int64_t cols, Scratch<T> scratch, float* to, bool accumulate) {
    const int64_t in = weight_.cols, steps = (rows + kDepth - 1) / kDepth;
    pack_(dy_.data<T>() + row * dy_.ld() + col, dy_.ld(), rows, cols, scratch.dy, step_of(cols));
    for (int64_t c = 0; c < in; c += kPanelBlock) {
      pack_(x_.data<T>() + row * x_.ld() + c, x_.ld(), rows, kPanelBlock, scratch.x, kPanelBlock * kDepth);
      multiply_({scratch.dy, kDepth, step_of(cols), cols, steps, scratch.x, kPanelBlock, to + c, DType::kF32, in,
                 accumulate});
    }
  }

  Runtime& runtime_;
  const Tensor &dy_, &x_;
  const Pack& weight_;
  GradientTarget& dw_;
  void (*multiply_)(const cpu::PanelProduct&);
  void (*pack_)(const T*, int64_t, int64_t, int64_t, T*, int64_t);
};

}  // namespace

bool grouped_panel_product(Runtime& runtime, const Tensor& a, const RowGroups& rows, const Tensor& packed, Tensor& c) {
  const int64_t k = a.cols(), n = c.cols(), depth = depth_of(a.dtype()), size = size_of_element(a.dtype());
  const int64_t stride = panel_bytes(runtime, a.dtype(), k, n);
  if (stride == 0 || (c.dtype() != DType::kF32 && c.dtype() != DType::kBF16)) return false;
  const int64_t panels = (n + kPanelBlock - 1) / kPanelBlock, group_bytes = packed.num_elements() / rows.num_groups();
  const int64_t most_rows = std::max(kTileRows, kTaskBytes / (k * size) / kTileRows * kTileRows);
  std::vector<Task> tasks = cut_rows(rows, panels, most_rows, runtime.pool().size());
  auto* multiply = a.dtype() == DType::kBF16 ? DF_KERNEL(runtime.isa(), panel_product<BF16>)
                                             : DF_KERNEL(runtime.isa(), panel_product<float>);
  const auto run = [&](const Task& t) {
    const char* b = static_cast<const char*>(packed.raw()) + t.group * group_bytes;
    for (int64_t panel = t.first; panel < t.first + t.count; ++panel) {
      const int64_t col = panel * kPanelBlock;
      multiply({at(a, t.row, 0), a.ld(), depth, t.rows, k / depth, b + panel * stride, std::min(kPanelBlock, n - col),
                const_cast<char*>(at(c, t.row, col)), c.dtype(), c.ld(), false});
    }
  };
  runtime.pool().parallel_for_dynamic(static_cast<int64_t>(tasks.size()),
                                      [&](int64_t i) { run(tasks[static_cast<size_t>(i)]); });
  return true;
}

int64_t grouped_panel_scratch(DType dtype, int64_t out, int64_t in, int threads) {
  if (out % kPanelBlock != 0 || in % kPanelBlock != 0) return 0;
  return threads * (dtype == DType::kBF16 ? WeightGrad<BF16>::scratch_bytes() : WeightGrad<float>::scratch_bytes());
}

bool grouped_panel_weight_grad(Runtime& runtime, const Tensor& dy, const Tensor& x, const RowGroups& rows,
                               const Pack& weight, GradientTarget& dw) {
  const int64_t part = weight.group_rows() / static_cast<int64_t>(weight.members.size());
  if (part % kPanelBlock != 0 || weight.cols % kPanelBlock != 0 ||
      panel_bytes(runtime, x.dtype(), kPackedRowBytes, weight.cols) == 0)
    return false;
  std::vector<Task> tasks = cut_columns(rows, weight, runtime.pool().size());
  if (x.dtype() == DType::kBF16)
    WeightGrad<BF16>(runtime, dy, x, weight, dw).run(std::move(tasks));
  else
    WeightGrad<float>(runtime, dy, x, weight, dw).run(std::move(tasks));
  return true;
}

}  // namespace deepflow
