// Image classifiers as chains of stages, and what their entries in the registry have in common.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/classifier.h"

namespace acp::models {

// A network whose stages follow each other; it is built by adding them.
class ImageModel final : public Classifier {
 public:
  using Stage = std::function<at::Tensor(at::Tensor)>;

  // A stage without parameters.
  void add(std::string name, Stage stage) { stages_.emplace_back(std::move(name), std::move(stage)); }

  // A stage that is one of torch's modules or like them (TORCH_MODULE); its parameters are "name. ...".
  template <class Contained>
  void add(std::string name, torch::nn::ModuleHolder<Contained> module) {
    register_module(name, module);
    add(std::move(name), [module](const at::Tensor& x) mutable -> at::Tensor { return module->forward(x); });
  }

  // [n, 3, image, image] -> logits, [n, classes].
  at::Tensor forward(at::Tensor x) override;

  // The shape that each stage gives for such an input, in order.
  std::vector<std::pair<std::string, std::vector<std::int64_t>>> stage_shapes(at::Tensor x);

 private:
  std::vector<std::pair<std::string, Stage>> stages_;
};

// What a network is made for; its keys' defaults follow.
struct ImageForm {
  std::int64_t image = 224, classes = 1000;
};
constexpr ImageForm imagenet{224, 1000}, cifar{32, 10};

// `info` with the keys that all have (`image`, `classes`, `width`) before its own, and with sample, from_data
// and data_sets.
ModelInfo image_entry(ModelInfo info, ImageForm form);

// The keys of image_entry, checked.
std::int64_t image_of(const Values& values);
std::int64_t classes_of(const Values& values);
double width_of(const Values& values);

// A list of exactly `count` whole numbers of at least 1, as the blocks of each stage: "3/4/6/3".
std::vector<std::int64_t> counts_of(const Values& values, const std::string& key, std::size_t count);

}  // namespace acp::models
