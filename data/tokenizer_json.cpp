#include "data/tokenizer_json.h"

#include "data/tokenizer_json_node.h"
#include "data/tokenizer_json_parts.h"

#include <xxhash.h>

#include <unordered_map>
#include <unordered_set>

namespace deepflow {

namespace {

// The parser of the library keeps its stack on the heap, but dump and our readers recurse.
bool nested_too_deep(const std::string& text) {
  constexpr int kDeepest = 64;
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepest) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

}  // namespace

nlohmann::json parse_json(const std::string& text, const std::string& file) {
  constexpr size_t kLargest = size_t{256} << 20;
  if (text.size() > kLargest) throw DataError("{}: {} bytes, expected at most {}", file, text.size(), kLargest);
  if (nested_too_deep(text)) throw DataError("{}: nested more than 64 levels deep", file);
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& e) {
    std::string what = e.what();
    for (char& c : what)
      if (static_cast<unsigned char>(c) < ' ') c = ' ';
    throw DataError("{}: no valid JSON: {}", file, what.substr(0, 200));
  }
}

namespace {

void read_vocabulary(const JsonNode& node, BpeSpec& model) {
  node.need_object();
  if (node.value().empty()) node.fail("is empty, expected token: id");
  model.vocabulary.reserve(node.value().size());
  for (const auto& [token, id] : node.value().items()) {
    const bool fits = id.is_number_unsigned() && id.get<uint64_t>() < (uint64_t{1} << 30);
    if (!fits)
      node.fail(
          fmt::format("gives token {:?} the id {}, expected an integer from 0 on", token, JsonNode(id, "").brief()));
    model.vocabulary.emplace_back(token, static_cast<TokenId>(id.get<uint64_t>()));
  }
}

// The common form; read_merge tells what is wrong with any other.
bool is_pair(const nlohmann::json& merge) {
  return merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
}

std::pair<std::string, std::string> read_merge(const JsonNode& node) {
  if (node.value().is_array()) {
    if (node.array_size() != 2) node.fail("is an array of another length, expected two tokens");
    return {node.at(size_t{0}).string(), node.at(size_t{1}).string()};
  }
  const std::string& text = node.string();
  const size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
    node.fail(fmt::format("is {:?}, expected two tokens with one space between them", text));
  return {text.substr(0, space), text.substr(space + 1)};
}

void refuse_text(const JsonNode& model, const char* key) {
  if (model.has(key) && !model.at(key).string().empty()) model.at(key).fail("is not supported");
}

BpeSpec read_model(const JsonNode& node) {
  // Old files of BPE models have no type.
  if (node.has("type") && node.type() != "BPE")
    node.at("type").fail(fmt::format("is {:?}; only BPE is supported", node.type()));
  node.only({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
             "byte_fallback", "ignore_merges", "vocab", "merges"});
  BpeSpec model;
  if (node.has("dropout")) {
    const nlohmann::json& dropout = node.at("dropout").value();
    if (!dropout.is_number() || dropout.get<double>() != 0)
      node.at("dropout").fail("is not supported, expected null or 0");
  }
  refuse_text(node, "continuing_subword_prefix");
  refuse_text(node, "end_of_word_suffix");
  if (node.has("unk_token")) model.unknown = node.at("unk_token").string();
  model.fuse_unknown = node.boolean("fuse_unk", false);
  model.byte_fallback = node.boolean("byte_fallback", false);
  model.ignore_merges = node.boolean("ignore_merges", false);
  read_vocabulary(node.at("vocab"), model);
  const JsonNode merges = node.at("merges");
  const size_t n = merges.array_size();
  model.merges.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    // The comment line of merges.txt, kept by old converters.
    const nlohmann::json& merge = merges.value()[i];
    if (merge.is_string() && merge.get_ref<const std::string&>().starts_with("#version")) continue;
    if (is_pair(merge)) {
      model.merges.emplace_back(merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>());
    } else {
      model.merges.push_back(read_merge(merges.at(i)));
    }
  }
  return model;
}

// The reference numbers added tokens itself: the id of the same text in the model, else the next free one. A file that
// says otherwise would be read differently by the two, so it is refused.
std::vector<AddedToken> read_added_tokens(const JsonNode& node, const BpeSpec& model) {
  std::vector<AddedToken> added;
  std::unordered_map<std::string_view, TokenId> known;
  std::unordered_set<TokenId> taken;
  for (const auto& [token, id] : model.vocabulary) known.emplace(token, id), taken.insert(id);
  auto next = static_cast<TokenId>(model.vocabulary.size());
  const size_t n = node.array_size();
  added.reserve(n);  // `known` holds views of the contents
  for (size_t i = 0; i < n; ++i) {
    const JsonNode item = node.at(i);
    item.only({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
    AddedToken token;
    token.content = item.at("content").string();
    if (token.content.empty()) continue;
    token.id = static_cast<TokenId>(item.at("id").integer(0, (1 << 30) - 1));
    token.single_word = item.boolean("single_word", false);
    token.lstrip = item.boolean("lstrip", false);
    token.rstrip = item.boolean("rstrip", false);
    token.special = item.boolean("special", false);
    token.normalized = item.boolean("normalized", !token.special);
    const auto it = known.find(token.content);
    const TokenId expected = it != known.end() ? it->second : next++;
    if (token.id != expected)
      item.at("id").fail(
          fmt::format("is {}, but {:?} has the id {} by its place in the file", token.id, token.content, expected));
    if (it == known.end() && !taken.insert(token.id).second)
      item.at("id").fail(fmt::format("is {}, which another token has", token.id));
    added.push_back(std::move(token));
    known.emplace(added.back().content, added.back().id);
  }
  return added;
}

}  // namespace

TokenizerSpec read_tokenizer_spec(const nlohmann::json& root, const std::string& file) {
  const JsonNode node(root, file);
  node.only({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
             "decoder", "model"});
  if (node.has("version") && node.at("version").string() != "1.0")
    node.at("version").fail(fmt::format("is {:?}, expected \"1.0\"", node.at("version").string()));
  TokenizerSpec spec;
  spec.model = read_model(node.at("model"));
  if (node.has("added_tokens")) spec.added = read_added_tokens(node.at("added_tokens"), spec.model);
  if (node.has("normalizer")) read_normalizer(node.at("normalizer"), spec);
  if (node.has("pre_tokenizer")) read_pre_tokenizer(node.at("pre_tokenizer"), spec);
  if (node.has("post_processor")) read_post_processor(node.at("post_processor"), spec);
  if (node.has("decoder")) read_decoder(node.at("decoder"), spec);
  return spec;
}

std::string tokenizer_digest(const nlohmann::json& root) {
  nlohmann::json canonical = root;
  canonical.erase("truncation");
  canonical.erase("padding");
  for (nlohmann::json& merge : canonical["model"]["merges"]) {
    if (!merge.is_string()) continue;
    const std::string text = merge.get<std::string>();
    const size_t space = text.find(' ');
    if (space != std::string::npos) merge = nlohmann::json::array({text.substr(0, space), text.substr(space + 1)});
  }
  const std::string text = canonical.dump();
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace deepflow
