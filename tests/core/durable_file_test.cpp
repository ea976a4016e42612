#include "core/durable_file.h"

#include "core/error.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace deepflow {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class DurableFileTest : public ::testing::Test {
 protected:
  DurableFileTest() {
    std::string pattern = (fs::temp_directory_path() / "deepflow_durable_XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  ~DurableFileTest() override { fs::remove_all(folder_); }

  static std::string content(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  size_t num_files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  template <class F>
  static std::string storage_error(F action) {
    try {
      action();
    } catch (const StorageError& error) {
      return error.what();
    }
    return "";
  }
  std::string folder_;
};

TEST_F(DurableFileTest, AppearsWholeAtCommit) {
  const std::string path = folder_ + "/a";
  DurableFile file(path);
  file.append("one ");
  file.append("two");
  EXPECT_FALSE(fs::exists(path));
  file.commit();
  EXPECT_EQ(content(path), "one two");
  EXPECT_EQ(file.size(), 7);
  EXPECT_EQ(num_files(), 1u);
}

TEST_F(DurableFileTest, WithoutCommitTheOlderFileStays) {
  const std::string path = folder_ + "/a";
  write_file_durably(path, "old");
  {
    DurableFile file(path);
    file.append("new");
  }
  EXPECT_EQ(content(path), "old");
  EXPECT_EQ(num_files(), 1u);
  write_file_durably(path, "newer");
  EXPECT_EQ(content(path), "newer");
}

TEST_F(DurableFileTest, MissingFolderAndFolderAreRefused) {
  EXPECT_THAT(storage_error([&] { DurableFile file(folder_ + "/none/a"); }), HasSubstr("its folder does not exist"));
  EXPECT_THAT(storage_error([&] { DurableFile file{std::string(folder_)}; }), HasSubstr("is a folder"));
}

TEST_F(DurableFileTest, FullDeviceIsOneClearLine) {
  const int full = ::open("/dev/full", O_WRONLY);
  ASSERT_GE(full, 0);
  const std::string bytes(5000, 'x');
  EXPECT_EQ(storage_error([&] { write_all(full, bytes.data(), bytes.size(), "run/a"); }),
            "run/a: no space left on device while writing 5000 bytes; free space and run again");
  ::close(full);
}

TEST_F(DurableFileTest, FullDiskKeepsTheOlderFileAndFreesItsSpace) {
  if (::mount("tmpfs", folder_.c_str(), "tmpfs", 0, "size=256k") != 0) GTEST_SKIP() << "cannot mount a small tmpfs";
  const std::string path = folder_ + "/a";
  write_file_durably(path, "old");
  const std::string message = storage_error([&] { write_file_durably(path, std::string(1 << 20, 'x')); });
  EXPECT_THAT(message, HasSubstr("no space left on device while writing 1048576 bytes"));
  EXPECT_EQ(content(path), "old");
  EXPECT_EQ(num_files(), 1u);
  write_file_durably(path, std::string(100000, 'y'));
  EXPECT_EQ(content(path).size(), 100000u);
  EXPECT_EQ(::umount(folder_.c_str()), 0);
}

}  // namespace
}  // namespace deepflow
