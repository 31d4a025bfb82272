// Alternating low-rank compression: ACP-SGD, and with other settings the alternating forms of Power-SGD.
#pragma once

#include "compressors/low_rank_compressor.h"

namespace acp {

struct AlternatingOptions {
  LowRankOptions low_rank;
  Side first = Side::p;  // the factor that the first compressed step sends
  int rounds = 1;        // factors sent per step
};

std::unique_ptr<Compressor> make_alternating(const Bucket& bucket, AlternatingOptions options);

}  // namespace acp
