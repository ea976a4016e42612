#include "engine/progress.h"

#include "core/error.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace deepflow {
namespace {

// What a descriptor of a process leads to, "/dev/pts/3"; empty when we may not know.
std::string target_of(const std::string& process, int descriptor) {
  std::error_code error;
  return std::filesystem::read_symlink(fmt::format("/proc/{}/fd/{}", process, descriptor), error).string();
}

int parent_of(int process) {
  std::ifstream status(fmt::format("/proc/{}/status", process));
  for (std::string word; status >> word;)
    if (int parent = 0; word == "PPid:" && status >> parent) return parent;
  return 0;
}

}  // namespace

std::string short_duration(double seconds) {
  const auto s = static_cast<int64_t>(std::llround(seconds));
  if (s >= 3600) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  if (s >= 60) return fmt::format("{}m{:02}s", s / 60, s % 60);
  return fmt::format("{}s", s);
}

std::string short_count(double value) {
  const char* const suffixes[] = {"", "k", "M", "G", "T"};
  int i = 0;
  for (; value >= 999.5 && i < 4; ++i) value /= 1000;
  return i == 0 ? fmt::format("{:.0f}", value) : fmt::format("{:.3g}{}", value, suffixes[i]);
}

std::string progress_line(const ProgressFigures& f) {
  std::string parts;
  const std::string ahead = f.mtp_loss ? fmt::format("  mtp {:.4f}", *f.mtp_loss) : "";
  if (f.imbalance > 0) parts = fmt::format("  load {:.2f}", f.imbalance);
  if (f.dropped > 0) parts += fmt::format("  dropped {:.2g} %", 100 * f.dropped);
  if (f.score) parts += fmt::format("  score {:.1f}", *f.score);
  return fmt::format(
      "step {}/{}  loss {:.4f}{}  grad {:.3g}  lr {:.2e}{}  {} tok/s  mfu {:.0f} %  mem {:.2f} GB  eta {}", f.step,
      f.steps, f.loss, ahead, f.gradient_norm, f.lr, parts, short_count(f.tokens_per_second), 100 * f.mfu,
      static_cast<double>(f.memory_bytes) * 1e-9, short_duration(f.seconds_left));
}

Progress::Progress(std::FILE* out, int64_t every) : out_(out), every_(every), live_(is_watched(out)) {}

void Progress::show(const ProgressFigures& f) {
  const bool last = f.step == f.steps;
  if (!live_) {
    if (f.step % every_ != 0 && f.step != 1 && !last) return;
    write(progress_line(f) + "\n");
  } else {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::milliseconds(100) && !last) return;
    last_ = now;
    write("\r\033[K" + progress_line(f));
    line_open_ = true;
  }
}

void Progress::note(const std::string& line) {
  write((line_open_ ? "\r\033[K" : "") + line + "\n");
  line_open_ = false;
}

void Progress::finish() {
  if (line_open_) write("\n");
  line_open_ = false;
}

void Progress::write(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), out_) != text.size() || std::fflush(out_) != 0)
    throw StorageError("standard output cannot be written: {}", std::strerror(errno));
}

bool is_watched(std::FILE* out) {
  const int descriptor = fileno(out);
  if (isatty(descriptor) != 1) return false;
  if (!std::getenv("OMPI_COMM_WORLD_RANK")) return true;
  const std::string own = target_of("self", descriptor);
  for (int process = getppid(); process > 1; process = parent_of(process)) {
    const std::string target = target_of(std::to_string(process), descriptor);
    if (target != own) return target.starts_with("/dev/pts/") || target.starts_with("/dev/tty");
  }
  return false;
}

int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

}  // namespace deepflow
