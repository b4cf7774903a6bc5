#!/usr/bin/env python3
"""Times the video U-Net in eager PyTorch and compares it with Squall's, on the same weights and inputs.

    pytorch_eager.py RUST.json      RUST.json holds the lines that the example `bench_forward` printed

Weights are filled from a hash of their names, as `network::init::fill_by_hash` does, so no file is needed. Prints one
JSON line for each measurement: what, seconds here, seconds in Squall, their ratio (above 1: Squall is faster), and the
largest relative difference of the outputs.
"""

import json
import math
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

CONFIGS = {
    "tiny": dict(channels=32, mult=[1, 2], res_blocks=1, attention=[1, 2], heads=2),
    "full": dict(channels=64, mult=[1, 2, 4, 4], res_blocks=2, attention=[1, 2, 4], heads=4),
}


def hash_uniform(name, count):
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & (2**64 - 1)
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z ^= z >> np.uint64(30)
        z *= np.uint64(0xBF58476D1CE4E5B9)
        z ^= z >> np.uint64(27)
        z *= np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return 2 * ((z >> np.uint64(40)).astype(np.float64) / 2**24) - 1


def fill_by_hash(model):
    for name, p in model.named_parameters():
        name = "model.diffusion_model." + name
        v = hash_uniform(name, p.numel()).reshape(p.shape)
        if p.ndim >= 2:
            v = v * math.sqrt(3 / (p.numel() / p.shape[0]))
        elif name.endswith("mix_factor"):
            v = 0.5 * v
        elif name.endswith(".weight"):
            v = 1 + 0.1 * v
        else:
            v = 0.1 * v
        p.data.copy_(torch.from_numpy(v.astype(np.float32)))


def sinusoids(positions, channels):
    half = channels // 2
    f = torch.exp(-math.log(10000) * torch.arange(half) / half)
    angles = positions[:, None].float() * f[None]
    return torch.cat([angles.cos(), angles.sin()], 1)


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix_factor = nn.Parameter(torch.zeros(1))

    def forward(self, a, b):
        share = torch.sigmoid(self.mix_factor)
        return share * a + (1 - share) * b


class Branch(nn.Module):
    def __init__(self, a, b, emb, conv):
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, a), nn.SiLU(), conv(a, b))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, b))
        self.out_layers = nn.Sequential(nn.GroupNorm(32, b), nn.SiLU(), nn.Identity(), conv(b, b))


def space(a, b):
    return nn.Conv2d(a, b, 3, padding=1)


def over_time(a, b):
    return nn.Conv3d(a, b, (3, 1, 1), padding=(1, 0, 0))


class ResBlock(Branch):
    def __init__(self, a, b, emb):
        super().__init__(a, b, emb, space)
        self.skip_connection = nn.Conv2d(a, b, 1) if a != b else nn.Identity()
        self.time_stack = Branch(b, b, emb, over_time)
        self.time_mixer = Mixer()

    def forward(self, x, emb, frames):
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        s = self.skip_connection(x) + self.out_layers(h)
        bt, c, height, width = s.shape
        v = s.reshape(bt // frames, frames, c, height, width).permute(0, 2, 1, 3, 4)
        e = self.time_stack.emb_layers(emb).reshape(bt // frames, frames, c).permute(0, 2, 1)[..., None, None]
        t = v + self.time_stack.out_layers(self.time_stack.in_layers(v) + e)
        return self.time_mixer(v, t).permute(0, 2, 1, 3, 4).reshape(bt, c, height, width)


class Attention(nn.Module):
    def __init__(self, c, heads):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(c, c, bias=False) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(c, c))

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = (f(x).view(b, n, self.heads, c // self.heads).transpose(1, 2) for f in (self.to_q, self.to_k, self.to_v))
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


class Gated(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.proj = nn.Linear(c, 8 * c)

    def forward(self, x):
        a, g = self.proj(x).chunk(2, -1)
        return a * F.gelu(g)


class FeedForward(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.net = nn.Sequential(Gated(c), nn.Identity(), nn.Linear(4 * c, c))

    def forward(self, x):
        return self.net(x)


class Block(nn.Module):
    def __init__(self, c, heads, entry=False):
        super().__init__()
        if entry:
            self.norm_in, self.ff_in = nn.LayerNorm(c), FeedForward(c)
        self.attn1, self.attn2, self.ff = Attention(c, heads), Attention(c, heads), FeedForward(c)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(c), nn.LayerNorm(c), nn.LayerNorm(c)

    def forward(self, x):
        if hasattr(self, "ff_in"):
            x = self.ff_in(self.norm_in(x)) + x
        x = self.attn1(self.norm1(x)) + x
        x = self.attn2(self.norm2(x)) + x
        return self.ff(self.norm3(x)) + x


class Transformer(nn.Module):
    def __init__(self, c, heads):
        super().__init__()
        self.norm = nn.GroupNorm(32, c, eps=1e-6)
        self.proj_in, self.proj_out = nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 1)
        self.transformer_blocks = nn.ModuleList([Block(c, heads)])
        self.time_stack = nn.ModuleList([Block(c, heads, entry=True)])
        self.time_pos_embed = nn.Sequential(nn.Linear(c, 4 * c), nn.SiLU(), nn.Linear(4 * c, c))
        self.time_mixer = Mixer()

    def forward(self, x, frames):
        bt, c, height, width = x.shape
        h = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        h = self.transformer_blocks[0](h)
        e = self.time_pos_embed(sinusoids(torch.arange(frames), c).to(x.dtype)).repeat(bt // frames, 1)[:, None]
        z = (h + e).reshape(bt // frames, frames, -1, c).permute(0, 2, 1, 3).reshape(-1, frames, c)
        z = self.time_stack[0](z)
        z = z.reshape(bt // frames, -1, frames, c).permute(0, 2, 1, 3).reshape(bt, -1, c)
        h = self.time_mixer(h, z).transpose(1, 2).reshape(bt, c, height, width)
        return self.proj_out(h) + x


class Down(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.op = nn.Conv2d(c, c, 3, stride=2, padding=1)

    def forward(self, x):
        return self.op(x)


class Up(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class VideoUNet(nn.Module):
    def __init__(self, inputs, outputs, channels, mult, res_blocks, attention, heads):
        super().__init__()
        ch, emb = channels, 4 * channels
        self.channels = ch
        self.time_embed = nn.Sequential(nn.Linear(ch, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(inputs, ch, 3, padding=1)])])
        widths, width, factor = [ch], ch, 1
        for level, m in enumerate(mult):
            for _ in range(res_blocks):
                layers = [ResBlock(width, m * ch, emb)]
                width = m * ch
                if factor in attention:
                    layers.append(Transformer(width, heads))
                self.input_blocks.append(nn.ModuleList(layers))
                widths.append(width)
            if level + 1 < len(mult):
                self.input_blocks.append(nn.ModuleList([Down(width)]))
                widths.append(width)
                factor *= 2
        self.middle_block = nn.ModuleList([ResBlock(width, width, emb), Transformer(width, heads), ResBlock(width, width, emb)])
        self.output_blocks = nn.ModuleList()
        for level, m in reversed(list(enumerate(mult))):
            for i in range(res_blocks + 1):
                layers = [ResBlock(width + widths.pop(), m * ch, emb)]
                width = m * ch
                if factor in attention:
                    layers.append(Transformer(width, heads))
                if level and i == res_blocks:
                    layers.append(Up(width))
                    factor //= 2
                self.output_blocks.append(nn.ModuleList(layers))
        self.out = nn.Sequential(nn.GroupNorm(32, ch), nn.SiLU(), nn.Conv2d(ch, outputs, 3, padding=1))

    def forward(self, x, k):
        b, frames = x.shape[:2]
        dtype = self.out[2].weight.dtype
        emb = self.time_embed(sinusoids(k.repeat_interleave(frames), self.channels).to(dtype))

        def run(layers, h):
            for layer in layers:
                if isinstance(layer, ResBlock):
                    h = layer(h, emb, frames)
                elif isinstance(layer, Transformer):
                    h = layer(h, frames)
                else:
                    h = layer(h)
            return h

        h, skips = x.flatten(0, 1).to(dtype), []
        for layers in self.input_blocks:
            h = run(layers, h)
            skips.append(h)
        h = run(self.middle_block, h)
        for layers in self.output_blocks:
            h = run(layers, torch.cat([h, skips.pop()], 1))
        return self.out(h).unflatten(0, (b, frames)).to(x.dtype)


def tensor(name, shape):
    return torch.from_numpy((hash_uniform(name, math.prod(shape)) * math.sqrt(3)).astype(np.float32)).reshape(shape)


def cumulated(share):
    """Running product of 1 - clip(1 - h(k+1)/h(k)) with h = share * f + 1 - share, f the cosine schedule."""
    f = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    h = share * f / f[0] + 1 - share
    return np.cumprod(1 - np.clip(1 - h[1:] / h[:-1], 0, 0.999))


def smooth(x, g):
    frames = [x[:, 0]]
    for s in range(1, x.shape[1]):
        frames.append(math.sqrt(1 - g) * frames[-1] + math.sqrt(g) * x[:, s])
    return torch.stack(frames, 1)


def sharpen(u, g):
    later = (u[:, 1:] - math.sqrt(1 - g) * u[:, :-1]) / math.sqrt(g)
    return torch.cat([u[:, :1], later], 1)


@torch.no_grad()
def sample(model, condition, noise, steps=10, ratio=0.5):
    """DDIM of the dynamical process, step by step as published."""
    ab, g = cumulated(1.0), cumulated(ratio)
    grid = [1 + i * (1000 // steps) for i in reversed(range(steps))]
    x = smooth(noise, g[grid[0]])
    for t, p in zip(grid, grid[1:] + [None]):
        found = model(torch.cat([x, condition], 2), torch.full((len(x),), t))
        clean = sharpen((x - math.sqrt(1 - ab[t]) * found) / math.sqrt(ab[t]), g[t])
        ab_p, g_p = (ab[p], g[p]) if p is not None else (1.0, 1.0)
        x = math.sqrt(ab_p) * smooth(clean, g_p) + math.sqrt(1 - ab_p) * smooth(sharpen(found, g[t]), g_p)
    return x


def best(clock, run, least=3, seconds=5.0):
    now = time.process_time if clock == "cpu" else time.perf_counter
    run()
    times, start = [], time.perf_counter()
    while len(times) < least or (time.perf_counter() - start < seconds and len(times) < 50):
        t = now()
        run()
        times.append(now() - t)
    return min(times)


def main():
    lines = [json.loads(line) for line in open(sys.argv[1]) if line.startswith("{")]
    for line in lines:
        torch.set_num_threads(line["threads"])
        model = VideoUNet(line["shape"][2], 3, **CONFIGS[line["config"]])
        fill_by_hash(model)
        shape = line["shape"]
        x = tensor("input", shape)
        k = torch.full((shape[0],), 401)
        if line["precision"] == "bf16":
            model = model.to(torch.bfloat16)
        if line["what"] == "forward":
            with torch.no_grad():
                y = model(x, k)
                seconds = best(line["clock"], lambda: model(x, k))
            head = torch.tensor(line["head"])
            difference = ((y.flatten()[: len(head)] - head).abs().max() / y.abs().max()).item()
        elif line["what"] == "sampling":
            condition, noise = (tensor(n, [*shape[:2], c, *shape[3:]]) for n, c in (("condition", shape[2] - 3), ("noise", 3)))
            y = sample(model, condition, noise)
            seconds = best(line["clock"], lambda: sample(model, condition, noise))
            head = torch.tensor(line["head"])
            difference = ((y.flatten()[: len(head)] - head).abs().max() / y.abs().max()).item()
        else:
            optimiser = torch.optim.AdamW(model.parameters(), lr=0.0)

            def step():
                optimiser.zero_grad()
                loss = model(x, k).square().mean()
                loss.backward()
                optimiser.step()
                return loss.item()

            difference = abs(step() - line["loss"]) / abs(line["loss"])
            seconds = best(line["clock"], step)
        report = {key: line[key] for key in ("what", "config", "precision", "shape", "threads", "clock")}
        report |= {"pytorch_seconds": seconds, "squall_seconds": line["seconds"], "ratio": seconds / line["seconds"],
                   "max_relative_difference": difference}
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
