// MPI_Testsome over one array of requests, and the bookkeeping that keeps it dense.
#include "comm/mpi/requests.h"

#include <algorithm>

#include "comm/mpi/check.h"

namespace acp::mpi {

void Requests::add(Kind kind, MPI_Request request, Completion completion) {
  requests_.push_back(request);
  entries_.push_back({kind, std::move(completion)});
  ++counts_[static_cast<std::size_t>(kind)];
}

bool Requests::test() {
  if (requests_.empty()) return false;
  indexes_.resize(requests_.size());
  statuses_.resize(requests_.size());
  int count = 0;
  const int code = MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count, indexes_.data(),
                                statuses_.data());
  const bool in_status = code == MPI_ERR_IN_STATUS;
  if (!in_status) check(code, "MPI_Testsome");
  if (count == MPI_UNDEFINED || count == 0) return false;

  ended_.clear();
  for (int i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(indexes_[static_cast<std::size_t>(i)]);
    const MPI_Status& status = statuses_[static_cast<std::size_t>(i)];
    ended_.push_back(
        {std::move(entries_[at].completion), status, in_status ? status.MPI_ERROR : MPI_SUCCESS});
    --counts_[static_cast<std::size_t>(entries_[at].kind)];
    requests_[at] = MPI_REQUEST_NULL;  // after an error, too: it is not tested again
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    if (kept != i) {
      requests_[kept] = requests_[i];
      entries_[kept] = std::move(entries_[i]);
    }
    ++kept;
  }
  requests_.resize(kept);
  entries_.resize(kept);
  for (const Ended& ended : ended_) ended.completion(ended.status, ended.code);
  return true;
}

void Requests::cancel(Kind kind) {
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    if (entries_[i].kind == kind) check(MPI_Cancel(&requests_[i]), "MPI_Cancel");
  }
}

}  // namespace acp::mpi
