#include "data/hdf5_token_store.h"

#include "core/error.h"
#include "core/hdf5_handle.h"
#include "data/token_store_file.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>

namespace deepflow {

static_assert(std::endian::native == std::endian::little, "token stores are read as they lie on disk");

using namespace token_store_format;

std::string TokenStoreHeader::canonical() const {
  return fmt::format(
      "{} {}\nvocabulary_size {}\ntokenizer_digest {}\nsource_bytes {}\nnum_tokens {}\nnum_documents {}\n", kMagic,
      kVersion, vocabulary_size, tokenizer_digest, source_bytes, num_tokens, num_documents);
}

namespace {

class Hdf5TokenStore : public TokenStore {
 public:
  explicit Hdf5TokenStore(const std::string& path);
  ~Hdf5TokenStore() override;

  const char* format() const override { return "hdf5"; }
  void verify() const override;

 protected:
  void read_tokens(int64_t first, std::span<int32_t> out) const override;

 private:
  [[noreturn]] void fail(const std::string& what) const;
  void open_file();
  std::string read_text(const char* name) const;
  int64_t read_integer(const char* name) const;
  Hdf5Handle open_array(const char* name, hid_t type, int64_t* count) const;
  template <class T>
  std::vector<T> read_array(const char* name, hid_t file_type, hid_t memory_type) const;
  void open_tokens();
  void check_digest();
  void read_raw(int64_t first, int64_t count, hid_t type, void* out) const;

  int64_t file_bytes_ = 0;
  int token_bytes_ = 0;  // 2 or 4
  std::vector<uint64_t> checksums_;
  Hdf5Handle file_, tokens_, token_space_;
};

void Hdf5TokenStore::fail(const std::string& what) const {
  throw DataError("{}: {}; not a whole DeepFlow token store, make it again with: deepflow data tokenize", path_, what);
}

Hdf5TokenStore::Hdf5TokenStore(const std::string& path) : TokenStore(path) {
  file_bytes_ = TokenStoreFile(path).size();
  Hdf5Lock lock;
  open_file();
  if (const std::string magic = read_text("magic"); magic != kMagic) {
    fail(fmt::format("attribute magic is \"{}\", expected \"{}\"", magic, kMagic));
  }
  if (const int64_t version = read_integer("version"); version != kVersion) {
    throw DataError("{}: token store of version {}, this program reads version {}; make it again or update DeepFlow",
                    path_, version, kVersion);
  }
  vocabulary_size_ = read_integer("vocabulary_size");
  if (vocabulary_size_ < 1 || vocabulary_size_ > INT32_MAX) fail(fmt::format("vocabulary of {}", vocabulary_size_));
  tokenizer_digest_ = read_text("tokenizer_digest");
  source_bytes_ = read_integer("source_bytes");
  if (source_bytes_ < 0) fail(fmt::format("{} source bytes", source_bytes_));
  open_tokens();
  document_offsets_ = read_array<int64_t>("document_offsets", H5T_STD_I64LE, H5T_NATIVE_INT64);
  check_document_offsets(path_, document_offsets_, num_tokens_);
  checksums_ = read_array<uint64_t>("token_checksums", H5T_STD_U64LE, H5T_NATIVE_UINT64);
  if (static_cast<int64_t>(checksums_.size()) != (num_tokens_ + kChunkTokens - 1) / kChunkTokens) {
    fail(fmt::format("{} checksums for {} tokens", checksums_.size(), num_tokens_));
  }
  check_digest();
}

Hdf5TokenStore::~Hdf5TokenStore() {
  Hdf5Lock lock;
  token_space_.reset();
  tokens_.reset();
  file_.reset();
}

void Hdf5TokenStore::open_file() {
  Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  // Stores do not change once they have their name, and shared file systems often have no locks.
  H5Pset_file_locking(access.get(), false, true);
  file_ = Hdf5Handle(H5Fopen(path_.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose);
  if (!file_) fail(fmt::format("HDF5 cannot open it ({})", hdf5_cause()));
}

std::string Hdf5TokenStore::read_text(const char* name) const {
  Hdf5Handle attribute(H5Aopen(file_.get(), name, H5P_DEFAULT), H5Aclose);
  if (!attribute) fail(fmt::format("attribute {} is missing", name));
  Hdf5Handle type(H5Aget_type(attribute.get()), H5Tclose);
  const size_t size = type ? H5Tget_size(type.get()) : 0;
  const bool fixed = type && H5Tget_class(type.get()) == H5T_STRING && H5Tis_variable_str(type.get()) == 0;
  if (!fixed || size == 0 || size > 4096 || H5Aget_storage_size(attribute.get()) != size) {
    fail(fmt::format("attribute {} is not one text of fixed length", name));
  }
  std::string text(size, '\0');
  if (H5Aread(attribute.get(), type.get(), text.data()) < 0) {
    fail(fmt::format("attribute {}: {}", name, hdf5_cause()));
  }
  return text.substr(0, text.find('\0'));
}

int64_t Hdf5TokenStore::read_integer(const char* name) const {
  Hdf5Handle attribute(H5Aopen(file_.get(), name, H5P_DEFAULT), H5Aclose);
  if (!attribute) fail(fmt::format("attribute {} is missing", name));
  Hdf5Handle type(H5Aget_type(attribute.get()), H5Tclose);
  const bool integer = type && H5Tequal(type.get(), H5T_STD_I64LE) > 0;
  if (!integer || H5Aget_storage_size(attribute.get()) != sizeof(int64_t)) {
    fail(fmt::format("attribute {} is not one 64-bit integer", name));
  }
  int64_t value = 0;
  if (H5Aread(attribute.get(), H5T_NATIVE_INT64, &value) < 0) {
    fail(fmt::format("attribute {}: {}", name, hdf5_cause()));
  }
  return value;
}

Hdf5Handle Hdf5TokenStore::open_array(const char* name, hid_t type, int64_t* count) const {
  Hdf5Handle array(H5Dopen2(file_.get(), name, H5P_DEFAULT), H5Dclose);
  if (!array) fail(fmt::format("data set {} cannot be opened ({})", name, hdf5_cause()));
  Hdf5Handle stored(H5Dget_type(array.get()), H5Tclose);
  Hdf5Handle space(H5Dget_space(array.get()), H5Sclose);
  if (!stored || !space || H5Sget_simple_extent_ndims(space.get()) != 1) {
    fail(fmt::format("data set {} is not one row of numbers", name));
  }
  hsize_t extent = 0;
  H5Sget_simple_extent_dims(space.get(), &extent, nullptr);
  if (type >= 0 && H5Tequal(stored.get(), type) <= 0) fail(fmt::format("data set {} has an unexpected type", name));
  // A damaged extent must not become an allocation.
  const size_t element = std::max<size_t>(1, H5Tget_size(stored.get()));
  if (extent > static_cast<hsize_t>(file_bytes_) / element) {
    fail(fmt::format("data set {} says {} elements, more than the file's {} bytes hold", name, extent, file_bytes_));
  }
  *count = static_cast<int64_t>(extent);
  return array;
}

template <class T>
std::vector<T> Hdf5TokenStore::read_array(const char* name, hid_t file_type, hid_t memory_type) const {
  int64_t count = 0;
  Hdf5Handle array = open_array(name, file_type, &count);
  std::vector<T> values(static_cast<size_t>(count));
  if (count > 0 && H5Dread(array.get(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0) {
    fail(fmt::format("data set {}: {}", name, hdf5_cause()));
  }
  return values;
}

void Hdf5TokenStore::open_tokens() {
  tokens_ = open_array("tokens", -1, &num_tokens_);
  Hdf5Handle type(H5Dget_type(tokens_.get()), H5Tclose);
  if (H5Tequal(type.get(), H5T_STD_U16LE) > 0) token_bytes_ = 2;
  if (H5Tequal(type.get(), H5T_STD_U32LE) > 0) token_bytes_ = 4;
  if (token_bytes_ == 0) fail("data set tokens is neither u16 nor u32, little endian");
  if (num_tokens_ == 0) fail("it holds no tokens");
  token_space_ = Hdf5Handle(H5Dget_space(tokens_.get()), H5Sclose);
}

void Hdf5TokenStore::check_digest() {
  const TokenStoreHeader header{vocabulary_size_, tokenizer_digest_, source_bytes_, num_tokens_,
                                static_cast<int64_t>(document_offsets_.size()) - 1};
  const std::string tail = header.canonical();
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(), XXH3_freeState);
  XXH3_128bits_reset(state.get());
  XXH3_128bits_update(state.get(), document_offsets_.data(), document_offsets_.size() * sizeof(int64_t));
  XXH3_128bits_update(state.get(), checksums_.data(), checksums_.size() * sizeof(uint64_t));
  XXH3_128bits_update(state.get(), tail.data(), tail.size());
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  digest_ = fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  if (const std::string written = read_text("digest"); written != digest_) {
    fail(fmt::format("its digest is {} but the content gives {}", written, digest_));
  }
}

void Hdf5TokenStore::read_raw(int64_t first, int64_t count, hid_t type, void* out) const {
  const auto start = static_cast<hsize_t>(first), extent = static_cast<hsize_t>(count);
  Hdf5Lock lock;
  Hdf5Handle memory(H5Screate_simple(1, &extent, nullptr), H5Sclose);
  const bool selected = H5Sselect_hyperslab(token_space_.get(), H5S_SELECT_SET, &start, nullptr, &extent, nullptr) >= 0;
  if (!selected || H5Dread(tokens_.get(), type, memory.get(), token_space_.get(), H5P_DEFAULT, out) < 0) {
    throw DataError("{}: cannot read tokens [{}, {}): {}; copy or make it again", path_, first, first + count,
                    hdf5_cause());
  }
}

void Hdf5TokenStore::read_tokens(int64_t first, std::span<int32_t> out) const {
  const auto count = static_cast<int64_t>(out.size());
  if (token_bytes_ == 4) return read_raw(first, count, H5T_NATIVE_UINT32, out.data());
  // The library's own widening is several times slower.
  std::vector<uint16_t> narrow(out.size());
  read_raw(first, count, H5T_NATIVE_UINT16, narrow.data());
  std::copy(narrow.begin(), narrow.end(), out.begin());
}

void Hdf5TokenStore::verify() const {
  std::vector<char> bytes(static_cast<size_t>(std::min(kChunkTokens, num_tokens_) * token_bytes_));
  for (size_t chunk = 0; chunk < checksums_.size(); ++chunk) {
    const int64_t first = static_cast<int64_t>(chunk) * kChunkTokens;
    const int64_t count = std::min(kChunkTokens, num_tokens_ - first);
    read_raw(first, count, token_bytes_ == 4 ? H5T_NATIVE_UINT32 : H5T_NATIVE_UINT16, bytes.data());
    if (XXH3_64bits(bytes.data(), static_cast<size_t>(count * token_bytes_)) != checksums_[chunk]) {
      throw DataError("{}: tokens [{}, {}) do not match their checksum; the file is damaged, copy or make it again",
                      path_, first, first + count);
    }
  }
  TokenStore::verify();
}

}  // namespace

std::shared_ptr<const TokenStore> open_hdf5_token_store(const std::string& path) {
  return std::make_shared<Hdf5TokenStore>(path);
}

}  // namespace deepflow
