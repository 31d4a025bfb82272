// See check.h.
#include "comm/nccl/check.h"

#include "comm/error.h"

namespace acp::nccl {

namespace {

// Ranks may each see a GPU of their own under the same number, so NCCL alone knows.
bool shares_gpu(ncclResult_t code, const std::string& text) {
  return code == ncclInvalidUsage && text.find("Duplicate GPU") != text.npos;
}

}  // namespace

std::string error_text(const char* call, ncclResult_t code, ncclComm_t comm) {
  std::string text = std::string(call) + ": " + ncclGetErrorString(code);
  const char* last = ncclGetLastError(comm);
  if (last != nullptr && *last != '\0') text += " (" + std::string(last) + ")";
  if (shares_gpu(code, text)) {
    text +=
        "; NCCL takes one rank for each GPU: start fewer ranks, or share the GPU over the backend tcp or mpi";
  } else if (code == ncclSystemError || code == ncclRemoteError || code == ncclUnhandledCudaError) {
    text += "; NCCL_DEBUG=INFO says more";
  }
  return text;
}

void check(const char* call, ncclResult_t code, ncclComm_t comm) {
  if (code == ncclSuccess || code == ncclInProgress) return;
  const std::string text = error_text(call, code, comm);
  if (shares_gpu(code, text)) throw ConfigError(text);
  throw CommunicationError(text);
}

}  // namespace acp::nccl
