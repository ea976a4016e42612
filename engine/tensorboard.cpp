#include "engine/tensorboard.h"

#include "core/durable_file.h"
#include "core/error.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>

namespace deepflow {
namespace {

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
    table[i] = crc;
  }
  return table;
}

constexpr auto kCrcTable = make_crc_table();

template <class T>
void append_fixed(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));  // x86-64 and protobuf are little-endian
}

void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

// Protobuf wire types: 0 varint, 1 64-bit, 2 length-delimited, 5 32-bit.
void append_key(std::string& out, int field, int wire_type) {
  append_varint(out, static_cast<uint64_t>(field << 3 | wire_type));
}

void append_bytes(std::string& out, int field, std::string_view bytes) {
  append_key(out, field, 2);
  append_varint(out, bytes.size());
  out += bytes;
}

std::string event_header() {
  std::string event;
  append_key(event, 1, 1);  // Event.wall_time
  append_fixed(event, std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count());
  return event;
}

}  // namespace

uint32_t masked_crc32c(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = kCrcTable[(crc ^ static_cast<uint8_t>(c)) & 0xff] ^ crc >> 8;
  return std::rotr(~crc, 15) + 0xa282ead8u;
}

TensorboardWriter::TensorboardWriter(const std::string& folder, int64_t first_step) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  char host[256] = "host";
  gethostname(host, sizeof(host) - 1);
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  path_ = fmt::format("{}/events.out.tfevents.{:010}.{}.{}", folder, seconds, host, getpid());
  file_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file_ < 0) throw StorageError("{}: cannot be created: {}", path_, std::strerror(errno));
  std::string event = event_header();
  append_bytes(event, 3, "brain.Event:2");  // Event.file_version
  write_record(event);
  event = event_header();
  append_key(event, 2, 0);  // Event.step
  append_varint(event, static_cast<uint64_t>(first_step));
  append_bytes(event, 7, "\x08\x01");  // Event.session_log: status START
  write_record(event);
}

TensorboardWriter::~TensorboardWriter() { close(file_); }

void TensorboardWriter::add(int64_t step, const std::vector<Scalar>& scalars) {
  std::string summary;
  for (const auto& [tag, value] : scalars) {
    std::string entry;
    append_bytes(entry, 1, tag);  // Summary.Value.tag
    append_key(entry, 2, 5);      // Summary.Value.simple_value
    append_fixed(entry, static_cast<float>(value));
    append_bytes(summary, 1, entry);  // Summary.value
  }
  std::string event = event_header();
  append_key(event, 2, 0);  // Event.step
  append_varint(event, static_cast<uint64_t>(step));
  append_bytes(event, 5, summary);  // Event.summary
  write_record(event);
}

void TensorboardWriter::write_record(std::string_view event) {
  std::string record;
  append_fixed(record, static_cast<uint64_t>(event.size()));
  append_fixed(record, masked_crc32c(record));
  record += event;
  append_fixed(record, masked_crc32c(event));
  write_all(file_, record.data(), record.size(), path_);
}

}  // namespace deepflow
