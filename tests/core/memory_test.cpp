#include "core/memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace deepflow {
namespace {

TEST(CachingHostAllocator, ReusesWhatWasFreedWithoutAskingTheSystem) {
  CachingHostAllocator memory(size_t{4} << 20);
  void* a = memory.allocate(1 << 20);
  memory.free(a);
  const int64_t maps = memory.stats().num_maps;
  for (int i = 0; i < 100; ++i) memory.free(memory.allocate(1 << 20));
  EXPECT_EQ(memory.stats().num_maps, maps);
  EXPECT_EQ(memory.stats().in_use, 0);
}

TEST(CachingHostAllocator, AlignsAndNeverOverlaps) {
  CachingHostAllocator memory(size_t{2} << 20);
  std::mt19937 rng(1);
  struct Block {
    unsigned char* p;
    size_t n;
    unsigned char value;
  };
  std::vector<Block> live;
  for (int i = 0; i < 4000; ++i) {
    if (live.empty() || rng() % 3 != 0) {
      const size_t n = rng() % 50000 + 1;
      auto* p = static_cast<unsigned char*>(memory.allocate(n));
      ASSERT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0u);
      const auto value = static_cast<unsigned char>(i);
      std::memset(p, value, n);
      live.push_back({p, n, value});
    } else {
      const size_t k = rng() % live.size();
      for (size_t j = 0; j < live[k].n; j += 97) ASSERT_EQ(live[k].p[j], live[k].value);
      memory.free(live[k].p);
      live.erase(live.begin() + static_cast<long>(k));
    }
  }
  for (const Block& b : live) memory.free(b.p);
  EXPECT_EQ(memory.stats().in_use, 0);
}

TEST(CachingHostAllocator, MergesNeighboursSoThatALargeBlockFitsAgain) {
  CachingHostAllocator memory(size_t{4} << 20);
  std::vector<void*> blocks;
  for (int i = 0; i < 64; ++i) blocks.push_back(memory.allocate(64 << 10));
  for (size_t i = 0; i < blocks.size(); i += 2) memory.free(blocks[i]);
  for (size_t i = 1; i < blocks.size(); i += 2) memory.free(blocks[i]);
  const int64_t maps = memory.stats().num_maps;
  memory.free(memory.allocate(size_t{4} << 20));
  EXPECT_EQ(memory.stats().num_maps, maps);
}

TEST(CachingHostAllocator, KeepsThePeak) {
  CachingHostAllocator memory;
  void* a = memory.allocate(1000);
  void* b = memory.allocate(1000);
  memory.free(a);
  memory.free(b);
  EXPECT_EQ(memory.stats().peak, 2 * 1024);
}

}  // namespace
}  // namespace deepflow
