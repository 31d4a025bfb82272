// See program.h.
#include "benchmarks/common/program.h"

#include <c10/util/Exception.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <thread>
#include <vector>

#include "acp/agreement.h"
#include "comm/error.h"

namespace acp::programs {

namespace {

// libtorch appends a backtrace to what(); its first line is what a person needs.
std::string message_of(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  std::string text = torch_error != nullptr ? torch_error->what_without_backtrace() : error.what();
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

void print_error(const std::string& name, const std::string& message) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s: %s\n", name.c_str(), message.c_str());
  std::fflush(stderr);
}

struct Failure {
  int code = 0;
  std::string message;
};

std::optional<Failure> attempt(const std::function<void()>& body) {
  try {
    body();
    return {};
  } catch (const std::exception& error) {
    return Failure{exit_code(error), message_of(error)};
  }
}

// All ranks fail alike, but a launcher kills the rest as soon as the first process has ended: the silent ones
// wait until rank 0 has surely printed its line.
void let_rank_zero_speak(std::chrono::seconds time = std::chrono::seconds(1)) {
  std::this_thread::sleep_for(time);
}

}  // namespace

int exit_code(const std::exception& error) {
  if (const auto* agreed = dynamic_cast<const AgreedError*>(&error)) return agreed->code();
  if (dynamic_cast<const ConfigError*>(&error) != nullptr) return 2;
  if (dynamic_cast<const DataError*>(&error) != nullptr) return 3;
  if (dynamic_cast<const CommunicationError*>(&error) != nullptr) return 4;
  return 1;
}

int launcher_rank() {
  for (const char* name : {"RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}) {
    if (const char* value = std::getenv(name); value != nullptr && *value != '\0') return std::atoi(value);
  }
  return 0;
}

void before_start(const std::function<void()>& body) {
  if (const auto failure = attempt(body)) throw AgreedError(failure->code, failure->message);
}

void check_rank(const std::function<void()>& body) {
  const auto failure = attempt(body);
  if (!failure) return;
  if (launcher_rank() == 0) throw AgreedError(failure->code, failure->message);
  let_rank_zero_speak(
      std::chrono::seconds(5));  // a launcher has ended this rank by then if rank 0 failed, too
  throw AgreedError(failure->code, fmt::format("rank {}: {}", launcher_rank(), failure->message), true);
}

void agree(const Context& context, const std::function<void()>& body) {
  const auto failure = attempt(body);
  const auto all = all_gather_bytes(context.user_channel(),
                                    failure ? fmt::format("{}:{}", failure->code, failure->message) : "");
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].empty()) continue;
    const auto colon = all[rank].find(':');
    const auto message = all[rank].substr(colon + 1);
    throw AgreedError(std::stoi(all[rank].substr(0, colon)),
                      rank == 0 ? message : fmt::format("rank {}: {}", rank, message));
  }
}

void agreed(const std::function<void()>& body) {
  try {
    body();
  } catch (const CommunicationError&) {
    throw;
  } catch (const Error& error) {
    throw AgreedError(exit_code(error), message_of(error));
  }
}

int run_program(const std::string& name, const std::function<int()>& body) {
  try {
    return body();
  } catch (const AgreedError& error) {
    if (launcher_rank() == 0 || error.own()) {
      print_error(name, error.what());
    } else {
      let_rank_zero_speak();
    }
    return error.code();
  } catch (const std::exception& error) {
    print_error(name, message_of(error));
    return exit_code(error);
  }
}

int run_ranks(const std::string& name, const Context& context, const std::function<int()>& body) {
  try {
    return body();
  } catch (const AgreedError& error) {
    if (context.rank() == 0) {
      print_error(name, error.what());
    } else {
      let_rank_zero_speak();
    }
    return error.code();
  } catch (const std::exception& error) {
    print_error(name, message_of(error));
    context.abort(std::current_exception());
    return exit_code(error);
  }
}

}  // namespace acp::programs
