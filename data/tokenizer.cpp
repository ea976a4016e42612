#include "data/tokenizer.h"

#include "core/durable_file.h"
#include "core/error.h"
#include "data/bpe_tokenizer.h"
#include "data/byte_tokenizer.h"
#include "data/tokenizer_json.h"
#include "data/tokenizer_json_node.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace deepflow {

namespace fs = std::filesystem;

std::vector<TokenId> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  std::vector<TokenId> ids;
  encode(text, ids, options);
  return ids;
}

namespace {

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw StorageError("{}: cannot be opened: {}", path.string(), strerror(errno));
  std::ostringstream content;
  content << file.rdbuf();
  if (file.bad() || content.bad()) throw StorageError("{}: cannot be read: {}", path.string(), strerror(errno));
  return std::move(content).str();
}

// A token in tokenizer_config.json is its text, or an object with the text as content.
std::string config_token(const JsonNode& config, const char* key) {
  if (!config.has(key)) return "";
  const JsonNode node = config.at(key);
  return node.value().is_object() ? node.at("content").string() : node.string();
}

TokenId find_in(const TokenizerSpec& spec, const std::string& text) {
  for (const AddedToken& token : spec.added)
    if (token.content == text) return token.id;
  for (const auto& [token, id] : spec.model.vocabulary)
    if (token == text) return id;
  return kNoToken;
}

TokenId pick(const TokenizerSpec& spec, const std::string& configured, std::initializer_list<const char*> usual) {
  if (!configured.empty()) return find_in(spec, configured);
  for (const char* name : usual) {
    const TokenId id = find_in(spec, name);
    if (id != kNoToken) return id;
  }
  return kNoToken;
}

}  // namespace

std::unique_ptr<Tokenizer> parse_tokenizer(const std::string& json, const std::string& config_json,
                                           const std::string& name) {
  const nlohmann::json root = parse_json(json, name);
  TokenizerSpec spec = read_tokenizer_spec(root, name);
  TokenizerIdentity identity{json, config_json, tokenizer_digest(root)};
  std::string bos, eos, pad;
  if (!config_json.empty()) {
    const std::string config_name = fs::path(name).replace_filename("tokenizer_config.json").string();
    const nlohmann::json config_root = parse_json(config_json, config_name);
    const JsonNode config(config_root, config_name);
    config.need_object();
    bos = config_token(config, "bos_token");
    eos = config_token(config, "eos_token");
    pad = config_token(config, "pad_token");
  }
  auto byte = std::make_unique<ByteTokenizer>();
  if (byte->digest() == identity.digest) return byte;
  identity.bos = pick(spec, bos, {"<|begin_of_text|>", "<s>", "<bos>", "<|startoftext|>", "<|endoftext|>"});
  identity.eos = pick(spec, eos, {"<|end_of_text|>", "</s>", "<eos>", "<|endoftext|>", "<|im_end|>"});
  identity.pad = pick(spec, pad, {"<pad>", "<|pad|>", "[PAD]"});
  return std::make_unique<BpeTokenizer>(std::move(spec), std::move(identity), name);
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path) {
  if (path == "byte") return std::make_unique<ByteTokenizer>();
  fs::path file = path;
  std::error_code error;
  if (fs::is_directory(file, error)) file /= "tokenizer.json";
  const fs::path config = file.parent_path() / "tokenizer_config.json";
  const bool named_so = file.filename() == "tokenizer.json";
  return parse_tokenizer(read_file(file), named_so && fs::exists(config, error) ? read_file(config) : "",
                         file.string());
}

void save_tokenizer(const Tokenizer& tokenizer, const std::string& path) {
  if (path.ends_with(".json")) return write_file_durably(path, tokenizer.json());
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw StorageError("{}: cannot be created: {}", path, error.message());
  write_file_durably(fs::path(path) / "tokenizer.json", tokenizer.json());
  const std::string config = tokenizer.config_json();
  if (!config.empty()) write_file_durably(fs::path(path) / "tokenizer_config.json", config);
}

EncodedDocuments encode_documents(const Tokenizer& tokenizer, std::span<const std::string_view> documents,
                                  const EncodeOptions& options, int threads) {
  constexpr size_t kBlock = 32;
  const size_t num_blocks = (documents.size() + kBlock - 1) / kBlock;
  std::vector<EncodedDocuments> blocks(num_blocks);
  std::atomic<size_t> next{0};
  std::vector<std::exception_ptr> failures(static_cast<size_t>(std::max(threads, 1)));
  auto work = [&](size_t thread) {
    try {
      for (size_t b = next++; b < num_blocks; b = next++) {
        const size_t end = std::min(documents.size(), (b + 1) * kBlock);
        for (size_t d = b * kBlock; d < end; ++d) {
          tokenizer.encode(documents[d], blocks[b].ids, options);
          blocks[b].ends.push_back(static_cast<int64_t>(blocks[b].ids.size()));
        }
      }
    } catch (...) {
      failures[thread] = std::current_exception();
      next = num_blocks;
    }
  };
  std::vector<std::thread> team;
  for (size_t t = 1; t < failures.size(); ++t) team.emplace_back(work, t);
  work(0);
  for (std::thread& t : team) t.join();
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);

  EncodedDocuments all;
  size_t total = 0;
  for (const EncodedDocuments& block : blocks) total += block.ids.size();
  all.ids.reserve(total);
  all.ends.reserve(documents.size());
  for (const EncodedDocuments& block : blocks) {
    for (const int64_t end : block.ends) all.ends.push_back(end + static_cast<int64_t>(all.ids.size()));
    all.ids.insert(all.ids.end(), block.ids.begin(), block.ids.end());
  }
  return all;
}

}  // namespace deepflow
