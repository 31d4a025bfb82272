// The published experiments as options of acp-train. A preset more is one entry here.
//
// Names are PAPER-MODEL-DATA. Settings are those of the published code, unscaled; what depends on the number
// of ranks is given for the published number, which the summary names. Papers (docs/experiments.md has the
// titles): acp Zhang et al. 2023, legacy LEGACY, lgreco Markov et al. 2024, gravac Tyagi and Swany 2023,
// accordion Agarwal et al. 2021, hybrids the GradComp repository, threshold Sahu et al. 2021.
#include "benchmarks/acp-train/presets.h"

namespace acp::programs {

namespace {

// What several experiments share. An option stands in one of an entry's parts alone.
constexpr const char* mnist_recipe =
    "--model mnist --epochs 3 --batch-size 64 --optimizer sgd --lr 0.05 --momentum 0.9 "
    "--lr-schedule linear";
constexpr const char* step_times =
    "--data synthetic --optimizer sgd --momentum 0 --weight-decay 0 --clip 0 --lr-schedule "
    "constant --warmup 10 --iterations 50 --no-eval";
constexpr const char* legacy_layer_size =
    "--compressor topk --memory none --policy "
    "layer-size:group_splits=10000,group_compressions=1/0.1";
constexpr const char* legacy_cifar10_recipe =
    "--data-set cifar10 --epochs 30 --batch-size 256 --optimizer sgd --lr-schedule "
    "piecewise:at=0/5/30,value=0/0.4/0 --momentum 0.9 --weight-decay 0.0005";
constexpr const char* powersgd_code_recipe =
    "--batch-size 256 --optimizer sgd:nesterov=on --lr 0.2 --scale-lr --lr-warmup 5e --momentum "
    "0.9 --weight-decay 0.0001 --no-decay norm --lr-schedule milestones:at=150/250,gamma=0.1";
// The rate rises from that of one rank to that of all over 5 epochs; the published code divides it after
// epochs 150 and 250.
constexpr const char* accordion_recipe =
    "--batch-size 128 --optimizer sgd --lr 0.1 --scale-lr --lr-warmup 5e --momentum 0.9 --weight-decay "
    "0.0001 "
    "--lr-schedule milestones:at=151/251,gamma=0.1";
constexpr const char* ncf_recipe =
    "--model ncf:factors=64,mlp=256/256/128/64,dropout=0.5 --data-set ml-20m --epochs 30 "
    "--batch-size 131072 --optimizer adam:beta1=0.25,beta2=0.5,eps=1e-8 --lr 0.0045 --lr-schedule "
    "constant";
constexpr const char* transformer_xl_recipe =
    "--model transformer-xl --seq-len 192 --data-set wikitext-103 --optimizer lamb --lr 0.01 "
    "--lr-warmup 1000 --lr-schedule cosine";
constexpr const char* lgreco_transformer_xl =
    "--compressor powersgd:rank=32,start=1000 --iterations 40000 --batch-size 32";
constexpr const char* lgreco_cifar_recipe =
    "--compressor powersgd:rank=4,start=1000 --policy lgreco:start=1000,interval=390,alpha=1 "
    "--epochs 200 --batch-size 16 --optimizer sgd --lr 0.1 --momentum 0.9 --weight-decay 0.0001 "
    "--lr-schedule milestones:at=60/120/160,gamma=0.2";
constexpr const char* gravac_common =
    "--compressor topk --policy "
    "gravac:theta_min=10,theta_max=10000,epsilon=0.75,omega=0.05,window=25,alpha=0.05,interval=2000 "
    "--epochs 300 --batch-size 32 --optimizer sgd";
constexpr const char* accordion_low_rank =
    "--compressor powersgd:rank=2 --policy accordion:high=2,low=1,threshold=0.5,period=10e "
    "--epochs 300";
constexpr const char* hybrids_recipe =
    "--model lstm-lm:layers=2,embedding=700,hidden=700,dropout=0.65,seq=35 --data-set ptb "
    "--epochs 70 --batch-size 32 --optimizer sgd --lr 20 --momentum 0 --lr-schedule constant "
    "--clip 0 --clip-local 0.25";

std::vector<PresetText> acp_presets() {
  return {
      {"acp-mnist",
       "the MNIST network of the ACP-SGD example, ACP-SGD at rank 4, 3 epochs",
       {"--compressor acpsgd:rank=4", mnist_recipe}},
      {"acp-mnist-original",
       "the same with the settings that the example was published with: 10 epochs, rate 0.01 per rank, "
       "momentum 0.5",
       {"--model mnist --compressor acpsgd:rank=4 --epochs 10 --batch-size 64 --optimizer sgd --lr "
        "0.01 --scale-lr --momentum 0.5 --lr-schedule constant"}},
      {"powersgd-mnist",
       "the MNIST network with Power-SGD at rank 4, 3 epochs",
       {"--compressor powersgd:rank=4", mnist_recipe}},
      {"ssgd-mnist",
       "the MNIST network with uncompressed gradients, 3 epochs: what the others are compared with",
       {"--compressor none", mnist_recipe}},

      {"acp-resnet50",
       "step time of ResNet-50, 32 ranks, random images, ACP-SGD at rank 4",
       {"--model resnet50 --compressor acpsgd:rank=4 --batch-size 64 --lr 0.01 --scale-lr", step_times}},
      {"acp-resnet152",
       "step time of ResNet-152, 32 ranks, random images, ACP-SGD at rank 4",
       {"--model resnet152 --compressor acpsgd:rank=4 --batch-size 32 --lr 0.01 --scale-lr", step_times}},
      {"acp-bert-base",
       "step time of BERT-base, 32 ranks, random tokens, ACP-SGD at rank 32",
       {"--model bert-base:head=pretrain,vocab=30528 --seq-len 64 --compressor acpsgd:rank=32 "
        "--batch-size 32 --lr 0.00002",
        step_times}},
      {"acp-bert-large",
       "step time of BERT-large, 32 ranks, random tokens, ACP-SGD at rank 32",
       {"--model bert-large:head=pretrain,vocab=30528 --seq-len 64 --compressor acpsgd:rank=32 "
        "--batch-size 8 --lr 0.00002",
        step_times}},
  };
}

// The sum of the losses with rate / batch size, as published, is the mean with the rate.
std::vector<PresetText> legacy_presets() {
  return {
      {"legacy-resnet9-cifar10",
       "DAWNBench's ResNet-9, 30 epochs, top-k 1 % of small layers, 0.1 % of large ones",
       {"--model resnet9", legacy_layer_size, legacy_cifar10_recipe}},
      {"legacy-alexnet-cifar10",
       "AlexNet with batch norm for 32x32 images, 30 epochs, top-k 1 % of small layers, 0.1 % of large ones",
       {"--model alexnet-cifar", legacy_layer_size, legacy_cifar10_recipe}},
      {"legacy-resnet18-cifar10",
       "ResNet-18 in the PowerSGD code base: Nesterov, warm-up over 5 epochs, 30 epochs, top-k by layer size",
       {"--model resnet18-cifar --data-set cifar10 --epochs 30", legacy_layer_size, powersgd_code_recipe}},
      {"legacy-resnet18-cifar100",
       "the same on CIFAR-100",
       {"--model resnet18-cifar --data-set cifar100 --epochs 30", legacy_layer_size, powersgd_code_recipe}},
      {"legacy-resnet50-imagenet",
       "ResNet-50, 90 epochs, 8 ranks x 128 = 1024, top-k by layer size",
       {"--model resnet50 --data-set image-folder --epochs 90 --batch-size 128 --optimizer sgd --lr "
        "0.1 --momentum 0.9 --weight-decay 0.0001 --lr-schedule step:every=30,gamma=0.1",
        legacy_layer_size}},
      {"legacy-ncf-ml20m",
       "NeuMF with 64 factors, 30 epochs, 8 ranks x 131,072 = 2^20, top-k by layer size",
       {legacy_layer_size, ncf_recipe}},
      {"legacy-transformer-xl-wikitext103",
       "Transformer-XL base, 4,500 steps, 8 ranks x 64 = 512, LAMB, top-k 1 %, then 0.1 %",
       {"--compressor topk --memory none --policy epoch:clock=step,group_compressions=1/0.1 "
        "--iterations 4500 --batch-size 64",
        transformer_xl_recipe}},
  };
}

std::vector<PresetText> adaptive_presets() {
  return {
      {"lgreco-resnet18-cifar10",
       "ResNet-18, 200 epochs, 8 ranks x 16, ranks 2 to 8 adapted every epoch",
       {"--model resnet18-cifar --data-set cifar10", lgreco_cifar_recipe}},
      {"lgreco-resnet18-cifar100",
       "the same on CIFAR-100",
       {"--model resnet18-cifar --data-set cifar100", lgreco_cifar_recipe}},
      {"lgreco-resnet50-imagenet",
       "ResNet-50, 90 epochs, 8 ranks x 256, ranks 2 to 8 adapted every 2 epochs",
       {"--model resnet50 --data-set image-folder --compressor powersgd:rank=4,start=5000 --policy "
        "lgreco:start=5000,interval=1250,alpha=1 --epochs 90 --batch-size 256 --optimizer sgd --lr "
        "2.048 --lr-warmup 8e --lr-schedule cosine --momentum 0.875 --weight-decay 0.000030517578125 "
        "--no-decay norm --label-smoothing 0.1"}},
      {"lgreco-transformer-xl-wikitext103",
       "Transformer-XL base, 40,000 steps, 8 ranks x 32, ranks 8 to 128 adapted every 1,000 steps",
       {"--policy lgreco:start=1000,interval=1000,alpha=1,beta=4,gamma=0.25", transformer_xl_recipe,
        lgreco_transformer_xl}},
      {"lgreco-accordion-transformer-xl-wikitext103",
       "the same with Accordion's choice as the reference of the budget",
       {"--policy lgreco:start=1000,interval=1000,alpha=1,beta=4,gamma=0.25+accordion:high=64,low=16",
        transformer_xl_recipe, lgreco_transformer_xl}},
      {"lgreco-transformer-lm-wikitext103",
       "Transformer with a shared embedding, ranks 16 to 64 adapted every 100 steps",
       {"--model transformer-lm --data-set wikitext-103 --compressor powersgd:rank=32,start=4000 "
        "--policy lgreco:start=4000,interval=100,alpha=1 --iterations 50000 --batch-size 8 "
        "--optimizer adam:beta1=0.9,beta2=0.98 --lr 0.0005 --lr-warmup 4000 --lr-schedule "
        "inverse-sqrt --clip 0.1"}},

      {"gravac-resnet101-cifar10",
       "ResNet-101, 300 epochs, 8 ranks x 32, top-k by the compression's gain",
       {"--model resnet101:image=32,classes=10 --data-set cifar10 --lr 0.1 --momentum 0.9 "
        "--weight-decay 0.0005 --lr-schedule milestones:at=100/150,gamma=0.1",
        gravac_common}},
      {"gravac-vgg16-cifar100",
       "VGG-16 with batch norm and its large linear layers, 300 epochs, 8 ranks x 32, top-k by the "
       "compression's gain",
       {"--model vgg16-bn:image=32,classes=100 --data-set cifar100 --lr 0.01 --momentum 0.9 "
        "--weight-decay 0.0001 --lr-schedule milestones:at=60/120/160,gamma=0.2",
        gravac_common}},
      {"gravac-lstm-ptb",
       "LSTM of 2 x 1500, keep probability 0.35, 8 ranks x 32, top-k by the compression's gain; the rate and "
       "what is "
       "not published are the program's defaults",
       {"--model lstm-lm:layers=2,hidden=1500,dropout=0.65,seq=35 --data-set ptb --lr 0.1 --momentum 0.9 "
        "--weight-decay 0.0001 --clip 0 --lr-schedule milestones:at=20/32/40,gamma=0.1",
        gravac_common}},

      {"accordion-resnet18-cifar10",
       "ResNet-18, 300 epochs, Power-SGD at rank 2 in critical regimes, else 1",
       {"--model resnet18-cifar --data-set cifar10", accordion_recipe, accordion_low_rank}},
      {"accordion-resnet18-cifar100",
       "the same on CIFAR-100",
       {"--model resnet18-cifar --data-set cifar100", accordion_recipe, accordion_low_rank}},
      {"accordion-topk-resnet18-cifar10",
       "the same with top-k: 99 % in critical regimes, else 10 %",
       {"--model resnet18-cifar --data-set cifar10 --compressor topk --policy "
        "accordion:high=0.99,low=0.1,threshold=0.5,period=10e --epochs 300",
        accordion_recipe}},
      {"accordion-densenet121-cifar10",
       "DenseNet-121 with the same settings as ResNet-18",
       {"--model densenet121-cifar --data-set cifar10", accordion_recipe, accordion_low_rank}},
      {"accordion-lstm-ptb",
       "LSTM of 3 x 650, tied, decisions every 5 epochs; the published text is WikiText-2",
       {"--model lstm-lm:layers=3,hidden=650,embedding=650,dropout=0.4,tied=on,seq=35 --data-set ptb "
        "--compressor topk --policy accordion:high=0.99,low=0.1,threshold=0.5,period=5e --epochs 80 "
        "--batch-size 20 --optimizer sgd --lr 1.25 --scale-lr --lr-warmup 5e --momentum 0.9 --clip 0.25 "
        "--lr-schedule "
        "milestones:at=61/80,gamma=0.1"}},
  };
}

std::vector<PresetText> sparse_presets() {
  return {
      {"hybrids-lstm-ptb",
       "LSTM of 2 x 700, 70 epochs, 4 ranks x 32 = 128, clipped before compression, top-k 0.1 % with signs",
       {"--compressor topk:ratio=0.001+efsignsgd", hybrids_recipe}},
      {"hybrids-adacomp-lstm-ptb",
       "the same, AdaComp's choice of the whole tensor with signs",
       {"--compressor adacomp:bin_size=0,c=3,send=H+efsignsgd", hybrids_recipe}},
      {"threshold-resnet18-cifar10",
       "ResNet-18 in the PowerSGD code base, hard threshold for a budget of 0.1 % of the model",
       {"--model resnet18-cifar --data-set cifar10 --compressor threshold:form=budget,budget=11174 "
        "--epochs 300",
        powersgd_code_recipe}},
      {"threshold-ncf-ml20m",
       "NeuMF with 64 factors, hard threshold 1.3e-6",
       {"--compressor threshold:value=0.0000013", ncf_recipe}},
  };
}

}  // namespace

std::vector<PresetText> preset_texts() {
  std::vector<PresetText> all;
  for (const auto& part : {acp_presets(), legacy_presets(), adaptive_presets(), sparse_presets()}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

}  // namespace acp::programs
