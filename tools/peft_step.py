#!/usr/bin/env python3
"""A prompt-tuning step by Hugging Face's Transformers and PEFT, for tools/gpu-acceptance.sh: the same sizes and random tokens of the same count as
`iptnative bench step`, timed in the same way (one step that is not, then the median), printed as one JSON object with step_s and device_peak_bytes.
Needs torch, transformers and peft; weights are random, nothing is downloaded. Not part of the program: only the yardstick beside it."""
import argparse
import json
import statistics
import time

SHAPES = {  # T5 v1.1: d_model, d_ff, layers of each stack, heads; d_kv is 64.
    "small": (512, 1024, 8, 6),
    "base": (768, 2048, 12, 12),
    "large": (1024, 2816, 24, 16),
    "xl": (2048, 5120, 24, 32),
    "xxl": (4096, 10240, 24, 64),
}

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--shape", choices=SHAPES, default="base")
arguments.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
arguments.add_argument("--device", default="cuda:0")
arguments.add_argument("--checkpointing", action="store_true", help="gradient checkpointing")
for name, value in (("batch", 8), ("prompt", 100), ("source", 128), ("target", 8), ("steps", 5)):
    arguments.add_argument(f"--{name}", type=int, default=value)
options = arguments.parse_args()

import peft  # noqa: E402 (after --help)
import torch  # noqa: E402
import transformers  # noqa: E402

torch.manual_seed(0)
on_gpu = options.device.startswith("cuda")
d_model, d_ff, layers, heads = SHAPES[options.shape]
config = transformers.T5Config(
    vocab_size=32128, d_model=d_model, d_kv=64, d_ff=d_ff, num_layers=layers, num_decoder_layers=layers, num_heads=heads,
    feed_forward_proj="gated-gelu", tie_word_embeddings=False, dropout_rate=0.0, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, use_cache=False)
torch.set_default_dtype(torch.bfloat16 if options.dtype == "bf16" else torch.float32)
with torch.device(options.device):
    base = transformers.T5ForConditionalGeneration(config)
torch.set_default_dtype(torch.float32)
if options.checkpointing:
    base.gradient_checkpointing_enable()
model = peft.get_peft_model(base, peft.PromptTuningConfig(
    task_type="SEQ_2_SEQ_LM", num_virtual_tokens=options.prompt, token_dim=d_model, num_transformer_submodules=1)).to(options.device)
model.train()
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = transformers.Adafactor(trained, lr=0.3, scale_parameter=False, relative_step=False, warmup_init=False)
ids = torch.randint(3, 32000, (options.batch, options.source), device=options.device)
labels = torch.randint(3, 32000, (options.batch, options.target), device=options.device)
mask = torch.ones_like(ids)


def wait():
    if on_gpu:
        torch.cuda.synchronize()


seconds = []
for step in range(options.steps + 1):
    wait()
    begin = time.perf_counter()
    loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    wait()
    if step > 0:
        seconds.append(time.perf_counter() - begin)
print(json.dumps({
    "shape": options.shape, "dtype": options.dtype, "checkpointing": options.checkpointing, "step_s": statistics.median(seconds), "loss": float(loss),
    "device_peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else 0, "trained": sum(p.numel() for p in trained),
    "torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__,
}))
