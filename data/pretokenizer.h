#pragma once

#include "data/pretokenizer_regex.h"
#include "data/pretokenizer_scan.h"
#include "data/tokenizer_spec.h"

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace deepflow {

// Cuts text into the words that BPE works on, by the steps of a tokenizer.json. Immutable; each thread has a Scratch.
class PreTokenizer {
 public:
  struct Scratch {
    std::vector<std::unique_ptr<SplitRegex::Matcher>> matchers;  // one per step that needs it
    std::vector<std::string_view> words, cut;
    std::deque<std::string> changed;  // words that a step rewrote
    size_t may_grow = 0;              // bytes that the words of a step may still have
  };

  // `where` begins the message of the DataError for a pattern that is not supported. `scanners` off sends the three
  // known patterns through PCRE2 as well (tests compare the two).
  PreTokenizer(const std::vector<PreTokenizerStep>& steps, const std::string& where, bool scanners = true);

  std::unique_ptr<Scratch> make_scratch() const;

  // `text` is valid UTF-8; `first` says that it stands at the start of the document. Calls word(begin, end) for each
  // word in order.
  template <class Word>
  void for_each_word(std::string_view text, bool first, Scratch& scratch, Word&& word) const {
    switch (only_) {
      case Known::kWhole:
        if (!text.empty()) word(text.data(), text.data() + text.size());
        return;
      case Known::kGpt2:
        return TextScanner(text).gpt2(word);
      case Known::kLlama3:
        return TextScanner(text).llama3<3>(word);
      case Known::kQwen:
        return TextScanner(text).llama3<1>(word);
      case Known::kNo:
        break;
    }
    run_steps(text, first, scratch);
    for (const std::string_view w : scratch.words) word(w.data(), w.data() + w.size());
  }

 private:
  enum class Known : uint8_t { kNo, kWhole, kGpt2, kLlama3, kQwen };
  struct Step {
    PreTokenizerStep what;
    Known known = Known::kNo;
    std::unique_ptr<SplitRegex> regex;
  };

  static Known known_pattern(const SplitStep& step);
  void run_steps(std::string_view text, bool first, Scratch& scratch) const;
  void split(const Step& step, size_t index, std::string_view text, Scratch& scratch) const;
  void metaspace(const MetaspaceStep& step, std::string_view text, bool first, Scratch& scratch) const;

  std::vector<Step> steps_;
  Known only_ = Known::kNo;  // the whole of it is one scanner
};

}  // namespace deepflow
