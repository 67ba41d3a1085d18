#!/usr/bin/env python3
"""Makes a parity fixture from your own Hugging Face installation. Optional: IptNative itself never needs Python.

The folder it writes is laid out as tests/Goldens/README.md says and is checked with

    iptnative parity FOLDER

Needs torch and transformers (and safetensors for --safetensors). Either a checkpoint,

    python3 tools/export_onnx/make_fixture.py --model google/t5-small-lm-adapt --out fixtures/t5-small

or a tiny random model of any T5 shape, which takes seconds and no download:

    python3 tools/export_onnx/make_fixture.py --random --out fixtures/tiny
    python3 tools/export_onnx/make_fixture.py --random --feed-forward-proj relu --tie --d-kv 10 --num-heads 3 --out fixtures/odd

Everything runs in eval mode on one CPU thread. Quantities whose name ends in 64 use the same float32 weights in float64. Optimizer, IST and
MSF traces of the project's own fixture are not made; parity reports them as skipped.
"""
import argparse
import copy
import json
import os
import sys

SOURCE_LENGTHS = (24, 17, 9, 3)      # a full row, padded rows, and one shorter than the buckets' exact range
TARGET_LENGTHS = (7, 5, 2, 1)
LONG_SOURCE, LONG_TARGET = 190, 40   # with the prompt, distances beyond relative_attention_max_distance
GREEDY_STEPS = 12
SMOOTHING = 0.1


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", help="name on the Hub, or a folder")
    what.add_argument("--random", action="store_true", help="a random model with the sizes below")
    p.add_argument("--out", required=True, help="folder to write; must not exist, or be empty")
    p.add_argument("--prompt-length", type=int, default=10)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--safetensors", action="store_true", help="also write model.safetensors (needs the safetensors package)")
    p.add_argument("--no-float64", action="store_true", help="leave the float64 quantities out (they need twice the memory of the weights)")
    for name, default in (("d-model", 32), ("d-kv", 8), ("d-ff", 64), ("num-layers", 2), ("num-decoder-layers", 2), ("num-heads", 4),
                          ("vocab-size", 128), ("relative-attention-num-buckets", 32), ("relative-attention-max-distance", 128)):
        p.add_argument("--" + name, type=int, default=default, help="of the random model (%(default)s)")
    p.add_argument("--feed-forward-proj", default="gated-gelu", choices=("gated-gelu", "relu"), help="of the random model (%(default)s)")
    p.add_argument("--tie", action="store_true", help="the random model's lm_head is its embedding (T5 v1.0)")
    a = p.parse_args()
    if a.prompt_length < 1:
        p.error("--prompt-length must be at least 1")
    if os.path.isdir(a.out) and os.listdir(a.out):
        p.error(f"--out {a.out}: the folder is not empty; name a new one")
    return a


def load_model(a, torch, transformers):
    if a.model:
        return transformers.T5ForConditionalGeneration.from_pretrained(a.model, torch_dtype=torch.float32)
    config = transformers.T5Config(
        d_model=a.d_model, d_kv=a.d_kv, d_ff=a.d_ff, num_layers=a.num_layers, num_decoder_layers=a.num_decoder_layers, num_heads=a.num_heads,
        vocab_size=a.vocab_size, relative_attention_num_buckets=a.relative_attention_num_buckets,
        relative_attention_max_distance=a.relative_attention_max_distance, feed_forward_proj=a.feed_forward_proj,
        tie_word_embeddings=a.tie, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
    model = transformers.T5ForConditionalGeneration(config)
    with torch.no_grad():
        # Norm weights of exactly 1 and tiny biases would hide mistakes in them.
        for name, w in model.named_parameters():
            if "layer_norm" in name:
                w.copy_(1 + 0.2 * torch.randn_like(w))
            elif "relative_attention_bias" in name:
                w.copy_(torch.randn_like(w))
    return model


class Fixture:
    def __init__(self, folder):
        import numpy
        self.numpy, self.folder, self.expected = numpy, folder, {}

    def save(self, name, tensor):
        self.numpy.save(os.path.join(self.folder, name + ".npy"), tensor.detach().cpu().contiguous().numpy())


def shift_right(labels, start, pad):
    ids = labels.new_full(labels.shape, pad)
    ids[:, 0] = start
    ids[:, 1:] = labels[:, :-1]
    return ids.masked_fill(ids == -100, pad)


def run(model, torch, prompt, input_ids, mask, decoder_input_ids, hidden=False):
    """One forward pass with the prompt before the embedded input; prompt may be None."""
    embedded = model.get_input_embeddings()(input_ids)
    if prompt is not None:
        b = input_ids.shape[0]
        embedded = torch.cat([prompt.to(embedded.dtype).unsqueeze(0).expand(b, -1, -1), embedded], 1)
        mask = torch.cat([mask.new_ones(b, prompt.shape[0]), mask], 1)
    return model(inputs_embeds=embedded, attention_mask=mask, decoder_input_ids=decoder_input_ids, use_cache=False,
                 output_hidden_states=hidden, return_dict=True)


def cross_entropy(torch, logits, labels):
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=-100)


def label_smoothed_sum(torch, logits, labels):
    """Negative log likelihood with label smoothing, summed over the tokens that count (fairseq's form, which IPT uses)."""
    log_probs = torch.log_softmax(logits, -1)
    keep = labels != -100
    nll = -log_probs.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)[keep].sum()
    smooth = -log_probs.sum(-1)[keep].sum()
    return (1 - SMOOTHING) * nll + SMOOTHING / logits.shape[-1] * smooth


def hidden_states(torch, states, last):
    """Embeddings, after each block, and after the final norm. HF's own last entry is after the final norm, without the state before it."""
    return torch.stack(list(states[:-1]) + [last, states[-1]])


def capture_last_block(stack):
    """The output of a stack's last block, which output_hidden_states leaves out."""
    kept = []
    handle = stack.block[-1].register_forward_hook(lambda module, inputs, output: kept.append(output[0] if isinstance(output, tuple) else output))
    return kept, handle


def greedy(torch, model, prompt, input_ids, mask, start):
    ids = torch.full((input_ids.shape[0], 1), start, dtype=torch.long)
    scores = []
    for _ in range(GREEDY_STEPS):
        last = run(model, torch, prompt, input_ids, mask, ids).logits[:, -1]
        scores.append(last)
        ids = torch.cat([ids, last.argmax(-1, keepdim=True)], 1)
    return ids, torch.stack(scores, 1)


def make(a, torch, model, out):
    config = model.config
    start = config.decoder_start_token_id or 0
    pad, eos = config.pad_token_id or 0, config.eos_token_id if config.eos_token_id is not None else 1
    generator = torch.Generator().manual_seed(a.seed + 1)
    used = min(config.vocab_size, 32000)       # below the sentinels and the padding of real vocabularies

    def text(n):
        return torch.cat([torch.randint(3, used, (n - 1,), generator=generator), torch.tensor([eos])])

    def batch(lengths, fill):
        rows = torch.full((len(lengths), max(lengths)), fill, dtype=torch.long)
        for i, n in enumerate(lengths):
            rows[i, :n] = text(n)
        return rows

    input_ids, labels = batch(SOURCE_LENGTHS, pad), batch(TARGET_LENGTHS, -100)
    mask = torch.zeros_like(input_ids)
    for i, n in enumerate(SOURCE_LENGTHS):
        mask[i, :n] = 1
    decoder_input_ids = shift_right(labels, start, pad)
    rows = torch.randint(3, used, (a.prompt_length,), generator=generator)
    base = model.get_input_embeddings().weight.detach()[rows]
    prompt = (base + 0.1 * base.std() * torch.randn(base.shape, generator=generator)).requires_grad_()
    for name, tensor in (("input_ids", input_ids), ("attention_mask", mask), ("labels", labels), ("decoder_input_ids", decoder_input_ids), ("prompt", prompt)):
        out.save(name, tensor)

    def gradient(loss, p):
        return torch.autograd.grad(loss, p)[0]

    encoder_last, h1 = capture_last_block(model.encoder)
    decoder_last, h2 = capture_last_block(model.decoder)
    result = run(model, torch, prompt, input_ids, mask, decoder_input_ids, hidden=True)
    h1.remove(), h2.remove()
    out.save("encoder_hidden", hidden_states(torch, result.encoder_hidden_states, encoder_last[0]))
    out.save("decoder_hidden", hidden_states(torch, result.decoder_hidden_states, decoder_last[0]))
    out.save("logits", result.logits)
    loss = cross_entropy(torch, result.logits, labels)
    out.expected["loss"] = loss.item()
    grad = gradient(loss, prompt)
    out.save("grad_prompt", grad)

    logits = run(model, torch, prompt, input_ids, mask, decoder_input_ids).logits
    smoothed = label_smoothed_sum(torch, logits, labels)
    out.expected["loss_label_smoothed_sum"] = smoothed.item()
    out.save("grad_prompt_label_smoothed_sum", gradient(smoothed, prompt))

    long_input, long_labels = text(LONG_SOURCE).unsqueeze(0), text(LONG_TARGET).unsqueeze(0)
    out.save("long_input_ids", long_input)
    out.save("long_labels", long_labels)
    long_loss = cross_entropy(torch, run(model, torch, prompt, long_input, torch.ones_like(long_input), shift_right(long_labels, start, pad)).logits, long_labels)
    out.expected["long_loss"] = long_loss.item()
    out.save("long_grad_prompt", gradient(long_loss, prompt))

    with torch.no_grad():
        source, target = input_ids.shape[1] + a.prompt_length, labels.shape[1]
        encoder_attention = model.encoder.block[0].layer[0].SelfAttention
        decoder_attention = model.decoder.block[0].layer[0].SelfAttention
        out.save("encoder_position_bias", encoder_attention.compute_bias(source, source))
        out.save("decoder_position_bias", decoder_attention.compute_bias(target, target))
        distance = torch.arange(-260, 261)      # memory position minus query position
        bucket = encoder_attention._relative_position_bucket
        most = getattr(config, "relative_attention_max_distance", 128)
        buckets = [bucket(distance, bidirectional=both, num_buckets=config.relative_attention_num_buckets, max_distance=most) for both in (True, False)]
        out.save("relative_buckets", torch.stack([distance] + buckets))
        for name, p in (("prompt", prompt), ("noprompt", None)):
            ids, scores = greedy(torch, model, p, input_ids, mask, start)
            out.save(f"greedy_{name}_tokens", ids)
            out.save(f"greedy_{name}_scores", scores)
        plain = run(model, torch, None, input_ids, mask, decoder_input_ids)
        out.save("noprompt_encoder_last_hidden_state", plain.encoder_last_hidden_state)
        out.save("noprompt_logits", plain.logits)

    if not a.no_float64:
        double = copy.deepcopy(model).double()
        prompt64 = prompt.detach().double().requires_grad_()
        logits64 = run(double, torch, prompt64, input_ids, mask, decoder_input_ids).logits
        loss64 = cross_entropy(torch, logits64, labels)
        grad64 = gradient(loss64, prompt64)
        # T5LayerNorm computes in float32 in some versions of transformers: say so instead of writing a float64 that is none.
        h = 1e-6
        direction = torch.randn(prompt64.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            ends = [cross_entropy(torch, run(double, torch, prompt64 + s * h * direction, input_ids, mask, decoder_input_ids).logits, labels) for s in (1, -1)]
        numeric, exact = ((ends[0] - ends[1]) / (2 * h)).item(), (grad64 * direction).sum().item()
        error = abs(numeric - exact) / max(abs(exact), 1e-12)
        if error > 1e-5:
            print(f"this transformers computes parts in float32 even in float64 (finite difference off by {error:.1e}): the float64 quantities are left out", file=sys.stderr)
        else:
            out.save("logits64", logits64)
            out.save("grad_prompt64", grad64)
            out.expected["loss64"] = loss64.item()
            out.expected["max_rel_grad_err_f32_vs_f64"] = ((grad.double() - grad64).abs().max() / grad64.abs().max()).item()


def main():
    a = arguments()
    try:
        import torch
        import transformers
    except ImportError as e:
        sys.exit(f"make_fixture.py needs torch and transformers ({e}). It is optional: IptNative's own tests bring their fixture along.")
    torch.manual_seed(a.seed)
    torch.set_num_threads(1)
    model = load_model(a, torch, transformers).eval()
    for w in model.parameters():
        w.requires_grad_(False)
    os.makedirs(a.out, exist_ok=True)
    out = Fixture(a.out)
    make(a, torch, model, out)
    model.config.save_pretrained(a.out)
    # Written by hand rather than by save_pretrained, whose format depends on the version.
    torch.save(model.state_dict(), os.path.join(a.out, "pytorch_model.bin"))
    if a.safetensors:
        from safetensors.torch import save_file
        seen, tensors = set(), {}
        for name, w in model.state_dict().items():
            if w.data_ptr() not in seen:        # tied duplicates are dropped, as save_pretrained does
                seen.add(w.data_ptr())
                tensors[name] = w.contiguous()
        save_file(tensors, os.path.join(a.out, "model.safetensors"), metadata={"format": "pt"})
    out.expected = {"name": os.path.basename(os.path.normpath(a.out)), "torch": torch.__version__, "transformers": transformers.__version__,
                    "prompt_len": a.prompt_length, "note": "eval mode (dropout off); 64 = same float32 weights run in float64", **out.expected}
    with open(os.path.join(a.out, "expected.json"), "w") as f:
        json.dump(out.expected, f, indent=1)
        f.write("\n")
    print(f"{a.out}: {len(os.listdir(a.out))} files. Check them: iptnative parity {a.out}")


if __name__ == "__main__":
    main()
