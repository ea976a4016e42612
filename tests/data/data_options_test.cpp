#include "data/data_options.h"

#include "core/option.h"
#include "core/option_yaml.h"
#include "tests/data/token_store_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deepflow {
namespace {

using ::testing::HasSubstr;

DataOptions parse(const std::string& text) {
  DataOptions options;
  OptionGroup group("data");
  declare(group, options);
  group.read(parse_yaml(text, "recipe.yaml"));
  return options;
}

TEST(DataOptions, OneStoreNeedsOnlyItsName) {
  const DataOptions options = parse("{train: a.h5, sequence: 256}");
  ASSERT_EQ(options.train.size(), 1u);
  EXPECT_EQ(options.train[0].store, "a.h5");
  EXPECT_EQ(options.train[0].weight, 1);
  EXPECT_EQ(options.sequence, 256);
  EXPECT_EQ(options.documents, Documents::kSeparate);
}

TEST(DataOptions, StoresHaveWeights) {
  const DataOptions options =
      parse("{train: [{store: a.h5, weight: 0.7}, {store: b.h5, weight: 0.3}], documents: joined, shuffle: false}");
  ASSERT_EQ(options.train.size(), 2u);
  EXPECT_EQ(options.train[1].store, "b.h5");
  EXPECT_EQ(options.train[1].weight, 0.3);
  EXPECT_EQ(options.documents, Documents::kJoined);
  EXPECT_FALSE(options.shuffle);
}

TEST(DataOptions, MistakesAreNamedWithTheirLine) {
  EXPECT_THAT(message_of<ConfigError>([] { parse("train: a\nsequenc: 2"); }), HasSubstr("recipe.yaml:2"));
  EXPECT_THAT(message_of<ConfigError>([] { parse("train: [{store: a, weight: 0}]"); }), HasSubstr("weight"));
  EXPECT_THAT(message_of<ConfigError>([] { parse("train: a\nsequence: 0"); }), HasSubstr("sequence"));
}

TEST(DataOptions, StoresOfAnotherTokenizerOrVocabularyAreRefused) {
  TestFolder folder;
  write_store(folder.file("a.h5"), counting_documents({100}), 1000, "aaaa");
  DataOptions options;
  options.train = {{folder.file("a.h5")}};
  options.heldout = folder.file("a.h5");
  options.sequence = 8;
  EXPECT_EQ(open_train_samples(options, "aaaa", 1000)->num_tokens(), 100);
  EXPECT_EQ(open_heldout(options, "aaaa", 1000)->num_windows(), 13);
  EXPECT_THAT(message_of<DataError>([&] { open_train_samples(options, "bbbb", 1000); }),
              HasSubstr("was tokenised with tokenizer aaaa but the recipe's is bbbb"));
  EXPECT_THAT(message_of<DataError>([&] { open_heldout(options, "aaaa", 999); }), HasSubstr("the model's only 999"));
  options.heldout.clear();
  EXPECT_EQ(open_heldout(options, "aaaa", 1000), nullptr);
}

}  // namespace
}  // namespace deepflow
