#include "checkpoint/blockstore/manifest.h"

#include "checkpoint/blockstore/block_index.h"
#include "checkpoint/boxes.h"
#include "checkpoint/printable.h"
#include "core/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <limits>

namespace deepflow {
namespace {

using Json = nlohmann::json;

constexpr const char* kFormat = "deepflow-blockstore";
constexpr int64_t kVersion = 1;
constexpr int64_t kLargestExtent = int64_t{1} << 48;
constexpr std::pair<Reshard, const char*> kRules[] = {{Reshard::kSlice, "slice"},
                                                      {Reshard::kSum, "sum"},
                                                      {Reshard::kReplicated, "replicated"},
                                                      {Reshard::kDerived, "derived"}};

const char* name_of_rule(Reshard rule) {
  for (const auto& [value, name] : kRules)
    if (value == rule) return name;
  return "";
}

Json json_of(const StoredSlice& s) {
  Json boxes = Json::array();
  for (const Box& box : s.boxes) boxes.push_back({box.lo, box.hi});
  Json json = {{"file", s.file}, {"first", s.first_block}, {"blocks", s.num_blocks}, {"boxes", std::move(boxes)}};
  if (s.contributor != 0) json["contributor"] = s.contributor;
  return json;
}

// Takes a manifest apart. Every complaint is one line.
class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path) {}

  Manifest read(const Json& json) {
    check(text(json, "format") == kFormat, "is not the manifest of a checkpoint");
    const int64_t version = number(json, "version", 0, std::numeric_limits<int32_t>::max());
    if (version != kVersion)
      throw DataError("{}: has version {} of the format, and this program reads {}; take a newer deepflow", path_,
                      version, kVersion);
    Manifest m;
    m.step = number(json, "step", 0, kLargestExtent);
    check(json.contains("run") && json["run"].is_object(), "says nothing of its run");
    m.run = json["run"].dump();
    for (const Json& f : list(json, "files")) m.files.push_back(read_files(f));
    for (const Json& t : list(json, "tensors")) m.tensors.push_back(read_tensor(t, m));
    for (size_t i = 1; i < m.tensors.size(); ++i)
      check(m.tensors[i - 1].name < m.tensors[i].name, "does not have its tensors in the order of their names");
    return m;
  }

  static std::string text(const Json& json, const char* key) {
    const bool there = json.is_object() && json.contains(key) && json[key].is_string();
    return there ? json[key].get<std::string>() : "";
  }

  Digest digest(const Json& json, const char* key) const {
    const std::string digits = text(json, key);
    Digest d;
    const char* begin = digits.data();
    const bool good = digits.size() == 32 && std::from_chars(begin, begin + 16, d.hi, 16).ptr == begin + 16 &&
                      std::from_chars(begin + 16, begin + 32, d.lo, 16).ptr == begin + 32;
    check(good, "has a digest that is none");
    return d;
  }

  int64_t number(const Json& json, const char* key, int64_t low, int64_t high) const {
    const bool there = json.is_object() && json.contains(key) && json[key].is_number_integer();
    const int64_t value = there ? json[key].get<int64_t>() : low - 1;
    if (!there || value < low || value > high)
      throw DataError("{}: {} is {} and should be a number from {} to {}; the checkpoint is damaged", path_, key,
                      there ? json[key].dump() : "missing", low, high);
    return value;
  }

 private:
  void check(bool good, const char* what) const {
    if (!good) throw DataError("{}: {}; the checkpoint is damaged", path_, what);
  }

  const Json& list(const Json& json, const char* key) const {
    if (!json.is_object() || !json.contains(key) || !json[key].is_array())
      throw DataError("{}: {} is not a list; the checkpoint is damaged", path_, key);
    return json[key];
  }

  StoredFiles read_files(const Json& json) const {
    StoredFiles f;
    f.data_bytes = static_cast<uint64_t>(number(json, "data_bytes", 16, int64_t{1} << 62));
    f.index_bytes = static_cast<uint64_t>(number(json, "index_bytes", 0, int64_t{1} << 40));
    f.index_digest = digest(json, "index_digest");
    return f;
  }

  StoredTensor read_tensor(const Json& json, const Manifest& m) const {
    StoredTensor t;
    t.name = text(json, "name");
    check(!t.name.empty(), "has a tensor without a name");
    const std::string dtype = text(json, "dtype"), rule = text(json, "rule");
    for (const DType d : {DType::kF32, DType::kBF16, DType::kF16, DType::kI32, DType::kI64, DType::kU8})
      if (dtype == deepflow::name_of(d)) t.dtype = d;
    const auto found =
        std::find_if(std::begin(kRules), std::end(kRules), [&](const auto& r) { return rule == r.second; });
    check(dtype == deepflow::name_of(t.dtype) && found != std::end(kRules), "has a tensor of an unknown kind");
    t.rule = found->first;
    const Json& shape = list(json, "shape");
    check(shape.size() <= Shape::kMaxDims, "has a tensor of too many dims");
    int64_t elements = 1;
    for (const Json& extent : shape) {
      t.shape.push_back(integer(extent, 1, kLargestExtent));
      check(elements <= kLargestExtent / t.shape.back(), "has a tensor that is too large");
      elements *= t.shape.back();
    }
    for (const Json& s : list(json, "slices")) t.slices.push_back(read_slice(s, t, m));
    return t;
  }

  StoredSlice read_slice(const Json& json, const StoredTensor& t, const Manifest& m) const {
    StoredSlice s;
    s.file = static_cast<int>(number(json, "file", 0, static_cast<int64_t>(m.files.size()) - 1));
    s.first_block = number(json, "first", 0, kLargestExtent);
    s.num_blocks = number(json, "blocks", 1, kLargestExtent);
    if (json.contains("contributor")) s.contributor = static_cast<int>(number(json, "contributor", 0, 1 << 30));
    int64_t elements = 0;
    for (const Json& b : list(json, "boxes")) {
      s.boxes.push_back(read_box(b, t.shape));
      elements += s.boxes.back().num_elements();
      check(elements <= kLargestExtent, "has a slice that is too large");
    }
    const int64_t bytes = t.slice_bytes(s);
    if (s.num_blocks != (bytes + kBlockBytes - 1) / kBlockBytes)
      throw DataError("{}: {} has a slice of {} bytes in {} blocks; the checkpoint is damaged", path_,
                      printable(t.name), bytes, s.num_blocks);
    return s;
  }

  Box read_box(const Json& json, const Shape& shape) const {
    const auto dims = static_cast<size_t>(shape.num_dims());
    check(json.is_array() && json.size() == 2 && json[0].is_array() && json[1].is_array() && json[0].size() == dims &&
              json[1].size() == dims,
          "has a box with other dims than its tensor");
    Box box;
    for (size_t d = 0; d < dims; ++d) {
      box.lo.push_back(integer(json[0][d], 0, shape[static_cast<int>(d)] - 1));
      box.hi.push_back(integer(json[1][d], box.lo.back() + 1, shape[static_cast<int>(d)]));
    }
    return box;
  }

  int64_t integer(const Json& json, int64_t low, int64_t high) const {
    const int64_t value = json.is_number_integer() ? json.get<int64_t>() : low - 1;
    check(value >= low && value <= high, "has a number that is out of range");
    return value;
  }

  const std::string& path_;
};

// Bounded depth: a manifest's is 6, and run may be some deeper.
Json parse(std::string_view text, const std::string& path) {
  constexpr int kDeepest = 24;
  bool too_deep = false;
  Json json = Json::parse(
      text.begin(), text.end(),
      [&](int depth, Json::parse_event_t, Json&) { return !(too_deep = too_deep || depth > kDeepest); }, false);
  if (json.is_discarded() || too_deep || !json.is_object())
    throw DataError("{}: is no JSON object; the checkpoint is damaged", path);
  return json;
}

}  // namespace

int64_t StoredTensor::slice_bytes(const StoredSlice& slice) const {
  return num_elements(slice.boxes) * static_cast<int64_t>(size_of(dtype));
}

const StoredTensor* Manifest::find(std::string_view name) const {
  const auto at = std::lower_bound(tensors.begin(), tensors.end(), name,
                                   [](const StoredTensor& t, std::string_view n) { return t.name < n; });
  return at != tensors.end() && at->name == name ? &*at : nullptr;
}

int64_t Manifest::raw_bytes() const {
  int64_t sum = 0;
  for (const StoredTensor& t : tensors)
    for (const StoredSlice& s : t.slices) sum += t.slice_bytes(s);
  return sum;
}

std::string Manifest::lossy() const { return Reader::text(Json::parse(run, nullptr, false), "lossy"); }

std::string Manifest::write() const {
  Json files_json = Json::array(), tensors_json = Json::array();
  for (const StoredFiles& f : files)
    files_json.push_back(
        {{"data_bytes", f.data_bytes}, {"index_bytes", f.index_bytes}, {"index_digest", to_hex(f.index_digest)}});
  for (const StoredTensor& t : tensors) {
    Json slices = Json::array();
    for (const StoredSlice& s : t.slices) slices.push_back(json_of(s));
    tensors_json.push_back({{"name", t.name},
                            {"dtype", name_of(t.dtype)},
                            {"shape", std::vector<int64_t>(t.shape.begin(), t.shape.end())},
                            {"rule", name_of_rule(t.rule)},
                            {"slices", std::move(slices)}});
  }
  const Json json = {{"format", kFormat},
                     {"version", kVersion},
                     {"step", step},
                     {"run", Json::parse(run)},
                     {"files", std::move(files_json)},
                     {"tensors", std::move(tensors_json)}};
  return json.dump() + "\n";
}

Manifest Manifest::read(std::string_view text, const std::string& path) { return Reader(path).read(parse(text, path)); }

std::string CommitRecord::write() const {
  const Json json = {{"format", kFormat},
                     {"version", kVersion},
                     {"manifest_bytes", manifest_bytes},
                     {"manifest_digest", to_hex(manifest_digest)}};
  return json.dump() + "\n";
}

CommitRecord CommitRecord::read(std::string_view text, const std::string& path) {
  const Json json = parse(text, path);
  const Reader reader(path);
  if (Reader::text(json, "format") != kFormat)
    throw DataError("{}: is no commit record; the checkpoint is damaged", path);
  reader.number(json, "version", kVersion, kVersion);
  return {static_cast<uint64_t>(reader.number(json, "manifest_bytes", 1, int64_t{1} << 40)),
          reader.digest(json, "manifest_digest")};
}

std::string to_hex(const Digest& digest) { return fmt::format("{:016x}{:016x}", digest.hi, digest.lo); }

}  // namespace deepflow
