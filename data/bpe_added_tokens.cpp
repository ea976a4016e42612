#include "data/bpe_added_tokens.h"

#include "data/unicode.h"

#include <algorithm>
#include <cstring>

namespace deepflow {

AddedTokenMatcher::AddedTokenMatcher(const std::vector<AddedToken>& tokens, bool normalized) : ends_(1, -1) {
  for (const AddedToken& token : tokens) {
    if (token.normalized != normalized || token.content.empty()) continue;
    uint32_t node = 0;
    for (const char c : token.content) {
      const auto fresh = static_cast<uint32_t>(ends_.size());
      const auto [edge, added] = edges_.emplace(uint64_t{node} << 8 | static_cast<uint8_t>(c), fresh);
      if (added) ends_.push_back(-1);
      node = edge->second;
    }
    ends_[node] = static_cast<int32_t>(tokens_.size());
    starts_[static_cast<uint8_t>(token.content[0])] = true;
    tokens_.push_back(token);
  }
  if (std::count(std::begin(starts_), std::end(starts_), true) == 1)
    single_start_ = static_cast<int>(std::find(std::begin(starts_), std::end(starts_), true) - starts_);
}

const AddedToken* AddedTokenMatcher::longest(std::string_view text, size_t at) const {
  const AddedToken* found = nullptr;
  uint32_t node = 0;
  for (; at < text.size(); ++at) {
    const auto edge = edges_.find(uint64_t{node} << 8 | static_cast<uint8_t>(text[at]));
    if (edge == edges_.end()) break;
    node = edge->second;
    if (ends_[node] >= 0) found = &tokens_[static_cast<size_t>(ends_[node])];
  }
  return found;
}

size_t AddedTokenMatcher::next_start(std::string_view text, size_t from) const {
  if (single_start_ >= 0) {
    if (from >= text.size()) return text.size();
    const void* hit = memchr(text.data() + from, single_start_, text.size() - from);
    return hit ? static_cast<size_t>(static_cast<const char*>(hit) - text.data()) : text.size();
  }
  while (from < text.size() && !starts_[static_cast<uint8_t>(text[from])]) ++from;
  return from;
}

namespace {

uint8_t class_after(std::string_view text) {
  const int n = unicode::character_length(text.data(), text.data() + text.size());
  int length = 0;
  return n == 0 ? uint8_t{unicode::kOther} : unicode::class_table().of(unicode::decode_valid(text.data(), length));
}

// Start of the last well-formed character of `text`, or its size.
size_t last_character(std::string_view text) {
  for (size_t n = 1; n <= std::min<size_t>(4, text.size()); ++n) {
    const char* p = text.data() + text.size() - n;
    if (unicode::character_length(p, p + n) == static_cast<int>(n)) return text.size() - n;
  }
  return text.size();
}

bool ends_with_word(std::string_view text) { return class_after(text.substr(last_character(text))) & unicode::kWord; }

size_t spaces_at_end(std::string_view text) {
  size_t begin = text.size();
  while (begin > 0) {
    const size_t last = last_character(text.substr(0, begin));
    if (last == begin || !(class_after(text.substr(last, begin - last)) & unicode::kSpace)) break;
    begin = last;
  }
  return text.size() - begin;
}

size_t spaces_at_start(std::string_view text) {
  size_t n = 0;
  while (n < text.size() && (class_after(text.substr(n)) & unicode::kSpace))
    n += static_cast<size_t>(unicode::character_length(text.data() + n, text.data() + text.size()));
  return n;
}

}  // namespace

void AddedTokenMatcher::cut(std::string_view text, bool match_special, std::vector<Piece>& out) const {
  size_t done = 0;
  for (size_t at = next_start(text, 0); at < text.size(); at = next_start(text, at)) {
    const AddedToken* token = longest(text, at);
    if (!token) {
      ++at;
      continue;
    }
    size_t start = at, stop = at + token->content.size();
    at = stop;
    if (token->special && !match_special) continue;
    const bool touches_word =
        ends_with_word(text.substr(0, start)) || (class_after(text.substr(stop)) & unicode::kWord);
    if (token->single_word && touches_word) continue;
    if (token->lstrip) start = std::max(start - spaces_at_end(text.substr(0, start)), done);
    if (token->rstrip) stop += spaces_at_start(text.substr(stop));
    if (done < start) out.push_back({text.substr(done, start - done), kNoToken});
    out.push_back({text.substr(start, stop - start), token->id});
    done = stop;
  }
  if (done < text.size()) out.push_back({text.substr(done), kNoToken});
}

}  // namespace deepflow
