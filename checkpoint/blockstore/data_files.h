#pragma once

#include "checkpoint/blockstore/block_index.h"
#include "checkpoint/codecs/codec.h"

#include <array>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace deepflow {

// The data files of the checkpoints in one folder, opened when they are needed, and blocks read from them. One thread.
class DataFiles {
 public:
  explicit DataFiles(std::string dir) : dir_(std::move(dir)) {}  // that holds step-NNNNNNNN
  ~DataFiles();
  DataFiles(const DataFiles&) = delete;
  DataFiles& operator=(const DataFiles&) = delete;

  // The raw bytes of a record of an index; `own` is the data file beside that index. out: record.raw bytes. Compared
  // with the digest unless !verify. Throws DataError ("DIR/step-1/data-0 at byte 16: ...") for what is damaged and
  // StorageError for what cannot be read.
  void read_block(const BlockIndex& index, size_t record, const BlockSource& own, DType dtype, std::span<char> out,
                  bool verify = true);
  // The system may begin to read these records, which will be wanted soon. Says nothing of what is damaged.
  void expect(const BlockIndex& index, size_t first, size_t count, const BlockSource& own);
  bool is_there(const BlockSource& source);  // and begins as a data file
  int64_t bytes_read() const { return bytes_read_; }

 private:
  struct Opened {
    int descriptor;
    std::string path;
  };
  const Opened& open(const BlockSource& source);
  void read_plain(const BlockRecord& record, const BlockSource& source, DType dtype, std::span<char> out);
  std::span<const char> read_stored(const BlockRecord& record, const BlockSource& source);
  Codec& codec(CodecId id);

  std::string dir_;
  std::map<std::pair<std::string, std::string>, Opened> opened_;
  std::array<std::unique_ptr<Codec>, 6> codecs_;
  std::vector<char> stored_, base_;
  int64_t bytes_read_ = 0;
};

}  // namespace deepflow
