// A timeline of the engine's work as a Chrome trace (ui.perfetto.dev, chrome://tracing).
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "fusion/events.h"

namespace acp {

class Context;

// Collects events and writes them as JSON when it is closed or destroyed; the file appears whole or not at
// all. Process id = rank; one row for backward passes, encoding, collectives and waiting each, more where
// they overlap. Times are microseconds of the wall clock, so files of several ranks fit together.
//
// The environment variable ACP_TRACE=FILE traces every reducer of a program: rank 0 writes FILE, rank r
// FILE.rankr, when the Context ends. close(context) makes one file of all ranks.
class Trace {
 public:
  // At most this many events are kept (the first ones); a line in the log tells of the others.
  static constexpr std::size_t max_events = 1'000'000;

  Trace(std::string file, int rank);
  ~Trace();  // close(); an error of writing is logged
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  // Thread-safe; may outlive the object, then it drops events.
  EventSink sink() const;

  // Writes this rank's events: rank 0 to `file`, rank r to `file`.rankr. DataError names a file that cannot
  // be written. Once; later calls do nothing.
  void close();

  // A collective call: rank 0 writes the events of all ranks to `file`. DataError on every rank if it cannot.
  void close(const Context& context);

 private:
  struct State;
  std::string file_;
  int rank_;
  std::shared_ptr<State> state_;
};

}  // namespace acp
