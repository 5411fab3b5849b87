"""The rows of wide.ts by PyTorch on the same card, so that its figures have something to stand beside.

Names and counted work are those of wide.ts. Times are medians of CUDA events around repeated runs.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--size", type=int, default=4096, help="rows, columns and inner of products")
parser.add_argument("--tokens", type=int, default=4096, help="tokens of attention and layer")
arguments = parser.parse_args()

ROUNDS = 5
SAMPLE_MS = 100
HEADS, KV_HEADS, HEAD = 28, 4, 128
WIDTH, INNER = HEADS * HEAD, 18944


def elapsed(run, repeats):
    """Milliseconds of `repeats` runs on the device."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def row(name, work, run, unit="TFLOP/s"):
    """Prints the median time of a run."""
    try:
        elapsed(run, 2)
        repeats = max(1, min(200, int(SAMPLE_MS / max(elapsed(run, 1), 1e-3))))
        ms = statistics.median(elapsed(run, repeats) / repeats for _ in range(ROUNDS))
    except RuntimeError as error:  # a backend that does not take this dtype
        print(f"{name:<52} failed: {str(error).splitlines()[0]}", flush=True)
        return
    rate = work / ms / (1e6 if unit == "GB/s" else 1e9)
    print(f"{name:<52} {ms:9.3f} ms {rate:8.2f} {unit}", flush=True)


def draw(*shape, dtype=torch.float32, scale=1.0, grad=False):
    """Normals on the card."""
    values = (torch.randn(*shape, device="cuda") * scale).to(dtype)
    return values.requires_grad_(grad)


# f32 as such, f32 through the tensor cores' 19 bits, and half the bits.
KINDS = [("f32", torch.float32, False), ("tf32", torch.float32, True), ("bf16", torch.bfloat16, True)]


def kinds():
    """Sets how f32 products are made, in turn."""
    for name, dtype, tensor_cores in KINDS:
        torch.backends.cuda.matmul.allow_tf32 = tensor_cores
        yield name, dtype


def attend(q, k, v):
    """Causal attention over (N, H, D)."""
    heads = [t.transpose(0, 1)[None] for t in (q, k, v)]
    y = F.scaled_dot_product_attention(*heads, is_causal=True, enable_gqa=True)
    return y[0].transpose(0, 1)


class Expert:
    """The weights of one expert in one layer."""

    def __init__(self, dtype):
        def weight(rows, columns):
            return draw(rows, columns, dtype=dtype, scale=0.02, grad=True)

        def ones(size):
            return torch.ones(size, device="cuda", dtype=dtype, requires_grad=True)

        self.q, self.k, self.v = (weight(h * HEAD, WIDTH) for h in (HEADS, KV_HEADS, KV_HEADS))
        self.biases = [draw(h * HEAD, dtype=dtype, grad=True) for h in (HEADS, KV_HEADS, KV_HEADS)]
        self.o = weight(WIDTH, WIDTH)
        self.gate, self.up = weight(INNER, WIDTH), weight(INNER, WIDTH)
        self.down = weight(WIDTH, INNER)
        self.norms = [ones(WIDTH) for _ in range(3)]
        self.head_norms = [ones(HEAD) for _ in range(2)]

    def tensors(self):
        return [self.q, self.k, self.v, *self.biases, self.o, self.gate, self.up, self.down, *self.norms, *self.head_norms]


def norm(x, weight):
    return F.rms_norm(x, weight.shape, weight, 1e-6)


def rotate(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def layer(streams, experts, tables):
    """Both experts' streams through one layer and the final norms."""
    heads = []
    for x, e, (cos, sin) in zip(streams, experts, tables):
        h = norm(x, e.norms[0])
        q, k, v = (
            F.linear(h, w, b).view(len(x), -1, HEAD) for w, b in zip((e.q, e.k, e.v), e.biases)
        )
        q, k = (rotate(norm(t, w), cos, sin) for t, w in zip((q, k), e.head_norms))
        heads.append((q, k, v))
    mixed = attend(*(torch.cat(parts) for parts in zip(*heads))).reshape(-1, WIDTH)
    out = []
    for x, e, rows in zip(streams, experts, mixed.split([len(x) for x in streams])):
        mid = x + F.linear(rows, e.o)
        h = norm(mid, e.norms[1])
        out.append(norm(mid + F.linear(F.silu(F.linear(h, e.gate)) * F.linear(h, e.up), e.down), e.norms[2]))
    return out


def products(n):
    for name, dtype in kinds():
        a, b = draw(n, n, dtype=dtype), draw(n, n, dtype=dtype)
        row(f"product NT {n}, {name}", 2 * n**3, lambda: a @ b.T)
    row(f"product NN {n}, {name}", 2 * n**3, lambda: a @ b)


def attentions(n):
    pairs = n * (n + 1) / 2
    for name, dtype in kinds():
        q, k, v = (draw(n, h, HEAD, dtype=dtype, grad=True) for h in (HEADS, KV_HEADS, KV_HEADS))
        dy = draw(n, HEADS, HEAD, dtype=dtype)
        title = f"attention {n} causal, {HEADS}/{KV_HEADS} heads of {HEAD}"

        def forward():
            with torch.no_grad():
                attend(q, k, v)

        row(f"{title}, forward, {name}", 4 * HEAD * HEADS * pairs, forward)
        row(
            f"{title}, both ways, {name}",
            14 * HEAD * HEADS * pairs,
            lambda: torch.autograd.grad(attend(q, k, v), (q, k, v), dy),
        )


def layers(n):
    pairs = n * (n + 1) / 2
    weights = 2 * WIDTH**2 + 2 * KV_HEADS * HEAD * WIDTH + 3 * INNER * WIDTH
    for name, dtype in kinds():
        experts = [Expert(dtype) for _ in range(2)]
        sizes = [n // 2, n - n // 2]
        streams = [draw(size, WIDTH, dtype=dtype, grad=True) for size in sizes]
        seeds = [draw(size, WIDTH, dtype=dtype, scale=0.01) for size in sizes]
        phases = torch.arange(n, device="cuda")[:, None, None] * 1e6 ** (
            -torch.arange(HEAD // 2, device="cuda") / (HEAD // 2)
        )
        tables = [
            (part.cos().to(dtype), part.sin().to(dtype)) for part in phases.split(sizes)
        ]
        everything = [*streams, *(t for e in experts for t in e.tensors())]
        title = f"layer of two experts, {n} tokens"

        def forward():
            with torch.no_grad():
                layer(streams, experts, tables)

        row(f"{title}, forward, {name}", 2 * n * weights + 4 * WIDTH * pairs, forward)
        row(
            f"{title}, both ways, {name}",
            6 * n * weights + 14 * WIDTH * pairs,
            lambda: torch.autograd.grad(layer(streams, experts, tables), everything, seeds),
        )


def streaming(n):
    rows = 4 * n
    moved = 4 * rows * WIDTH
    x = draw(rows, WIDTH, grad=True)
    weight = draw(WIDTH, grad=True)
    dy, y = draw(rows, WIDTH), torch.empty(rows, WIDTH, device="cuda")
    at = f"{rows} × {WIDTH}"

    def quiet(run):
        def wrapped():
            with torch.no_grad():
                run()

        return wrapped

    row(f"copy {at}", 2 * moved, lambda: y.copy_(dy), "GB/s")
    row(f"softmax {at}", 2 * moved, quiet(lambda: x.softmax(-1)), "GB/s")
    row(f"RMSNorm {at}, forward", 2 * moved, quiet(lambda: norm(x, weight)), "GB/s")
    row(
        f"RMSNorm {at}, both ways",
        7 * moved,
        lambda: torch.autograd.grad(norm(x, weight), (x, weight), dy),
        "GB/s",
    )
    w = draw(rows * WIDTH, grad=True)
    w.grad = dy.view(-1)
    adamw = torch.optim.AdamW([w], fused=True)
    row(f"AdamW {rows * WIDTH}, fused", 7 * moved, adamw.step, "GB/s")


started = time.time()
print(torch.cuda.get_device_name(), "torch", torch.__version__, flush=True)
products(arguments.size)
attentions(arguments.tokens)
layers(arguments.tokens)
streaming(arguments.tokens)
print(f"most memory in use {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB, {time.time() - started:.0f} s")
