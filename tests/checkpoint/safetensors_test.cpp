#include "checkpoint/safetensors.h"

#include "checkpoint/safetensors_writer.h"
#include "core/error.h"
#include "tests/checkpoint/scratch_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <numeric>

namespace deepflow {
namespace {

using ::testing::HasSubstr;
using testing::ScratchFolder;

std::string length_prefix(uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(length >> (8 * i)));
  return bytes;
}

std::string file_bytes(const std::string& header, size_t data_bytes) {
  return length_prefix(header.size()) + header + std::string(data_bytes, 'x');
}

// The message of the DataError that reading `header` with so much data brings.
std::string error_of(const std::string& header, int64_t data_bytes) {
  try {
    parse_safetensors_header(header, data_bytes, "f");
  } catch (const DataError& e) {
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    return e.what();
  }
  return "";
}

std::string one_tensor(const std::string& fields) { return R"({"a":{)" + fields + "}}"; }

TEST(SafetensorsHeader, ReadsTensorsInTheOrderOfTheirBytesAndMetadata) {
  const SafetensorsHeader header = parse_safetensors_header(
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
      R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"none":{"dtype":"F32","shape":[0,7],"data_offsets":[4,4]}}  )",
      16, "f");
  ASSERT_EQ(header.entries.size(), 3u);
  EXPECT_EQ(header.entries[0].name, "a");
  EXPECT_EQ(header.entries[1].name, "none");
  EXPECT_EQ(header.entries[2].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(header.entries[2].dtype(), DType::kBF16);
  EXPECT_EQ(header.metadata.at("format"), "pt");
}

TEST(SafetensorsHeader, KnowsDtypesThatItDoesNotComputeWith) {
  const auto header =
      parse_safetensors_header(one_tensor(R"("dtype":"F8_E4M3","shape":[5],"data_offsets":[0,5])"), 5, "f");
  EXPECT_FALSE(header.entries[0].dtype().has_value());
}

TEST(SafetensorsHeader, RefusesHostileHeadersWithOneLine) {
  const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  ASSERT_EQ(error_of(one_tensor(good), 8), "");
  const struct {
    std::string header, message;
  } cases[] = {
      {"", "does not begin with {"},
      {" {}", "does not begin with {"},
      {"[]", "does not begin with {"},
      {"\xEF\xBB\xBF{}", "does not begin with {"},
      {"{", "not valid JSON"},
      {"{} x", "not valid JSON"},
      {"{\"a\xff\":1}", "not valid JSON"},
      {R"({"a":5})", "a holds a number"},
      {R"({"a":[1]})", "a holds a list"},
      {R"({"a":null})", "a holds null"},
      {R"({"__metadata__":{"k":5}})", "k holds a number"},
      {R"({"__metadata__":{"k":{}}})", "k holds an object"},
      {R"({"__metadata__":{"k":"1","k":"2"}})", "k stands twice"},
      {R"({"__metadata__":{},"__metadata__":{}})", "__metadata__ stands twice"},
      {R"({"a":{)" + good + R"(},"a":{)" + good + "}}", "a stands twice"},
      {one_tensor(good + R"(,"dtype":"F32")"), "dtype stands twice"},
      {one_tensor(good + R"(,"strides":"1")"), "strides holds text"},
      {one_tensor(R"("dtype":"F32","shape":[2])"), "a: data_offsets is missing"},
      {one_tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,4,8])"), "needs 2 numbers, got 3"},
      {one_tensor(R"("dtype":"F33","shape":[2],"data_offsets":[0,8])"), "dtype F33 is not known"},
      {one_tensor(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), "needs 96 bits"},
      {one_tensor(R"("dtype":"F4","shape":[3],"data_offsets":[0,1])"), "needs 12 bits"},
      {one_tensor(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), "a negative number"},
      {one_tensor(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), "data_offsets are 8 to 0"},
      {one_tensor(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"), "not whole"},
      {one_tensor(R"("dtype":"F32","shape":[[2]],"data_offsets":[0,8])"), "shape holds a list"},
      {one_tensor(R"("dtype":"F32","shape":["2"],"data_offsets":[0,8])"), "shape holds text"},
      {one_tensor(R"("dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8])"), "beyond 2^63"},
      {one_tensor(R"("dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8])"), "not whole"},
      {one_tensor(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0])"), "larger than any file"},
      {one_tensor(R"("dtype":"F32","shape":[2],"data_offsets":[4,12])"), "hole"},
      {R"({"a":{)" + good + R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":[6,10]}})", "overlap"},
      {R"({"a":{)" + good + R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":[9,13]}})", "hole"},
      {R"({"a":{)" + good + R"(},"b":{)" + good + "}}", "overlap"},
      {"{\"a\\nb\":{}}", "a?b: dtype is missing"},
  };
  for (const auto& c : cases) EXPECT_THAT(error_of(c.header, 8), HasSubstr(c.message)) << c.header;
  EXPECT_THAT(error_of(one_tensor(good), 9), HasSubstr("take 8 bytes, but 9 follow"));
  EXPECT_THAT(error_of(one_tensor(good), 7), HasSubstr("truncated"));
}

TEST(SafetensorsHeader, RefusesDeepNestingWithoutRecursion) {
  EXPECT_THAT(error_of("{\"a\":" + std::string(1 << 20, '['), 0), HasSubstr("a holds a list"));
  EXPECT_THAT(error_of("{\"a\":{\"shape\":" + std::string(1 << 20, '['), 0), HasSubstr("shape holds a list"));
}

TEST(SafetensorsFile, RefusesHugeAndImpossibleHeaderLengths) {
  const ScratchFolder folder;
  const struct {
    std::string bytes, message;
  } cases[] = {
      {"", "0 bytes are too few"},
      {length_prefix(100'000'001) + "{}", "100000001 bytes, more than 100000000"},
      {length_prefix(100'000'000) + "{}", "truncated: its header needs 100000000 bytes"},
      {length_prefix(UINT64_MAX) + "{}", "more than 100000000"},
      {length_prefix(3) + "{}", "truncated: its header needs 3 bytes and 2 follow"},
      {length_prefix(0) + "{}", "does not begin with {"},
      {file_bytes("{}", 1), "take 0 bytes, but 1 follow"},
  };
  for (const auto& c : cases) {
    const std::string path = folder.write("f.safetensors", c.bytes);
    try {
      SafetensorsFile file(path);
      ADD_FAILURE() << c.message;
    } catch (const DataError& e) {
      EXPECT_THAT(e.what(), HasSubstr(path + ": "));
      EXPECT_THAT(e.what(), HasSubstr(c.message));
    }
  }
  EXPECT_THROW(SafetensorsFile(folder / "absent.safetensors"), StorageError);
  EXPECT_THROW(SafetensorsFile{folder.path()}, DataError);
}

void write_two_tensors(const std::string& path) {
  SafetensorsWriter writer(path, {{"weight", DType::kF32, {2, 3}}, {"ids", DType::kU8, {5}}}, {{"format", "pt"}});
  std::vector<float> weight(6);
  std::iota(weight.begin(), weight.end(), 1.0f);
  writer.append(weight.data(), 8);  // in pieces of any size
  writer.append(weight.data() + 2, 16);
  writer.append("12345", 5);
  writer.commit();
}

TEST(SafetensorsFile, ReadsRangesOfWhatTheWriterWrote) {
  const ScratchFolder folder;
  write_two_tensors(folder / "f.safetensors");
  const SafetensorsFile file(folder / "f.safetensors");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.find("absent"), nullptr);
  const SafetensorsEntry* weight = file.find("weight");
  ASSERT_NE(weight, nullptr);
  EXPECT_EQ(weight->shape, (std::vector<int64_t>{2, 3}));
  float row[3];
  file.read(*weight, 12, row, sizeof(row));
  EXPECT_THAT(row, ::testing::ElementsAre(4, 5, 6));
  char ids[5];
  file.read(*file.find("ids"), 0, ids, sizeof(ids));
  EXPECT_EQ(std::string(ids, 5), "12345");
}

// As the reference implementation: extents that multiply to nothing are no overflow.
TEST(SafetensorsHeader, TakesEmptyTensorsBesideOthers) {
  const auto header = parse_safetensors_header(
      R"({"a":{"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]},)"
      R"("b":{"dtype":"F4","shape":[4],"data_offsets":[0,2]},"c":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[2,5]}})",
      5, "f");
  EXPECT_EQ(header.entries.size(), 3u);
}

TEST(SafetensorsFile, ReadsOneTensorOfAFileLargerThanMemory) {
  const ScratchFolder folder;
  constexpr int64_t kHuge = int64_t{1} << 40;
  const std::string json = fmt::format(
      R"({{"huge":{{"dtype":"U8","shape":[{}],"data_offsets":[0,{}]}},"last":{{"dtype":"U8","shape":[4],"data_offsets":[{},{}]}}}})",
      kHuge, kHuge, kHuge, kHuge + 4);
  const std::string path = folder.write("f.safetensors", file_bytes(json, 0));
  const auto end = static_cast<uintmax_t>(std::filesystem::file_size(path)) + static_cast<uintmax_t>(kHuge);
  std::filesystem::resize_file(path, end);  // a hole: takes no space
  std::ofstream(path, std::ios::binary | std::ios::app) << "last";
  const SafetensorsFile file(path);
  std::string last(4, ' ');
  file.read(*file.find("last"), 0, last.data(), last.size());
  EXPECT_EQ(last, "last");
  file.read(*file.find("huge"), kHuge - 2, last.data(), 2);
  EXPECT_EQ(last, std::string("\0\0st", 4));
}

TEST(SafetensorsFile, RefusesToReadAFileThatWasCutWhileOpen) {
  const ScratchFolder folder;
  write_two_tensors(folder / "f.safetensors");
  const SafetensorsFile file(folder / "f.safetensors");
  std::filesystem::resize_file(folder / "f.safetensors", std::filesystem::file_size(folder / "f.safetensors") - 1);
  char ids[5];
  EXPECT_THROW(file.read(*file.find("ids"), 0, ids, sizeof(ids)), DataError);
}

TEST(SafetensorsFile, RefusesTruncationAtEveryByte) {
  const ScratchFolder folder;
  write_two_tensors(folder / "f.safetensors");
  const std::string whole = folder.read("f.safetensors");
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string path = folder.write("cut.safetensors", whole.substr(0, size));
    EXPECT_THROW(SafetensorsFile{path}, DataError) << size;
  }
}

TEST(SafetensorsHeader, SurvivesEveryFlippedBit) {
  const ScratchFolder folder;
  write_two_tensors(folder / "f.safetensors");
  const std::string whole = folder.read("f.safetensors");
  constexpr size_t kDataBytes = 29;
  const std::string header = whole.substr(8, whole.size() - 8 - kDataBytes);
  int refused = 0, accepted = 0;
  for (size_t bit = 0; bit < 8 * header.size(); ++bit) {
    std::string flipped = header;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    try {
      const SafetensorsHeader parsed = parse_safetensors_header(flipped, kDataBytes, "f");
      for (const SafetensorsEntry& entry : parsed.entries) {
        EXPECT_GE(entry.begin, 0);
        EXPECT_LE(entry.end, static_cast<int64_t>(kDataBytes));
      }
      ++accepted;  // the flip changed a name or a text
    } catch (const DataError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 2 * accepted);
}

TEST(SafetensorsWriter, LeavesNothingWithoutCommit) {
  const ScratchFolder folder;
  {
    SafetensorsWriter writer(folder / "f.safetensors", {{"a", DType::kU8, {2}}}, {});
    writer.append("x", 1);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace deepflow
