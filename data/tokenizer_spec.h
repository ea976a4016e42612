#pragma once

#include "data/tokenizer.h"

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

// What a tokenizer.json says, as plain values: read by tokenizer_json.h, written by tokenizer_json_write.cpp, carried
// out by BpeTokenizer. Names follow the Hugging Face tokenizers library, whose behaviour is the reference.
namespace deepflow {

struct AddedToken {
  TokenId id = kNoToken;
  std::string content;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // swallows white space on its left
  bool rstrip = false;       // and on its right
  bool normalized = false;   // looked for in the normalised text, else in the raw text
  bool special = false;
};

struct NfcStep {};
struct PrependStep {
  std::string text;
};
struct ReplaceStep {
  std::string from, to;
};
using NormalizerStep = std::variant<NfcStep, PrependStep, ReplaceStep>;

enum class SplitBehavior : uint8_t { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
struct SplitStep {
  std::string pattern;  // Oniguruma syntax, as in the file
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;
};
struct PrefixSpaceStep {};  // ByteLevel's add_prefix_space
struct MetaspaceStep {
  enum class Prepend : uint8_t { kNever, kFirst, kAlways };
  std::string replacement;
  Prepend prepend = Prepend::kAlways;
  bool split = true;
};
using PreTokenizerStep = std::variant<SplitStep, PrefixSpaceStep, MetaspaceStep>;

struct DecoderSpec {
  bool byte_fallback = false;         // <0xAB> is the byte AB
  std::vector<ReplaceStep> replace;   // in the text of each token
  std::string strip;                  // one character, taken from the start of the whole text ...
  int64_t strip_left = 0;             // ... at most this often
  std::string metaspace;              // replaced by a space,
  bool drop_first_metaspace = false;  // but dropped in the first token
};

struct BpeSpec {
  std::vector<std::pair<std::string, TokenId>>
      vocabulary;  // ids unique, tokens unique; byte-level tokens in the byte alphabet
  std::vector<std::pair<std::string, std::string>> merges;  // in rank order
  std::string unknown;                                      // "" for none
  bool fuse_unknown = false;
  bool byte_fallback = false;
  bool ignore_merges = false;
};

struct TokenizerSpec {
  std::vector<AddedToken> added;
  std::vector<NormalizerStep> normalizer;
  std::vector<PreTokenizerStep> pre_tokenizer;
  bool byte_level = false;              // symbols are bytes, written in the byte alphabet; else Unicode characters
  std::vector<TokenId> prefix, suffix;  // what the post-processor's template puts around a text
  DecoderSpec decoder;
  BpeSpec model;
};

}  // namespace deepflow
