#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace deepflow {

// A regular expression in the syntax of tokenizer.json (Oniguruma, as far as translate_pattern says), matched over
// valid UTF-8 by PCRE2 with its JIT compiler. Immutable; the state of a search lives in a Matcher, one per thread.
class SplitRegex {
 public:
  // Throws DataError, beginning with `where`, for syntax outside the common subset or a pattern that does not compile.
  SplitRegex(const std::string& pattern, const std::string& where);
  ~SplitRegex();
  SplitRegex(const SplitRegex&) = delete;
  SplitRegex& operator=(const SplitRegex&) = delete;

  class Matcher {
   public:
    explicit Matcher(const SplitRegex& regex);
    ~Matcher();
    Matcher(const Matcher&) = delete;
    Matcher& operator=(const Matcher&) = delete;

    // The first match that starts at or after `from`; false when there is none. May be empty.
    bool find(std::string_view text, size_t from, size_t& begin, size_t& end);

   private:
    struct State;
    const SplitRegex& regex_;
    std::unique_ptr<State> state_;
  };

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

// The same pattern for PCRE2. Where the two dialects differ (\s, \w, \v, Unicode version of \p{L} and \p{N}) classes
// are spelled out; what has no common meaning (\h, \R, \X, nested classes, &&, (?m), back-references ...) is refused.
std::string translate_pattern(std::string_view pattern, const std::string& where);

// `text` as a pattern that matches just it.
std::string escape_pattern(std::string_view text);

}  // namespace deepflow
