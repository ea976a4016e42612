#include "data/bpe_model.h"

#include "core/error.h"
#include "data/unicode.h"

#include <algorithm>
#include <bit>

namespace deepflow {

namespace {

struct Alphabet {
  std::array<uint16_t, 256> of_byte{};
  std::array<int16_t, 512> to_byte{};
  Alphabet() {
    to_byte.fill(-1);
    uint16_t next = 256;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      of_byte[static_cast<size_t>(b)] = printable ? static_cast<uint16_t>(b) : next++;
      to_byte[of_byte[static_cast<size_t>(b)]] = static_cast<int16_t>(b);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet table;
  return table;
}

}  // namespace

std::string bytes_to_alphabet(std::string_view bytes) {
  std::string out;
  for (const char b : bytes) unicode::append_utf8(alphabet().of_byte[static_cast<uint8_t>(b)], out);
  return out;
}

bool alphabet_to_bytes(std::string_view token, std::string& bytes) {
  bytes.clear();
  for (size_t i = 0; i < token.size();) {
    int length = 0;
    const uint32_t c = unicode::decode_valid(token.data() + i, length);
    if (c >= 512 || alphabet().to_byte[c] < 0) return false;
    bytes += static_cast<char>(alphabet().to_byte[c]);
    i += static_cast<size_t>(length);
  }
  return true;
}

BpeModel::BpeModel(const BpeSpec& spec, bool byte_level, const std::string& where)
    : byte_level_(byte_level),
      fuse_unknown_(spec.fuse_unknown),
      byte_fallback_(spec.byte_fallback),
      ignore_merges_(spec.ignore_merges) {
  add_vocabulary(spec, where);
  add_merges(spec, where);
  if (!spec.unknown.empty()) {
    unknown_ = find(spec.unknown);
    if (unknown_ == kNoToken) throw DataError("{}: model.unk_token {:?} is not in model.vocab", where, spec.unknown);
  }
  for (int b = 0; b < 256; ++b) {
    const std::string byte(1, static_cast<char>(b));
    byte_ids_[static_cast<size_t>(b)] = find(byte_level_ ? bytes_to_alphabet(byte) : fmt::format("<0x{:02X}>", b));
  }
  if (!ignore_merges_) return;
  std::string bytes;
  for (const auto& [token, id] : spec.vocabulary) {
    if (!byte_level_) {
      whole_words_.emplace(token, id);
    } else if (alphabet_to_bytes(token, bytes)) {
      whole_words_.emplace(bytes, id);
    }
  }
}

void BpeModel::add_vocabulary(const BpeSpec& spec, const std::string& where) {
  constexpr int64_t kMostHoles = 1 << 20;
  const auto count = static_cast<int64_t>(spec.vocabulary.size());
  TokenId highest = -1;
  for (const auto& [token, id] : spec.vocabulary) {
    if (id < 0 || id >= count + kMostHoles)
      throw DataError("{}: model.vocab: token {:?} has id {}; {} tokens need ids from 0 on without large holes", where,
                      token, id, count);
    highest = std::max(highest, id);
  }
  tokens_.resize(static_cast<size_t>(highest) + 1);
  present_.resize(tokens_.size());
  for (const auto& [token, id] : spec.vocabulary) {
    const auto i = static_cast<size_t>(id);
    if (present_[i])
      throw DataError("{}: model.vocab: tokens {:?} and {:?} have the same id {}", where, tokens_[i], token, id);
    present_[i] = true;
    tokens_[i] = token;
  }
  ids_.reserve(spec.vocabulary.size());
  for (size_t i = 0; i < tokens_.size(); ++i)
    if (present_[i]) ids_.emplace(tokens_[i], static_cast<TokenId>(i));
}

void BpeModel::add_merges(const BpeSpec& spec, const std::string& where) {
  mask_ = std::bit_ceil(spec.merges.size() * 2 + 2) - 1;
  shift_ = 64 - std::countr_one(mask_);
  merges_.assign(mask_ + 1, Merge{0, 0, kNoToken});
  auto known = [&](const std::string& token, size_t i) {
    const TokenId id = find(token);
    if (id == kNoToken)
      throw DataError("{}: model.merges[{}] needs the token {:?}, which is not in model.vocab", where, i, token);
    return uint64_t{static_cast<uint32_t>(id)};
  };
  for (size_t i = 0; i < spec.merges.size(); ++i) {
    const auto& [left, right] = spec.merges[i];
    const uint64_t pair = known(left, i) << 32 | known(right, i);
    insert(pair, static_cast<uint32_t>(i), static_cast<TokenId>(known(left + right, i)));
  }
}

// A pair listed twice has its last rank, as in the reference.
void BpeModel::insert(uint64_t pair, uint32_t rank, TokenId result) {
  size_t i = slot(pair);
  while (merges_[i].result != kNoToken && merges_[i].pair != pair) i = (i + 1) & mask_;
  merges_[i] = {pair, rank, result};
}

const std::string* BpeModel::token(TokenId id) const {
  if (id < 0 || id >= size() || !present_[static_cast<size_t>(id)]) return nullptr;
  return &tokens_[static_cast<size_t>(id)];
}

TokenId BpeModel::find(std::string_view token) const {
  const auto it = ids_.find(token);
  return it == ids_.end() ? kNoToken : it->second;
}

void BpeModel::encode(std::string_view word, Scratch& scratch, std::vector<TokenId>& out) const {
  if (word.size() >= (size_t{1} << 31))
    throw DataError("a word of {} bytes: at most 2^31 - 1 can be tokenised; cut the document into smaller ones",
                    word.size());
  if (ignore_merges_) {
    const auto it = whole_words_.find(std::string(word));
    if (it != whole_words_.end()) return out.push_back(it->second);
  }
  scratch.ids.clear();
  byte_level_ ? split_bytes(word, scratch.ids) : split_characters(word, scratch.ids);
  constexpr size_t kShort = 48;  // up to here a scan for the lowest rank beats a queue
  scratch.ids.size() <= kShort ? merge_short(scratch.ids, scratch.merges) : merge_long(scratch);
  out.insert(out.end(), scratch.ids.begin(), scratch.ids.end());
}

// A byte without a token becomes the unknown token, or vanishes when there is none, as in the reference.
void BpeModel::split_bytes(std::string_view word, std::vector<TokenId>& ids) const {
  bool fuse = false;
  for (const char b : word) {
    const TokenId id = byte_ids_[static_cast<uint8_t>(b)];
    if (id != kNoToken) {
      ids.push_back(id);
      fuse = false;
    } else if (unknown_ != kNoToken && !fuse) {
      ids.push_back(unknown_);
      fuse = fuse_unknown_;
    }
  }
}

void BpeModel::split_characters(std::string_view word, std::vector<TokenId>& ids) const {
  bool fuse = false;
  for (size_t i = 0, n = 0; i < word.size(); i += n) {
    int length = 0;
    unicode::decode_valid(word.data() + i, length);
    n = static_cast<size_t>(length);
    const std::string_view character = word.substr(i, n);
    const TokenId id = find(character);
    const auto is_token = [&](char b) { return byte_ids_[static_cast<uint8_t>(b)] != kNoToken; };
    if (id != kNoToken) {
      ids.push_back(id);
      fuse = false;
    } else if (byte_fallback_ && std::all_of(character.begin(), character.end(), is_token)) {
      for (const char b : character) ids.push_back(byte_ids_[static_cast<uint8_t>(b)]);
    } else if (unknown_ != kNoToken && !fuse) {
      ids.push_back(unknown_);
      fuse = fuse_unknown_;
    }
  }
}

void BpeModel::encode_stray(std::string_view bytes, std::vector<TokenId>& out) const {
  for (const char b : bytes) {
    const TokenId id = byte_fallback_ ? byte_ids_[static_cast<uint8_t>(b)] : kNoToken;
    if (id != kNoToken || unknown_ != kNoToken) out.push_back(id != kNoToken ? id : unknown_);
  }
}

// ranks[i] is rank << 32 | result of the pair that starts at i, all ones where there is no merge.
void BpeModel::merge_short(std::vector<TokenId>& ids, std::vector<uint64_t>& ranks) const {
  constexpr uint64_t kNone = ~uint64_t{0};
  size_t n = ids.size();
  auto look_up = [&](size_t i) {
    if (i + 1 >= n) return kNone;
    const Merge* m = merge_of(ids[i], ids[i + 1]);
    return m ? uint64_t{m->rank} << 32 | static_cast<uint32_t>(m->result) : kNone;
  };
  ranks.resize(n);
  for (size_t i = 0; i < n; ++i) ranks[i] = look_up(i);
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i)
      if (ranks[i] < ranks[best]) best = i;
    if (ranks[best] == kNone) break;
    ids[best] = static_cast<TokenId>(ranks[best] & 0xffffffffu);
    for (size_t i = best + 1; i + 1 < n; ++i) ids[i] = ids[i + 1], ranks[i] = ranks[i + 1];
    --n;
    ranks[best] = look_up(best);
    if (best > 0) ranks[best - 1] = look_up(best - 1);
  }
  ids.resize(n);
}

// A queue of (rank, position), lowest first; entries that no longer fit the symbols are dropped when they come up.
void BpeModel::merge_long(Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& queue = scratch.queue;
  const auto n = static_cast<int32_t>(scratch.ids.size());
  symbols.resize(scratch.ids.size());
  queue.clear();
  auto at = [&](int32_t i) -> Scratch::Symbol& { return symbols[static_cast<size_t>(i)]; };
  auto candidate = [&](int32_t i, bool heap) {
    if (i < 0 || at(i).next < 0) return;
    const Merge* m = merge_of(at(i).id, at(at(i).next).id);
    if (!m) return;
    queue.push_back({uint64_t{m->rank} << 32 | static_cast<uint32_t>(i), static_cast<uint64_t>(m->result)});
    if (heap) std::push_heap(queue.begin(), queue.end(), std::greater<>());
  };
  for (int32_t i = 0; i < n; ++i) at(i) = {scratch.ids[static_cast<size_t>(i)], i - 1, i + 1 < n ? i + 1 : -1};
  for (int32_t i = 0; i < n; ++i) candidate(i, false);
  std::make_heap(queue.begin(), queue.end(), std::greater<>());
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), std::greater<>());
    const auto [key, result] = queue.back();
    queue.pop_back();
    const auto i = static_cast<int32_t>(key & 0xffffffffu);
    if (at(i).next < 0) continue;
    const int32_t right = at(i).next;
    const Merge* m = merge_of(at(i).id, at(right).id);
    if (!m || m->result != static_cast<TokenId>(result)) continue;
    at(i).id = m->result;
    at(i).next = at(right).next;
    at(right).next = -2;
    if (at(i).next >= 0) at(at(i).next).previous = i;
    candidate(at(i).previous, true);
    candidate(i, true);
  }
  scratch.ids.clear();
  for (int32_t i = n ? 0 : -1; i >= 0; i = at(i).next) scratch.ids.push_back(at(i).id);
}

}  // namespace deepflow
