#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

namespace deepflow {

struct ProgressFigures {
  int64_t step = 0, steps = 0;
  double loss = 0, gradient_norm = 0, lr = 0;
  std::optional<double> mtp_loss;  // of multi-token prediction
  double tokens_per_second = 0;
  double mfu = 0;               // of the measured GEMM rate, 0 .. 1
  double imbalance = 0;         // of the worst layer's experts, largest over mean load; 0: there are none
  double dropped = 0;           // share of all choices of experts
  std::optional<double> score;  // largest of attention; with optim.qk_clip
  int64_t memory_bytes = 0;     // resident set of this rank
  double seconds_left = 0;
};

// "step 120/600  loss 4.412  grad 0.61  lr 1.9e-3  11.2k tok/s  mfu 60 %  mem 0.41 GB  eta 5m51s"; with experts also
// "load 1.32" behind lr, and "dropped 0.4 %" where some are; with optim.qk_clip "score 87.3".
std::string progress_line(const ProgressFigures& figures);
std::string short_duration(double seconds);  // "5m51s", "2h03m", "48s"
std::string short_count(double value);       // "11.2k", "6.3 M" style without the space: "6.3M", "512"

// One live line on a terminal, rewritten in place at most ten times a second; elsewhere a plain line every `every`
// steps and at the last one. Throws StorageError when they cannot be written.
class Progress {
 public:
  Progress(std::FILE* out, int64_t every);
  void show(const ProgressFigures& figures);
  void note(const std::string& line);  // a line of its own, above the live one
  void finish();                       // leaves the last live line standing

 private:
  void write(const std::string& text);

  std::FILE* out_;
  int64_t every_;
  bool live_;
  bool line_open_ = false;
  std::chrono::steady_clock::time_point last_{};
};

// Whether somebody watches what is written there. mpirun gives its ranks a pseudo terminal even when its own output
// goes to a file: then the first ancestor process whose output differs from ours decides.
bool is_watched(std::FILE* out);

int64_t resident_bytes();  // of this process

}  // namespace deepflow
