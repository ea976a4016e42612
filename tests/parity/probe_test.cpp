#include "launch/probe.h"

#include "checkpoint/safetensors.h"
#include "core/error.h"
#include "engine/prepare.h"
#include "tests/checkpoint/scratch_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace deepflow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ScratchFolder;

std::string error_of(const ScratchFolder& folder, const std::string& text) {
  try {
    read_token_file(folder.write("t.txt", text), 10);
  } catch (const DataError& e) {
    return e.what();
  }
  return "";
}

TEST(TokenFile, HoldsOneSequenceALine) {
  const ScratchFolder folder;
  const TokenFile file = read_token_file(folder.write("t.txt", "1 2 3\n\n 4,5,\t9\r\n"), 10);
  EXPECT_EQ(file.batch, 2);
  EXPECT_EQ(file.sequence, 3);
  EXPECT_THAT(file.ids, ElementsAre(1, 2, 3, 4, 5, 9));
}

TEST(TokenFile, RefusesWhatIsNoRectangleOfTokens) {
  const ScratchFolder folder;
  EXPECT_THAT(error_of(folder, "1 2 3\n1 2\n"), HasSubstr("t.txt:2: 2 ids, but the lines before it have 3"));
  EXPECT_THAT(error_of(folder, "1 two\n"), HasSubstr("t.txt:1: item 2 is no token id"));
  EXPECT_THAT(error_of(folder, "1 2.5\n"), HasSubstr("item 2 is no token id"));
  EXPECT_THAT(error_of(folder, "1 99999999999\n"), HasSubstr("item 2 is no token id"));
  EXPECT_THAT(error_of(folder, "1 10\n"), HasSubstr("token 10 is outside the model's vocabulary of 10"));
  EXPECT_THAT(error_of(folder, "1 -1\n"), HasSubstr("token -1 is outside"));
  EXPECT_THAT(error_of(folder, "1\n2\n"), HasSubstr("needs lines of two or more"));
  EXPECT_THAT(error_of(folder, ""), HasSubstr("needs lines of two or more"));
  EXPECT_THROW(read_token_file(folder / "absent", 10), StorageError);
}

TEST(Probe, WritesLogitsAndLossOfAModelWithRandomWeights) {
  const ScratchFolder folder;
  RunOptions options;
  auto& config = options.model.config();
  OptionGroup group("model");
  config.declare(group);
  OptionValue keys = OptionValue::map();
  for (const char* key : {"layers", "width", "heads"}) keys.entries.push_back({key, {}, OptionValue::scalar("2"), ""});
  keys.entries[1].value.text = "8";
  group.read(keys);
  options.data.sequence = 8;
  options.train.precision = "f32";
  options.model.fill_in(10, 8, nullptr);
  probe(options, {folder.write("t.txt", "1 2 3\n4 5 6\n"), folder / "out.safetensors", false});
  const SafetensorsFile file(folder / "out.safetensors");
  ASSERT_EQ(file.entries().size(), 2u);
  EXPECT_THAT(file.find("logits")->shape, ElementsAre(2, 3, 10));
  EXPECT_TRUE(file.find("loss")->shape.empty());
  float loss = 0;
  file.read(*file.find("loss"), 0, &loss, sizeof(loss));
  EXPECT_NEAR(loss, std::log(10.0), 0.1);
}

}  // namespace
}  // namespace deepflow
