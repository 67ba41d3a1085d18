// From ragged ids and prompts to the padded tensors of a pass: embeddings, mask, shifted decoder inputs.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Config;

namespace IptNative.Model.Forward;

/// <summary>Lays a batch out in memory that is used again at every step.</summary>
internal sealed unsafe class InputAssembler : IDisposable
{
    private readonly ComputeDevice _device;
    private readonly T5Config _config;
    private readonly Tensor _shared;
    private readonly StagedBuffer _sourceIds;
    private readonly StagedBuffer _places;
    private readonly StagedBuffer _mask;
    private readonly GrowingBuffer _sourceEmbeds;
    private readonly StagedBuffer _targetIds;
    private readonly GrowingBuffer _targetEmbeds;
    private readonly StagedBuffer _labels;
    private readonly GrowingBuffer _prompts;

    public InputAssembler(ComputeDevice device, T5Config config, Tensor shared)
    {
        _device = device;
        _config = config;
        _shared = shared;
        _sourceIds = new StagedBuffer(device, DType.I32, "input ids");
        _places = new StagedBuffer(device, DType.I32, "prompt places");
        _mask = new StagedBuffer(device, DType.I32, "attention mask");
        _sourceEmbeds = new GrowingBuffer(device, DType.F32, "input embeddings");
        _targetIds = new StagedBuffer(device, DType.I32, "decoder input ids");
        _targetEmbeds = new GrowingBuffer(device, DType.F32, "decoder input embeddings");
        _labels = new StagedBuffer(device, DType.I32, "labels");
        _prompts = new GrowingBuffer(device, DType.F32, "prompts of another device");
    }

    /// <summary>Inputs of the encoder, padded to the longest example. Padding holds the pad token's embedding, as in HF; no result reads it.</summary>
    public (Tensor Embeds, Tensor Mask, Tensor Places, int Length) Source(T5Batch batch, PromptTable? prompts)
    {
        int B = batch.Count;
        int S = BatchChecks.SourceLength(batch, prompts, _config);
        int* ids = (int*)_sourceIds.Take((long)B * S), mask = (int*)_mask.Take((long)B * S);
        int stretches = PromptPlaces.Count(batch);
        int* place = (int*)_places.Take((long)stretches * PromptGather.PlaceWidth);
        for (int b = 0; b < B; b++)
        {
            var row = new Span<int>(ids + (long)b * S, S);
            int length = PromptPlaces.Length(batch, prompts, b);
            place = PromptPlaces.Lay(batch, prompts, b, row[..length], checked(b * S), place, _config);
            row[length..].Fill(_config.PadTokenId);

            var read = new Span<int>(mask + (long)b * S, S);
            read[..length].Fill(1);
            read[length..].Clear();
        }
        Tensor embeds = _sourceEmbeds.Take((long)B * S * _config.DModel);
        EmbeddingGather.Forward(_device, _shared, _sourceIds.Send(), embeds, (long)B * S, _config.VocabSize, _config.DModel);
        Tensor places = _places.Send();
        // The padded batch as one run of rows: an example may have several stretches.
        if (prompts is { Rows: > 0 })
            PromptGather.ForwardPacked(_device, Here(prompts), places, embeds, prompts.Rows, stretches, (long)B * S, _config.DModel);
        return (embeds, _mask.Send(), places, S);
    }

    /// <summary>Inputs of the decoder: the labels shifted right behind decoder_start_token_id, an ignored label read as padding; and the labels padded with -100.</summary>
    public (Tensor Embeds, Tensor Labels, int Length) Target(T5Batch batch)
    {
        int B = batch.Count;
        int T = batch.TargetLength;
        if (T == 0)
            throw new ArgumentException("scoring a batch: found no labels, expected at least one example with labels. Give them to T5Batch.Add.", nameof(batch));
        int* ids = (int*)_targetIds.Take((long)B * T), labels = (int*)_labels.Take((long)B * T);
        for (int b = 0; b < B; b++)
        {
            ReadOnlySpan<int> target = batch.Labels(b);
            BatchChecks.RequireIds(target, b, "label", _config, T5Batch.Ignore);
            var row = new Span<int>(labels + (long)b * T, T);
            target.CopyTo(row);
            row[target.Length..].Fill(T5Batch.Ignore);
            ShiftRight(row, new Span<int>(ids + (long)b * T, T), _config);
        }
        Tensor embeds = _targetEmbeds.Take((long)B * T * _config.DModel);
        EmbeddingGather.Forward(_device, _shared, _targetIds.Send(), embeds, (long)B * T, _config.VocabSize, _config.DModel);
        return (embeds, _labels.Send(), T);
    }

    /// <summary>Decoder inputs of one example. The only place that shifts. Source: HF T5PreTrainedModel._shift_right.</summary>
    public static void ShiftRight(ReadOnlySpan<int> labels, Span<int> inputs, T5Config config)
    {
        inputs[0] = config.DecoderStartTokenId;
        for (int t = 1; t < inputs.Length; t++)
            inputs[t] = labels[t - 1] == T5Batch.Ignore ? config.PadTokenId : labels[t - 1];
    }

    // Prompts that are tuned on a GPU are answered with here: a few MB come over for each batch.
    private Tensor Here(PromptTable prompts)
    {
        if (_device is not CpuDevice || prompts.Values.Device is CpuDevice)
            return prompts.Values;
        Tensor here = _prompts.Take(prompts.Values.Elements);
        prompts.Values.CopyTo(new Span<float>((void*)here.Address, checked((int)here.Elements)));
        return here;
    }

    public void Dispose()
    {
        foreach (IDisposable buffer in (ReadOnlySpan<IDisposable>)[_sourceIds, _places, _mask, _sourceEmbeds, _targetIds, _targetEmbeds, _labels, _prompts])
            buffer.Dispose();
    }
}
