// Files of text and of JSON lines, plain and compressed. The first byte chooses which, the second the longest document.
#include "core/error.h"
#include "data/document_reader.h"
#include "tests/fuzz/fuzz.h"

#include <zlib.h>

namespace deepflow::fuzz {
namespace {

constexpr const char* kNames[] = {"a.txt", "b.txt", "c.jsonl", "d.txt.gz", "e.jsonl.gz"};

}  // namespace

void run_input(std::string_view bytes) {
  if (bytes.size() < 2) return;
  static const Folder folder;
  const size_t form = static_cast<uint8_t>(bytes[0]) % std::size(kNames);
  DocumentOptions options;
  options.max_bytes = 1 + static_cast<uint8_t>(bytes[1]);
  if (form == 1) options.separator = "\n\n";
  folder.put(kNames[form], bytes.substr(2));
  const auto reader = open_documents({folder / kNames[form]}, options);
  std::string document, all;
  while (reader->next(&document)) {
    expect(!document.empty(), "documents are not empty");
    if (form < 2) expect(static_cast<int64_t>(document.size()) <= options.max_bytes, "long documents are cut");
    all += document;
  }
  if (form == 0) expect(all == bytes.substr(2), "the pieces are the text");
}

std::vector<std::string> seeds(const std::string&) {
  const std::string lines = "{\"text\": \"one\\n\"}\n\n{\"id\": 1, \"text\": \"two\"}";
  std::vector<std::string> all = {std::string("\0\x10", 2) + "h\xc3\xa9llo\nworld, this is text\n",
                                  "\1\x10one\n\ntwo\n\n\n\nthree", "\2\x10" + lines};
  for (const std::string& text : {std::string("plain text"), lines}) {
    std::string packed(256, '\0');
    z_stream z{};
    deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY);
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    z.avail_in = static_cast<uInt>(text.size());
    z.next_out = reinterpret_cast<Bytef*>(packed.data());
    z.avail_out = static_cast<uInt>(packed.size());
    deflate(&z, Z_FINISH);
    packed.resize(z.total_out);
    deflateEnd(&z);
    all.push_back((text == lines ? "\4\x10" : "\3\x10") + packed);
  }
  return all;
}

}  // namespace deepflow::fuzz
