#include "core/mapped_file.h"

#include "core/error.h"

#include <gtest/gtest.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace deepflow {
namespace {

constexpr int64_t kElements = int64_t{1} << 20;

std::string folder() { return ::testing::TempDir(); }

// Resident KiB of the mapping that holds `address`.
int64_t resident_kib(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  const auto wanted = reinterpret_cast<unsigned long>(address);
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long begin, end;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) inside = begin <= wanted && wanted < end;
    long kib;
    if (inside && std::sscanf(line.c_str(), "Rss: %ld", &kib) == 1) return kib;
  }
  return -1;
}

TEST(MappedFile, HoldsZerosThenWhatWasWrittenInMemoryOrOut) {
  const auto file = MappedFile::create(folder(), 2 * kElements * 4);
  Tensor a = MappedFile::tensor(file, 0, {kElements}, DType::kF32);
  Tensor b = MappedFile::tensor(file, kElements * 4, {kElements}, DType::kF32);
  EXPECT_TRUE(std::all_of(a.data<float>(), a.data<float>() + kElements, [](float x) { return x == 0; }));
  for (int64_t i = 0; i < kElements; ++i) a.data<float>()[i] = static_cast<float>(i), b.data<float>()[i] = 7;
  EXPECT_GE(resident_kib(a.raw()), 8 * 1024 - 64);
  MappedFile::page_out(a);
  EXPECT_LE(resident_kib(a.raw()), 4 * 1024 + 64);
  MappedFile::page_out(b);
  EXPECT_LE(resident_kib(a.raw()), 64);
  for (int64_t i = 0; i < kElements; ++i) {
    ASSERT_EQ(a.data<float>()[i], static_cast<float>(i));
    ASSERT_EQ(b.data<float>()[i], 7);
  }
}

TEST(MappedFile, LivesAsLongAsItsTensors) {
  Tensor t;
  {
    const auto file = MappedFile::create(folder(), 4096);
    t = MappedFile::tensor(file, 64, {16}, DType::kF32);
  }
  t.data<float>()[15] = 3;
  EXPECT_EQ(t.data<float>()[15], 3);
}

TEST(MappedFile, LeavesNoNameBehind) {
  const std::string own = folder() + "/mapped_file_test_folder";
  std::filesystem::create_directory(own);
  const auto file = MappedFile::create(own, 4096);
  EXPECT_TRUE(std::filesystem::is_empty(own));
  std::filesystem::remove(own);
}

TEST(MappedFile, RefusesAtOnceWhatDoesNotFit) {
  struct statvfs disk;
  ASSERT_EQ(statvfs(folder().c_str(), &disk), 0);
  const int64_t size = static_cast<int64_t>(disk.f_blocks) * static_cast<int64_t>(disk.f_frsize);
  EXPECT_THROW(MappedFile::create(folder(), 2 * size), StorageError);
  EXPECT_THROW(MappedFile::create("/no/such/folder", 4096), StorageError);
}

TEST(MappedFile, MayBeEmpty) {
  const auto file = MappedFile::create(folder(), 0);
  MappedFile::page_out(MappedFile::tensor(file, 0, {0}, DType::kF32));
}

}  // namespace
}  // namespace deepflow
