#include "core/error.h"
#include "data/token_store.h"
#include "tests/data/token_store_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#ifdef __SANITIZE_ADDRESS__
// The library loses buffers of its own when it meets a full disk or damaged structures.
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5"; }  // NOLINT(bugprone-reserved-identifier)
#endif

namespace deepflow {
namespace {

using ::testing::HasSubstr;

TEST(TokenStoreWriter, FullDiskIsOneClearLineAndLeavesNothing) {
  TestFolder folder;
  if (::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=5m") != 0) GTEST_SKIP() << "cannot mount a small tmpfs";
  for (const int tokens : {1 << 22, (5 << 20) / 2 - 9000, (5 << 20) / 2 - 1500, (5 << 20) / 2 - 500}) {
    const auto documents = counting_documents({tokens / 4, tokens / 4, tokens / 4, tokens / 4});
    const std::string message = message_of<StorageError>([&] { write_store(folder.file("a.h5"), documents); });
    EXPECT_THAT(message, HasSubstr(folder.file("a.h5") + ": no space left on device while writing")) << tokens;
    EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << tokens;
  }
  write_store(folder.file("a.h5"), counting_documents({1 << 20}));  // the space is free again
  open_token_store(folder.file("a.h5"))->verify();
  EXPECT_EQ(::umount(folder.path().c_str()), 0);
}

}  // namespace
}  // namespace deepflow
