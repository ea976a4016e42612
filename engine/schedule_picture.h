#pragma once

#include "parallel/schedule_times.h"

#include <string>
#include <vector>

namespace deepflow {

struct SchedulePanel {
  std::string title;  // "planned", "measured"
  ScheduleTimes times;
  double unit = 1;        // what one of the axis' units is in the unit of `times`
  std::string unit_name;  // "ms"; empty: none
};

// A picture of a pipeline step as SVG: a panel of its own time axis for each of `panels`, a row for each rank, a box
// for each compute action with its micro-batch, coloured by what it does and lighter for the rank's earlier chunks. The
// box of a woven pair shows forward above backward. Pointing at a box names the action and its times.
std::string schedule_as_svg(const std::string& title, const Schedule& schedule,
                            const std::vector<SchedulePanel>& panels);

}  // namespace deepflow
