// Every code that NCCL returns goes through here.
#pragma once

#include <nccl.h>

#include <string>

namespace acp::nccl {

// "ncclCommInitRankConfig: unhandled system error (Call to socket failed)", in NCCL's own words; `comm` may
// be null.
std::string error_text(const char* call, ncclResult_t code, ncclComm_t comm);

// Throws CommunicationError (of two ranks on one GPU ConfigError) unless `code` is ncclSuccess, or
// ncclInProgress of a communicator that does not block.
void check(const char* call, ncclResult_t code, ncclComm_t comm);

}  // namespace acp::nccl
