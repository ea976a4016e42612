// Tokens a second of the loader (random windows of two blended stores, shuffled, documents apart, one reading thread)
// beside plain pread of the same windows, and its ratio to a trainer that takes --consumption tokens a second. The last
// line is one JSON object; `ratio` is the worst of the table.
#include "data/loader.h"

#include "core/error.h"
#include "data/token_store_writer.h"

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <random>

namespace deepflow {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void write_random_store(const std::string& path, int64_t num_tokens, unsigned seed) {
  constexpr int64_t kVocabulary = 50257;
  std::mt19937 random(seed);
  TokenStoreWriter writer(path, kVocabulary, "bench");
  std::vector<int32_t> document;
  while (writer.num_tokens() < num_tokens) {
    document.resize(20 + random() % 1000);
    for (int32_t& token : document) token = static_cast<int32_t>(random() % kVocabulary);
    writer.append(document, static_cast<int64_t>(document.size()) * 4);
  }
  writer.finish();
}

double loader_rate(const std::shared_ptr<const SampleSource>& source, int64_t batch, double seconds) {
  Loader loader(source, {batch});
  loader.next();
  int64_t tokens = 0;
  const auto start = Clock::now();
  while (seconds_since(start) < seconds) tokens += loader.next().rows();
  return static_cast<double>(tokens) / seconds_since(start);
}

// What the file system alone gives: the same windows, read and thrown away.
double pread_rate(const SampleSource& source, double seconds) {
  std::vector<int> files;
  for (int s = 0; s < source.num_stores(); ++s) files.push_back(::open(source.store(s).path().c_str(), O_RDONLY));
  std::vector<uint16_t> window(static_cast<size_t>(source.options().sequence + 1));
  int64_t tokens = 0;
  const auto start = Clock::now();
  for (int64_t sample = 0; seconds_since(start) < seconds; ++sample) {
    const SampleSource::Place place = source.place(sample);
    const ssize_t got =
        ::pread(files[static_cast<size_t>(place.store)], window.data(), window.size() * 2, place.first_token * 2);
    DF_ASSERT(got > 0);
    tokens += got / 2;
  }
  const double rate = static_cast<double>(tokens) / seconds_since(start);
  for (const int file : files) ::close(file);
  return rate;
}

int run(int argc, char** argv) {
  double consumption = 20000, seconds = 1;
  int64_t store_tokens = 20000000;
  std::string folder =
      (std::filesystem::temp_directory_path() / fmt::format("deepflow_bench_loader_{}", ::getpid())).string();
  CLI::App app("bench loader");
  app.add_option("--consumption", consumption, "tokens a second that a trainer takes")->capture_default_str();
  app.add_option("--seconds", seconds, "for each figure")->capture_default_str();
  app.add_option("--tokens", store_tokens, "of each of the two stores")->capture_default_str();
  app.add_option("--folder", folder, "for the stores, removed afterwards")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  std::filesystem::create_directories(folder);
  const auto start = Clock::now();
  write_random_store(folder + "/a.h5", store_tokens, 1);
  write_random_store(folder + "/b.h5", store_tokens, 2);
  std::printf("two stores of %.0f M tokens written in %.2f s\n\n", static_cast<double>(store_tokens) / 1e6,
              seconds_since(start));
  std::printf("%-10s %-10s %10s %12s %12s %10s\n", "documents", "sequence", "batch", "tokens/s", "pread only", "ratio");
  double worst = 0;
  for (const Documents documents : {Documents::kSeparate, Documents::kJoined}) {
    for (const int64_t sequence : {int64_t{64}, int64_t{256}, int64_t{1024}, int64_t{4096}}) {
      const int64_t batch = 8192 / std::min<int64_t>(sequence, 1024);
      const auto source =
          std::make_shared<SampleSource>(std::vector<WeightedStore>{{open_token_store(folder + "/a.h5"), 0.7},
                                                                    {open_token_store(folder + "/b.h5"), 0.3}},
                                         SampleOptions{sequence, documents, true, 1});
      const double rate = loader_rate(source, batch, seconds), plain = pread_rate(*source, seconds);
      std::printf("%-10s %-10ld %10ld %12.3g %12.3g %10.0f\n",
                  documents == Documents::kSeparate ? "separate" : "joined", static_cast<long>(sequence),
                  static_cast<long>(batch), rate, plain, rate / consumption);
      worst = worst == 0 ? rate : std::min(worst, rate);
    }
  }
  std::filesystem::remove_all(folder);
  std::printf("\n{\"ratio\": %.1f, \"tokens_per_s\": %.0f, \"consumption\": %.0f}\n", worst / consumption, worst,
              consumption);
  return 0;
}

}  // namespace
}  // namespace deepflow

int main(int argc, char** argv) {
  try {
    return deepflow::run(argc, argv);
  } catch (const deepflow::Error& error) {
    std::fprintf(stderr, "bench loader: %s\n", error.what());
    return 2;
  }
}
