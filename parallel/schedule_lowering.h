#pragma once

#include "parallel/schedule.h"

namespace deepflow {

// How messages of a pipeline travel. A channel leads from one rank to another and carries either activations (kind F)
// or their gradients (kind B). It is a FIFO: the k-th send of its kind at `from` is the k-th receive of its kind at
// `to`, and lower() orders receives so that they are the same tensor (the simulator checks it). Channels do not wait
// for each other: between two ranks up to four of them exist (V shapes), and a receive that was posted ahead must not
// hold back a send, so each is a communicator of its two ranks, or one queue of its own.
//
// The executor enqueues every send and receive at its place in the list and goes on at once:
// - kSendF (chunk, m): channel {rank_of(chunk), rank_of(chunk + 1), F}, the output of F (chunk, m), which stays alive
//   until it has left;
// - kRecvF (chunk, m): channel {rank_of(chunk - 1), rank_of(chunk), F}, into a new or free buffer; F (chunk, m) waits
//   for it;
// - kSendB (chunk, m): channel {rank_of(chunk), rank_of(chunk - 1), B}, the input's gradient, from B or BW (chunk, m);
// - kRecvB (chunk, m): channel {rank_of(chunk + 1), rank_of(chunk), B}; B or BW (chunk, m) waits for it.
// Neighbouring chunks of one rank pass tensors by hand: there is no action for it.
struct Channel {
  int from = 0, to = 0;
  bool backward = false;  // kind B
  friend bool operator==(const Channel&, const Channel&) = default;
};
Channel channel_of(const Schedule& schedule, const Action& message);  // one of the four message actions
// Every channel that the placement needs, in an order that is the same on all ranks: make communicators by it.
std::vector<Channel> channels_of(const Schedule& schedule);

struct LowerLimits {
  // Receives of a channel that may be posted and not yet read. With 2, a message can arrive while the one before it is
  // waited for or worked on; the buffer of one that is used up serves the next but one.
  int receive_buffers = 2;
  // Chunks of a rank whose parameters may be gathered at a time (ZeRO-3): the one that computes, and the next.
  int gathered_chunks = 2;
};

// Adds to the compute lists of a schedule
// - messages: a send right behind the action that makes the tensor; a receive as early as `limits` let it, at least one
//   compute action ahead of its use where there is one, and a gradient's not before its own forward has run;
// - at zero_level 3, kGather before a chunk's parameters are read by F or B (W reads none), one chunk ahead, and kFree
//   when they are not among the next ones any more. Every chunk is free at the end of the step;
// - kReduce (chunk, m): m's weight gradient was the last of the chunk in the step; at zero_level >= 2, where gradients
//   do not stay whole, behind every weight gradient.
// Gathers and reductions come in the same order on all ranks of a data-parallel group, since these run the same list.
Schedule lower(const Schedule& compute_only, int zero_level, const LowerLimits& limits = {});

}  // namespace deepflow
