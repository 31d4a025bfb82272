// Networks that give each sample one of some classes: their loss and their measure of success.
#pragma once

#include <torch/types.h>

#include "models/model.h"

namespace acp::models {

// The loss is the mean cross entropy, the metric the accuracy in per cent. Batches have one input and int64
// classes as target, [n].
class Classifier : public Model {
 public:
  // Logits, [n, classes].
  virtual at::Tensor forward(at::Tensor input) = 0;

  void set_label_smoothing(double x) override;
  at::Tensor loss(const Batch& batch) override;
  Sums no_sums() const override;
  Sums evaluate(const Batch& batch) override;
  Metric metric(const Sums& sums) const override;

 private:
  double smoothing_ = 0;
};

}  // namespace acp::models
