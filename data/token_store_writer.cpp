#include "data/token_store_writer.h"

#include "core/durable_file.h"
#include "core/error.h"
#include "core/hdf5_handle.h"
#include "data/hdf5_token_store.h"

#include <xxhash.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace deepflow {

using namespace token_store_format;

class TokenStoreWriter::File {
 public:
  File(const std::string& path, int64_t vocabulary_size, const std::string& tokenizer_digest);
  ~File();

  void append(std::span<const int32_t> document, int64_t source_bytes);
  void finish();
  const TokenStoreHeader& header() const { return header_; }

 private:
  struct GrowingArray {
    Hdf5Handle array;
    hid_t type = -1;
    int64_t count = 0;
  };

  [[noreturn]] void fail(int64_t bytes);
  void require(bool done, int64_t bytes) {
    if (!done) fail(bytes);
  }
  void create_file();
  GrowingArray create_array(const char* name, hid_t type, int64_t chunk);
  void extend(GrowingArray& array, const void* values, int64_t count);
  void flush_tokens();
  void flush_offsets();
  void write_checksums();
  void write_text(const char* name, const std::string& text);
  void write_integer(const char* name, int64_t value);
  std::string digest();
  void close();

  DurableName name_;
  TokenStoreHeader header_;
  int64_t token_bytes_;
  Hdf5Handle file_;
  GrowingArray tokens_, offsets_;
  std::vector<char> token_buffer_;  // at most one chunk
  std::vector<int64_t> offset_buffer_;
  std::vector<uint64_t> checksums_;
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> hash_{XXH3_createState(), XXH3_freeState};
};

TokenStoreWriter::File::File(const std::string& path, int64_t vocabulary_size, const std::string& tokenizer_digest)
    : name_(path), token_bytes_(vocabulary_size <= 65536 ? 2 : 4) {
  DF_ASSERT(vocabulary_size > 0 && vocabulary_size <= INT32_MAX, "vocabulary of {}", vocabulary_size);
  header_.vocabulary_size = vocabulary_size;
  header_.tokenizer_digest = tokenizer_digest;
  token_buffer_.reserve(static_cast<size_t>(kChunkTokens * token_bytes_));
  XXH3_128bits_reset(hash_.get());
  Hdf5Lock lock;
  create_file();
  tokens_ = create_array("tokens", token_bytes_ == 2 ? H5T_STD_U16LE : H5T_STD_U32LE, kChunkTokens);
  offsets_ = create_array("document_offsets", H5T_STD_I64LE, kChunkOffsets);
  offset_buffer_.push_back(0);
}

TokenStoreWriter::File::~File() {
  Hdf5Lock lock;
  name_.discard();
  close();
}

// Leaves the library with nothing that it would try to write again at exit.
void TokenStoreWriter::File::fail(int64_t bytes) {
  const int error_number = hdf5_errno();
  const std::string cause = hdf5_cause();
  const std::string path = name_.path();
  name_.discard();
  close();
  if (error_number != 0) throw_write_error(path, error_number, bytes);
  throw StorageError("{}: HDF5 cannot write {} bytes: {}", path, bytes, cause);
}

void TokenStoreWriter::File::close() {
  tokens_.array.reset();
  offsets_.array.reset();
  file_.reset();
}

void TokenStoreWriter::File::create_file() {
  Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  // This version of the format has checksums over the library's own structures.
  H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110);
  H5Pset_file_locking(access.get(), false, true);
  Hdf5Handle create(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  H5Pset_obj_track_times(create.get(), false);  // the same content gives the same bytes
  file_ = Hdf5Handle(H5Fcreate(name_.temporary().c_str(), H5F_ACC_TRUNC, create.get(), access.get()), H5Fclose);
  require(static_cast<bool>(file_), 0);
}

TokenStoreWriter::File::GrowingArray TokenStoreWriter::File::create_array(const char* name, hid_t type, int64_t chunk) {
  const hsize_t none = 0, unlimited = H5S_UNLIMITED, chunk_size = static_cast<hsize_t>(chunk);
  Hdf5Handle space(H5Screate_simple(1, &none, &unlimited), H5Sclose);
  Hdf5Handle create(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_chunk(create.get(), 1, &chunk_size);
  H5Pset_obj_track_times(create.get(), false);
  Hdf5Handle array(H5Dcreate2(file_.get(), name, type, space.get(), H5P_DEFAULT, create.get(), H5P_DEFAULT), H5Dclose);
  require(static_cast<bool>(array), 0);
  return {std::move(array), type, 0};
}

void TokenStoreWriter::File::extend(GrowingArray& array, const void* values, int64_t count) {
  if (count == 0) return;
  Hdf5Lock lock;
  const auto bytes = static_cast<int64_t>(H5Tget_size(array.type)) * count;
  const auto start = static_cast<hsize_t>(array.count), extent = static_cast<hsize_t>(count);
  const hsize_t whole = start + extent;
  require(H5Dset_extent(array.array.get(), &whole) >= 0, bytes);
  Hdf5Handle file_space(H5Dget_space(array.array.get()), H5Sclose);
  Hdf5Handle memory_space(H5Screate_simple(1, &extent, nullptr), H5Sclose);
  H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, &start, nullptr, &extent, nullptr);
  const herr_t written =
      H5Dwrite(array.array.get(), array.type, memory_space.get(), file_space.get(), H5P_DEFAULT, values);
  require(written >= 0, bytes);
  array.count += count;
}

void TokenStoreWriter::File::append(std::span<const int32_t> document, int64_t source_bytes) {
  DF_ASSERT(file_, "{} written after finish", name_.path());
  if (document.empty()) return;
  for (const int32_t token : document) {
    if (token < 0 || token >= header_.vocabulary_size) {
      throw DataError("{}: token {} in document {} is not below the vocabulary of {}; use the tokenizer that made it",
                      name_.path(), token, header_.num_documents, header_.vocabulary_size);
    }
    const auto narrow = static_cast<uint16_t>(token);
    const char* bytes =
        token_bytes_ == 2 ? reinterpret_cast<const char*>(&narrow) : reinterpret_cast<const char*>(&token);
    token_buffer_.insert(token_buffer_.end(), bytes, bytes + token_bytes_);
    if (static_cast<int64_t>(token_buffer_.size()) == kChunkTokens * token_bytes_) flush_tokens();
  }
  header_.num_tokens += static_cast<int64_t>(document.size());
  header_.num_documents += 1;
  header_.source_bytes += source_bytes;
  offset_buffer_.push_back(header_.num_tokens);
  if (static_cast<int64_t>(offset_buffer_.size()) == kChunkOffsets) flush_offsets();
}

void TokenStoreWriter::File::flush_tokens() {
  if (token_buffer_.empty()) return;
  checksums_.push_back(XXH3_64bits(token_buffer_.data(), token_buffer_.size()));
  extend(tokens_, token_buffer_.data(), static_cast<int64_t>(token_buffer_.size()) / token_bytes_);
  token_buffer_.clear();
}

void TokenStoreWriter::File::flush_offsets() {
  XXH3_128bits_update(hash_.get(), offset_buffer_.data(), offset_buffer_.size() * sizeof(int64_t));
  extend(offsets_, offset_buffer_.data(), static_cast<int64_t>(offset_buffer_.size()));
  offset_buffer_.clear();
}

void TokenStoreWriter::File::write_checksums() {
  const hsize_t count = checksums_.size();
  Hdf5Handle space(H5Screate_simple(1, &count, nullptr), H5Sclose);
  Hdf5Handle create(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_obj_track_times(create.get(), false);
  Hdf5Handle array(
      H5Dcreate2(file_.get(), "token_checksums", H5T_STD_U64LE, space.get(), H5P_DEFAULT, create.get(), H5P_DEFAULT),
      H5Dclose);
  const auto bytes = static_cast<int64_t>(count * sizeof(uint64_t));
  require(static_cast<bool>(array), bytes);
  require(H5Dwrite(array.get(), H5T_STD_U64LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, checksums_.data()) >= 0, bytes);
  require(array.reset(), bytes);
}

void TokenStoreWriter::File::write_text(const char* name, const std::string& text) {
  Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), text.size() + 1);
  Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  Hdf5Handle attribute(H5Acreate2(file_.get(), name, type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  require(attribute && H5Awrite(attribute.get(), type.get(), text.c_str()) >= 0, static_cast<int64_t>(text.size()));
}

void TokenStoreWriter::File::write_integer(const char* name, int64_t value) {
  Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  Hdf5Handle attribute(H5Acreate2(file_.get(), name, H5T_STD_I64LE, space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  require(attribute && H5Awrite(attribute.get(), H5T_NATIVE_INT64, &value) >= 0, sizeof(value));
}

std::string TokenStoreWriter::File::digest() {
  const std::string tail = header_.canonical();
  XXH3_128bits_update(hash_.get(), checksums_.data(), checksums_.size() * sizeof(uint64_t));
  XXH3_128bits_update(hash_.get(), tail.data(), tail.size());
  const XXH128_hash_t hash = XXH3_128bits_digest(hash_.get());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

void TokenStoreWriter::File::finish() {
  DF_ASSERT(file_, "{} finished twice", name_.path());
  if (header_.num_tokens == 0) throw DataError("{}: the text gives no tokens, nothing to write", name_.path());
  Hdf5Lock lock;
  flush_tokens();
  flush_offsets();
  write_checksums();
  write_text("magic", kMagic);
  write_integer("version", kVersion);
  write_integer("vocabulary_size", header_.vocabulary_size);
  write_text("tokenizer_digest", header_.tokenizer_digest);
  write_integer("source_bytes", header_.source_bytes);
  write_text("digest", digest());
  const int64_t bytes = header_.num_tokens * token_bytes_;
  require(tokens_.array.reset(), bytes);
  require(offsets_.array.reset(), bytes);
  require(H5Fflush(file_.get(), H5F_SCOPE_LOCAL) >= 0, bytes);
  require(file_.reset(), bytes);
  name_.commit();
}

TokenStoreWriter::TokenStoreWriter(const std::string& path, int64_t vocabulary_size,
                                   const std::string& tokenizer_digest)
    : file_(std::make_unique<File>(path, vocabulary_size, tokenizer_digest)) {}
TokenStoreWriter::~TokenStoreWriter() = default;
void TokenStoreWriter::append(std::span<const int32_t> document, int64_t source_bytes) {
  file_->append(document, source_bytes);
}
void TokenStoreWriter::finish() { file_->finish(); }
int64_t TokenStoreWriter::num_tokens() const { return file_->header().num_tokens; }
int64_t TokenStoreWriter::num_documents() const { return file_->header().num_documents; }

}  // namespace deepflow
