#include "checkpoint/mismatch.h"

#include "checkpoint/printable.h"
#include "core/error.h"

namespace deepflow {

void Mismatch::throw_if_any(const std::string& where) const {
  constexpr size_t kShown = 12;
  std::string text;
  const auto tell = [&](const std::vector<std::string>& names, const char* what) {
    if (!names.empty()) text += fmt::format("; {} {}: {}", names.size(), what, printable_list(names, kShown));
  };
  tell(missing, "missing");
  tell(unexpected, "unexpected");
  tell(misshapen, "of another shape or dtype");
  if (!text.empty()) throw DataError("{}: its tensors are not those of the model{}", where, text);
}

std::string shape_text(const std::vector<int64_t>& shape) {
  constexpr size_t kShown = 8;
  std::string text = "[";
  for (size_t i = 0; i < shape.size() && i < kShown; ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + (shape.size() > kShown ? ", ...]" : "]");
}

}  // namespace deepflow
