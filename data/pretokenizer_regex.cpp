#include "data/pretokenizer_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/error.h"
#include "data/unicode.h"

#include <pcre2.h>

#include <cstring>

namespace deepflow {

namespace {

using unicode::Range;

std::string spell(const std::vector<Range>& ranges) {
  std::string s;
  for (const Range& r : ranges) s += fmt::format("\\x{{{:x}}}-\\x{{{:x}}}", r.first, r.last);
  return s;
}

std::vector<Range> complement(const std::vector<Range>& ranges) {
  std::vector<Range> rest;
  uint32_t next = 0;
  for (const Range& r : ranges) {
    if (r.first > next) rest.push_back({next, r.first - 1});
    next = r.last + 1;
  }
  rest.push_back({next, 0x10ffff});
  return rest;
}

// Oniguruma's \w: Alphabetic, marks, decimal digits, connectors.
const char kWordClass[] =
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{"
    "1f189}";

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where) : in_(pattern), where_(where) {}

  std::string run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        escape(false);
      } else if (c == '[') {
        character_class();
      } else if (c == '(') {
        group();
      } else {
        if (c == '{') check_interval();
        out_ += c;
        ++at_;
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw DataError("{}: {} at byte {} of the pattern is not supported", where_, what, at_);
  }

  void emit(const std::string& members, bool in_class, bool negated = false) {
    out_ += in_class ? members : fmt::format("[{}{}]", negated ? "^" : "", members);
  }

  void escape(bool in_class) {
    if (at_ + 1 >= in_.size()) refuse("a lone backslash");
    const char c = in_[at_ + 1];
    if (c == 'p' || c == 'P') return property(in_class);
    if (c == 'u') return code_point(4);
    if (c == 'x') return code_point(0);
    switch (c) {
      case 's':
        emit(spell(unicode::white_space()), in_class);
        break;
      case 'S':
        emit(spell(complement(unicode::white_space())), in_class);
        break;
      case 'w':
        emit(kWordClass, in_class);
        break;
      case 'W':
        if (in_class) refuse("\\W in a class");
        emit(kWordClass, false, true);
        break;
      case 'd':
        out_ += "\\p{Nd}";
        break;
      case 'D':
        out_ += "\\P{Nd}";
        break;
      case 'v':
        out_ += "\\x0b";
        break;
      case 'r':
      case 'n':
      case 't':
      case 'f':
        out_ += {'\\', c};
        break;
      default:
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            static_cast<uint8_t>(c) >= 0x80)
          refuse(fmt::format("\\{}", c));
        out_ += {'\\', c};
    }
    at_ += 2;
  }

  // \p{NAME} and \P{NAME}. L and N are widened to the Unicode version of the reference.
  void property(bool in_class) {
    const size_t close = in_.find('}', at_);
    if (at_ + 2 >= in_.size() || in_[at_ + 2] != '{' || close == std::string_view::npos) refuse("\\p without {NAME}");
    const std::string_view name = in_.substr(at_ + 3, close - at_ - 3);
    for (const char c : name)
      if (!isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '&' && c != '^') refuse("this \\p{NAME}");
    const bool negated = in_[at_ + 1] == 'P';
    const bool letters = name == "L" || name == "Letter", numbers = name == "N" || name == "Number";
    if (letters || numbers) {
      if (negated && in_class) refuse("\\P{L} or \\P{N} in a class");
      emit(letters ? "\\p{L}" + spell(unicode::newer_letters()) : "\\p{N}" + spell(unicode::newer_numbers()), in_class,
           negated);
    } else {
      out_ += in_.substr(at_, close + 1 - at_);
    }
    at_ = close + 1;
  }

  // \uHHHH, \xHH (ASCII only: above that Oniguruma means a byte) and \x{H...}.
  void code_point(size_t digits) {
    size_t begin = at_ + 2, end = begin + (digits ? digits : 2);
    const bool braces = digits == 0 && begin < in_.size() && in_[begin] == '{';
    if (braces) {
      end = in_.find('}', ++begin);
      if (end == std::string_view::npos) refuse("\\x{ without }");
    }
    if (end > in_.size() || end == begin || end - begin > 6) refuse("this \\x or \\u");
    uint32_t value = 0;
    for (size_t i = begin; i < end; ++i) {
      if (!isxdigit(static_cast<unsigned char>(in_[i]))) refuse("this \\x or \\u");
      value = value * 16 + static_cast<uint32_t>(in_[i] <= '9' ? in_[i] - '0' : (in_[i] | 0x20) - 'a' + 10);
    }
    if (value > 0x10ffff || (value >= 0xd800 && value < 0xe000) || (!braces && digits == 0 && value > 0x7f))
      refuse("this \\x or \\u");
    out_ += fmt::format("\\x{{{:x}}}", value);
    at_ = end + (braces ? 1 : 0);
  }

  // {,n} and {n,m}+ mean something else in the other dialect.
  void check_interval() const {
    const size_t close = in_.find('}', at_);
    if (close == std::string_view::npos || in_.substr(at_, 2) == "{,") refuse("this {n,m}");
    if (close + 1 < in_.size() && in_[close + 1] == '+') refuse("{n,m}+");
  }

  void character_class() {
    out_ += in_[at_++];
    if (at_ < in_.size() && in_[at_] == '^') out_ += in_[at_++];
    if (at_ < in_.size() && in_[at_] == ']') refuse("] as the first member of a class");
    while (at_ < in_.size() && in_[at_] != ']') {
      if (in_[at_] == '[') refuse("a class inside a class");
      if (in_.substr(at_, 2) == "&&") refuse("&& in a class");
      if (in_[at_] == '\\') {
        escape(true);
      } else {
        out_ += in_[at_++];
      }
    }
    if (at_ == in_.size()) refuse("a class without ]");
    out_ += in_[at_++];
  }

  void group() {
    if (at_ + 1 < in_.size() && in_[at_ + 1] == '*') refuse("(*VERB)");
    if (at_ + 1 < in_.size() && in_[at_ + 1] == '?') {
      static const char* known[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:", "(?i)"};
      bool found = false;
      for (const char* k : known) {
        if (in_.substr(at_, strlen(k)) != k) continue;
        out_ += k;
        at_ += strlen(k);
        found = true;
        break;
      }
      if (!found) refuse("this kind of group");
      return;
    }
    out_ += in_[at_++];
  }

  std::string_view in_;
  const std::string& where_;
  size_t at_ = 0;
  std::string out_;
};

std::string pcre2_message(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

std::string translate_pattern(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).run();
}

std::string escape_pattern(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (strchr("\\^$.|?*+()[]{}-&#/ ", c) && c) out += '\\';
    out += c;
  }
  return out;
}

struct SplitRegex::Code {
  pcre2_code* code = nullptr;
  std::string where;
  ~Code() { pcre2_code_free(code); }
};

SplitRegex::SplitRegex(const std::string& pattern, const std::string& where) : code_(std::make_unique<Code>()) {
  constexpr size_t kLongestPattern = 65536;
  if (pattern.size() > kLongestPattern)
    throw DataError("{}: a pattern of {} bytes is not supported", where, pattern.size());
  const std::string translated = translate_pattern(pattern, where);
  code_->where = where;
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context, 100);
  code_->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, context);
  pcre2_compile_context_free(context);
  if (!code_->code) throw DataError("{}: the pattern does not compile: {}", where, pcre2_message(error));
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);  // without JIT support matching is slower, nothing else
}

SplitRegex::~SplitRegex() = default;

struct SplitRegex::Matcher::State {
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;
  ~State() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
};

SplitRegex::Matcher::Matcher(const SplitRegex& regex) : regex_(regex), state_(std::make_unique<State>()) {
  state_->data = pcre2_match_data_create_from_pattern(regex.code_->code, nullptr);
  state_->context = pcre2_match_context_create(nullptr);
  state_->stack = pcre2_jit_stack_create(32 << 10, 256 << 20, nullptr);
  pcre2_jit_stack_assign(state_->context, nullptr, state_->stack);
}

SplitRegex::Matcher::~Matcher() = default;

bool SplitRegex::Matcher::find(std::string_view text, size_t from, size_t& begin, size_t& end) {
  const int rc = pcre2_match(regex_.code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                             PCRE2_NO_UTF_CHECK, state_->data, state_->context);
  if (rc == PCRE2_ERROR_NOMATCH) return false;
  if (rc < 0)
    throw DataError("{}: matching text of {} bytes failed: {}", regex_.code_->where, text.size(), pcre2_message(rc));
  const PCRE2_SIZE* span = pcre2_get_ovector_pointer(state_->data);
  begin = span[0];
  end = span[1];
  return true;
}

}  // namespace deepflow
