#include "data/pretokenizer.h"

#include "data/text_growth.h"

namespace deepflow {

PreTokenizer::Known PreTokenizer::known_pattern(const SplitStep& step) {
  // The known patterns match every character, so that only Removed would tell matches and gaps apart.
  const bool cuts_only =
      step.behavior == SplitBehavior::kIsolated || (step.behavior == SplitBehavior::kRemoved && step.invert);
  if (!cuts_only) return Known::kNo;
  if (step.pattern == kGpt2Pattern) return Known::kGpt2;
  if (step.pattern == kLlama3Pattern) return Known::kLlama3;
  if (step.pattern == kQwenPattern) return Known::kQwen;
  return Known::kNo;
}

PreTokenizer::PreTokenizer(const std::vector<PreTokenizerStep>& steps, const std::string& where, bool scanners) {
  for (const PreTokenizerStep& what : steps) {
    Step step;
    step.what = what;
    if (const auto* split = std::get_if<SplitStep>(&what)) {
      if (scanners) step.known = known_pattern(*split);
      if (step.known == Known::kNo) step.regex = std::make_unique<SplitRegex>(split->pattern, where);
    } else if (const auto* meta = std::get_if<MetaspaceStep>(&what)) {
      if (meta->split) step.regex = std::make_unique<SplitRegex>(escape_pattern(meta->replacement), where);
    }
    steps_.push_back(std::move(step));
  }
  if (steps_.empty()) only_ = Known::kWhole;
  if (steps_.size() == 1) only_ = steps_[0].known;
}

std::unique_ptr<PreTokenizer::Scratch> PreTokenizer::make_scratch() const {
  auto scratch = std::make_unique<Scratch>();
  for (const Step& step : steps_)
    scratch->matchers.push_back(step.regex ? std::make_unique<SplitRegex::Matcher>(*step.regex) : nullptr);
  return scratch;
}

void PreTokenizer::run_steps(std::string_view text, bool first, Scratch& scratch) const {
  scratch.changed.clear();
  const size_t longest = longest_rewritten(text.size());
  scratch.words.assign(1, text);
  if (text.empty()) scratch.words.clear();
  for (size_t i = 0; i < steps_.size(); ++i) {
    const Step& step = steps_[i];
    scratch.cut.clear();
    scratch.may_grow = longest;
    bool at_start = first;
    for (const std::string_view word : scratch.words) {
      if (std::holds_alternative<SplitStep>(step.what)) {
        split(step, i, word, scratch);
      } else if (const auto* meta = std::get_if<MetaspaceStep>(&step.what)) {
        metaspace(*meta, word, at_start, scratch);
        if (meta->split) {
          const std::string_view whole = scratch.cut.back();
          scratch.cut.pop_back();
          split(step, i, whole, scratch);
        }
      } else if (word.front() == ' ') {
        scratch.cut.push_back(word);
      } else {
        scratch.cut.push_back(scratch.changed.emplace_back(1, ' ').append(word));
      }
      at_start = false;
    }
    scratch.words.swap(scratch.cut);
  }
}

void PreTokenizer::metaspace(const MetaspaceStep& step, std::string_view text, bool first, Scratch& scratch) const {
  std::string replaced;
  append_replaced(text, " ", step.replacement, scratch.may_grow, replaced);
  const bool wanted =
      step.prepend == MetaspaceStep::Prepend::kAlways || (step.prepend == MetaspaceStep::Prepend::kFirst && first);
  if (wanted && !replaced.starts_with(step.replacement)) replaced.insert(0, step.replacement);
  check_growth(replaced.size(), scratch.may_grow);
  scratch.may_grow -= replaced.size();
  scratch.cut.push_back(scratch.changed.emplace_back(std::move(replaced)));
}

namespace {

struct Piece {
  size_t begin, end;
  bool match;
};

// Joins pieces as Hugging Face's NormalizedString::split does: a match goes to its neighbour unless the piece before it
// (in reading direction) is a match too.
void merge_previous(std::vector<Piece>& pieces) {
  std::vector<Piece> out;
  bool previous = false;
  for (const Piece& p : pieces) {
    if (p.match && !previous && !out.empty()) {
      out.back().end = p.end;
    } else {
      out.push_back(p);
    }
    previous = p.match;
  }
  pieces = std::move(out);
}

void merge_next(std::vector<Piece>& pieces) {
  std::vector<Piece> out;
  bool previous = false;
  for (auto p = pieces.rbegin(); p != pieces.rend(); ++p) {
    if (p->match && !previous && !out.empty()) {
      out.back().begin = p->begin;
    } else {
      out.push_back(*p);
    }
    previous = p->match;
  }
  pieces.assign(out.rbegin(), out.rend());
}

void merge_contiguous(std::vector<Piece>& pieces) {
  std::vector<Piece> out;
  bool previous = false;
  for (const Piece& p : pieces) {
    if (p.match == previous && !out.empty()) {
      out.back().end = p.end;
    } else {
      out.push_back(p);
    }
    previous = p.match;
  }
  pieces = std::move(out);
}

std::vector<Piece> find_pieces(SplitRegex::Matcher& matcher, std::string_view text, bool invert) {
  std::vector<Piece> pieces;
  size_t previous = 0, from = 0, begin = 0, end = 0;
  while (from <= text.size() && matcher.find(text, from, begin, end)) {
    const bool repeated = begin == end && begin == previous && !pieces.empty();
    if (!repeated) {
      if (previous != begin) pieces.push_back({previous, begin, invert});
      if (begin != end) pieces.push_back({begin, end, !invert});
      previous = end;
    }
    from = end;
    if (begin == end) {
      if (end == text.size()) break;
      int length = 0;
      unicode::decode_valid(text.data() + end, length);
      from += static_cast<size_t>(length);
    }
  }
  if (previous != text.size()) pieces.push_back({previous, text.size(), invert});
  return pieces;
}

}  // namespace

void PreTokenizer::split(const Step& step, size_t index, std::string_view text, Scratch& scratch) const {
  auto add = [&](const char* begin, const char* end) {
    scratch.cut.emplace_back(begin, static_cast<size_t>(end - begin));
  };
  if (step.known == Known::kGpt2) return TextScanner(text).gpt2(add);
  if (step.known == Known::kLlama3) return TextScanner(text).llama3<3>(add);
  if (step.known == Known::kQwen) return TextScanner(text).llama3<1>(add);
  const auto* given = std::get_if<SplitStep>(&step.what);
  const SplitBehavior behavior = given ? given->behavior : SplitBehavior::kMergedWithNext;
  std::vector<Piece> pieces = find_pieces(*scratch.matchers[index], text, given && given->invert);
  if (behavior == SplitBehavior::kMergedWithPrevious) merge_previous(pieces);
  if (behavior == SplitBehavior::kMergedWithNext) merge_next(pieces);
  if (behavior == SplitBehavior::kContiguous) merge_contiguous(pieces);
  for (const Piece& p : pieces)
    if (behavior != SplitBehavior::kRemoved || !p.match) scratch.cut.push_back(text.substr(p.begin, p.end - p.begin));
}

}  // namespace deepflow
