// What tests on a GPU share.
#pragma once

#include <memory>

#include "comm/communicator.h"

namespace acp::test {

// Whether there is none to test on; then one line has said why, which scripts/test.sh counts as skipped.
bool no_gpu();
// The same of NCCL.
bool no_nccl();

// Takes tensors of the host, and performs each collective with copies of them on the GPU: so the suite of all
// backends is one for `device`, too.
std::unique_ptr<Communicator> on_gpu(std::unique_ptr<Communicator> device);

// Buckets of tests lie on the first GPU while this lives.
std::shared_ptr<void> use_gpu();

}  // namespace acp::test
