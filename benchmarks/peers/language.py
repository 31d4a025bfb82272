"""The LSTM language model and BERT in plain PyTorch, layer for layer those of models/lstm_lm.cpp and
models/bert_models.cpp."""

import torch
from torch import nn
from torch.nn import functional as F

from compute import Work, peer


class LstmLm(nn.Module):
    def __init__(self, hidden, vocab, layers, dropout):
        super().__init__()
        self.embedding = nn.Embedding(vocab, hidden)
        self.lstm = nn.LSTM(hidden, hidden, layers, dropout=dropout)
        self.drop = nn.Dropout(dropout)
        self.decoder = nn.Linear(hidden, vocab)
        self.state = None

    def forward(self, tokens):  # [time, rows], as the LSTM has it
        out, state = self.lstm(self.drop(self.embedding(tokens)), self.state)
        self.state = tuple(part.detach() for part in state)
        return self.decoder(self.drop(out))


class BertLayer(nn.Module):
    def __init__(self, hidden, heads, inner, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_projection = nn.Linear(hidden, 3 * hidden)
        self.out_projection = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden, eps=1e-12)
        self.inner = nn.Linear(hidden, inner)
        self.outer = nn.Linear(inner, hidden)
        self.norm = nn.LayerNorm(hidden, eps=1e-12)
        self.drop = nn.Dropout(dropout)

    def forward(self, x, mask):
        batch, time, hidden = x.shape
        qkv = self.in_projection(x).view(batch, time, 3, self.heads, hidden // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        x = self.attention_norm(x + self.drop(self.out_projection(seen.transpose(1, 2).reshape(batch, time, hidden))))
        return self.norm(x + self.drop(self.outer(F.gelu(self.inner(x)))))


class BertPretraining(nn.Module):
    def __init__(self, layers, hidden, heads, inner, vocab, positions=512, dropout=0.1):
        super().__init__()
        self.words = nn.Embedding(vocab, hidden)
        self.positions = nn.Embedding(positions, hidden)
        self.types = nn.Embedding(2, hidden)
        self.norm = nn.LayerNorm(hidden, eps=1e-12)
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(BertLayer(hidden, heads, inner, dropout) for _ in range(layers))
        self.pooler = nn.Linear(hidden, hidden)
        self.transform = nn.Linear(hidden, hidden)
        self.transform_norm = nn.LayerNorm(hidden, eps=1e-12)
        self.bias = nn.Parameter(torch.zeros(vocab))
        self.next = nn.Linear(hidden, 2)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, ids, types, mask):
        time = ids.shape[1]
        x = self.words(ids) + self.positions(torch.arange(time)) + self.types(types)
        x = self.drop(self.norm(x))
        hidden = (1 - mask).to(x.dtype)[:, None, None, :] * torch.finfo(x.dtype).min
        for layer in self.layers:
            x = layer(x, hidden.expand(-1, 1, time, time))
        words = F.linear(self.transform_norm(F.gelu(self.transform(x.flatten(0, 1)))), self.words.weight, self.bias)
        return words, self.next(torch.tanh(self.pooler(x[:, 0])))


@peer("lstm-lm", model="lstm-lm:layers=2,hidden=650,vocab=10000,seq=35", batch_size=20, arguments=("--clip", 0))
def lstm_lm(batch_size):
    net = LstmLm(650, 10000, 2, 0.5)
    tokens, targets = (torch.randint(10000, (batch_size, 35)) for _ in range(2))
    return Work(net, lambda: F.cross_entropy(net(tokens.t()).flatten(0, 1), targets.t().flatten()))


@peer("bert-base", model="bert-base:head=pretrain,vocab=30528,seq=64", batch_size=4, arguments=("--clip", 0))
def bert_base(batch_size):
    net = BertPretraining(12, 768, 12, 3072, 30528)
    ids, targets = (torch.randint(30528, (batch_size, 64)) for _ in range(2))
    types, mask = (torch.randint(2, (batch_size, 64)) for _ in range(2))
    follows = torch.randint(2, (batch_size,))

    def loss():
        words, sentences = net(ids, types, mask)
        return F.cross_entropy(words, targets.flatten()) + F.cross_entropy(sentences, follows)

    return Work(net, loss)
