#include "tests/twin/warp.h"

#include <cstring>
#include <string>

namespace twin {

namespace {

float bf16_half(uint32_t pair, int half) {
  const uint32_t bits = half ? pair & 0xffff0000u : pair << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// D += A B with A 16 x 16 row-major, B 16 x 8 column-major and D 16 x 8, spread over the lanes as the PTX manual
// draws it for mma.m16n8k16.
void multiply_tile(const Thread* lanes) {
  float a[16][16], b[16][8];
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    const unsigned group = lane / 4, pair = lane % 4 * 2;
    const WarpCall& call = *lanes[lane].call;
    for (int half = 0; half < 2; ++half) {
      a[group][pair + half] = bf16_half(call.a[0], half);
      a[group + 8][pair + half] = bf16_half(call.a[1], half);
      a[group][pair + 8 + half] = bf16_half(call.a[2], half);
      a[group + 8][pair + 8 + half] = bf16_half(call.a[3], half);
      b[pair + half][group] = bf16_half(call.b[0], half);
      b[pair + 8 + half][group] = bf16_half(call.b[1], half);
    }
  }
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    for (unsigned r = 0; r < 4; ++r) {
      const unsigned row = lane / 4 + r / 2 * 8, column = lane % 4 * 2 + r % 2;
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
      lanes[lane].call->d[r] += sum;
    }
  }
}

std::string where(const Thread& t) {
  return std::string(operation_name(t.call->operation)) + " at " + t.place.file_name() + ":" +
         std::to_string(t.place.line());
}

}  // namespace

const char* operation_name(WarpOperation operation) {
  static const char* const names[] = {"sync_warp", "shuffle", "ballot", "mma"};
  return names[static_cast<int>(operation)];
}

bool complete_warp_operation(const Thread* lanes) {
  const WarpCall& first = *lanes[0].call;
  for (unsigned lane = 1; lane < kWarpSize; ++lane) {
    if (lanes[lane].call->operation != first.operation || lanes[lane].place.line() != lanes[0].place.line()) {
      report(Kind::kWarp,
             "lanes of one warp stand at different operations: " + where(lanes[0]) + " and " + where(lanes[lane]));
      return false;
    }
  }
  uint32_t votes = 0;
  for (unsigned lane = 0; lane < kWarpSize; ++lane)
    votes |= static_cast<uint32_t>(lanes[lane].call->value != 0) << lane;
  if (first.operation == WarpOperation::kMma) multiply_tile(lanes);
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    WarpCall& call = *lanes[lane].call;
    call.result = call.operation == WarpOperation::kShuffle ? lanes[call.source].call->value : votes;
  }
  return true;
}

}  // namespace twin
