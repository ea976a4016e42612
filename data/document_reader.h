#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace deepflow {

struct DocumentOptions {
  std::string separator;                  // between documents of a text file; "": a file is one document
  int64_t max_bytes = int64_t{64} << 20;  // a longer document of a text file is cut
  std::string json_key = "text";          // of the text in a line of JSON
};

// Documents of files of raw text, one after the other, in memory that does not grow with the files. Names that end in
// .jsonl or .ndjson hold a JSON object a line; everything else is text, of any bytes. Either may be compressed and then
// also end in .gz or .dz. Documents that would be empty are left out, and separators belong to none. A long document is
// cut behind its last line end, if there is one in the second half of the piece, else between two UTF-8 characters: the
// pieces put together give the text again.
class DocumentReader {
 public:
  virtual ~DocumentReader() = default;
  virtual bool next(std::string* document) = 0;  // false: there are no more
};

// `paths` as in list_document_files(). Damaged input is a DataError that names the file and, in JSON, the line.
std::unique_ptr<DocumentReader> open_documents(const std::vector<std::string>& paths, const DocumentOptions& options);

}  // namespace deepflow
