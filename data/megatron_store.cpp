#include "data/megatron_store.h"

#include "core/error.h"
#include "data/token_store_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <limits>

namespace deepflow {
namespace {

constexpr char kMagic[9] = {'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0};
constexpr int64_t kHeadBytes = 9 + 8 + 1 + 8 + 8;
constexpr int64_t kBlock = 1 << 16;  // index entries read at once

enum class TokenType : uint8_t { kU8 = 1, kI8, kI16, kI32, kI64, kF64, kF32, kU16 };
constexpr std::array<int, 9> kTypeBytes = {0, 1, 1, 2, 4, 8, 8, 4, 2};

bool has_magic(const std::string& path) {
  std::error_code none;
  if (!std::filesystem::is_regular_file(path, none) || std::filesystem::file_size(path, none) < sizeof(kMagic)) {
    return false;
  }
  char head[sizeof(kMagic)];
  TokenStoreFile(path).read(0, head, sizeof(head));
  return std::memcmp(head, kMagic, sizeof(kMagic)) == 0;
}

// Anything that is no token id becomes -1, which read() refuses.
template <class T>
int32_t as_token(T value) {
  if (!(value >= T(0))) return -1;
  if constexpr (sizeof(T) > 4) {
    if (value > static_cast<T>(std::numeric_limits<int32_t>::max())) return -1;
  } else if constexpr (std::is_floating_point_v<T>) {
    if (!(value < 2147483648.0f)) return -1;
  }
  const auto token = static_cast<int32_t>(value);  // NOLINT(bugprone-signed-char-misuse): not negative here
  return static_cast<T>(token) == value ? token : -1;
}

template <class T>
void convert(const std::vector<char>& bytes, std::span<int32_t> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    out[i] = as_token(value);
  }
}

class MegatronStore : public TokenStore {
 public:
  MegatronStore(const std::string& prefix, int64_t vocabulary_size)
      : TokenStore(prefix + ".bin"), index_(prefix + ".idx"), tokens_(prefix + ".bin") {
    vocabulary_size_ = vocabulary_size;
    read_head();
    check_sequences();
    read_documents();
    check_document_offsets(index_.path(), document_offsets_, num_tokens_);
    digest_ = digest_of(sampled_digest(index_, "megatron index") + sampled_digest(tokens_, "megatron tokens"));
  }

  const char* format() const override { return "megatron"; }

 protected:
  void read_tokens(int64_t first, std::span<int32_t> out) const override;

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw DataError("{}: {}; not a whole Megatron index, copy or make it again", index_.path(), what);
  }
  void read_head();
  void check_sequences();
  void read_documents();

  TokenStoreFile index_, tokens_;
  TokenType type_ = TokenType::kU16;
  int64_t token_bytes_ = 0;
  int64_t num_sequences_ = 0;
  int64_t num_bounds_ = 0;
};

void MegatronStore::read_head() {
  if (index_.size() < kHeadBytes) fail(fmt::format("{} bytes, its head alone has {}", index_.size(), kHeadBytes));
  char head[kHeadBytes];
  index_.read(0, head, kHeadBytes);
  if (std::memcmp(head, kMagic, sizeof(kMagic)) != 0) fail("it does not begin with MMIDIDX");
  uint64_t version = 0, sequences = 0, bounds = 0;
  std::memcpy(&version, head + 9, 8);
  std::memcpy(&sequences, head + 18, 8);
  std::memcpy(&bounds, head + 26, 8);
  if (version != 1) throw DataError("{}: Megatron index of version {}, this program reads 1", index_.path(), version);
  const auto code = static_cast<uint8_t>(head[17]);
  if (code == 0 || code >= kTypeBytes.size()) fail(fmt::format("token type code {} is not one of 1 to 8", code));
  type_ = static_cast<TokenType>(code);
  token_bytes_ = kTypeBytes[code];
  // Bounds first, so that the products below cannot overflow.
  const auto limit = static_cast<uint64_t>(index_.size());
  const bool fits = sequences <= limit && bounds <= limit && kHeadBytes + sequences * 12 + bounds * 8 <= limit;
  if (!fits) {
    fail(fmt::format("truncated: {} bytes for {} sequences and {} document bounds", limit, sequences, bounds));
  }
  num_sequences_ = static_cast<int64_t>(sequences);
  num_bounds_ = static_cast<int64_t>(bounds);
  if (num_sequences_ == 0 || num_bounds_ < 2) fail("it holds no documents");
}

// Every sequence must begin where the one before it ended: then position alone finds a token.
void MegatronStore::check_sequences() {
  std::vector<int32_t> lengths(kBlock);
  std::vector<int64_t> pointers(kBlock);
  int64_t tokens = 0;
  for (int64_t first = 0; first < num_sequences_; first += kBlock) {
    const int64_t count = std::min(kBlock, num_sequences_ - first);
    index_.read(kHeadBytes + first * 4, lengths.data(), count * 4);
    index_.read(kHeadBytes + num_sequences_ * 4 + first * 8, pointers.data(), count * 8);
    for (int64_t i = 0; i < count; ++i) {
      if (lengths[i] < 0 || pointers[i] != tokens * token_bytes_) {
        fail(fmt::format("sequence {} of length {} at byte {}, expected at {}", first + i, lengths[i], pointers[i],
                         tokens * token_bytes_));
      }
      tokens += lengths[i];
    }
  }
  num_tokens_ = tokens;
  if (tokens == 0) fail("it holds no tokens");
  if (tokens_.size() != tokens * token_bytes_) {
    throw DataError("{}: {} bytes, its index says {} tokens of {} bytes; truncated or of another index", path_,
                    tokens_.size(), tokens, token_bytes_);
  }
}

void MegatronStore::read_documents() {
  std::vector<int64_t> bounds(static_cast<size_t>(num_bounds_));
  index_.read(kHeadBytes + num_sequences_ * 12, bounds.data(), num_bounds_ * 8);
  check_document_offsets(index_.path(), bounds, num_sequences_);
  document_offsets_.reserve(bounds.size());
  std::vector<int32_t> lengths(kBlock);
  int64_t tokens = 0;
  size_t next = 0;
  for (int64_t first = 0; first < num_sequences_; first += kBlock) {
    const int64_t count = std::min(kBlock, num_sequences_ - first);
    index_.read(kHeadBytes + first * 4, lengths.data(), count * 4);
    for (int64_t i = 0; i < count; ++i) {
      for (; bounds[next] == first + i; ++next) document_offsets_.push_back(tokens);
      tokens += lengths[i];
    }
  }
  for (; next < bounds.size(); ++next) document_offsets_.push_back(tokens);
}

void MegatronStore::read_tokens(int64_t first, std::span<int32_t> out) const {
  std::vector<char> bytes(out.size() * static_cast<size_t>(token_bytes_));
  tokens_.read(first * token_bytes_, bytes.data(), static_cast<int64_t>(bytes.size()));
  switch (type_) {
    case TokenType::kU8:
      return convert<uint8_t>(bytes, out);
    case TokenType::kI8:
      return convert<int8_t>(bytes, out);
    case TokenType::kI16:
      return convert<int16_t>(bytes, out);
    case TokenType::kI32:
      return convert<int32_t>(bytes, out);
    case TokenType::kI64:
      return convert<int64_t>(bytes, out);
    case TokenType::kF64:
      return convert<double>(bytes, out);
    case TokenType::kF32:
      return convert<float>(bytes, out);
    case TokenType::kU16:
      return convert<uint16_t>(bytes, out);
  }
}

}  // namespace

std::string megatron_prefix(const std::string& path) {
  const bool named = path.size() > 4 && (path.ends_with(".bin") || path.ends_with(".idx"));
  if (named) {
    const std::string prefix = path.substr(0, path.size() - 4);
    // A missing .bin is reported when the store is opened.
    return has_magic(prefix + ".idx") ? prefix : "";
  }
  std::error_code none;
  return !std::filesystem::exists(path, none) && has_magic(path + ".idx") ? path : "";
}

std::shared_ptr<const TokenStore> open_megatron_store(const std::string& prefix, int64_t vocabulary_size) {
  return std::make_shared<MegatronStore>(prefix, vocabulary_size);
}

}  // namespace deepflow
