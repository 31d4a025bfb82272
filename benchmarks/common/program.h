// The frame of every program: exit codes, who prints an error, agreement between ranks about failures.
#pragma once

#include <exception>
#include <functional>
#include <string>

#include "acp/context.h"

namespace acp::programs {

// What the process ends with: 0, or 2 a wrong argument (ConfigError), 3 missing or corrupt data (DataError),
// 4 a failed or lost rank (CommunicationError), 1 anything else.
int exit_code(const std::exception& error);

// The rank that the launcher's variables name (RANK, OMPI_COMM_WORLD_RANK, PMIX_RANK, PMI_RANK), else 0. For
// what happens before the ranks have met.
int launcher_rank();

// An error that all ranks know of: they end together, without aborting each other, and only rank 0 prints it.
class AgreedError : public std::exception {
 public:
  AgreedError(int code, std::string message, bool own = false)
      : code_(code), message_(std::move(message)), own_(own) {}
  const char* what() const noexcept override { return message_.c_str(); }
  int code() const { return code_; }
  bool own() const { return own_; }  // of this rank, which prints it itself

 private:
  int code_;
  std::string message_;
  bool own_;
};

// Before the ranks have met: runs `body`, which sees only what is the same on all ranks (the command line).
// Its errors become AgreedErrors.
void before_start(const std::function<void()>& body);

// Before the ranks have met: runs `body`, which sees this rank's variables and devices. What is wrong on rank
// 0 becomes an AgreedError; another rank leaves rank 0 the time to say the same, and then speaks for itself,
// since the others may wait for it.
void check_rank(const std::function<void()>& body);

// Runs `body`, which must not communicate, on every rank. If it throws on some, all throw an AgreedError with
// the lowest such rank's code and message. A collective call.
void agree(const Context& context, const std::function<void()>& body);

// Runs `body`, whose errors are raised on every rank, as the library's collective calls do but for
// CommunicationErrors: all else becomes AgreedErrors. A collective call if `body` is.
void agreed(const std::function<void()>& body);

// Runs `body` with a context that it made by acp::init(); returns the process's exit code. Errors are printed
// as one line "NAME: message" on standard error. An AgreedError lets the context end in order; any other
// error aborts the other ranks, so that they do not wait for this one.
int run_program(const std::string& name, const std::function<int()>& body);
int run_ranks(const std::string& name, const Context& context, const std::function<int()>& body);

}  // namespace acp::programs
