// The rows of acp-comm: measured, printed as a table, written as JSON.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "acp/context.h"
#include "benchmarks/acp-comm/measure.h"
#include "benchmarks/acp-comm/messages.h"
#include "benchmarks/acp-comm/options.h"
#include "benchmarks/acp-comm/trial.h"
#include "benchmarks/common/output.h"

namespace acp::programs {

// One per run, on every rank; rank 0 prints and writes.
class CommReport {
 public:
  CommReport(const Context& context, const CommOptions& options, JsonLines& json);

  // Every operation at every size. Returns how many elements were wrong, on all ranks together. Collective.
  std::int64_t collectives();
  // Every compressor's messages for the gradients of a model, with and without fusion. Likewise.
  std::int64_t tensors();

 private:
  struct Figures {
    std::int64_t bytes = 0;
    Timing timing;
    std::int64_t wrong = 0;
    double gbps() const { return static_cast<double>(bytes) * 8e-9 / timing.median; }
  };

  TrialSpec spec(Collective::Kind kind, std::int64_t bytes, at::ScalarType type, bool in_place) const;
  std::optional<Figures> measure(Collective::Kind kind, std::int64_t bytes, bool in_place);
  void size(Collective::Kind kind, std::int64_t bytes);
  void step(const std::string& compressor, const std::vector<ParameterInfo>& parameters, double fusion_mb);
  std::vector<Trial> trials(const std::vector<Message>& messages) const;
  void write(std::string_view op, const Figures& figures, double bus, const nlohmann::json& more);

  const Context& context_;
  const CommOptions& options_;
  JsonLines& json_;
  Console console_;
  const std::unique_ptr<Communicator> channel_;
  const Repetitions repetitions_;
  std::int64_t wrong_ = 0;
};

// The loops of the library's reductions, in this process alone.
void report_loops(const CommOptions& options);

}  // namespace acp::programs
