#include "checkpoint/mismatch.h"
#include "checkpoint/printable.h"
#include "checkpoint/safetensors.h"
#include "core/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>

namespace deepflow {
namespace {

struct KnownDType {
  const char* name;
  int bits;
  std::optional<DType> ours;
};

constexpr KnownDType kKnown[] = {
    {"F32", 32, DType::kF32},         {"BF16", 16, DType::kBF16},   {"F16", 16, DType::kF16},
    {"I32", 32, DType::kI32},         {"I64", 64, DType::kI64},     {"U8", 8, DType::kU8},
    {"BOOL", 8, std::nullopt},        {"I8", 8, std::nullopt},      {"I16", 16, std::nullopt},
    {"U16", 16, std::nullopt},        {"U32", 32, std::nullopt},    {"U64", 64, std::nullopt},
    {"F64", 64, std::nullopt},        {"C64", 64, std::nullopt},    {"F8_E5M2", 8, std::nullopt},
    {"F8_E4M3", 8, std::nullopt},     {"F8_E8M0", 8, std::nullopt}, {"F8_E4M3FNUZ", 8, std::nullopt},
    {"F8_E5M2FNUZ", 8, std::nullopt}, {"F6_E2M3", 6, std::nullopt}, {"F6_E3M2", 6, std::nullopt},
    {"F4", 4, std::nullopt}};

const KnownDType* find_dtype(const std::string& name) {
  for (const KnownDType& known : kKnown)
    if (name == known.name) return &known;
  return nullptr;
}

// Takes {"__metadata__": {text: text}, NAME: {"dtype": text, "shape": [n, ...], "data_offsets": [begin, end]}} event by
// event, so that nothing else is ever held, however large or deep it is.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader(const std::string& where, SafetensorsHeader& out) : where_(where), out_(out) {}

  bool start_object(size_t) override {
    if (at_ == At::kStart)
      at_ = At::kRoot;
    else if (at_ == At::kRootValue && key_ == "__metadata__")
      at_ = At::kMetadata;
    else if (at_ == At::kRootValue)
      begin_tensor();
    else
      unexpected("an object");
    return true;
  }

  bool key(string_t& name) override {
    const bool fresh = at_ == At::kRoot ? names_.insert(name).second : fields_.insert(name).second;
    if (!fresh) fail("{} stands twice in the header", printable(name));
    key_ = name;
    if (at_ == At::kRoot) at_ = At::kRootValue;
    return true;
  }

  bool end_object() override {
    if (at_ == At::kTensor) end_tensor();
    at_ = at_ == At::kRoot ? At::kEnd : At::kRoot;
    fields_.clear();
    return true;
  }

  bool start_array(size_t) override {
    if (at_ != At::kTensor || (key_ != "shape" && key_ != "data_offsets")) unexpected("a list");
    at_ = At::kNumbers;
    return true;
  }

  bool end_array() override {
    at_ = At::kTensor;
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (at_ != At::kNumbers) unexpected("a number");
    if (value > static_cast<uint64_t>(INT64_MAX)) unexpected("a number beyond 2^63");
    std::vector<int64_t>& numbers = key_ == "shape" ? tensor_.shape : offsets_;
    numbers.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool string(string_t& value) override {
    if (at_ == At::kMetadata)
      out_.metadata[key_] = value;
    else if (at_ == At::kTensor && key_ == "dtype")
      tensor_.dtype_name = value;
    else
      unexpected("text");
    return true;
  }

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a switch"); }
  bool number_integer(number_integer_t) override { unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { unexpected("a number that is not whole"); }
  bool binary(binary_t&) override { unexpected("binary"); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    fail("the header is not valid JSON at byte {}", position);
  }

 private:
  enum class At : uint8_t { kStart, kRoot, kRootValue, kMetadata, kTensor, kNumbers, kEnd };

  template <class... A>
  [[noreturn]] void fail(fmt::format_string<A...> f, A&&... a) const {
    throw DataError("{}: {}", where_, fmt::format(f, std::forward<A>(a)...));
  }
  [[noreturn]] void unexpected(const char* what) const {
    if (at_ == At::kStart) fail("the header is {} where a JSON object belongs", what);
    const std::string tensor = at_ == At::kRootValue || at_ == At::kMetadata ? "" : printable(tensor_.name) + ": ";
    fail("{}{} holds {}, which does not belong there", tensor, printable(key_), what);
  }

  void begin_tensor() {
    at_ = At::kTensor;
    tensor_ = {};
    tensor_.name = key_;
    offsets_.clear();
  }
  void end_tensor() {
    const std::string name = printable(tensor_.name);
    for (const std::string& field : fields_)
      if (field != "dtype" && field != "shape" && field != "data_offsets")
        fail("{}: {} is no field of a tensor", name, printable(field));
    for (const char* field : {"dtype", "shape", "data_offsets"})
      if (!fields_.count(field)) fail("{}: {} is missing", name, field);
    if (offsets_.size() != 2) fail("{}: data_offsets needs 2 numbers, got {}", name, offsets_.size());
    tensor_.begin = offsets_[0];
    tensor_.end = offsets_[1];
    out_.entries.push_back(std::move(tensor_));
  }

  const std::string& where_;
  SafetensorsHeader& out_;
  At at_ = At::kStart;
  std::string key_;
  std::set<std::string> names_, fields_;
  SafetensorsEntry tensor_;
  std::vector<int64_t> offsets_;
};

void check_size(const SafetensorsEntry& entry, const std::string& where) {
  const std::string name = printable(entry.name);
  const KnownDType* dtype = find_dtype(entry.dtype_name);
  if (!dtype) throw DataError("{}: {}: dtype {} is not known", where, name, printable(entry.dtype_name));
  int64_t elements = 1, bits = 0;
  bool overflow = false;
  for (const int64_t extent : entry.shape) overflow |= __builtin_mul_overflow(elements, extent, &elements);
  overflow |= __builtin_mul_overflow(elements, dtype->bits, &bits);
  if (overflow) throw DataError("{}: {}: shape {} is larger than any file", where, name, shape_text(entry.shape));
  if (entry.end < entry.begin || bits % 8 != 0 || entry.end - entry.begin != bits / 8)
    throw DataError("{}: {}: {} {} needs {} bits, but its data_offsets are {} to {}", where, name, entry.dtype_name,
                    shape_text(entry.shape), bits, entry.begin, entry.end);
}

}  // namespace

std::optional<DType> SafetensorsEntry::dtype() const {
  const KnownDType* known = find_dtype(dtype_name);
  return known ? known->ours : std::nullopt;
}

SafetensorsHeader parse_safetensors_header(std::string_view json, int64_t data_bytes, const std::string& where) {
  if (json.empty() || json.front() != '{') throw DataError("{}: the header does not begin with {{", where);
  SafetensorsHeader header;
  HeaderReader reader(where, header);
  nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
  const auto by_offset = [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  };
  std::stable_sort(header.entries.begin(), header.entries.end(), by_offset);
  int64_t covered = 0;
  for (const SafetensorsEntry& entry : header.entries) {
    check_size(entry, where);
    if (entry.begin != covered)
      throw DataError("{}: {} begins at byte {} of the data, but {} is where the tensor before it ends ({})", where,
                      printable(entry.name), entry.begin, covered, entry.begin < covered ? "overlap" : "hole");
    covered = entry.end;
  }
  if (covered != data_bytes)
    throw DataError("{}: its tensors take {} bytes, but {} follow the header; the file is {}", where, covered,
                    data_bytes, covered > data_bytes ? "truncated" : "not what it says");
  return header;
}

}  // namespace deepflow
