// L-GreCo's candidates: which settings a layer may get, and what each costs.
#pragma once

#include <cstdint>
#include <vector>

#include "adaptive/dynamic_programme.h"
#include "adaptive/policy.h"

namespace acp {

// The same for all layers; `reference` is the compressor's own setting's place.
struct Candidates {
  std::vector<double> levels;  // ascending
  std::size_t reference = 0;
};

// Ranks floor(own * gamma) .. ceil(own * beta); ratios own * 2^(i/2), i = -6 .. 6, at most 1; bits 2 .. 8.
Candidates lgreco_candidates(const PolicySetting& setting, double beta, double gamma);

// Numbers that a step sends of an n x m matrix with rank k: k (n + m) up to q = min(n, m, most); beyond, one
// more than q's, so that the true rank wins.
double low_rank_size(const Layer& layer, double rank, double most);

}  // namespace acp
