#include "tests/twin/report.h"

#include "tests/twin/twin.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <set>
#include <sstream>
#include <utility>
#include <vector>

namespace twin {

const Site* current_site = nullptr;

namespace {

struct Finding {
  Kind kind;
  std::string text;
  const void* code;
  const void* kernel;
  unsigned block, thread;
  bool in_kernel;
};

constexpr size_t kMaxFindings = 20;
std::vector<Finding> findings;
std::set<std::pair<const void*, Kind>> seen;

std::string command_output(const std::string& command) {
  std::string out;
  std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::array<char, 512> buffer;
  while (pipe && fgets(buffer.data(), buffer.size(), pipe.get())) out += buffer.data();
  return out;
}

// Function and file:line of each address in this program, by addr2line: two lines an address.
std::vector<std::pair<std::string, std::string>> symbolize(const std::vector<const void*>& addresses) {
  std::ostringstream command;
  command << "addr2line -s -f -C -e /proc/" << getpid() << "/exe";
  Dl_info info{};
  dladdr(reinterpret_cast<const void*>(&command_output), &info);
  for (const void* address : addresses) {
    command << " 0x" << std::hex
            << (address ? static_cast<const char*>(address) - static_cast<const char*>(info.dli_fbase) : 0);
  }
  std::istringstream lines(command_output(command.str() + " 2>/dev/null"));
  std::vector<std::pair<std::string, std::string>> places(addresses.size());
  for (auto& [function, line] : places) {
    std::getline(lines, function);
    std::getline(lines, line);
    const std::string anonymous = "(anonymous namespace)::";
    for (size_t at; (at = function.find(anonymous)) != std::string::npos;) function.erase(at, anonymous.size());
    function = function.substr(0, function.find('('));
    line = line.substr(0, line.find(" (discriminator"));
  }
  return places;
}

}  // namespace

const char* kind_name(Kind kind) {
  static const char* const names[] = {
      "race",    "uninitialised", "out-of-bounds", "use-after-free", "lifetime",  "misaligned", "wrong-space",
      "barrier", "deadlock",      "warp",          "limit",          "undefined", "api"};
  return names[static_cast<int>(kind)];
}

void report(Kind kind, const std::string& text, const void* code) {
  if (code && !seen.insert({code, kind}).second) return;
  if (findings.size() >= kMaxFindings) return;
  Finding finding{kind, text, code, nullptr, 0, 0, current_site != nullptr};
  if (current_site) {
    finding.kernel = current_site->kernel;
    finding.block = current_site->block;
    finding.thread = current_site->thread;
  }
  findings.push_back(finding);
}

bool found(Kind kind) {
  return std::any_of(findings.begin(), findings.end(), [=](const Finding& f) { return f.kind == kind; });
}

void forget_reports() {
  findings.clear();
  seen.clear();
}

std::vector<std::string> take_reports() {
  std::vector<const void*> addresses;
  for (const Finding& f : findings) {
    addresses.push_back(f.kernel);
    addresses.push_back(f.code ? static_cast<const char*>(f.code) - 1 : nullptr);  // the call, not what follows it
  }
  std::vector<std::string> lines;
  if (!findings.empty()) {
    const auto places = symbolize(addresses);
    for (size_t i = 0; i < findings.size(); ++i) {
      const Finding& f = findings[i];
      std::string line = std::string(kind_name(f.kind)) + ": " + f.text;
      if (f.in_kernel) {
        line += " [" + places[2 * i].first + " block " + std::to_string(f.block) + " thread " +
                std::to_string(f.thread) + "]";
      }
      if (f.code) line += " at " + places[2 * i + 1].second;
      lines.push_back(line);
    }
  }
  forget_reports();
  return lines;
}

}  // namespace twin
