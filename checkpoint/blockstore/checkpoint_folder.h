#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace deepflow {

// The checkpoints of one run: DIR/step-NNNNNNNN, each with a commit record, and `latest`, a link to the newest.

struct FoundCheckpoint {
  int64_t step = 0;
  std::string path;
};

// Committed ones, oldest first; empty where there is no such folder. Throws StorageError.
std::vector<FoundCheckpoint> list_checkpoints(const std::string& dir);

// What a checkpoint is called while it is written: no reader takes it for one.
std::string name_while_written(const std::string& name);

// Makes DIR and an empty folder for a checkpoint to be written into, in place of one that was never committed.
void begin_checkpoint(const std::string& dir, const std::string& name);
// All files are on the disk: writes manifest and commit record, gives the folder its name, and makes it `latest`. An
// older checkpoint of that name gives way, unless others refer to it, which is a StorageError.
void commit_checkpoint(const std::string& dir, const std::string& name, const std::string& manifest_text);
void abandon_checkpoint(const std::string& dir, const std::string& name);  // removes what was written of it

// Gives a damaged checkpoint another name, under which nobody takes it for one; returns its path.
std::string set_aside(const std::string& path);

struct Retention {
  int64_t keep = 0;        // the newest so many; 0: all
  int64_t keep_every = 0;  // besides, those of steps that are multiples of it; 0: none
};
struct PruneReport {
  std::vector<std::string> removed;  // names of checkpoints that do not count any more
  int64_t freed = 0;                 // bytes
  int64_t shared = 0;                // bytes of their files that others refer to, and that stay
};
// Removes the other checkpoints: first the commit record, then what no remaining one refers to. Nothing is removed
// while the references of a remaining checkpoint cannot be read. Also removes leftovers of unfinished ones; nobody may
// be writing into DIR. only_say: reports what it would do.
PruneReport prune_checkpoints(const std::string& dir, const Retention& retention, bool only_say = false);

}  // namespace deepflow
