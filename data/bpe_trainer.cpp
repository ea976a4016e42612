#include "data/bpe_trainer.h"

#include "core/error.h"
#include "data/bpe_merge_learner.h"
#include "data/bpe_model.h"
#include "data/bpe_word_counts.h"
#include "data/pretokenizer.h"
#include "data/tokenizer_json.h"
#include "data/unicode.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>

namespace deepflow {

namespace {

std::string full_pattern(const std::string& name) {
  if (name == "gpt2") return std::string(kGpt2Pattern);
  if (name == "llama3") return std::string(kLlama3Pattern);
  if (name == "qwen") return std::string(kQwenPattern);
  return name;
}

// Cuts documents as the encoder will: stray bytes apart, then normal form, then words.
class DocumentCutter {
 public:
  DocumentCutter(const PreTokenizer& pre_tokenizer, bool nfc)
      : pre_tokenizer_(pre_tokenizer), nfc_(nfc), scratch_(pre_tokenizer.make_scratch()) {}

  void count(std::string_view text, WordCounts& counts) {
    auto add = [&](const char* begin, const char* end) { counts.add({begin, static_cast<size_t>(end - begin)}, 1); };
    while (!text.empty()) {
      const std::string_view valid = text.substr(0, unicode::valid_prefix(text));
      pre_tokenizer_.for_each_word(nfc_ ? unicode::to_nfc(valid, buffer_) : valid, false, *scratch_, add);
      text.remove_prefix(valid.size());
      const std::string_view stray = text.substr(0, unicode::invalid_prefix(text));
      if (!stray.empty()) counts.add(stray, 1);
      text.remove_prefix(stray.size());
    }
  }

 private:
  const PreTokenizer& pre_tokenizer_;
  bool nfc_;
  std::unique_ptr<PreTokenizer::Scratch> scratch_;
  std::string buffer_;
};

WordCounts count_words(const BpeTrainerOptions& options, const PreTokenizer& pre_tokenizer,
                       const DocumentSource& next_document) {
  constexpr size_t kBatchBytes = 1 << 20;
  std::mutex mutex;
  bool finished = false;
  std::vector<WordCounts> counts(static_cast<size_t>(std::max(options.threads, 1)));
  std::vector<std::exception_ptr> failures(counts.size());
  auto take = [&](std::vector<std::string>& batch) {
    const std::lock_guard lock(mutex);
    batch.clear();
    size_t bytes = 0;
    for (std::string text; !finished && bytes < kBatchBytes; bytes += text.size() + 1) {
      finished = !next_document(text);
      if (!finished) batch.push_back(text);
    }
    return !batch.empty();
  };
  auto work = [&](size_t thread) {
    try {
      DocumentCutter cutter(pre_tokenizer, options.nfc);
      for (std::vector<std::string> batch; take(batch);)
        for (const std::string& text : batch) cutter.count(text, counts[thread]);
    } catch (...) {
      failures[thread] = std::current_exception();
      const std::lock_guard lock(mutex);
      finished = true;
    }
  };
  std::vector<std::thread> team;
  for (size_t t = 1; t < counts.size(); ++t) team.emplace_back(work, t);
  work(0);
  for (std::thread& t : team) t.join();
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
  for (size_t t = 1; t < counts.size(); ++t)
    for (size_t i = 0; i < counts[t].size(); ++i) counts[0].add(counts[t].word(i), counts[t].count(i));
  return std::move(counts[0]);
}

void check(const BpeTrainerOptions& options) {
  const auto least = static_cast<int64_t>(256 + options.special_tokens.size());
  if (options.vocabulary < least || options.vocabulary > (1 << 24))
    throw ConfigError("train-tokenizer: vocabulary is {}, expected {} (256 bytes and {} special tokens) to {}",
                      options.vocabulary, least, options.special_tokens.size(), 1 << 24);
  for (const std::string& token : options.special_tokens) {
    if (token.size() < 2 || unicode::valid_prefix(token) != token.size())
      throw ConfigError("train-tokenizer: the special token {:?} is not at least two bytes of UTF-8", token);
    if (std::count(options.special_tokens.begin(), options.special_tokens.end(), token) > 1)
      throw ConfigError("train-tokenizer: the special token {:?} is given twice", token);
  }
}

// Special tokens, then the bytes in the order of the alphabet's code points, as BpeTrainer numbers them. Single
// characters of the alphabet cannot be special tokens (check), so the ids are distinct.
std::vector<std::string> first_tokens(const BpeTrainerOptions& options, std::vector<TokenId>& byte_ids) {
  std::vector<std::string> tokens = options.special_tokens;
  std::vector<std::pair<std::string, int>> bytes;
  for (int b = 0; b < 256; ++b) bytes.emplace_back(bytes_to_alphabet(std::string(1, static_cast<char>(b))), b);
  std::sort(bytes.begin(), bytes.end());  // the order of UTF-8 is the order of code points
  byte_ids.resize(256);
  for (const auto& [token, b] : bytes) {
    const auto it = std::find(tokens.begin(), tokens.end(), token);
    byte_ids[static_cast<size_t>(b)] = static_cast<TokenId>(it - tokens.begin());
    if (it == tokens.end()) tokens.push_back(token);
  }
  return tokens;
}

}  // namespace

std::unique_ptr<Tokenizer> train_bpe(const BpeTrainerOptions& options, const DocumentSource& next_document) {
  check(options);
  TokenizerSpec spec;
  spec.byte_level = true;
  spec.pre_tokenizer.emplace_back(SplitStep{full_pattern(options.pattern), SplitBehavior::kIsolated, false});
  if (options.nfc) spec.normalizer.emplace_back(NfcStep{});
  const PreTokenizer pre_tokenizer(spec.pre_tokenizer, "train-tokenizer: pattern");

  std::vector<TokenId> byte_ids;
  std::vector<std::string> tokens = first_tokens(options, byte_ids);
  MergeLearner learner(count_words(options, pre_tokenizer, next_document), std::move(tokens), byte_ids);
  learner.learn(static_cast<size_t>(options.vocabulary), options.min_frequency);

  for (size_t i = 0; i < learner.tokens().size(); ++i)
    spec.model.vocabulary.emplace_back(learner.tokens()[i], static_cast<TokenId>(i));
  for (const auto& [left, right] : learner.merges())
    spec.model.merges.emplace_back(learner.tokens()[static_cast<size_t>(left)],
                                   learner.tokens()[static_cast<size_t>(right)]);
  spec.model.ignore_merges = options.ignore_merges;
  for (size_t i = 0; i < options.special_tokens.size(); ++i) {
    AddedToken token;
    token.id = static_cast<TokenId>(i);
    token.content = options.special_tokens[i];
    token.special = true;
    spec.added.push_back(token);
  }
  const std::string end = options.special_tokens.empty() ? "" : options.special_tokens[0];
  return parse_tokenizer(write_tokenizer_json(spec), write_tokenizer_config(end), "the trained tokenizer");
}

std::unique_ptr<Tokenizer> train_bpe(const BpeTrainerOptions& options, std::span<const std::string_view> documents) {
  size_t next = 0;
  return train_bpe(options, [&](std::string& text) {
    if (next == documents.size()) return false;
    text.assign(documents[next++]);
    return true;
  });
}

}  // namespace deepflow
