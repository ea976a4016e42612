// The C++ half of `tests/bench/run.sh codec`: codes files of raw values (a tensor each) in blocks, on one core, and
// prints one JSON object: per codec the ratio with 48 bytes of record a block, the ratio of planes when a tensor is one
// block, GB/s of raw bytes to and from memory (the best pass), and what the blocks' digests cost beside coding them.
#include "checkpoint/codecs/planes.h"
#include "checkpoint/digest.h"
#include "core/error.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

namespace deepflow {
namespace {

constexpr size_t kBlock = 256 << 10, kRecord = 48;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::vector<char> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw StorageError("{}: cannot be opened", path);
  std::ostringstream content;
  content << file.rdbuf();
  const std::string text = std::move(content).str();
  return {text.begin(), text.end()};
}

using Tensors = std::vector<std::vector<char>>;
using Blocks = std::vector<std::span<const char>>;

Blocks cut(const Tensors& tensors, size_t block) {
  Blocks blocks;
  for (const std::vector<char>& tensor : tensors)
    for (size_t at = 0; at < tensor.size(); at += block)
      blocks.push_back(std::span(tensor).subspan(at, std::min(block, tensor.size() - at)));
  return blocks;
}

size_t total(const Blocks& blocks) {
  size_t sum = 0;
  for (const auto& block : blocks) sum += block.size();
  return sum;
}

// What a data file would hold.
struct Stored {
  std::vector<char> bytes;
  std::vector<size_t> lengths;  // 0: raw
};

size_t encode(Codec& codec, const Blocks& blocks, DType dtype, Stored& stored) {
  size_t at = 0;
  stored.lengths.clear();
  for (const auto& block : blocks) {
    const size_t coded = codec.encode(block, dtype, std::span(stored.bytes).subspan(at));
    if (coded == 0) std::memcpy(stored.bytes.data() + at, block.data(), block.size());
    stored.lengths.push_back(coded);
    at += coded == 0 ? block.size() : coded;
  }
  return at;
}

void decode(Codec& codec, const Blocks& blocks, DType dtype, const Stored& stored, std::vector<char>& raw) {
  size_t from = 0, to = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const size_t length = stored.lengths[i] == 0 ? blocks[i].size() : stored.lengths[i];
    const std::span<const char> block = std::span<const char>(stored.bytes).subspan(from, length);
    const std::span<char> target = std::span(raw).subspan(to, blocks[i].size());
    if (stored.lengths[i] == 0)
      std::memcpy(target.data(), block.data(), length);
    else
      codec.decode(block, dtype, target);
    from += length;
    to += blocks[i].size();
  }
}

void expect_same(const Blocks& blocks, const std::vector<char>& raw) {
  size_t at = 0;
  for (const auto& block : blocks) {
    if (std::memcmp(block.data(), raw.data() + at, block.size()) != 0)
      throw DataError("other bytes came back in the block at {}", at);
    at += block.size();
  }
}

template <class F>
double best_seconds(int passes, F&& pass) {
  double best = 1e30;
  for (int i = 0; i <= passes; ++i) {  // the first one touches the memory
    const double start = now();
    pass();
    if (i > 0) best = std::min(best, now() - start);
  }
  return best;
}

struct Bench {
  const Blocks& blocks;
  DType dtype;
  int passes;
  Stored stored;
  std::vector<char> raw;

  Bench(const Blocks& blocks_, DType dtype_, int passes_)
      : blocks(blocks_), dtype(dtype_), passes(passes_), raw(total(blocks_)) {
    stored.bytes.resize(2 * raw.size() + 4 * kBlock);
  }

  nlohmann::json measure(Codec& codec) {
    size_t bytes = 0;
    const double to = best_seconds(passes, [&] { bytes = encode(codec, blocks, dtype, stored); });
    const double from = best_seconds(passes, [&] { decode(codec, blocks, dtype, stored, raw); });
    if (!codec.is_lossy()) expect_same(blocks, raw);
    const double size = static_cast<double>(raw.size());
    return {{"ratio", static_cast<double>(bytes + kRecord * blocks.size()) / size},
            {"compress", size / to / 1e9},
            {"decompress", size / from / 1e9}};
  }

  // What each block's digest, taken just before the block is coded as a writer does, adds to the time of coding alone.
  nlohmann::json measure_digest(Codec& codec) {
    double alone = 1e30, both = 1e30;
    uint64_t sum = 0;
    const auto pass = [&](bool digests, double& best) {
      const double start = now();
      for (const auto& block : blocks) {
        if (digests) sum ^= digest_of(block).lo;
        codec.encode(block, dtype, stored.bytes);
      }
      best = std::min(best, now() - start);
    };
    for (int i = 0; i <= 2 * passes; ++i) {
      pass(false, alone);
      pass(true, both);
    }
    return {{"share", both / alone - 1}, {"sum", sum}};
  }
};

int run(int argc, char** argv) {
  std::string dtype_name = "bf16";
  std::vector<std::string> paths;
  int passes = 3;
  bool all = false;
  CLI::App app("bench codec");
  app.add_option("--dtype", dtype_name, "of the values: bf16, f32, ...")->capture_default_str();
  app.add_option("--passes", passes, "of which the best counts")->capture_default_str();
  app.add_flag("--all", all, "zstd, nf4 and int8 as well");
  app.add_option("files", paths, "raw values, a tensor each")->required();
  CLI11_PARSE(app, argc, argv);

  const DType dtype = dtype_from_name(dtype_name);
  Tensors tensors;
  for (const std::string& path : paths) tensors.push_back(read_file(path));
  const Blocks blocks = cut(tensors, kBlock);
  if (blocks.empty()) throw DataError("{}: no values", paths[0]);
  Bench bench(blocks, dtype, passes);
  const auto planes = make_codec(CodecId::kPlanes);
  nlohmann::json result = {{"bytes", bench.raw.size()}, {"blocks", blocks.size()}, {"planes", bench.measure(*planes)}};
  result["digest"] = bench.measure_digest(*planes);
  const Blocks whole = cut(tensors, std::numeric_limits<uint32_t>::max() / 8);
  Stored out{std::vector<char>(planes->bound(bench.raw.size()) + 1024 * whole.size()), {}};
  result["whole_ratio"] =
      static_cast<double>(encode(*planes, whole, dtype, out)) / static_cast<double>(bench.raw.size());
  if (all) {
    ZstdCodec fast(1), usual;
    result["zstd -1"] = bench.measure(fast);
    result["zstd -3"] = bench.measure(usual);
    for (const CodecId id : {CodecId::kNf4, CodecId::kInt8}) result[name_of(id)] = bench.measure(*make_codec(id));
  }
  std::printf("%s\n", result.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace deepflow

int main(int argc, char** argv) {
  try {
    return deepflow::run(argc, argv);
  } catch (const deepflow::Error& error) {
    std::fprintf(stderr, "bench codec: %s\n", error.what());
    return 2;
  }
}
