"""The residual networks in plain PyTorch, layer for layer those of models/resnet.cpp."""

import torch
from torch import nn
from torch.nn import functional as F

from compute import Work, peer


def conv(inputs, outputs, kernel, stride=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


def projection(inputs, outputs, stride):
    if inputs == outputs and stride == 1:
        return None
    return nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs, channels, stride):
        super().__init__()
        self.conv1 = conv(inputs, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = projection(inputs, channels, stride)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs, channels, stride):
        super().__init__()
        outputs = channels * self.expansion
        self.conv1 = conv(inputs, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv(channels, channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = conv(channels, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = projection(inputs, outputs, stride)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet(nn.Module):
    def __init__(self, block, blocks, classes, small_images=False):
        super().__init__()
        self.conv1 = conv(3, 64, 3) if small_images else conv(3, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.Identity() if small_images else nn.MaxPool2d(3, 2, 1)
        inputs, channels, layers = 64, 64, []
        for stage, count in enumerate(blocks):
            for i in range(count):
                layers.append(block(inputs, channels, 2 if i == 0 and stage > 0 else 1))
                inputs = channels * block.expansion
            channels *= 2
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.pool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(self.layers(x).mean((2, 3)))


def classification(net, image, classes, batch_size):
    images = torch.randn(batch_size, 3, image, image)
    targets = torch.randint(classes, (batch_size,))
    return Work(net, lambda: F.cross_entropy(net(images), targets))


@peer("resnet18", model="resnet18:image=32,classes=10", batch_size=32, weight_decay=1e-4)
def resnet18(batch_size):
    return classification(ResNet(BasicBlock, [2, 2, 2, 2], 10), 32, 10, batch_size)


@peer("resnet18-cifar", model="resnet18-cifar:image=32,classes=10", batch_size=16, weight_decay=5e-4)
def resnet18_cifar(batch_size):
    return classification(ResNet(BasicBlock, [2, 2, 2, 2], 10, small_images=True), 32, 10, batch_size)


@peer("resnet50", model="resnet50:image=96,classes=1000", batch_size=8, weight_decay=1e-4)
def resnet50(batch_size):
    return classification(ResNet(Bottleneck, [3, 4, 6, 3], 1000), 96, 1000, batch_size)
