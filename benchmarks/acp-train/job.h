// What a run trains, and on what: the model and the data set that its options name, read and checked.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "acp/context.h"
#include "benchmarks/acp-train/options.h"
#include "models/data_set.h"
#include "models/model.h"

namespace acp::programs {

struct Job {
  std::shared_ptr<models::Model> model;  // on the context's device; parameters of this rank's generator
  models::DataSet data;
  std::string set, sentence;  // the set's specification; the same for people, with where it came from
  std::int64_t tokens_per_sample = 0;  // of sequences; else 0
};

// A collective call. AgreedError: data that are missing or damaged on some rank, or not the same on all:
// ranks that read unlike data would train on a mixture, or make unequal numbers of steps and wait.
Job load_job(const Context& context, const TrainOptions& options);

}  // namespace acp::programs
