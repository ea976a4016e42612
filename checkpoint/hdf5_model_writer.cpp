#include "checkpoint/hdf5_model_writer.h"

#include "checkpoint/file_dtype.h"
#include "checkpoint/hdf5_model.h"
#include "core/durable_file.h"
#include "core/error.h"
#include "core/hdf5_handle.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>

namespace deepflow {

static_assert(std::endian::native == std::endian::little, "values are written as they lie in memory");

using namespace hdf5_model_format;

namespace {

// The file while it is written. Every member function stands under Hdf5Lock.
class ModelFile {
 public:
  explicit ModelFile(const std::string& path) : name_(path) {
    Hdf5Lock lock;
    create_file();
    write_text(file_, "magic", kMagic);
    write_integer("version", kVersion);
  }
  ~ModelFile() {
    Hdf5Lock lock;
    name_.discard();
    file_.reset();
  }

  void write_config(const std::string& text) {
    Hdf5Lock lock;
    write_text(file_, "config", text);
  }
  void write_parameter(const std::string& name, const Tensor& value);
  void commit() {
    Hdf5Lock lock;
    require(H5Fflush(file_.get(), H5F_SCOPE_LOCAL) >= 0, 0);
    require(file_.reset(), 0);
    name_.commit();
  }

 private:
  [[noreturn]] void fail(int64_t bytes);
  void require(bool done, int64_t bytes) {
    if (!done) fail(bytes);
  }
  void create_file();
  void write_text(const Hdf5Handle& at, const char* name, const std::string& text);
  void write_integer(const char* name, int64_t value);

  DurableName name_;
  Hdf5Handle file_;
};

// Leaves the library with nothing that it would try to write again at exit.
void ModelFile::fail(int64_t bytes) {
  const int error_number = hdf5_errno();
  const std::string cause = hdf5_cause();
  const std::string path = name_.path();
  name_.discard();
  file_.reset();
  if (error_number != 0) throw_write_error(path, error_number, bytes);
  throw StorageError("{}: HDF5 cannot write {} bytes: {}", path, bytes, cause);
}

void ModelFile::create_file() {
  Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  // This version of the format has checksums over the library's own structures.
  H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110);
  H5Pset_file_locking(access.get(), false, true);
  // Open handles of this file die with it, so that a failure leaves nothing open.
  H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
  Hdf5Handle create(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  H5Pset_obj_track_times(create.get(), false);
  file_ = Hdf5Handle(H5Fcreate(name_.temporary().c_str(), H5F_ACC_TRUNC, create.get(), access.get()), H5Fclose);
  require(static_cast<bool>(file_), 0);
}

void ModelFile::write_text(const Hdf5Handle& at, const char* name, const std::string& text) {
  Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), text.size() + 1);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  Hdf5Handle attribute(H5Acreate2(at.get(), name, type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  require(attribute && H5Awrite(attribute.get(), type.get(), text.c_str()) >= 0, static_cast<int64_t>(text.size()));
}

void ModelFile::write_integer(const char* name, int64_t value) {
  Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  Hdf5Handle attribute(H5Acreate2(file_.get(), name, H5T_STD_I64LE, space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  require(attribute && H5Awrite(attribute.get(), H5T_NATIVE_INT64, &value) >= 0, sizeof(value));
}

// The last dims whole, as many of the others as fit.
std::vector<hsize_t> chunk_of(const Shape& shape) {
  std::vector<hsize_t> chunk;
  int64_t inner = shape.num_elements();
  for (int d = 0; d < shape.num_dims(); ++d) {
    inner /= shape[d];
    chunk.push_back(static_cast<hsize_t>(std::clamp<int64_t>(kChunkElements / inner, 1, shape[d])));
  }
  return chunk;
}

void ModelFile::write_parameter(const std::string& name, const Tensor& value) {
  const Shape& shape = value.shape();
  const auto bytes = static_cast<int64_t>(value.num_bytes());
  const bool wide = value.dtype() == DType::kF32;
  const std::vector<hsize_t> extents(shape.begin(), shape.end()), chunk = chunk_of(shape);
  Hdf5Lock lock;
  Hdf5Handle space(H5Screate_simple(shape.num_dims(), extents.data(), nullptr), H5Sclose);
  Hdf5Handle link(H5Pcreate(H5P_LINK_CREATE), H5Pclose), create(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_create_intermediate_group(link.get(), 1);
  H5Pset_chunk(create.get(), shape.num_dims(), chunk.data());
  H5Pset_fletcher32(create.get());
  H5Pset_fill_time(create.get(), H5D_FILL_TIME_NEVER);
  H5Pset_obj_track_times(create.get(), false);
  const std::string path = std::string(kGroup) + "/" + dataset_name(name);
  Hdf5Handle data(H5Dcreate2(file_.get(), path.c_str(), wide ? H5T_IEEE_F32LE : H5T_STD_U16LE, space.get(), link.get(),
                             create.get(), H5P_DEFAULT),
                  H5Dclose);
  require(static_cast<bool>(data), bytes);
  write_text(data, "dtype", name_of(value.dtype()));
  const hid_t in_memory = wide ? H5T_NATIVE_FLOAT : H5T_NATIVE_UINT16;
  require(H5Dwrite(data.get(), in_memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, value.raw()) >= 0, bytes);
  require(data.reset(), bytes);
}

}  // namespace

void write_hdf5_model(Runtime& runtime, const std::string& path, const nlohmann::json& config,
                      const ParameterRegistry& registry, const ForeignTensor::WholeValue& value,
                      const Hdf5ModelOptions& options) {
  if (!options.writes) {
    for (const Parameter& p : registry.parameters()) value(p);
    return;
  }
  ModelFile file(path);
  file.write_config(config.dump());
  for (const Parameter& p : registry.parameters()) {
    const Tensor content = in_dtype(runtime, value(p), file_dtype(p, options.dtype, options.dtype_of));
    DF_ASSERT(content.shape() == p.spec.shape && content.is_contiguous(), "{}", p.spec.name);
    file.write_parameter(p.spec.name, content);
  }
  file.commit();
}

}  // namespace deepflow
