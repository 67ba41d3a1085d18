#!/usr/bin/env python3
"""Makes the beam search traces in tests/Goldens/t5v11_beam. Needs torch and numpy; only for whoever changes decoding.

An independent, plain beam search with Hugging Face's rules (BeamSearchScorer and BeamHypotheses of transformers 4.37 to 4.49;
count_decoder_start gives what 4.20 did) runs over
  table.json   a table of logits [example][step][previous token][token], in which the end of sequence is frequent;
  model.json   the T5 of tests/Goldens/t5v11, in float64, with and without its prompt, and with several tokens taken as end of sequence.
An example is left out of a trace (null) where two candidates lie closer than a float32 forward pass can tell apart.
"""
import argparse, itertools, json, math, os, struct
import numpy as np, torch


def beam_search(step_logits, batch, start, eos, beams, length_penalty, early_stopping, max_length, count_decoder_start):
    """step_logits(example, prefix) -> float64 [V]. Returns per example the hypotheses, best first, and the gap of its closest decision."""
    results, gaps = [], []
    for e in range(batch):
        gap = math.inf
        running = [(0.0 if b == 0 else -1e9, (start,)) for b in range(beams)]
        finished, worst, done = [], 1e9, False       # finished: (score, tokens, ended)

        def add(total, length, tokens, ended):
            nonlocal finished, worst
            score = total / length ** length_penalty
            if len(finished) < beams or score > worst:
                finished.append((score, tokens, ended))
                if len(finished) > beams:
                    order = sorted((s, i) for i, (s, _, _) in enumerate(finished))
                    del finished[order[0][1]]
                    worst = order[1][0]
                else:
                    worst = min(score, worst)

        for step in range(max_length):
            rows = torch.stack([torch.log_softmax(step_logits(e, prefix), -1) for _, prefix in running])
            scores = rows + torch.tensor([s for s, _ in running], dtype=torch.float64)[:, None]
            v = scores.shape[1]
            flat = scores.reshape(-1)
            order = torch.sort(flat, descending=True, stable=True).indices[: 2 * beams + 1].tolist()
            values = [flat[i].item() for i in order]
            # Only distinct tokens count: equal beams of the first step hold equal scores but far below the chosen ones.
            gap = min([gap] + [a - b for a, b in zip(values, values[1:]) if b > -1e8])
            order = order[: 2 * beams]
            nxt = []
            for rank, i in enumerate(order):
                total, (b, token) = flat[i].item(), divmod(i, v)
                if token == eos:
                    if rank < beams:
                        add(total, step + 1, running[b][1][1:], True)
                else:
                    nxt.append((total, running[b][1] + (token,)))
                if len(nxt) == beams:
                    break
            running = nxt
            if len(finished) >= beams:
                if early_stopping is True:
                    done = True
                else:
                    n = max_length if early_stopping == "never" and length_penalty > 0 else step + 1
                    bound = flat[order[0]].item() / n ** length_penalty
                    # Equal to the last bit is no close call: the best candidate is the worst hypothesis itself.
                    gap = min(gap, abs(worst - bound) or math.inf)
                    done = worst >= bound
            if done:
                break
        if not done:
            for total, prefix in running:
                add(total, max_length + (1 if count_decoder_start else 0), prefix[1:], False)
        best = sorted(finished, key=lambda f: f[0])[::-1]
        gap = min([gap] + [a[0] - b[0] for a, b in zip(best, best[1:])])
        results.append([{"ids": list(t), "score": round(s, 9), "eos": ended} for s, t, ended in best])
        gaps.append(gap)
    return results, gaps


def read_safetensors(path):
    with open(path, "rb") as f:
        (n,) = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(n))
        data = f.read()
    out = {}
    for name, t in header.items():
        if name == "__metadata__":
            continue
        assert t["dtype"] == "F32", name
        a, b = t["data_offsets"]
        out[name] = torch.from_numpy(np.frombuffer(data[a:b], "<f4").reshape(t["shape"]).copy()).double()
    return out


class T5:
    """Forward pass of T5 v1.1 from the formulas, no cache, one example at a time, float64."""

    def __init__(self, folder):
        self.c = json.load(open(os.path.join(folder, "config.json")))
        self.w = read_safetensors(os.path.join(folder, "model.safetensors"))

    def norm(self, x, name):
        return self.w[name] * x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.c["layer_norm_epsilon"])

    def bias(self, n, stack):
        buckets, most = self.c["relative_attention_num_buckets"], self.c["relative_attention_max_distance"]
        rel = torch.arange(n)[None, :] - torch.arange(n)[:, None]
        base = torch.zeros_like(rel)
        if stack == "encoder":
            buckets //= 2
            base, rel = (rel > 0).long() * buckets, rel.abs()
        else:
            rel = (-rel).clamp(min=0)
        exact = buckets // 2
        far = exact + (torch.log(rel.float().clamp(min=1) / exact) / math.log(most / exact) * (buckets - exact)).long()
        bucket = base + torch.where(rel < exact, rel, far.clamp(max=buckets - 1))
        table = self.w[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        b = table[bucket].permute(2, 0, 1)
        return b if stack == "encoder" else b + torch.full((n, n), -1e30, dtype=b.dtype).triu(1)

    def attend(self, x, memory, name, bias):
        h, k = self.c["num_heads"], self.c["d_kv"]
        q, key, value = ((m @ self.w[f"{name}.{p}.weight"].T).view(m.shape[0], h, k).transpose(0, 1) for m, p in ((x, "q"), (memory, "k"), (memory, "v")))
        p = (q @ key.transpose(1, 2) + bias).softmax(-1)
        return (p @ value).transpose(0, 1).reshape(x.shape[0], h * k) @ self.w[f"{name}.o.weight"].T

    def feed_forward(self, x, name):
        g = x @ self.w[f"{name}.wi_0.weight"].T
        g = 0.5 * g * (1 + torch.tanh(math.sqrt(2 / math.pi) * (g + 0.044715 * g ** 3)))
        return (g * (x @ self.w[f"{name}.wi_1.weight"].T)) @ self.w[f"{name}.wo.weight"].T

    def encode(self, x):
        bias = self.bias(x.shape[0], "encoder")
        for i in range(self.c["num_layers"]):
            p = f"encoder.block.{i}.layer"
            y = self.norm(x, f"{p}.0.layer_norm.weight")
            x = x + self.attend(y, y, f"{p}.0.SelfAttention", bias)
            x = x + self.feed_forward(self.norm(x, f"{p}.1.layer_norm.weight"), f"{p}.1.DenseReluDense")
        return self.norm(x, "encoder.final_layer_norm.weight")

    def decode(self, ids, memory):
        x = self.w["shared.weight"][torch.tensor(ids)]
        bias = self.bias(len(ids), "decoder")
        for i in range(self.c["num_decoder_layers"]):
            p = f"decoder.block.{i}.layer"
            y = self.norm(x, f"{p}.0.layer_norm.weight")
            x = x + self.attend(y, y, f"{p}.0.SelfAttention", bias)
            x = x + self.attend(self.norm(x, f"{p}.1.layer_norm.weight"), memory, f"{p}.1.EncDecAttention", 0)
            x = x + self.feed_forward(self.norm(x, f"{p}.2.layer_norm.weight"), f"{p}.2.DenseReluDense")
        return self.norm(x, "decoder.final_layer_norm.weight") @ self.w["lm_head.weight"].T


def settings(ends, lengths):
    for eos, beams, penalty, early, most in itertools.product(ends, (2, 4), (0.6, 1.0, 2.0), (False, True, "never"), lengths):
        yield dict(eos_token_id=eos, num_beams=beams, length_penalty=penalty, early_stopping=early, max_length=most, count_decoder_start=False)
    # What changes only where a hypothesis is cut, and a penalty whose sign turns the stopping rule round.
    for early in (False, "never"):
        yield dict(eos_token_id=ends[0], num_beams=4, length_penalty=1.0, early_stopping=early, max_length=lengths[0], count_decoder_start=True)
        yield dict(eos_token_id=ends[0], num_beams=3, length_penalty=-0.5, early_stopping=early, max_length=lengths[0], count_decoder_start=False)
        yield dict(eos_token_id=ends[0], num_beams=3, length_penalty=0.0, early_stopping=early, max_length=lengths[0], count_decoder_start=False)


def traces(step_logits, batch, ends, lengths, least_gap, **more):
    for s in settings(ends, lengths):
        expected, gaps = beam_search(step_logits, batch, 0, s["eos_token_id"], s["num_beams"], s["length_penalty"], s["early_stopping"], s["max_length"], s["count_decoder_start"])
        yield {**more, **s, "expected": [x if gap >= least_gap else None for x, gap in zip(expected, gaps)]}


def write(path, head, cases):
    kept = [e for c in cases for e in c["expected"] if e]
    print(path, len(cases), "traces,", len(kept), "examples, best ended by eos:", sum(e[0]["eos"] for e in kept), "left out as too close:", sum(len(c["expected"]) for c in cases) - len(kept))
    with open(path, "w", newline="\n") as f:
        f.write("{" + "".join(f'"{k}": {json.dumps(v, separators=(",", ":"))},\n' for k, v in head.items()) + '"cases": [\n')
        f.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]}\n")


def main():
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "Goldens")
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--fixture", default=os.path.join(root, "t5v11"), help="folder of the parity fixture")
    p.add_argument("--out", default=os.path.join(root, "t5v11_beam"), help="folder to write to")
    a = p.parse_args()
    torch.set_num_threads(1)
    os.makedirs(a.out, exist_ok=True)

    rng = np.random.RandomState(7)
    table = rng.normal(0, 1.5, (3, 8, 9, 9))
    table[..., 1] += 0.7                     # end of sequence: frequent, not certain
    table = np.round(table, 3)
    t = torch.from_numpy(table)
    cases = list(traces(lambda e, prefix: t[e, len(prefix) - 1, prefix[-1]], 3, [1], [8, 5], 1e-5))
    write(os.path.join(a.out, "table.json"), {"decoder_start_token_id": 0, "logits": table.tolist()}, cases)

    model = T5(a.fixture)
    load = lambda name: torch.from_numpy(np.load(os.path.join(a.fixture, name + ".npy")))
    ids, mask, prompt = load("input_ids"), load("attention_mask"), load("prompt").double()
    cases = []
    for with_prompt in (True, False):
        memories = []
        for e in range(ids.shape[0]):
            x = model.w["shared.weight"][ids[e, : int(mask[e].sum())]]
            memories.append(model.encode(torch.cat([prompt, x]) if with_prompt else x))
        scores = load("greedy_prompt_scores" if with_prompt else "greedy_noprompt_scores")
        tokens = load("greedy_prompt_tokens" if with_prompt else "greedy_noprompt_tokens")
        steps = min(scores.shape[1], 12)
        worst = 0.0
        for e in range(ids.shape[0]):
            greedy = tokens[e].tolist()
            greedy = greedy if len(greedy) > steps else [0] + greedy
            worst = max(worst, (model.decode(greedy[:steps], memories[e]) - scores[e, :steps]).abs().max().item())
        print("prompt" if with_prompt else "no prompt", "largest difference from the fixture's logits:", worst)
        assert worst < 1e-4
        cache = {}

        def step_logits(e, prefix):
            if (e, prefix) not in cache:
                cache[e, prefix] = model.decode(list(prefix), memories[e])[-1]
            return cache[e, prefix]

        # Random weights seldom end a text: the tokens most often chosen stand in for the end of sequence.
        frequent = torch.bincount(tokens[:, 1:].reshape(-1), minlength=model.c["vocab_size"]).argsort(descending=True)
        ends = [1] + [i for i in frequent.tolist() if i > 1][:2]
        cases += traces(step_logits, ids.shape[0], ends, [9], 1e-4, prompt=with_prompt)
    write(os.path.join(a.out, "model.json"), {"decoder_start_token_id": 0, "fixture": "t5v11"}, cases)


if __name__ == "__main__":
    main()
