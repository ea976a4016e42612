// A safetensors file: header, and every tensor's bytes.
#include "checkpoint/safetensors.h"

#include "checkpoint/mismatch.h"
#include "tests/fuzz/fuzz.h"

#include <algorithm>

namespace deepflow::fuzz {

void run_input(std::string_view bytes) {
  const MemoryFile input(bytes);
  const SafetensorsFile file(input.path());
  std::vector<char> content;
  size_t total = 0;
  for (const SafetensorsEntry& entry : file.entries()) {
    expect(file.find(entry.name) == &entry, "a tensor is found by its name");
    content.resize(static_cast<size_t>(entry.end - entry.begin));
    file.read(entry, 0, content.data(), content.size());
    const auto at = bytes.size() - static_cast<size_t>(file.entries().back().end - entry.begin);
    expect(std::equal(content.begin(), content.end(), bytes.begin() + static_cast<ptrdiff_t>(at)),
           "a tensor's bytes are those of the file");
    expect(!shape_text(entry.shape).empty(), "a shape has a text");
    total += content.size();
  }
  expect(total < bytes.size(), "tensors lie inside the file");
}

std::vector<std::string> seeds(const std::string& source) {
  const auto file = [](std::string header, size_t bytes) {
    std::string text(8, '\0');
    text[0] = static_cast<char>(header.size() & 0xff), text[1] = static_cast<char>(header.size() >> 8);
    return text + header + std::string(bytes, 'x');
  };
  return {file("{}", 0), file(R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})", 24),
          file(R"({"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]},)"
               R"("b\u00e9":{"dtype":"F4","shape":[2,1],"data_offsets":[2,3]},)"
               R"("c":{"dtype":"I64","shape":[0],"data_offsets":[3,3]}}  )",
               3),
          content_of(source + "/tests/parity/goldens/llama/model.safetensors").substr(0, 3000)};
}

}  // namespace deepflow::fuzz
