// A timeline of the engine's work as a Chrome trace (chrome://tracing, Perfetto).
#pragma once

#include <memory>
#include <string>

#include "fusion/events.h"

namespace acp {

// Collects events and writes them as JSON when close() is called or it is destroyed, first to a temporary
// file and then under the name, so that a reader never sees half of it. One file for each rank: rank 0 writes
// `file`, rank r `file`.rankR; times are microseconds since the first event, process id = rank.
class Trace {
 public:
  Trace(std::string file, int rank);
  ~Trace();  // errors of writing are logged
  EventSink sink() const;
  void close();  // DataError names the file that cannot be written

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the sink, which may outlive the object
};

}  // namespace acp
