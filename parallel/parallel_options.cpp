#include "parallel/parallel_options.h"

namespace deepflow {

void declare(OptionGroup& group, ParallelOptions& options) {
  group.add("dp", options.dp)
      .help("data-parallel ranks, which split each batch; 0: all ranks that the other axes leave")
      .unit("ranks")
      .at_least(0);
  group.add("zero", options.zero)
      .help("what is sharded over the data-parallel ranks; 0: nothing, 1: optimizer state and the update")
      .source("Rajbhandari et al. 2020, ZeRO, section 5")
      .range(0, 1);
  group.add("comm_timeout", options.comm.timeout)
      .help("a collective that makes no progress for so long stops the job and names the rank that is missing")
      .unit("s")
      .above(0);
  group.add("check_collectives", options.comm.check_collectives)
      .help(
          "compare name, kind and size of every collective over the ranks before it runs; slow, finds mismatched "
          "calls");
  group.add("flight_dir", options.comm.flight_dir)
      .help("folder in which a failing rank leaves the list of its last collectives, flight-RANK.txt")
      .when_absent("not written");
}

}  // namespace deepflow
