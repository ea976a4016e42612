#pragma once

#include "parallel/schedule_times.h"

#include <string>

namespace deepflow {

// What a run did of its pipeline schedule, from its Chrome trace (core/trace.h): spans with the names of compute
// actions (parallel/schedule.h), in microseconds from the first of them. pp is the outermost axis of the mesh, so of N
// traced ranks, rank r of the pipeline is process r N / p; the other axes do the same beside it. Of several traced
// steps, the first. StorageError for a file that cannot be read, DataError for one that is no trace or holds another
// schedule.
ScheduleTimes read_measured_schedule(const std::string& trace_path, const Schedule& planned);

}  // namespace deepflow
