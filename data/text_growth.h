#pragma once

#include "core/error.h"

#include <algorithm>
#include <string>
#include <string_view>

namespace deepflow {

// The steps of a tokenizer.json rewrite text, and each may multiply what the one before it made: a few lines fill any
// memory. A text of n bytes may become this long.
inline size_t longest_rewritten(size_t n) { return (size_t{1} << 20) + 64 * n; }

// DataError when a text that was rewritten is longer than that.
inline void check_growth(size_t n, size_t longest) {
  if (n > longest)
    throw DataError("the steps of the tokenizer make {} bytes of a text, more than {}; its tokenizer.json is damaged",
                    n, longest);
}

// Appends `text` to `out` with every `from` (not empty) as `to`; check_growth() on the way.
inline void append_replaced(std::string_view text, std::string_view from, std::string_view to, size_t longest,
                            std::string& out) {
  for (size_t at = 0; at < text.size();) {
    const size_t hit = std::min(text.find(from, at), text.size());
    out.append(text.substr(at, hit - at));
    if (hit < text.size()) out.append(to);
    check_growth(out.size(), longest);
    at = hit + from.size();
  }
}

}  // namespace deepflow
