#include "checkpoint/hdf5_model.h"

#include "checkpoint/file_dtype.h"
#include "checkpoint/json_file.h"
#include "checkpoint/mismatch.h"
#include "checkpoint/printable.h"
#include "core/error.h"
#include "core/hdf5_handle.h"
#include "kernels/ops/elementwise.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <filesystem>
#include <optional>

namespace deepflow {

static_assert(std::endian::native == std::endian::little, "values are read as they lie in the file");

using namespace hdf5_model_format;

std::string hdf5_model_format::dataset_name(const std::string& parameter) {
  std::string path = parameter;
  std::replace(path.begin(), path.end(), '.', '/');
  return path;
}

// Every member function stands under Hdf5Lock.
class Hdf5Model::File {
 public:
  explicit File(const std::string& path) : path_(path) {
    Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    H5Pset_file_locking(access.get(), false, true);
    file_ = Hdf5Handle(H5Fopen(path_.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose);
    if (!file_) fail(fmt::format("HDF5 cannot open it ({})", hdf5_cause()));
  }

  ~File() {
    Hdf5Lock lock;
    file_.reset();
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  [[noreturn]] void fail(const std::string& what) const {
    throw DataError("{}: {}; not a whole DeepFlow model, export it again", path_, what);
  }
  const Hdf5Handle& root() const { return file_; }

  // An attribute that is one text of fixed length; none: there is no such one.
  static std::optional<std::string> text(const Hdf5Handle& at, const char* name) {
    constexpr size_t kLargest = size_t{1} << 20;
    Hdf5Handle attribute(H5Aopen(at.get(), name, H5P_DEFAULT), H5Aclose);
    if (!attribute) return std::nullopt;
    Hdf5Handle type(H5Aget_type(attribute.get()), H5Tclose);
    const size_t size = type ? H5Tget_size(type.get()) : 0;
    const bool fixed = type && H5Tget_class(type.get()) == H5T_STRING && H5Tis_variable_str(type.get()) == 0;
    if (!fixed || size == 0 || size > kLargest || H5Aget_storage_size(attribute.get()) != size) return std::nullopt;
    std::string text(size, '\0');
    if (H5Aread(attribute.get(), type.get(), text.data()) < 0) return std::nullopt;
    return text.substr(0, text.find('\0'));
  }
  std::string root_text(const char* name) const {
    std::optional<std::string> value = text(file_, name);
    if (!value) fail(fmt::format("attribute {} is missing or no text", name));
    return *value;
  }

  int64_t version() const {
    Hdf5Handle attribute(H5Aopen(file_.get(), "version", H5P_DEFAULT), H5Aclose);
    Hdf5Handle type(attribute ? H5Aget_type(attribute.get()) : -1, H5Tclose);
    int64_t value = 0;
    const bool integer = type && H5Tequal(type.get(), H5T_STD_I64LE) > 0 &&
                         H5Aget_storage_size(attribute.get()) == sizeof(value) &&
                         H5Aread(attribute.get(), H5T_NATIVE_INT64, &value) >= 0;
    if (!integer) fail("attribute version is missing or no 64-bit integer");
    return value;
  }

  Hdf5Handle open_group(const char* name) const {
    Hdf5Handle group(H5Gopen2(file_.get(), name, H5P_DEFAULT), H5Gclose);
    if (!group) fail(fmt::format("group {} cannot be opened ({})", name, hdf5_cause()));
    return group;
  }

  // All data sets below `group` by their names with "." between the groups.
  void list(const Hdf5Handle& group, const std::string& prefix, int depth,
            std::map<std::string, Entry>& entries) const {
    constexpr int kDeepest = 16;
    constexpr size_t kMost = 1'000'000;
    H5G_info_t info;
    if (H5Gget_info(group.get(), &info) < 0) fail(fmt::format("group {} cannot be read", printable(prefix)));
    for (hsize_t i = 0; i < info.nlinks; ++i) {
      const std::string name = prefix + link_name(group, i);
      // Only what lies in this file itself: other links may lead to other files.
      Hdf5Handle object(H5Oopen_by_idx(group.get(), ".", H5_INDEX_NAME, H5_ITER_INC, i, H5P_DEFAULT), H5Oclose);
      const H5I_type_t type = object ? H5Iget_type(object.get()) : H5I_BADID;
      if (type == H5I_GROUP && depth < kDeepest)
        list(object, name + ".", depth + 1, entries);
      else if (type == H5I_DATASET && entries.size() < kMost)
        entries[name] = entry_of(object);
      else
        fail(fmt::format("{} is neither a data set nor a group of them", printable(name)));
    }
  }

  void read(const std::string& parameter, const std::vector<hsize_t>& first, const std::vector<hsize_t>& count,
            const Tensor& into) const {
    const std::string name = std::string(kGroup) + "/" + dataset_name(parameter);
    Hdf5Handle access(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose);
    // Room for the chunks that a cut between columns comes back to.
    H5Pset_chunk_cache(access.get(), 521, size_t{32} << 20, 1.0);
    Hdf5Handle data(H5Dopen2(file_.get(), name.c_str(), access.get()), H5Dclose);
    Hdf5Handle space(data ? H5Dget_space(data.get()) : -1, H5Sclose);
    // Of as many dims as the selection has: otherwise the library walks element by element.
    Hdf5Handle memory(H5Screate_simple(static_cast<int>(count.size()), count.data(), nullptr), H5Sclose);
    const bool selected =
        space && H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, first.data(), nullptr, count.data(), nullptr) >= 0;
    const hid_t type = into.dtype() == DType::kF32 ? H5T_NATIVE_FLOAT : H5T_NATIVE_UINT16;
    if (!selected || H5Dread(data.get(), type, memory.get(), space.get(), H5P_DEFAULT, into.raw()) < 0)
      throw DataError("{}: {} from row {} on cannot be read ({}); the file is damaged, copy or export it again", path_,
                      parameter, first.front(), hdf5_cause());
  }

 private:
  std::string link_name(const Hdf5Handle& group, hsize_t i) const {
    constexpr size_t kLongest = 4096;
    H5L_info_t info;
    if (H5Lget_info_by_idx(group.get(), ".", H5_INDEX_NAME, H5_ITER_INC, i, &info, H5P_DEFAULT) < 0 ||
        info.type != H5L_TYPE_HARD)
      fail("it holds links to somewhere else, or damaged ones");
    std::string name(kLongest, '\0');
    const ssize_t length =
        H5Lget_name_by_idx(group.get(), ".", H5_INDEX_NAME, H5_ITER_INC, i, name.data(), name.size(), H5P_DEFAULT);
    if (length <= 0 || static_cast<size_t>(length) >= kLongest) fail("it holds a damaged name");
    name.resize(static_cast<size_t>(length));
    return name;
  }

  // What a data set holds; what is no value of a model has no dtype of ours.
  static Entry entry_of(const Hdf5Handle& data) {
    Entry entry{"?", {}};
    Hdf5Handle type(H5Dget_type(data.get()), H5Tclose), space(H5Dget_space(data.get()), H5Sclose);
    const int dims = space ? H5Sget_simple_extent_ndims(space.get()) : -1;
    if (!type || dims < 0) return entry;
    std::vector<hsize_t> extents(static_cast<size_t>(dims));
    H5Sget_simple_extent_dims(space.get(), extents.data(), nullptr);
    for (const hsize_t extent : extents) entry.shape.push_back(static_cast<int64_t>(extent));
    const std::string said = text(data, "dtype").value_or("?");
    const bool wide = said == "f32" && H5Tequal(type.get(), H5T_IEEE_F32LE) > 0;
    const bool narrow = (said == "bf16" || said == "f16") && H5Tequal(type.get(), H5T_STD_U16LE) > 0;
    if (wide || narrow) entry.dtype_name = said;
    return entry;
  }

  std::string path_;
  Hdf5Handle file_;
};

Hdf5Model::Hdf5Model(std::string path) : path_(std::move(path)) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path_, error)) throw StorageError("{}: there is no such file", path_);
  Hdf5Lock lock;
  file_ = std::make_unique<File>(path_);
  if (const std::string magic = file_->root_text("magic"); magic != kMagic)
    file_->fail(fmt::format("attribute magic is \"{}\", expected \"{}\"", printable(magic), kMagic));
  if (const int64_t version = file_->version(); version != kVersion)
    throw DataError("{}: a model file of version {}, this program reads version {}; export it again or update DeepFlow",
                    path_, version, kVersion);
  config_ = std::make_unique<nlohmann::json>(parse_json_object(file_->root_text("config"), path_ + ": config"));
  file_->list(file_->open_group(kGroup), "", 0, entries_);
}

Hdf5Model::~Hdf5Model() = default;

void Hdf5Model::check(const ParameterRegistry& registry) const {
  Mismatch mismatch;
  std::map<std::string, Entry> left = entries_;
  for (const Parameter& p : registry.parameters()) {
    const auto it = left.find(p.spec.name);
    if (it == left.end()) {
      mismatch.missing.push_back(p.spec.name);
      continue;
    }
    const std::vector<int64_t> expected(p.spec.shape.begin(), p.spec.shape.end());
    if (it->second.shape != expected || it->second.dtype_name == "?")
      mismatch.misshapen.push_back(fmt::format("{} (the model has {}, the file {} {})", p.spec.name,
                                               shape_text(expected), it->second.dtype_name,
                                               shape_text(it->second.shape)));
    left.erase(it);
  }
  for (const auto& entry : left) mismatch.unexpected.push_back(entry.first);
  mismatch.throw_if_any(path_);
}

void Hdf5Model::read_box(Runtime& runtime, const Parameter& p, const Box& box, const Tensor& into) const {
  const DType stored = dtype(p);
  std::vector<hsize_t> first(box.lo.begin(), box.lo.end()), count;
  for (size_t d = 0; d < box.lo.size(); ++d) count.push_back(static_cast<hsize_t>(box.hi[d] - box.lo[d]));
  const int64_t rows = box.hi[0] - box.lo[0];
  if (into.num_elements() == 0) return;
  const int64_t row = into.num_elements() / rows, piece = std::clamp<int64_t>(8 * kChunkElements / row, 1, rows);
  for (int64_t begin = 0; begin < rows; begin += piece) {
    const int64_t n = std::min(piece, rows - begin);
    first[0] = static_cast<hsize_t>(box.lo[0]) + static_cast<hsize_t>(begin);
    count[0] = static_cast<hsize_t>(n);
    Tensor target = into.flat_range(begin * row, (begin + n) * row);
    const Tensor raw =
        stored == DType::kF32 ? target : Tensor::empty(runtime.memory(), {target.num_elements()}, stored);
    {
      Hdf5Lock lock;
      file_->read(p.spec.name, first, count, raw);
    }
    if (stored != DType::kF32) copy(runtime, raw, target);
  }
}

void Hdf5Model::load(Runtime& runtime, ParameterRegistry& registry, const ForeignTensor::LocalValue& value) const {
  check(registry);
  for (const Parameter& p : registry.parameters()) {
    if (!p.pack->local) continue;
    const Tensor local = value(p);
    int64_t offset = 0;
    for (const Box& box : p.boxes) {
      read_box(runtime, p, box, local.flat_range(offset, offset + box.num_elements()));
      offset += box.num_elements();
    }
  }
}

Tensor Hdf5Model::whole(Runtime& runtime, const Parameter& p) const {
  Tensor value = Tensor::empty(runtime.memory(), p.spec.shape, DType::kF32);
  const std::vector<int64_t> end(p.spec.shape.begin(), p.spec.shape.end());
  read_box(runtime, p, {std::vector<int64_t>(end.size(), 0), end}, value.flat_range(0, value.num_elements()));
  return value;
}

DType Hdf5Model::dtype(const Parameter& p) const {
  const auto it = entries_.find(p.spec.name);
  DF_ASSERT(it != entries_.end(), "{}: {} was not checked", path_, p.spec.name);
  return dtype_from_name(it->second.dtype_name);
}

}  // namespace deepflow
