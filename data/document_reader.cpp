#include "data/document_reader.h"

#include "core/error.h"
#include "data/document_input.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace deepflow {
namespace {

constexpr size_t kBlockBytes = size_t{1} << 18;
constexpr size_t kLongestLine = size_t{1} << 30;

// What was read and not yet handed out.
class Window {
 public:
  explicit Window(const std::string& path) : input_(path) {}

  std::string_view rest() const { return std::string_view(buffer_).substr(begin_); }
  bool ended() const { return ended_; }
  const std::string& path() const { return input_.path(); }
  void drop(size_t count) { begin_ += count; }

  void fill() {
    // Only when half is spent, so that bytes are moved a constant number of times.
    if (begin_ > buffer_.size() / 2) {
      buffer_.erase(0, begin_);
      begin_ = 0;
    }
    const size_t size = buffer_.size();
    buffer_.resize(size + kBlockBytes);
    const size_t got = input_.read(buffer_.data() + size, kBlockBytes);
    buffer_.resize(size + got);
    ended_ = got < kBlockBytes;
  }

  // Place of `mark` in rest(), reading on until it is found; npos: not within `limit` bytes or before the end.
  size_t find(std::string_view mark, size_t limit) {
    for (size_t searched = 0;;) {
      const size_t at = rest().find(mark, searched);
      if (at != std::string_view::npos) return at <= limit ? at : std::string_view::npos;
      if (ended_ || rest().size() >= limit + mark.size()) return std::string_view::npos;
      searched = rest().size() - std::min(rest().size(), mark.size() - 1);
      fill();
    }
  }

 private:
  DocumentInput input_;
  std::string buffer_;
  size_t begin_ = 0;
  bool ended_ = false;
};

// How much of a piece of `size` bytes, with more text behind it, makes a document.
size_t cut_at(std::string_view text, size_t size) {
  const size_t line = text.substr(0, size).rfind('\n');
  if (line != std::string_view::npos && line + 1 > size / 2) return line + 1;
  size_t cut = size;
  const auto continues = [&](size_t at) { return (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80; };
  for (int back = 0; back < 3 && cut > 1 && continues(cut); ++back) --cut;
  return continues(cut) ? size : cut;
}

class TextReader : public DocumentReader {
 public:
  TextReader(const std::string& path, const DocumentOptions& options)
      : window_(path), separator_(options.separator), max_bytes_(static_cast<size_t>(options.max_bytes)) {}

  bool next(std::string* document) override {
    while (advance(document)) {
      if (!document->empty()) return true;
    }
    return false;
  }

 private:
  bool advance(std::string* document) {
    size_t at = std::string_view::npos;
    if (separator_.empty()) {
      while (!window_.ended() && window_.rest().size() <= max_bytes_) window_.fill();
    } else {
      at = window_.find(separator_, max_bytes_);
    }
    if (at != std::string_view::npos) {
      take(at, document);
      window_.drop(separator_.size());
      return true;
    }
    const size_t left = window_.rest().size();
    if (left == 0) return false;
    take(left > max_bytes_ ? cut_at(window_.rest(), max_bytes_) : left, document);
    return true;
  }

  void take(size_t count, std::string* document) {
    document->assign(window_.rest().substr(0, count));
    window_.drop(count);
  }

  Window window_;
  std::string separator_;
  size_t max_bytes_;
};

class JsonReader : public DocumentReader {
 public:
  JsonReader(const std::string& path, const DocumentOptions& options) : window_(path), key_(options.json_key) {}

  bool next(std::string* document) override {
    for (;;) {
      const size_t end = window_.find("\n", kLongestLine);
      const size_t size = std::min(end, window_.rest().size());
      if (end == std::string_view::npos && size == 0) return false;
      ++line_;
      if (size > kLongestLine) fail(fmt::format("more than {} bytes without a line end", kLongestLine));
      parse(window_.rest().substr(0, size), document);
      window_.drop(end == std::string_view::npos ? size : size + 1);
      if (!document->empty()) return true;
    }
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw DataError("{}:{}: {}; expected one JSON object a line with its text under \"{}\"", window_.path(), line_,
                    what, key_);
  }

  void parse(std::string_view line, std::string* document) const {
    document->clear();
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) return;
    const auto value = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (value.is_discarded()) fail("not JSON in UTF-8");
    if (!value.is_object()) fail("not an object");
    const auto found = value.find(key_);
    if (found == value.end()) fail(fmt::format("no key \"{}\"", key_));
    if (!found->is_string()) fail(fmt::format("the value of \"{}\" is not text", key_));
    *document = found->get_ref<const std::string&>();
  }

  Window window_;
  std::string key_;
  int64_t line_ = 0;
};

class FilesReader : public DocumentReader {
 public:
  FilesReader(std::vector<std::string> files, DocumentOptions options)
      : files_(std::move(files)), options_(std::move(options)) {}

  bool next(std::string* document) override {
    for (;;) {
      if (reader_ && reader_->next(document)) return true;
      if (opened_ == files_.size()) return false;
      reader_ = open(files_[opened_++]);
    }
  }

 private:
  std::unique_ptr<DocumentReader> open(const std::string& path) const {
    std::string_view name = path;
    if (name.ends_with(".gz") || name.ends_with(".dz")) name.remove_suffix(3);
    if (name.ends_with(".jsonl") || name.ends_with(".ndjson")) return std::make_unique<JsonReader>(path, options_);
    return std::make_unique<TextReader>(path, options_);
  }

  std::vector<std::string> files_;
  DocumentOptions options_;
  size_t opened_ = 0;
  std::unique_ptr<DocumentReader> reader_;
};

}  // namespace

std::unique_ptr<DocumentReader> open_documents(const std::vector<std::string>& paths, const DocumentOptions& options) {
  if (options.max_bytes < 1) throw ConfigError("documents of at most {} bytes; give at least 1", options.max_bytes);
  return std::make_unique<FilesReader>(list_document_files(paths), options);
}

}  // namespace deepflow
