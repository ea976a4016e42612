#include "launch/cli_environment.h"

#include "core/error.h"

#include <cxxabi.h>
#include <execinfo.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <thread>

namespace deepflow {
namespace {

int first_number(std::initializer_list<const char*> names, int otherwise) {
  for (const char* name : names) {
    const char* text = std::getenv(name);
    if (!text) continue;
    int number = 0;
    const char* end = text + std::strlen(text);
    if (std::from_chars(text, end, number).ptr == end && number >= 0 && end != text) return number;
  }
  return otherwise;
}

// "binary(_ZN8deepflow...+0x1f) [0x55]" with the function's name as it is written in the source.
std::string readable_frame(const std::string& frame) {
  const size_t open = frame.find('('), plus = frame.find('+', open == std::string::npos ? 0 : open);
  if (open == std::string::npos || plus == std::string::npos || plus == open + 1) return frame;
  int status = 0;
  char* name = abi::__cxa_demangle(frame.substr(open + 1, plus - open - 1).c_str(), nullptr, nullptr, &status);
  std::string result = status == 0 ? frame.substr(0, open + 1) + name + frame.substr(plus) : frame;
  std::free(name);
  return result;
}

void print_stack() {
  void* frames[64];
  const int depth = backtrace(frames, 64);
  char** symbols = backtrace_symbols(frames, depth);
  for (int i = 0; symbols && i < depth; ++i) std::fprintf(stderr, "  %s\n", readable_frame(symbols[i]).c_str());
  std::free(symbols);
}

[[noreturn]] void report_uncaught() {
  int exit_code = 3;
  try {
    if (const std::exception_ptr error = std::current_exception()) std::rethrow_exception(error);
  } catch (const Error& e) {
    exit_code = report_error(e.what(), 2);
  } catch (const std::exception& e) {
    report_error(fmt::format("internal error: {}", e.what()), exit_code);
  } catch (...) {
    report_error("internal error: an exception of unknown type", exit_code);
  }
  print_stack();
  std::_Exit(exit_code);
}

}  // namespace

LaunchEnvironment launch_environment() {
  return {first_number({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}, 0),
          first_number({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"}, 1)};
}

int report_error(const std::string& message, int exit_code) {
  const int rank = launch_environment().rank;
  if (rank > 0) std::this_thread::sleep_for(std::chrono::seconds(5));
  const std::string who = rank > 0 ? fmt::format("rank {}: ", rank) : "";
  std::fprintf(stderr, "deepflow: %s%s\n", who.c_str(), message.c_str());
  return exit_code;
}

void report_uncaught_with_stack() { std::set_terminate(report_uncaught); }

}  // namespace deepflow
