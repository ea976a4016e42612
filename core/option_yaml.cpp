#include "core/option_yaml.h"

#include "core/error.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <sstream>
#include <string_view>

namespace deepflow {
namespace {

using Kind = OptionValue::Kind;

constexpr size_t kMaxBytes = 1 << 20;
constexpr size_t kMaxDepth = 32;
constexpr size_t kMaxValues = 20000;

// Bytes of the UTF-8 character at `at`, 0 where none stands.
size_t character_length(const std::string& text, size_t at) {
  const auto byte = [&](size_t k) { return at + k < text.size() ? static_cast<unsigned char>(text[at + k]) : 0u; };
  const unsigned lead = byte(0), second = byte(1);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xC2 && lead < 0xE0    ? 2
                        : (lead & 0xF0) == 0xE0        ? 3
                        : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                       : 0;
  for (size_t k = 1; k < length; ++k)
    if ((byte(k) & 0xC0) != 0x80) return 0;
  const bool overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
  const bool no_character = (lead == 0xED && second >= 0xA0) || (lead == 0xF4 && second >= 0x90);
  return overlong || no_character ? 0 : length;
}

bool is_text(const std::string& text) {
  for (size_t i = 0; i < text.size();) {
    const size_t length = character_length(text, i);
    if (length == 0) return false;
    i += length;
  }
  return true;
}

// Builds the tree from the parser's events, so that nothing is expanded or nested beyond the limits.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(std::shared_ptr<const std::string> origin, bool lines) : origin_(std::move(origin)), lines_(lines) {}

  OptionValue take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    OptionValue value;
    value.place = place(mark);
    count(value, value.place);
    finish(std::move(value), anchor);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    // The parser takes \N and \_ for single bytes.
    if (!is_text(text)) fail_option(place(mark), "an escape stands for no character; write the character itself");
    OptionValue value = OptionValue::scalar(text, tag != "?");
    value.place = place(mark);
    count(value, value.place);
    finish(std::move(value), anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) fail_option(place(mark), "invalid YAML: an alias stands inside its own anchor");
    count(found->second, place(mark));
    finish(found->second, 0);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    start(Kind::kList, mark, anchor);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    start(Kind::kMap, mark, anchor);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapEnd() override { end(); }

 private:
  struct Frame {
    OptionValue value;
    YAML::anchor_t anchor;
    bool has_key = false;
    std::map<std::string, int> lines;  // of the keys so far
  };

  OptionPlace place(const YAML::Mark& mark) const { return {origin_, lines_ ? mark.line + 1 : 0}; }

  void count(const OptionValue& value, const OptionPlace& where) {
    if (++values_ > kMaxValues || (bytes_ += value.text.size()) > 4 * kMaxBytes) {
      fail_option(where, fmt::format("the recipe has more than {} values", kMaxValues));
    }
    for (const OptionValue& item : value.items) count(item, where);
    for (const OptionEntry& entry : value.entries) bytes_ += entry.key.size(), count(entry.value, where);
  }

  void start(Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    check_key(place(mark), false);
    if (stack_.size() >= kMaxDepth) {
      fail_option(place(mark), fmt::format("the recipe is nested more than {} levels deep", kMaxDepth));
    }
    Frame frame{{}, anchor, false, {}};
    frame.value.kind = kind;
    frame.value.place = place(mark);
    count(frame.value, frame.value.place);
    stack_.push_back(std::move(frame));
  }

  void end() {
    Frame frame = std::move(stack_.back());
    stack_.pop_back();
    finish(std::move(frame.value), frame.anchor);
  }

  void check_key(const OptionPlace& where, bool is_text) const {
    const bool key_expected = !stack_.empty() && stack_.back().value.kind == Kind::kMap && !stack_.back().has_key;
    if (key_expected && !is_text) fail_option(where, "invalid YAML: a bracket is not closed or a key is not text");
  }

  void finish(OptionValue value, YAML::anchor_t anchor) {
    if (anchor) anchors_[anchor] = value;
    if (stack_.empty()) {
      root_ = std::move(value);
      return;
    }
    Frame& frame = stack_.back();
    std::vector<OptionEntry>& entries = frame.value.entries;
    if (frame.value.kind == Kind::kList) {
      frame.value.items.push_back(std::move(value));
    } else if (frame.has_key) {
      if (value.kind == Kind::kNull) value.place = entries.back().place;
      entries.back().value = std::move(value);
      frame.has_key = false;
    } else {
      check_key(value.place, value.kind == Kind::kScalar);
      add_key(frame, std::move(value));
    }
  }

  void add_key(Frame& frame, OptionValue key) {
    const auto [first, fresh] = frame.lines.emplace(key.text, key.place.line);
    if (!fresh) {
      std::string path;
      for (const Frame& outer : stack_) {
        if (&outer != &frame && outer.has_key) path += outer.value.entries.back().key + ".";
      }
      fail_option(key.place,
                  fmt::format("{}{} is given twice; it stands already on line {}", path, key.text, first->second));
    }
    frame.value.entries.push_back({std::move(key.text), std::move(key.place), {}, ""});
    frame.has_key = true;
  }

  std::shared_ptr<const std::string> origin_;
  bool lines_;
  std::vector<Frame> stack_;
  std::map<YAML::anchor_t, OptionValue> anchors_;
  OptionValue root_;
  size_t values_ = 0, bytes_ = 0;
};

[[noreturn]] void fail_yaml(std::shared_ptr<const std::string> origin, bool lines, const YAML::Exception& e) {
  const int line = !lines || e.mark.is_null() ? 0 : e.mark.line + 1;
  const bool quote = e.msg == "illegal EOF in scalar";
  fail_option({std::move(origin), line}, "invalid YAML: " + (quote ? "a quote is not closed" : e.msg));
}

// The line of the first byte that is not UTF-8 text, 0 if there is none. The parser would replace such bytes in
// silence.
int first_line_not_text(const std::string& text) {
  int line = 1;
  for (size_t i = 0; i < text.size();) {
    const size_t length = character_length(text, i);
    if (length == 0 || text[i] == '\0') return line;
    line += text[i] == '\n';
    i += length;
  }
  return 0;
}

// yaml-cpp writes text without quotes that would begin or end a document where it stands first in a line.
void emit_scalar(YAML::Emitter& out, const std::string& text, bool quoted) {
  if (quoted || text.starts_with("---") || text.starts_with("...")) out << YAML::DoubleQuoted;
  out << text;
}

void emit(YAML::Emitter& out, const OptionValue& value, bool flow, bool comments) {
  switch (value.kind) {
    case Kind::kNull:
      out << "none";
      break;
    case Kind::kScalar:
      emit_scalar(out, value.text, value.quoted);
      break;
    case Kind::kList:
      out << YAML::Flow << YAML::BeginSeq;
      for (const OptionValue& item : value.items) emit(out, item, true, false);
      out << YAML::EndSeq;
      break;
    case Kind::kMap:
      out << (flow || value.entries.empty() ? YAML::Flow : YAML::Block) << YAML::BeginMap;
      for (const OptionEntry& entry : value.entries) {
        out << YAML::Key;
        emit_scalar(out, entry.key, false);
        out << YAML::Value;
        emit(out, entry.value, flow, comments);
        const bool inline_value = flow || entry.value.kind != Kind::kMap || entry.value.entries.empty();
        if (comments && !flow && inline_value && !entry.comment.empty()) out << YAML::Comment(entry.comment);
      }
      out << YAML::EndMap;
      break;
  }
}

std::string emit_text(const OptionValue& value, bool flow, bool comments) {
  YAML::Emitter out;
  emit(out, value, flow, comments);
  DF_ASSERT(out.good(), "{}", out.GetLastError());
  return out.c_str();
}

}  // namespace

OptionValue parse_yaml(const std::string& text, const std::string& origin, bool lines) {
  const auto name = std::make_shared<const std::string>(origin);
  if (text.size() > kMaxBytes) fail_option({name, 0}, fmt::format("is larger than {} bytes, no recipe", kMaxBytes));
  if (const int line = first_line_not_text(text)) fail_option({name, lines ? line : 0}, "is not UTF-8 text");
  try {
    // Without its last line end, because the parser takes an open quote before a line end for closed.
    std::istringstream stream(text.substr(0, text.find_last_not_of(" \t\r\n") + 1));
    YAML::Parser parser(stream);
    TreeBuilder builder(name, lines);
    parser.HandleNextDocument(builder);
    OptionValue root = builder.take();
    if (!root.place.origin) root.place = {name, 0};
    TreeBuilder more(name, lines);
    if (parser.HandleNextDocument(more)) {
      fail_option(more.take().place, "a second YAML document begins here; a recipe is one document");
    }
    return root;
  } catch (const YAML::Exception& e) {
    fail_yaml(name, lines, e);
  }
}

OptionValue read_yaml_file(const std::string& file) {
  const std::unique_ptr<FILE, int (*)(FILE*)> handle(std::fopen(file.c_str(), "rb"), std::fclose);
  if (!handle) throw ConfigError("{}: cannot be read: {}", file, std::strerror(errno));
  std::string text(kMaxBytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), handle.get()));
  if (std::ferror(handle.get())) throw ConfigError("{}: cannot be read: {}", file, std::strerror(errno));
  return parse_yaml(text, file);
}

void apply_override(OptionValue& recipe, const std::string& assignment) {
  static const auto kOrigin = std::make_shared<const std::string>("command line");
  const OptionPlace place{kOrigin, 0};
  const size_t equals = assignment.find('=');
  const std::string path = assignment.substr(0, equals);
  if (equals == std::string::npos || path.empty()) {
    fail_option(place, fmt::format("an override is key=value, such as optim.lr=1e-3, got {}",
                                   OptionValue::scalar(assignment).describe()));
  }
  OptionValue value = parse_yaml(assignment.substr(equals + 1), *kOrigin, false);
  if (recipe.kind == Kind::kNull) recipe.kind = Kind::kMap;
  OptionValue* map = &recipe;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    const std::string key = path.substr(begin, end - begin);
    if (map->kind != Kind::kMap) {
      fail_option(place, fmt::format("{} cannot be set because {} is not a map; give all of {}", path,
                                     path.substr(0, begin - 1), path.substr(0, begin - 1)));
    }
    OptionEntry* entry = nullptr;
    for (OptionEntry& other : map->entries) {
      if (other.key == key) entry = &other;
    }
    if (!entry) entry = &map->entries.emplace_back(OptionEntry{key, place, OptionValue::map(place), ""});
    if (end == path.size()) {
      entry->place = place;
      entry->value = std::move(value);
      return;
    }
    if (entry->value.kind == Kind::kNull) entry->value.kind = Kind::kMap;
    map = &entry->value;
    begin = end + 1;
  }
}

std::string to_yaml(const OptionValue& map, bool comments) { return emit_text(map, false, comments) + "\n"; }

std::string to_flow_yaml(const OptionValue& value) { return emit_text(value, true, false); }

}  // namespace deepflow
