#include "kernels/cuda/device.cuh"
#include "tests/twin/mutants/mutants.h"

#include <cmath>

namespace mutants {

namespace {

constexpr int kThreads = 256;

// Lanes are reversed through shared memory that only their warp uses; kDistance 32 crosses into the next warp.
template <bool kSync, int kDistance>
__global__ void __launch_bounds__(kThreads) exchange(const float* x, float* y) {
  DEV_SHARED(float, buffer, kThreads);
  const unsigned t = threadIdx.x, i = blockIdx.x * kThreads + t;
  buffer[t] = x[i];
  if constexpr (kSync) dev::sync_warp();
  y[i] = buffer[t ^ kDistance];
}

template <bool kSync, int kDistance>
cudaError_t run_exchange(const Buffers& b) {
  return dev_launch(exchange<kSync, kDistance>, kN / kThreads, kThreads, 0, b.stream, b.x, b.y);
}

bool exchange_correct(const Result& r) {
  for (int i = 0; i < kN; ++i) {
    if (r.y[i] != r.x[i ^ 31]) return false;
  }
  return true;
}

enum Fault { kNone, kBallotInBranch, kReturnBeforeBallot, kDifferentOperations, kDifferentPlaces };

// counter[w] = how many of the warp's x are positive, y = each positive x moved to the front of its warp's 32.
template <int kFault>
__global__ void __launch_bounds__(kThreads) compact(const float* x, float* y, uint32_t* counter) {
  const unsigned i = blockIdx.x * kThreads + threadIdx.x;
  const float v = x[i];
  if constexpr (kFault == kReturnBeforeBallot) {
    if (threadIdx.x == 77) return;
  }
  uint32_t votes = 0;
  if constexpr (kFault == kBallotInBranch) {
    if (v > 0) votes = dev::ballot(true);
  } else if constexpr (kFault == kDifferentOperations) {
    votes = v > 0 ? dev::ballot(true) : dev::shuffle(1u, 0);
  } else if constexpr (kFault == kDifferentPlaces) {
    if (v > 0) {
      votes = dev::ballot(true);
    } else {
      votes = dev::ballot(false);
    }
  } else {
    votes = dev::ballot(v > 0);
  }
  if (dev::lane() == 0) counter[i / 32] = static_cast<uint32_t>(dev::count_bits(votes));
  if (v > 0) y[i / 32 * 32 + dev::count_bits(votes & ((1u << dev::lane()) - 1))] = v;
}

template <int kFault>
cudaError_t run_compact(const Buffers& b) {
  return dev_launch(compact<kFault>, kN / kThreads, kThreads, 0, b.stream, b.x, b.y, b.counter);
}

bool compact_correct(const Result& r) {
  for (int w = 0; w < kN / 32; ++w) {
    int found = 0;
    for (int i = w * 32; i < w * 32 + 32; ++i) {
      if (r.x[i] > 0 && r.y[w * 32 + found++] != r.x[i]) return false;
    }
    if (r.counter[w] != static_cast<uint32_t>(found)) return false;
  }
  return true;
}

__global__ void shuffles(const float* x, float* y) {
  const float v = x[threadIdx.x];
  y[threadIdx.x] = dev::shuffle_up(v, 3) + dev::shuffle_down(v, 5) + dev::shuffle(v, 7) + dev::shuffle_xor(v, 9);
}

bool shuffles_correct(const Result& r) {
  for (int i = 0; i < 32; ++i) {
    const float want = r.x[i < 3 ? i : i - 3] + r.x[i > 26 ? i : i + 5] + r.x[7] + r.x[i ^ 9];
    if (r.y[i] != want) return false;
  }
  return true;
}

// y[16,8] = A[16,16] B[16,8], A and B^T row-major in x, rounded to bf16.
__global__ void tile_product(const float* x, float* y) {
  DEV_SHARED(__nv_bfloat16, tiles, 384);
  for (int i = dev::lane(); i < 384; i += 32) tiles[i] = dev::from_float<__nv_bfloat16>(x[i]);
  dev::sync_warp();
  const int group = dev::lane() / 4, pair = dev::lane() % 4 * 2;
  auto two = [&](int i) { return dev::ld_vec<uint32_t>(tiles + i); };
  const uint32_t a[4] = {two(group * 16 + pair), two((group + 8) * 16 + pair), two(group * 16 + pair + 8),
                         two((group + 8) * 16 + pair + 8)};
  const uint32_t b[2] = {two(256 + group * 16 + pair), two(256 + group * 16 + pair + 8)};
  float d[4] = {0, 0, 0, 0};
  dev::mma_m16n8k16_bf16(d, a, b);
  for (int r = 0; r < 4; ++r) y[(group + r / 2 * 8) * 8 + pair + r % 2] = d[r];
}

bool tile_product_correct(const Result& r) {
  auto rounded = [&](int i) { return static_cast<double>(__bfloat162float(__float2bfloat16_rn(r.x[i]))); };
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      double want = 0;
      for (int k = 0; k < 16; ++k) want += rounded(row * 16 + k) * rounded(256 + column * 16 + k);
      if (!(std::fabs(want - r.y[row * 8 + column]) < 1e-4)) return false;
    }
  }
  return true;
}

}  // namespace

std::vector<Case> warp_cases() {
  using twin::Kind;
  return {
      {"WarpExchange", {}, run_exchange<true, 31>, exchange_correct, false},
      {"Compaction", {}, run_compact<kNone>, compact_correct, false},
      {"Shuffles",
       {},
       [](const Buffers& b) { return dev_launch(shuffles, 1, 32, 0, b.stream, b.x, b.y); },
       shuffles_correct,
       false},
      {"TileProduct",
       {},
       [](const Buffers& b) { return dev_launch(tile_product, 1, 32, 0, b.stream, b.x, b.y); },
       tile_product_correct,
       false},
      {"WarpExchangeWithoutSync", Kind::kRace, run_exchange<false, 31>},
      {"SyncWarpBetweenWarps", Kind::kRace, run_exchange<true, 32>},
      {"BallotInBranch", Kind::kDeadlock, run_compact<kBallotInBranch>},
      {"ReturnBeforeBallot", Kind::kDeadlock, run_compact<kReturnBeforeBallot>},
      {"DifferentOperationsInOneWarp", Kind::kWarp, run_compact<kDifferentOperations>},
      {"BallotsOfTwoBranches", Kind::kWarp, run_compact<kDifferentPlaces>},
  };
}

}  // namespace mutants
