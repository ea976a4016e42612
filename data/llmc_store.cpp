#include "data/llmc_store.h"

#include "core/error.h"
#include "data/token_store_file.h"

#include <algorithm>
#include <cstring>
#include <mutex>

namespace deepflow {
namespace {

constexpr int64_t kHeadBytes = 256 * 4;

struct Variant {
  int32_t magic, version;
  int64_t token_bytes, vocabulary_size;
  int32_t document_token;  // <|endoftext|>, <|begin_of_text|>
};
constexpr Variant kVariants[] = {{20240520, 1, 2, 50257, 50256}, {20240801, 7, 4, 128256, 128000}};

const Variant* variant_of(int32_t magic) {
  for (const Variant& variant : kVariants) {
    if (variant.magic == magic) return &variant;
  }
  return nullptr;
}

class LlmcStore : public TokenStore {
 public:
  explicit LlmcStore(const std::string& path) : TokenStore(path), file_(path) {
    if (file_.size() < kHeadBytes) {
      throw DataError("{}: {} bytes, an llm.c file has a head of {}; truncated", path_, file_.size(), kHeadBytes);
    }
    int32_t head[256];
    file_.read(0, head, kHeadBytes);
    variant_ = variant_of(head[0]);
    DF_ASSERT(variant_ != nullptr, "{} is no llm.c file", path_);
    if (head[1] != variant_->version) {
      throw DataError("{}: llm.c file of version {}, this program reads version {} of magic {}", path_, head[1],
                      variant_->version, head[0]);
    }
    num_tokens_ = head[2];
    if (num_tokens_ <= 0 || file_.size() != kHeadBytes + num_tokens_ * variant_->token_bytes) {
      throw DataError("{}: {} bytes, its head says {} tokens of {} bytes; truncated or damaged", path_, file_.size(),
                      num_tokens_, variant_->token_bytes);
    }
    vocabulary_size_ = variant_->vocabulary_size;
    digest_ = sampled_digest(file_, "llm.c");
  }

  const char* format() const override { return "llm.c"; }
  const std::vector<int64_t>& document_offsets() const override {
    std::call_once(once_, [this] { find_documents(); });
    return offsets_;
  }

 protected:
  void read_tokens(int64_t first, std::span<int32_t> out) const override;

 private:
  void find_documents() const;

  TokenStoreFile file_;
  const Variant* variant_ = nullptr;
  mutable std::once_flag once_;
  mutable std::vector<int64_t> offsets_;
};

void LlmcStore::read_tokens(int64_t first, std::span<int32_t> out) const {
  const int64_t offset = kHeadBytes + first * variant_->token_bytes;
  if (variant_->token_bytes == 4) {
    file_.read(offset, out.data(), static_cast<int64_t>(out.size_bytes()));
    return;
  }
  std::vector<uint16_t> narrow(out.size());
  file_.read(offset, narrow.data(), static_cast<int64_t>(narrow.size() * 2));
  std::copy(narrow.begin(), narrow.end(), out.begin());
}

void LlmcStore::find_documents() const {
  std::vector<int64_t> offsets = {0};
  std::vector<int32_t> block(int64_t{1} << 18);
  for (int64_t first = 0; first < num_tokens_; first += static_cast<int64_t>(block.size())) {
    const int64_t count = std::min<int64_t>(static_cast<int64_t>(block.size()), num_tokens_ - first);
    read(first, std::span(block).first(static_cast<size_t>(count)));
    for (int64_t i = 0; i < count; ++i) {
      if (block[i] == variant_->document_token && first + i > 0) offsets.push_back(first + i);
    }
  }
  offsets.push_back(num_tokens_);
  offsets_ = std::move(offsets);
}

}  // namespace

bool is_llmc_head(const unsigned char head[8]) {
  int32_t magic = 0;
  std::memcpy(&magic, head, sizeof(magic));
  return variant_of(magic) != nullptr;
}

std::shared_ptr<const TokenStore> open_llmc_store(const std::string& path) { return std::make_shared<LlmcStore>(path); }

}  // namespace deepflow
