#include "data/bpe_tokenizer.h"

#include "core/error.h"
#include "data/text_growth.h"
#include "data/unicode.h"

#include <algorithm>

namespace deepflow {

struct BpeTokenizer::Scratch {
  std::unique_ptr<PreTokenizer::Scratch> words;
  BpeModel::Scratch model;
  BpeWordCache cache;
  std::vector<AddedTokenMatcher::Piece> raw_pieces, normalized_pieces;
  std::string normalized[2];
};

struct BpeTokenizer::Lease {
  explicit Lease(const BpeTokenizer& owner) : owner_(owner) {
    {
      const std::lock_guard lock(owner.mutex_);
      if (!owner.idle_.empty()) {
        scratch = std::move(owner.idle_.back());
        owner.idle_.pop_back();
      }
    }
    if (scratch) return;
    scratch = std::make_unique<Scratch>();
    scratch->words = owner.pre_tokenizer_.make_scratch();
  }
  ~Lease() {
    const std::lock_guard lock(owner_.mutex_);
    owner_.idle_.push_back(std::move(scratch));
  }
  const BpeTokenizer& owner_;
  std::unique_ptr<Scratch> scratch;
};

BpeTokenizer::BpeTokenizer(TokenizerSpec spec, TokenizerIdentity identity, const std::string& where)
    : spec_(std::move(spec)),
      identity_(std::move(identity)),
      model_(spec_.model, spec_.byte_level, where),
      pre_tokenizer_(spec_.pre_tokenizer, where + ": pre_tokenizer") {
  std::vector<AddedToken> sought = spec_.added;
  Scratch scratch;
  for (AddedToken& token : sought) {
    added_ids_[token.content] = token.id;
    if (token.normalized) token.content = std::string(normalize(token.content, true, scratch));
  }
  raw_added_ = std::make_unique<AddedTokenMatcher>(sought, false);
  normalized_added_ = std::make_unique<AddedTokenMatcher>(sought, true);
  fill_token_bytes(where);
}

BpeTokenizer::~BpeTokenizer() = default;

namespace {

void replace_all(std::string& text, const std::string& from, const std::string& to, size_t longest) {
  std::string replaced;
  append_replaced(text, from, to, longest, replaced);
  text = std::move(replaced);
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// <0xAB>
bool is_byte_token(const std::string& token, char& byte) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return false;
  const int high = hex_digit(token[3]), low = hex_digit(token[4]);
  byte = static_cast<char>(high * 16 + low);
  return high >= 0 && low >= 0;
}

}  // namespace

std::string BpeTokenizer::plain_bytes(const std::string& token, bool& metaspace) const {
  const DecoderSpec& d = spec_.decoder;
  std::string bytes;
  char byte = 0;
  if (spec_.byte_level) return alphabet_to_bytes(token, bytes) ? bytes : token;
  if (d.byte_fallback && is_byte_token(token, byte)) return std::string(1, byte);
  bytes = token;
  const size_t longest = longest_rewritten(token.size());
  for (const ReplaceStep& r : d.replace) replace_all(bytes, r.from, r.to, longest);
  metaspace = !d.metaspace.empty() && bytes.find(d.metaspace) != std::string::npos;
  if (metaspace) replace_all(bytes, d.metaspace, " ", longest);
  return bytes;
}

void BpeTokenizer::fill_token_bytes(const std::string& where) {
  constexpr TokenId kMostHoles = 1 << 20;
  TokenId size = model_.size();
  for (const AddedToken& token : spec_.added) {
    if (token.id < 0 || token.id >= model_.size() + kMostHoles)
      throw DataError("{}: added token {:?} has id {}, far above the {} of the model", where, token.content, token.id,
                      model_.size());
    size = std::max(size, token.id + 1);
  }
  bytes_.resize(static_cast<size_t>(size));
  kinds_.resize(bytes_.size());
  for (TokenId id = 0; id < model_.size(); ++id) {
    const std::string* token = model_.token(id);
    if (!token) continue;
    Kind& kind = kinds_[static_cast<size_t>(id)];
    kind.exists = true;
    bytes_[static_cast<size_t>(id)] = plain_bytes(*token, kind.metaspace);
  }
  for (const AddedToken& token : spec_.added) {
    bytes_[static_cast<size_t>(token.id)] = token.content;
    kinds_[static_cast<size_t>(token.id)] = {true, token.special, false};
  }
  for (const auto* ids : {&spec_.prefix, &spec_.suffix})
    for (const TokenId id : *ids)
      if (id >= size || !kinds_[static_cast<size_t>(id)].exists)
        throw DataError("{}: post_processor writes the id {}, which no token has", where, id);
}

void BpeTokenizer::encode(std::string_view text, std::vector<TokenId>& out, const EncodeOptions& options) const {
  const Lease lease(*this);
  Scratch& scratch = *lease.scratch;
  if (options.add_special) out.insert(out.end(), spec_.prefix.begin(), spec_.prefix.end());
  if (raw_added_->empty()) {
    encode_text(text, options.match_special, true, scratch, out);
  } else {
    scratch.raw_pieces.clear();
    raw_added_->cut(text, options.match_special, scratch.raw_pieces);
    for (const auto& piece : scratch.raw_pieces) {
      if (piece.id != kNoToken) {
        out.push_back(piece.id);
      } else {
        encode_text(piece.text, options.match_special, piece.text.data() == text.data(), scratch, out);
      }
    }
  }
  if (options.add_special) out.insert(out.end(), spec_.suffix.begin(), spec_.suffix.end());
}

void BpeTokenizer::encode_text(std::string_view text, bool match_special, bool first, Scratch& scratch,
                               std::vector<TokenId>& out) const {
  const char* begin = text.data();
  while (!text.empty()) {
    const size_t valid = unicode::valid_prefix(text);
    const bool at_start = text.data() == begin;
    if (valid > 0) encode_valid(text.substr(0, valid), match_special, first && at_start, at_start, scratch, out);
    text.remove_prefix(valid);
    const size_t stray = unicode::invalid_prefix(text);
    const std::string_view bytes = text.substr(0, stray);
    if (stray > 0) spec_.byte_level ? model_.encode(bytes, scratch.model, out) : model_.encode_stray(bytes, out);
    text.remove_prefix(stray);
  }
}

void BpeTokenizer::encode_valid(std::string_view text, bool match_special, bool first, bool prepend, Scratch& scratch,
                                std::vector<TokenId>& out) const {
  if (!spec_.normalizer.empty()) text = normalize(text, prepend, scratch);
  if (normalized_added_->empty()) return encode_words(text, first, scratch, out);
  scratch.normalized_pieces.clear();
  normalized_added_->cut(text, match_special, scratch.normalized_pieces);
  for (const auto& piece : scratch.normalized_pieces) {
    if (piece.id != kNoToken) {
      out.push_back(piece.id);
    } else {
      encode_words(piece.text, first && piece.text.data() == text.data(), scratch, out);
    }
  }
}

std::string_view BpeTokenizer::normalize(std::string_view text, bool prepend, Scratch& scratch) const {
  const size_t longest = longest_rewritten(text.size());
  size_t turn = 0;  // `text` never lies in the buffer that is written next
  for (const NormalizerStep& step : spec_.normalizer) {
    std::string& buffer = scratch.normalized[turn];
    if (std::holds_alternative<NfcStep>(step)) {
      text = unicode::to_nfc(text, buffer);
    } else if (const auto* p = std::get_if<PrependStep>(&step)) {
      if (!prepend || text.empty()) continue;
      text = buffer.assign(p->text).append(text);
    } else {
      const auto& replace = std::get<ReplaceStep>(step);
      buffer.clear();
      append_replaced(text, replace.from, replace.to, longest, buffer);
      text = buffer;
    }
    turn ^= 1;
  }
  return text;
}

void BpeTokenizer::encode_words(std::string_view text, bool first, Scratch& scratch, std::vector<TokenId>& out) const {
  const char* readable = text.data() + text.size();
  pre_tokenizer_.for_each_word(text, first, *scratch.words, [&](const char* begin, const char* end) {
    const std::string_view word(begin, static_cast<size_t>(end - begin));
    const bool inside = begin >= text.data() && end <= readable;
    if (scratch.cache.get(word, inside ? readable : end, out)) return;
    const size_t n = out.size();
    model_.encode(word, scratch.model, out);
    scratch.cache.put(word, out.data() + n, out.size() - n);
  });
}

std::string BpeTokenizer::token_bytes(TokenId id) const {
  if (id < 0 || id >= vocabulary_size())
    throw DataError("token id {} is outside the vocabulary of {}", id, vocabulary_size());
  return bytes_[static_cast<size_t>(id)];
}

std::string BpeTokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  const DecoderSpec& d = spec_.decoder;
  std::string text;
  bool start = true;
  for (const TokenId id : ids) {
    if (id < 0 || id >= vocabulary_size())
      throw DataError("token id {} is outside the vocabulary of {}", id, vocabulary_size());
    const Kind kind = kinds_[static_cast<size_t>(id)];
    if (!kind.exists || (skip_special && kind.special)) continue;
    if (start && kind.metaspace && d.drop_first_metaspace) {
      std::string token = *model_.token(id);
      replace_all(token, d.metaspace, "", token.size());
      text += token;
    } else {
      text += bytes_[static_cast<size_t>(id)];
    }
    start = false;
  }
  size_t strip = 0;
  for (int64_t i = 0; i < d.strip_left && !d.strip.empty() && text.compare(strip, d.strip.size(), d.strip) == 0; ++i)
    strip += d.strip.size();
  return text.substr(strip);
}

TokenId BpeTokenizer::find(std::string_view token) const {
  const auto it = added_ids_.find(std::string(token));
  return it != added_ids_.end() ? it->second : model_.find(token);
}

}  // namespace deepflow
