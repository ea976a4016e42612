#include "core/error.h"
#include "data/tokenizer_json.h"

namespace deepflow {

namespace {

using Json = nlohmann::ordered_json;

Json byte_level(bool add_prefix_space, bool use_regex) {
  return {
      {"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json added_tokens(const TokenizerSpec& spec) {
  Json all = Json::array();
  for (const AddedToken& t : spec.added)
    all.push_back({{"id", t.id},
                   {"content", t.content},
                   {"single_word", t.single_word},
                   {"lstrip", t.lstrip},
                   {"rstrip", t.rstrip},
                   {"normalized", t.normalized},
                   {"special", t.special}});
  return all;
}

Json pre_tokenizer(const TokenizerSpec& spec) {
  if (spec.pre_tokenizer.empty()) return byte_level(false, false);
  Json steps = Json::array();
  for (const PreTokenizerStep& step : spec.pre_tokenizer) {
    const auto* split = std::get_if<SplitStep>(&step);
    DF_ASSERT(split && split->behavior == SplitBehavior::kIsolated && !split->invert);
    const Json regex = {{"Regex", split->pattern}};
    steps.push_back({{"type", "Split"}, {"pattern", regex}, {"behavior", "Isolated"}, {"invert", false}});
  }
  steps.push_back(byte_level(false, false));
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

Json model(const BpeSpec& spec) {
  Json vocabulary = Json::object();
  for (const auto& [token, id] : spec.vocabulary) vocabulary.emplace(token, id);
  Json merges = Json::array();
  for (const auto& [left, right] : spec.merges) merges.push_back(Json::array({left, right}));
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", spec.ignore_merges},
          {"vocab", vocabulary},
          {"merges", merges}};
}

}  // namespace

std::string write_tokenizer_json(const TokenizerSpec& spec) {
  DF_ASSERT(spec.byte_level && spec.prefix.empty() && spec.suffix.empty());
  Json root = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}, {"added_tokens", added_tokens(spec)}};
  root["normalizer"] = nullptr;
  if (!spec.normalizer.empty()) {
    DF_ASSERT(spec.normalizer.size() == 1 && std::holds_alternative<NfcStep>(spec.normalizer[0]));
    root["normalizer"] = {{"type", "NFC"}};
  }
  root["pre_tokenizer"] = pre_tokenizer(spec);
  root["post_processor"] = byte_level(false, false);
  root["decoder"] = byte_level(false, false);
  root["model"] = model(spec.model);
  return root.dump(2) + "\n";
}

std::string write_tokenizer_config(const std::string& end_of_document) {
  Json root = {{"tokenizer_class", "PreTrainedTokenizerFast"}};
  if (!end_of_document.empty()) {
    root["bos_token"] = end_of_document;
    root["eos_token"] = end_of_document;
  }
  root["clean_up_tokenization_spaces"] = false;
  root["model_max_length"] = 1000000000;
  return root.dump(2) + "\n";
}

}  // namespace deepflow
