#!/usr/bin/env python3
"""Asks PEFT itself what a prompt does to a model. Optional: IptNative never needs Python; its tests use this where it is there.

    python3 tools/export_onnx/peft_logits.py logits MODEL ADAPTER OUT.npy [TASK]

loads ADAPTER with PeftModel.from_pretrained and writes the logits [B, T, V] on MODEL's own inputs (input_ids.npy, attention_mask.npy and
labels.npy beside its weights, as make_fixture.py lays them out). TASK is the task's number of a multi-task prompt.

    python3 tools/export_onnx/peft_logits.py goldens MODEL OUT

makes adapters of random numbers by PEFT's own classes, saves them with save_pretrained and writes logits beside them: tests/Goldens/peft.
Needs torch, transformers, peft and numpy. Everything runs in float32 in eval mode on one thread.
"""
import os
import shutil
import sys


def load(model):
    import torch
    from transformers import T5ForConditionalGeneration
    torch.set_num_threads(1)
    return T5ForConditionalGeneration.from_pretrained(model, torch_dtype=torch.float32).eval()


def inputs(model):
    import numpy as np
    import torch
    names = ("input_ids", "attention_mask", "labels")
    return {name: torch.from_numpy(np.load(os.path.join(model, name + ".npy")).astype("int64")) for name in names}


def logits(adapted, batch, task):
    import torch
    batch = dict(batch)
    if task is not None:
        batch["task_ids"] = torch.full((len(batch["input_ids"]),), task, dtype=torch.long)
    with torch.no_grad():
        return adapted(**batch).logits.numpy()


def ask(model, adapter, out, task=None):
    import numpy as np
    from peft import PeftModel
    adapted = PeftModel.from_pretrained(load(model), adapter).eval()
    np.save(out, logits(adapted, inputs(model), None if task is None else int(task)))


def goldens(model, out):
    import numpy as np
    import torch
    from peft import MultitaskPromptTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model
    batch = inputs(model)
    common = {"task_type": "SEQ_2_SEQ_LM", "num_virtual_tokens": 3}
    kinds = {
        "prompt_tuning": PromptTuningConfig(**common, num_transformer_submodules=1),
        "prompt_tuning_default": PromptTuningConfig(**common),
        "p_tuning_mlp": PromptEncoderConfig(**common, num_transformer_submodules=1, encoder_hidden_size=12),
        "p_tuning_lstm": PromptEncoderConfig(**common, num_transformer_submodules=1, encoder_hidden_size=12, encoder_reparameterization_type="LSTM"),
        "multitask": MultitaskPromptTuningConfig(**common, num_transformer_submodules=1, num_tasks=3, num_ranks=2),
    }
    for number, (name, config) in enumerate(kinds.items()):
        torch.manual_seed(number)
        adapted = get_peft_model(load(model), config).eval()
        # Weights of the size of what they stand among, so that a wrong row or rank shows in the logits.
        for parameter in adapted.prompt_encoder.parameters():
            torch.nn.init.normal_(parameter, std=3 if name == "multitask" else 1)
        folder = os.path.join(out, name)
        shutil.rmtree(folder, ignore_errors=True)
        adapted.save_pretrained(folder)
        os.remove(os.path.join(folder, "README.md"))
        for task in range(3) if name == "multitask" else [None]:
            np.save(os.path.join(folder, f"logits{'' if task is None else task}.npy"), logits(adapted, batch, task))


if __name__ == "__main__":
    if len(sys.argv) in (5, 6) and sys.argv[1] == "logits":
        ask(*sys.argv[2:])
    elif len(sys.argv) == 4 and sys.argv[1] == "goldens":
        goldens(*sys.argv[2:])
    else:
        sys.exit(__doc__)
