#include "kernels/cpu/dropout.h"

#include "kernels/cpu/simd.h"

namespace deepflow::cpu::DF_ISA {
namespace {

constexpr int64_t kBlocks = 16;          // Philox calls side by side
constexpr int64_t kWords = 4 * kBlocks;  // columns that they serve

// random_words (core/random.h) of kBlocks neighbouring column blocks, in column order; plain loops over lanes that the
// compiler turns into vectors.
void random_columns(uint64_t key, uint64_t step, uint64_t row, uint64_t first_block, uint32_t* words) {
  uint32_t c0[kBlocks], c1[kBlocks], c2[kBlocks], c3[kBlocks];
  for (int64_t i = 0; i < kBlocks; ++i) {
    const uint64_t high = (step << 24) ^ (first_block + static_cast<uint64_t>(i));
    c0[i] = static_cast<uint32_t>(row);
    c1[i] = static_cast<uint32_t>(row >> 32);
    c2[i] = static_cast<uint32_t>(high);
    c3[i] = static_cast<uint32_t>(high >> 32);
  }
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int64_t i = 0; i < kBlocks; ++i) {
      const uint64_t p0 = uint64_t{0xD2511F53u} * c0[i], p1 = uint64_t{0xCD9E8D57u} * c2[i];
      const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1[i] ^ k0;
      const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3[i] ^ k1;
      c1[i] = static_cast<uint32_t>(p1);
      c3[i] = static_cast<uint32_t>(p0);
      c0[i] = n0;
      c2[i] = n2;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int64_t i = 0; i < kBlocks; ++i) {
    words[4 * i] = c0[i];
    words[4 * i + 1] = c1[i];
    words[4 * i + 2] = c2[i];
    words[4 * i + 3] = c3[i];
  }
}

}  // namespace

template <class T>
void dropout(const DropoutRows<T>& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const T* x = a.x + row * a.cols;
    T* y = a.y + row * a.cols;
    for (int64_t first = 0; first < a.cols; first += kWords) {
      uint32_t words[kWords];
      float keep[kWords];
      random_columns(a.key, a.step, static_cast<uint64_t>(a.row_ids[row]), static_cast<uint64_t>(first / 4), words);
      for (int64_t j = 0; j < kWords; ++j) keep[j] = (words[j] >> 8) >= a.threshold ? a.scale : 0.0f;
      const int64_t cols = a.cols - first < kWords ? a.cols - first : kWords;
      for_each_vector(cols, [&](int64_t j, auto lanes) {
        // Selected, not multiplied: what is dropped is 0 even where x is not finite.
        const F32 factor = load(keep + j), value = load(x + first + j, lanes) * factor;
        store(y + first + j, select(factor == zero(), zero(), value), lanes);
      });
    }
  }
}

template void dropout(const DropoutRows<float>&, int64_t, int64_t);
template void dropout(const DropoutRows<BF16>&, int64_t, int64_t);

}  // namespace deepflow::cpu::DF_ISA
