// A failure as plain data: what happened, kept so that every waiting thread can be given an exception of its
// own.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>

#include "comm/collective.h"

namespace acp {

// One exception object shared by several threads would be freed by whichever lets go last; a value has no
// such end.
struct Failure {
  enum class Kind : std::uint8_t { communication, peer, config, data };

  Kind kind = Kind::communication;
  int peer = -1;  // of a PeerError
  std::string text;

  // From any exception. One that is not an acp::Error becomes `communication`; the text is made one line, and
  // libtorch's errors lose their backtrace.
  static Failure of(const std::exception_ptr& error) noexcept;

  // A new exception of the class that `kind` names.
  std::exception_ptr exception() const;
  [[noreturn]] void raise() const;
};

// What a rank learns when rank `origin` has aborted with `text`: a PeerError «stopped by rank 1 (text)».
Failure stopped_by(int origin, std::string_view text);

// Adds where it happened: "[tcp] rank 1: TEXT during all_reduce of 4 MiB float32 (step 120, bucket 2)". A
// text that has been through here already is left as it is.
Failure during(Failure failure, std::string_view backend, int rank, const Collective& op);

}  // namespace acp
